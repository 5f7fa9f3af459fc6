package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// nodeView knows what to say of a node besides its memory and distances.
type nodeView struct {
	across map[int]bool // nodes that lie across the objects of the tree
	mems   *cpuset.Set  // the nodes that the cpuset leaves; nil: nobody knows
}

// numaSection prints each node's memory and distances. The CPUs of a node are
// in the tree, but for nodes that lie across its objects.
func numaSection(p *page, m *probe.Machine, across map[int]bool, full bool) {
	nodes, view := m.Topology.NUMANodes, nodeView{across, m.Limits.Mems}
	if len(nodes) < 2 {
		return
	}
	known := slices.ContainsFunc(nodes, func(n topology.NUMA) bool {
		return n.MemoryBytes != nil || len(n.Distances) > 0 || view.extra(n) != ""
	})
	if !known {
		return
	}
	// A matrix where it fits, else nodes that see the others alike in one row.
	matrix := full || len(nodes) <= 8 && 40+5*len(nodes) <= p.width
	if !matrix {
		p.heading("NUMA nodes")
		p.table(view.groups(nodes))
		return
	}
	p.heading("NUMA")
	var rows [][]string
	wide := slices.ContainsFunc(nodes, func(n topology.NUMA) bool { return len(n.Distances) == len(nodes) })
	if wide {
		var ids []string
		for _, n := range nodes {
			ids = append(ids, fmt.Sprintf("%4d", n.ID))
		}
		rows = append(rows, []string{"", "memory", "distance to" + strings.Join(ids, "")})
	}
	for _, n := range nodes {
		var line strings.Builder
		if wide {
			line.WriteString(pad("", len("distance to")))
		}
		for i, d := range n.Distances {
			fmt.Fprintf(&line, "%*d", max(4, len(strconv.Itoa(nodes[min(i, len(nodes)-1)].ID))), d)
		}
		cells := line.String()
		if extra := view.extra(n); extra != "" {
			cells += "  " + extra
		}
		rows = append(rows, []string{fmt.Sprintf("node %d", n.ID), nodeMemory(n), cells})
	}
	p.table(rows)
}

func (v nodeView) extra(n topology.NUMA) string {
	var parts []string
	switch {
	case n.CPUs.IsEmpty() && n.Near != nil:
		parts = append(parts, "no CPUs, nearest to "+cpuWord(*n.Near))
	case n.CPUs.IsEmpty():
		parts = append(parts, "no CPUs")
	case v.across[n.ID]:
		parts = append(parts, cpuWord(n.CPUs))
	}
	if n.GPU != "" {
		parts = append(parts, "the memory of GPU "+n.GPU)
	}
	if v.mems != nil && !v.mems.Contains(cpuset.CPU(n.ID)) {
		parts = append(parts, "not for this process")
	}
	return strings.Join(parts, ", ")
}

func nodeMemory(n topology.NUMA) string {
	if n.MemoryBytes == nil {
		return "memory unknown"
	}
	return memorySize(*n.MemoryBytes)
}

// nodeGroups sums up nodes that have CPUs or none alike and see the same
// distances.
func (v nodeView) groups(nodes []topology.NUMA) [][]string {
	type group struct {
		ids            []int
		least, most    int64
		distance, more string
	}
	var groups []*group
	for _, n := range nodes {
		g := &group{distance: distances(n.Distances), more: v.extra(n)}
		i := slices.IndexFunc(groups, func(o *group) bool { return o.distance == g.distance && o.more == g.more })
		if i < 0 {
			groups = append(groups, g)
		} else {
			g = groups[i]
		}
		if n.MemoryBytes != nil {
			if g.ids == nil || *n.MemoryBytes < g.least {
				g.least = *n.MemoryBytes
			}
			g.most = max(g.most, *n.MemoryBytes)
		}
		g.ids = append(g.ids, n.ID)
	}
	var rows [][]string
	for _, g := range groups {
		memory := "memory unknown"
		if g.most > 0 {
			memory = memorySize(g.most)
			if least := memorySize(g.least); least != memory {
				memory = least + " to " + memory
			}
			if len(g.ids) > 1 {
				memory += " each"
			}
		}
		name := "node "
		if len(g.ids) > 1 {
			name = "nodes "
		}
		rows = append(rows, []string{name + numbers(g.ids), memory, strings.TrimSpace(g.distance + "  " + g.more)})
	}
	return rows
}

// distances counts equal distances: "distance 10, 22 × 3, 28 × 60".
func distances(list []int) string {
	if len(list) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(list))
	var parts []string
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j] == sorted[i] {
			j++
		}
		part := strconv.Itoa(sorted[i])
		if j-i > 1 {
			part += fmt.Sprintf(" × %d", j-i)
		}
		parts = append(parts, part)
		i = j
	}
	return "distance " + strings.Join(parts, ", ")
}
