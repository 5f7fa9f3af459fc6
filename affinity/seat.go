//go:build linux

package affinity

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"berth/probe"
	"berth/probe/cpuset"
)

// Seat is what a process, or one thread of it, is given.
type Seat struct {
	Worker     int        // the process, from 0
	Thread     *int       // the thread of it, from 0 in the order of birth; nil: the whole process
	CPUs       cpuset.Set // empty: any
	Memory     *Memory    // nil: as it is
	Scheduling Scheduling
}

// take gives the calling thread, which is locked, all that the seat says. The
// first error that is a [*Trimmed] with CPUs left is returned only after the
// rest is done.
func (s *Seat) take() error {
	var trim *Trimmed
	if !s.CPUs.IsEmpty() {
		if _, err := Set(0, s.CPUs); err != nil && !(errors.As(err, &trim) && !trim.Got.IsEmpty()) {
			return err
		}
	}
	if s.Memory != nil {
		if err := SetMemory(*s.Memory); err != nil {
			return err
		}
	}
	if err := SetScheduling(0, s.Scheduling); err != nil {
		return err
	}
	if trim != nil {
		return trim
	}
	return nil
}

// Exec seats this process and becomes another program, so that nothing of this
// one remains; it returns only if that fails. path is the program's file, and
// the other two are as for execve(2). trimmed is told where the kernel gave
// fewer CPUs; an error of it stops the program from being started.
func Exec(path string, args, environ []string, seat Seat, trimmed func(*Trimmed) error) error {
	runtime.LockOSThread() // execve keeps the thread that calls it
	var trim *Trimmed
	if err := seat.take(); errors.As(err, &trim) && !trim.Got.IsEmpty() {
		if err := trimmed(trim); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return &os.PathError{Op: "exec", Path: path, Err: syscall.Exec(path, args, environ)}
}

// Launcher starts processes that are seated before their first instruction:
// they inherit the seat of the thread that starts them, which is the launcher's
// own.
type Launcher struct {
	work chan func()
	home cpuset.Set
	own  *Memory
	err  error
}

// NewLauncher starts the thread that launches; Close ends it. Processes started
// with a Pdeathsig get that signal when it ends, so it must live as long as they.
func NewLauncher() (*Launcher, error) {
	l := &Launcher{work: make(chan func())}
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		l.home, l.err = probe.Affinity(0)
		if m, err := OwnMemory(); err == nil {
			l.own = &m
		}
		close(ready)
		for f := range l.work {
			f()
		}
	}()
	<-ready
	if l.err != nil {
		return nil, l.err
	}
	return l, nil
}

// Close ends the launcher's thread.
func (l *Launcher) Close() { close(l.work) }

// On runs f on the launcher's thread, whose state the processes inherit: for
// what a seat does not hold, as its control group.
func (l *Launcher) On(f func() error) error {
	done := make(chan error)
	l.work <- func() { done <- f() }
	return <-done
}

// Start starts a command on a seat. Where the kernel gave fewer CPUs than asked
// for, but some, the process is started on them, and trim says what is lacking.
// A class or nice value stays with the launcher for the commands that follow.
func (l *Launcher) Start(cmd *exec.Cmd, seat Seat) (trim *Trimmed, err error) {
	err = l.On(func() error {
		// What the last seat changed and this one does not ask for.
		if seat.CPUs.IsEmpty() {
			seat.CPUs = l.home
		}
		if seat.Memory == nil {
			seat.Memory = l.own
		}
		if err := seat.take(); errors.As(err, &trim) && !trim.Got.IsEmpty() {
			return cmd.Start()
		} else if err != nil {
			return fmt.Errorf("worker %d: %w", seat.Worker, err)
		}
		return cmd.Start()
	})
	return trim, err
}
