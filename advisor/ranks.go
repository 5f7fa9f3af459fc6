package advisor

import (
	"fmt"
	"math"
	"strings"

	"berth/profiles"
)

// ranks are the other ways to divide the cores between MPI ranks and the OpenMP
// threads inside them: hybrid, or flat with a rank per core.
func (a *rejects) ranks(r *nestedRule) {
	n := r.threads()
	for _, option := range [...]struct {
		per   profiles.RanksPer
		name  string
		ranks int
	}{
		{profiles.PerNode, "hybrid, a rank per NUMA node", len(a.nodes)},
		{profiles.PerLLC, "hybrid, a rank per last-level cache", len(a.groups)},
		{profiles.PerCore, "flat, a rank per core", n},
	} {
		if w := r.split(min(option.ranks, n)); option.per != a.p.Load.RanksPer {
			a.tryWhy(option.name, w, a.whySplit)
		}
	}
	a.tryWhy("one rank with all the threads", r.split(1), a.whySplit)
}

// whySplit compares another division of the cores with the plan's: by the model,
// and by what the profile tells of memory and of the work inside a rank.
func (a *rejects) whySplit(w Workers, yields Prediction) string {
	plan := a.plan.Workers
	parts := []string{a.why(w, yields)}
	told := false
	if l := &a.p.Limits; l.MemoryPerWorkerMiB != nil {
		told = true
		part := fmt.Sprintf("%s MiB of memory where the plan needs %s", number(*a.memoryNeed(w)), number(*a.memoryNeed(plan)))
		if have := a.memoryMiB * (1 - l.MemoryReserveFraction); a.memoryMiB > 0 && *a.memoryNeed(w) > have*(1+slack) {
			part += fmt.Sprintf(", and there are %s", number(have))
		}
		parts = append(parts, part)
	}
	if s, f := a.p.Scaling, a.p.Work.SerialFraction; s != nil || f > 0 {
		told = true
		what := fmt.Sprintf("if the serial %s lies between the parallel regions of each rank", number(f))
		if s != nil {
			what = "if the law was fitted to the threads of one rank"
		}
		parts = append(parts, fmt.Sprintf("%s, %s against the plan's %s", what, a.inRanks(w), a.inRanks(plan)))
	}
	if !told {
		parts = append(parts, "the model sees no other difference (no memory_per_worker_mib, serial_fraction or scaling is given)")
	}
	switch {
	case w.Processes > plan.Processes:
		parts = append(parts, fmt.Sprintf("%d ranks send messages and each holds what ranks share, instead of %d", w.Processes, plan.Processes))
	case w.Processes < len(a.nodes) && w.Inner > 1:
		parts = append(parts, "a rank's threads sit on several nodes, and its data on the one whose thread touched them first")
	case w.Processes < plan.Processes:
		parts = append(parts, fmt.Sprintf("%d ranks send messages instead of %d, and more threads wait at each barrier", w.Processes, plan.Processes))
	}
	return strings.Join(parts, "; ")
}

// inRanks is the speed of so many ranks, each a team of its own, in idle cores:
// ranks × S(threads), by the fitted law or by Amdahl's.
func (a *rejects) inRanks(w Workers) string {
	threads := max(1, w.Inner)
	each := 1 / (a.law.serial + (1-a.law.serial)/float64(threads))
	if a.law.scaling != nil {
		each = a.law.fitted(threads)
	}
	return fmt.Sprintf("%d × %s = %s", w.Processes, number(each), number(float64(w.Processes)*each))
}

// libraries is what happens where nobody tells OpenMP or a BLAS how many threads
// to start: each process takes one for each CPU that it may use.
func (a *rejects) libraries() {
	w, cpus := a.plan.Workers, a.law.cpus
	switch a.p.Runtime {
	case profiles.Native, profiles.OpenMP, profiles.Python, profiles.PythonFreeThreaded:
	default:
		return
	}
	if w.Processes == 1 || cpus == 1 {
		return
	}
	w.Inner = w.Threads * cpus
	w.Threads = 1
	if w.Inner == a.plan.Workers.Each() {
		return
	}
	yields := a.plan.Predicted
	yields.StallMS = a.stall(w.Total())
	if a.p.Load.Tasks == nil {
		switch r := a.rule.(type) {
		case *pureRule, *nestedRule:
			yields = r.predict(w)
		}
	}
	a.addWith("the libraries' default without seats, a thread per CPU in each", w, yields, a.whyCrowded)
}

// whyCrowded is about more busy threads than CPUs.
func (a *rejects) whyCrowded(w Workers, yields Prediction) string {
	how := "at best the same"
	if y, p := yields.Speedup, a.plan.Predicted.Speedup; y != nil && p != nil && *p > 0 && *y < *p*(1-0.001) {
		how = fmt.Sprintf("at best %s %% less throughput", number(math.Round(1000*(1 - *y / *p))/10))
	}
	why := fmt.Sprintf("%s: %d threads on %d CPUs, %s for each, take turns, and a barrier waits for those that have none",
		how, w.Total(), a.law.cpus, number(float64(w.Total())/float64(a.law.cpus)))
	if s := yields.StallMS; s != nil && *s > 0 {
		why += fmt.Sprintf("; under the quota of %s CPUs all stand still for up to %s ms in each %s ms", number(a.quota), number(*s), number(a.periodMS))
	}
	return why
}
