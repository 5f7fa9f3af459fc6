//go:build linux

package handover

import (
	"cmp"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

// turn is what a side does in a round.
type turn int

const (
	line turn = iota
	futex
	pipe
	channel
	yield
)

// side is one of the two that take turns, for one trial.
//
// Its methods that are marked nosplit have no point at which Go could stop the
// goroutine; and from the moment when both sides have met in them they need
// nothing but each other. Else a side that is stopped, to stop the world, would
// keep the other one in a system call for ever, and that one the world from
// stopping. They call no function that is not marked too, and so not the methods
// of atomic.Uint32, which race builds do not inline; nor may there be the race
// detector's own calls in them.
type side struct {
	shared *Shared
	page   *page
	how    turn
	me     int // 0: the one that begins
	rounds int
	batch  int    // rounds between two looks at where it is
	plain  bool   // of channel: a goroutine without a thread of its own
	both   uint32 // what page.arrived is when both have come

	in       <-chan struct{} // of channel
	out      chan<- struct{}
	work     []uint64 // of yield: the working set
	alone    bool     // of yield: with nobody on the other side
	turned   int      // of yield, by the second side
	sequence uint32   // of line: what was last stored

	progress   uint32        // batches
	schedstat  int           // descriptor; -1: none
	from, to   time.Duration // of the monotonic clock
	begin, end account
	buffer     [1]byte
	seen       [cpuset.Limit / 64]uint64
}

func newSide(sh *Shared, how turn, me, rounds int) *side {
	s := &side{shared: sh, page: sh.page, how: how, me: me, rounds: rounds, batch: 16, both: sh.meetings + 2}
	if how == line {
		s.batch = 4096
	}
	return s
}

// Each attempt to meet the other side is followed by a pause in which Go has
// its chance. The pause is shorter, so that they meet soon.
const (
	attempt = 300 * time.Microsecond
	pause   = 100 * time.Microsecond
)

// trial runs the side on the calling thread.
func (s *side) trial() error {
	var err error
	if s.schedstat, err = unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		s.schedstat = -1
	} else {
		defer unix.Close(s.schedstat)
	}
	s.look()
	if s.how == channel {
		return s.failed(s.talk())
	}
	for ; ; time.Sleep(pause) {
		if err := s.shared.stopped(); err != nil {
			return err
		}
		if met, errno := s.run(); met {
			return s.failed(errno)
		}
	}
}

func (s *side) failed(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case unix.ECANCELED:
		return cmp.Or(s.shared.stopped(), errGivenUp)
	}
	return fmt.Errorf("take a turn: %w", errno)
}

// run is all turns of a trial, once the other side is in it too.
//
//go:nosplit
//go:norace
func (s *side) run() (met bool, errno syscall.Errno) {
	if !s.meet() {
		return false, 0
	}
	if s.how == yield && s.me == 1 {
		s.accompany()
		return true, 0
	}
	if errno = s.turns(s.batch); errno != 0 { // to warm up
		return true, errno
	}
	s.begin.take(s.schedstat)
	if s.how == yield {
		atomic.StoreUint32(&s.page.phase.v, timed)
	}
	// After one more turn the other side has taken its account too.
	if errno = s.turns(1); errno != 0 {
		return true, errno
	}
	s.from = clock(unix.CLOCK_MONOTONIC)
	for left := s.rounds; left > 0; left -= s.batch {
		if errno = s.turns(min(left, s.batch)); errno != 0 {
			return true, errno
		}
		s.look()
		atomic.AddUint32(&s.progress, 1)
	}
	s.to = clock(unix.CLOCK_MONOTONIC)
	s.end.take(s.schedstat)
	if s.how == yield {
		atomic.StoreUint32(&s.page.phase.v, over)
	}
	return true, 0
}

