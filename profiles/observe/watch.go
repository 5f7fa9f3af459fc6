//go:build linux

package observe

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/tasks"
	"berth/profiles"
	"berth/profiles/observe/gil"
	"berth/profiles/observe/wait"
	"berth/profiles/program"
)

const (
	// windowLength is long enough for some tens of samples and of the kernel's
	// ticks, and short enough to tell phases apart.
	windowLength = 500 * time.Millisecond
	// Samples are taken so often, unless they cost more than costShare.
	fastest, slowest = 10 * time.Millisecond, time.Second
	costShare        = 0.004
	// A thread is not looked for more often than that, on average: with very many
	// of them, to go through the list takes longer than the kernel.
	perThread = 400 * time.Microsecond
	// crowd is how many threads that run in between make once a second enough.
	crowd = 500
)

// Options say how a Watch looks.
type Options struct {
	// Children watches the processes too that watched ones start.
	Children bool
	// Unit is what counts as work; nil: [Wakeups].
	Unit Unit
}

// Watch follows the threads of some processes. Its user calls [Watch.Sample] in
// [Watch.Interval]s, and at the end [Watch.Finish]. It is not for concurrent use.
type Watch struct {
	proc    tasks.Proc
	options Options
	sampler *tasks.Sampler

	began, last, opened time.Time // the watch, the last sample, the window
	samples             int
	cost                time.Duration // CPU time of a sample, of late
	spent, paid         time.Duration // CPU time of this process before the watch, and at the last sample

	threads   map[*tasks.Watched]*thread
	all, live []*thread  // by number; all: with those that ended in this window
	switched  []switched // by the threads' numbers
	lookout   lookout
	asked     *thread // just now
	processes map[int]*process
	pids      []int
	next      int // the number of the next thread
	current   window
	windows   []window

	cpus    cpuset.Set // that threads which ran may use
	machine tasks.SystemStat
	groups  map[int]*group
	stalls  map[string]time.Duration // of the machine, by resource
	delays  delays
	counted counters
}

// thread is a thread under watch.
type thread struct {
	*tasks.Watched
	id     int
	of     *process
	sum    use // since the watch began
	mark   use // the same, when the window opened
	onCPU  time.Duration
	slices int64
	ran    time.Time
	base   tasks.Counters // before the watch

	// What the last look found; stale: it ran since.
	looked, stale bool
	ready         bool
	why           cause
	sockets       int
	locks         bool          // it was ever seen to wait for a lock
	seen          time.Duration // its time on a CPU then
	counted       int64         // time slices before its switches were counted; -1 they were not yet
}

// switched is how often a thread gave up its CPU, in how many time slices.
type switched struct{ voluntary, slices int64 }

// process is a process under watch.
type process struct {
	name    string // of its first thread
	looks   int    // again, since the first
	lives   bool   // at the end of the last window
	first   *thread
	command string
	program *program.Program // nil unknown
	waits   *wait.Reader
	lock    *gil.Lock
	lockErr error
	// switchInterval is as the interpreter's memory says; 0 unknown.
	switchInterval time.Duration
	blind          bool
}

// New makes a Watch of nothing yet.
func New(p tasks.Proc, o Options) *Watch {
	if o.Unit == nil {
		o.Unit = Wakeups{}
	}
	return &Watch{
		proc: p, options: o, spent: ownTime(),
		sampler: tasks.NewSampler(p, tasks.Options{Children: o.Children, OnDemand: true}), lookout: lookout{cost: firstCost, saved: firstSaved},
		threads: map[*tasks.Watched]*thread{}, processes: map[int]*process{}, groups: map[int]*group{},
	}
}

// Follow watches a process from now on. The error wraps [tasks.ErrGone] where
// there is none of that number.
func (w *Watch) Follow(pid int, now time.Time) error {
	if err := w.sampler.Follow(pid, now); err != nil {
		return err
	}
	w.pids = append(w.pids, pid)
	return nil
}

