//go:build linux

package tune

import (
	"math"
	"slices"
	"time"

	"berth/affinity/measured"
)

// margins are how far the interval of an arm has to lie below that of the best
// for it to be dropped, as a share, by the runs that both have at least: before
// there is an interval with 95 % confidence, the runs seen have to be far apart.
// A single run is enough only where the time is short.
var margins = [...]float64{1: 0.5, 2: 0.35, 3: 0.35, 4: 0.3, 5: 0.2, 6: near}

// next is which of the arms in line has its turn: the first, but of those that
// have never run one beside the best so far, beginning near twice the budget:
// where runs are long, the quick ones come first then, and slow ones are cut.
func (x *search) next(line []*arm) int {
	from, up, down := 2*x.budget(), true, true
	if best := x.best(); best != nil {
		from = float64(best.n)
		for _, a := range x.arms {
			up = up && (len(a.walls) == 0 || a.n <= best.n)
			down = down && (len(a.walls) == 0 || a.n >= best.n)
		}
	}
	found, least := 0, math.Inf(1)
	for i, a := range line {
		if len(a.walls) > 0 {
			return 0
		}
		away := math.Abs(math.Log(float64(a.n) / from))
		if up && float64(a.n) < from || down && !up && float64(a.n) > from {
			away += 100 // as long as it gets better upwards, or else downwards, go on that way
		}
		if away < least {
			found, least = i, away
		}
	}
	return found
}

// most is how long a run of n workers may take; 0: as long as it likes. Where the
// value is not the time, there is no telling.
func (x *search) most(n int) time.Duration {
	best := x.best()
	if best == nil || !x.s.Metric.Timed() {
		return 0
	}
	part := tooSlow
	if x.short() {
		part = margins[1]
	}
	seconds := x.s.Metric.work(n) / (part * best.score().Median)
	return max(time.Duration(seconds*1e9), time.Duration(patience*float64(x.s.limit())))
}

// short: the time does not suffice for an interval of each arm that is left.
func (x *search) short() bool {
	need := 0.0
	for _, a := range x.arms {
		if a.live() && len(a.walls) > 0 {
			need += measured.Of(a.walls).Median * float64(max(0, measured.Fewest-len(a.scores)))
		}
	}
	return need > x.left().Seconds()
}

// best is the live arm with the greatest median; nil: nothing is known.
func (x *search) best() *arm { return x.bestOf(func(*arm) bool { return true }) }

func (x *search) bestOf(ok func(*arm) bool) *arm {
	var best *arm
	most := 0.0
	for _, a := range x.arms {
		if !a.live() || len(a.scores) == 0 || !ok(a) {
			continue
		}
		m := a.score().Median
		if best == nil || m > most || m == most && a.n < best.n {
			best, most = a, m
		}
	}
	return best
}

// drop leaves out those whose interval lies below that of the best.
func (x *search) drop() {
	best := x.best()
	if best == nil {
		return
	}
	top := best.score()
	least := x.leastRuns()
	for _, a := range x.arms {
		if a == best || !a.live() {
			continue
		}
		v := a.score()
		runs := min(v.Runs, top.Runs, len(margins)-1)
		if runs < least || v.High >= top.Low*(1-margins[runs]) {
			continue
		}
		// The knee is still to be found where the line runs through an interval.
		if v.Runs < measured.Fewest && v.Low < enough*top.High && v.High > enough*top.Low {
			continue
		}
		a.dropped = true
	}
}

// leastRuns is how many runs it takes to judge an arm.
func (x *search) leastRuns() int {
	if x.short() {
		return 1
	}
	return 2
}

// known: another run of the arm would not tell more.
func (x *search) known(a *arm) bool {
	return len(a.scores) >= mostRuns || len(a.scores) >= measured.Fewest && a.score().Width() <= x.s.width()
}

func (x *search) needed(a *arm) bool {
	return a.live() && len(a.scores) < mostRuns && (!x.known(a) || a == x.best())
}

// settled reports whether the search is over, if no counts are to be added.
func (x *search) settled() bool {
	live := 0
	for _, a := range x.arms {
		if a.live() {
			live++
		}
	}
	for _, a := range x.arms {
		switch {
		case !a.live():
		case len(a.scores) < measured.Fewest:
			return false
		case live > 1 && !x.known(a):
			return false
		}
	}
	return true
}

// tiedByRuns reports whether the search ended for want of more runs.
func (x *search) tiedByRuns() bool {
	return slices.ContainsFunc(x.arms, func(a *arm) bool { return a.live() && len(a.scores) >= mostRuns && a.score().Width() > x.s.width() })
}

// refine adds counts beside the best of each placement, and around the knee.
func (x *search) refine() (added bool) {
	best := x.best()
	least := x.leastRuns()
	if best == nil || len(best.scores) < least {
		return false
	}
	for i := range x.places {
		name := x.places[i].Name
		on := x.of(name)
		if slices.ContainsFunc(on, func(a *arm) bool { return a.live() && len(a.scores) < least }) {
			continue
		}
		top := x.bestOf(func(a *arm) bool { return slices.Contains(a.names, name) })
		if top == nil {
			continue
		}
		if x.refineAt(on, top) {
			added = true
		}
	}
	return added
}

// of are the arms of a placement that have been tried, by count.
func (x *search) of(name string) []*arm {
	var on []*arm
	for _, a := range x.arms {
		if slices.Contains(a.names, name) {
			on = append(on, a)
		}
	}
	slices.SortFunc(on, func(a, b *arm) int { return a.n - b.n })
	return on
}

func (x *search) refineAt(on []*arm, top *arm) (added bool) {
	peak := top.score().Median
	at := slices.Index(on, top)
	between := func(low, high int) {
		if n, ok := x.counts.between(low, high); ok && x.addCount(n) {
			added = true
		}
	}
	// Where it is flat, a count in between is no better.
	flat := func(a *arm) bool { return len(a.scores) > 0 && a.score().Median >= peak*(1-near) }
	if at > 0 && !flat(on[at-1]) {
		between(on[at-1].n, top.n)
	}
	if at < len(on)-1 && !flat(on[at+1]) {
		between(top.n, on[at+1].n)
	}
	if at == len(on)-1 && (at == 0 || !flat(on[at-1])) && top.n == x.counts.all[len(x.counts.all)-1] && x.best() == top {
		if n, ok := x.counts.grow(); ok && x.addCount(n) {
			added = true
		}
	}
	for i, a := range on[:at] {
		if len(a.scores) > 0 && a.score().Median >= enough*peak {
			if i > 0 {
				between(on[i-1].n, a.n)
			}
			return added
		}
	}
	return added
}
