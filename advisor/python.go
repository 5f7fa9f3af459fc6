package advisor

import (
	"fmt"
	"math"

	"berth/profiles"
)

// gilRule is for CPython, where one thread of a process at a time runs Python:
// two queues, one for each process's interpreter and one for the CPUs.
type gilRule struct{ *task }

// waits reports whether a thread ever gives the interpreter up by itself.
func (t *gilRule) waits() bool { return t.cpu > 0 && (t.wait > 0 || t.p.Work.NativeMS > 0) }

// native is the planned time with the GIL released.
func (t *gilRule) native() float64 { return t.planned - t.interpreted }

func (t *gilRule) propose() proposal {
	n := t.pure.n
	if t.waits() {
		t.explainSiblings()
	} else {
		out := (&pureRule{t.task}).propose()
		t.reason("GIL: threads of one process take turns at pure Python, so each busy thread has its own process")
		if t.p.Model == profiles.Threads {
			out.workers = Workers{Model: Threads, Processes: 1, Threads: 1}
			out.by = Binding{ByCPU, "one interpreter runs one thread at a time, and the profile asks for threads"}
		}
		return out
	}
	processes := 1
	if t.p.Model != profiles.Threads {
		processes = max(1, ceil(float64(n)*t.interpreted/t.planned))
		t.reason("GIL: %s of a task's %s ms on the CPU are Python, so ⌈%d busy threads ÷ (%s ÷ %s)⌉ = %d processes",
			number(t.interpreted), number(t.planned), n, number(t.planned), number(t.interpreted), processes)
	}
	out := proposal{by: t.pure.by}
	var ok bool
	out.workers, ok = t.fit(processes)
	t.reason("threads: the fewest in each of %d processes with which the interpreters and the CPUs both deliver %s of %s tasks per second: %d",
		processes, number(t.p.Target()), number(1000*t.most(processes)), out.workers.Threads)
	switch {
	case !ok:
		out.by = outOfThreads()
	case t.wait > 0:
		out.by = Binding{ByCPU, fmt.Sprintf("%d × %d threads serve %s %% of what interpreters and CPUs can, at least %s %%", out.workers.Processes, out.workers.Threads,
			number(100*t.throughput(out.workers)/t.most(processes)), number(100*t.p.Target()))}
	}
	if processes == 1 && t.p.Model == profiles.Threads && 1/t.interpreted < t.full/t.planned {
		out.by = Binding{ByCPU, "one interpreter is saturated, and the profile asks for threads"}
	}
	if t.arrivals() > 0 && t.canServe(&out) {
		t.fitDemand(&out)
	}
	return out
}

// most is what p interpreters and the CPUs can serve, per ms.
func (t *gilRule) most(p int) float64 {
	return math.Min(t.full/t.planned, float64(p)/t.interpreted)
}

// fit finds the fewest threads for so many processes.
func (t *gilRule) fit(processes int) (w Workers, ok bool) {
	goal := t.p.Target() * t.most(processes) * (1 - slack)
	start := int(goal / float64(processes) * (t.wait + t.planned))
	threads, ok := saturation(start, mostThreads/processes, func(n int) bool {
		return t.throughput(t.of(processes, n)) >= goal
	})
	return t.of(processes, threads), ok
}

func (t *gilRule) of(processes, threads int) Workers {
	w := Workers{Model: ProcessesOfMany, Processes: processes, Threads: threads}
	switch {
	case threads == 1:
		w.Model = Processes
	case processes == 1:
		w.Model = Threads
	}
	return w
}

// throughput per ms is that of the narrower queue: the interpreters, p ×
// M/M/1//t (think native + wait, service Python), or the CPUs (think wait,
// service CPU, all p·t threads).
func (t *gilRule) throughput(w Workers) float64 {
	interpreters := float64(w.Processes) * closed(w.Threads, t.native()+t.wait, t.interpreted, single) / t.interpreted
	cpus := closed(w.Processes*w.Threads, t.wait, t.planned, t.speeds) / t.planned
	return math.Min(interpreters, cpus)
}

// fitDemand takes fewer processes and threads where they serve the rate.
func (t *gilRule) fitDemand(out *proposal) {
	full := out.workers
	d := t.demand()
	if d >= full.Processes*full.Threads {
		return
	}
	t.explainDemand(d)
	// Interpreters too are left a fifth to spare.
	processes := max(1, ceil(t.arrivals()*t.interpreted/0.8))
	t.reason("⌈%s/s × %s ms of Python ÷ 0.8⌉ = %d processes", number(*t.p.Load.ArrivalPerS), number(t.interpreted), processes)
	processes = min(full.Processes, max(processes, ceil(float64(d)/float64(full.Threads))))
	threads := min(full.Threads, ceil(float64(d)/float64(processes)))
	for t.throughput(t.of(processes, threads)) < t.arrivals() && processes < full.Processes {
		processes++
	}
	out.workers = t.of(processes, threads)
	out.by = Binding{ByDemand, fmt.Sprintf("%d × %d threads serve the %s tasks per second", processes, threads, number(*t.p.Load.ArrivalPerS))}
}

func (t *gilRule) predict(w Workers) Prediction {
	if !t.waits() {
		return (&pureRule{t.task}).predict(w)
	}
	out := t.queuePrediction(t.throughput(w), w.Total())
	if t.wait == 0 {
		knee := t.law.knee(t.pure.limit)
		out.Knee = &knee
	}
	return out
}

// shrink looks for the best split of at most so many threads.
func (t *gilRule) shrink(w Workers, n int) Workers {
	if !t.waits() || w.Total() <= n {
		return t.resize(w, n)
	}
	best, most := Workers{}, -1.0
	try := func(threads int) {
		threads = max(1, min(threads, w.Threads, n))
		now := t.of(max(1, min(w.Processes, n/threads)), threads)
		if x := t.throughput(now); x > most*(1+slack) || x > most*(1-slack) && now.Processes < best.Processes {
			best, most = now, x
		}
	}
	for threads := 1; threads <= min(w.Threads, 64); threads++ {
		try(threads)
	}
	try(n / w.Processes)
	return best
}

// fewerProcesses is for memory, of which a process is the unit: the threads of
// those that are left are counted anew.
func (t *gilRule) fewerProcesses(w Workers, n int) Workers {
	if !t.waits() || w.Model == Threads {
		return t.resize(w, n)
	}
	out, _ := t.fit(min(w.Processes, n))
	if t.arrivals() > 0 {
		threads := max(w.Threads, ceil(float64(t.demand())/float64(out.Processes)))
		out = t.of(out.Processes, min(out.Threads, threads))
	}
	return out
}
