package cpuid

import (
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// Depth says how much [Live] asks of each CPU. In a virtual machine every
// question leaves the guest and costs some ten microseconds.
type Depth int

const (
	// Needed asks one CPU for what this package decodes, and the others only
	// for what can differ between CPUs of one machine.
	Needed Depth = iota
	// Everything asks every CPU for every leaf, as a snapshot wants.
	Everything
)

// asker is CPUID itself, or a test's stand-in.
type asker func(leaf, sub uint32) Regs

// question is a leaf to ask of further CPUs.
type question struct {
	leaf, sub uint32
	walk      bool // all its sub-leaves
}

// survey collects answers.
type survey struct {
	ask     asker
	entries []Entry
}

func (s *survey) one(leaf uint32) Regs {
	r := s.ask(leaf, 0)
	s.entries = append(s.entries, Entry{Leaf: leaf, Indexed: hasSubLeaves(leaf), Regs: r})
	return r
}

// walk asks for the sub-leaves of a leaf, the one that ends them included.
func (s *survey) walk(leaf uint32) (first Regs) {
	for sub := uint32(0); sub < 64; sub++ {
		if sub > 0 && !subLeafStated(leaf, sub, first) {
			continue
		}
		r := s.ask(leaf, sub)
		if sub == 0 {
			first = r
		}
		s.entries = append(s.entries, Entry{leaf, sub, true, r})
		if lastSubLeaf(leaf, sub, first, r) {
			break
		}
	}
	return first
}

// lastSubLeaf tells where the sub-leaves of a leaf end, by the rule that the
// manuals give for each.
func lastSubLeaf(leaf, sub uint32, first, r Regs) bool {
	switch leaf {
	case leafCaches, leafAMDCaches:
		return field(r.EAX, 4, 0) == 0
	case leafTopology, leafTopology2, leafAMDTopology:
		return field(r.ECX, 15, 8) == 0
	case 0x7, 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x20, 0x24: // the highest is in EAX
		return sub >= first.EAX
	case 0xd: // a bit for each
		return false
	case 0xf:
		return sub >= 1
	case 0x12:
		return sub >= 2 && field(r.EAX, 3, 0) == 0
	case 0x1b:
		return field(r.EAX, 11, 0) == 0
	case 0x23:
		return sub >= 6
	case 0x10, 0x27, 0x28, 0x80000020:
		return sub >= 5
	}
	return true
}

// subLeafStated leaves out those that sub-leaf 0 denies.
func subLeafStated(leaf, sub uint32, first Regs) bool {
	if leaf != 0xd || sub < 2 {
		return true
	}
	// The states of XCR0 are in EDX:EAX; those of XSS, of sub-leaf 1, are few
	// and below 17.
	return sub < 17 || (uint64(first.EDX)<<32|uint64(first.EAX))>>sub&1 == 1
}

// everything asks for all leaves of all ranges.
func (s *survey) everything() {
	for _, base := range [...]uint32{0, leafHypervisor, kvmBehindHyperV, leafExtended, leafCentaur} {
		if base == leafHypervisor || base == kvmBehindHyperV {
			if field(s.ask(leafVersion, 0).ECX, 31, 31) == 0 {
				continue
			}
		}
		highest := s.one(base).EAX
		if highest < base || highest-base > 0xff {
			continue // the range does not exist
		}
		for leaf := base + 1; leaf <= highest; leaf++ {
			if hasSubLeaves(leaf) {
				s.walk(leaf)
			} else {
				s.one(leaf)
			}
		}
	}
}

// needed asks the first CPU for what decoding wants, and says what to ask the
// others.
func (s *survey) needed() (further []question) {
	highest := s.one(leafVendor)
	version := s.one(leafVersion)
	vendor := ident{vendor: registerText(highest.EBX, highest.EDX, highest.ECX)}
	extended := s.one(leafExtended).EAX

	for leaf := uint32(leafBrand); leaf < leafBrand+3 && leaf <= extended; leaf++ {
		s.one(leaf)
	}
	if field(version.ECX, 31, 31) == 1 {
		s.hypervisor()
	}
	if vendor.amd() {
		family, _, _ := displayVersion(version.EAX, true, false)
		return s.neededAMD(family, highest.EAX, extended)
	}
	hybrid := false
	if highest.EAX >= leafFeatures {
		hybrid = field(s.one(leafFeatures).EDX, 15, 15) == 1
	}
	if highest.EAX >= leafCaches {
		s.walk(leafCaches)
		if hybrid {
			further = append(further, question{leaf: leafCaches, walk: true})
		}
	} else if highest.EAX >= leafDescriptors {
		s.one(leafDescriptors)
	}
	if vendor.vendor != intelVendor && extended >= leafAMDL2L3 {
		s.one(leafAMDL1)
		s.one(leafAMDL2L3)
	}
	if hybrid && highest.EAX >= leafHybrid {
		s.one(leafHybrid)
		further = append(further, question{leaf: leafHybrid})
	}
	for _, leaf := range [...]uint32{leafTopology2, leafTopology} {
		if highest.EAX >= leaf && field(s.walk(leaf).EBX, 15, 0) != 0 {
			return append(further, question{leaf: leaf, walk: hybrid})
		}
	}
	return append(further, question{leaf: leafVersion})
}

func (s *survey) neededAMD(family int, highest, extended uint32) (further []question) {
	var version Regs
	for _, leaf := range [...]uint32{leafExtVersion, leafAMDL1, leafAMDL2L3, leafAMDSizes} {
		if leaf > extended {
			break
		}
		if r := s.one(leaf); leaf == leafExtVersion {
			version = r
		}
	}
	extensions := field(version.ECX, 22, 22) == 1
	if extensions && extended >= leafAMDNode {
		start := len(s.entries)
		s.walk(leafAMDCaches)
		for _, e := range s.entries[start:] {
			if field(e.Regs.EAX, 7, 5) == 3 { // a die with stacked cache has more
				further = append(further, question{leaf: leafAMDCaches, sub: e.Sub})
			}
		}
		s.one(leafAMDNode)
		further = append(further, question{leaf: leafAMDNode})
	}
	if extended >= leafAMDTopology && field(s.walk(leafAMDTopology).EBX, 15, 0) != 0 {
		return append(further, question{leaf: leafAMDTopology})
	}
	// Before Zen that leaf is an emulator's, and decoding goes by leaf 1.
	if family >= zen && highest >= leafTopology && field(s.walk(leafTopology).EBX, 15, 0) != 0 {
		return append(further, question{leaf: leafTopology})
	}
	return append(further, question{leaf: leafVersion})
}

// hypervisor asks for the signature and KVM's hints.
func (s *survey) hypervisor() {
	r := s.one(leafHypervisor)
	base := uint32(leafHypervisor)
	if registerText(r.EBX, r.ECX, r.EDX) == hyperVSignature {
		base = kvmBehindHyperV
		r = s.one(base)
	}
	if registerText(r.EBX, r.ECX, r.EDX) == kvmSignature {
		s.one(base + 1)
	}
}

// further asks a further CPU.
func (s *survey) further(questions []question) {
	for _, q := range questions {
		if q.walk {
			s.walk(q.leaf)
			continue
		}
		s.entries = append(s.entries, Entry{q.leaf, q.sub, hasSubLeaves(q.leaf), s.ask(q.leaf, q.sub)})
	}
}

// collector builds a dump, the first CPU before the others.
type collector struct {
	dump    Dump
	depth   Depth
	started bool
	each    []question
	moved   []cpuset.CPU // their APIC id changed while they were read
}

func (c *collector) read(cpu cpuset.CPU, ask asker) {
	s := survey{ask: ask}
	switch {
	case c.depth == Everything:
		s.everything()
	case !c.started:
		c.each = s.needed()
		c.dump.common = tidy(s.entries)
		s.entries = nil
		c.started = true
		// What differs is the first CPU's own, too.
		for _, e := range c.dump.common {
			if c.own(e) {
				s.entries = append(s.entries, e)
			}
		}
	default:
		s.further(c.each)
		c.dump.add(cpu, s.entries)
		return // too short a time to ask twice
	}
	was, _ := c.dump.get(s.entries, leafVersion, 0)
	if field(was.EBX, 31, 24) != field(ask(leafVersion, 0).EBX, 31, 24) {
		c.moved = append(c.moved, cpu)
	}
	c.dump.add(cpu, s.entries)
}

// findings says what was odd while reading.
func (c *collector) findings() []finding.Finding {
	var l finding.List
	if len(c.moved) > 0 {
		l.Add("vcpu-floats", finding.Warning, []string{"CPUID leaf 1 EBX on CPU " + cpuset.Of(c.moved...).String() + ": two readings differ"},
			"The APIC id of a CPU changed while it was read: the virtual CPU moves on its host, so what CPUID says of cores and caches does not last.")
	}
	return l.All()
}

func (c *collector) own(e Entry) bool {
	for _, q := range c.each {
		if e.Leaf == q.leaf && (q.walk || e.Sub == q.sub) {
			return true
		}
	}
	return false
}
