package hwloc

import (
	"fmt"
	"slices"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// look is the machine as hwloc looks at it. What hwloc does not show is in left,
// but for CPUs of which the kernel has no topology: to hwloc those are in the
// complete set alone, since their place is not known.
func look(m *Machine) (shown *Machine, left []string) {
	less := *m
	t := &less.Topology
	hide := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }
	if without := t.NoTopology; without != nil && !t.Online.SubsetOf(*without) {
		t.Online, t.Allowed = t.Online.Minus(*without), t.Allowed.Minus(*without)
	}
	if m.ArchGuessed { // hwloc looks for them by uname: s390
		for _, g := range slices.Concat(t.Drawers, t.Books) {
			hide("book or drawer %s, as uname of the machine is not kept", g.CPUs)
		}
		t.Drawers, t.Books = nil, nil
	}
	t.Packages = keep(t.Packages, func(p topology.Package) (topology.Package, bool) {
		cpus, ok := byMask(p.CPUs, p.Mask)
		if !ok {
			hide("package %s, whose mask says %s", p.CPUs, *p.Mask)
		}
		p.CPUs = cpus
		return p, ok
	})
	t.Caches = keep(t.Caches, func(c topology.Cache) (topology.Cache, bool) {
		cpus, ok := byMask(c.CPUs, c.Mask)
		if !ok {
			hide("level %d %s cache %s, whose mask says %s", c.Level, c.Type, c.CPUs, *c.Mask)
		}
		c.CPUs = cpus
		return c, ok
	})
	var seen cpuset.Set
	t.NUMANodes = keep(t.NUMANodes, func(n topology.NUMA) (topology.NUMA, bool) {
		switch {
		case n.GPU != "" && strings.HasPrefix(m.Arch, "ppc"): // lest others allocate there
			hide("NUMANode %d, the memory of GPU %s", n.ID, n.GPU)
			return n, false
		case n.CPUs.Overlaps(seen):
			hide("NUMANode %d, which shares CPUs with one before it", n.ID)
			return n, false
		}
		seen = seen.Union(n.CPUs)
		return n, true
	})
	return &less, left
}

// byMask are the CPUs of an object by its mask, which hwloc reads at the first CPU
// of it alone.
func byMask(cpus cpuset.Set, mask *cpuset.Set) (cpuset.Set, bool) {
	if mask == nil {
		return cpus, true
	}
	return *mask, mask.First() == cpus.First()
}

// keep is a new list of what is still there.
func keep[T any](list []T, still func(T) (T, bool)) []T {
	var out []T
	for _, one := range list {
		if one, ok := still(one); ok {
			out = append(out, one)
		}
	}
	return out
}
