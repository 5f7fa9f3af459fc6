//go:build linux

package python

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Holds are the times for which a thread kept the GIL while another wanted it.
type Holds struct {
	Interval time.Duration   // that was set
	Held     []time.Duration // each time, in order
	Median   time.Duration   // 0 if there was none
	NearPct  float64         // of the times that are within a fifth of the interval
}

// SwitchIntervalSeen lets two threads of pure Python compete for the GIL for a
// length of time, under a switch interval or, if that is 0, the interpreter's
// own. Both look all the time who looked last, and so notice the GIL's coming,
// whether the kernel took their CPU in between or not. Without a GIL they
// "hold" it for as long as a cache line takes from one CPU to another.
func (s *Session) SwitchIntervalSeen(ctx context.Context, interval, length time.Duration) (Holds, error) {
	h := Holds{Interval: interval}
	if interval == 0 {
		h.Interval = s.python.SwitchInterval
	}
	turns, err := s.holders(ctx, 2, interval, length)
	if err != nil {
		return h, err
	}
	near := 0
	for i := 1; i < len(turns); i++ {
		held := time.Duration(turns[i].at - turns[i-1].at)
		h.Held = append(h.Held, held)
		if (held - h.Interval).Abs() <= h.Interval/5 {
			near++
		}
	}
	if n := len(h.Held); n > 0 {
		h.Median = slices.Sorted(slices.Values(h.Held))[n/2]
		h.NearPct = 100 * float64(near) / float64(n)
	}
	return h, nil
}

// Succession counts which thread had the GIL after which.
type Succession struct {
	Changes int
	// Next[i][j] is how often thread j had it next after i. A thread that gets
	// it back before another has noticed does not count, so Next[i][i] is 0.
	Next [][]int
}

// NextHolder lets threads of pure Python compete for the GIL, as
// [Session.SwitchIntervalSeen] does, under the interpreter's own switch
// interval, and sees who gets it after whom. That takes at least two threads,
// and three for a choice.
func (s *Session) NextHolder(ctx context.Context, threads int, length time.Duration) (Succession, error) {
	turns, err := s.holders(ctx, threads, 0, length)
	if err != nil {
		return Succession{}, err
	}
	next := Succession{Next: make([][]int, threads)}
	for i := range next.Next {
		next.Next[i] = make([]int, threads)
	}
	for i := 1; i < len(turns); i++ {
		// Without a GIL two may notice the same change.
		if from, to := turns[i-1].thread, turns[i].thread; from != to {
			next.Next[from][to]++
			next.Changes++
		}
	}
	return next, nil
}

// holder is a thread and when the GIL came to it, in nanoseconds.
type holder struct {
	at     int64
	thread int
}

func (s *Session) holders(ctx context.Context, threads int, interval, length time.Duration) ([]holder, error) {
	if threads < 2 || length <= 0 || interval < 0 {
		return nil, fmt.Errorf("who holds the GIL in %s: %d threads for %v, switch interval %v; it takes two, and some time", s.python.Path, threads, length, interval)
	}
	var got struct {
		Seen [][2]int64 `json:"seen"`
	}
	err := s.do(ctx, length, "holders", map[string]any{"threads": threads, "seconds": length.Seconds(), "switch_interval": interval.Seconds()}, &got)
	if err != nil {
		return nil, err
	}
	turns, err := competing(got.Seen, threads)
	if err != nil {
		return nil, fmt.Errorf("who holds the GIL in %s: %w", s.python.Path, err)
	}
	return turns, nil
}

// competing leaves out what was before all threads competed.
func competing(seen [][2]int64, threads int) ([]holder, error) {
	turns := make([]holder, len(seen))
	missing, from := threads, len(seen)
	known := make([]bool, threads)
	for i, turn := range seen {
		at, thread := turn[0], turn[1]
		if thread < 0 || thread >= int64(threads) {
			return nil, fmt.Errorf("the answer has a thread %d of %d", thread, threads)
		}
		turns[i] = holder{at, int(thread)}
		if !known[thread] {
			known[thread] = true
			if missing--; missing == 0 {
				from = i
			}
		}
	}
	turns = turns[from:]
	// Without a GIL they write down their times in no certain order.
	slices.SortStableFunc(turns, func(a, b holder) int { return int(min(max(a.at-b.at, -1), 1)) })
	return turns, nil
}

// LostUpdate is what became of the updates of one number by several threads.
type LostUpdate struct {
	How           string // the statement that each thread repeated
	Expected, Got int64
}

// LostUpdates lets threads add to one number without a lock, each up to so many
// times, in ways that differ in where the GIL may change hands. The switch
// interval is a microsecond, to make that likely. A way is broken off after half
// a second.
func (s *Session) LostUpdates(ctx context.Context, threads, iterations int) ([]LostUpdate, error) {
	if threads < 1 || iterations < 1 {
		return nil, fmt.Errorf("lost updates of %s: %d threads, %d times each; both must be positive", s.python.Path, threads, iterations)
	}
	const each = 500 * time.Millisecond
	var got struct {
		Ways []struct {
			How      string `json:"how"`
			Expected int64  `json:"expected"`
			Got      int64  `json:"got"`
		} `json:"ways"`
	}
	err := s.do(ctx, 3*each, "lost_updates", map[string]any{"threads": threads, "iterations": iterations, "seconds": each.Seconds()}, &got)
	if err != nil {
		return nil, err
	}
	var ways []LostUpdate
	for _, w := range got.Ways {
		ways = append(ways, LostUpdate(w))
	}
	return ways, nil
}

