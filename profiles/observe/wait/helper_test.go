//go:build linux

package wait_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"berth/probe/tasks"
	"berth/profiles/observe/wait"

	"golang.org/x/sys/unix"
)

// helperEnv makes the test's program play another part, in the directory that
// it is started in.
const helperEnv = "BERTH_WAIT_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "block":
		block()
	case "idle":
		idle()
	case "stranger":
		stranger()
	}
}

// long is a time limit that no test lives to see.
const long = 3600

// blockers are the waits that the helper shows, a thread each.
var blockers = []struct {
	name string
	want wait.Wait // Syscall is not compared, Timeout only as to its presence
	call func() error
}{
	{"pipe", wait.Wait{Kind: wait.Pipe}, func() error { return readOf(pipe()) }},
	{"fifo", wait.Wait{Kind: wait.Pipe}, func() error {
		if err := unix.Mkfifo("fifo", 0o600); err != nil {
			return err
		}
		fd, err := unix.Open("fifo", unix.O_RDWR, 0)
		return readOf(fd, err)
	}},
	{"socket", wait.Wait{Kind: wait.Network, Sockets: 1}, func() error { return readOf(sockets()[0], nil) }},
	{"accept", wait.Wait{Kind: wait.Network, Listening: 1}, func() error { _, _, err := unix.Accept4(listener(), 0); return err }},
	{"futex", wait.Wait{Kind: wait.Lock}, func() error { return futex(0, nil) }},
	{"futex with a limit", wait.Wait{Kind: wait.Lock, Timed: true, Timeout: 1}, func() error { return futex(128, &unix.Timespec{Sec: long}) }},
	{"futex until", wait.Wait{Kind: wait.Lock, Timed: true, Timeout: 1}, func() error { return futex(9|128, in(unix.CLOCK_MONOTONIC)) }},
	{"futex until, of the day", wait.Wait{Kind: wait.Lock, Timed: true, Timeout: 1}, func() error { return futex(9|256, in(unix.CLOCK_REALTIME)) }},
	{"nanosleep", wait.Wait{Kind: wait.Sleep, Timed: true, Timeout: 1}, func() error { return unix.Nanosleep(&unix.Timespec{Sec: long}, nil) }},
	{"clock_nanosleep", wait.Wait{Kind: wait.Sleep, Timed: true, Timeout: 1}, func() error {
		return unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, in(unix.CLOCK_MONOTONIC), nil)
	}},
	{"ppoll of none", wait.Wait{Kind: wait.Sleep}, func() error { _, err := unix.Ppoll(nil, nil, nil); return err }},
	{"poll of a socket", wait.Wait{Kind: wait.Network, Sockets: 1, Timed: true, Timeout: 1}, func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: -1}, {Fd: int32(tcp(1)[0]), Events: unix.POLLIN}}, long*1000)
		return err
	}},
	{"poll of a pipe", wait.Wait{Kind: wait.Pipe}, func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pipeOfChild()), Events: unix.POLLIN}}, -1)
		return err
	}},
	{"poll of its own pipe", wait.Wait{Kind: wait.Wakeup}, func() error {
		fd := pipeAt(310)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		return err
	}},
	{"poll of its own pipe and another", wait.Wait{Kind: wait.Pipe}, func() error {
		fd := pipeAt(320)
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(pipeOfChild()), Events: unix.POLLIN}}, -1)
		return err
	}},
	{"pselect", wait.Wait{Kind: wait.Network, Sockets: 2, Listening: 1, Timed: true, Timeout: 1}, func() error {
		var set unix.FdSet
		fd, _ := pipe()
		for _, fd := range append(tcp(2), fd, listener()) {
			set.Set(fd)
		}
		_, err := unix.Pselect(1024, &set, nil, nil, &unix.Timespec{Sec: long}, nil)
		return err
	}},
	{"epoll of none", wait.Wait{Kind: wait.Event}, func() error { return epoll(-1) }},
	{"epoll of an eventfd", wait.Wait{Kind: wait.Wakeup}, func() error { fd, _ := unix.Eventfd(0, 0); return epoll(-1, fd) }},
	{"epoll of an eventfd and a timer", wait.Wait{Kind: wait.Event}, func() error {
		fd, _ := unix.Eventfd(0, 0)
		timer, _ := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, 0)
		return epoll(-1, fd, timer)
	}},
	{"epoll of a latch", wait.Wait{Kind: wait.Wakeup}, func() error { return epoll(-1, signals(unix.SIGUSR2), lifeline) }},
	{"epoll of a latch and a socket", wait.Wait{Kind: wait.Network, Sockets: 1, Timed: true, Timeout: 1}, func() error {
		return epoll(long*1000, append(tcp(1), signals(unix.SIGUSR2), lifeline)...)
	}},
	{"epoll of a latch and a pipe", wait.Wait{Kind: wait.Event}, func() error { return epoll(-1, signals(unix.SIGUSR2), pipeOfChild()) }},
	{"epoll of its own pipe", wait.Wait{Kind: wait.Wakeup, Timed: true, Timeout: 1}, func() error { return epoll(long*1000, pipeAt(330)) }},
	{"epoll of children", wait.Wait{Kind: wait.Event}, func() error { return epoll(-1, signals(unix.SIGCHLD)) }},
	{"epoll of a waker", wait.Wait{Kind: wait.Wakeup, Own: 1, Timed: true, Timeout: 1}, func() error { return epoll(long*1000, waker[0]) }},
	{"epoll of one", wait.Wait{Kind: wait.Network, Sockets: 1}, func() error { return epoll(-1, tcp(1)...) }},
	{"epoll of some", wait.Wait{Kind: wait.Network, Sockets: 3, Listening: 1}, func() error { return epoll(-1, append(tcp(3), listener())...) }},
	{"eventfd", wait.Wait{Kind: wait.Wakeup}, func() error { return readOf(unix.Eventfd(0, 0)) }},
	{"timerfd", wait.Wait{Kind: wait.Sleep}, func() error { return readOf(unix.TimerfdCreate(unix.CLOCK_MONOTONIC, 0)) }},
	{"inotify", wait.Wait{Kind: wait.Event}, func() error { return readOf(unix.InotifyInit1(0)) }},
	{"signalfd", wait.Wait{Kind: wait.Wakeup}, func() error { return readOf(signals(unix.SIGUSR2), nil) }},
	{"signalfd of a timer", wait.Wait{Kind: wait.Event}, func() error { return readOf(signals(unix.SIGALRM), nil) }},
	{"child", wait.Wait{Kind: wait.Child}, func() error {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), helperEnv+"=idle")
		if in, err := child.StdinPipe(); err != nil || child.Start() != nil {
			return fmt.Errorf("no child: %v %v", in, err)
		}
		_, err := unix.Wait4(child.Process.Pid, nil, 0, nil)
		return err
	}},
	{"flock", wait.Wait{Kind: wait.Lock}, func() error {
		for range 2 {
			fd, err := unix.Open("flock", unix.O_CREAT|unix.O_RDWR, 0o600)
			if err == nil {
				err = unix.Flock(fd, unix.LOCK_EX)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"fcntl", wait.Wait{Kind: wait.Lock}, func() error {
		for range 2 {
			fd, err := unix.Open("fcntl", unix.O_CREAT|unix.O_RDWR, 0o600)
			if err == nil {
				err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"terminal", wait.Wait{Kind: wait.Terminal}, func() error {
		master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
		if err == nil {
			err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
		}
		if err != nil {
			return err
		}
		return readOf(unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY, 0))
	}},
	{"spin", wait.Wait{Kind: wait.Running}, func() error {
		for {
			runtime.KeepAlive(nil)
		}
	}},
}

func readOf(fd int, err error) error {
	if err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 512))
	return err
}

func pipe() (int, error) {
	var p [2]int
	err := unix.Pipe(p[:])
	return p[0], err
}

// pipeOfChild is the end of a pipe whose other end a child has, and nobody else.
func pipeOfChild() int {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), helperEnv+"=idle")
	_, err := child.StdinPipe()
	must(err)
	out, err := child.StdoutPipe()
	must(err)
	must(child.Start())
	go child.Wait() // so that its files stay open
	return int(out.(*os.File).Fd())
}

