package cpuid

import (
	"fmt"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// A board is a synthetic machine: what each CPU answers. Leaves that are not
// set read as zero.
type board []map[[2]uint32]Regs

func newBoard(cpus int) board {
	b := make(board, cpus)
	for i := range b {
		b[i] = map[[2]uint32]Regs{}
	}
	return b
}

func (b board) all(leaf, sub uint32, r Regs) {
	for i := range b {
		b[i][[2]uint32{leaf, sub}] = r
	}
}

func (b board) each(leaf, sub uint32, of func(cpu uint32) Regs) {
	for i := range b {
		b[i][[2]uint32{leaf, sub}] = of(uint32(i))
	}
}

func (b board) ask(cpu int, count *int) asker {
	return func(leaf, sub uint32) Regs {
		*count++
		if !hasSubLeaves(leaf) {
			sub = 0
		}
		return b[cpu][[2]uint32{leaf, sub}]
	}
}

func (b board) read(depth Depth) (*Dump, []int) {
	c := collector{depth: depth}
	asked := make([]int, len(b))
	for i := range b {
		c.read(cpuset.CPU(i), b.ask(i, &asked[i]))
	}
	return &c.dump, asked
}

// vendor sets the leaves that say how far the ranges go.
func (b board) vendor(name string, highest, extended, version uint32) {
	word := func(i int) uint32 {
		return uint32(name[i]) | uint32(name[i+1])<<8 | uint32(name[i+2])<<16 | uint32(name[i+3])<<24
	}
	b.all(0, 0, Regs{highest, word(0), word(8), word(4)})
	b.all(leafExtended, 0, Regs{EAX: extended})
	b.all(leafVersion, 0, Regs{EAX: version})
}

// cache is a sub-leaf of leaf 4 or 0x8000001d.
func cache(kind, level, sharing, ways, sets uint32) Regs {
	return Regs{kind | level<<5 | (sharing-1)<<14, (ways-1)<<22 | 63, sets - 1, 0}
}

const (
	dataCache = 1
	codeCache = 2
	unified   = 3
)

// level is a sub-leaf of 0xb, 0x1f or 0x80000026.
func topo(sub, kind, shift, apic uint32) Regs { return Regs{shift, 1, kind<<8 | sub, apic} }

// twoPackages is an Intel machine of 2 packages of 3 cores of 2 threads: core
// ids 0, 1 and 4, CPUs numbered as Linux does, second threads last.
func twoPackages() board {
	b := newBoard(12)
	b.vendor(intelVendor, 0xb, 0x80000004, 0x000306f2)
	apic := func(c uint32) uint32 { return c%6/3<<4&0x10 | [...]uint32{0, 1, 4}[c%3]<<1 | c/6 }
	b.each(leafTopology, 0, func(c uint32) Regs { return topo(0, intelSMT, 1, apic(c)) })
	b.each(leafTopology, 1, func(c uint32) Regs { return topo(1, intelCore, 4, apic(c)) })
	b.each(leafTopology, 2, func(c uint32) Regs { return topo(2, 0, 0, apic(c)) })
	b.all(leafCaches, 0, cache(dataCache, 1, 2, 8, 64))
	b.all(leafCaches, 1, cache(codeCache, 1, 2, 8, 64))
	b.all(leafCaches, 2, cache(unified, 2, 2, 8, 512))
	b.all(leafCaches, 3, cache(unified, 3, 16, 12, 8192))
	return b
}

// hyperThreads is a pair of early Pentium 4 with two threads, which know
// neither leaf 4 nor leaf 0xb.
func hyperThreads() board {
	b := newBoard(4)
	b.vendor(intelVendor, 2, 0x80000004, 0x00000f29)
	b.each(leafVersion, 0, func(c uint32) Regs { return Regs{0x00000f29, c<<24 | 2<<16, 0, 1 << 28} })
	b.all(leafDescriptors, 0, Regs{0x665b5001, 0, 0, 0x007b7000})
	return b
}

// sixThreads is a Zen of two complexes of 3 cores, the fourth of each fused
// off: 0x8000001d counts 6 sharers, not a power of two.
func sixThreads() board {
	b := newBoard(12)
	b.vendor(amdVendor, 0xd, 0x8000001e, 0x00870f10)
	apic := func(c uint32) uint32 { return c/6<<3 | c%6 }
	b.each(leafVersion, 0, func(c uint32) Regs { return Regs{0x00870f10, apic(c) << 24, 0, 0} })
	b.all(leafExtVersion, 0, Regs{ECX: 1 << 22})
	b.all(leafAMDL2L3, 0, Regs{0, 0, 512<<16 | 6<<12 | 64, 64<<18 | 9<<12 | 64})
	b.all(leafAMDSizes, 0, Regs{ECX: 11 | 4<<12})
	b.all(leafAMDCaches, 0, cache(dataCache, 1, 2, 8, 64))
	b.all(leafAMDCaches, 1, cache(codeCache, 1, 2, 8, 64))
	b.all(leafAMDCaches, 2, cache(unified, 2, 2, 8, 1024))
	b.all(leafAMDCaches, 3, cache(unified, 3, 6, 16, 16384))
	b.each(leafAMDNode, 0, func(c uint32) Regs { return Regs{apic(c), 1 << 8, 0, 0} })
	return b
}

// twoNodes is a package of two dies of 6 cores in pairs: family 0x15 on G34.
// Rounding the L3's 6 sharers up to 8 would reach into the second die.
func twoNodes() board {
	b := newBoard(12)
	b.vendor(amdVendor, 0xd, 0x8000001e, 0x00600f20)
	b.each(leafVersion, 0, func(c uint32) Regs { return Regs{0x00600f20, c << 24, 0, 0} })
	b.all(leafExtVersion, 0, Regs{EBX: g34 << 28, ECX: 1 << 22})
	b.all(leafAMDSizes, 0, Regs{ECX: 11 | 4<<12})
	b.all(leafAMDCaches, 0, cache(dataCache, 1, 1, 4, 64))
	b.all(leafAMDCaches, 1, cache(codeCache, 1, 2, 2, 512))
	b.all(leafAMDCaches, 2, cache(unified, 2, 2, 16, 2048))
	b.all(leafAMDCaches, 3, cache(unified, 3, 6, 48, 2048))
	b.each(leafAMDNode, 0, func(c uint32) Regs { return Regs{0x20 + c, 1 << 8, 1<<8 | c/6, 0} })
	return b
}

// oldNodes is the same package in family 0x10, before the leaves that name
// nodes and sharers; 0x80000006 gives the L3 of both dies together.
func oldNodes() board {
	b := newBoard(4)
	b.vendor(amdVendor, 5, 0x8000001b, 0x00100f91)
	b.each(leafVersion, 0, func(c uint32) Regs { return Regs{0x00100f91, c << 24, 0, 0} })
	b.all(leafExtVersion, 0, Regs{EBX: g34 << 28})
	b.all(leafAMDL1, 0, Regs{ECX: 64<<24 | 2<<16 | 64, EDX: 64<<24 | 0xff<<16 | 64})
	b.all(leafAMDL2L3, 0, Regs{ECX: 512<<16 | 8<<12 | 64, EDX: 20<<18 | 0xd<<12 | 64})
	b.all(leafAMDSizes, 0, Regs{ECX: 3 | 4<<12})
	return b
}

// oldDual is a pair of K8, whose 0x80000008 gives a count and no width.
func oldDual() board {
	b := newBoard(4)
	b.vendor(amdVendor, 1, 0x80000018, 0x00040f12)
	b.each(leafVersion, 0, func(c uint32) Regs { return Regs{0x00040f12, c<<24 | 2<<16, 0, 1 << 28} })
	b.all(leafAMDL1, 0, Regs{ECX: 64<<24 | 2<<16 | 64})
	b.all(leafAMDL2L3, 0, Regs{ECX: 1024<<16 | 8<<12 | 64})
	b.all(leafAMDSizes, 0, Regs{ECX: 1})
	return b
}

// emulated is such a machine by QEMU without acceleration, which adds the leaf
// that Intel defined to a processor from before Zen.
func emulated() board {
	b := oldDual()
	first := b[0][[2]uint32{leafVendor, 0}]
	first.EAX = leafTopology
	b.all(leafVendor, 0, first)
	b.each(leafTopology, 0, func(c uint32) Regs { return topo(0, intelSMT, 0, c) })
	b.each(leafTopology, 1, func(c uint32) Regs { return topo(1, intelCore, 1, c) })
	b.each(leafTopology, 2, func(c uint32) Regs { return topo(2, 0, 0, c) })
	return b
}

// hybrid has, in one package, two performance cores of which one has two
// threads, a module of two efficiency cores and one low-power core without L3.
// The L1i differs in nothing but its width: the ids of CPU 0, shifted by 1,
// and of CPU 3, shifted by 0, would be equal.
func hybrid() board {
	ids := [...]uint32{8, 9, 16, 4, 6, 32}
	kinds := [...]uint32{0x40, 0x40, 0x40, 0x20, 0x20, 0x20}
	b := newBoard(len(ids))
	b.vendor(intelVendor, 0x1f, 0x80000004, 0x000b0650)
	b.all(leafFeatures, 0, Regs{EDX: 1 << 15})
	b.each(leafHybrid, 0, func(c uint32) Regs { return Regs{EAX: kinds[c] << 24} })
	b.each(leafTopology2, 0, func(c uint32) Regs { return topo(0, intelSMT, 1, ids[c]) })
	b.each(leafTopology2, 1, func(c uint32) Regs { return topo(1, intelCore, 3, ids[c]) })
	b.each(leafTopology2, 2, func(c uint32) Regs { return topo(2, intelModule, 7, ids[c]) })
	for c := range b {
		set := func(sub uint32, r Regs) { b[c][[2]uint32{leafCaches, sub}] = r }
		if kinds[c] == 0x40 {
			set(0, cache(dataCache, 1, 2, 12, 64))
			set(1, cache(codeCache, 1, 2, 8, 64))
			set(2, cache(unified, 2, 8, 16, 2048))
			set(3, cache(unified, 3, 64, 12, 16384))
			continue
		}
		set(0, cache(dataCache, 1, 1, 8, 64))
		set(1, cache(codeCache, 1, 1, 8, 64))
		set(2, cache(unified, 2, 8, 16, 4096))
		if c != 5 {
			set(3, cache(unified, 3, 64, 12, 16384))
		}
	}
	return b
}

// dies is an Intel machine of one package, two dies, two cores each.
func dies() board {
	b := newBoard(4)
	b.vendor(intelVendor, 0x1f, 0x80000004, 0x000806f8)
	for sub, l := range [][2]uint32{{intelSMT, 1}, {intelCore, 3}, {intelDie, 4}, {0, 0}} {
		b.each(leafTopology2, uint32(sub), func(c uint32) Regs { return topo(uint32(sub), l[0], l[1], c/2<<3|c%2<<1) })
	}
	b.all(leafCaches, 0, cache(dataCache, 1, 2, 12, 64))
	return b
}

// complexes is an AMD machine of two dies, one of efficiency cores, by
// 0x80000026; the L3 of the first is larger.
func complexes() board {
	b := newBoard(4)
	b.vendor(amdVendor, 0x10, 0x80000026, 0x00b20f40)
	b.all(leafExtVersion, 0, Regs{ECX: 1 << 22})
	for sub, l := range [][2]uint32{{amdCore, 0}, {2, 3}, {amdDie, 4}, {4, 6}, {0, 0}} {
		b.each(leafAMDTopology, uint32(sub), func(c uint32) Regs {
			r := topo(uint32(sub), l[0], l[1], c/2<<4|c%2)
			if sub == 0 {
				r.EAX |= 1 << 30
				r.EBX |= c / 2 << 28
			}
			return r
		})
	}
	b.all(leafAMDCaches, 0, cache(dataCache, 1, 1, 12, 64))
	b.each(leafAMDCaches, 1, func(c uint32) Regs { return cache(unified, 3, 2, 16, 16384>>(c/2)) })
	b.each(leafAMDNode, 0, func(c uint32) Regs { return Regs{EAX: c/2<<4 | c%2} })
	return b
}

func boards() map[string]board {
	return map[string]board{
		"two packages": twoPackages(), "hyper-threads": hyperThreads(), "six threads": sixThreads(),
		"two nodes": twoNodes(), "old nodes": oldNodes(), "old dual": oldDual(), "hybrid": hybrid(),
		"dies": dies(), "complexes": complexes(), "emulated": emulated(),
	}
}

// draw writes a topology as text.
func draw(t topology.Topology) string {
	var b strings.Builder
	id := func(p *int) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	for _, p := range t.Packages {
		fmt.Fprintf(&b, "package %s: %s\n", id(p.ID), p.CPUs)
	}
	for _, d := range t.Dies {
		fmt.Fprintf(&b, "die %s of %s: %s\n", id(d.ID), id(d.Package), d.CPUs)
	}
	for _, g := range t.Clusters {
		fmt.Fprintf(&b, "cluster %s: %s\n", id(g.ID), g.CPUs)
	}
	cores := []string{}
	for _, c := range t.Cores {
		cores = append(cores, c.CPUs.String())
	}
	fmt.Fprintf(&b, "cores: %s\n", strings.Join(cores, " "))
	type shape struct {
		level      int
		kind       topology.CacheType
		kib        int64
		line, ways int
	}
	var shapes []shape
	sets := map[shape][]string{}
	for _, c := range t.Caches {
		s := shape{level: c.Level, kind: c.Type, line: -1, ways: -1}
		if c.Size != nil {
			s.kib = *c.Size >> 10
		}
		if c.Line != nil {
			s.line = *c.Line
		}
		if c.Ways != nil {
			s.ways = *c.Ways
		}
		if sets[s] == nil {
			shapes = append(shapes, s)
		}
		sets[s] = append(sets[s], c.CPUs.String())
	}
	for _, s := range shapes {
		fmt.Fprintf(&b, "L%d %s %d KiB, %d ways of %d: %s\n", s.level, s.kind, s.kib, s.ways, s.line, strings.Join(sets[s], " "))
	}
	for _, k := range t.CoreKinds {
		fmt.Fprintf(&b, "%s: %s\n", k.Name, k.CPUs)
	}
	return b.String()
}

// sound checks what every topology must be, whatever the dump.
func sound(t *testing.T, d *Dump, topo topology.Topology) {
	t.Helper()
	online := d.CPUs()
	if !topo.Online.Equal(online) || !topo.Allowed.Equal(online) {
		t.Errorf("online %s, allowed %s of a dump with %s", topo.Online, topo.Allowed, online)
	}
	var packages, dies, clusters, cores, kinds []cpuset.Set
	for _, p := range topo.Packages {
		packages = append(packages, p.CPUs)
	}
	for _, p := range topo.Dies {
		dies = append(dies, p.CPUs)
	}
	for _, p := range topo.Clusters {
		clusters = append(clusters, p.CPUs)
	}
	for _, p := range topo.Cores {
		cores = append(cores, p.CPUs)
	}
	for _, p := range topo.CoreKinds {
		kinds = append(kinds, p.CPUs)
	}
	for name, sets := range map[string][]cpuset.Set{"packages": packages, "dies": dies, "clusters": clusters, "cores": cores, "kinds": kinds} {
		total := 0
		for _, s := range sets {
			total += s.Len()
			if s.IsEmpty() || !s.SubsetOf(online) {
				t.Errorf("%s: set %q of online %q", name, s, online)
			}
		}
		if total != cpuset.UnionAll(sets...).Len() {
			t.Errorf("%s overlap", name)
		}
	}
	inside := func(name string, small, large []cpuset.Set) {
		owner := map[cpuset.CPU]int{}
		for i, l := range large {
			for c := range l.All() {
				owner[c] = i
			}
		}
		for _, s := range small {
			if o, ok := owner[s.First()]; ok && !s.SubsetOf(large[o]) {
				t.Errorf("%s: %s is partly in %s", name, s, large[o])
			}
		}
	}
	inside("core in package", cores, packages)
	inside("core in die", cores, dies)
	inside("core in cluster", cores, clusters)
	inside("die in package", dies, packages)
	if !cpuset.UnionAll(cores...).Equal(cpuset.UnionAll(packages...)) {
		t.Errorf("cores hold %s, packages %s", cpuset.UnionAll(cores...), cpuset.UnionAll(packages...))
	}
	var caches []cpuset.Set
	for _, c := range topo.Caches {
		if c.CPUs.IsEmpty() || c.Level < 1 || c.Size != nil && *c.Size <= 0 || c.Ways != nil && *c.Ways < 0 {
			t.Errorf("cache %+v", c)
		}
		caches = append(caches, c.CPUs)
	}
	inside("cache in package", caches, packages)
}

func codes(found []finding.Finding) string {
	all := []string{}
	for _, f := range found {
		all = append(all, f.Code)
	}
	return strings.Join(all, " ")
}
