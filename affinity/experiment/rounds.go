//go:build linux

package experiment

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// enough is the number of trials before an arm can be finished: an interval that
// is narrow by chance after fewer would end it too early.
const enough = 8

// measurement is what one trial gave.
type measurement struct {
	// value is what the arm is about; its median decides when to stop.
	value float64
	// lost is the share of the workers' time that others took, as far as the
	// arm can tell it from what its own workers took of one another.
	lost float64
	// off says that a worker was seen off its seat, and where.
	off string
	// more are further figures, by name.
	more map[string]float64
}

// arm is one of the ways of working that an experiment compares.
type arm struct {
	name    string
	watched cpuset.Set // CPUs whose other work is noise
	trial   func(ctx context.Context, window time.Duration) (measurement, error)
	// loose arms do not have to reach the width.
	loose bool
	// base is the arm that this one is compared with, if any.
	base *arm
	// optional arms may fail without ending the experiment.
	optional bool

	round map[int]measurement // those that count, by round
	noisy int                 // trials that do not
	why   map[string]*cause   // and why
	err   error               // of an optional arm
}

// values are one figure of the trials that count, by round; the empty name is
// the arm's own.
func (a *arm) values(name string) []float64 {
	var xs []float64
	for _, r := range sortedKeys(a.round) {
		m := a.round[r]
		if x, ok := m.more[name]; name == "" {
			xs = append(xs, m.value)
		} else if ok {
			xs = append(xs, x)
		}
	}
	return xs
}

// over are the ratios of an arm to another one, round by round: what changed
// slowly in between touched both.
func (a *arm) over(b *arm) []float64 {
	var xs []float64
	for _, r := range sortedKeys(a.round) {
		if base, ok := b.round[r]; ok && base.value != 0 {
			xs = append(xs, a.round[r].value/base.value)
		}
	}
	return xs
}

// cause is a kind of disturbance: how often it was seen, and the largest share of
// time that it took.
type cause struct {
	times int
	most  float64
}

func (a *arm) known() bool { return len(a.round) >= measured.Fewest }

func sortedKeys[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// rounds repeats the trials of some arms.
type rounds struct {
	settings *Settings
	report   *Report
	arms     []*arm
	window   time.Duration
	// workers is how many CPUs' time the largest arm asks for.
	workers int
	// children are the processes that work for it.
	children func() []int
	// fixed ends it after so many good rounds, whatever the width.
	fixed    int
	deadline time.Time
	clock    func() time.Time // nil: time.Now
}

// run measures until the widths are reached or the time is up, and puts what it
// has to say of noise into the report. The error is one that leaves nothing to
// report; the end of ctx is none.
func (r *rounds) run(ctx context.Context) error {
	s := r.settings
	_, quota := s.quotaBelow(r.workers)
	w := &watch{quota: quota, children: r.children, stealKnown: true}
	seed := s.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	random := rand.New(rand.NewPCG(seed, 0))
	if r.clock == nil {
		r.clock = time.Now
	}
	began := r.clock()
	if r.deadline.IsZero() {
		r.deadline = began.Add(s.Limit)
	}
	for _, a := range r.arms {
		a.round, a.why = map[int]measurement{}, map[string]*cause{}
	}
	if r.fixed == 0 { // single looks warm up by themselves
		if err := r.warmUp(ctx); err != nil {
			return err
		}
	}
	order := slices.Clone(r.arms)
	for round := 0; ctx.Err() == nil; round++ {
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, a := range order {
			if a.err != nil || ctx.Err() != nil || (round > 0 && r.clock().After(r.deadline)) || !r.needed(a) {
				continue
			}
			if s.Progress != nil {
				part := min(1, float64(r.clock().Sub(began))/float64(max(r.deadline.Sub(began), 1)))
				s.Progress(part, a.name)
			}
			if err := r.trial(ctx, w, a, round); err != nil {
				return err
			}
		}
		if round > 0 && r.done() || r.clock().After(r.deadline) {
			break
		}
		// Nothing counts for half of the time: more of it will not help.
		if r.clock().Sub(began) > r.deadline.Sub(began)/2 && round >= measured.Fewest && !slices.ContainsFunc(r.arms, func(a *arm) bool { return len(a.round) > 0 }) {
			break
		}
	}
	r.judge(ctx, w)
	return nil
}

// warmUp repeats the first arm until two trials in a row are alike: by then the
// clock has risen, and what all arms share has been loaded.
func (r *rounds) warmUp(ctx context.Context) error {
	const most, alike = 8, 0.05
	a, last := r.arms[0], 0.
	for range most {
		m, err := a.trial(ctx, r.warmWindow())
		switch {
		case ctx.Err() != nil || err != nil && a.optional: // its own trials will say so
			return nil
		case err != nil:
			return err
		case last > 0 && math.Abs(m.value-last) <= alike*last:
			return nil
		}
		last = m.value
	}
	return nil
}

func (r *rounds) warmWindow() time.Duration { return max(r.window/4, 5*time.Millisecond) }

// trial makes one trial; the first of each arm warms up, and does not count.
func (r *rounds) trial(ctx context.Context, w *watch, a *arm, round int) error {
	if err := w.begin(a.watched); err != nil {
		return err
	}
	length := r.window
	if round == 0 && r.fixed == 0 {
		length = r.warmWindow()
	}
	m, err := a.trial(ctx, length)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return nil
		case !a.optional:
			return err
		}
		a.err = err
		return nil
	}
	why, took, err := w.end()
	if err != nil {
		return err
	}
	if round == 0 && r.fixed == 0 {
		return nil
	}
	r.report.Trials++
	switch {
	case m.off != "":
		why, took = m.off, 0
	case m.lost > mostLost && why == "":
		why, took = "others took part of the workers' time", m.lost
	}
	if why != "" {
		a.noisy++
		if a.why[why] == nil {
			a.why[why] = &cause{}
		}
		a.why[why].times++
		a.why[why].most = max(a.why[why].most, took)
		r.report.Disturbed++
		return nil
	}
	a.round[round] = m
	return nil
}

