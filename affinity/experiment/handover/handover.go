//go:build linux

package handover

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"berth/affinity"
	"berth/probe/cpuset"
)

// Means is how one side tells the other that it is its turn.
type Means string

const (
	// Futex is a wake-up and a wait, each one system call (futex(2)).
	Futex Means = "futex"
	// Pipe is one byte through each of two blocking pipes.
	Pipe Means = "pipe"
	// Channel is a Go channel in each direction, with room for one. A side with a seat
	// has a thread of its own, which the kernel must wake; a side without is a
	// plain goroutine, and between two of those the Go scheduler switches,
	// mostly without the kernel.
	Channel Means = "channel"
)

// Result is one trial. Of what has two sides, the first is that of the first
// seat, and of a [Half] its own. What is not known is -1, or an empty set.
type Result struct {
	OneWay  float64       // nanoseconds of one hand-over: half a round trip, in the mean
	Rounds  int           // round trips that were timed
	Elapsed time.Duration // of all of them
	RanOn   [2]cpuset.Set // CPUs the side was seen on, before the trial and now and then within
	// The kernel's account of each side's thread over the timed rounds and one
	// more. A switch by sched_yield counts as involuntary (getrusage(2)).
	Switches [2]Switches
	OnCPU    [2]time.Duration
	RunDelay [2]time.Duration // ready, but waiting for a CPU (sched-stats.rst)
}

// Switches counts how often a thread was taken off its CPU.
type Switches struct{ Voluntary, Involuntary int64 }

// errGivenUp is of the side whose partner failed.
var errGivenUp = errors.New("the other side gave up; its error says why")

// PingPong bounces a cache line between two CPUs: each of two threads waits,
// spinning, for the other's sequentially consistent store and then makes its
// own. The errors are those of [affinity.Do] for a CPU that cannot be had.
func PingPong(a, b int, rounds int) (Result, error) {
	fail := func(err error) (Result, error) {
		return Result{}, fmt.Errorf("bounce a cache line between CPUs %d and %d: %w", a, b, err)
	}
	if a == b {
		return fail(errors.New("that takes two CPUs"))
	}
	var seats [2]cpuset.Set
	for i, cpu := range [...]int{a, b} {
		if cpu < 0 || cpu >= cpuset.Limit {
			return fail(fmt.Errorf("there is no CPU %d", cpu))
		}
		seats[i] = cpuset.Of(cpuset.CPU(cpu))
	}
	r, err := threads(line, seats, rounds)
	if err != nil {
		return fail(err)
	}
	return r, nil
}

// Threads hands over between two threads of this process, each on its seat; an
// empty seat is all CPUs that the thread may run on anyway. The errors are those
// of [affinity.Do] for a seat that cannot be had.
func Threads(m Means, seats [2]cpuset.Set, rounds int) (Result, error) {
	how, err := m.turn()
	if err != nil {
		return Result{}, err
	}
	r, err := threads(how, seats, rounds)
	if err != nil {
		return Result{}, fmt.Errorf("hand over by %s between threads on %s and %s: %w", m, inWords(seats[0]), inWords(seats[1]), err)
	}
	return r, nil
}

func (m Means) turn() (turn, error) {
	switch m {
	case Futex:
		return futex, nil
	case Pipe:
		return pipe, nil
	case Channel:
		return channel, nil
	}
	return 0, fmt.Errorf("hand over by %q: the means are %s, %s and %s", string(m), Futex, Pipe, Channel)
}

func inWords(seat cpuset.Set) string {
	switch seat.Len() {
	case 0:
		return "any CPU"
	case 1:
		return "CPU " + seat.String()
	}
	return "CPUs " + seat.String()
}

func threads(how turn, seats [2]cpuset.Set, rounds int) (Result, error) {
	if err := checkRounds(rounds); err != nil {
		return Result{}, err
	}
	sh, err := NewShared()
	if err != nil {
		return Result{}, err
	}
	defer sh.Close()
	sh.private = futexPrivate
	sides := [2]*side{newSide(sh, how, 0, rounds), newSide(sh, how, 1, rounds)}
	if how == channel {
		there, back := make(chan struct{}, 1), make(chan struct{}, 1)
		sides[0].in, sides[0].out = back, there
		sides[1].in, sides[1].out = there, back
		for i, s := range sides {
			s.plain = seats[i].IsEmpty()
		}
	}
	if err := pair(sides[:], seats[:]); err != nil {
		return Result{}, err
	}
	r := sides[0].result()
	r.join(sides[1].result())
	return r, nil
}

// maxRounds keeps a trial within what a 32-bit int holds; an hour or so.
const maxRounds = 1_000_000_000

func checkRounds(n int) error {
	if n < 1 || n > maxRounds {
		return fmt.Errorf("%d rounds: there can be 1 to %d", n, maxRounds)
	}
	return nil
}

// pair runs both sides in this process, or the only one.
func pair(sides []*side, seats []cpuset.Set) error {
	spinning := len(sides)
	if sides[0].how == channel {
		spinning = 0 // who waits for a channel leaves the CPU to other goroutines
	}
	defer calm(spinning)()
	defer watch(sides...)()
	errs := make([]error, len(sides))
	var all sync.WaitGroup
	for i, s := range sides {
		all.Go(func() {
			if s.out != nil {
				defer close(s.out)
			}
			if err := seated(seats[i], s.plain, func() { errs[i] = s.trial() }); err != nil {
				errs[i] = err
			}
			if errs[i] != nil {
				s.shared.abandon(gaveUp)
			}
		})
	}
	all.Wait()
	var given error
	for _, err := range errs {
		if err != nil && !errors.Is(err, errGivenUp) {
			return err // the cause
		}
		given = cmp.Or(given, err)
	}
	return given
}

// seated runs f on a thread of its own, on the seat if there is one; plain is
// without the thread.
func seated(seat cpuset.Set, plain bool, f func()) error {
	if !seat.IsEmpty() {
		return affinity.Do(seat, f)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !plain {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
		}
		f()
	}()
	<-done
	return nil
}

// trials are one at a time: they would measure each other, and what calm sets
// belongs to the whole process.
var trials sync.Mutex

// calm keeps Go's own work out of a trial with so many threads that hold on to
// their share of GOMAXPROCS; two more are for who watches and for the rest.
func calm(threads int) (restore func()) {
	trials.Lock()
	percent := debug.SetGCPercent(-1)
	runtime.GC() // a collection under way would go on
	before := runtime.GOMAXPROCS(0)
	raised := threads > 0 && before < threads+2
	if raised {
		runtime.GOMAXPROCS(threads + 2)
	}
	return func() {
		if raised {
			runtime.GOMAXPROCS(before)
		}
		debug.SetGCPercent(percent)
		trials.Unlock()
	}
}
