package main

import (
	"bufio"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/advisor"
	"berth/probe"
	"berth/probe/cpuset"
)

type planOptions struct {
	title  string         // of the machine
	around []advisor.Step // the counts near the plan's, if the arithmetic is asked for
	screen screen
}

// planView prints a plan for a person: the answer, then why, what to expect,
// where everybody sits, and what else was thought of.
func planView(w *bufio.Writer, plan *advisor.Plan, m *probe.Machine, o planOptions) error {
	p := &page{w: w, screen: o.screen}
	for _, line := range wrap(planHeadline(plan), ", ", o.screen.width) {
		p.line(p.paint(bold, line))
	}
	p.wrapped(fmt.Sprintf("%s is %s; on the %s it is bound by %s: %s.", plan.Profile, plan.Class, o.title,
		binderInWords(plan.Binding.Name), plan.Binding.Detail), " ", "")
	if !plan.Feasible {
		p.line("")
		p.line(p.paint(yellow, "! Not feasible. What would help:"))
		for _, r := range plan.Remedies {
			p.wrapped("  - "+r, " ", "    ")
		}
	}

	list(p, "Why", plan.Reasons)
	if o.around != nil {
		aroundSection(p, plan, o.around)
	}
	p.heading("Expected")
	p.table(expected(plan))
	seatSection(p, plan, m)
	levelSection(p, plan)
	if len(plan.Rejected) > 0 {
		p.heading("Also possible")
		var rows [][]string
		for _, r := range plan.Rejected {
			name, workers, _ := strings.Cut(r.Option, ": ")
			rows = append(rows, []string{name, workers, r.Why})
		}
		alternatives(p, rows)
	}
	list(p, "Assumed", plan.Assumptions)
	p.heading("Verify")
	p.wrapped("  "+plan.Verify, " ", "    ")
	return p.w.Flush()
}

// aroundSection is a row per count: how the yield grows, and where it stops.
func aroundSection(p *page, plan *advisor.Plan, around []advisor.Step) {
	p.heading("With other counts")
	rows := [][]string{{"workers", "capacity", "speed-up", "tasks/s", "busy %", "wait ms", ""}}
	for _, s := range around {
		y := &s.Predicted
		mark := ""
		if s.Workers == plan.Workers {
			mark = "← the plan"
		}
		workers := strconv.Itoa(s.Workers.Processes) + " × " + strconv.Itoa(s.Workers.Threads*max(1, s.Workers.Inner))
		rows = append(rows, []string{workers, figureCell(y.Capacity, 1), figureCell(y.Speedup, 1), figureCell(y.ThroughputPS, 1),
			figureCell(y.Utilisation, 100), figureCell(y.WaitMS, 1), mark})
	}
	for c := range rows[0][:6] {
		if !slices.ContainsFunc(rows[1:], func(r []string) bool { return r[c] != "" }) {
			rows[0][c] = ""
		}
	}
	alignRight(rows, 0, 1, 2, 3, 4, 5)
	p.table(rows)
}

func planHeadline(plan *advisor.Plan) string {
	line := advisor.Describe(plan.Workers)
	cpus := cpuList(plan.Placement.CPUs)
	if len(cpus) > 60 {
		cpus = shorten(cpus, ",", 60)
	}
	switch plan.Placement.Pin {
	case advisor.PerCore:
		line += ", one per core, on " + cpus
	case advisor.PerCPU:
		line += ", one per CPU, on " + cpus
	case advisor.PerGroup:
		n := 0
		for _, s := range plan.Placement.Seats {
			n += s.CPUs.Len()
		}
		if n > plan.Placement.CPUs.Len() {
			line += ", each process within a group of CPUs, on " + cpus
		} else {
			line += ", each process on CPUs of its own, on " + cpus
		}
	default:
		line += ", not pinned, on any of " + cpus
	}
	return line
}

func binderInWords(b advisor.Binder) string { return strings.ReplaceAll(string(b), "_", " ") }

