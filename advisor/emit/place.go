package emit

import (
	"math"
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
)

// place is what one process is given.
type place struct {
	cpus    cpuset.Set
	mems    string       // NUMA nodes, as a list
	threads []cpuset.Set // of each thread, where each has a seat of its own
}

// places are those of a plan's processes; nil where they are not pinned.
func places(p *advisor.Plan) []place {
	if len(p.Placement.Seats) == 0 {
		return nil
	}
	out := make([]place, p.Workers.Processes)
	for _, s := range p.Placement.Seats {
		at := &out[s.Worker]
		at.cpus = at.cpus.Union(s.CPUs)
		at.mems = joinMems(at.mems, s.Mems)
		if s.Thread != nil {
			at.threads = append(at.threads, s.CPUs)
		}
	}
	return out
}

func joinMems(have, more string) string {
	for _, id := range strings.Split(more, ",") {
		switch {
		case id == "" || strings.Contains(","+have+",", ","+id+","):
		case have == "":
			have = id
		default:
			have += "," + id
		}
	}
	return have
}

// allMems are the nodes of all seats.
func allMems(at []place) string {
	mems := ""
	for _, a := range at {
		mems = joinMems(mems, a.mems)
	}
	return mems
}

// hasThreadSeats reports whether threads of one process are told apart.
func hasThreadSeats(at []place) bool {
	for _, a := range at {
		if len(a.threads) > 1 {
			return true
		}
	}
	return false
}

// quota is the CPU time that the plan is limited to, in CPUs; 0 where nothing
// but the number of CPUs limits it.
func quota(p *advisor.Plan) float64 {
	if p.BudgetCPUs < float64(p.Placement.CPUs.Len()) {
		return p.BudgetCPUs
	}
	return 0
}

// inner is the number of threads in each process.
func inner(p *advisor.Plan) int { return p.Workers.Threads * max(1, p.Workers.Inner) }

// running is how many threads of one process can run at a time: no more than it
// has, than its CPUs, and than its part of the budget allows.
func running(p *advisor.Plan) int {
	n := min(inner(p), max(1, int(math.Ceil(p.BudgetCPUs/float64(p.Workers.Processes)))))
	if at := places(p); at != nil {
		n = min(n, at[0].cpus.Len())
	}
	return n
}

// cpus is how many CPUs all workers together keep busy.
func cpus(p *advisor.Plan) float64 {
	if at := places(p); at != nil {
		return math.Min(p.BudgetCPUs, float64(p.Placement.CPUs.Len()))
	}
	return math.Min(p.BudgetCPUs, float64(p.Workers.Total()))
}