// lifeline is the end of a pipe that the helper's parent made and has whole, as
// PostgreSQL's main process does: by its end the others know of the parent's.
const lifeline = 300

// pipeAt makes a pipe that children inherit, whose ends have a number and the
// next: where threads open files side by side, pipe(2) alone does not promise it.
func pipeAt(number int) int {
	var p [2]int
	must(unix.Pipe2(p[:], unix.O_CLOEXEC))
	for i, fd := range p {
		must(unix.Dup3(fd, number+i, 0))
		unix.Close(fd)
	}
	return number
}

// signals opens a signalfd for one signal.
func signals(number unix.Signal) int {
	var set unix.Sigset_t
	set.Val[0] = 1 << (number - 1)
	fd, err := unix.Signalfd(-1, &set, 0)
	must(err)
	return fd
}

// waker is made before threads open files side by side, see [pipeAt].
var waker [2]int

func sockets() [2]int {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(err)
	return p
}

func listener() int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(err)
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(fd, 8))
	return fd
}

// tcp makes connections and gives one end of each.
func tcp(n int) []int {
	l := listener()
	to, err := unix.Getsockname(l)
	must(err)
	var ends []int
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		must(err)
		must(unix.Connect(fd, to))
		ends = append(ends, fd)
	}
	return ends
}

