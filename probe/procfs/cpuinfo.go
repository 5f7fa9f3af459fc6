package procfs

import (
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/root"
	"berth/probe/topology"
)

// CPUInfo is what /proc/cpuinfo says.
type CPUInfo struct {
	topology.Identity
	Arch       string      // as uname -m, told from which lines there are; "" if they do not tell
	Virtual    bool        // x86: the CPU knows that it is virtual (the flag "hypervisor")
	Processors []Processor // in the file's order; only with [Whole]
}

// Processor is one CPU's entry.
type Processor struct {
	CPU     cpuset.CPU
	Package int // "physical id"; -1 where the file has none
	Core    int // "core id", unique only in the package; -1 where the file has none
	Part    Part
}

// Part is the design of an Arm core: the implementer and part number fields of
// MIDR_EL1 (Arm ARM, D19.2). The zero value is unknown.
type Part struct{ Implementer, Number int }

// Extent says how much of the file to read.
type Extent int

const (
	// Head reads the first entry: on x86 the kernel asks every CPU for its
	// frequency while it prints the file.
	Head Extent = iota
	Whole
)

// ReadCPUInfo reads /proc/cpuinfo.
func ReadCPUInfo(r root.Reader, extent Extent) (CPUInfo, bool) {
	const name = "/proc/cpuinfo"
	var data string
	var err error
	if extent == Whole {
		data, err = r.ReadFile(name)
	} else if data, err = r.ReadHead(name, 4096); err == nil {
		if !strings.Contains(data, "\n\n") || !firstIsEnough(data) {
			data, err = r.ReadFile(name)
		}
	}
	if err != nil {
		r.Report(err)
		return CPUInfo{}, false
	}
	return parseCPUInfo(data, extent), true
}

// firstIsEnough reports whether the file's head names the processor. On Arm
// and others the lines about all CPUs stand at the end.
func firstIsEnough(head string) bool { return strings.Contains(head, "vendor_id") }

func parseCPUInfo(text string, extent Extent) CPUInfo {
	var info CPUInfo
	var shared Part // Arm kernels before 3.8 name the part once, for all
	at := Processor{CPU: -1, Package: -1, Core: -1}
	flush := func() {
		if extent == Whole && at.CPU >= 0 {
			info.Processors = append(info.Processors, at)
		}
		at = Processor{CPU: -1, Package: -1, Core: -1}
	}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		n, err := strconv.ParseInt(value, 0, 64)
		isNumber := err == nil
		switch key {
		case "processor":
			flush()
			if isNumber && n >= 0 && n < cpuset.Limit {
				at.CPU = cpuset.CPU(n)
			}
		case "physical id", "package":
			if isNumber && n >= 0 && n <= 1<<30 {
				at.Package = int(n)
			}
		case "core id", "core":
			if isNumber && n >= 0 && n <= 1<<30 {
				at.Core = int(n)
			}
		case "CPU implementer":
			if isNumber {
				at.Part.Implementer = int(n & 0xff)
				shared.Implementer = at.Part.Implementer
			}
		case "CPU part":
			if isNumber {
				at.Part.Number = int(n & 0xfff)
				shared.Number = at.Part.Number
			}
		}
		info.about(key, value, n, isNumber)
	}
	flush()
	for i := range info.Processors {
		if p := &info.Processors[i].Part; *p == (Part{}) {
			*p = shared
		}
	}
	if info.Brand == "" && shared != (Part{}) {
		info.Brand = shared.String()
	}
	return info
}

// about takes a line that speaks of the processor's make. The first CPU's
// lines win.
func (info *CPUInfo) about(key, value string, n int64, isNumber bool) {
	text := func(to *string) { setIfEmpty(to, value) }
	number := func(to **int) {
		if *to == nil && isNumber && n >= 0 && n <= 1<<30 {
			v := int(n)
			*to = &v
		}
	}
	switch key {
	case "vendor_id":
		text(&info.Vendor)
		if strings.HasPrefix(value, "IBM/S390") {
			info.Arch = "s390x"
		}
	case "vendor": // ia64
		text(&info.Vendor)
		info.arch("ia64")
	case "model name", "Model Name":
		if !strings.HasPrefix(value, "ARMv") && !strings.HasPrefix(value, "AArch64") { // the instruction set, not the part
			text(&info.Brand)
		}
	case "cpu family", "family":
		number(&info.Family)
	case "model":
		number(&info.Model)
	case "stepping":
		number(&info.Stepping)
	case "microcode":
		text(&info.Microcode)
	case "flags":
		if info.Features == nil {
			info.Features = strings.Fields(value)
			info.Virtual = slices.Contains(info.Features, "hypervisor")
			if slices.Contains(info.Features, "lm") {
				info.arch("x86_64")
			} else {
				info.arch("i686")
			}
			info.Level = x86Level(info.Features)
		}
	case "Features", "features":
		if info.Features == nil {
			info.Features = strings.Fields(value)
		}
	case "CPU implementer":
		if isNumber {
			name, _ := Part{Implementer: int(n)}.names()
			setIfEmpty(&info.Vendor, name)
		}
	case "CPU architecture":
		if value == "8" || strings.HasPrefix(value, "AArch64") {
			info.arch("aarch64")
		} else {
			info.arch("arm")
		}
	case "isa":
		if strings.HasPrefix(value, "rv64") {
			info.arch("riscv64")
		} else if strings.HasPrefix(value, "rv32") {
			info.arch("riscv32")
		}
		if info.Features == nil {
			info.Features = []string{value}
		}
	case "uarch": // riscv
		text(&info.Brand)
	case "cpu": // POWER and SPARC
		text(&info.Brand)
		if strings.HasPrefix(value, "POWER") || strings.HasPrefix(value, "PPC") || strings.HasPrefix(value, "Cell") {
			info.arch("ppc64")
			setIfEmpty(&info.Vendor, "IBM")
		}
	case "CPU Family":
		if strings.HasPrefix(value, "Loongson-64") {
			info.arch("loongarch64")
			setIfEmpty(&info.Vendor, "Loongson")
		}
	case "type":
		if strings.HasPrefix(value, "sun4") {
			info.arch("sparc64")
		}
	}
}

func (info *CPUInfo) arch(name string) { setIfEmpty(&info.Arch, name) }

func setIfEmpty(to *string, value string) {
	if *to == "" {
		*to = value
	}
}

// x86Level is the x86-64 microarchitecture level that a set of kernel flags
// amounts to (x86-64 psABI 1.0, table 3.1); 0 for a 32-bit CPU. The kernel
// prints LZCNT as abm and SSE3 as pni.
func x86Level(flags []string) int {
	levels := [...][]string{
		{"lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"},
		{"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
		{"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
		{"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
	}
	for level, needed := range levels {
		for _, flag := range needed {
			if !slices.Contains(flags, flag) {
				return level
			}
		}
	}
	return len(levels)
}
