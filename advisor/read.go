package advisor

import (
	"fmt"
	"io"
	"slices"

	"berth/probe"
	"berth/probe/cpuset"
)

// Read reads a berth.plan/v1 document, which errors call name. It checks what a
// launcher relies on: counts above 0 that a kernel can hold, those of the levels
// too, and seats of workers that there are, for all or none of them.
func Read(r io.Reader, name string) (*Plan, error) {
	var p Plan
	if err := probe.ReadDocument(r, name, Schema, &p); err != nil {
		return nil, err
	}
	w := &p.Workers
	if w.Processes < 1 || w.Threads < 1 || w.Inner < 0 {
		return nil, fmt.Errorf("%s: workers: %d processes of %d threads; both are at least 1", name, w.Processes, w.Threads)
	}
	// Divided, for a product might not fit an int.
	if w.Processes > mostThreads/max(1, w.Inner)/w.Threads {
		return nil, fmt.Errorf("%s: workers: %d processes of %d threads, %d in each, are more than any kernel holds", name, w.Processes, w.Threads, max(1, w.Inner))
	}
	switch {
	case w.InFlight < 0, w.EventLoops < 0, w.EventLoops > mostThreads:
		return nil, fmt.Errorf("%s: workers: %d tasks in flight in %d event loops: no program has that", name, w.InFlight, w.EventLoops)
	case p.BudgetCPUs < 0:
		return nil, fmt.Errorf("%s: budget_cpus is %g; it is above 0", name, p.BudgetCPUs)
	case p.MemoryMiB != nil && !(*p.MemoryMiB >= 0 && *p.MemoryMiB < 1<<43): // in bytes, an int64
		return nil, fmt.Errorf("%s: memory_mib is %g; no machine has that", name, *p.MemoryMiB)
	}
	for i, l := range p.Levels {
		if l.Count < 1 || l.Count > mostThreads {
			return nil, fmt.Errorf("%s: levels[%d]: %d of %s; there is at least 1, and no kernel holds more than %d", name, i, l.Count, l.Name, mostThreads)
		}
	}
	seated := make([]bool, w.Processes)
	for i, s := range p.Placement.Seats {
		switch {
		case s.Worker < 0 || s.Worker >= w.Processes:
			return nil, fmt.Errorf("%s: placement.seats[%d]: worker %d, and there are %d, from 0", name, i, s.Worker, w.Processes)
		case s.Thread != nil && (*s.Thread < 0 || *s.Thread >= w.Threads*max(1, w.Inner)):
			return nil, fmt.Errorf("%s: placement.seats[%d]: thread %d, and there are %d, from 0", name, i, *s.Thread, w.Threads*max(1, w.Inner))
		case s.CPUs.IsEmpty():
			return nil, fmt.Errorf("%s: placement.seats[%d]: it has no CPU", name, i)
		}
		if _, err := cpuset.Parse(s.Mems); err != nil {
			return nil, fmt.Errorf("%s: placement.seats[%d]: mems: %w", name, i, err)
		}
		seated[s.Worker] = true
	}
	if i := slices.Index(seated, false); i >= 0 && len(p.Placement.Seats) > 0 {
		return nil, fmt.Errorf("%s: placement.seats: worker %d has none, and others have", name, i)
	}
	return &p, nil
}
