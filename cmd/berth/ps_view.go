//go:build linux

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/affinity"
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// psShape is how many there are in the machine of what a thread's place is
// told by; of one alone nothing is said.
type psShape struct{ cores, llcs, nodes, kinds int }

// psView shows what berth ps saw to a person.
type psView struct {
	*psDocument
	shape psShape
	idle  bool // show idle threads too
	clock bool // say when it was
}

// idleBelow is how many per cent of the interval a thread runs and waits, if it
// is idle.
const idleBelow = 1

func (t *psThread) wanted() float64 { return orZero(t.OnCPUPct) + orZero(t.WaitingPct) }

func orZero(x *float64) float64 {
	if x == nil {
		return 0
	}
	return *x
}

// remedies say what each conflict is, and what to do.
var remedies = [...]struct {
	of   affinity.Conflict
	text string
}{
	{affinity.Queued, "It takes turns with another thread on one CPU (--all shows those of others): give each a CPU of its own (berth pin --each), or run fewer."},
	{affinity.SharesSibling, "A sibling of its CPU, on the same core, is busy too, and both are slower for it: give each a core of its own if there are as many."},
	{affinity.SharesCore, "A core that it may use is idle meanwhile: pin it there (berth pin)."},
	{affinity.OutsideCPUSet, "It may run on CPUs that the cpuset of its control group leaves out: set its mask anew (berth pin), or mend the cpuset."},
	{affinity.OfflineCPU, "The CPUs that it may run on are offline, and when it wakes the kernel puts it on any: bring them online, or choose others (berth pin)."},
	{affinity.RemoteMemory, "More than half of its process's memory, and at least 16 MiB, lies on other NUMA nodes than its CPU: bring them together (berth pin -c, or --mem)."},
	{affinity.IRQHeavy, "Its CPU serves interrupts a fifth of the time or more: sit elsewhere, or send them elsewhere (/proc/irq/*/smp_affinity)."},
}

// text is the view in at most so many lines, or about that.
func (v *psView) text(s screen, lines int) string {
	var b strings.Builder
	out := bufio.NewWriter(&b)
	v.print(&page{w: out, screen: s}, lines)
	out.Flush()
	return b.String()
}

// print shows the threads, busy ones first, then what their conflicts mean.
// Above 0, lines is for how many there is room; threads are left out then.
func (v *psView) print(p *page, lines int) {
	rows := v.rows()
	table := v.table(rows, p.screen)
	remarks := v.remarks(p.screen, len(rows), table.dropped, true)
	if lines > 0 && strings.Count(remarks, "\n") > lines/2 {
		remarks = v.remarks(p.screen, len(rows), table.dropped, false)
	}

	summary := wrap(v.summary(), " · ", p.width)
	for _, line := range summary {
		p.line(p.paint(bold, line))
	}
	if len(rows) > 0 {
		p.gap()
		p.line(table.head())
	}
	room := lines - len(summary) - strings.Count(remarks, "\n") - 4 // two gaps, the head, and that there are more
	for i, t := range rows {
		row := table.row(i)
		if room -= len(row); lines > 0 && room < 0 && i > 0 {
			p.line("  … and " + count(len(rows)-i, "more thread"))
			break
		}
		for _, line := range row {
			if t.wanted() < idleBelow {
				line = p.paint(dim, line)
			}
			p.line(line)
		}
	}
	if remarks != "" {
		p.gap()
		_, _ = p.w.WriteString(remarks)
	}
}

// rows are the threads to show: the busy ones, then the others, each core by
// core.
func (v *psView) rows() []*psThread {
	var rows []*psThread
	for i := range v.Threads {
		if t := &v.Threads[i]; v.idle || t.wanted() >= idleBelow || len(t.Conflicts) > 0 {
			rows = append(rows, t)
		}
	}
	slices.SortStableFunc(rows, func(a, b *psThread) int {
		return cmp.Or(
			-compareBool(a.Busy, b.Busy),
			compareKnown(a.Core, b.Core),
			compareKnown(a.CPU, b.CPU),
			-cmp.Compare(a.wanted(), b.wanted()),
		)
	})
	return rows
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// compareKnown puts what is unknown last.
func compareKnown[T cmp.Ordered](a, b *T) int {
	if a == nil || b == nil {
		return compareBool(a == nil, b == nil)
	}
	return cmp.Compare(*a, *b)
}

// summary is the answer in a line.
func (v *psView) summary() string {
	var parts []string
	if v.clock {
		parts = append(parts, v.MeasuredAt.Format(time.TimeOnly))
	}
	if len(v.Threads) == 0 {
		return strings.Join(append(parts, "no thread to show"), " · ")
	}
	busy, unhappy := 0, 0
	cpus, cores := map[cpuset.CPU]bool{}, map[topology.CoreIndex]bool{}
	for i := range v.Threads {
		t := &v.Threads[i]
		if len(t.Conflicts) > 0 {
			unhappy++
		}
		if !t.Busy {
			continue
		}
		busy++
		if t.CPU != nil {
			cpus[*t.CPU] = true
		}
		if t.Core != nil {
			cores[*t.Core] = true
		}
	}
	head := fmt.Sprintf("%d of %s busy", busy, count(len(v.Threads), "thread"))
	switch {
	case len(cores) > 0:
		head += fmt.Sprintf(", on %d of %s", len(cores), count(v.shape.cores, "core"))
	case len(cpus) > 0:
		head += ", on " + count(len(cpus), "CPU")
	}
	conflicts := "no conflict"
	if unhappy > 0 {
		conflicts = count(unhappy, "thread") + " in conflict"
	}
	digits := 1
	if v.IntervalS < 0.5 {
		digits = 2
	}
	parts = append(parts, head, conflicts, "seen for "+decimal(v.IntervalS, digits)+" s")
	if v.Verdict != affinity.Measured {
		parts = append(parts, "not all was seen")
	}
	return strings.Join(parts, " · ")
}

// remarks say what was left out, what the conflicts mean and what was found.
func (v *psView) remarks(s screen, shown int, dropped []string, explain bool) string {
	var b strings.Builder
	p := &page{screen: s, w: bufio.NewWriter(&b)}
	if n := len(v.Threads) - shown; n > 0 {
		p.wrapped(fmt.Sprintf("  %s left out; --idle shows all", count(n, "idle thread")), " ", "  ")
	}
	if len(dropped) > 0 {
		p.wrapped("  No room for "+strings.Join(dropped, ", ")+"; -o json has all", " ", "  ")
	}
	seen := map[affinity.Conflict]bool{}
	for i := range v.Threads {
		for _, c := range v.Threads[i].Conflicts {
			seen[c] = true
		}
	}
	if len(seen) > 0 && explain {
		p.gap()
		for _, r := range remedies {
			if seen[r.of] {
				mark := "! " + string(r.of)
				lines := wrap(mark+"  "+r.text, " ", p.width-2)
				lines[0] = p.paint(yellow, mark) + strings.TrimPrefix(lines[0], mark)
				p.line(strings.Join(lines, "\n  "))
			}
		}
	}
	findingSection(p, v.Findings, false)
	p.w.Flush()
	return b.String()
}
