//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"berth/advisor"
	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/difference"
)

// planAnswer says in a sentence what changes from one plan to the other.
func planAnswer(a, b *advisor.Plan, r *difference.Report) string {
	if len(r.Rows) == 0 {
		return fmt.Sprintf("Both plans are the same: %s, bound by %s.", advisor.Describe(a.Workers), binderInWords(a.Binding.Name))
	}
	was, is := advisor.Describe(a.Workers), advisor.Describe(b.Workers)
	answer := "The same " + is
	if was != is {
		answer = "B: " + is + " instead of " + was
	}
	said := []string{}
	yield := r.Find("throughput_per_s")
	noun := "the throughput"
	if yield == nil && slices.Contains(r.Unknown, "throughput_per_s") || yield == nil && a.Predicted.ThroughputPS == nil {
		yield, noun = r.Find("speedup"), "the speed-up"
	}
	if yield != nil && yield.Ratio != nil {
		answer += ", " + times(*yield.Ratio) + " " + noun
		said = append(said, noun)
	}
	if x := r.Find("binding"); x != nil {
		answer += fmt.Sprintf("; bound by %s instead of %s", binderInWords(b.Binding.Name), binderInWords(a.Binding.Name))
		said = append(said, x.Name)
	}
	switch {
	case a.Feasible && !b.Feasible:
		answer += "; B is not feasible"
	case b.Feasible && !a.Feasible:
		answer += "; A is not feasible"
	case len(said) == 0 && was == is:
		answer += "; " + differing(labels(r.Rows, 4))
	}
	return answer + "."
}

// differing is "A and B differ".
func differing(names []string) string {
	if len(names) == 1 {
		return names[0] + " differs"
	}
	return enumerate(names) + " differ"
}

// labels are the names of the rows that differ, cut short after so many.
func labels(rows []difference.Row, most int) []string {
	var out []string
	for _, row := range rows {
		if row.Verdict == difference.Changed {
			out = append(out, label(row.Name))
		}
	}
	if len(out) > most+1 {
		out = append(out[:most:most], fmt.Sprintf("%d more", len(out)-most))
	}
	return out
}

// times is a ratio as a person says it: 3.9×, or 0.42×.
func times(x float64) string {
	digits := 1
	if math.Abs(x) < 1 {
		digits = max(2, places(x)-1)
	}
	if near := math.Abs(x - 1); near > 0 && near < 0.05 {
		digits = 3
	}
	return decimal(x, digits) + "×"
}

// mainCause is why most of the rows differ that people ask for.
func mainCause(r *difference.Report) string {
	var whys []string
	times := map[string]int{}
	for _, name := range [...]string{"processes", "threads_per_process", "inner_threads", "event_loops", "in_flight", "throughput_per_s", "speedup", "binding", "seats"} {
		if row := r.Find(name); row != nil && row.Why != "" {
			whys = append(whys, row.Why)
			times[row.Why]++
		}
	}
	if whys == nil {
		return ""
	}
	main := slices.MaxFunc(whys, func(a, b string) int { return times[a] - times[b] })
	if times[main] < len(whys) {
		return "Why, for the most: " + main + "."
	}
	return "Why: " + main + "."
}

// machineAnswer says in a sentence what differs between two machines.
func machineAnswer(r *difference.Report) string {
	if !r.Differ() {
		if len(r.Unknown) > 0 {
			return "No difference in what both know."
		}
		return "No difference."
	}
	shape := probe.Shape()
	var parts []string
	head := "Same shape"
	switch {
	case r.Find("fingerprint") != nil:
		head = "Other hardware"
	case slices.ContainsFunc(r.Rows, func(row difference.Row) bool { return slices.Contains(shape, row.Name) }):
		head = "Another shape"
	case slices.Contains(r.Unknown, "fingerprint") && slices.ContainsFunc(r.Unknown, func(name string) bool { return slices.Contains(shape, name) }):
		head = "Same shape, as far as both know it"
	}
	for _, name := range [...]string{"cores", "cpus", "threads_per_core", "llc_groups", "numa_nodes", "core_kinds", "core_cpus"} {
		if row := r.Find(name); row != nil && len(parts) < 3 {
			parts = append(parts, insteadOf(row))
		}
	}
	moved := false
	for _, name := range [...]string{"quota_cpus", "budget_cpus", "memory_limit_bytes"} {
		row := r.Find(name)
		if row == nil || name == "budget_cpus" && moved {
			continue
		}
		moved = true
		parts = append(parts, fellOrRose(row))
	}
	told := []string{"fingerprint", "budget_by", "quota_period_ms", "quota_cpus", "budget_cpus", "memory_limit_bytes"}
	if len(parts) > 0 { // the rest of the shape goes with it
		told = append(told, shape...)
	}
	var rest []difference.Row
	for _, row := range r.Rows {
		if !slices.Contains(told, row.Name) && !(moved && (row.Name == "allowed" || row.Name == "online")) {
			rest = append(rest, row)
		}
	}
	if more := labels(rest, 3); len(more) > 0 {
		parts = append(parts, differing(more))
	}
	return strings.Join(append([]string{head}, parts...), "; ") + "."
}

