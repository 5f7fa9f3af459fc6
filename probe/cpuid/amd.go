package cpuid

import "berth/probe/topology"

// Level types of leaf 0x80000026 (APM vol. 3 appendix E, Fn8000_0026). Unlike Intel's, the
// shift of a level gives the id of that level itself.
const (
	amdCore = 1 // 2 is a core complex: the CPUs of one L3, which 0x8000001d tells
	amdDie  = 3
)

const zen = 0x17 // the family from which on a core can have two threads

// hygonSocket is the bit of the APIC id that holds the socket on Hygon's
// models 0 to 3, whatever 0x80000008 says: with fewer dies than four, the bits
// between stay free (the kernel's arch/x86/kernel/cpu/hygon.c).
const hygonSocket = 6

// g34 is the socket whose family 0x10 packages hold two nodes
// (0x80000001 EBX[31:28], BKDG for family 10h).
const g34 = 3

func (p processor) topologyExtensions() bool {
	return field(p.at(leafExtVersion, 0).ECX, 22, 22) == 1
}

func (p processor) amdPlace(family int) (place, bool) {
	at, ok := p.amdLevels(family)
	if !ok {
		if at, ok = p.amdLegacy(family); !ok {
			return at, false
		}
	}
	at.nodes = 1
	at.llcByNode = family < zen
	switch r := p.at(leafAMDNode, 0); {
	case p.topologyExtensions():
		at.node, at.nodes = int(field(r.ECX, 7, 0)), int(field(r.ECX, 10, 8))+1
	case family == 0x10 && field(p.at(leafExtVersion, 0).EBX, 31, 28) == g34:
		// Without a leaf that names the node: each has half of the cores.
		perNode := (int(field(p.at(leafAMDSizes, 0).ECX, 7, 0)) + 2) / 2
		at.node, at.nodes = at.within(0, at.pkg)/perNode, 2
	}
	return at, true
}

func (p processor) amdLevels(family int) (place, bool) {
	at := place{cpu: p.a.cpu}
	levels, apic := p.levels(leafAMDTopology)
	at.apic = apic
	for _, l := range levels {
		switch l.kind {
		case amdCore:
			at.core = l.shift
		case amdDie:
			at.die, at.died = l.shift, true
		}
		at.pkg = l.shift
	}
	if len(levels) > 1 {
		return at, true
	}
	if family < zen {
		return place{}, false
	}
	// The leaf Intel defined, with its meaning, knows threads and packages.
	return p.intelLevels(leafTopology)
}

// amdLegacy is the way before the extended leaves: 0x80000008 ECX[15:12] is
// the width of the APIC id inside a package, or ECX[7:0]+1 the number of ids
// where that is 0; 0x8000001e EBX[15:8]+1 the threads that share a core, or in
// family 0x15 the cores that share a compute unit.
func (p processor) amdLegacy(family int) (place, bool) {
	apic, ok := p.initialAPIC()
	at := place{cpu: p.a.cpu, apic: apic}
	switch sizes := p.at(leafAMDSizes, 0).ECX; {
	case field(sizes, 15, 12) != 0:
		at.pkg = uint(field(sizes, 15, 12))
	case p.has(leafAMDSizes, 0):
		at.pkg = ceilLog2(field(sizes, 7, 0) + 1)
	default:
		at.pkg = ceilLog2(p.logicalProcessors())
	}
	if id := p.ident(); id.vendor == hygonVendor && id.model <= 3 && !p.hypervisor().Present {
		at.pkg = hygonSocket
	}
	if p.topologyExtensions() && p.has(leafAMDNode, 0) {
		r := p.at(leafAMDNode, 0)
		at.apic, ok = r.EAX, true
		share := min(ceilLog2(field(r.EBX, 15, 8)+1), at.pkg)
		switch {
		case family >= zen:
			at.core = share
		case family == 0x15:
			at.cluster, at.clustered = share, true
		}
	}
	return at, ok
}

