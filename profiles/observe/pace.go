//go:build linux

package observe

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pace wakes a loop. Go's own timers, and every system call that its scheduler
// knows of, wake a thread of the runtime too (sysmon), which costs more than a
// sample. A timer that is a descriptor is waited for by the network poller
// alone.
type pace struct {
	timer   *os.File
	fd      int // the timer's: to ask the file for it makes it block
	conn    syscall.RawConn
	set     bool // just now: there is nothing to read yet
	expired uint64
	is      func(fd uintptr) bool
	stop    func() bool
}

// newPace makes a pace that ends with ctx.
func newPace(ctx context.Context) (*pace, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: timerfd_create: %w", err)
	}
	p := &pace{timer: os.NewFile(uintptr(fd), "timerfd"), fd: fd}
	if p.conn, err = p.timer.SyscallConn(); err != nil {
		p.timer.Close()
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	p.is = p.over
	p.stop = context.AfterFunc(ctx, func() { _ = p.timer.SetReadDeadline(time.Unix(1, 0)) })
	return p, nil
}

// wait lets a time pass; false: the context ended.
func (p *pace) wait(d time.Duration) bool {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(d), 1))} // 0 would never come
	if unix.TimerfdSettime(p.fd, 0, &spec, nil) != nil {
		return false
	}
	p.set = true
	return p.conn.Read(p.is) == nil
}

func (p *pace) over(fd uintptr) bool {
	if p.set {
		p.set = false
		return false
	}
	_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&p.expired)), unsafe.Sizeof(p.expired))
	return errno != unix.EAGAIN && errno != unix.EINTR
}

func (p *pace) close() {
	p.stop()
	p.timer.Close()
}
