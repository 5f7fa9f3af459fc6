package sysfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/topology"
)

// nodes reads the NUMA nodes. A node without CPUs (memory on a device, or a
// node whose CPUs are offline) is a node all the same.
func (s *scan) nodes() {
	dir, err := s.top.Open(nodeDir)
	if err != nil {
		s.Report(err)
		return
	}
	defer dir.Close()
	r := root.Reader{Dir: dir, Found: s.Found}
	ids := numbered(r, "node")
	if online, ok := r.CPUs("online"); ok { // node numbers have a CPU list's syntax
		ids = ids.Intersect(online)
	}
	for id := range ids.All() {
		base := "node" + strconv.Itoa(int(id)) + "/"
		node := topology.NUMA{ID: int(id)}
		cpus, ok := r.CPUs(base + "cpulist")
		if !ok {
			cpus, _ = r.CPUMask(base + "cpumap")
		}
		node.CPUs = cpus.Intersect(s.t.Online)
		if info, ok := r.Text(base + "meminfo"); ok {
			total, err := memTotal(info)
			if err != nil {
				r.Malformed(base+"meminfo", err)
			} else {
				node.MemoryBytes = &total
			}
		}
		if text, ok := r.Text(base + "distance"); ok {
			node.Distances, err = parseDistances(text)
			if err != nil {
				r.Malformed(base+"distance", err)
			}
		}
		s.t.NUMANodes = append(s.t.NUMANodes, node)
	}
	s.checkDistances(r, ids)
	for i := range s.t.NUMANodes {
		if s.t.NUMANodes[i].CPUs.IsEmpty() {
			s.near(r, i)
		}
	}
}

// near finds the CPUs beside a node that has none: by the firmware's list of who
// reaches it fastest (HMAT), in the kernel's access1, which heeds CPUs alone, or
// access0; else by the least distance, unless it is that to all other nodes
// (Documentation/admin-guide/mm/numaperf.rst).
func (s *scan) near(r root.Reader, at int) {
	nodes := s.t.NUMANodes
	var near []cpuset.Set
	base := "node" + strconv.Itoa(nodes[at].ID)
	for _, access := range [...]string{"/access1/initiators", "/access0/initiators"} {
		dir, err := r.Open(base + access)
		if err != nil {
			r.Report(err)
			continue
		}
		by := numbered(root.Reader{Dir: dir, Found: s.Found}, "node")
		dir.Close()
		for _, n := range nodes {
			if by.Contains(cpuset.CPU(n.ID)) {
				near = append(near, n.CPUs)
			}
		}
		break
	}
	if row := nodes[at].Distances; len(near) == 0 && len(row) == len(nodes) {
		others := slices.Delete(slices.Clone(row), at, at+1)
		for i, n := range nodes {
			if len(others) > 0 && i != at && row[i] == slices.Min(others) && row[i] > row[at] && slices.Max(others) > row[i] {
				near = append(near, n.CPUs)
			}
		}
	}
	if set := cpuset.UnionAll(near...); !set.IsEmpty() {
		nodes[at].Near = &set
	}
}

// checkDistances drops rows whose length is not the number of nodes: nothing
// says then which entry belongs to which node.
func (s *scan) checkDistances(r root.Reader, ids cpuset.Set) {
	for i := range s.t.NUMANodes {
		n := &s.t.NUMANodes[i]
		if n.Distances == nil || len(n.Distances) == len(s.t.NUMANodes) {
			continue
		}
		r.Found.Add(finding.Contradiction, finding.Warning,
			[]string{fmt.Sprintf("%s/node%d/distance has %d entries; nodes: %s", r.Path(), n.ID, len(n.Distances), ids)},
			"A NUMA node's distances do not fit the number of nodes; they were left out.")
		n.Distances = nil
	}
}

// memTotal finds "Node 0 MemTotal: 123 kB"; kB is 1024 bytes here
// (Documentation/filesystems/proc.rst).
func memTotal(meminfo string) (int64, error) {
	for line := range strings.Lines(meminfo) {
		_, rest, ok := strings.Cut(line, "MemTotal:")
		if !ok {
			continue
		}
		field, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || n < 0 || n > 1<<52 || (unit != "" && unit != "kB") {
			return 0, fmt.Errorf("MemTotal is %.40q, not a number of kB", strings.TrimSpace(rest))
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("it has no MemTotal line")
}

func parseDistances(text string) ([]int, error) {
	var out []int
	for field := range strings.FieldsSeq(text) {
		n, err := strconv.ParseUint(field, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%.40q is not a distance", field)
		}
		out = append(out, int(n))
	}
	return out, nil
}
