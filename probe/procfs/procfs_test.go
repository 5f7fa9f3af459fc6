package procfs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"berth/probe/finding"
	"berth/probe/procfs"
	"berth/probe/root"
)

func reader(files map[string]string) (root.Reader, *finding.List) {
	found := &finding.List{}
	return root.Reader{Dir: root.FromFiles(files).Dir, Found: found}, found
}

const x86 = `processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: A Processor
stepping	: 1
microcode	: 0xa101148
physical id	: 0
core id		: 3
flags		: fpu lm cmov cx8 fxsr mmx syscall sse sse2 cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 hypervisor

processor	: 1
vendor_id	: Other
model name	: Another
physical id	: 1
core id		: 4
`

func TestUname(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"proc/version": "Linux version 2.6.32 (x@y)\n"}, " 2.6.32 "},
		{map[string]string{"proc/sys/kernel/osrelease": "6.1.0\n", "proc/sys/kernel/arch": "aarch64\n"}, " 6.1.0 aarch64"},
		{map[string]string{"proc/hwloc-nofile-info": "OSName: Linux\nOSRelease: 4.1.0-2\nOSVersion: #1 SMP (2015: x)\nHostName: a\nArchitecture: s390x\n"}, "a 4.1.0-2 s390x"},
		{map[string]string{"proc/hwloc-nofile-info": "Architecture\n", "proc/sys/kernel/osrelease": "6.1.0\n"}, " 6.1.0 "},
	} {
		r, found := reader(c.files)
		host, release, arch := procfs.Uname(r)
		if got := host + " " + release + " " + arch; got != c.want || len(found.All()) > 0 {
			t.Errorf("%v: %q, %v, want %q", c.files, got, found.All(), c.want)
		}
	}
}

func TestCPUInfo(t *testing.T) {
	for _, c := range []struct {
		name, text                  string
		arch, vendor, brand, family string
		level                       int
		virtual                     bool
		processors                  string
	}{
		{"x86", x86, "x86_64", "AuthenticAMD", "A Processor", "25", 2, true, "0@0/3 1@1/4"},
		{"32-bit x86", "processor: 0\nvendor_id: GenuineIntel\nflags: fpu sse\n", "i686", "GenuineIntel", "", "", 0, false, "0@-1/-1"},
		{"arm64", "processor: 0\nFeatures: fp asimd\nCPU implementer: 0x41\nCPU architecture: 8\nCPU variant: 0x0\nCPU part: 0xd08\n\nprocessor: 1\nCPU implementer: 0x41\nCPU part: 0xd03\n",
			"aarch64", "ARM", "Cortex-A53", "", 0, false, "0@-1/-1 1@-1/-1"},
		{"old arm", "Processor: ARMv7 Processor rev 4 (v7l)\nprocessor: 0\nprocessor: 1\n\nCPU implementer: 0x41\nCPU architecture: 7\nCPU part: 0xc0f\n",
			"arm", "ARM", "Cortex-A15", "", 0, false, "0@-1/-1 1@-1/-1"},
		{"s390", "vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = 00,  identification = 1\n", "s390x", "IBM/S390", "", "", 0, false, ""},
		{"POWER", "processor: 8\ncpu: POWER9, altivec supported\nrevision: 2.3\n", "ppc64", "IBM", "POWER9, altivec supported", "", 0, false, "8@-1/-1"},
		{"riscv", "processor: 0\nhart: 1\nisa: rv64imafdc\nuarch: sifive,u74\n", "riscv64", "", "sifive,u74", "", 0, false, "0@-1/-1"},
		{"loongarch", "processor: 0\npackage: 0\ncore: 2\nCPU Family: Loongson-64bit\nModel Name: Loongson-3A5000\n", "loongarch64", "Loongson", "Loongson-3A5000", "", 0, false, "0@0/2"},
		{"noise", "::::\nprocessor: x\nphysical id: -4\ncpu family: 99999999999999\n", "", "", "", "", 0, false, ""},
		{"over the limit", "processor: 70000\n", "", "", "", "", 0, false, ""},
	} {
		r, found := reader(map[string]string{"proc/cpuinfo": c.text})
		info, ok := procfs.ReadCPUInfo(r, procfs.Whole)
		if !ok || len(found.All()) > 0 {
			t.Errorf("%s: %v, %v", c.name, ok, found.All())
		}
		family := ""
		if info.Family != nil {
			family = fmt.Sprint(*info.Family)
		}
		var processors []string
		for _, p := range info.Processors {
			processors = append(processors, fmt.Sprintf("%d@%d/%d", p.CPU, p.Package, p.Core))
		}
		if info.Arch != c.arch || info.Vendor != c.vendor || info.Brand != c.brand || family != c.family || info.Level != c.level ||
			info.Virtual != c.virtual || strings.Join(processors, " ") != c.processors {
			t.Errorf("%s: %+v, processors %v", c.name, info, processors)
		}
	}
}

