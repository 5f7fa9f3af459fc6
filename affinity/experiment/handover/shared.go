//go:build linux

package handover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

// Files is how many descriptors a [Shared] has.
const Files = 5

// Shared is what two processes hand over by: a page of memory (memfd_create(2))
// and a pipe to each side. One process makes it, and gives its files to the two,
// or to the other one, as inherited descriptors in the order of [Shared.Files].
//
// It serves one pair for any number of trials, which both must run in the same
// order. After an error it serves for no more.
type Shared struct {
	files    [Files]*os.File
	mapping  []byte
	page     *page
	readEnd  [2]uintptr // of the pipe to each side
	writeEnd [2]uintptr
	private  uintptr // futexPrivate, or 0
	meetings uint32  // how many times a side of this process and its partner have arrived
}

// page is the shared memory. Zero is the state before the first trial.
type page struct {
	kind    word
	pid     [2]word
	arrived word    // sides that came to meet, over all trials
	stop    word    // why there are no more turns; 0: there are
	phase   word    // of the first side of a yield
	word    [2]word // of each side; the line that bounces is the first's
}

// word has a cache line of its own, also where lines are of 256 bytes, or are
// fetched in pairs of 128.
type word struct {
	v uint32
	_ [252]byte
}

const (
	pageBytes = 4096
	pageKind  = 0x62727468
)

var _ [pageBytes - unsafe.Sizeof(page{})]byte // it fits

// Reasons to stop.
const (
	gaveUp = 1 + iota
	stalled
	ended
)

// patience is how long a side goes on without a turn; a variable for tests.
var patience = 10 * time.Second

var errEnded = errors.New("the other process ended")

// NewShared makes one.
func NewShared() (*Shared, error) {
	fd, err := unix.MemfdCreate("berth-handover", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory to hand over by: memfd_create: %w", err)
	}
	sh := &Shared{}
	sh.files[0] = os.NewFile(uintptr(fd), "shared page")
	if err := sh.files[0].Truncate(pageBytes); err != nil {
		sh.Close()
		return nil, fmt.Errorf("make memory to hand over by: %w", err)
	}
	for i := range 2 {
		var ends [2]int
		// os.Pipe's would not block but go to Go's poller.
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			sh.Close()
			return nil, fmt.Errorf("make a pipe to hand over by: %w", err)
		}
		sh.files[1+2*i] = os.NewFile(uintptr(ends[0]), "pipe")
		sh.files[2+2*i] = os.NewFile(uintptr(ends[1]), "pipe")
	}
	if err := sh.open(); err != nil {
		sh.Close()
		return nil, err
	}
	atomic.StoreUint32(&sh.page.kind.v, pageKind)
	return sh, nil
}

// OpenShared takes over the inherited descriptors, of which fd is the first.
func OpenShared(fd int) (*Shared, error) {
	for i := range Files {
		var st unix.Stat_t
		if err := unix.Fstat(fd+i, &st); err != nil {
			return nil, fmt.Errorf("open what to hand over by: inherited descriptor %d: %w", fd+i, err)
		}
		want := uint32(unix.S_IFIFO)
		if i == 0 {
			want = unix.S_IFREG
		}
		if uint32(st.Mode)&unix.S_IFMT != want || i == 0 && st.Size != pageBytes {
			return nil, fmt.Errorf("open what to hand over by: descriptor %d is not that of a handover.Shared; give the process all %d files, in their order", fd+i, Files)
		}
	}
	sh := &Shared{}
	for i := range sh.files {
		unix.CloseOnExec(fd + i)
		sh.files[i] = os.NewFile(uintptr(fd+i), "inherited")
	}
	if err := sh.open(); err != nil {
		sh.Close()
		return nil, err
	}
	if atomic.LoadUint32(&sh.page.kind.v) != pageKind {
		sh.Close()
		return nil, fmt.Errorf("open what to hand over by: descriptor %d is other memory than a handover.Shared's", fd)
	}
	return sh, nil
}

func (sh *Shared) open() error {
	for i := range 2 {
		sh.readEnd[i], sh.writeEnd[i] = sh.files[1+2*i].Fd(), sh.files[2+2*i].Fd()
	}
	var err error
	sh.mapping, err = unix.Mmap(int(sh.files[0].Fd()), 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map memory to hand over by: %w", err)
	}
	sh.page = (*page)(unsafe.Pointer(unsafe.SliceData(sh.mapping)))
	return nil
}