// Begin starts the account: what happened before does not count.
func (w *Watch) Begin(now time.Time) error {
	w.began, w.last, w.opened = now, now, now
	w.paid = ownTime()
	w.sampler.Sample(now)
	w.current = window{}
	w.machine, _ = w.proc.SystemStat() // unknown is said in the windows
	for t := range w.sampler.Live() {
		x := w.thread(t)
		x.onCPU, x.slices, x.base = t.Used.OnCPU, t.Used.Timeslices, t.Used
		x.seen, x.counted = t.Used.OnCPU, -1
		if x.id < fewThreads {
			w.ask(x)
		}
	}
	for pid := range w.processes {
		if g, err := cgroup.Throttler(pid); err == nil {
			w.groups[pid] = &group{g, g.Throttling()}
		}
	}
	w.stalls = w.pressure()
	w.delays.begin(w)
	return w.options.Unit.begin(w)
}

// Alive reports whether any process under watch lives.
func (w *Watch) Alive() bool { return w.sampler.Alive() > 0 }

// Interval is how long to wait until the next sample: so long that samples cost
// less than half a per cent of a CPU.
func (w *Watch) Interval() time.Duration {
	if w.lookout.stale > crowd {
		return slowest
	}
	return min(max(fastest, time.Duration(len(w.live))*perThread, time.Duration(float64(w.cost)/costShare)), slowest)
}

func (w *Watch) thread(t *tasks.Watched) *thread {
	x := w.threads[t]
	if x == nil {
		x = &thread{Watched: t, id: w.next, of: w.process(t.PID), why: unknown}
		w.next++
		w.threads[t] = x
		if t.TID == t.PID {
			x.of.first = x
		}
		w.all, w.switched = append(w.all, x), append(w.switched, switched{})
	}
	return x
}

func (w *Watch) process(pid int) *process {
	p := w.processes[pid]
	if p == nil {
		p = &process{}
		w.look(p, pid)
		w.processes[pid] = p
	}
	return p
}

// look finds out what a process is. What cannot be known stays unknown.
func (w *Watch) look(p *process, pid int) {
	p.waits = wait.New(w.proc, pid)
	p.waits.State = w.askedState
	p.program, _ = program.Of(w.proc, pid)
	if is, err := w.proc.Process(pid); err == nil {
		p.command, p.name = is.CommandLine(), is.Name
	}
	p.lock, p.lockErr = nil, nil
	if p.program != nil && p.program.Runtime == profiles.Python {
		p.lock, p.lockErr = gil.Open(w.proc, pid)
	}
}

// starting reports whether it is an interpreter that had no lock when it was
// looked at: it takes some milliseconds to make one.
func (p *process) starting() bool {
	return p.lockErr != nil && p.looks < mostLooks && (errors.Is(p.lockErr, gil.ErrNotFound) || errors.Is(p.lockErr, gil.ErrNotPython))
}

const mostLooks = 4

func (p *process) close() {
	p.waits.Close()
	if p.lock != nil {
		p.lock.Close()
		p.lock = nil
	}
}

// Sample looks once.
func (w *Watch) Sample(now time.Time) {
	w.sampler.Sample(now)
	w.sample(now)
	spent := ownTime()
	cost := spent - w.paid // with what it took to get here
	w.paid = spent
	w.cost += (cost - w.cost) / 16
}

// sample takes the account of what the Sampler read.
func (w *Watch) sample(now time.Time) {
	w.samples++
	w.current.samples++
	passed := now.Sub(w.last)
	seconds := passed.Seconds()
	w.last = now
	w.live = w.live[:0]
	for t := range w.sampler.Live() {
		x := w.thread(t)
		w.live = append(w.live, x)
		if x.onCPU != t.Used.OnCPU || x.slices != t.Used.Timeslices {
			x.onCPU, x.slices, x.stale, x.ran = t.Used.OnCPU, t.Used.Timeslices, true, now
		}
	}
	peersKnown := w.lookAround(passed)
	peers, moving := 0, 0
	var sockets int
	for _, x := range w.live {
		x.sum.alive += seconds
		switch {
		case !x.looked: // the looks to come stand for this time, too
		case x.ready:
			x.sum.ready += seconds
		default:
			x.sum.waits[x.why] += seconds
			sockets = max(sockets, x.sockets)
		}
		if x.isPeer(now) {
			peers++
			if x.moves() {
				moving++
			}
		}
	}
	if peers > 1 && peersKnown {
		w.current.peers++
		if moving > 0 {
			w.current.moving++
		}
	}
	w.current.sockets += float64(sockets)
	w.askInterpreters()
	if now.Sub(w.opened) >= windowLength {
		w.close(now)
	}
}

