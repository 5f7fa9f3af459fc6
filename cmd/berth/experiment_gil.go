//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"berth/affinity"
	"berth/affinity/experiment"
)

// gilView shows what each Python makes of workers.
func gilView(p *page, rep *experiment.GILReport) {
	all := append([]experiment.GILReport{*rep}, rep.Others...)
	var answers []string
	for i := range all {
		answers = append(answers, gilAnswer(&all[i], len(all) > 1))
	}
	answer := sentences(answers...)
	head := gilHead(all)
	opening(p, &head, answer)
	for i := range all {
		gilTable(p, &all[i])
	}
	var skipped [][2]string
	for i := range all {
		for _, s := range all[i].Skipped {
			what := s.Work
			if s.Carrier != "" {
				what += " by " + s.Carrier
			}
			if len(all) > 1 {
				what = all[i].Version + ": " + what
			}
			skipped = append(skipped, [2]string{what, s.Why})
		}
	}
	skippedSection(p, skipped)
	if rep.Python == "" && len(rep.Runs) == 0 {
		findingSection(p, shortEvidence(rep.Findings), true)
		return
	}
	done := "Python did four kinds of work: cpu computes in Python; native computes in C without the lock; blocking-io waits for a slow server in a blocking call, async-io in asyncio."
	expected := "Threads share one lock, the GIL: computing in Python gains nothing by them, what releases the lock does. Processes have a lock each. asyncio holds thousands of waits in one thread."
	closing(p, &head, [][2]string{{"done", done}, {"expected", expected}, {"seen", gilSeen(all)}, {"for a pool", gilAdvice(all)}})
}

// gilHead is what holds for all interpreters: one that is inconclusive is one too
// many to hide.
func gilHead(all []experiment.GILReport) experiment.Report {
	head := all[0].Report
	if len(all) == 1 {
		return head
	}
	head.Trials, head.Disturbed, head.WallS, head.Findings = 0, 0, 0, nil
	for i := range all {
		r := &all[i]
		head.Trials += r.Trials
		head.Disturbed += r.Disturbed
		head.WallS += r.WallS
		if r.Verdict != affinity.Measured {
			head.Verdict = r.Verdict
		}
		for _, f := range r.Findings {
			f.Message = pythonName(r) + ": " + f.Message
			head.Findings = append(head.Findings, f)
		}
	}
	return head
}

// gilRun finds the usual run of a work by more than one worker, of those the
// most; nil: there is none.
func gilRun(rep *experiment.GILReport, work, carrier string) *experiment.GILRun {
	var best *experiment.GILRun
	for i := range rep.Runs {
		r := &rep.Runs[i]
		if r.Work == work && r.Carrier == carrier && r.Workers > 1 && r.Relative.Runs > 0 && (best == nil || r.Workers > best.Workers) &&
			(r.SwitchIntervalMS == 0 || r.SwitchIntervalMS == rep.SwitchIntervalMS) {
			best = r
		}
	}
	return best
}

func pythonName(rep *experiment.GILReport) string {
	name := rep.Implementation
	if name == "" {
		name = "Python"
	}
	if strings.EqualFold(name, "cpython") {
		name = "CPython"
	}
	name = strings.TrimSpace(name + " " + rep.Version)
	if rep.FreeThreaded {
		name += " without the GIL"
	}
	return name
}

