//go:build linux

package tune

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/finding"
)

// shortRun is the wall time below which start-up is most of a run, in seconds.
const shortRun = 0.010

// report draws the answer up.
func (x *search) report(began time.Time) (*Report, error) {
	m := &x.s.Metric
	r := &Report{Schema: Schema, Command: x.s.Command, Metric: m.String(), Unit: m.unit(), Better: "higher", MeasuredAt: began.UTC().Truncate(time.Second),
		Verdict: affinity.Measured, Stopped: x.stopped, WallS: math.Round(time.Since(began).Seconds()*1000) / 1000, Runs: x.trials, Points: []Point{}, Noise: x.noise.report()}
	if m.lower {
		r.Better = "lower"
	}
	if x.s.Machine != nil {
		r.Fingerprint = x.s.Machine.Fingerprint
	}
	budget := x.budget()
	r.BudgetCPUs = &budget
	slices.SortStableFunc(x.arms, func(a, b *arm) int { return a.n - b.n })
	tried := 0
	for _, a := range x.arms {
		if len(a.scores) > 0 || a.failed != nil || a.cut > 0 {
			r.Points = append(r.Points, x.point(a))
			tried++
		}
	}
	best := x.best()
	if best == nil {
		switch {
		case x.lastFail != nil:
			return nil, &Failed{max(tried, 1), *x.lastFail}
		case x.stopped == Interrupted:
			return nil, fmt.Errorf("interrupted before the first run had ended")
		}
		return nil, fmt.Errorf("no run ended within %s: give it more time, or a smaller piece of work", x.s.limit())
	}
	c := best.choice()
	r.Best = &c
	x.ties(r, best)
	x.knee(r, best)
	x.law(r, best)
	x.regret(r, best)
	x.judge(r, best)
	r.Findings = x.found.Report()
	if r.Findings == nil {
		r.Findings = []finding.Finding{}
	}
	return r, nil
}

func (x *search) point(a *arm) Point {
	p := Point{N: a.n, Placement: a.names[0], Also: a.names[1:], CPUs: a.on, Dropped: a.dropped, Failed: a.failed}
	if a.cut > 0 {
		p.CutS = &a.cut
	}
	if len(a.values) > 0 {
		v := measured.Of(a.values)
		p.Value = &v
		w := measured.Of(a.walls).Median
		p.WallS = &w
	}
	return p
}

// ties finds those that may be the best as well.
func (x *search) ties(r *Report, best *arm) {
	least := best
	reach := best.score().Low
	for _, a := range x.arms {
		if a == best || !a.live() || len(a.scores) == 0 || a.score().High < reach {
			continue
		}
		r.Tied = append(r.Tied, a.choice())
		if a.n < least.n {
			least = a
		}
	}
	if least != best {
		c := least.choice()
		r.Fewest = &c
	}
}

func (x *search) knee(r *Report, best *arm) {
	top := best.score().Median
	knee := best
	for _, a := range x.arms { // by count
		if a.failed != nil || len(a.scores) == 0 || a.score().Median < enough*top {
			continue
		}
		switch {
		case a.n < knee.n, a.n == knee.n && knee != best && a.score().Median > knee.score().Median:
			knee = a
		}
	}
	c := knee.choice()
	r.Knee = &c
}

// law fits the law to the placement of the best.
func (x *search) law(r *Report, best *arm) {
	name := best.names[0]
	var points []measuredAt
	for _, a := range x.of(name) {
		if len(a.scores) > 0 && a.failed == nil {
			points = append(points, measuredAt{float64(a.n), a.score().Median})
		}
	}
	law, ok := fit(points)
	if !ok {
		x.found.Add(FindLaw, finding.Info, nil, "the scalability law needs %d counts of one placement, and %d have a value", leastCounts, len(points))
		return
	}
	law.Placement = name
	r.USL = law
	if inner, off, ok := breaks(points, math.Ceil(x.budget()), law); ok {
		x.found.Add(FindBreak, finding.Info,
			[]string{fmt.Sprintf("up to %.0f workers alone: λ %.4g, σ %.3g, κ %.3g", math.Ceil(x.budget()), inner.Lambda, inner.Sigma, inner.Kappa)},
			"the law breaks where the CPUs end: that of up to %.0f workers is off by %+.0f %% beyond", math.Ceil(x.budget()), 100*off)
	}
}

// regret compares what was advised with the best.
func (x *search) regret(r *Report, best *arm) {
	a := x.advised
	if a == nil {
		if c := x.s.Advised; c != nil {
			r.Advised = &Advice{N: c.N, Placement: c.Placement, Outside: !x.counts.reach(c.N)}
		}
		return
	}
	r.Advised = &Advice{N: a.n, Placement: a.names[0]}
	got := a.score().Median
	if a.failed != nil {
		return
	}
	if len(a.scores) == 0 {
		// The law holds between the counts that it comes from.
		on := slices.DeleteFunc(x.of(best.names[0]), func(b *arm) bool { return len(b.scores) == 0 || b.failed != nil })
		if r.USL == nil || !slices.Contains(a.names, r.USL.Placement) || a.n < on[0].n || a.n > on[len(on)-1].n {
			return
		}
		got, r.Advised.Interpolated = r.USL.At(float64(a.n)), true
	}
	p := math.Round(1e4*max(0, 1-got/best.score().Median)) / 100
	r.Advised.RegretPct = &p
}

