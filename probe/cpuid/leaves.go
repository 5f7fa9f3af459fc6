package cpuid

// The leaves that this package decodes; the others it only carries.
const (
	leafVendor      = 0x0
	leafVersion     = 0x1
	leafDescriptors = 0x2 // Intel: cache descriptors
	leafCaches      = 0x4 // Intel: deterministic cache parameters
	leafFeatures    = 0x7
	leafTopology    = 0xb
	leafHybrid      = 0x1a // Intel: the kind of this core
	leafTopology2   = 0x1f // Intel: as 0xb, with modules, tiles and dies

	leafHypervisor = 0x40000000

	leafExtended    = 0x80000000
	leafExtVersion  = 0x80000001
	leafBrand       = 0x80000002 // to 0x80000004
	leafAMDL1       = 0x80000005
	leafAMDL2L3     = 0x80000006
	leafAMDSizes    = 0x80000008
	leafAMDCaches   = 0x8000001d
	leafAMDNode     = 0x8000001e
	leafAMDTopology = 0x80000026

	leafCentaur = 0xc0000000
)

// maxSub bounds every walk over sub-leaves. No known processor has more than
// six caches or levels; what a dump holds can be anything.
const maxSub = 32

// field is the value of bits hi … lo of a register.
func field(v uint32, hi, lo uint) uint32 {
	return v >> lo & (1<<(hi-lo+1) - 1)
}

// hasSubLeaves tells which leaves take a sub-leaf in ECX.
func hasSubLeaves(leaf uint32) bool {
	switch leaf {
	case 0x4, 0x7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1b, 0x1d, 0x1e, 0x1f,
		0x20, 0x23, 0x24, 0x27, 0x28,
		leafAMDCaches, 0x80000020, leafAMDTopology:
		return true
	}
	return false
}
