//go:build linux

package wait

import (
	"strconv"
	"time"

	"berth/probe/tasks"
)

// Kind is what a thread waits for.
//
// Nothing from outside ends a Wakeup: it is a wait for an eventfd or a signalfd,
// or for a set of descriptors that has only those in it and pipes and socket
// pairs of the program's own. Latches are made so, and locks of them, as those
// of PostgreSQL are; and so wait those whom others give work.
type Kind uint8

const (
	Unknown  Kind = iota // it cannot be told
	Running              // on a CPU, or ready for one: no wait
	Disk                 // a file, its file system or a page that must be read
	Network              // sockets, those of the same machine too
	Pipe                 // a pipe or FIFO
	Lock                 // a futex, a file lock, a System V or POSIX queue or semaphore
	Sleep                // a timer, or a signal
	Child                // another process: wait4(2), vfork(2), a pidfd
	Terminal             // a terminal
	Event                // news of the kernel, such as inotify; an epoll of several sorts without sockets
	Wakeup               // to be woken by another thread, or by a process of the same program
	Device               // another device file, or a virtual CPU
	Stopped              // stopped by a signal or a tracer
	Other                // known, and none of these
)

var kinds = [...]string{
	"unknown", "running", "disk", "network", "pipe", "lock", "sleep", "child", "terminal", "event", "wakeup", "device", "stopped", "other",
}

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return strconv.Itoa(int(k))
}

// Wait is what one look at a thread found.
type Wait struct {
	Kind    Kind
	Syscall int  // its number, as programs of that word size have it; -1 in none, or unknown
	Timed   bool // the wait ends by itself: the call was given a time limit
	// Timeout is the limit, as far as it can be told: what remains where the
	// call was given a point in time, which may be negative, and else the
	// whole of it; 0 unknown.
	Timeout time.Duration
	// Sockets counts the connected sockets that the wait is for: one for a
	// blocking client, also one that asks poll(2) or epoll(7) about its one
	// socket, and more for an event loop. A set of more than some hundred
	// descriptors may be counted short.
	Sockets   int
	Listening int // sockets waited on for connections to accept
	Own       int // ends of a socketpair(2) whose other end is the process's too, such as a loop uses to wake itself
}

const (
	fresh     = time.Second      // how long what a descriptor stands for is believed
	forgotten = 10 * time.Second // after which a thread that nobody asks about is let go
	mostKept  = 1024             // threads whose files stay open
	costShare = 500              // costly lists are read so rarely that they take this part of the time
)

// Reader looks at the threads of one process. It is not for use by several
// goroutines at a time.
type Reader struct {
	files
	// State asks for the state of a thread. It is wanted where [Reader.Thread]
	// is given none and the system call does not say enough, which is rare.
	State    func(tid int) tasks.State
	threads  map[int]*thread
	most     int
	swept    time.Time
	denied   bool
	now      time.Time // of the present look
	targets  map[int]*target
	sockets  sockets
	pipes    map[uint64]bool // by inode: whether it is the program's own
	gathered set             // of the present look, as are the next two
	fds      [mostPoll]int32
	bits     [mostSelect / 32]uint64 // words of 32 bits or more
	memory   int                     // descriptor of the process's memory, -1 none
	noMemory time.Time
	word     int // size of an unsigned long in the call at hand
	class    int // bits of its program, 0 unknown
	classed  time.Time
}

type thread struct {
	syscall, wchan int // descriptors, -1 none
	asked          time.Time
}

// New makes a Reader of a process. Nothing is opened before the first look.
func New(p tasks.Proc, pid int) *Reader {
	return &Reader{
		files: newFiles(p, pid), threads: map[int]*thread{}, most: mostKept,
		targets: map[int]*target{}, sockets: newSockets(), pipes: map[uint64]bool{}, memory: -1,
	}
}

// Denied reports whether the last look at a system call failed for want of
// rights, so that only the state and wchan told of the wait.
func (r *Reader) Denied() bool { return r.denied }

// Close lets go of all that is kept open. The Reader can still be used.
func (r *Reader) Close() {
	for tid := range r.threads {
		r.drop(tid)
	}
	r.closeMemory()
}

