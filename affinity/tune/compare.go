//go:build linux

package tune

import (
	"fmt"
	"slices"
	"strings"

	"berth/affinity/measured"
	"berth/probe/difference"
)

// Compare tells what differs between two searches: the best number of workers,
// the knee, the fitted law, and every point that both measured. That the best is
// another counts as a change only where neither search calls the other's best as
// good as its own. An error means that they did not measure the same thing.
func Compare(a, b *Report) (*difference.Report, error) {
	if a.Metric != b.Metric || a.Better != b.Better || a.Unit != b.Unit {
		return nil, fmt.Errorf("one search is by %s and the other by %s: their figures say nothing of each other", metricOf(a), metricOf(b))
	}
	r := difference.New()
	r.Word("fingerprint", a.Fingerprint, b.Fingerprint)
	r.Word("command", strings.Join(a.Command, " "), strings.Join(b.Command, " "))
	r.Word("verdict", string(a.Verdict), string(b.Verdict))
	r.Figure("budget_cpus", "cpus", a.BudgetCPUs, b.BudgetCPUs)
	compareBest(r, a, b)
	choice := func(name string, a, b *Choice) {
		if a != nil && b != nil && a.bare() != b.bare() { // of medians: chance moves them
			r.Rows = append(r.Rows, difference.Row{Name: name, A: a.words(), B: b.words(), Verdict: difference.Unjudged})
		} else if a != nil && b != nil {
			r.Same = append(r.Same, name)
		}
	}
	choice("knee", a.Knee, b.Knee)
	if a.USL != nil && b.USL != nil {
		r.Once("usl_sigma", "", &a.USL.Sigma, &b.USL.Sigma)
		r.Once("usl_kappa", "", &a.USL.Kappa, &b.USL.Kappa)
	}
	comparePoints(r, a, b)
	return r, nil
}

func metricOf(r *Report) string {
	text := r.Metric
	if r.Unit != "" {
		text += " in " + r.Unit
	}
	return text + " (" + r.Better + " is better)"
}

func compareBest(r *difference.Report, a, b *Report) {
	x, y := a.Best, b.Best
	switch {
	case x == nil || y == nil:
		r.Unknown = append(r.Unknown, "best")
		return
	case x.bare() == y.bare():
		r.Same = append(r.Same, "best")
		return
	}
	row := difference.Row{Name: "best", A: x.words(), B: y.words(), Verdict: difference.Changed}
	if a.ties(y) || b.ties(x) {
		row.Verdict = difference.NotSeen
		row.Why = "each search, or one, cannot tell the two apart"
	}
	r.Rows = append(r.Rows, row)
}

// ties reports whether a choice is as good as the best, as far as is known.
func (r *Report) ties(c *Choice) bool {
	return slices.ContainsFunc(r.Tied, func(t Choice) bool { return t.bare() == c.bare() })
}

// named is what a choice is told by.
type named struct {
	n         int
	placement string
}

func (c *Choice) bare() named { return named{c.N, c.Placement} }

func (c *Choice) words() string { return fmt.Sprintf("%d on %s", c.N, c.Placement) }

func comparePoints(r *difference.Report, a, b *Report) {
	was := map[named]*measured.Value{}
	for _, p := range a.Points {
		if p.Value != nil {
			was[named{p.N, p.Placement}] = p.Value
		}
	}
	name := func(p *Point) string { return fmt.Sprintf("points[%d,%s]", p.N, p.Placement) }
	for i := range b.Points {
		p := &b.Points[i]
		if p.Value == nil {
			continue
		}
		key := named{p.N, p.Placement}
		measured.Compare(r, name(p), a.Unit, was[key], p.Value)
		delete(was, key)
	}
	for i := range a.Points {
		if p := &a.Points[i]; was[named{p.N, p.Placement}] != nil {
			r.Unknown = append(r.Unknown, name(p))
		}
	}
}
