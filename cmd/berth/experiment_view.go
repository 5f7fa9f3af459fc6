//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/affinity"
	"berth/affinity/experiment"
	"berth/affinity/measured"
	"berth/probe/finding"
)

// opening is the answer in a sentence or two, and before it, where there is none
// to rely on, that and why. An empty answer is none at all.
func opening(p *page, r *experiment.Report, answer string) {
	if r.Verdict != affinity.Measured {
		loudly(p, "INCONCLUSIVE: "+whyInconclusive(r)+".")
		if answer != "" {
			answer = "Not to be relied on: " + answer
		}
	} else if answer == "" {
		answer = "Nothing was measured."
	}
	if answer != "" {
		answered(p, answer)
	}
	if s := noiseLine(r); s != "" {
		p.wrapped(s, " ", "")
	}
}

func loudly(p *page, text string) {
	for _, line := range wrap(text, " ", p.width) {
		p.line(p.paint(yellow, line))
	}
}

func answered(p *page, text string) {
	for _, line := range wrap(text, " ", p.width) {
		p.line(p.paint(bold, line))
	}
}

func whyInconclusive(r *experiment.Report) string {
	has := func(code string) bool {
		return slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Code == code })
	}
	var why []string
	if has(experiment.FindInterrupted) {
		why = append(why, "it was ended before enough was known")
	}
	if f := tooNoisy(r); r.Trials == 0 {
		why = append(why, "no trial came to its end; give it more time by --time")
	} else if f != nil {
		why = append(why, f.Message)
	}
	switch {
	case len(why) > 0:
		return strings.Join(why, "; ")
	case has(experiment.FindFew):
		return "the time was up before there were enough trials; give it more by --time"
	case has(experiment.FindWide):
		return "the time was up before the medians were known well enough; give it more by --time"
	}
	return "too little was undisturbed to know"
}

// tooNoisy is the finding that noise left no result; nil: it was not noise.
func tooNoisy(r *experiment.Report) *finding.Finding {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Code == experiment.FindNoisy && f.Severity == finding.Warning {
			return f
		}
	}
	return nil
}

// noiseLine says how quiet it was; empty: quiet, or said already.
func noiseLine(r *experiment.Report) string {
	var parts []string
	add := func(share *float64, what string) {
		if share != nil && *share >= 0.5 {
			parts = append(parts, what+" "+decimal(*share, 1)+" % of the CPUs' time")
		}
	}
	if tooNoisy(r) == nil {
		if r.Disturbed > 0 {
			parts = append(parts, fmt.Sprintf("%d of %s disturbed and not counted", r.Disturbed, count(r.Trials, "trial")))
		}
		add(r.Noise.OtherBusyPct, "other programs took")
	}
	add(r.Noise.StealPct, "the host took")
	if ms := r.Noise.ThrottledMS; ms != nil && *ms > 0 {
		parts = append(parts, "a quota stopped it for "+decimal(*ms, 0)+" ms")
	}
	if len(parts) == 0 {
		return ""
	}
	return "Noise: " + strings.Join(parts, " · ") + "."
}

// closing is what was done, expected and seen, and what that means, a row each;
// then what the reader should know besides.
func closing(p *page, r *experiment.Report, rows [][2]string) {
	p.heading("What this says")
	done := fmt.Sprintf(" On %s, %s in %s s", cpuWord(r.CPUSet), count(r.Trials, "trial"), decimal(r.WallS, 1))
	if r.WallS >= 10 {
		done = fmt.Sprintf(" On %s, %s in %.0f s", cpuWord(r.CPUSet), count(r.Trials, "trial"), r.WallS)
	}
	if r.Trials > 0 {
		rows[0][1] += done + "."
	}
	explain(p, rows)
	findingSection(p, shortEvidence(r.Findings), true)
}

// nothingYet is the advice of what is inconclusive.
const nothingYet = "Nothing yet: measure again when the machine is quiet."

