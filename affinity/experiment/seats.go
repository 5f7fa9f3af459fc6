//go:build linux

package experiment

import (
	"math"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/affinity/experiment/kernel"
	"berth/probe"
	"berth/probe/cpuset"
)

// kernelArgs is the work of one process: a thread per seat, or all seats' work
// as goroutines of one.
type kernelArgs struct {
	Kernel string       `json:"kernel"`
	Async  bool         `json:"async,omitempty"` // goroutines that share the process's one CPU
	Seats  []cpuset.Set `json:"seats"`
	First  int          `json:"first"` // number of the first among all workers of the trial
	// Chase and Stream are bytes of memory to work on, where the kernel needs it.
	Chase  int64 `json:"chase,omitempty"`
	Stream int64 `json:"stream,omitempty"`
	Rounds int   `json:"rounds,omitempty"` // the work of a request of service
	// Each gives workers other kernels than Kernel.
	Each []string `json:"each,omitempty"`
}

// seatResult is what one worker did in the window, and its receipt.
type seatResult struct {
	Units float64 `json:"units"`
	// What the kernel counted in the window, times in nanoseconds; of goroutines
	// it is their process's.
	OnCPU       int64      `json:"on_cpu"`
	RunDelay    int64      `json:"run_delay"`
	Voluntary   int64      `json:"voluntary"`
	Involuntary int64      `json:"involuntary"`
	Set         cpuset.Set `json:"set"`
	RanOn       cpuset.Set `json:"ran_on"`
	GHz         float64    `json:"ghz"` // the clock, seen by a loop of known length
}

// kernel does one kernel's work on some seats until the window ends.
func (s *station) kernel(raw []byte) (any, error) {
	a, err := decode[kernelArgs](raw)
	if err != nil {
		return nil, err
	}
	chase, stream, err := s.memory(&a)
	if err != nil {
		return nil, err
	}
	n := len(a.Seats)
	return s.pool(a.Seats, a.Async, func(i int) (kernel.Work, error) {
		name := a.Kernel
		if i < len(a.Each) {
			name = a.Each[i]
		}
		config := kernel.Config{Chase: chase, Start: uint64(a.First+i) * spread, Rounds: a.Rounds}
		if len(stream) > 0 {
			part := len(stream) / n &^ 4095
			config.Stream = stream[i*part : (i+1)*part]
		}
		if !a.Async {
			config.Sleep = sleep
		}
		return kernel.New(name, config)
	})
}

// spread is the lines between the starts of two pointer chases: far, and with a
// cycle as long as the memory apart in time too.
const spread = 1<<16 + 1

// pool lets workers with a seat each work in the window; prepare is called on
// the worker's seat.
func (s *station) pool(seats []cpuset.Set, async bool, prepare func(i int) (kernel.Work, error)) ([]seatResult, error) {
	n := len(seats)
	results := make([]seatResult, n)
	errs := make([]error, n)
	pool := &pool{begin: make(chan struct{})}
	if async {
		runtime.GOMAXPROCS(1)
	} else {
		runtime.GOMAXPROCS(max(n+2, 4)) // Go itself must not share out the CPUs
	}
	var done sync.WaitGroup
	pool.prepared.Add(n)
	for i := range n {
		work := func() { errs[i] = pool.serve(&results[i], i, prepare, async) }
		done.Go(func() {
			if async {
				work()
				return
			}
			if err := affinity.Do(seats[i], work); err != nil {
				errs[i] = err
				pool.prepared.Done()
			}
		})
	}
	pool.prepared.Wait()
	for _, err := range errs {
		if err != nil {
			pool.window = window{}
			close(pool.begin)
			done.Wait()
			return nil, err
		}
	}
	w, err := s.ready()
	pool.window = w
	close(pool.begin)
	done.Wait()
	if err != nil {
		return nil, err
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// memory maps what a kernel works on; it stays for the next trial.
func (s *station) memory(a *kernelArgs) (chase, stream []byte, err error) {
	if a.Chase > 0 {
		if chase, err = s.chaseMemory(a.Chase); err != nil {
			return nil, nil, err
		}
	}
	if a.Stream > 0 {
		if stream, err = s.streamMemory(a.Stream * int64(len(a.Seats))); err != nil {
			return nil, nil, err
		}
	}
	return chase, stream, nil
}

// pool is the workers of one process.
type pool struct {
	prepared sync.WaitGroup
	begin    chan struct{}
	window   window // once begin is closed; zero: none
}

// serve is one worker, on its own thread unless async.
func (p *pool) serve(r *seatResult, i int, prepare func(int) (kernel.Work, error), async bool) error {
	work, err := prepare(i)
	if err != nil {
		p.prepared.Done()
		return err
	}
	account := openAccount(async)
	defer account.close()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // waits end on time
	r.Set, err = probe.Affinity(0)
	p.prepared.Done()
	if err != nil {
		return err
	}
	<-p.begin
	w := p.window
	if w.To == 0 {
		return nil
	}
	var seen cpuset.Set
	var begin, end usage
	t := now()
	for t < w.To {
		inside := t >= w.From
		if inside && begin.at == 0 {
			begin = account.read(t)
		}
		units := work()
		if async {
			runtime.Gosched()
		}
		t = now()
		if inside {
			r.Units += units
		}
		if cpu, err := affinity.Current(); err == nil && !seen.Contains(cpu) {
			seen = seen.Union(cpuset.Of(cpu))
		}
	}
	if begin.at == 0 { // off its CPU for the whole of the window
		begin = account.read(t)
	}
	end = account.read(t)
	r.OnCPU = end.onCPU - begin.onCPU
	r.RunDelay = end.runDelay - begin.runDelay
	r.Voluntary, r.Involuntary = end.voluntary-begin.voluntary, end.involuntary-begin.involuntary
	r.RanOn = seen
	if !async {
		r.GHz = clock()
	}
	return nil
}

// sleep blocks the thread, as a blocking call of other languages does.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	for unix.Nanosleep(&t, &t) == unix.EINTR {
	}
}

// clock times a loop of as many cycles as steps: GHz. The quickest of a few
// tries is the one that nothing interrupted.
func clock() float64 {
	const steps = 50_000
	best := int64(math.MaxInt64)
	for range 5 {
		t := now()
		kernel.Cycles(steps)
		best = min(best, now()-t)
	}
	return steps / float64(best)
}