// judge says what to think of it.
func (x *search) judge(r *Report, best *arm) {
	doubt := func(code, format string, args ...any) {
		r.Verdict = affinity.Inconclusive
		x.found.Add(code, finding.Warning, nil, format, args...)
	}
	if n := len(best.scores); n < measured.Fewest {
		doubt(FindFew, "of the best there are %d of the %d runs that an interval takes: give it more time, or a smaller piece of work", n, measured.Fewest)
	}
	if x.noise.stolen() {
		doubt(FindNoisy, "the host took %.0f %% of the CPUs' time while the command ran: measure again when it is quiet", 100*share(x.noise.steal, x.noise.whole))
	}
	if x.noise.others() {
		doubt(FindNoisy, "other programs took %.0f %% of the CPUs' time while the command did not run: measure again when the machine is quiet", 100*share(x.noise.busy, x.noise.gaps))
	}
	if w := measured.Of(best.walls).Median; w < shortRun && x.s.Metric.Timed() {
		x.found.Add(FindShort, finding.Warning, nil, "a run takes %.1f ms, of which most is start-up: give it more to do", 1000*w)
	}
	x.failures()
	x.sameCPUs()
	if ms := x.noise.throttled; ms != nil && *ms > 0 {
		x.found.Add(FindQuota, finding.Info, nil, "a CPU quota stopped the command for %.0f ms in all: what was found is the best under it", *ms)
	}
	if last := x.counts.all[len(x.counts.all)-1]; best.n == last && r.Knee.N == last && len(x.counts.all) > 1 && x.stopped == Settled {
		x.found.Add(FindEdge, finding.Info, nil, "the best is the largest count tried: more than %d may be better still; give them by -n", last)
	}
	if x.early > 0 {
		x.found.Add(FindEarly, finding.Info, nil, "%d of %d runs ended by themselves before they were to be stopped", x.early, x.trials)
	}
	if x.unused() {
		x.found.Add(FindUnused, finding.Warning, nil, "every count does the same, and the command has no {n} in it: unless it reads BERTH_N, it never hears of the count")
	}
	if machine := x.s.Machine; machine != nil && best.cpus.Len() > 0 &&
		slices.ContainsFunc(machine.Findings, func(f finding.Finding) bool { return f.Code == probe.VCPUUnverified }) {
		x.found.Add(FindFloat, finding.Info, nil, "a virtual machine whose CPUs may move on the host: placements promise nothing physical")
	}
}

// failures names the counts that failed.
func (x *search) failures() {
	var always, sometimes []string
	for _, a := range x.arms {
		switch {
		case a.failed != nil:
			text := fmt.Sprintf("%d on %s: %s", a.n, a.names[0], a.failed.Why)
			if out := a.failed.Output; len(out) > 0 {
				text += ": " + out[len(out)-1]
			}
			always = append(always, text)
		case a.fails > 0:
			sometimes = append(sometimes, fmt.Sprintf("%d on %s: 1 of %d runs", a.n, a.names[0], a.fails+len(a.scores)))
		}
	}
	if len(always) > 0 {
		x.found.Add(FindFailed, finding.Warning, always, "the command failed at %d of the points tried", len(always))
	}
	if len(sometimes) > 0 {
		x.found.Add(FindFlaky, finding.Warning, sometimes, "a run failed where others did not")
	}
}

// sameCPUs names placements that were not measured apart.
func (x *search) sameCPUs() {
	for i := range x.places {
		for j := range x.places[:i] {
			same := true
			for _, a := range x.arms {
				if slices.Contains(a.names, x.places[i].Name) != slices.Contains(a.names, x.places[j].Name) {
					same = false
				}
			}
			if same {
				x.found.Add(FindSame, finding.Info, nil, "%s and %s are the same CPUs for every count here: they were measured once", x.places[j].Name, x.places[i].Name)
			}
		}
	}
}

// unused: nothing in the command's words says how many workers it should have,
// and it does as much with any count. One that reads BERTH_N may be so too.
func (x *search) unused() bool {
	said := len(x.s.Env) > 0 || slices.ContainsFunc(x.s.Command[1:], func(w string) bool {
		return strings.Contains(w, "{n}") || strings.Contains(w, "{cpus}") || strings.Contains(w, "BERTH_N") || strings.Contains(w, "BERTH_CPUS")
	})
	low, high, tried := math.Inf(1), 0.0, 0
	for _, a := range x.arms {
		if len(a.scores) > 0 {
			m := a.score().Median
			low, high, tried = min(low, m), max(high, m), tried+1
		}
	}
	return !said && tried > 1 && high < low/enough
}