func epoll(limit int, fds ...int) error {
	set, err := unix.EpollCreate1(0)
	must(err)
	for _, fd := range fds {
		must(unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	}
	_, err = unix.EpollWait(set, make([]unix.EpollEvent, 8), limit)
	return err
}

func in(clock int32) *unix.Timespec {
	var now unix.Timespec
	must(unix.ClockGettime(clock, &now))
	now.Sec += long
	return &now
}

func futex(op int, limit *unix.Timespec) error {
	var word uint32
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), uintptr(op), 0, uintptr(unsafe.Pointer(limit)), 0, 0xffffffff)
	return errno
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// block shows every blocker, tells the numbers of the threads, a line each, and
// ends with its standard input.
func block() {
	unix.Close(lifeline + 1)
	waker = sockets()
	runtime.GOMAXPROCS(4) // one is spinning
	for i := range blockers {
		b := &blockers[i]
		tid := make(chan int)
		go func() {
			runtime.LockOSThread()
			tid <- unix.Gettid()
			for {
				if err := b.call(); err != unix.EINTR {
					fmt.Fprintln(os.Stderr, b.name, "ended:", err)
					runtime.Goexit()
				}
			}
		}()
		fmt.Println(<-tid)
	}
	idle()
}

// idle ends with its standard input.
func idle() {
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// stranger looks at its parent without rights.
func stranger() {
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)} {
		must(err)
	}
	r := wait.New("", os.Getppid())
	defer r.Close()
	fmt.Println(r.Thread(os.Getppid(), tasks.Sleeping), r.Denied())
	os.Exit(0)
}

// start runs the helper that blocks, which is this test or its like.
func start(t testing.TB, program string) (pid int, tids []int) {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), helperEnv+"=block")
	if exe, err := filepath.EvalSymlinks(program); err == nil {
		cmd.Path = exe
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipeAt(lifeline)
	t.Cleanup(func() { unix.Close(lifeline); unix.Close(lifeline + 1) })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		done := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		cmd.Wait()
		done.Stop()
	})
	for range blockers {
		var tid int
		if _, err := fmt.Fscan(stdout, &tid); err != nil {
			t.Fatal("the helper told of too few threads:", err)
		}
		tids = append(tids, tid)
	}
	return cmd.Process.Pid, tids
}