func (r *Reader) drop(tid int) {
	t := r.threads[tid]
	closeFile(&t.syscall)
	closeFile(&t.wchan)
	delete(r.threads, tid)
}

// sweep lets go of threads that nobody asks about and descriptors that nobody
// waits on.
func (r *Reader) sweep() {
	if r.now.Sub(r.swept) < forgotten {
		return
	}
	r.swept = r.now
	for tid, t := range r.threads {
		if r.now.Sub(t.asked) > forgotten {
			r.drop(tid)
		}
	}
	for fd, t := range r.targets {
		if r.now.Sub(t.asked) > forgotten {
			delete(r.targets, fd)
		}
	}
}

// Thread tells what a thread waits for, given its state as just seen, or 0. A
// thread that ended meanwhile is Unknown.
func (r *Reader) Thread(tid int, state tasks.State) Wait {
	w := Wait{Syscall: -1}
	if w.Kind = stateKind(state); w.Kind != Unknown {
		return w
	}
	r.now = time.Now()
	r.sweep()
	t := r.threads[tid]
	if t == nil {
		t = &thread{syscall: -1, wchan: -1}
		r.threads[tid] = t
	}
	t.asked = r.now
	c, known := r.call(t, tid)
	switch {
	case c.Running:
		w.Kind = Running
	case known && c.Number >= 0 && (c.SP != 0 || c.PC != 0) && r.numbered(&c):
		w.Syscall = c.Number
		r.decode(&w, &c, t, tid, state)
	default:
		if w.Kind = stateKind(r.stateOf(tid, state)); w.Kind == Unknown {
			w.Kind = r.channel(t, tid)
		}
	}
	if len(r.threads) > r.most {
		r.drop(tid)
	}
	return w
}

// stateKind judges by the state alone; Unknown: it waits for something.
func stateKind(s tasks.State) Kind {
	switch s {
	case tasks.Running:
		return Running
	case tasks.Stopped, tasks.Traced:
		return Stopped
	case tasks.Zombie, tasks.Dead, tasks.Idle:
		return Other
	}
	return Unknown
}

func (r *Reader) stateOf(tid int, known tasks.State) tasks.State {
	if known == 0 && r.State != nil {
		return r.State(tid)
	}
	return known
}

// call reads the system call of a thread.
func (r *Reader) call(t *thread, tid int) (Call, bool) {
	data, err := r.ofThread(&t.syscall, tid, "syscall")
	if isDenied(err) {
		r.denied = true
		return Call{}, false
	}
	if err != nil {
		return Call{}, false
	}
	r.denied = false
	c, err := ParseSyscall(data)
	return c, err == nil
}

// ofThread reads a file of a thread through a descriptor that is kept. One that
// outlived its thread is opened anew, since numbers are used again.
func (r *Reader) ofThread(fd *int, tid int, name string) ([]byte, error) {
	if *fd >= 0 {
		data, err := r.read(*fd)
		if err == nil || isDenied(err) {
			return data, err
		}
		closeFile(fd)
	}
	var err error
	if *fd, err = r.open(tid, name, -1); isExhausted(err) {
		for id := range r.threads {
			if id != tid {
				r.drop(id)
			}
		}
		r.most /= 2
		*fd, err = r.open(tid, name, -1)
	}
	if err != nil {
		*fd = -1
		return nil, err
	}
	return r.read(*fd)
}

// channel judges by the place in the kernel alone.
func (r *Reader) channel(t *thread, tid int) Kind {
	data, err := r.ofThread(&t.wchan, tid, "wchan")
	if err != nil {
		return Unknown
	}
	return channelKind(data)
}

// numbered finds out the word size behind a call, and reports whether its number
// means something here: a program of another word size uses other ones. An
// address above 4 GiB shows 64 bits; for the rest, the ELF header of the program
// tells.
func (r *Reader) numbered(c *Call) bool {
	bits := 64
	if c.SP>>32 == 0 && c.PC>>32 == 0 {
		if r.classed.IsZero() || r.now.Sub(r.classed) > fresh {
			r.class, r.classed = r.elfClass(), r.now
		}
		bits = r.class
	}
	r.word = bits / 8
	return r.word == wordSize || r.word > 0 && len(foreign) > 0
}
