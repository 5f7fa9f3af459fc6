package probe

import (
	"cmp"
	"fmt"
	"slices"

	"berth/probe/cpuset"
	"berth/probe/procfs"
	"berth/probe/root"
	"berth/probe/sysfs"
	"berth/probe/topology"
)

// The names of kinds, fastest first. Between the fastest and the slowest of
// three or more stand "middle", "middle-2" …
const (
	performance = "performance"
	efficiency  = "efficiency"
	lowPower    = "low-power"
)

// findKinds says which cores differ, by the first of these that knows:
//
//  1. the performance-monitoring devices of hybrid Intel parts;
//  2. CPUID leaf 0x1A, or AMD's core types, read on each CPU;
//  3. the part numbers of Arm cores;
//  4. the scheduler's capacities;
//  5. CPPC's highest performance, an inference.
//
// Neither frequency nor a missing SMT sibling makes a kind: both vary among
// equal cores. A machine of equal cores has no kinds.
func findKinds(f *sysfs.Facts, fromCPUID []topology.Kind, parts []procfs.Processor, r *root.Root) []topology.Kind {
	kinds := pmuKinds(f)
	if kinds == nil && len(fromCPUID) > 1 {
		kinds = slices.Clone(fromCPUID)
	}
	if kinds == nil {
		kinds = partKinds(f, parts)
	}
	if kinds == nil {
		kinds = scaleKinds(f.Online, f.Capacity, 1.15, "cpu_capacity")
	}
	if kinds == nil {
		// Cores picked at the factory differ by up to a quarter on this scale
		// and are of one kind.
		kinds = scaleKinds(f.Online, f.HighestPerf, 1.4, "CPPC highest_perf, an inference")
	}
	if len(kinds) < 2 {
		return nil
	}
	for i := range kinds {
		k := &kinds[i]
		if c := maxOver(k.CPUs, f.Capacity); c > 0 {
			k.Capacity = &c
		}
		k.MaxKHz, _ = sysfs.Frequencies(r, k.CPUs.First())
	}
	rank(kinds)
	return kinds
}

// pmuKinds takes the lists of /sys/devices/cpu_core and its like.
func pmuKinds(f *sysfs.Facts) []topology.Kind {
	names := [...]string{performance, efficiency, lowPower}
	var kinds []topology.Kind
	for i, cpus := range f.PMU {
		if !cpus.IsEmpty() {
			kinds = append(kinds, topology.Kind{Name: names[i], CPUs: cpus, Source: "/sys/devices/" + sysfs.PMUs[i]})
		}
	}
	if len(kinds) < 2 {
		return nil
	}
	return splitLowPower(kinds, f.Caches)
}

// splitLowPower parts off the efficiency cores that have no L3 where the
// others have one: since Meteor Lake those sit on another die.
func splitLowPower(kinds []topology.Kind, caches []topology.Cache) []topology.Kind {
	var withL3 []cpuset.Set
	for _, c := range caches {
		if c.Level == 3 {
			withL3 = append(withL3, c.CPUs)
		}
	}
	l3 := cpuset.UnionAll(withL3...)
	for i := range kinds {
		far := kinds[i].CPUs.Minus(l3)
		if kinds[i].Name == efficiency && !far.IsEmpty() && kinds[0].CPUs.SubsetOf(l3) {
			source := kinds[i].Source + ", without an L3"
			if far.Equal(kinds[i].CPUs) {
				kinds[i].Name, kinds[i].Source = lowPower, source
			} else {
				kinds[i].CPUs = kinds[i].CPUs.Minus(far)
				kinds = append(kinds, topology.Kind{Name: lowPower, CPUs: far, Source: source})
			}
			break
		}
	}
	return kinds
}

// partKinds groups Arm cores by their design.
func partKinds(f *sysfs.Facts, listed []procfs.Processor) []topology.Kind {
	source := "MIDR_EL1"
	partOf := map[cpuset.CPU]procfs.Part{}
	for c := range f.Online.All() {
		if int(c) < len(f.MIDR) && f.MIDR[c] != 0 {
			partOf[c] = procfs.PartOfMIDR(f.MIDR[c])
		}
	}
	if len(partOf) == 0 {
		source = "/proc/cpuinfo CPU part"
		for _, p := range listed {
			if p.Part != (procfs.Part{}) && f.Online.Contains(p.CPU) {
				partOf[p.CPU] = p.Part
			}
		}
	}
	byPart := map[procfs.Part][]cpuset.CPU{}
	for c, p := range partOf {
		byPart[p] = append(byPart[p], c)
	}
	if len(byPart) < 2 {
		return nil
	}
	var kinds []topology.Kind
	for p, cpus := range byPart {
		kinds = append(kinds, topology.Kind{CPUs: cpuset.Of(cpus...), Model: p.String(), Source: source})
	}
	slices.SortFunc(kinds, func(a, b topology.Kind) int { return a.CPUs.Compare(b.CPUs) })
	return kinds
}

// scaleKinds groups CPUs by a number that says how fast they are, where two
// neighbouring values are at least ratio apart.
func scaleKinds(online cpuset.Set, scale []int, ratio float64, source string) []topology.Kind {
	type scored struct {
		cpu   cpuset.CPU
		value int
	}
	var all []scored
	for c := range online.All() {
		if int(c) < len(scale) && scale[c] > 0 {
			all = append(all, scored{c, scale[c]})
		}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.cpu, b.cpu))
	})
	var kinds []topology.Kind
	var group []cpuset.CPU
	for i, s := range all {
		group = append(group, s.cpu)
		if i+1 == len(all) || float64(s.value) >= ratio*float64(all[i+1].value) {
			kinds = append(kinds, topology.Kind{CPUs: cpuset.Of(group...), Source: source})
			group = nil
		}
	}
	if len(kinds) < 2 {
		return nil
	}
	return kinds
}

func maxOver(cpus cpuset.Set, scale []int) int {
	most := 0
	for c := range cpus.All() {
		if int(c) < len(scale) {
			most = max(most, scale[c])
		}
	}
	return most
}

// rank orders kinds fastest first and names those that have no name yet.
func rank(kinds []topology.Kind) {
	named := kinds[0].Name != ""
	speed := func(k topology.Kind) int64 {
		switch {
		case k.Capacity != nil:
			return int64(*k.Capacity) << 32
		case k.MaxKHz != nil:
			return *k.MaxKHz
		}
		return 0
	}
	known := true
	for _, k := range kinds {
		known = known && speed(k) > 0
	}
	if !named && known {
		slices.SortStableFunc(kinds, func(a, b topology.Kind) int { return cmp.Compare(speed(b), speed(a)) })
	}
	for i := range kinds {
		k := &kinds[i]
		if k.Name != "" {
			continue
		}
		ranked := known || k.Model == "" // capacities and CPPC come ranked
		switch {
		case !ranked:
			k.Name = k.Model
		case i == 0:
			k.Name = performance
		case i == len(kinds)-1:
			k.Name = efficiency
		case i == 1:
			k.Name = "middle"
		default:
			k.Name = fmt.Sprintf("middle-%d", i)
		}
	}
}