func (w *Watch) askInterpreters() {
	asked := false
	for _, p := range w.processes {
		if p.lock == nil {
			continue
		}
		state, err := p.lock.Read()
		if err != nil {
			p.lock.Close()
			p.lock, p.lockErr = nil, err
			continue
		}
		p.switchInterval = state.Interval
		w.current.gilSamples++
		asked = true
		if state.Held {
			w.current.gilHeld++
		}
	}
	if asked {
		w.current.gilLooks++
	}
}

// close ends the window.
func (w *Watch) close(now time.Time) {
	c := &w.current
	c.from, c.to = w.opened.Sub(w.began).Seconds(), now.Sub(w.began).Seconds()
	own := 0.0
	for _, p := range w.processes {
		p.lives = false
	}
	all := w.all
	w.all = w.all[:0]
	for _, t := range all {
		if t.Ended {
			delete(w.threads, t.Watched)
		} else {
			w.all = append(w.all, t)
			t.of.lives = true
			w.renew(t)
		}
		t.sum.onCPU = seconds(t.Used.OnCPU - max(0, t.base.OnCPU))
		t.sum.delay = seconds(t.Used.RunDelay - max(0, t.base.RunDelay))
		t.sum.slices = max(0, t.Used.Timeslices-max(0, t.base.Timeslices))
		if t.sum.onCPU > t.mark.onCPU {
			u := t.sum.minus(t.mark)
			c.threads = append(c.threads, part{t.id, u})
			own += u.onCPU
			if !t.Allowed.SubsetOf(w.cpus) {
				w.cpus = w.cpus.Union(t.Allowed)
			}
		}
		t.mark = t.sum
	}
	for _, p := range w.processes {
		if !p.lives {
			p.close()
		}
	}
	clear(all[len(w.all):])
	w.surroundings(c, own)
	if len(w.windows) == 0 {
		w.counted.begin(w, c, now)
	}
	w.windows = append(w.windows, *c)
	w.current = window{}
	w.opened = now
}

// renew looks at a process anew if it may be another program by now (execve(2)),
// or has become an interpreter.
func (w *Watch) renew(t *thread) {
	if t.TID != t.PID || t.Name == t.of.name && !t.of.starting() {
		return
	}
	t.of.close()
	w.look(t.of, t.PID)
	t.of.name = t.Name
	t.of.looks++
}

func seconds(d time.Duration) float64 { return max(0, d.Seconds()) }

// Run looks for a length of time, or until ctx is done or the last process has
// ended, and says what it all means.
func (w *Watch) Run(ctx context.Context, length time.Duration) (*Observation, error) {
	began := time.Now()
	if err := w.Begin(began); err != nil {
		return nil, err
	}
	pace, err := newPace(ctx)
	if err != nil {
		return nil, err
	}
	defer pace.close()
	for end := began.Add(length); w.Alive(); {
		left := time.Until(end)
		if left <= 0 || !pace.wait(min(w.Interval(), left)) {
			break
		}
		w.Sample(time.Now())
	}
	return w.Finish(time.Now()), nil
}

// Finish takes a last sample and says what it all means.
func (w *Watch) Finish(now time.Time) *Observation {
	w.sampler.Finish(now)
	w.sample(now)
	w.countSwitches()
	if len(w.windows) == 0 || now.Sub(w.opened) > windowLength/4 {
		w.close(now)
	}
	return w.observation(now)
}

// Close gives back what the watch holds open.
func (w *Watch) Close() {
	w.sampler.Close()
	w.counted.close()
	for _, p := range w.processes {
		p.close()
	}
}

// ownTime is the CPU time of this process.
func ownTime() time.Duration { return tasks.Clock(unix.CLOCK_PROCESS_CPUTIME_ID) }
