package cpuid

import (
	"fmt"
	"slices"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// source is who says what this package says.
const source = "cpuid"

// Topology is the shape of the machine as CPUID tells it. Online and Allowed
// are the CPUs of the dump. CPUs that the dump does not place are in no
// package, core or cache, and a finding names them.
func (d *Dump) Topology() (topology.Topology, []finding.Finding) {
	var found finding.List
	online := d.CPUs()
	t := topology.Topology{Online: online, Allowed: online}
	b := builder{id: d.ident(), t: &t, found: &found}
	if b.place(d) {
		b.objects()
		b.caches(d)
		b.kinds(d)
	}
	t.Arrange()
	return t, found.All()
}

type builder struct {
	id     ident
	places []place // ascending by CPU
	t      *topology.Topology
	found  *finding.List
}

// place finds where each CPU sits. It reports whether objects can be built of
// that: not where two CPUs claim one place.
func (b *builder) place(d *Dump) bool {
	var lost []cpuset.CPU
	var initial []uint32 // the 8-bit ids, in step with places
	for _, p := range d.processors() {
		var at place
		var ok bool
		if b.id.amd() {
			at, ok = p.amdPlace(b.id.family)
		} else {
			at, ok = p.intelPlace()
		}
		if !ok {
			lost = append(lost, p.a.cpu)
			continue
		}
		b.places = append(b.places, at)
		id, _ := p.initialAPIC()
		initial = append(initial, id)
	}
	if len(lost) > 0 {
		b.found.Add(finding.Missing, finding.Warning, []string{"CPUID leaf 1, 0xb or 0x8000001e of CPU " + cpuset.Of(lost...).String()},
			"No APIC id is known of %d of %d CPUs; the topology leaves them out.", len(lost), len(d.cpus))
	}
	if len(b.places) == 0 {
		return false
	}
	// A package is the widest thing: where CPUs disagree, the widest shift
	// keeps apart only what all keep apart.
	pkg := uint(0)
	for _, at := range b.places {
		pkg = max(pkg, at.pkg)
	}
	for i := range b.places {
		b.places[i].pkg = pkg
	}

	one, two, same := b.twins()
	if !same {
		return true
	}
	evidence := []string{fmt.Sprintf("CPU %d and CPU %d: APIC id %#x", one.cpu, two.cpu, one.apic)}
	for i := range b.places {
		b.places[i].apic = initial[i]
	}
	if _, _, same = b.twins(); !same {
		b.found.Add(finding.Contradiction, finding.Warning, evidence,
			"Two CPUs claim the same APIC id; the ids of CPUID leaf 1, which are all different, are used instead.")
		return true
	}
	b.found.Add(finding.Contradiction, finding.Warning, evidence,
		"Two CPUs claim the same APIC id, as when a virtual CPU moves while it is read; no topology is drawn from it.")
	return false
}

// twins finds two CPUs with one APIC id.
func (b *builder) twins() (one, two place, found bool) {
	byID := slices.Clone(b.places)
	slices.SortStableFunc(byID, func(x, y place) int { return int(int64(x.apic) - int64(y.apic)) })
	for i := 1; i < len(byID); i++ {
		if byID[i-1].apic == byID[i].apic {
			return byID[i-1], byID[i], true
		}
	}
	return place{}, place{}, false
}

// The keys of objects hold the keys of what they are in, so that sets nest and
// never overlap whatever a dump claims.
type (
	pkgKey     uint32
	dieKey     struct{ pkg, die, shift uint32 }
	clusterKey struct {
		dieKey
		cluster, shift uint32
	}
	coreKey struct {
		clusterKey
		core, shift uint32
	}
)

func (at place) keys() (pkg pkgKey, die dieKey, cluster clusterKey, core coreKey) {
	pkg = pkgKey(at.apic >> at.pkg)
	die.pkg = uint32(pkg)
	if at.died {
		die.die, die.shift = at.apic>>at.die, uint32(at.die)
	}
	cluster.dieKey = die
	if at.clustered {
		cluster.cluster, cluster.shift = at.apic>>at.cluster, uint32(at.cluster)
	}
	core = coreKey{cluster, at.apic >> at.core, uint32(at.core)}
	return pkg, die, cluster, core
}

func (b *builder) objects() {
	var (
		packages groups[pkgKey]
		dies     groups[dieKey]
		clusters groups[clusterKey]
		cores    groups[coreKey]

		firstPackage, firstDie, firstCluster, firstCore []place
	)
	for _, at := range b.places {
		pkg, die, cluster, core := at.keys()
		if packages.add(pkg, at.cpu) {
			firstPackage = append(firstPackage, at)
		}
		if at.died && dies.add(die, at.cpu) {
			firstDie = append(firstDie, at)
		}
		if at.clustered && clusters.add(cluster, at.cpu) {
			firstCluster = append(firstCluster, at)
		}
		if cores.add(core, at.cpu) {
			firstCore = append(firstCore, at)
		}
	}
	t := b.t
	for i, at := range firstPackage {
		id := int(at.apic >> at.pkg)
		t.Packages = append(t.Packages, topology.Package{ID: &id, CPUs: packages.set(i)})
	}
	for i, at := range firstDie {
		id := at.within(at.die, at.pkg)
		t.Dies = append(t.Dies, topology.Die{ID: &id, CPUs: dies.set(i)})
	}
	known := make(map[string]bool) // sets that a cluster would only repeat
	for i, at := range firstCore {
		id := at.within(at.core, at.pkg)
		core := topology.Core{ID: &id, CPUs: cores.set(i)}
		known[core.CPUs.String()] = true
		t.Cores = append(t.Cores, core)
	}
	for _, p := range t.Packages {
		known[p.CPUs.String()] = true
	}
	for i, at := range firstCluster {
		id := int(at.apic >> at.cluster)
		if cpus := clusters.set(i); !known[cpus.String()] {
			t.Clusters = append(t.Clusters, topology.Group{ID: &id, CPUs: cpus})
		}
	}
}

func (b *builder) caches(d *Dump) {
	var shared groups[cacheKey]
	var specs []cacheSpec
	var without, unstated, cut []cpuset.CPU
	for _, at := range b.places {
		i, _ := d.find(at.cpu)
		p := processor{d, &d.cpus[i]}
		var own []cacheSpec
		var elsewhere []cacheSpec // what another leaf names, with less detail
		if b.id.amd() {
			var some bool
			if own, some = p.amdCaches(b.id.family, at.nodes); some {
				unstated = append(unstated, at.cpu)
			}
			elsewhere = p.oldCaches()
		} else {
			own = p.intelCaches()
			if len(own) == 0 && b.id.vendor != intelVendor {
				own = p.oldCaches()
			}
			if b.id.vendor == intelVendor {
				elsewhere = p.descriptorCaches()
			}
		}
		switch {
		case len(own) == 0:
			without = append(without, at.cpu)
		case deeper(elsewhere, own):
			cut = append(cut, at.cpu)
		}
		for _, s := range own {
			if shared.add(s.key(at), at.cpu) {
				specs = append(specs, s)
			}
		}
	}
	for i, s := range specs {
		b.t.Caches = append(b.t.Caches, s.cache(shared.set(i)))
	}
	b.missing(without, "no leaf describes a cache", "The caches of %d CPUs are not known.")
	b.missing(unstated, "leaf 0x8000001d is missing", "Which of %d CPUs share a cache is not stated for every cache; those are left out.")
	b.missing(cut, "an older leaf names a cache that leaf 4 or 0x8000001d does not describe", "The caches of %d CPUs are known only in part.")
}

func (b *builder) missing(cpus []cpuset.CPU, evidence, format string) {
	if len(cpus) > 0 {
		b.found.Add(finding.Missing, finding.Warning, []string{"CPU " + cpuset.Of(cpus...).String() + ": " + evidence}, format, len(cpus))
	}
}

// deeper notices a dump that kept only the first sub-leaves of a leaf: where
// they end cannot be told from their absence, but another leaf may name a
// further level.
func deeper(elsewhere, own []cacheSpec) bool {
	last := func(all []cacheSpec) (level int) {
		for _, s := range all {
			level = max(level, s.level)
		}
		return level
	}
	return last(elsewhere) > last(own)
}

func (b *builder) kinds(d *Dump) {
	of := make(map[cpuset.CPU]int, len(b.places))
	for _, at := range b.places {
		i, _ := d.find(at.cpu)
		if k := (processor{d, &d.cpus[i]}).kind(b.id.amd()); k != noKind {
			of[at.cpu] = k
		}
	}
	b.t.CoreKinds = kinds(of, b.t.Caches)
}
