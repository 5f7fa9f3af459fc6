//go:build linux

package handover

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// talk takes turns by channel. It is ordinary Go: nothing here keeps the world
// from stopping.
func (s *side) talk() syscall.Errno {
	if errno := s.exchange(s.batch); errno != 0 {
		return errno
	}
	s.begin.take(s.schedstat)
	if errno := s.exchange(1); errno != 0 {
		return errno
	}
	s.from = clock(unix.CLOCK_MONOTONIC)
	for left := s.rounds; left > 0; left -= s.batch {
		if errno := s.exchange(min(left, s.batch)); errno != 0 {
			return errno
		}
		s.look()
		atomic.AddUint32(&s.progress, 1)
	}
	s.to = clock(unix.CLOCK_MONOTONIC)
	s.end.take(s.schedstat)
	return 0
}

func (s *side) exchange(n int) syscall.Errno {
	for range n {
		if atomic.LoadUint32(&s.page.stop.v) != 0 {
			return unix.ECANCELED
		}
		if s.me == 0 {
			s.out <- struct{}{}
		}
		if _, ok := <-s.in; !ok {
			return unix.ECANCELED
		}
		if s.me == 1 {
			s.out <- struct{}{}
		}
	}
	return 0
}
