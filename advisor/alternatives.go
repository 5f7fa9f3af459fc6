package advisor

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"berth/profiles"
)

// alternatives are the counts that people would have tried, each with what it
// would yield here.
func (t *task) alternatives(r rule, plan *Plan) []Rejected {
	a := &rejects{task: t, rule: r, plan: plan, out: []Rejected{}}
	switch r := r.(type) {
	case *asyncRule:
		a.async(r)
	case *nestedRule:
		a.nested(r)
	case *gilRule:
		a.gil(r)
		a.counts()
	case *blockingRule:
		goetz := t.full * (1 + t.wait/t.planned)
		if goetz < mostThreads {
			a.try("Goetz's formula, CPUs × (1 + W/C)", t.like(plan.Workers, max(1, int(math.Round(goetz)))))
		}
		a.counts()
	default:
		a.counts()
	}
	if _, async := r.(*asyncRule); !async {
		a.libraries()
	}
	return a.out
}

type rejects struct {
	*task
	rule rule
	plan *Plan
	out  []Rejected
}

// like is n workers of the plan's model.
func (t *task) like(w Workers, n int) Workers {
	if w.Model == Processes || w.Model == ProcessesOfMany {
		return Workers{Model: Processes, Processes: n, Threads: 1}
	}
	return Workers{Model: Threads, Processes: 1, Threads: n}
}

// counts are the rules of thumb for a number of workers.
func (a *rejects) counts() {
	w := a.plan.Workers
	cpus, cores := a.law.cpus, a.law.cores
	if cpus > cores {
		a.try("one per core, siblings idle", a.like(w, cores))
		a.try("one per CPU, siblings used", a.like(w, cpus))
	} else {
		a.try("one per CPU", a.like(w, cpus))
	}
	if a.kinds > 1 {
		fast := 0
		for _, c := range a.cores {
			if c.kind == 0 {
				fast++
			}
		}
		a.try("the fastest kind of cores alone", a.like(w, fast))
	}
	a.try("2n + 1 for n CPUs", a.like(w, 2*cpus+1))
	a.habit()
	if !math.IsInf(a.quota, 1) {
		if down := floor(a.quota); down > 0 {
			a.try("the quota rounded down", a.like(w, down))
		}
		a.try("the quota rounded up", a.like(w, ceil(a.quota)))
	}
}

// habit is what the runtime itself would start.
func (a *rejects) habit() {
	w, cpus := a.plan.Workers, a.law.cpus
	switch a.p.Runtime {
	case profiles.Go:
		a.try("Go's own GOMAXPROCS (1.25 and later: the quota rounded up, at least 2)", a.like(w, goMaxProcs(cpus, a.quota)))
	case profiles.Java:
		a.try("the JVM's availableProcessors", a.like(w, jvmProcessors(cpus, a.quota)))
	case profiles.Python, profiles.PythonFreeThreaded:
		if w.Model == Processes && a.wait == 0 {
			a.try("multiprocessing's default, one per CPU", a.like(w, cpus))
		} else {
			a.try("ThreadPoolExecutor's default, min(32, CPUs + 4)", Workers{Model: Threads, Processes: 1, Threads: min(32, cpus+4)})
		}
	case profiles.Node:
		a.try("libuv's pool of 4 threads", a.like(w, 4))
	case profiles.OpenMP:
		a.try("OpenMP's default, one per CPU", a.like(w, cpus))
	}
}

// gil are the ways out that a Python programmer thinks of.
func (a *rejects) gil(r *gilRule) {
	w := a.plan.Workers
	if w.Processes > 1 {
		threads := w.Total()
		one := Workers{Model: Threads, Processes: 1, Threads: threads}
		if !r.waits() {
			a.addWith("threads of one process", one, (&pureRule{r.task}).predict(one), a.why)
		} else {
			a.try("all threads in one process", one)
		}
	}
	if w.Threads > 1 {
		a.try("as many processes of one thread", Workers{Model: Processes, Processes: w.Processes, Threads: 1})
	}
}

func (a *rejects) async(r *asyncRule) {
	w := a.plan.Workers
	for _, option := range [...]struct {
		name  string
		loops int
	}{{"one event loop", 1}, {"a loop per core", a.law.cores}, {"a loop per CPU", a.law.cpus}} {
		flight := w.InFlight
		if a.arrivals() == 0 {
			flight = max(1, w.InFlight/w.EventLoops) * option.loops
		}
		if option.loops != w.EventLoops {
			a.try(option.name, r.loops(option.loops, flight))
		}
	}
	if a.cpu > 0 && a.wait > 0 {
		blocking := &blockingRule{a.task}
		n := a.law.cpus
		a.addWith("blocking calls, one thread per CPU", Workers{Model: Threads, Processes: 1, Threads: n}, blocking.predict(Workers{Processes: 1, Threads: n}), a.why)
	}
}

