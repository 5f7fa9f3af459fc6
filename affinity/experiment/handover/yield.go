//go:build linux

package handover

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

// Phases of the first side of a yield.
const (
	warming = iota
	timed
	over
)

// maxWorkingSet is that of one side; two must fit into the memory of a small
// machine.
const maxWorkingSet = 1 << 30

const (
	cacheLine = 64 // bytes; where lines are longer, each is touched more than once
	lineWords = cacheLine / 8
)

// Yield measures a switch without a wake-up, as at the end of a time slice. Two
// threads on one CPU each change a word in every 64 bytes of a working set of
// their own, then call sched_yield(2), and so on. Before that, one of them does
// so alone, with nobody to yield to.
//
// OneWay of the first result is the time of one such turn with a switch, of the
// second the time of one without; the difference is what a switch costs, what
// it makes the caches load again included. Rounds are turns, of both threads.
//
// From Linux 6.6 on (EEVDF), a thread that yields may be the next one to run
// again. So what counts are the switches that the kernel tells of (getrusage(2)),
// and turns without one are taken off at what they cost alone.
func Yield(cpu int, workingSet int, rounds int) (with, alone Result, err error) {
	fail := func(err error) (Result, Result, error) {
		return Result{}, Result{}, fmt.Errorf("yield on CPU %d: %w", cpu, err)
	}
	switch {
	case cpu < 0 || cpu >= cpuset.Limit:
		return fail(errors.New("there is no such CPU"))
	case workingSet < 0 || workingSet > maxWorkingSet:
		return fail(fmt.Errorf("a working set of %d bytes: it can be 0 to %d", workingSet, maxWorkingSet))
	}
	if err := checkRounds(rounds); err != nil {
		return fail(err)
	}
	sh, err := NewShared()
	if err != nil {
		return fail(err)
	}
	defer sh.Close()
	var sides [2]*side
	for i := range sides {
		sides[i] = newSide(sh, yield, i, rounds)
		sides[i].work = make([]uint64, workingSet/8)
		sides[i].batch = max(16/(1+workingSet>>16), 1)
	}
	seat := cpuset.Of(cpuset.CPU(cpu))

	single := newSide(sh, yield, 0, rounds)
	single.work, single.batch, single.alone = sides[0].work, sides[0].batch, true
	if err := pair([]*side{single}, []cpuset.Set{seat}); err != nil {
		return fail(err)
	}
	alone = single.result()
	alone.OneWay *= 2
	atomic.StoreUint32(&sh.page.phase.v, warming)

	if err := pair(sides[:], []cpuset.Set{seat, seat}); err != nil {
		return fail(err)
	}
	with = sides[0].result()
	with.join(sides[1].result())
	with.Rounds += int(sides[1].turned)
	switches := int64(0)
	for _, s := range with.Switches {
		switches += s.Voluntary + s.Involuntary
	}
	if switches < 1 {
		return fail(fmt.Errorf("the kernel did not switch in %d calls of sched_yield; what a switch costs cannot be told from that", with.Rounds))
	}
	with.OneWay = (float64(with.Elapsed) - float64(int64(with.Rounds)-switches)*alone.OneWay) / float64(switches)
	return with, alone, nil
}

//go:nosplit
//go:norace
func (s *side) yield() {
	for i := 0; i < len(s.work); i += lineWords {
		s.work[i]++
	}
	syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
}

// accompany is the second side, which takes turns as long as the first does.
//
//go:nosplit
//go:norace
func (s *side) accompany() {
	phase := &s.page.phase.v
	for atomic.LoadUint32(phase) == warming {
		s.yield()
	}
	s.begin.take(s.schedstat)
	for atomic.LoadUint32(phase) == timed {
		s.yield()
		s.turned++
	}
	s.end.take(s.schedstat)
	s.look()
}
