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
	cpus := make([][]cpuset.Set, len(out))
	for _, s := range p.Placement.Seats {
		at := &out[s.Worker]
		cpus[s.Worker] = append(cpus[s.Worker], s.CPUs)
		at.mems = joinMems(at.mems, s.Mems)
		if s.Thread != nil {
			at.threads = append(at.threads, s.CPUs)
		}
	}
	for i := range out {
		out[i].cpus = cpuset.UnionAll(cpus[i]...)
	}
	return out
}

// loopPlaces are places where each event loop is a process, as in Python with
// its interpreter lock.
func loopPlaces(p *advisor.Plan) []place {
	at := places(p)
	loops := p.Workers.EventLoops
	if at == nil || len(at) == loops {
		return at
	}
	out := make([]place, loops) // the plan has them as threads of one process
	for i := range out {
		out[i] = place{cpus: at[0].cpus, mems: at[0].mems}
		if i < len(at[0].threads) {
			out[i].cpus = at[0].threads[i]
		}
	}
	return out
}

func joinMems(have, more string) string {
	if have == more {
		return have
	}
	for id := range strings.SplitSeq(more, ",") {
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

// cannotSeatThreads is for tools that set one mask for a process.
func (s *sheet) cannotSeatThreads(at []place) {
	if hasThreadSeats(at) {
		s.cannot("a seat for each thread: each process has the CPUs of all its threads")
	}
}

// cannotBindMemory is for tools that set no policy of memory.
func (s *sheet) cannotBindMemory(at []place) {
	if mems := allMems(at); mems != "" {
		s.cannot("memory on the node beside each seat (%s): without a policy the kernel takes it from there while it has any; --emit numactl binds it", mems)
	}
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
		largest := 0
		for _, a := range at {
			largest = max(largest, a.cpus.Len())
		}
		n = min(n, largest)
	}
	return n
}

// cpus is how many CPUs all workers together keep busy.
func cpus(p *advisor.Plan) float64 {
	if len(p.Placement.Seats) > 0 {
		return math.Min(p.BudgetCPUs, float64(p.Placement.CPUs.Len()))
	}
	return math.Min(p.BudgetCPUs, float64(p.Workers.Total()))
}
