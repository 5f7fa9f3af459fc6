//go:build linux

package tune

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// arm is a number of workers on some CPUs.
type arm struct {
	n      int
	cpus   cpuset.Set     // pinned to; empty: not
	on     cpuset.Set     // that they can use
	names  []string       // of the placements that are so
	values []float64      // as the metric gives them
	scores []float64      // of which more is better
	walls  []float64      // seconds
	known  measured.Value // of the scores
	failed *Failure
	fails  int

	dropped bool
	cut     float64 // a run was stopped after so many seconds, as too slow; 0: none
}

func (a *arm) score() measured.Value { return a.known }
func (a *arm) live() bool            { return !a.dropped && a.failed == nil }
func (a *arm) choice() Choice {
	return Choice{N: a.n, Placement: a.names[0], CPUs: a.cpus}
}

// What a search does.
const (
	// mostRuns of each arm are made: those that are not told apart by then are
	// as good as each other.
	mostRuns = 30
	// near is the share of the best that makes no difference.
	near = 0.01
	// enough is the share of the best from which a count is the knee.
	enough = 0.95
	// gap is how long is looked at what others do between two rounds.
	gap = 100 * time.Millisecond
	// A run is cut that can no longer reach a share tooSlow of the best, once it
	// has taken a share patience of the limit; the first run after warmUpShare.
	tooSlow, patience, warmUpShare = 0.25, 1. / 20, 1. / 20
)

type search struct {
	s        *Settings
	runner   runner
	allowed  cpuset.Set
	clock    func() time.Time
	pause    func(context.Context, time.Duration)
	began    time.Time
	counts   Counts
	places   []Placement
	arms     []*arm
	advised  *arm
	state    *stateFile
	noise    *noise
	found    finding.List
	stopped  Stop
	trials   int
	lastFail *Failure
	early    int
}