// done reports whether every arm is known as well as asked.
func (r *rounds) done() bool {
	return !slices.ContainsFunc(r.arms, func(a *arm) bool { return a.err == nil && !r.finished(a) })
}

// needed reports whether an arm has to go on: for itself, or for others that
// are compared with it.
func (r *rounds) needed(a *arm) bool {
	return !r.finished(a) || slices.ContainsFunc(r.arms, func(b *arm) bool { return b.base == a && b.err == nil && !r.finished(b) })
}

func (r *rounds) finished(a *arm) bool {
	if r.fixed > 0 {
		return len(a.round) >= r.fixed
	}
	if len(a.round) < enough {
		return false
	}
	if a.loose {
		return len(a.round) >= 2*enough
	}
	return measured.Of(a.values("")).Width() <= r.settings.width()
}

// wideAt is the width from which an interval says too little to be a result.
const wideAt = 0.25

// judge turns what was seen into the report's verdict and findings.
func (r *rounds) judge(ctx context.Context, w *watch) {
	rep := r.report
	addNoise(&rep.Noise, w.noise())
	if ctx.Err() != nil {
		rep.add(FindInterrupted, finding.Info, "ended early: what follows is what was known by then")
	}
	var starved, wide []string
	least := measured.Fewest
	if r.fixed > 0 {
		least = min(least, r.fixed)
	}
	for _, a := range r.arms {
		if a.err != nil {
			continue
		}
		v := measured.Of(a.values(""))
		switch {
		case len(a.round) < least:
			starved = append(starved, fmt.Sprintf("%s: %d", a.name, len(a.round)))
		case r.fixed == 0 && !a.loose && v.Width() > r.settings.width():
			wide = append(wide, fmt.Sprintf("%s ±%.0f %%", a.name, 100*v.Width()))
		}
		if len(a.round) >= least && v.Width() > wideAt && !a.loose && r.fixed == 0 {
			rep.Verdict = affinity.Inconclusive
		}
	}
	others := w.noise().OtherBusyPct
	noisy := others != nil && *others > 100*mostInAll && w.others > 2*fewTicks || rep.Disturbed*2 > rep.Trials ||
		slices.ContainsFunc(r.arms, func(a *arm) bool { return len(a.round) < least && a.noisy > len(a.round) })
	if len(starved) > 0 || noisy {
		rep.Verdict = affinity.Inconclusive
	}
	if rep.Disturbed > 0 || noisy {
		r.reportNoise(noisy, others)
	}
	if len(starved) > 0 && !noisy && ctx.Err() == nil {
		rep.addWith(starved, FindFew, finding.Warning, "the time was up before there were %d undisturbed trials of each: give it more time", least)
	}
	if len(wide) > 0 {
		rep.addWith(wide, FindWide, finding.Info, "the time was up before every median was known to ±%.0f %%", 100*r.settings.width())
	}
}

// reportNoise says how many trials do not count, and why.
func (r *rounds) reportNoise(much bool, others *float64) {
	rep := r.report
	var causes []string
	for _, a := range r.arms {
		for why, c := range a.why {
			text := fmt.Sprintf("%s: %d of %d: %s", a.name, c.times, a.noisy+len(a.round), why)
			if c.most > 0 {
				text += fmt.Sprintf(", up to %.0f %%", 100*c.most)
			}
			causes = append(causes, text)
		}
	}
	slices.Sort(causes)
	severity := finding.Info
	message := fmt.Sprintf("%d of %d trials were disturbed and do not count", rep.Disturbed, rep.Trials)
	if much {
		severity = finding.Warning
		if others != nil && *others > 100*mostInAll {
			message += fmt.Sprintf("; over all of them other programs took %.0f %% of the CPUs' time", *others)
		}
		message += ": measure again when the machine is quiet"
	}
	rep.addWith(causes, FindNoisy, severity, "%s", message)
}

// addNoise merges the noise of parts that are equally long, as far as one can
// tell: the worse counts.
func addNoise(to *affinity.Noise, n affinity.Noise) {
	worse := func(a **float64, b *float64) {
		if b != nil && (*a == nil || **a < *b) {
			*a = b
		}
	}
	worse(&to.StealPct, n.StealPct)
	worse(&to.OtherBusyPct, n.OtherBusyPct)
	if n.ThrottledMS != nil {
		sum := *n.ThrottledMS
		if to.ThrottledMS != nil {
			sum += *to.ThrottledMS
		}
		to.ThrottledMS = &sum
	}
}
