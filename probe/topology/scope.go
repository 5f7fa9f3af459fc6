package topology

import "berth/probe/cpuset"

// Scopes returns a function that names the smallest object covering a set of
// CPUs: core, cluster, die, package or machine, with "part of" in front where
// the set is less than the object. A part of a core counts as the core: whether
// it is less than all depends on which siblings are online.
func (t *Topology) Scopes() func(cpuset.Set) string {
	size := int(t.Online.Last()) + 1
	type level struct {
		name string
		of   []int32
		cpus func(int32) cpuset.Set
	}
	levels := [...]level{
		{"core", Owners(size, t.Cores, func(c Core) cpuset.Set { return c.CPUs }), func(i int32) cpuset.Set { return t.Cores[i].CPUs }},
		{"cluster", Owners(size, t.Clusters, func(g Group) cpuset.Set { return g.CPUs }), func(i int32) cpuset.Set { return t.Clusters[i].CPUs }},
		{"die", Owners(size, t.Dies, func(d Die) cpuset.Set { return d.CPUs }), func(i int32) cpuset.Set { return t.Dies[i].CPUs }},
		{"package", Owners(size, t.Packages, func(p Package) cpuset.Set { return p.CPUs }), func(i int32) cpuset.Set { return t.Packages[i].CPUs }},
	}
	return func(cpus cpuset.Set) string {
		for _, l := range levels {
			first := cpus.First()
			if first < 0 || int(first) >= size || l.of[first] < 0 {
				continue
			}
			switch all := l.cpus(l.of[first]); {
			case cpus.Equal(all), l.name == "core" && cpus.SubsetOf(all):
				return l.name
			case cpus.SubsetOf(all):
				return "part of " + l.name
			}
		}
		if cpus.Equal(t.Online) {
			return "machine"
		}
		return "part of machine"
	}
}