// Stall is the longest time between two ticks of tasks that tick every 5 ms,
// while another task of the same loop took its time in three ways.
type Stall struct {
	Awaited  time.Duration // it awaited asyncio.sleep
	Blocked  time.Duration // it called time.sleep
	InThread time.Duration // it awaited time.sleep in another thread
	Tasks    int
	Stalled  int // of the tasks, for at least the whole of the blocking call
}

// BlockedLoop looks how a task of asyncio that blocks for a time holds up others.
func (s *Session) BlockedLoop(ctx context.Context, block time.Duration, tasks int) (Stall, error) {
	if block <= 0 || tasks < 1 {
		return Stall{}, fmt.Errorf("blocked loop of %s: %d tasks for %v; both must be positive", s.python.Path, tasks, block)
	}
	var got struct {
		Awaited  float64 `json:"awaited"`
		Blocked  float64 `json:"blocked"`
		InThread float64 `json:"in_thread"`
		Stalled  int     `json:"stalled"`
	}
	err := s.do(ctx, 3*block, "blocked_loop", map[string]any{"block": block.Seconds(), "tasks": tasks}, &got)
	return Stall{seconds(got.Awaited), seconds(got.Blocked), seconds(got.InThread), tasks, got.Stalled}, err
}

// Waiting is what waiters that sleep take.
type Waiting struct {
	Had     int     // of those asked for
	Memory  float64 // bytes that each added, as [Reading.MemoryPerWorker]
	Virtual float64 // bytes of addresses that each reserved
}

// Waiters has so many [Threads], or tasks ([Async]), sleep at once.
func (s *Session) Waiters(ctx context.Context, n int, carrier Carrier) (Waiting, error) {
	if n < 1 || carrier != Threads && carrier != Async {
		return Waiting{}, fmt.Errorf("waiters of %s: %d %s; it takes one or more, %s or %s", s.python.Path, n, carrier, Threads, Async)
	}
	var got struct {
		Had     int     `json:"had"`
		Memory  float64 `json:"memory"`
		Virtual float64 `json:"virtual"`
	}
	err := s.do(ctx, time.Second, "waiters", map[string]any{"carrier": carrier, "count": n}, &got)
	return Waiting(got), err
}

// Started is what it costs to start one worker.
type Started struct {
	Method string // "thread", "fork" or "spawn" of a process, "task"
	Runs   int
	Took   time.Duration // median, from asking for it to its first instruction
	Memory float64       // bytes that each added, as [Reading.MemoryPerWorker]
}

// StartCost starts workers one after another, and looks at each. Processes are
// started in two ways: forked, and spawned with an interpreter of their own.
func (s *Session) StartCost(ctx context.Context, carrier Carrier) ([]Started, error) {
	if err := carrier.check(); err != nil {
		return nil, fmt.Errorf("start cost of %s: %w", s.python.Path, err)
	}
	var got struct {
		Costs []struct {
			Method string  `json:"method"`
			Runs   int     `json:"runs"`
			Start  float64 `json:"start"`
			Memory float64 `json:"memory"`
		} `json:"costs"`
	}
	if err := s.do(ctx, 2*time.Second, "start_cost", map[string]any{"carrier": carrier}, &got); err != nil {
		return nil, err
	}
	var costs []Started
	for _, c := range got.Costs {
		costs = append(costs, Started{c.Method, c.Runs, seconds(c.Start), c.Memory})
	}
	return costs, nil
}

// Sharing says whose writes to a list the process that made the list sees.
type Sharing struct {
	Thread  bool `json:"thread"`  // a thread's of it
	Process bool `json:"process"` // a forked process's
}

// SharedMemory has a thread and a process write.
func (s *Session) SharedMemory(ctx context.Context) (Sharing, error) {
	var got Sharing
	err := s.do(ctx, time.Second, "shared_memory", nil, &got)
	return got, err
}

// Sums are how long the sum of a list takes; the median of three.
type Sums struct {
	Alone time.Duration // by one process
	Sent  time.Duration // by a pool that is sent the list in pieces
	Held  time.Duration // by processes that have made a piece each before
}

// PoolSum sums so many numbers, with processes that run already.
func (s *Session) PoolSum(ctx context.Context, elements, processes int) (Sums, error) {
	if elements < 1 || processes < 1 {
		return Sums{}, fmt.Errorf("pool sum of %s: %d elements, %d processes; both must be positive", s.python.Path, elements, processes)
	}
	var got struct {
		Alone float64 `json:"alone"`
		Sent  float64 `json:"sent"`
		Held  float64 `json:"held"`
	}
	err := s.do(ctx, 2*time.Second, "pool_sum", map[string]any{"elements": elements, "processes": processes}, &got)
	return Sums{seconds(got.Alone), seconds(got.Sent), seconds(got.Held)}, err
}

// Computes are how long the same jobs of pure Python take, with nothing to send
// but a number each.
type Computes struct {
	Alone     time.Duration // one after the other
	Processes time.Duration // by a pool of processes
	Threads   time.Duration // by a pool of as many threads
}

// PoolCompute makes jobs that take about so long one after the other, and has
// pools do them too.
func (s *Session) PoolCompute(ctx context.Context, processes int, alone time.Duration) (Computes, error) {
	if processes < 1 || alone <= 0 {
		return Computes{}, fmt.Errorf("pool compute of %s: %d processes for %v; both must be positive", s.python.Path, processes, alone)
	}
	var got struct {
		Alone     float64 `json:"alone"`
		Processes float64 `json:"processes"`
		Threads   float64 `json:"threads"`
	}
	err := s.do(ctx, 3*alone, "pool_compute", map[string]any{"processes": processes, "seconds": alone.Seconds()}, &got)
	return Computes{seconds(got.Alone), seconds(got.Processes), seconds(got.Threads)}, err
}
