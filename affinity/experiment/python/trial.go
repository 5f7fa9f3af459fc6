//go:build linux

package python

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Work is what workers do in a trial. A unit of it is one turn.
type Work string

const (
	// CPU computes in pure Python; a turn is a thousand steps of a loop.
	CPU Work = "cpu"
	// Native compresses and hashes 128 KiB, in C that releases the GIL meanwhile.
	Native Work = "native"
	// BlockingIO asks the slow server, and the thread waits for the answer.
	BlockingIO Work = "blocking-io"
	// AsyncIO asks it by asyncio, so that other tasks go on meanwhile; only
	// [Async] can carry it.
	AsyncIO Work = "async-io"
)

// Carrier is what a worker is.
type Carrier string

const (
	Threads   Carrier = "threads"   // of one process
	Processes Carrier = "processes" // forked, with one thread each
	Async     Carrier = "async"     // asyncio's tasks in one thread; all but AsyncIO blocks them all
)

// Trial is one measurement to make.
type Trial struct {
	Work    Work
	Carrier Carrier
	Workers int
	// Window is the time in which turns are counted. It begins a tenth of a second
	// or more after each worker has made a turn; of so many that this takes more
	// than five seconds, some may not have.
	Window time.Duration
	// SwitchInterval is set for the trial; 0 leaves the interpreter's own.
	SwitchInterval time.Duration
}

// Reading is what a trial measured.
type Reading struct {
	// Workers that could be had: fewer than asked for where the system's limits
	// did not allow more threads, processes or connections.
	Workers   int
	PerSecond float64   // turns of all workers
	PerWorker []float64 // turns of each in the window, parts of turns included
	Window    time.Duration
	// OnCPU is the CPU time of all workers in the window, up to a turn at each
	// of its ends.
	OnCPU time.Duration
	// GILHeldPct is the share of the window in which a thread held the GIL, and
	// ran: the CPU time of the workers, less that spent in calls that release it
	// (zlib, hashlib, sockets), measured by each thread's own clock around those
	// calls. asyncio's calls are counted as held. Where threads wait for a CPU
	// while they hold the GIL it tells too little. Processes have a GIL each,
	// and this is their mean. nil: there is no GIL.
	GILHeldPct *float64
	// MemoryPerWorker is the bytes that the workers added, divided by their
	// number: the proportional set size of memory that is in no file (Pss_Anon of
	// /proc/PID/smaps_rollup, Linux 5.4; before, RssAnon of status, proc(5)) of all
	// processes of the session with the workers, less that without. Kernel
	// memory, as a thread's stack there, is not in it; one worker alone carries
	// what the first of its kind allocates.
	MemoryPerWorker float64
	// Voluntary and Involuntary are the switches of the workers' threads in the
	// window (getrusage(2)).
	Voluntary, Involuntary float64
}

type trialReply struct {
	Workers     int       `json:"workers"`
	Window      float64   `json:"window"`
	Units       []float64 `json:"units"`
	CPU         float64   `json:"cpu"`
	Held        *float64  `json:"held"`
	Memory      float64   `json:"memory"`
	Voluntary   float64   `json:"voluntary"`
	Involuntary float64   `json:"involuntary"`
}

// Trial lets workers do a work, and measures. They are started for it, and are
// gone when it is over; the time that takes is not in the window.
func (s *Session) Trial(ctx context.Context, t Trial) (Reading, error) {
	if err := t.check(); err != nil {
		return Reading{}, fmt.Errorf("trial of %s: %w", s.python.Path, err)
	}
	var got trialReply
	err := s.do(ctx, t.Window, "trial", map[string]any{
		"work": t.Work, "carrier": t.Carrier, "workers": t.Workers, "window": t.Window.Seconds(),
		"switch_interval": t.SwitchInterval.Seconds(), "server": s.server.address(), "delay": s.delay.Seconds(),
	}, &got)
	if err != nil {
		return Reading{}, err
	}
	r, err := got.reading(t.Workers)
	if err != nil {
		return Reading{}, fmt.Errorf("trial of %s: %w", s.python.Path, err)
	}
	return r, nil
}

func (t *Trial) check() error {
	switch t.Work {
	case CPU, Native, BlockingIO, AsyncIO:
	default:
		return fmt.Errorf("no work is called %q", t.Work)
	}
	if err := t.Carrier.check(); err != nil {
		return err
	}
	switch {
	case t.Work == AsyncIO && t.Carrier != Async:
		return fmt.Errorf("%s is for %s, not %s", AsyncIO, Async, t.Carrier)
	case t.Workers < 1:
		return fmt.Errorf("%d workers; at least one is needed", t.Workers)
	case t.Window <= 0:
		return errors.New("no window to count in")
	case t.SwitchInterval < 0:
		return fmt.Errorf("a switch interval of %v", t.SwitchInterval)
	}
	return nil
}

func (c Carrier) check() error {
	switch c {
	case Threads, Processes, Async:
		return nil
	}
	return fmt.Errorf("no carrier is called %q", c)
}

// reading checks an answer, so that nobody reckons with what cannot be.
func (g *trialReply) reading(asked int) (Reading, error) {
	if g.Workers < 1 || g.Workers > asked || len(g.Units) != g.Workers {
		return Reading{}, fmt.Errorf("the answer is about %d workers and %d counts, and %d were asked for", g.Workers, len(g.Units), asked)
	}
	numbers := append([]float64{g.CPU, g.Memory, g.Voluntary, g.Involuntary}, g.Units...)
	if g.Held != nil {
		numbers = append(numbers, *g.Held)
	}
	for _, n := range numbers {
		if n < 0 {
			return Reading{}, fmt.Errorf("the answer has the number %v, which cannot be", n)
		}
	}
	if !(g.Window > 0 && g.Window < 1e9) || g.CPU > 1e9 {
		return Reading{}, fmt.Errorf("the answer has a window of %v s and %v s of CPU time", g.Window, g.CPU)
	}
	r := Reading{Workers: g.Workers, PerWorker: g.Units, Window: seconds(g.Window), OnCPU: seconds(g.CPU),
		MemoryPerWorker: g.Memory, Voluntary: g.Voluntary, Involuntary: g.Involuntary}
	for _, n := range g.Units {
		r.PerSecond += n / g.Window
	}
	if math.IsInf(r.PerSecond, 0) {
		return Reading{}, fmt.Errorf("the answer has counts too large to add: %v in %v s", g.Units, g.Window)
	}
	if g.Held != nil {
		pct := min(100, 100**g.Held)
		r.GILHeldPct = &pct
	}
	return r, nil
}