// explain prints texts beside their names.
func explain(p *page, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, runes(r[0]))
	}
	indent := strings.Repeat(" ", width+4)
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		for i, line := range wrap(r[1], " ", p.width-len(indent)) {
			if i == 0 {
				p.line("  " + p.paint(dim, r[0]) + indent[2+runes(r[0]):] + line)
			} else {
				p.line(indent + line)
			}
		}
	}
}

// shortEvidence leaves a few pieces to each finding.
func shortEvidence(found []finding.Finding) []finding.Finding {
	const most = 3
	found = slices.Clone(found)
	for i := range found {
		if e := found[i].Evidence; len(e) > most+1 {
			found[i].Evidence = append(slices.Clone(e[:most]), fmt.Sprintf("and %d more: -o json has them", len(e)-most))
		}
	}
	return found
}

// fitted prints rows in columns; those named are left out, the first first,
// until the table is narrow enough.
func fitted(p *page, rows [][]string, spare ...int) {
	wide := func() int {
		sum := 0
		for c := range rows[0] {
			w := 0
			for _, r := range rows {
				w = max(w, runes(r[c]))
			}
			if w > 0 {
				sum += w + 2
			}
		}
		return sum
	}
	for c := range rows[0] { // a heading of nothing
		if !slices.ContainsFunc(rows[1:], func(r []string) bool { return r[c] != "" }) {
			rows[0][c] = ""
		}
	}
	for _, c := range spare {
		if wide() <= p.width {
			break
		}
		for _, r := range rows {
			r[c] = ""
		}
	}
	p.table(rows)
}

// skippedSection says what was not measured and why, what has one reason
// together.
func skippedSection(p *page, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	p.heading("Not measured")
	var whys []string
	whats := map[string][]string{}
	for _, r := range rows {
		if whats[r[1]] == nil {
			whys = append(whys, r[1])
		}
		if !slices.Contains(whats[r[1]], r[0]) {
			whats[r[1]] = append(whats[r[1]], r[0])
		}
	}
	for _, why := range whys {
		p.wrapped("  · "+strings.Join(whats[why], ", ")+": "+why, " ", "    ")
	}
}

func skippedModes(skipped []experiment.Skipped) [][2]string {
	var rows [][2]string
	for _, s := range skipped {
		what := modeInWords(s.Mode, 0)
		if s.Carrier != "" {
			what += " by " + string(s.Carrier)
		}
		rows = append(rows, [2]string{what, s.Why})
	}
	return rows
}

// inUnit is a value with its interval in a unit; nil is nothing.
func inUnit(v *measured.Value, unit string) string {
	if v == nil || v.Runs == 0 {
		return ""
	}
	if unit == "" {
		return v.String()
	}
	return v.String() + " " + unit
}

// unsure marks a figure that is not to be relied on: beside it, or where there is
// no room in its place.
func unsure(p *page, figure string) (instead, beside string) {
	const mark = string(affinity.Inconclusive)
	if p.width < 80 {
		return mark, ""
	}
	return figure, mark
}

// spans reports whether the interval of a value has a point on both sides.
func spans(v measured.Value, at float64) bool { return v.Low < at && v.High > at }

// rate is a number per second with a prefix of the SI.
func rate(x float64, unit string) string {
	prefix := ""
	for _, larger := range [...]string{"k", "M", "G", "T"} {
		if math.Abs(x) < 999.5 {
			break
		}
		x, prefix = x/1000, larger
	}
	if prefix == "" {
		return decimal(x, places(x)) + " " + unit
	}
	return decimal(x, places(x)) + " " + prefix + " " + unit
}

// numeral is a number as a sentence begins with it.
func numeral(n int) string {
	words := [...]string{"No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve"}
	if n >= 0 && n < len(words) {
		return words[n]
	}
	return strconv.Itoa(n)
}

func small(n int) string { return strings.ToLower(numeral(n)) }

// sentences puts together those that there are.
func sentences(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), " ")
}