func newSearch(s *Settings, r runner, allowed cpuset.Set, clock func() time.Time) *search {
	x := &search{s: s, runner: r, allowed: allowed, clock: clock, counts: Counts{s.Counts.All(), s.Counts.open, s.Counts.most},
		places: slices.Clone(s.Placements), noise: newNoise(allowed)}
	x.pause = func(ctx context.Context, d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if len(x.places) == 0 {
		x.places = []Placement{None()}
	}
	if len(x.counts.all) == 0 {
		c := CountsFor(x.budget())
		x.counts = c
	}
	return x
}

// budget is how many CPUs' time there is.
func (x *search) budget() float64 {
	if m := x.s.Machine; m != nil && m.Limits.EffectiveCPUs > 0 {
		return m.Limits.EffectiveCPUs
	}
	return float64(x.allowed.Len())
}

func (x *search) run(ctx context.Context) (*Report, error) {
	began := time.Now()
	x.began = x.clock()
	limited, cancel := context.WithTimeout(ctx, x.s.limit())
	defer cancel()
	if x.s.State != "" {
		state, runs, err := openState(x.s.State, x.s.head())
		if err != nil {
			return nil, err
		}
		x.state = state
		x.takeUp(runs)
	}
	err := x.rounds(limited)
	if lost := x.state.close(); lost != nil {
		x.found.Add(FindState, finding.Warning, []string{lost.Error()}, "The last runs may be missing from %s.", x.s.State)
	}
	if ctx.Err() != nil {
		x.stopped = Interrupted
	}
	if err != nil {
		return nil, err
	}
	return x.report(began)
}

// addCount adds the arms of a count: one for each set of CPUs.
func (x *search) addCount(n int) (added bool) {
	for i := range x.places {
		if x.add(n, x.places[i].Name, x.places[i].On(n)) {
			added = true
		}
	}
	return added
}

// add makes an arm, or names the one that is there.
func (x *search) add(n int, name string, cpus cpuset.Set) (added bool) {
	on := cpus
	if on.IsEmpty() {
		on = x.allowed
	} else if on.Equal(x.allowed) {
		cpus = cpuset.Set{}
	}
	if a := x.at(n, on); a != nil {
		if !slices.Contains(a.names, name) {
			a.names = append(a.names, name)
		}
		return false
	}
	x.arms = append(x.arms, &arm{n: n, cpus: cpus, on: on, names: []string{name}})
	return true
}

func (x *search) at(n int, on cpuset.Set) *arm {
	for _, a := range x.arms {
		if a.n == n && a.on.Equal(on) {
			return a
		}
	}
	return nil
}

// takeUp gives arms the runs of an earlier search.
func (x *search) takeUp(runs []stateRun) {
	kept := 0
	for _, r := range runs {
		if x.at(r.N, r.CPUs) == nil {
			if _, ok := slices.BinarySearch(x.counts.all, r.N); !ok && !x.counts.open {
				continue
			}
			fits := slices.ContainsFunc(x.places, func(p Placement) bool {
				on := p.On(r.N)
				return on.Equal(r.CPUs) || on.IsEmpty() && r.CPUs.Equal(x.allowed)
			})
			if !fits {
				continue
			}
			x.counts.add(r.N)
			x.addCount(r.N)
		}
		x.take(x.at(r.N, r.CPUs), outcome{value: r.Value, wall: time.Duration(r.WallS * 1e9), failed: r.Failed})
		kept++
	}
	if len(runs) > 0 {
		more := ""
		if left := len(runs) - kept; left > 0 {
			more = fmt.Sprintf("; %d are of counts or CPUs that are not asked for now", left)
		}
		x.found.Add(FindTaken, finding.Info, nil, "%d runs of an earlier search count%s", kept, more)
	}
}

// take notes a run.
func (x *search) take(a *arm, o outcome) {
	x.trials++
	if o.cut {
		a.cut, a.dropped = o.wall.Seconds(), true
		return
	}
	if o.failed != nil {
		a.fails++
		x.lastFail = o.failed
		// One that has worked before gets another try.
		if len(a.scores) == 0 || a.fails > 1 {
			a.failed = o.failed
		}
		return
	}
	a.values = append(a.values, o.value)
	a.scores = append(a.scores, x.s.Metric.score(o.value))
	a.walls = append(a.walls, o.wall.Seconds())
	a.known = measured.Of(a.scores)
	if o.early {
		x.early++
	}
}

// rounds is the search. That ctx ends is no error.
func (x *search) rounds(ctx context.Context) error {
	seed := x.s.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	random := rand.New(rand.NewPCG(seed, 0))
	x.gap(ctx)
	if err := x.warmUp(ctx); err != nil {
		return x.unlessEnded(ctx, err)
	}
	for _, n := range x.counts.grid(int(x.budget() + 0.5)) {
		x.addCount(n)
	}
	x.addAdvised()
	for {
		order := slices.DeleteFunc(slices.Clone(x.arms), func(a *arm) bool { return !x.needed(a) })
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		ran := false
		for len(order) > 0 {
			if x.over(ctx) {
				return nil
			}
			i := x.next(order)
			a := order[i]
			order = slices.Delete(order, i, i+1)
			if !x.fits(a) {
				continue
			}
			if err := x.trial(ctx, a); err != nil {
				return x.unlessEnded(ctx, err)
			}
			ran = true
		}
		x.drop()
		more := x.refine()
		switch {
		case !more && x.settled():
			if x.stopped = Settled; x.tiedByRuns() {
				x.stopped = OutOfRuns
			}
			return nil
		case !ran && !more:
			x.stopped = OutOfTime
			return nil
		}
		x.gap(ctx)
	}
}

// unlessEnded drops an error that only says that ctx ended.
func (x *search) unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		x.stopped = OutOfTime
		return nil
	}
	return err
}

func (x *search) over(ctx context.Context) bool {
	if ctx.Err() == nil && x.left() > 0 {
		return false
	}
	x.stopped = OutOfTime
	return true
}

func (x *search) left() time.Duration { return x.s.limit() - x.clock().Sub(x.began) }

