//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/affinity"
	"berth/affinity/experiment"
	"berth/affinity/experiment/kernel"
	"berth/affinity/measured"
)

// modesView says what several workers do, then shows it, then what it means.
func modesView(p *page, rep *experiment.ModesReport) {
	opening(p, &rep.Report, modesAnswer(rep))
	modesTable(p, rep)
	derivedSection(p, rep)
	skippedSection(p, skippedModes(rep.Skipped))
	var about []string
	for _, k := range modesKernels(rep) {
		about = append(about, k+" is "+kernel.Describe(k))
	}
	done := "Workers did the same work in each way to sit, in a new order every round, and each was checked against its seat."
	if len(about) > 0 {
		done += " Work: " + strings.Join(about, "; ") + "."
	}
	closing(p, &rep.Report, [][2]string{
		{"done", done},
		{"expected", "A core each: as many times the work of one as there are cores. Siblings: more than one core's work, less than two. Too many: the same work in all, and less of it for each; more of it where workers wait."},
		{"seen", modesSeen(rep)},
		{"for a pool", modesAdvice(rep)},
	})
}

func modesKernels(rep *experiment.ModesReport) []string {
	var names []string
	for _, r := range rep.Runs {
		if !slices.Contains(names, r.Kernel) {
			names = append(names, r.Kernel)
		}
	}
	return names
}

// modesRun is the first run of a mode and kernel; nil: there is none.
func modesRun(rep *experiment.ModesReport, mode experiment.Mode, kernel string) *experiment.ModeRun {
	for i := range rep.Runs {
		if r := &rep.Runs[i]; r.Mode == mode && r.Kernel == kernel && r.Carrier != experiment.Async {
			return r
		}
	}
	for i := range rep.Runs {
		if r := &rep.Runs[i]; r.Mode == mode && r.Kernel == kernel {
			return r
		}
	}
	return nil
}

func modesAnswer(rep *experiment.ModesReport) string {
	names := modesKernels(rep)
	if len(names) == 0 {
		return ""
	}
	k := names[0]
	var parts []string
	if r := modesRun(rep, experiment.Parallel, k); r != nil && r.Relative.Runs > 0 {
		parts = append(parts, fmt.Sprintf("%s cores do %s times the work of one", small(r.Workers), short(r.Relative.Median)))
	}
	if r := modesRun(rep, experiment.SMT, k); r != nil && r.Relative.Runs > 0 {
		parts = append(parts, fmt.Sprintf("the siblings of one core do %s times the work of one alone", short(r.Relative.Median)))
	}
	if c, ok := rep.Derived.OversubscriptionCostPct[k]; ok {
		if r := modesRun(rep, experiment.Oversubscribed, k); r != nil {
			parts = append(parts, fmt.Sprintf("%s workers on each CPU %s", small(r.PerCPU), costInWords(c)))
		}
	}
	if len(parts) == 0 && slices.ContainsFunc(rep.Runs, func(r experiment.ModeRun) bool { return r.Mode != experiment.Alone }) {
		return ""
	}
	if len(parts) == 0 {
		return fmt.Sprintf("One worker alone does its work (%s), and there is nothing to compare it with.", k)
	}
	line := strings.Join(parts, "; ")
	return strings.ToUpper(line[:1]) + line[1:] + " (" + k + ")."
}

// costInWords tells a loss of throughput, in per cent, or a gain.
func costInWords(c measured.Value) string {
	switch {
	case spans(c, 0):
		return "make no difference that shows"
	case c.Median >= -0.05 && c.Median < 0.05:
		return "cost next to nothing"
	case c.Median >= 0:
		return "cost " + decimal(c.Median, 1) + " %"
	case c.Median <= -100:
		return "do " + short(1-c.Median/100) + " times as much"
	}
	return "gain " + decimal(-c.Median, 1) + " %"
}

func percent(v measured.Value) measured.Value {
	return measured.Value{Median: 100 * v.Median, Low: 100 * v.Low, High: 100 * v.High, Runs: v.Runs}
}

// short is a ratio in three digits.
func short(x float64) string { return strconv.FormatFloat(x, 'f', max(0, min(2, places(x))), 64) }

