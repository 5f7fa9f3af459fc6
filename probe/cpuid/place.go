package cpuid

import (
	"math/bits"

	"berth/probe/cpuset"
)

// A place is where a CPU sits, in terms of its APIC id: the id shifted right
// by a level's shift names the object of that level that holds the CPU. The
// shifts never fall from core to package.
type place struct {
	cpu  cpuset.CPU
	apic uint32

	core, pkg       uint
	cluster, die    uint
	clustered, died bool // the processor states clusters, dies

	node int // within the machine or the package; 0 where not stated
	// llcByNode says that the L3 belongs to a whole node, whatever a count of
	// sharers would say.
	llcByNode bool
	// nodes is how many of them a package has.
	nodes int
}

// ceilLog2 is the number of APIC id bits that n values need.
func ceilLog2(n uint32) uint {
	if n < 2 {
		return 0
	}
	return uint(bits.Len32(n - 1))
}

// within is the value of the APIC id between two shifts.
func (p place) within(low, high uint) int {
	return int(p.apic >> low & (1<<(high-low) - 1))
}

// level is one sub-leaf of an extended topology leaf.
type level struct {
	kind  uint32
	shift uint
}

// levels reads leaf 0xb, 0x1f or 0x80000026: EAX[4:0] is a shift of the APIC
// id, ECX[15:8] what the level is, and kind 0 ends the list (Intel SDM vol. 2A
// table 3-8; AMD APM vol. 3 appendix E, Fn8000_0026). The leaf is not there where sub-leaf 0
// counts no logical processor. Shifts that fall are garbage and end the list.
func (p processor) levels(leaf uint32) (all []level, apic uint32) {
	for sub := range uint32(maxSub) {
		r := p.at(leaf, sub)
		l := level{kind: field(r.ECX, 15, 8), shift: uint(field(r.EAX, 4, 0))}
		if l.kind == 0 || sub == 0 && field(r.EBX, 15, 0) == 0 {
			break
		}
		if sub == 0 {
			apic = r.EDX
		} else if l.shift < all[sub-1].shift {
			break
		}
		all = append(all, l)
	}
	return all, apic
}

// initialAPIC is the 8-bit id of leaf 1, EBX[31:24].
func (p processor) initialAPIC() (uint32, bool) {
	return field(p.at(leafVersion, 0).EBX, 31, 24), p.has(leafVersion, 0)
}

// logicalProcessors is how many APIC ids a package reserves: leaf 1 EBX[23:16]
// where EDX bit 28 (HTT) says that the field counts.
func (p processor) logicalProcessors() uint32 {
	r := p.at(leafVersion, 0)
	if field(r.EDX, 28, 28) == 0 {
		return 1
	}
	return max(field(r.EBX, 23, 16), 1)
}