// amdCaches reads 0x8000001d, or else 0x80000005 and 0x80000006, which tell
// sizes but not who shares. Before family 0x15, L1 and L2 were the core's and
// the L3 the node's. From then on some caches have sharers that nothing else
// states, as under a hypervisor that hides the leaf: those are left out, and
// unstated says so.
func (p processor) amdCaches(family, nodes int) (all []cacheSpec, unstated bool) {
	if p.topologyExtensions() {
		if all = p.deterministicCaches(leafAMDCaches); len(all) > 0 {
			return all, false
		}
	}
	old := append(p.oldCaches(), p.oldL3(nodes)...)
	for _, s := range old {
		switch {
		case family >= zen && s.level == 3, // one for each core complex
			family == 0x15 && s.level == 2, family == 0x15 && s.kind == topology.Instruction, // the compute unit's
			family == 0x16 && s.level == 2: // that of up to four cores
			unstated = true
		default:
			all = append(all, s)
		}
	}
	return all, unstated
}

// oldL3 reads 0x80000006 EDX, which gives the L3 of the whole package.
func (p processor) oldL3(nodes int) []cacheSpec {
	l3 := p.at(leafAMDL2L3, 0).EDX
	size, code := int64(field(l3, 31, 18))*512<<10, field(l3, 15, 12)
	if size == 0 || code == 0 {
		return nil
	}
	ways := oldWays(code)
	if ways != nil {
		*ways /= nodes
	}
	return []cacheSpec{{level: 3, kind: topology.Unified, size: size / int64(nodes), line: int(field(l3, 7, 0)), ways: ways, scope: byNode}}
}

// oldCaches reads the L1 and L2 of 0x80000005 and 0x80000006 (APM vol. 3
// appendix E), which Centaur and others have taken over.
func (p processor) oldCaches() []cacheSpec {
	var all []cacheSpec
	l1 := p.at(leafAMDL1, 0)
	for _, side := range [...]struct {
		kind topology.CacheType
		reg  uint32
	}{{topology.Data, l1.ECX}, {topology.Instruction, l1.EDX}} {
		size, ways := int64(field(side.reg, 31, 24))<<10, int(field(side.reg, 23, 16))
		if size == 0 || ways == 0 {
			continue
		}
		if ways == 0xff {
			ways = 0
		}
		all = append(all, cacheSpec{level: 1, kind: side.kind, size: size, line: int(field(side.reg, 7, 0)), ways: &ways, scope: byCore})
	}
	l2 := p.at(leafAMDL2L3, 0).ECX
	if id := p.ident(); id.centaur() && id.family == 6 && id.model < 9 {
		// The early C3 has the layout of the L1 registers here.
		if size, ways := int64(field(l2, 31, 24))<<10, int(field(l2, 23, 16)); size > 0 && ways > 0 {
			all = append(all, cacheSpec{level: 2, kind: topology.Unified, size: size, line: int(field(l2, 7, 0)), ways: &ways, scope: byCore})
		}
		return all
	}
	if size, code := int64(field(l2, 31, 16))<<10, field(l2, 15, 12); size > 0 && code != 0 {
		all = append(all, cacheSpec{level: 2, kind: topology.Unified, size: size, line: int(field(l2, 7, 0)), ways: oldWays(code), scope: byCore})
	}
	return all
}

// oldWays decodes the associativity of 0x80000006 (APM vol. 3 appendix E, Fn8000_0006); 0 is
// fully associative, nil reserved or "see 0x8000001d".
func oldWays(code uint32) *int {
	ways := 0
	switch code {
	case 1, 2, 3, 4:
		ways = int(code)
	case 5:
		ways = 6
	case 6:
		ways = 8
	case 8:
		ways = 16
	case 0xa:
		ways = 32
	case 0xb:
		ways = 48
	case 0xc:
		ways = 64
	case 0xd:
		ways = 96
	case 0xe:
		ways = 128
	case 0xf:
	default:
		return nil
	}
	return &ways
}