// Files are for exec.Cmd.ExtraFiles. They stay the Shared's to close.
func (sh *Shared) Files() []*os.File { return append([]*os.File(nil), sh.files[:]...) }

// Close gives the memory and the files back; the other process keeps its own.
// No trial may be running.
func (sh *Shared) Close() error {
	var errs []error
	if sh.mapping != nil {
		errs = append(errs, unix.Munmap(sh.mapping))
		sh.mapping, sh.page = nil, nil
	}
	for _, f := range sh.files {
		if f != nil {
			if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Half is one side of a hand-over between two processes; the other process runs
// the other half, with the same means and rounds. Exactly one is the first. The
// seat is as for [Threads], the means may be [Futex] or [Pipe].
//
// If the other process ends, that is an error at once (from Linux 5.3 on); if it
// is stopped, or never comes, it is one after ten seconds.
func Half(m Means, first bool, sh *Shared, seat cpuset.Set, rounds int) (Result, error) {
	how, err := m.turn()
	if err != nil {
		return Result{}, err
	}
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("hand over by %s between this process, on %s, and another: %w", m, inWords(seat), err)
	}
	if how == channel {
		return fail(errors.New("a Go channel does not reach other processes"))
	}
	if err := checkRounds(rounds); err != nil {
		return fail(err)
	}
	me := 1
	if first {
		me = 0
	}
	defer calm(1)()
	s := newSide(sh, how, me, rounds)
	if err := sh.half(s, seat); err != nil {
		sh.abandon(gaveUp)
		return fail(err)
	}
	sh.meetings += 2
	return s.result(), nil
}

func (sh *Shared) half(s *side, seat cpuset.Set) error {
	defer watch(s)()
	atomic.StoreUint32(&sh.page.pid[s.me].v, uint32(os.Getpid()))
	partner := &sh.page.pid[1-s.me].v
	for atomic.LoadUint32(partner) == 0 {
		if err := sh.stopped(); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	release, err := sh.watchProcess(int(atomic.LoadUint32(partner)))
	if err != nil {
		return err
	}
	defer release()
	var failed error
	if err := seated(seat, false, func() { failed = s.trial() }); err != nil {
		return err
	}
	return failed
}

// abandon ends the turns, of both sides, wherever they wait.
func (sh *Shared) abandon(why uint32) {
	atomic.CompareAndSwapUint32(&sh.page.stop.v, 0, why)
	for i := range sh.page.word {
		// A turn that was given is left to be taken: the last may be among them.
		w := &sh.page.word[i].v
		atomic.CompareAndSwapUint32(w, notYet, dropped)
		unix.Syscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWake|sh.private, 1)
		unix.Write(int(sh.writeEnd[i]), []byte{dropped})
	}
}

// stopped says why there are no more turns, if so.
func (sh *Shared) stopped() error {
	switch atomic.LoadUint32(&sh.page.stop.v) {
	case 0:
		return nil
	case stalled:
		return fmt.Errorf("no turn was taken for %v; is the other side stopped, or was it never started?", patience)
	case ended:
		return errEnded
	}
	return errGivenUp
}

// watch abandons the trial when its sides make no progress.
func watch(sides ...*side) (release func()) {
	const looks = 4
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(patience / looks)
		defer tick.Stop()
		var last uint32
		for idle := 0; ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			var now uint32
			for _, s := range sides {
				now += atomic.LoadUint32(&s.progress)
			}
			if idle++; now != last {
				last, idle = now, 0
			}
			if idle == looks {
				sides[0].shared.abandon(stalled)
			}
		}
	})
	return func() {
		close(done)
		watcher.Wait()
	}
}

// watchProcess abandons the trial when the other process ends.
func (sh *Shared) watchProcess(pid int) (release func(), err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil, errEnded
	}
	if err != nil {
		return func() {}, nil // an old kernel, or a sandbox: patience will do
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return func() {}, nil
	}
	// Go's poller waits: no thread does, and none wakes up now and then.
	f := os.NewFile(uintptr(fd), "process")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return func() {}, nil
	}
	var watcher sync.WaitGroup
	watcher.Go(func() {
		err := conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
		if err == nil {
			sh.abandon(ended)
		}
	})
	return func() {
		f.Close()
		watcher.Wait()
	}, nil
}