// expected is what the plan promises, with units.
func expected(plan *advisor.Plan) [][]string {
	var rows [][]string
	y := &plan.Predicted
	add := func(x *float64, name, format string, scale float64) {
		if x != nil {
			rows = append(rows, []string{name, fmt.Sprintf(format, decimal(*x*scale, places(*x*scale)))})
		}
	}
	add(y.ThroughputPS, "throughput", "%s tasks per second", 1)
	add(y.Speedup, "speed-up", "%s × one worker alone", 1)
	add(y.Capacity, "capacity", "%s idle cores of the fastest kind", 1)
	add(y.Utilisation, "utilisation", "%s %%", 100)
	add(y.WaitMS, "queueing wait", "%s ms at the quantile asked for", 1)
	if y.StallMS != nil && *y.StallMS > 0 {
		add(y.StallMS, "stall", "up to %s ms in each quota period", 1)
	}
	if y.Knee != nil {
		rows = append(rows, []string{"knee", fmt.Sprintf("95 %% of the best with %d", *y.Knee)})
	}
	if plan.MemoryMiB != nil {
		rows = append(rows, []string{"memory", memorySize(int64(*plan.MemoryMiB * (1 << 20)))})
	}
	rows = append(rows, []string{"budget", "the time of " + cpuTime(plan.BudgetCPUs) + " CPU" + plural(plan.BudgetCPUs)})
	basis := string(plan.Confidence.Basis) + " figures"
	if s := plan.Confidence.Seconds; s != nil {
		basis += fmt.Sprintf(" for %s s", decimal(*s, 1))
	}
	if l := plan.Confidence.Level; l != nil {
		basis += fmt.Sprintf(", confidence %s", decimal(*l, 2))
	}
	return append(rows, []string{"based on", basis})
}

func plural(n float64) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// places leaves three digits or more of a figure.
func places(x float64) int {
	if x == 0 {
		return 0
	}
	return max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
}

// seatSection draws the seats on the machine's tree.
func seatSection(p *page, plan *advisor.Plan, m *probe.Machine) {
	p.heading("Seats")
	place := &plan.Placement
	p.wrapped("  "+place.Why+".", " ", "  ")
	if len(place.Seats) == 0 {
		return
	}
	shown := *m
	shown.Topology.Allowed = place.CPUs
	t := newTree(&shown.Topology)
	if len(t.tops) == 0 {
		return
	}
	view := treeView{screen: p.screen, machine: &shown, says: seatCounter(plan)}
	p.line("")
	view.print(p, t)
	if len(m.Topology.NUMANodes) > 1 {
		p.wrapped("  Memory from the node beside each seat.", " ", "  ")
	}
}

// seatCounter tells how many seats lie in a set of CPUs.
func seatCounter(plan *advisor.Plan) func(cpuset.Set) string {
	var single []cpuset.CPU
	var wide []cpuset.Set
	for _, s := range plan.Placement.Seats {
		if s.CPUs.Len() == 1 {
			single = append(single, s.CPUs.First())
		} else {
			wide = append(wide, s.CPUs)
		}
	}
	on := cpuset.Of(single...)
	return func(cpus cpuset.Set) string {
		n, part := cpus.Intersect(on).Len(), false
		for _, s := range wide {
			switch {
			case s.SubsetOf(cpus):
				n++
			case s.Overlaps(cpus):
				part = true
			}
		}
		switch {
		case n > 0:
			return count(n, "seat")
		case part:
			return "part of a seat"
		}
		return ""
	}
}

// levelSection is a row for each kind of thread inside a worker.
func levelSection(p *page, plan *advisor.Plan) {
	if len(plan.Levels) == 0 {
		return
	}
	p.heading("Inside each worker")
	var rows [][]string
	widths := make([]int, 3)
	for _, l := range plan.Levels {
		row := []string{string(l.Name), strconv.Itoa(l.Count), l.Setting, string(l.Use) + ": " + l.Why}
		if all := l.Total(plan.Workers); all != l.Count {
			row[1] += fmt.Sprintf(" each, %d in all", all)
		}
		for i := range widths {
			widths[i] = max(widths[i], runes(row[i]))
		}
		rows = append(rows, row)
	}
	if widths[0]+widths[1]+widths[2]+70 <= p.width {
		p.table(rows)
		return
	}
	for _, r := range rows {
		p.wrapped("  "+strings.TrimSuffix(r[0]+": "+r[1]+" · "+r[2], " · "), " ", "    ")
		p.wrapped("      "+r[3], " ", "      ")
	}
}

// alternatives prints rows in columns, or one below the other where the screen
// is too narrow for three.
func alternatives(p *page, rows [][]string) {
	first, second := 0, 0
	for _, r := range rows {
		first, second = max(first, runes(r[0])), max(second, runes(r[1]))
	}
	if first+second+30 <= p.width {
		p.table(rows)
		return
	}
	for _, r := range rows {
		p.wrapped("  "+r[0]+": "+r[1], " ", "    ")
		p.wrapped("      "+r[2], " ", "      ")
	}
}

func list(p *page, heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	p.heading(heading)
	for _, line := range lines {
		p.wrapped("  · "+line, " ", "    ")
	}
}
