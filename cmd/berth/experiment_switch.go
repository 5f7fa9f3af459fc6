//go:build linux

package main

import (
	"fmt"
	"strings"

	"berth/affinity"
	"berth/affinity/experiment"
	"berth/affinity/measured"
)

// switchView shows what it costs to hand over, by means and seats.
func switchView(p *page, rep *experiment.SwitchReport) {
	opening(p, &rep.Report, switchAnswer(rep))
	handOverTable(p, rep.HandOvers)
	if len(rep.TimeSlice) > 0 {
		p.heading("A switch at the end of a time slice, without a wake-up")
		rows := [][]string{{"each thread works on", "a switch adds, µs"}}
		for _, s := range rep.TimeSlice {
			what := "nothing"
			if s.WorkingSet > 0 {
				what = cacheSize(s.WorkingSet)
			}
			rows = append(rows, []string{what, inUnit(&s.US, "")})
		}
		fitted(p, rows)
	}
	skippedSection(p, skippedModes(rep.Skipped))
	closing(p, &rep.Report, [][2]string{
		{"done", "Two threads, and two processes, woke each other in turn; a figure is half a round trip. For the time slice two threads on one CPU yielded to each other, and the same work without a switch was taken off."},
		{"expected", "Microseconds: the kernel puts one to sleep, wakes and picks the other. On another CPU that one must be woken from afar. Processes change address spaces too. A larger working set has to come back into the cache."},
		{"seen", switchSeen(rep)},
		{"for a pool", switchAdvice(rep)},
	})
}

func switchAnswer(rep *experiment.SwitchReport) string {
	var parts []string
	add := func(v *measured.Value, where string) {
		if v != nil && v.Runs > 0 {
			parts = append(parts, short(v.Median)+" µs "+where)
		}
	}
	add(rep.Pinned, "on the same CPU")
	add(rep.CrossCPU, "to another CPU")
	add(rep.Unpinned, "where the kernel puts them")
	if len(parts) == 0 {
		return ""
	}
	answer := "One thread hands over to another by a pipe in " + enumerate(parts)
	if v := rep.ProcessPinned; v != nil && v.Runs > 0 {
		answer += "; one process to another on the same CPU in " + short(v.Median) + " µs"
	}
	return answer + "."
}

func handOverTable(p *page, all []experiment.HandOver) {
	if len(all) == 0 {
		return
	}
	p.heading("One hand-over, µs")
	columns := map[string]int{"pinned": 2, "cross-cpu": 3, "unpinned": 4}
	rows := [][]string{{"by", "between", "one CPU", "two CPUs", "unpinned"}}
	at := map[string]int{}
	for _, h := range all {
		key := fmt.Sprint(h.Means, h.Carrier)
		if at[key] == 0 {
			at[key] = len(rows)
			rows = append(rows, []string{fmt.Sprint(h.Means), string(h.Carrier), "", "", ""})
		}
		if c := columns[h.Seats]; c > 0 {
			us := h.US
			rows[at[key]][c] = inUnit(&us, "")
		}
	}
	fitted(p, rows, 4)
}

func switchSeen(rep *experiment.SwitchReport) string {
	var out []string
	if a, b := rep.Pinned, rep.CrossCPU; a != nil && b != nil && a.Median > 0 {
		out = append(out, fmt.Sprintf("To wake a thread on another CPU takes %s times as long as on the same one.", short(b.Median/a.Median)))
	}
	if a, b := rep.Pinned, rep.ProcessPinned; a != nil && b != nil && a.Median > 0 {
		out = append(out, fmt.Sprintf("Between processes it takes %s times as long as between threads.", short(b.Median/a.Median)))
	}
	if n := len(rep.TimeSlice); n > 1 {
		first, last := rep.TimeSlice[0], rep.TimeSlice[n-1]
		if more := last.US.Median - first.US.Median; more > 0 && last.US.Low > first.US.High {
			out = append(out, fmt.Sprintf("To bring %s back into the cache adds %s µs to a switch.", cacheSize(last.WorkingSet), short(more)))
		}
	}
	return strings.Join(out, " ")
}

func switchAdvice(rep *experiment.SwitchReport) string {
	v := rep.Pinned
	switch {
	case v == nil || v.Median <= 0:
		return ""
	case rep.Verdict != affinity.Measured:
		return nothingYet
	}
	const slice = 3000 // µs: the kernel's base slice is of that order
	return fmt.Sprintf("Taking turns costs little: one switch in a slice of 3 ms is %s %%. Handing over much costs much: 100,000 hand-overs a second fill %s %% of a CPU, so give a worker several tasks at a time when they are short.",
		decimal(100*v.Median/slice, 2), decimal(10*v.Median, 0))
}