func gilAnswer(rep *experiment.GILReport, named bool) string {
	if rep.Python == "" {
		why := "no python3 was found"
		if len(rep.Skipped) > 0 {
			why = rep.Skipped[0].Why
		}
		return "Nothing was measured: " + why + "."
	}
	var parts []string
	add := func(carrier string) {
		if r := gilRun(rep, "cpu", carrier); r != nil {
			parts = append(parts, fmt.Sprintf("%s %s do %s times the work of one", small(r.Workers), carrier, short(r.Relative.Median)))
		}
	}
	add("threads")
	add("processes")
	if len(parts) == 0 {
		return ""
	}
	text := strings.Join(parts, ", ") + " in " + pythonName(rep) + "."
	if named {
		return pythonName(rep) + ": " + strings.Join(parts, ", ") + "."
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func gilTable(p *page, rep *experiment.GILReport) {
	if len(rep.Runs) == 0 {
		return
	}
	heading := pythonName(rep)
	if rep.Python != "" {
		heading += ", " + filepath.Base(rep.Python)
	}
	if rep.SwitchIntervalMS > 0 && !rep.FreeThreaded {
		heading += ", switch interval " + decimal(rep.SwitchIntervalMS, 3) + " ms"
	}
	p.heading(heading)
	rows := [][]string{{"work", "by", "workers", "× one alone", "per second", "GIL held", "memory each", ""}}
	for i, r := range rep.Runs {
		row := []string{r.Work, r.Carrier, strconv.Itoa(r.Workers), inUnit(&r.Relative, ""), "", "", "", ""}
		other := r.SwitchIntervalMS > 0 && r.SwitchIntervalMS != rep.SwitchIntervalMS
		if other && p.width < 80 {
			continue // no room to say so
		}
		if i > 0 && rep.Runs[i-1].Work == r.Work {
			row[0] = ""
		}
		if r.PerSecond.Runs > 0 {
			row[4] = strings.TrimSpace(rate(r.PerSecond.Median, ""))
		}
		if v := r.GILHeldPct; v != nil {
			row[5] = decimal(v.Median, 0) + " %"
		}
		if v := r.MemoryPerWorker; v != nil {
			row[6] = memorySize(int64(v.Median))
		}
		var marks []string
		if other {
			marks = append(marks, "switch interval "+decimal(r.SwitchIntervalMS, 3)+" ms")
		}
		if r.Verdict != affinity.Measured {
			var mark string
			if row[3], mark = unsure(p, row[3]); mark != "" {
				marks = append(marks, mark)
			}
		}
		row[7] = strings.Join(marks, ", ")
		rows = append(rows, row)
	}
	alignRight(rows, 2, 4, 5, 6)
	fitted(p, rows, 4, 6, 5)
}

func gilSeen(all []experiment.GILReport) string {
	rep := &all[0]
	var out []string
	add := func(work, carrier, format string) {
		if r := gilRun(rep, work, carrier); r != nil {
			out = append(out, fmt.Sprintf(format, r.Workers, short(r.Relative.Median)))
		}
	}
	add("native", "threads", "Code that releases the lock: %d threads do %s times the work of one.")
	add("blocking-io", "threads", "Waiting: %d threads do %s times as much as one.")
	add("async-io", "async", "asyncio with %d tasks: %s times one.")
	if a, b := gilRun(rep, "blocking-io", "threads"), gilRun(rep, "async-io", "async"); a != nil && b != nil && a.MemoryPerWorker != nil && b.MemoryPerWorker != nil {
		out = append(out, fmt.Sprintf("A waiting thread takes %s of memory, a task %s.", memorySize(int64(a.MemoryPerWorker.Median)), memorySize(int64(b.MemoryPerWorker.Median))))
	}
	return strings.Join(out, " ")
}

func gilAdvice(all []experiment.GILReport) string {
	rep := &all[0]
	if len(rep.Runs) == 0 {
		return ""
	}
	if rep.Verdict != affinity.Measured {
		return nothingYet
	}
	threads, processes := gilRun(rep, "cpu", "threads"), gilRun(rep, "cpu", "processes")
	var out []string
	switch {
	case threads != nil && threads.Relative.Low > 1.3:
		out = append(out, "Threads do compute in parallel in this Python: one for each core.")
	case threads != nil && processes != nil && processes.Relative.Low > threads.Relative.High:
		out = append(out, "For what computes in Python, processes: one for each core. Threads only for what waits, or computes in code that releases the lock.")
	}
	out = append(out, "For thousands of waits, asyncio, in which nothing may block.")
	return strings.Join(out, " ")
}
