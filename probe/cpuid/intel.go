package cpuid

// Level types of Intel's leaves 0xb and 0x1f (SDM vol. 2A table 3-8). The
// shift of a level gives the id of whatever is one level above it.
const (
	intelSMT    = 1
	intelCore   = 2
	intelModule = 3
	intelTile   = 4
	intelDie    = 5
)

// intelPlace also serves Centaur and Zhaoxin, whose leaves are Intel's.
func (p processor) intelPlace() (place, bool) {
	for _, leaf := range [...]uint32{leafTopology2, leafTopology} {
		if at, ok := p.intelLevels(leaf); ok {
			return at, true
		}
	}
	apic, ok := p.initialAPIC()
	at := place{cpu: p.a.cpu, apic: apic}
	at.core, at.pkg = p.intelLegacyShifts()
	return at, ok
}

func (p processor) intelLevels(leaf uint32) (place, bool) {
	levels, apic := p.levels(leaf)
	if len(levels) == 0 {
		return place{}, false
	}
	at := place{cpu: p.a.cpu, apic: apic}
	below := uint(0)
	for _, l := range levels {
		switch l.kind {
		case intelSMT:
			at.core = l.shift
		case intelModule:
			at.cluster, at.clustered = below, true
		case intelTile:
			if !at.clustered {
				at.cluster, at.clustered = below, true
			}
		case intelDie:
			at.die, at.died = below, true
		}
		below, at.pkg = l.shift, l.shift
	}
	if len(levels) == 1 && levels[0].kind == intelSMT {
		// Early tools kept only the first sub-leaf, which says nothing of the
		// package.
		_, pkg := p.intelLegacyShifts()
		at.pkg = max(at.pkg, pkg)
	}
	return at, true
}

// intelLegacyShifts is the way before leaf 0xb (SDM vol. 3A, multiple-processor management): a package
// reserves the ids of leaf 1, and of these leaf 4 EAX[31:26]+1 are cores.
func (p processor) intelLegacyShifts() (core, pkg uint) {
	cores := uint(0)
	if r := p.at(leafCaches, 0); field(r.EAX, 4, 0) != 0 {
		cores = ceilLog2(field(r.EAX, 31, 26) + 1)
	}
	pkg = max(ceilLog2(p.logicalProcessors()), cores)
	return pkg - cores, pkg
}

// intelCaches reads leaf 4, or else the descriptors of leaf 2. The latter say
// nothing of sharing; the processors without leaf 4 had one core a package.
func (p processor) intelCaches() []cacheSpec {
	if all := p.deterministicCaches(leafCaches); len(all) > 0 {
		return all
	}
	if id := p.ident(); id.vendor == intelVendor || id.centaur() {
		return p.descriptorCaches()
	}
	return nil // Cyrix and others gave leaf 2 meanings of their own
}
