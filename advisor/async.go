package advisor

import (
	"fmt"
	"math"

	"berth/profiles"
)

// asyncRule is for waits that are awaited: event loops, each with many tasks in
// flight.
type asyncRule struct{ *task }

// loopBusy is the share of a loop's time that a rate may take.
const loopBusy = 0.7

func (t *asyncRule) propose() proposal {
	if t.arrivals() > 0 && t.cpu > 0 {
		return t.forRate()
	}
	out := proposal{by: t.pure.by}
	loops, each := t.pure.n, 1
	t.explainSiblings()
	t.explainSpeed(loops)
	if t.cpu > 0 && t.wait > 0 {
		target := t.p.Target()
		var ok bool
		each, ok = saturation(int(target*(1+t.wait/t.planned)), mostInFlight/loops, func(n int) bool {
			return closed(n, t.wait, t.planned, single) >= target*(1-slack)
		})
		out.by = Binding{ByCPU, fmt.Sprintf("%s with %s each: busy %s %% of the time, at least %s %%", plural(loops, "loop", "loops"), plural(each, "task", "tasks"),
			number(100*closed(each, t.wait, t.planned, single)), number(100*target))}
		if !ok {
			out.by = Binding{ByMemory, fmt.Sprintf("%d tasks in flight are more than processes hold, and do not fill the CPUs", int(mostInFlight))}
		}
		t.reason("M/M/1//N: tasks wait %s ms, then need their loop for %s ms; %d are the fewest that keep it busy %s of the time",
			number(t.wait), number(t.planned), each, number(target))
	}
	out.workers = t.loops(loops, loops*each)
	return out
}

// mostInFlight bounds a search, beyond what any process holds.
const mostInFlight = 1e9

func (t *asyncRule) forRate() proposal {
	load := t.arrivals() * t.planned
	want := max(1, ceil(load/loopBusy))
	most := max(1, floor(t.budget()))
	flight := t.demand()
	rate := number(*t.p.Load.ArrivalPerS)
	t.reason("loops: ⌈%s/s × %s ms ÷ %s⌉ = %d", rate, number(t.planned), number(loopBusy), want)
	t.explainDemand(flight)
	out := proposal{by: Binding{ByDemand, fmt.Sprintf("%s in %s serve the %s tasks per second", plural(flight, "task in flight", "tasks in flight"), plural(want, "loop", "loops"), rate)}}
	if want > most {
		want = most
		served := *t.predict(t.loops(want, flight)).ThroughputPS
		out.by = Binding{ByCPU, fmt.Sprintf("there is time for %s, which can serve %s of the %s tasks per second", plural(most, "loop", "loops"), number(served), rate)}
	}
	t.canServe(&out)
	out.workers = t.loops(want, flight)
	return out
}

// loops puts event loops into processes: one each where the language has one
// loop per process, else all as threads of one.
func (t *asyncRule) loops(loops, flight int) Workers {
	w := Workers{Model: Async, Processes: 1, Threads: loops, EventLoops: loops, InFlight: max(flight, 1)}
	if t.loopPerProcess() {
		w.Processes, w.Threads = loops, 1
	}
	return w
}

func (t *asyncRule) loopPerProcess() bool {
	return t.p.Runtime == profiles.Python || t.p.Runtime == profiles.Node
}

func (t *asyncRule) predict(w Workers) Prediction {
	loops := w.EventLoops
	speed := t.law.capacity(loops)
	if t.cpu == 0 {
		return (&pureRule{t.task}).predict(w)
	}
	// The narrower of two queues, as with interpreters: for each loop, M/M/1//N of
	// its share of the tasks, and for the CPUs, all of them.
	few, more := w.InFlight/loops, w.InFlight%loops
	busy := float64(loops-more) * closed(few, t.wait, t.planned, single)
	if more > 0 {
		busy += float64(more) * closed(few+1, t.wait, t.planned, single)
	}
	busy = math.Min(busy, closed(w.InFlight, t.wait, t.planned, t.speeds))
	x := t.served(math.Min(busy, speed) / t.planned)
	return Prediction{
		Speedup: figure(x * (t.wait + t.planned/t.law.first)), ThroughputPS: figure(x * 1000),
		Utilisation: figure(x * t.planned / speed), StallMS: t.stall(loops), Capacity: figure(t.law.capacity(loops)),
	}
}

// shrink lowers the tasks in flight, and the loops where fewer tasks are left
// than loops.
func (t *asyncRule) shrink(w Workers, n int) Workers {
	return t.loops(min(w.EventLoops, max(n, 1)), min(w.InFlight, n))
}

// fewerProcesses is for memory, of which a process is the unit: loops go with
// their process, and the tasks that were theirs.
func (t *asyncRule) fewerProcesses(w Workers, n int) Workers {
	if w.Processes <= n {
		return w
	}
	flight := w.InFlight
	if t.arrivals() == 0 {
		flight = w.InFlight / w.EventLoops * n
	}
	return t.loops(n, flight)
}