// meet waits for a while until the other side is in meet as well.
//
//go:nosplit
//go:norace
func (s *side) meet() bool {
	if s.alone {
		return true
	}
	arrived, both := &s.page.arrived.v, s.both
	if atomic.AddUint32(arrived, 1) == both {
		return true
	}
	// On a busy CPU a call of sched_yield can take the time slices of all others.
	for began := clock(unix.CLOCK_MONOTONIC); clock(unix.CLOCK_MONOTONIC)-began < attempt; {
		if atomic.LoadUint32(arrived) == both {
			return true
		}
		syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	return !atomic.CompareAndSwapUint32(arrived, both-1, both-2)
}

//go:nosplit
//go:norace
func (s *side) turns(n int) syscall.Errno {
	switch s.how {
	case line:
		return s.bounce(n)
	case futex:
		return s.wakeAndWait(n)
	case pipe:
		return s.writeAndRead(n)
	}
	for range n {
		s.yield()
	}
	return 0
}

// bounce counts up in one word, the sides in turn.
//
//go:nosplit
//go:norace
func (s *side) bounce(n int) syscall.Errno {
	word, stop := &s.page.word[0].v, &s.page.stop.v
	at := s.sequence
	if s.me == 0 {
		for range n {
			at++
			atomic.StoreUint32(word, at)
			at++
			for spins := 1; atomic.LoadUint32(word) != at; spins++ {
				if spins&(1<<12-1) == 0 && atomic.LoadUint32(stop) != 0 {
					return unix.ECANCELED
				}
			}
		}
	} else {
		for range n {
			at++
			for spins := 1; atomic.LoadUint32(word) != at; spins++ {
				if spins&(1<<12-1) == 0 && atomic.LoadUint32(stop) != 0 {
					return unix.ECANCELED
				}
			}
			at++
			atomic.StoreUint32(word, at)
		}
	}
	s.sequence = at
	return 0
}

// Operations of futex(2).
const (
	futexWait    = 0
	futexWake    = 1
	futexPrivate = 128 // within one process
)

// Values of the word that a side waits on.
const (
	notYet  = 0
	yours   = 1
	dropped = 2 // there will be no more turns
)

//go:nosplit
//go:norace
func (s *side) wakeAndWait(n int) syscall.Errno {
	for range n {
		if s.me == 0 {
			s.wake()
			if errno := s.wait(); errno != 0 {
				return errno
			}
		} else {
			if errno := s.wait(); errno != 0 {
				return errno
			}
			s.wake()
		}
	}
	return 0
}

//go:nosplit
//go:norace
func (s *side) wake() {
	word := &s.page.word[1-s.me].v
	atomic.StoreUint32(word, yours)
	syscall.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake|s.shared.private, 1)
}

//go:nosplit
//go:norace
func (s *side) wait() syscall.Errno {
	word := &s.page.word[s.me].v
	for !atomic.CompareAndSwapUint32(word, yours, notYet) {
		if atomic.LoadUint32(&s.page.stop.v) != 0 {
			return unix.ECANCELED
		}
		_, _, errno := syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait|s.shared.private, notYet, 0, 0, 0)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			return errno
		}
	}
	return 0
}

//go:nosplit
//go:norace
func (s *side) writeAndRead(n int) syscall.Errno {
	for range n {
		if atomic.LoadUint32(&s.page.stop.v) != 0 {
			return unix.ECANCELED
		}
		if s.me == 0 {
			if errno := s.write(); errno != 0 {
				return errno
			}
		}
		if errno := s.read(); errno != 0 {
			return errno
		}
		if s.me == 1 {
			if errno := s.write(); errno != 0 {
				return errno
			}
		}
	}
	return 0
}

//go:nosplit
//go:norace
func (s *side) write() syscall.Errno {
	s.buffer[0] = yours
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, s.shared.writeEnd[1-s.me], uintptr(unsafe.Pointer(&s.buffer)), 1)
		if errno != unix.EINTR {
			return errno
		}
	}
}

//go:nosplit
//go:norace
func (s *side) read() syscall.Errno {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, s.shared.readEnd[s.me], uintptr(unsafe.Pointer(&s.buffer)), 1)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return errno
		case n != 1 || s.buffer[0] != yours:
			return unix.ECANCELED
		}
		return 0
	}
}
