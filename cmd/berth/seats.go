//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/place"
)

// seating is where the workers of a run, or the threads of a process, belong:
// places in order.
type seating struct {
	cpus, place string
}

func (s *seating) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&s.cpus, "cpus", "c", "", "the CPUs, a `LIST` of Linux numbers such as 0-3,8")
	flags.StringVar(&s.place, "place", "", "the CPUs, a place `EXPRESSION` such as package:0.core:0-3 (berth place explains it)")
}

func (s *seating) given(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("cpus") || cmd.Flags().Changed("place")
}

// places are the CPUs of a list one by one, or the places of an expression.
func (s *seating) places(cmd *cobra.Command) (place.Places, error) {
	if cmd.Flags().Changed("place") && s.place == "" {
		return nil, usage("for example --place llc:0", "--place is empty")
	}
	return s.find(cmd)
}

func (s *seating) find(cmd *cobra.Command) (place.Places, error) {
	if s.place != "" {
		m, err := (&machineFlags{}).probe(cmd, placeParts)
		if err != nil {
			return nil, err
		}
		places, err := place.Parse(s.place, &m.Topology)
		if err != nil {
			return nil, placeError("--place", err)
		}
		return places, nil
	}
	set, err := parseCPUs(cmd, s.cpus)
	if err != nil {
		return nil, err
	}
	return single(set), nil
}

// single makes each CPU a place.
func single(set cpuset.Set) place.Places {
	var out place.Places
	for c := range set.All() {
		out = append(out, cpuset.Range(c, c))
	}
	return out
}

// parseCPUs reads --cpus. What is relative to the machine, all and !LIST, needs
// a look at it; the rest does not.
func parseCPUs(cmd *cobra.Command, list string) (cpuset.Set, error) {
	set, err := cpuset.Parse(list)
	if err != nil {
		m, probeErr := (&machineFlags{}).probe(cmd, probe.Budget)
		if probeErr != nil {
			return cpuset.Set{}, probeErr
		}
		set, err = cpuset.ParseIn(list, m.Topology.Online)
	}
	switch {
	case err != nil:
		return cpuset.Set{}, usage("a list such as 0-3,8", "--cpus: %w", err)
	case set.IsEmpty():
		return cpuset.Set{}, usage("give at least one CPU", "--cpus %s holds no CPU", list)
	}
	return set, nil
}

// deal gives n workers equal shares of the places, in order; where there are
// more workers than places, they begin again with the first.
func deal(places place.Places, n int) []place.Places {
	out := make([]place.Places, n)
	for i := range out {
		if n >= len(places) {
			out[i] = places[i%len(places) : i%len(places)+1]
			continue
		}
		out[i] = places[i*len(places)/n : (i+1)*len(places)/n]
	}
	return out
}

// planned are the seats of a plan: those of each process, and those of its
// threads where the plan tells them apart.
func planned(plan *advisor.Plan) (seats []affinity.Seat, threads [][]affinity.Seat, err error) {
	seats = make([]affinity.Seat, plan.Workers.Processes)
	threads = make([][]affinity.Seat, plan.Workers.Processes)
	for i := range seats {
		seats[i].Worker = i
	}
	for _, s := range plan.Placement.Seats {
		at := &seats[s.Worker]
		at.CPUs = at.CPUs.Union(s.CPUs)
		if s.Mems != "" {
			nodes, err := cpuset.Parse(s.Mems)
			if err != nil {
				return nil, nil, fmt.Errorf("the plan's seat of worker %d: mems: %w", s.Worker, err)
			}
			if at.Memory == nil {
				// While a node is full, memory elsewhere beats none.
				at.Memory = &affinity.Memory{Mode: affinity.MemoryPreferred}
			}
			at.Memory.Nodes = at.Memory.Nodes.Union(nodes)
		}
		if s.Thread != nil {
			list := &threads[s.Worker]
			for len(*list) <= *s.Thread {
				*list = append(*list, affinity.Seat{Worker: s.Worker, Thread: new(len(*list))})
			}
			(*list)[*s.Thread].CPUs = s.CPUs
		}
	}
	return seats, threads, nil
}

// substitute puts a worker's figures into a word of its command.
func substitute(word string, worker, n int, cpus cpuset.Set) string {
	return strings.NewReplacer("{worker}", fmt.Sprint(worker), "{n}", fmt.Sprint(n), "{cpus}", cpus.String()).Replace(word)
}
