package advisor

import (
	"fmt"
	"math"
)

// demandCPUs is how many CPUs' worth of time a workload can use, in CPUs of the fastest
// kind, and why; +Inf where it takes all it can get.
//
// A rate λ of tasks that need C needs λ·C ÷ the utilisation aimed at, and of event
// loops whole ones, unless it is less than one; a target of the wait needs the cores
// that its plan calls for. What
// else its plan has in short supply bounds it further: memory, tasks, what it waits
// for, or a law by which more CPUs add nothing.
func (s *study) demandCPUs() (cpus float64, why string) {
	w, by := s.plan.Workers, s.plan.Binding
	bound := by.Name == ByMemory || by.Name == ByTasks || by.Name == ByDown
	switch r := s.rule.(type) {
	case *latencyRule:
		cores := r.enough
		if bound {
			cores = min(len(s.cores), w.Total())
		}
		if cores == 0 {
			return math.Inf(1), "all it can get: no part of this machine meets its target"
		}
		cpus = s.law.shared(cores)
		return cpus, fmt.Sprintf("%s CPUs: alone on the machine %s", number(cpus), by.Detail)
	case *asyncRule:
		if s.arrivals() > 0 && s.cpu > 0 {
			cpus = s.arrivals() * s.planned / loopBusy
			why = fmt.Sprintf("%s/s × %s ms ÷ %s = %s of an event loop", number(*s.p.Load.ArrivalPerS), number(s.planned), number(loopBusy), number(cpus))
			if cpus > 1 {
				loops := ceil(cpus)
				if bound {
					loops = min(loops, w.EventLoops)
				}
				cpus, why = float64(loops), fmt.Sprintf("%s for %s per second", plural(loops, "event loop", "event loops"), number(*s.p.Load.ArrivalPerS))
			}
			return cpus, why
		}
	}
	cpus, why = math.Inf(1), "all it can get"
	if s.cpu > 0 && (s.arrivals() > 0 || s.wait > 0 && bound) {
		rate, what := s.arrivals(), ""
		if x := s.plan.Predicted.ThroughputPS; bound && x != nil && (rate == 0 || *x/1000 < rate) {
			rate, what = *x/1000, fmt.Sprintf(", no more of them because alone on the machine %s", by.Detail)
		}
		cpus = rate * s.planned / s.p.Target()
		why = fmt.Sprintf("%s/s × %s ms ÷ %s = %s CPUs%s", number(rate*1000), number(s.planned), number(s.p.Target()), number(cpus), what)
	}
	busy, limit := w.Total(), by
	if s.wait > 0 && s.cpu > 0 {
		busy, limit = s.pure.n, s.pure.by
	}
	// Fewer threads than cores are as many as it has a use for, but under a quota.
	if busy < len(s.cores) && limit.Name != ByQuota && s.law.held[busy] < cpus {
		cpus = s.law.held[busy]
		why = fmt.Sprintf("%s CPUs: alone on the machine %s", number(cpus), limit.Detail)
	}
	return cpus, why
}

// mostlyWaits: the workload leaves nearly all of a core idle. One whose objective is
// the time of a task does not, for it would wait for those beside it.
func (s *share) mostlyWaits() bool {
	waits := 0.0
	if t := s.alone; t.cpu > 0 {
		waits = t.wait / (t.wait + t.cpu)
	}
	return !s.latency() && (s.demand < 0.5 || waits >= 0.9 && s.demand < 1)
}
