package advisor

import (
	"fmt"
	"io"

	"berth/probe"
)

// Read reads a berth.plan/v1 document, which errors call name. It checks what a
// launcher relies on: counts above 0, and seats of workers that there are.
func Read(r io.Reader, name string) (*Plan, error) {
	var p Plan
	if err := probe.ReadDocument(r, name, Schema, &p); err != nil {
		return nil, err
	}
	w := &p.Workers
	if w.Processes < 1 || w.Threads < 1 || w.Inner < 0 {
		return nil, fmt.Errorf("%s: workers: %d processes of %d threads; both are at least 1", name, w.Processes, w.Threads)
	}
	if w.Processes > mostThreads {
		return nil, fmt.Errorf("%s: workers: %d processes are more than any kernel holds", name, w.Processes)
	}
	for i, s := range p.Placement.Seats {
		switch {
		case s.Worker < 0 || s.Worker >= w.Processes:
			return nil, fmt.Errorf("%s: placement.seats[%d]: worker %d, and there are %d, from 0", name, i, s.Worker, w.Processes)
		case s.Thread != nil && (*s.Thread < 0 || *s.Thread >= w.Threads*max(1, w.Inner)):
			return nil, fmt.Errorf("%s: placement.seats[%d]: thread %d, and there are %d, from 0", name, i, *s.Thread, w.Threads*max(1, w.Inner))
		case s.CPUs.IsEmpty():
			return nil, fmt.Errorf("%s: placement.seats[%d]: it has no CPU", name, i)
		}
	}
	return &p, nil
}
