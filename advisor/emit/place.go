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
		if _, err := cpuset.Parse(s.Mems); err == nil { // so that nothing else gets into a script
			at.mems = joinMems(at.mems, s.Mems)
		}
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

// cpus is how many CPUs all workers together keep busy.
func cpus(p *advisor.Plan) float64 {
	if len(p.Placement.Seats) > 0 {
		return math.Min(p.BudgetCPUs, float64(p.Placement.CPUs.Len()))
	}
	return math.Min(p.BudgetCPUs, float64(p.Workers.Total()))
}

// singles are the places of a server whose processes have one thread each, and
// how many of these there are: the plan's event loops (on a CPU each of a group
// that they share), or a process for each
// thread that the plan has, but no more than the CPUs that it keeps busy. Nil
// places: not pinned.
func singles(p *advisor.Plan) ([]place, int) {
	if n := p.Workers.EventLoops; n > 0 {
		at := loopPlaces(p)
		if at != nil && n > 1 && at[0].cpus.Len() == n && at[0].cpus.Equal(at[n-1].cpus) {
			i := 0
			for c := range at[0].cpus.All() { // shared by as many loops
				at[i].cpus = cpuset.Range(c, c)
				i++
			}
		}
		return at, n
	}
	n := min(p.Workers.Total(), max(1, int(math.Ceil(cpus(p)-1e-9))))
	at := places(p)
	if at == nil {
		return nil, n
	}
	var flat []place
	for _, a := range at {
		for _, set := range threadPlaces(p, a) {
			flat = append(flat, place{cpus: set, mems: a.mems})
		}
	}
	out := make([]place, n)
	for i := range out {
		out[i] = flat[i%len(flat)]
	}
	return out, n
}

// oneEach reports whether each place is a CPU that no other place has.
func oneEach(at []place) bool {
	var seen cpuset.Set
	for _, a := range at {
		if a.cpus.Len() != 1 || a.cpus.Overlaps(seen) {
			return false
		}
		seen = seen.Union(a.cpus)
	}
	return at != nil
}

// notThreads is for servers whose processes have one event loop each.
func (s *sheet) notThreads(p *advisor.Plan, server string) {
	switch {
	case p.Workers.EventLoops > 0:
	case p.Workers.Threads > 1:
		s.cannot("%s: %s has event loops, one for each CPU that the plan keeps busy", advisor.Describe(p.Workers), server)
	case p.Workers.Inner > 1:
		s.cannot("%d threads within each task: %s has event loops, one for each CPU that the plan keeps busy", p.Workers.Inner, server)
	}
}

// cannotSeat is for tools that give no process its CPUs.
func (s *sheet) cannotSeat(p *advisor.Plan, hint string) {
	if p.Placement.Pin != advisor.NoPin {
		s.cannot("seats on CPUs %s: %s", p.Placement.CPUs, hint)
	}
}

// cannotLimit is for tools that know whole CPUs only.
func (s *sheet) cannotLimit(p *advisor.Plan, hint string) {
	if q := p.Quota(); q > 0 {
		s.cannot("the quota of %g CPUs: %s", q, hint)
	}
}
