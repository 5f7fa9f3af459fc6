package cpuid

import (
	"slices"

	"berth/probe/topology"
)

// descriptor is a one-byte code of leaf 2 that means a cache (SDM vol. 2A
// table 3-12). Codes of TLBs, prefetchers and the Pentium 4's trace cache,
// whose size is not in bytes, are not here.
type descriptor struct {
	code        byte
	level       byte
	kind        topology.CacheType
	kib         int32
	ways, bytes byte
}

// descriptors is ascending by code. 0x49 is treated apart.
var descriptors = [...]descriptor{
	{0x06, 1, topology.Instruction, 8, 4, 32},
	{0x08, 1, topology.Instruction, 16, 4, 32},
	{0x09, 1, topology.Instruction, 32, 4, 64},
	{0x0a, 1, topology.Data, 8, 2, 32},
	{0x0c, 1, topology.Data, 16, 4, 32},
	{0x0d, 1, topology.Data, 16, 4, 64},
	{0x0e, 1, topology.Data, 24, 6, 64},
	{0x1d, 2, topology.Unified, 128, 2, 64},
	{0x21, 2, topology.Unified, 256, 8, 64},
	{0x22, 3, topology.Unified, 512, 4, 64},
	{0x23, 3, topology.Unified, 1024, 8, 64},
	{0x24, 2, topology.Unified, 1024, 16, 64},
	{0x25, 3, topology.Unified, 2048, 8, 64},
	{0x29, 3, topology.Unified, 4096, 8, 64},
	{0x2c, 1, topology.Data, 32, 8, 64},
	{0x30, 1, topology.Instruction, 32, 8, 64},
	{0x39, 2, topology.Unified, 128, 4, 64},
	{0x3a, 2, topology.Unified, 192, 6, 64},
	{0x3b, 2, topology.Unified, 128, 2, 64},
	{0x3c, 2, topology.Unified, 256, 4, 64},
	{0x3d, 2, topology.Unified, 384, 6, 64},
	{0x3e, 2, topology.Unified, 512, 4, 64},
	{0x41, 2, topology.Unified, 128, 4, 32},
	{0x42, 2, topology.Unified, 256, 4, 32},
	{0x43, 2, topology.Unified, 512, 4, 32},
	{0x44, 2, topology.Unified, 1024, 4, 32},
	{0x45, 2, topology.Unified, 2048, 4, 32},
	{0x46, 3, topology.Unified, 4096, 4, 64},
	{0x47, 3, topology.Unified, 8192, 8, 64},
	{0x48, 2, topology.Unified, 3072, 12, 64},
	{0x49, 2, topology.Unified, 4096, 16, 64},
	{0x4a, 3, topology.Unified, 6144, 12, 64},
	{0x4b, 3, topology.Unified, 8192, 16, 64},
	{0x4c, 3, topology.Unified, 12288, 12, 64},
	{0x4d, 3, topology.Unified, 16384, 16, 64},
	{0x4e, 2, topology.Unified, 6144, 24, 64},
	{0x60, 1, topology.Data, 16, 8, 64},
	{0x66, 1, topology.Data, 8, 4, 64},
	{0x67, 1, topology.Data, 16, 4, 64},
	{0x68, 1, topology.Data, 32, 4, 64},
	{0x78, 2, topology.Unified, 1024, 4, 64},
	{0x79, 2, topology.Unified, 128, 8, 64},
	{0x7a, 2, topology.Unified, 256, 8, 64},
	{0x7b, 2, topology.Unified, 512, 8, 64},
	{0x7c, 2, topology.Unified, 1024, 8, 64},
	{0x7d, 2, topology.Unified, 2048, 8, 64},
	{0x7f, 2, topology.Unified, 512, 2, 64},
	{0x80, 2, topology.Unified, 512, 8, 64},
	{0x82, 2, topology.Unified, 256, 8, 32},
	{0x83, 2, topology.Unified, 512, 8, 32},
	{0x84, 2, topology.Unified, 1024, 8, 32},
	{0x85, 2, topology.Unified, 2048, 8, 32},
	{0x86, 2, topology.Unified, 512, 4, 64},
	{0x87, 2, topology.Unified, 1024, 8, 64},
	{0xd0, 3, topology.Unified, 512, 4, 64},
	{0xd1, 3, topology.Unified, 1024, 4, 64},
	{0xd2, 3, topology.Unified, 2048, 4, 64},
	{0xd6, 3, topology.Unified, 1024, 8, 64},
	{0xd7, 3, topology.Unified, 2048, 8, 64},
	{0xd8, 3, topology.Unified, 4096, 8, 64},
	{0xdc, 3, topology.Unified, 1536, 12, 64},
	{0xdd, 3, topology.Unified, 3072, 12, 64},
	{0xde, 3, topology.Unified, 6144, 12, 64},
	{0xe2, 3, topology.Unified, 2048, 16, 64},
	{0xe3, 3, topology.Unified, 4096, 16, 64},
	{0xe4, 3, topology.Unified, 8192, 16, 64},
	{0xea, 3, topology.Unified, 12288, 24, 64},
	{0xeb, 3, topology.Unified, 18432, 24, 64},
	{0xec, 3, topology.Unified, 24576, 24, 64},
}

// descriptorCaches reads leaf 2: up to 15 codes, the lowest byte of EAX being
// a count and a register with bit 31 set holding none.
func (p processor) descriptorCaches() []cacheSpec {
	var all []cacheSpec
	r := p.at(leafDescriptors, 0)
	for i, reg := range [...]uint32{r.EAX &^ 0xff, r.EBX, r.ECX, r.EDX} {
		if reg>>31 == 1 {
			continue
		}
		for ; reg != 0; reg >>= 8 {
			code := byte(reg)
			if i == 0 && code == 0 {
				continue
			}
			at, ok := slices.BinarySearchFunc(descriptors[:], code, func(d descriptor, c byte) int { return int(d.code) - int(c) })
			if !ok {
				continue
			}
			d, ways := descriptors[at], int(descriptors[at].ways)
			spec := cacheSpec{level: int(d.level), kind: d.kind, size: int64(d.kib) << 10, line: int(d.bytes), ways: &ways, scope: byCore}
			if code == 0x49 {
				if id := p.ident(); id.family == 0xf && id.model == 6 {
					spec.level = 3 // on the Xeon MP of that model only
				}
			}
			if spec.level == 3 {
				spec.scope = byPackage
			}
			all = append(all, spec)
		}
	}
	return all
}
