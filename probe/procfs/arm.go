package procfs

import (
	"fmt"
	"slices"
)

// PartOfMIDR takes the part from the value of MIDR_EL1.
func PartOfMIDR(midr uint64) Part {
	return Part{Implementer: int(midr >> 24 & 0xff), Number: int(midr >> 4 & 0xfff)}
}

// String names the part, by its numbers if its name is not known here.
func (p Part) String() string {
	implementer, name := p.names()
	switch {
	case name != "":
		return name
	case implementer != "":
		return fmt.Sprintf("%s part %#03x", implementer, p.Number)
	}
	return fmt.Sprintf("implementer %#02x part %#03x", p.Implementer, p.Number)
}

func (p Part) names() (implementer, part string) {
	if i := slices.IndexFunc(implementers[:], func(n numbered) bool { return n.number == p.Implementer }); i >= 0 {
		implementer = implementers[i].name
	}
	key := p.Implementer<<12 | p.Number
	if i, ok := slices.BinarySearchFunc(parts[:], key, func(n numbered, key int) int { return n.number - key }); ok {
		part = parts[i].name
	}
	return implementer, part
}

type numbered struct {
	number int
	name   string
}

// The implementer codes are Arm's (Arm ARM, D19.2, MIDR_EL1).
var implementers = [...]numbered{
	{0x41, "ARM"}, {0x42, "Broadcom"}, {0x43, "Cavium"}, {0x44, "DEC"}, {0x46, "Fujitsu"}, {0x48, "HiSilicon"},
	{0x4d, "Motorola"}, {0x4e, "NVIDIA"}, {0x50, "APM"}, {0x51, "Qualcomm"}, {0x53, "Samsung"}, {0x56, "Marvell"},
	{0x61, "Apple"}, {0x69, "Intel"}, {0x6d, "Microsoft"}, {0x70, "Phytium"}, {0xc0, "Ampere"},
}

// parts is implementer<<12 | part number, ascending: from the technical
// reference manuals of the cores and the kernel's arch/arm64/include/asm/cputype.h.
var parts = [...]numbered{
	{0x41c05, "Cortex-A5"}, {0x41c07, "Cortex-A7"}, {0x41c08, "Cortex-A8"}, {0x41c09, "Cortex-A9"},
	{0x41c0d, "Cortex-A17"}, {0x41c0e, "Cortex-A17"}, {0x41c0f, "Cortex-A15"},
	{0x41d02, "Cortex-A34"}, {0x41d03, "Cortex-A53"}, {0x41d04, "Cortex-A35"}, {0x41d05, "Cortex-A55"},
	{0x41d06, "Cortex-A65"}, {0x41d07, "Cortex-A57"}, {0x41d08, "Cortex-A72"}, {0x41d09, "Cortex-A73"},
	{0x41d0a, "Cortex-A75"}, {0x41d0b, "Cortex-A76"}, {0x41d0c, "Neoverse-N1"}, {0x41d0d, "Cortex-A77"},
	{0x41d0e, "Cortex-A76AE"}, {0x41d40, "Neoverse-V1"}, {0x41d41, "Cortex-A78"}, {0x41d42, "Cortex-A78AE"},
	{0x41d43, "Cortex-A65AE"}, {0x41d44, "Cortex-X1"}, {0x41d46, "Cortex-A510"}, {0x41d47, "Cortex-A710"},
	{0x41d48, "Cortex-X2"}, {0x41d49, "Neoverse-N2"}, {0x41d4a, "Neoverse-E1"}, {0x41d4b, "Cortex-A78C"},
	{0x41d4c, "Cortex-X1C"}, {0x41d4d, "Cortex-A715"}, {0x41d4e, "Cortex-X3"}, {0x41d4f, "Neoverse-V2"},
	{0x41d80, "Cortex-A520"}, {0x41d81, "Cortex-A720"}, {0x41d82, "Cortex-X4"}, {0x41d83, "Neoverse-V3AE"},
	{0x41d84, "Neoverse-V3"}, {0x41d85, "Cortex-X925"}, {0x41d87, "Cortex-A725"}, {0x41d89, "Cortex-A720AE"},
	{0x41d8e, "Neoverse-N3"},
	{0x42100, "Brahma-B53"}, {0x42516, "ThunderX2"},
	{0x430a0, "ThunderX"}, {0x430a1, "ThunderX 88XX"}, {0x430a2, "ThunderX 81XX"}, {0x430a3, "ThunderX 83XX"}, {0x430af, "ThunderX2"},
	{0x46001, "A64FX"},
	{0x48d01, "Kunpeng 920"}, {0x48d02, "Kunpeng 920"}, {0x48d40, "Cortex-A76 (Kirin)"},
	{0x4e000, "Denver"}, {0x4e003, "Denver 2"}, {0x4e004, "Carmel"},
	{0x50000, "X-Gene"},
	{0x51001, "Oryon"}, {0x5104d, "Krait"}, {0x5106f, "Krait"}, {0x51201, "Kryo"}, {0x51205, "Kryo"}, {0x51211, "Kryo"},
	{0x51800, "Kryo 2xx Gold"}, {0x51801, "Kryo 2xx Silver"}, {0x51802, "Kryo 3xx Gold"}, {0x51803, "Kryo 3xx Silver"},
	{0x51804, "Kryo 4xx Gold"}, {0x51805, "Kryo 4xx Silver"}, {0x51c00, "Falkor"}, {0x51c01, "Saphira"},
	{0x53001, "Exynos M1"}, {0x53002, "Exynos M3"}, {0x53003, "Exynos M4"}, {0x53004, "Exynos M5"},
	{0x61022, "Icestorm (M1)"}, {0x61023, "Firestorm (M1)"}, {0x61032, "Blizzard (M2)"}, {0x61033, "Avalanche (M2)"},
	{0x6dd49, "Azure Cobalt 100"},
	{0x70662, "FTC662"}, {0x70663, "FTC663"}, {0x70664, "FTC664"},
	{0xc0ac3, "Ampere-1"}, {0xc0ac4, "Ampere-1a"},
}
