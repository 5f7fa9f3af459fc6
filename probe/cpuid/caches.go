package cpuid

import (
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// scope says how the sharers of a cache are found.
type scope int

const (
	byShift   scope = iota // those of the same APIC id >> shift
	byCore                 // the core's CPUs
	byNode                 // the node's
	byPackage              // the package's
)

// cacheSpec is a cache as one CPU describes it.
type cacheSpec struct {
	level int
	kind  topology.CacheType
	size  int64 // bytes; 0 where it makes no sense
	line  int   // bytes; 0 where it is not stated
	ways  *int  // 0 is fully associative; nil where it is not stated
	scope scope
	shift uint // for byShift
}

// deterministicCaches reads leaf 4 or 0x8000001d: a sub-leaf for each cache,
// type 0 ending them. EAX[25:14]+1 is, from Intel, the APIC ids reserved for
// the sharers, and from AMD their number, to be rounded up to a power of two:
// both come to a shift of the APIC id (SDM vol. 2A table 3-8; APM vol. 3
// appendix E, Fn8000_001D).
func (p processor) deterministicCaches(leaf uint32) []cacheSpec {
	var all []cacheSpec
	for sub := range uint32(maxSub) {
		r := p.at(leaf, sub)
		spec := cacheSpec{level: int(field(r.EAX, 7, 5)), shift: ceilLog2(field(r.EAX, 25, 14) + 1)}
		switch field(r.EAX, 4, 0) {
		case 0:
			return all
		case 1:
			spec.kind = topology.Data
		case 2:
			spec.kind = topology.Instruction
		case 3:
			spec.kind = topology.Unified
		default:
			continue // reserved
		}
		if spec.level == 0 {
			continue
		}
		ways, partitions := int(field(r.EBX, 31, 22)+1), int64(field(r.EBX, 21, 12)+1)
		spec.line = int(field(r.EBX, 11, 0) + 1)
		const largest = 1 << 40 // bytes; beyond is no cache but garbage
		if perSet := int64(ways) * partitions * int64(spec.line); int64(r.ECX)+1 <= largest/perSet {
			spec.size = perSet * (int64(r.ECX) + 1)
		}
		if field(r.EAX, 9, 9) == 1 {
			ways = 0
		}
		spec.ways = &ways
		all = append(all, spec)
	}
	return all
}

// cacheKey tells caches apart. CPUs share one only where they describe it
// alike: the two kinds of a hybrid machine may use different widths, and then
// equal shifted ids mean nothing. No cache spans packages.
type cacheKey struct {
	level      int
	kind       topology.CacheType
	size       int64
	line, ways int
	scope      scope
	shift      uint
	pkg, id    uint32
	node       int
}

func (s cacheSpec) key(at place) cacheKey {
	k := cacheKey{level: s.level, kind: s.kind, size: s.size, line: s.line, ways: -1, scope: s.scope, pkg: at.apic >> at.pkg}
	if s.ways != nil {
		k.ways = *s.ways
	}
	if s.level == 3 && at.llcByNode {
		k.scope = byNode
	}
	switch k.scope {
	case byShift:
		k.shift, k.id = s.shift, at.apic>>s.shift
		if at.nodes > 1 { // rounding a count up may reach into the next node
			k.node = at.node
		}
	case byCore:
		k.shift, k.id = at.core, at.apic>>at.core
	case byNode:
		k.node = at.node
	}
	return k
}

// groups gathers CPUs by key, in the order the keys came up.
type groups[K comparable] struct {
	index map[K]int
	cpus  [][]cpuset.CPU
}

func (g *groups[K]) add(key K, c cpuset.CPU) (first bool) {
	i, found := g.index[key]
	if !found {
		if g.index == nil {
			g.index = make(map[K]int)
		}
		i = len(g.cpus)
		g.index[key] = i
		g.cpus = append(g.cpus, nil)
	}
	g.cpus[i] = append(g.cpus[i], c)
	return !found
}

func (g *groups[K]) set(i int) cpuset.Set { return cpuset.Of(g.cpus[i]...) }

func (s cacheSpec) cache(cpus cpuset.Set) topology.Cache {
	c := topology.Cache{Level: s.level, Type: s.kind, Ways: s.ways, CPUs: cpus, Source: source}
	if s.size > 0 {
		c.Size = &s.size
	}
	if s.line > 0 {
		c.Line = &s.line
	}
	return c
}