// insteadOf is "64 cores instead of 8".
func insteadOf(row *difference.Row) string {
	was, is := cell(row, row.A), cell(row, row.B)
	switch row.Name {
	case "core_kinds":
		return fmt.Sprintf("%s cores instead of %s", is, was)
	case "core_cpus":
		return fmt.Sprintf("CPUs are numbered in another way: %s are a core instead of %s", is, was)
	}
	return fmt.Sprintf("%s %s instead of %s", is, label(row.Name), was)
}

// fellOrRose is "the quota fell from 4 to 2.5 CPUs".
func fellOrRose(row *difference.Row) string {
	name := label(row.Name)
	was, is := cell(row, row.A), cell(row, row.B)
	switch {
	case row.A == nil:
		return fmt.Sprintf("B has a %s of %s", name, is)
	case row.B == nil:
		return fmt.Sprintf("the %s of %s is gone", name, was)
	}
	if number, unit, ok := strings.Cut(was, " "); ok && strings.HasSuffix(is, " "+unit) {
		was = number
	}
	switch {
	case row.Difference != nil && *row.Difference < 0:
		return fmt.Sprintf("the %s fell from %s to %s", name, was, is)
	}
	return fmt.Sprintf("the %s rose from %s to %s", name, was, is)
}

// resultAnswer counts what the report of two results holds.
func resultAnswer(r *difference.Report) string {
	var changed, unseen, unjudged int
	for _, row := range r.Rows {
		switch row.Verdict {
		case difference.Changed:
			changed++
		case difference.NotSeen:
			unseen++
		default:
			unjudged++
		}
	}
	if changed+unseen+unjudged == 0 {
		return "No difference."
	}
	var parts []string
	if changed > 0 {
		parts = append(parts, "changed: "+strings.Join(labels(r.Rows, 3), ", "))
	} else {
		parts = append(parts, "nothing is known to have changed")
	}
	if unseen > 0 {
		parts = append(parts, fmt.Sprintf("no difference seen in %s", count(unseen, "measured value")))
	}
	if unjudged > 0 {
		parts = append(parts, "beside them "+count(unjudged, "figure")+" that nothing can be said of")
	}
	text := strings.Join(parts, "; ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// label is a row's name as people say it; a unit stands at the figures.
func label(name string) string {
	if known, ok := map[string]string{
		"throughput_per_s": "throughput", "budget_cpus": "budget", "quota_cpus": "quota", "quota_period_ms": "quota period", "memory_mib": "memory",
		"memory_bytes": "memory", "memory_limit_bytes": "memory limit", "llc_bytes": "LLC in all", "llc_largest_bytes": "largest LLC",
		"llc_groups": "LLC groups", "cpus_per_llc": "CPUs per LLC", "cpus": "CPUs", "core_cpus": "CPUs of a core", "llc_cpus": "CPUs of an LLC",
		"node_cpus": "CPUs of a node", "numa_nodes": "NUMA nodes", "wait_ms_at_quantile": "wait at the quantile", "stall_ms_per_period": "stall per period",
		"speedup": "speed-up", "knee_95": "knee", "budget_by": "budget bound by", "max_khz": "clock up to", "placement_cpus": "CPUs used",
		"nohz_full": "tickless", "smt_control": "SMT control", "fingerprint": "hardware", "wall_s": "wall time", "on_cpu_ms": "time on CPUs",
		"run_delay_ms": "waited for a CPU", "throttled_ms": "throttled", "steal_ms": "stolen by the host", "other_busy_pct": "others' share", "switch_us": "switch",
		"cpuset": "measured on", "shares.on_cpu": "on a CPU", "shares.waiting_for_cpu": "waiting for a CPU", "threads.total": "threads",
		"threads.busy": "busy threads", "threads.runnable_mean": "ready or running", "gil.held_pct": "GIL held", "w_over_c": "waiting / computing",
		"cpu_ms": "CPU time of a unit", "wait_ms": "waiting of a unit", "units_per_s": "units a second", "silent": "without an answer",
		"reshaped": "of another shape",
	}[name]; ok {
		return known
	}
	name = strings.TrimPrefix(name, "shares.")
	return strings.ReplaceAll(name, "_", " ")
}

// cell is one value of a row.
func cell(row *difference.Row, v any) string {
	switch v := v.(type) {
	case nil:
		if row.Name == "core_kinds" {
			return "all alike"
		}
		return "none"
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case int:
		return fmt.Sprint(v)
	case measured.Value:
		return v.String() + unitWord(row.Unit)
	case float64:
		switch row.Unit {
		case "bytes":
			return memorySize(int64(v))
		case "MiB":
			return memorySize(int64(v * (1 << 20)))
		case "khz":
			return gigahertz(int64(v))
		case "cpus":
			return cpuTime(v) + " CPU" + plural(v)
		}
		if v != math.Trunc(v) {
			return decimal(v, places(v)) + unitWord(row.Unit)
		}
		return decimal(v, 0) + unitWord(row.Unit)
	case string:
		switch {
		case row.Name == "fingerprint":
			return v[:min(8, len(v))]
		case row.Name == "binding" || row.Name == "pin":
			return strings.ReplaceAll(v, "_", " ")
		case v == "":
			return "none"
		}
		return printable(v)
	}
	return fmt.Sprint(v)
}

func unitWord(unit string) string {
	switch unit {
	case "", "cpus", "cores":
		return ""
	case "us":
		return " µs"
	}
	return " " + unit
}
