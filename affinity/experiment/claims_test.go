//go:build linux

package experiment

import (
	"slices"
	"testing"
	"time"

	"berth/affinity"
	"berth/affinity/experiment/python"
	"berth/affinity/measured"
	"berth/probe"
)

func tight(x float64) measured.Value {
	return measured.Value{Median: x, Low: x * 0.99, High: x * 1.01, Runs: 10}
}

func pointer[T any](x T) *T { return &x }

// full is the evidence of a machine on which everything could be measured.
func full(m *probe.Machine) *evidence {
	run := func(mode Mode, kernel string, carrier Carrier, workers, per int, relative, switches float64) ModeRun {
		return ModeRun{Mode: mode, Kernel: kernel, Carrier: carrier, Workers: workers, PerCPU: per, CPUs: cpusetOf(0, 2),
			Relative: tight(relative), Switches: tight(switches), ClockGHz: pointer(tight(3)), Verdict: affinity.Measured}
	}
	ran := func(work, carrier string, workers int, relative float64) GILRun {
		return GILRun{Work: work, Carrier: carrier, Workers: workers, Relative: tight(relative), MemoryPerWorker: pointer(tight(8 << 10)), Verdict: affinity.Measured, usual: true}
	}
	return &evidence{
		machine: m, cores: 2,
		modes: &ModesReport{Runs: []ModeRun{
			run(Alone, "integer", Processes, 1, 1, 1, 4), run(Parallel, "integer", Processes, 2, 1, 1.98, 10),
			run(Parallel, "integer", Threads, 2, 1, 1.98, 10), run(SMT, "integer", Processes, 2, 1, 1.3, 10),
			run(SMT, "float", Processes, 2, 1, 1.1, 10), run(SMT, "memory-latency", Processes, 2, 1, 1.9, 10),
			run(Oversubscribed, "integer", Processes, 8, 4, 1.96, 900), run(Oversubscribed, "service", Processes, 8, 4, 7.5, 9000),
		}, Derived: ModesDerived{OversubscriptionCostPct: map[string]measured.Value{"integer": tight(1), "memory-latency": tight(12)}}},
		mixed:  pointer(tight(1.9)),
		handed: &SwitchReport{Report: Report{Verdict: affinity.Measured}, Pinned: pointer(tight(1.5))},
		gil: &GILReport{Implementation: "CPython", Version: "3.13", Runs: []GILRun{
			ran("cpu", "threads", 2, 1), ran("cpu", "processes", 2, 1.95), ran("blocking-io", "threads", 32, 31),
			ran("async-io", "async", 2000, 900)}},
		python: &pythonEvidence{interval: 5 * time.Millisecond, held: pointer(tight(5.1)), changes: 100, nextP: pointer(0.4),
			lost: []python.LostUpdate{{How: "x += 1", Expected: 1000, Got: 1000}, {How: "x = f(x)", Expected: 1000, Got: 600}}, stall: pointer(tight(200)), calm: pointer(tight(1)), block: 200 * time.Millisecond,
			waiters: 500, threadBytes: pointer(tight(30 << 10)), taskBytes: pointer(tight(2 << 10)), threadSees: pointer(true), processSees: pointer(false),
			sumSent: pointer(tight(0.1)), sumThere: pointer(tight(1.9)), sumProcs: 2, sumElements: 1000},
		why: map[string]string{},
	}
}

func verdicts(e *evidence) map[string]ClaimVerdict {
	all := map[string]ClaimVerdict{}
	for _, c := range judge(e) {
		all[c.ID] = c.Verdict
	}
	return all
}

