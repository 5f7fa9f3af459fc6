//go:build linux

package tasks

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A thread that did not run for longAsleep is read every restInterval, however
	// often samples are taken.
	longAsleep   = time.Second
	restInterval = 50 * time.Millisecond
)

// rests reports whether a thread is not to be read this time.
func (s *Sampler) rests(t *thread) bool {
	return s.now.Sub(t.readAt) < restInterval && s.now.Sub(t.ranAt) >= longAsleep && s.counts && !s.everything && !s.options.EveryState
}

// isSpared reports whether a thread's stat is read on demand alone. An open
// schedstat tells of the end of its thread, and is never another's. But the first
// thread of a process stays as a zombie, which stat alone shows.
func (s *Sampler) isSpared(t *thread) bool {
	return s.options.OnDemand && s.counts && t.TID != t.PID && t.schedstat > 0
}

// find gives the thread that a user of the Sampler means; nil: it has ended.
func (s *Sampler) find(w *Watched) *thread {
	if p := s.byPID[w.PID]; p != nil {
		if t := p.threads[w.TID]; t != nil && &t.Watched == w && !t.Ended {
			return t
		}
	}
	return nil
}

// ReadStat reads stat of one of the threads that [Sampler.Live] gave since the
// last sample. False: it has ended, or could not be read.
func (s *Sampler) ReadStat(w *Watched) bool {
	t := s.find(w)
	if t == nil {
		return false
	}
	if t.statAt.Equal(s.now) {
		return true
	}
	st, name, err := s.readStat(t)
	if err != nil || t.Start >= 0 && st.Start != t.Start {
		return false // the next sample sees to it
	}
	s.account(t, t.SchedStat, st, name)
	return true
}

// ReadStatus reads status of such a thread: its mask, and how often it gave up its
// CPU. Where it was not watched from its birth, Used counts switches from the
// first such reading. False: it has ended, or could not be read.
func (s *Sampler) ReadStatus(w *Watched) bool {
	t := s.find(w)
	if t == nil {
		return false
	}
	s.readStatus(t)
	return t.StatusAt.Equal(s.now)
}

// ours reports whether the numbers in the file system are those that this
// process's system calls take: it may be another PID namespace's.
func (p Proc) ours() bool {
	self, err := os.Readlink(p.dir() + "/self")
	return err == nil && self == strconv.Itoa(os.Getpid())
}

// fewThreads are read one by one in less time than the clock of their process
// is worth.
const fewThreads = 16

// readClock asks the clock of a process (clock_getcpuclockid(3)) whether any of
// its threads ran since the last sample: it sums what their schedstat tells, and
// costs some nanoseconds for each. A thread that is on a CPU for less than the
// scheduler's tick is not in either time yet; with few threads its number of
// time slices is not to be missed.
func (s *Sampler) readClock(p *process) {
	p.still = false
	if !s.clocks || !s.counts || s.options.EveryState || p.alive <= fewThreads {
		return
	}
	now := Clock(^int32(p.PID)<<3 | unix.CLOCK_PROCESS_CPUTIME_ID)
	p.still = now > 0 && now == p.clock && !s.everything
	p.clock = now
}
