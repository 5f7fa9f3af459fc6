package cpuid

import (
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// The names of core kinds, fastest first.
var kindNames = [...]string{"performance", "efficiency", "low-power"}

const (
	performance = iota
	efficiency
	lowPower
	noKind = -1
)

// kind is the CPU's own word on what core it is: Intel leaf 0x1a EAX[31:24],
// AMD 0x80000026 EBX[31:28] where EAX bit 30 says that cores differ.
func (p processor) kind(amd bool) int {
	if amd {
		r := p.at(leafAMDTopology, 0)
		if field(r.EAX, 30, 30) == 0 || field(r.ECX, 15, 8) != amdCore {
			return noKind
		}
		switch field(r.EBX, 31, 28) {
		case 0:
			return performance
		case 1:
			return efficiency
		}
		return noKind
	}
	switch field(p.at(leafHybrid, 0).EAX, 31, 24) {
	case 0x40:
		return performance
	case 0x20:
		return efficiency
	}
	return noKind
}

// kinds makes the list of core kinds; one kind alone says nothing and is left
// out. Intel's low-power island reports the efficiency type: what sets it apart
// is that the others' L3 is not its own.
func kinds(of map[cpuset.CPU]int, caches []topology.Cache) []topology.Kind {
	var l3 []cpuset.Set
	for _, c := range caches {
		if c.Level == 3 {
			l3 = append(l3, c.CPUs)
		}
	}
	withL3 := cpuset.UnionAll(l3...)
	var members [len(kindNames)][]cpuset.CPU
	for c, k := range of {
		if k == efficiency && !withL3.IsEmpty() && !withL3.Contains(c) {
			k = lowPower
		}
		members[k] = append(members[k], c)
	}
	var all []topology.Kind
	for k, cpus := range members {
		if len(cpus) > 0 {
			all = append(all, topology.Kind{Name: kindNames[k], CPUs: cpuset.Of(cpus...), Source: source})
		}
	}
	if len(all) < 2 {
		return nil
	}
	return all
}