func TestHead(t *testing.T) {
	r, _ := reader(map[string]string{"proc/cpuinfo": x86 + strings.Repeat("x : y\n", 10000)})
	info, ok := procfs.ReadCPUInfo(r, procfs.Head)
	if !ok || info.Vendor != "AuthenticAMD" || info.Processors != nil {
		t.Errorf("%+v, %v", info, ok)
	}
	r, _ = reader(nil)
	if _, ok := procfs.ReadCPUInfo(r, procfs.Head); ok {
		t.Error("a missing file was read")
	}
}

func TestParts(t *testing.T) {
	for _, c := range []struct {
		midr uint64
		want string
	}{
		{0x410fd034, "Cortex-A53"}, {0x413fd0c1, "Neoverse-N1"}, {0x410fd850, "Cortex-X925"}, {0xc00fac30, "Ampere-1"},
		{0x410ffff0, "ARM part 0xfff"}, {0x990fd034, "implementer 0x99 part 0xd03"},
	} {
		if got := procfs.PartOfMIDR(c.midr).String(); got != c.want {
			t.Errorf("%#x: %s, want %s", c.midr, got, c.want)
		}
	}
}

func TestSmallFiles(t *testing.T) {
	r, found := reader(map[string]string{
		"proc/meminfo": "MemTotal:       2048 kB\nMemFree: 1 kB\n", "proc/version": "Linux version 5.15.0-x (a@b) #1\n",
		"proc/self/status": "Name: x\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n",
	})
	if n, ok := procfs.MemTotal(r); !ok || n != 2<<20 {
		t.Errorf("MemTotal %d, %v", n, ok)
	}
	if got := procfs.Release(r); got != "5.15.0-x" {
		t.Errorf("Release %q", got)
	}
	if s, ok := procfs.Affinity(r); !ok || s.String() != "0-7" {
		t.Errorf("Affinity %s, %v", s, ok)
	}
	if all := found.All(); len(all) > 0 {
		t.Errorf("findings %v", all)
	}
	for _, bad := range []string{"", "MemTotal:", "MemTotal: -1 kB", "MemTotal: 99999999999999999999 kB", "MemFree: 1 kB"} {
		r, found := reader(map[string]string{"proc/meminfo": bad})
		if n, ok := procfs.MemTotal(r); ok || len(found.All()) != 1 {
			t.Errorf("meminfo %q: %d, %v, %v", bad, n, ok, found.All())
		}
	}
}

func FuzzCPUInfo(f *testing.F) {
	f.Add(x86)
	f.Add("processor: 0\nCPU implementer: 0x41\nCPU part: 0xd08\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, extent := range []procfs.Extent{procfs.Head, procfs.Whole} {
			r, _ := reader(map[string]string{"proc/cpuinfo": text})
			info, _ := procfs.ReadCPUInfo(r, extent)
			if info.Level < 0 || info.Level > 4 {
				t.Fatalf("level %d", info.Level)
			}
			if slices.ContainsFunc(info.Processors, func(p procfs.Processor) bool { return p.CPU < 0 || p.CPU >= 65536 }) {
				t.Fatalf("processors %v", info.Processors)
			}
		}
	})
}
