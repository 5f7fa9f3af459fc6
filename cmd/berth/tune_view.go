//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/affinity/tune"
	"berth/probe/finding"
)

// tuneView says what is best, then shows every point, then what that means.
func tuneView(p *page, rep *tune.Report) {
	best := pointOf(rep, rep.Best)
	answer := tuneAnswer(rep, best)
	if rep.Verdict != affinity.Measured {
		loudly(p, "INCONCLUSIVE: "+tuneDoubts(rep)+".")
		answer = "Not to be relied on: " + answer
	}
	answered(p, answer)
	p.gap()
	tunePlot(p, rep)
	p.heading("What this says")
	explain(p, [][2]string{
		{"done", tuneDone(rep)},
		{"law", lawInWords(rep)},
		{"advised", adviceInWords(rep)},
	})
	findingSection(p, shortEvidence(slices.DeleteFunc(slices.Clone(rep.Findings), func(f finding.Finding) bool {
		return rep.Verdict != affinity.Measured && doubtful(f)
	})), true)
}

// doubtful findings are said first.
func doubtful(f finding.Finding) bool { return f.Code == tune.FindNoisy || f.Code == tune.FindFew }

func tuneDoubts(rep *tune.Report) string {
	var why []string
	if rep.Stopped == tune.Interrupted {
		why = append(why, "it was ended early")
	}
	for _, f := range rep.Findings {
		if doubtful(f) {
			why = append(why, f.Message)
		}
	}
	return strings.Join(why, "; ")
}

func pointOf(rep *tune.Report, c *tune.Choice) *tune.Point {
	if c == nil {
		return nil
	}
	for i := range rep.Points {
		if q := &rep.Points[i]; q.N == c.N && q.Placement == c.Placement {
			return q
		}
	}
	return nil
}

func tuneAnswer(rep *tune.Report, best *tune.Point) string {
	said := choiceInWords(rep, rep.Best)
	verb := "do"
	if rep.Best.N == 1 {
		verb = "does"
	}
	line := fmt.Sprintf("%s %s best: %s", said, verb, tuneFigure(rep, best.Value))
	if i := slices.IndexFunc(rep.Points, func(q tune.Point) bool { return q.N == 1 && q.Value != nil }); i >= 0 && rep.Best.N > 1 {
		one := rep.Points[i].Value.Median
		if rep.Better == "lower" {
			line += ", and one gives " + figureIn(one, one)
		} else {
			line += fmt.Sprintf(", %s times that of one", short(best.Value.Median/one))
		}
	}
	line += "."
	if f := rep.Fewest; f != nil {
		line += fmt.Sprintf(" %s may do as well.", choiceInWords(rep, f))
	}
	if k := rep.Knee; k != nil && k.N < rep.Best.N && (rep.Fewest == nil || k.N < rep.Fewest.N) {
		line += fmt.Sprintf(" The knee is at %d: 95 %% of the best with the fewest workers.", k.N)
	}
	return line
}

func choiceInWords(rep *tune.Report, c *tune.Choice) string {
	s := count(c.N, "worker")
	if manyPlacements(rep) {
		s += ", placement " + c.Placement + ","
	}
	return s
}

func manyPlacements(rep *tune.Report) bool {
	return slices.ContainsFunc(rep.Points, func(q tune.Point) bool { return q.Placement != rep.Points[0].Placement })
}

func tuneFigure(rep *tune.Report, v *measured.Value) string {
	s := figureIn(v.Median, v.Median)
	if v.Low != v.High {
		s += " [" + figureIn(v.Low, v.Median) + ", " + figureIn(v.High, v.Median) + "]"
	}
	if rep.Unit != "" {
		s += " " + rep.Unit
	}
	return s
}

// figureIn is a number in as many digits as one of its size has.
func figureIn(x, size float64) string {
	if size >= 1e9 || size < 1e-4 {
		return strconv.FormatFloat(x, 'g', 4, 64)
	}
	return strconv.FormatFloat(x, 'f', places(size), 64)
}