func modesTable(p *page, rep *experiment.ModesReport) {
	if len(rep.Runs) == 0 {
		return
	}
	p.gap()
	rows := [][]string{{"kernel", "by", "mode", "workers", "CPUs", "× one alone", "in all, per s", "switches/s", "least share", "GHz", ""}}
	for i, r := range rep.Runs {
		row := []string{r.Kernel, string(r.Carrier), modeInWords(r.Mode, r.PerCPU), strconv.Itoa(r.Workers), cpuList(r.CPUs), inUnit(&r.Relative, ""),
			"", "", "", "", ""}
		if i > 0 && rep.Runs[i-1].Kernel == r.Kernel && rep.Runs[i-1].Carrier == r.Carrier {
			row[0], row[1] = "", ""
		}
		if r.Mode == experiment.Alone && row[5] != "" {
			row[5] = "1"
		}
		if r.Throughput.Runs > 0 {
			row[6] = rate(r.Throughput.Median, r.Unit)
		}
		if r.Switches.Runs > 0 {
			row[7] = decimal(r.Switches.Median, 0)
		}
		if r.LeastShare.Runs > 0 && r.Workers > 1 {
			row[8] = decimal(100*r.LeastShare.Median, 0) + " %"
		}
		if r.ClockGHz != nil {
			row[9] = fmt.Sprintf("%.2f", r.ClockGHz.Median)
		}
		if r.Verdict != affinity.Measured {
			row[5], row[10] = unsure(p, row[5])
		}
		rows = append(rows, row)
	}
	alignRight(rows, 3, 7, 8, 9)
	fitted(p, rows, 9, 4, 8, 7, 6, 3)
}

// modeInWords is what a reader calls a mode; perCPU is 0 where it does not matter.
func modeInWords(m experiment.Mode, perCPU int) string {
	switch m {
	case experiment.Parallel:
		return "a core each"
	case experiment.SMT:
		return "siblings"
	case experiment.Oversubscribed:
		if perCPU > 0 {
			return fmt.Sprintf("%d on each", perCPU)
		}
		return "too many"
	}
	return string(m)
}

// derivedSection is what follows for each kernel.
func derivedSection(p *page, rep *experiment.ModesReport) {
	rows := [][]string{{"kernel", "a sibling adds", "too many cost"}}
	for _, k := range modesKernels(rep) {
		if r := modesRun(rep, experiment.Oversubscribed, k); r != nil {
			rows[0][2] = fmt.Sprintf("%d on each cost", r.PerCPU)
		}
	}
	for _, k := range modesKernels(rep) {
		row := []string{k, "", ""}
		if y, ok := rep.Derived.SMTYield[k]; ok {
			row[1] = inUnit(new(percent(y)), "%")
		}
		if c, ok := rep.Derived.OversubscriptionCostPct[k]; ok {
			row[2] = inUnit(&c, "%")
		}
		if row[1]+row[2] != "" {
			rows = append(rows, row)
		}
	}
	if len(rows) > 1 {
		p.heading("What follows")
		fitted(p, rows)
	}
}

func modesSeen(rep *experiment.ModesReport) string {
	var out []string
	for _, k := range modesKernels(rep) {
		var parts []string
		if r := modesRun(rep, experiment.Parallel, k); r != nil && r.Relative.Runs > 0 {
			parts = append(parts, fmt.Sprintf("%s of the %d cores' worth", short(r.Relative.Median), r.Workers))
		}
		if y, ok := rep.Derived.SMTYield[k]; ok {
			parts = append(parts, fmt.Sprintf("a sibling adds %s %%", decimal(100*y.Median, 0)))
		}
		if c, ok := rep.Derived.OversubscriptionCostPct[k]; ok {
			parts = append(parts, "too many "+costInWords(c))
		}
		if len(parts) > 0 {
			out = append(out, k+": "+strings.Join(parts, ", ")+".")
		}
	}
	return strings.Join(out, " ")
}

// modesAdvice is what the measurements, and only they, mean for a pool.
func modesAdvice(rep *experiment.ModesReport) string {
	if rep.Verdict != affinity.Measured {
		return nothingYet
	}
	var siblings, alone, waits, costly []string
	for _, k := range modesKernels(rep) {
		if y, ok := rep.Derived.SMTYield[k]; ok {
			switch {
			case y.Low > 0.05 && rep.Derived.OversubscriptionCostPct[k].High > -10:
				siblings = append(siblings, k)
			case y.High < 0.05:
				alone = append(alone, k)
			}
		}
		if c, ok := rep.Derived.OversubscriptionCostPct[k]; ok {
			switch {
			case c.High < -10:
				waits = append(waits, k)
			case c.Low > 2:
				costly = append(costly, k)
			}
		}
	}
	var out []string
	if len(siblings) > 0 {
		out = append(out, "A worker on each CPU, siblings too, for work like "+enumerate(siblings)+".")
	}
	if len(alone) > 0 {
		out = append(out, "A worker on each core, and no more, for work like "+enumerate(alone)+".")
	}
	if len(waits) > 0 {
		out = append(out, "More workers than CPUs for work that waits like "+enumerate(waits)+".")
	}
	if len(costly) > 0 {
		out = append(out, "No more workers than CPUs for work like "+enumerate(costly)+".")
	}
	if len(waits)+len(costly) == 0 && len(rep.Derived.OversubscriptionCostPct) > 0 {
		out = append(out, "More workers than CPUs gain nothing here and cost little throughput, but each waits for its turn: as many as CPUs is enough for work that never waits.")
	}
	return strings.Join(out, " ")
}