func TestJudge(t *testing.T) {
	smt, plain := synthetic(t, "package:1 l3:1 l2:2 l1d:1 core:1 pu:2"), synthetic(t, "package:1 l3:1 l2:1 l1d:2 core:1 pu:1")
	e := full(smt)
	want := map[string]ClaimVerdict{
		"separate-cores": Holds, "threads-not-parallel": Fails, "smt-no-gain": Fails, "smt-gains-when-waiting": Holds, "smt-takes-turns": Fails,
		"oversubscription-costs": Fails, "waiting-needs-more-workers": Holds, "switch-costs-more-than-smt": Holds, "no-switching-up-to-cores": Holds,
		"gil-threads-no-faster": Holds, "gil-threads-for-waiting": Holds, "gil-asked-every-5-ms": Holds, "gil-next-is-random": Holds, "gil-protects-data": Fails,
		"multiprocessing-speeds-up": Holds, "pool-sums-list": Fails, "asyncio-holds-thousands": Holds, "blocking-call-stalls-loop": Holds,
		"threads-cost-more-memory": Holds, "threads-share-memory": Holds, "own-l1-shared-rest": Fails,
	}
	got := verdicts(e)
	for id, v := range want {
		if got[id] != v {
			t.Errorf("%s: %s, want %s", id, got[id], v)
		}
	}
	if len(got) != len(claims) || len(want) != len(claims) {
		t.Errorf("%d claims have %d names; %d are tested", len(claims), len(got), len(want))
	}
	for _, c := range judge(e) {
		if c.Claim == "" || c.Expected == "" || c.Measured == "" || c.Why == "" {
			t.Errorf("%+v", c)
		}
	}

	change := func(name string, id string, want ClaimVerdict, f func(e *evidence)) {
		t.Helper()
		e := full(smt)
		f(e)
		if got := verdicts(e)[id]; got != want {
			t.Errorf("%s: %s is %s, want %s", name, id, got, want)
		}
	}
	wide := measured.Value{Median: 1.5, Low: 1, High: 2, Runs: 10}
	change("wide interval", "separate-cores", Inconclusive, func(e *evidence) { e.modes.Runs[1].Relative = wide })
	change("half of the cores' time", "separate-cores", Fails, func(e *evidence) { e.modes.Runs[1].Relative = tight(1) })
	change("disturbed run", "separate-cores", Inconclusive, func(e *evidence) { e.modes.Runs[1].Verdict = affinity.Inconclusive })
	change("no gain", "smt-takes-turns", Holds, func(e *evidence) { e.modes.Runs[3].Relative = tight(0.95) })
	change("no gain, but for float", "smt-no-gain", Fails, func(e *evidence) { e.modes.Runs[3].Relative = tight(0.95) })
	change("no gain at all", "smt-no-gain", Holds, func(e *evidence) { e.modes.Runs[3].Relative, e.modes.Runs[4].Relative = tight(0.95), tight(0.98) })
	change("costly switches", "oversubscription-costs", Holds, func(e *evidence) { e.modes.Derived.OversubscriptionCostPct["integer"] = tight(20) })
	change("others on the CPUs", "no-switching-up-to-cores", Fails, func(e *evidence) { e.modes.Runs[1].Switches = tight(20_000) })
	change("free-threaded", "gil-threads-no-faster", Fails, func(e *evidence) { e.gil.FreeThreaded, e.gil.Runs[0].Relative = true, tight(1.9) })
	change("free-threaded", "gil-asked-every-5-ms", Untestable, func(e *evidence) { e.gil.FreeThreaded = true })
	change("never drawn", "gil-next-is-random", Fails, func(e *evidence) { e.python.nextP = pointer(1e-9) })
	change("drawn rarely", "gil-next-is-random", Inconclusive, func(e *evidence) { e.python.nextP = pointer(0.02) })
	change("no update lost", "gil-protects-data", Holds, func(e *evidence) { e.python.lost = e.python.lost[:1] })
	change("all unknown", "threads-cost-more-memory", Inconclusive, func(e *evidence) { e.python.threadBytes = nil })
	change("L2 for two cores", "own-l1-shared-rest", Holds, func(e *evidence) { e.machine = synthetic(t, "package:1 l2:1 l1d:2 core:1 pu:1") })

	// What cannot be had is untestable, and nothing else changes.
	e = full(plain)
	e.modes.Skipped = []Skipped{{SMT, Processes, "no core here has more than one CPU"}}
	e.why["gil"] = noPython
	e.gil, e.python = nil, nil
	for id, v := range verdicts(e) {
		needs := slices.Contains([]string{"smt-no-gain", "smt-gains-when-waiting", "smt-takes-turns", "switch-costs-more-than-smt"}, id) ||
			slices.Contains([]string{"multiprocessing-speeds-up", "pool-sums-list", "asyncio-holds-thousands", "blocking-call-stalls-loop", "threads-cost-more-memory", "threads-share-memory"}, id) ||
			id[:3] == "gil"
		if needs != (v == Untestable) {
			t.Errorf("without SMT and Python %s is %s", id, v)
		}
	}

	// Nothing measured leaves nothing that holds or fails, but for what inspect says.
	for id, v := range verdicts(&evidence{machine: plain, cores: 2, why: map[string]string{}}) {
		if id != "own-l1-shared-rest" && v != Inconclusive {
			t.Errorf("without a measurement %s is %s", id, v)
		}
	}
}

func TestAsk(t *testing.T) {
	tests := []struct {
		v     *measured.Value
		above bool
		want  ClaimVerdict
	}{
		{nil, true, Inconclusive},
		{&measured.Value{}, true, Inconclusive},
		{&measured.Value{Median: 5, Low: 4, High: 6, Runs: 8}, true, Holds},
		{&measured.Value{Median: 5, Low: 4, High: 6, Runs: 8}, false, Fails},
		{&measured.Value{Median: 2, Low: 1, High: 2.9, Runs: 8}, true, Fails},
		{&measured.Value{Median: 2, Low: 1, High: 2.9, Runs: 8}, false, Holds},
		{&measured.Value{Median: 3, Low: 2, High: 4, Runs: 8}, true, Inconclusive},
		{&measured.Value{Median: 3, Low: 2, High: 4, Runs: 8}, false, Inconclusive},
	}
	for _, test := range tests {
		if got := ask(test.v, 3, test.above); got != test.want {
			t.Errorf("%v, above %v: %s, want %s", test.v, test.above, got, test.want)
		}
	}
}

func TestEvenly(t *testing.T) {
	type counts = [nextThreads][nextThreads]int
	tests := []struct {
		next     counts
		from, to float64 // the probability lies between
	}{
		{counts{{0, 50, 50}, {50, 0, 50}, {50, 50, 0}}, 1, 1},
		{counts{{0, 60, 40}, {45, 0, 55}, {50, 50, 0}}, 0.1, 0.3}, // χ² = 5 with 3 degrees: 0.172
		{counts{{0, 100, 0}, {0, 0, 100}, {100, 0, 0}}, 0, 1e-20},
	}
	for _, test := range tests {
		if p := evenly(test.next); p < test.from || p > test.to {
			t.Errorf("%v: %v", test.next, p)
		}
	}
}