// tunePlot is a row for each point with a bar: full up to the low end of the
// interval, shaded up to the high end.
func tunePlot(p *page, rep *tune.Report) {
	rows := [][]string{{"workers", "place", "CPUs", "per second", "runs", ""}}
	if rep.Unit == "" {
		rows[0][3] = "value"
	} else {
		rows[0][3] = rep.Unit
	}
	most := 0.0
	for _, q := range rep.Points {
		row := []string{strconv.Itoa(q.N), q.Placement, cpuList(q.CPUs), "failed", "", ""}
		if q.CutS != nil {
			row[3] = "cut"
		}
		if q.Value != nil {
			row[3] = tuneFigure(&tune.Report{}, q.Value)
			row[4] = strconv.Itoa(q.Value.Runs)
			most = max(most, q.Value.High)
		}
		rows = append(rows, row)
	}
	if !manyPlacements(rep) {
		for _, r := range rows {
			r[1], r[2] = "", ""
		}
	}
	alignRight(rows, 0, 4)
	wide := func() int {
		most := 0
		for _, r := range rows {
			w := 2
			for _, cell := range r[:5] {
				if cell != "" {
					w += runes(cell) + 2
				}
			}
			most = max(most, w)
		}
		return most
	}
	const least = 6 // columns of a bar
	marked := 0
	for i := range rep.Points {
		if m := tuneMarks(rep, &rep.Points[i]); m != "" {
			marked = max(marked, runes(m)+4)
		}
	}
	if wide() > p.width-marked-least { // the bar is worth more than the CPUs
		for _, r := range rows {
			r[2] = ""
		}
	}
	room := min(40, p.width-wide()-marked)
	for i, q := range rep.Points {
		bar := ""
		switch {
		case q.Failed != nil:
			bar = q.Failed.Why
		case q.Value == nil && q.CutS != nil:
			bar = "stopped after " + decimal(*q.CutS, 1) + " s: too slow"
		case q.Value != nil && room >= least:
			full := int(math.Round(q.Value.Low / most * float64(room)))
			all := int(math.Round(q.Value.High / most * float64(room)))
			bar = strings.Repeat("█", full) + strings.Repeat("░", all-full)
		}
		if m := tuneMarks(rep, &q); m != "" {
			bar = strings.TrimSpace(bar + "  ← " + m)
		}
		rows[i+1][5] = bar
	}
	p.table(rows)
}

func tuneMarks(rep *tune.Report, q *tune.Point) string {
	is := func(c *tune.Choice) bool { return c != nil && c.N == q.N && c.Placement == q.Placement }
	var marks []string
	if is(rep.Best) {
		marks = append(marks, "best")
	}
	if is(rep.Knee) {
		marks = append(marks, "knee")
	}
	if a := rep.Advised; a != nil && a.N == q.N && a.Placement == q.Placement {
		marks = append(marks, "advised")
	}
	return strings.Join(marks, ", ")
}

func tuneDone(rep *tune.Report) string {
	why := map[tune.Stop]string{tune.Settled: "the best is known", tune.OutOfTime: "the time was up", tune.Interrupted: "it was interrupted",
		tune.OutOfRuns: "more runs did not tell those that are left apart"}[rep.Stopped]
	return fmt.Sprintf("%s of %s in %s s; it ended because %s. Figures are medians with the 95 %% interval.", count(rep.Runs, "run"), count(len(rep.Points), "point"),
		decimal(rep.WallS, 1), why)
}

func lawInWords(rep *tune.Report) string {
	l := rep.USL
	if l == nil {
		return ""
	}
	least := math.Inf(1)
	for _, q := range rep.Points {
		if q.Placement == l.Placement && q.Value != nil {
			least = min(least, float64(q.N))
		}
	}
	of := "one worker " + figureIn(l.Lambda, l.Lambda) + ", "
	if least > 1 {
		of = "one worker, which was not measured, " + figureIn(l.Lambda, l.Lambda) + ", "
	}
	if rep.Better == "lower" { // the law is of the inverse
		of = ""
	}
	text := fmt.Sprintf("Universal Scalability Law: %scontention σ %.3g, coherence κ %.3g, R² %.3f", of, l.Sigma, l.Kappa, l.R2)
	switch peak := l.Peak(); {
	case math.IsInf(peak, 1) && l.Sigma == 0:
		text += "; it has no peak and no limit"
	case math.IsInf(peak, 1) && of == "":
		text += "; it has no peak"
	case math.IsInf(peak, 1):
		text += fmt.Sprintf("; it has no peak, and nears %s", figureIn(l.Lambda/l.Sigma, l.Lambda/l.Sigma))
	case peak < least:
		text += "; its peak is below the counts that were measured"
	default:
		text += fmt.Sprintf("; its peak is at %s workers", decimal(peak, 1))
		if peak == 1 {
			text = strings.TrimSuffix(text, "s")
		}
	}
	if manyPlacements(rep) {
		text += "; for placement " + l.Placement
	}
	return text + "."
}

func adviceInWords(rep *tune.Report) string {
	a := rep.Advised
	if a == nil {
		return ""
	}
	text := count(a.N, "worker") + ", placement " + a.Placement
	switch {
	case a.Outside:
		return text + ": beyond the counts of -n, so it was not tried."
	case a.RegretPct == nil:
		return text + ", which gave no value here."
	case *a.RegretPct == 0:
		return text + ": as good as the best."
	}
	text += fmt.Sprintf(": %s %% less than the best", decimal(*a.RegretPct, 1))
	if a.Interpolated {
		text += ", as the law has it"
	}
	return text + "."
}