func (a *rejects) nested(r *nestedRule) {
	if a.p.Load.RanksPer != "" {
		a.ranks(r)
		return
	}
	a.try("one worker with all the threads", r.split(1))
	a.try("a worker per core with one thread", r.split(r.threads()))
}

// try adds an option that is not what the plan says, nor there already.
func (a *rejects) try(option string, w Workers) { a.tryWhy(option, w, a.why) }

func (a *rejects) tryWhy(option string, w Workers, why func(Workers, Prediction) string) {
	if a.plan.Workers.Total() == w.Total() && a.plan.Workers.Processes == w.Processes && a.plan.Workers.EventLoops == w.EventLoops {
		return
	}
	a.addWith(option, w, a.predict(a.rule, w), why)
}

func (a *rejects) addWith(option string, w Workers, yields Prediction, why func(Workers, Prediction) string) {
	workers := ": " + Describe(w)
	if slices.ContainsFunc(a.out, func(r Rejected) bool { return strings.HasSuffix(r.Option, workers) }) {
		return
	}
	yields.Knee = nil
	a.out = append(a.out, Rejected{Option: option + workers, Predicted: yields, Why: why(w, yields)})
}

// why compares an option with the plan.
func (a *rejects) why(w Workers, yields Prediction) string {
	plan := &a.plan.Predicted
	if yields.WaitMS != nil || plan.WaitMS != nil {
		target := a.p.Load.WaitTargetMS
		switch {
		case yields.WaitMS == nil:
			return "cannot keep up: the queue grows without end"
		case target != nil && *yields.WaitMS > *target:
			return fmt.Sprintf("tasks would wait %s ms, more than %s", number(*yields.WaitMS), number(*target))
		case target != nil && yields.Utilisation != nil && *yields.Utilisation > 0.8:
			return fmt.Sprintf("utilisation would be %s, and above 0.8 any burst makes a queue", number(*yields.Utilisation))
		}
		return fmt.Sprintf("%s for a wait of %s ms, which is shorter than asked", moreWorkers(w.Total()-a.plan.Workers.Total()), number(*yields.WaitMS))
	}
	if yields.Speedup == nil || plan.Speedup == nil || *plan.Speedup == 0 {
		return ""
	}
	loss := 1 - *yields.Speedup / *plan.Speedup
	more := w.Total() - a.plan.Workers.Total()
	stalls := ""
	if yields.StallMS != nil && *yields.StallMS > 0 && (plan.StallMS == nil || *yields.StallMS > *plan.StallMS) {
		stalls = fmt.Sprintf(", and all stand still for up to %s ms in each %s ms", number(*yields.StallMS), number(a.periodMS))
	}
	switch {
	case loss > 0.001:
		return fmt.Sprintf("%s %% less throughput%s", number(math.Round(loss*1000)/10), stalls)
	case loss < -0.001:
		return fmt.Sprintf("%s %% more throughput, but %s%s", number(math.Round(-loss*1000)/10), a.against(w), stalls)
	case more > 0:
		return fmt.Sprintf("no more throughput from %s, each with its memory and its switches%s", moreWorkers(more), stalls)
	}
	return "the same throughput" + stalls
}

// against says why an option that yields more was not taken.
func (a *rejects) against(w Workers) string {
	l := a.p.Limits.MemoryPerWorkerMiB
	switch by := a.plan.Binding; {
	case by.Name == ByMemory && l != nil:
		return "the memory does not hold them"
	case by.Name == ByTasks, by.Name == ByDown:
		return by.Detail
	case a.p.Objective == profiles.Efficiency:
		return moreWorkers(w.Total()-a.plan.Workers.Total()) + " for it"
	case a.p.Objective == profiles.Latency:
		return "each task takes longer"
	case !a.pays && w.Total() > a.law.cores && a.wait == 0:
		return fmt.Sprintf("a sibling's yield below %s is not worth a worker", number(yieldThatPays))
	}
	return moreWorkers(w.Total()-a.plan.Workers.Total()) + " for it"
}

func moreWorkers(n int) string { return plural(n, "more worker", "more workers") }

// Describe says in words how many of what there are.
func Describe(w Workers) string {
	processes := plural(w.Processes, "process", "processes")
	switch {
	case w.EventLoops > 0 && w.Processes > 1:
		return fmt.Sprintf("%s with an event loop each, %d tasks in flight", processes, w.InFlight)
	case w.EventLoops > 0:
		return fmt.Sprintf("%s with %s, %d tasks in flight", processes, plural(w.EventLoops, "event loop", "event loops"), w.InFlight)
	case w.Inner > 1:
		return fmt.Sprintf("%s × %s inside each", processes, plural(w.Inner, "thread", "threads"))
	}
	return fmt.Sprintf("%s × %s", processes, plural(w.Threads, "thread", "threads"))
}