// fits reports whether another run of an arm can be expected to end in time.
func (x *search) fits(a *arm) bool {
	return len(a.walls) == 0 || measured.Of(a.walls).Median <= x.left().Seconds()
}

// gap looks at what others do while the command does not run.
func (x *search) gap(ctx context.Context) {
	x.noise.begin()
	x.pause(ctx, gap)
	x.noise.endGap()
}

func (x *search) say(doing string) {
	if x.s.Progress != nil {
		x.s.Progress(min(1, float64(x.clock().Sub(x.began))/float64(x.s.limit())), doing)
	}
}

// warmUp makes one run that does not count: what all runs load is in memory
// then. A metric that does not match it will match none.
func (x *search) warmUp(ctx context.Context) error {
	n := x.counts.all[0]
	if x.s.Observe != nil {
		n = 1
	}
	watching, end := context.WithCancel(ctx)
	defer end()
	type advice struct {
		choice *Choice
		err    error
	}
	var answers chan advice
	var started func(int)
	if x.s.Observe != nil {
		started = func(pid int) {
			answers = make(chan advice, 1)
			go func() {
				c, err := x.s.Observe(watching, pid)
				answers <- advice{c, err}
			}()
		}
	}
	x.say("warming up")
	o, err := x.runner.run(ctx, n, x.places[0].On(n), time.Duration(warmUpShare*float64(x.s.limit())), started)
	end()
	if answers != nil {
		a := <-answers
		if a.err != nil {
			x.found.Add(FindAdvice, finding.Info, nil, "no advice to compare with: %v", a.err)
		} else if a.choice != nil {
			x.s.Advised = a.choice
		}
	}
	if err != nil {
		return err
	}
	if o.failed != nil && o.failed.Status == 0 {
		return &Failed{1, *o.failed}
	}
	return nil
}

// addAdvised makes the arm of what was advised, if the counts to choose from
// reach so far.
func (x *search) addAdvised() {
	c := x.s.Advised
	if c == nil || !x.counts.reach(c.N) {
		return
	}
	cpus := c.CPUs
	name := c.Placement
	for i := range x.places {
		if x.places[i].Name == c.Placement && cpus.IsEmpty() {
			cpus = x.places[i].On(c.N)
		}
	}
	if !slices.ContainsFunc(x.places, func(p Placement) bool { return p.Name == name }) {
		// The same CPUs may have a name already.
		for i := range x.places {
			on := x.places[i].On(c.N)
			if on.Equal(cpus) || on.IsEmpty() && cpus.Equal(x.allowed) || cpus.IsEmpty() && on.Equal(x.allowed) {
				name = x.places[i].Name
			}
		}
	}
	x.add(c.N, name, cpus)
	if x.counts.open {
		x.counts.add(c.N)
	}
	if cpus.IsEmpty() {
		cpus = x.allowed
	}
	x.advised = x.at(c.N, cpus)
}

func (x *search) trial(ctx context.Context, a *arm) error {
	x.say(fmt.Sprintf("%d on %s, run %d", a.n, a.names[0], len(a.scores)+1))
	x.noise.begin()
	o, err := x.runner.run(ctx, a.n, a.cpus, x.most(a.n), nil)
	if err != nil {
		return err
	}
	x.noise.end()
	if o.trim != "" {
		x.found.Add(FindTrim, finding.Warning, nil, "%s", o.trim)
	}
	x.take(a, o)
	if o.cut { // with more time it would not be
		return nil
	}
	r := stateRun{N: a.n, CPUs: a.on, Value: o.value, WallS: o.wall.Seconds(), Failed: o.failed}
	if err := x.state.write(r); err != nil { // what is measured is worth more than its copy
		x.found.Add(FindState, finding.Warning, []string{err.Error()},
			"Runs could not be added to %s any more: from number %d on they are in this report alone.", x.s.State, x.trials)
		_ = x.state.close()
		x.state = nil
	}
	return nil
}
