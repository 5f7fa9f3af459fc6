package probe_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
)

// machine is a small dump: one package, four cores with two CPUs each.
func machine(changes map[string]string) map[string]string {
	const cpu = "sys/devices/system/cpu/"
	files := map[string]string{
		cpu + "online":              "0-7\n",
		cpu + "present":             "0-7\n",
		"proc/cpuinfo":              "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: A CPU\nflags\t\t: fpu lm\n\n",
		"proc/meminfo":              "MemTotal:       1048576 kB\n",
		"proc/sys/kernel/arch":      "x86_64\n",
		"proc/self/status":          "Name:\tx\nCpus_allowed_list:\t0-5\n",
		"proc/sys/kernel/osrelease": "6.1.0\n",
	}
	for c := range 8 {
		base := fmt.Sprintf("%scpu%d/", cpu, c)
		core := c % 4
		files[base+"topology/core_cpus_list"] = fmt.Sprintf("%d,%d\n", core, core+4)
		files[base+"topology/core_id"] = fmt.Sprintln(core)
		files[base+"topology/package_cpus_list"] = "0-7\n"
		files[base+"topology/physical_package_id"] = "0\n"
		files[base+"cache/index0/level"] = "3\n"
		files[base+"cache/index0/type"] = "Unified\n"
		files[base+"cache/index0/size"] = "8192K\n"
		files[base+"cache/index0/shared_cpu_list"] = "0-7\n"
		files[base+"cache/index1/level"] = "1\n" // as QEMU has it: each sibling its own
		files[base+"cache/index1/type"] = "Data\n"
		files[base+"cache/index1/size"] = "32K\n"
		files[base+"cache/index1/shared_cpu_list"] = fmt.Sprintln(c)
	}
	for name, content := range changes {
		if content == "" {
			maps.DeleteFunc(files, func(have, _ string) bool { return have == name || strings.HasPrefix(have, name+"/") })
		} else {
			files[name] = content
		}
	}
	return files
}

func read(t *testing.T, files map[string]string) *probe.Machine {
	t.Helper()
	m, err := probe.Probe(context.Background(), probe.Source{Root: root.FromFiles(files)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func codes(m *probe.Machine) []string {
	out := []string{}
	for _, f := range m.Findings {
		out = append(out, f.Code)
	}
	return out
}

func TestDump(t *testing.T) {
	m := read(t, machine(nil))
	top := m.Topology
	if top.Online.String() != "0-7" || top.Allowed.String() != "0-5" || m.Limits.EffectiveCPUs != 6 {
		t.Errorf("online %s, allowed %s, budget %v", top.Online, top.Allowed, m.Limits.EffectiveCPUs)
	}
	if len(top.Cores) != 4 || top.Cores[1].CPUs.String() != "1,5" || top.SMT.Threads != 2 || !top.SMT.Active {
		t.Errorf("cores %v, SMT %v", top.Cores, top.SMT)
	}
	if m.CPU.Vendor != "GenuineIntel" || *m.CPU.Model != 143 || m.Host.Arch != "x86_64" || m.Host.Kernel != "6.1.0" {
		t.Errorf("CPU %+v, host %+v", m.CPU, m.Host)
	}
	if len(m.Limits.Chain) != 1 || m.Limits.Chain[0].Source != "affinity" || !m.Limits.Chain[0].Binding {
		t.Errorf("chain %+v", m.Limits.Chain)
	}
	if got := codes(m); len(got) > 0 {
		t.Errorf("findings %v", m.Findings)
	}
}

func TestKinds(t *testing.T) {
	const cpu = "sys/devices/system/cpu/"
	perCPU := func(name string, values ...string) map[string]string {
		out := map[string]string{}
		for c, v := range values {
			out[fmt.Sprintf("%scpu%d/%s", cpu, c, name)] = v + "\n"
		}
		return out
	}
	for _, c := range []struct {
		name    string
		changes map[string]string
		want    string
	}{
		{"equal cores", nil, ""},
		{"frequency alone makes no kind", perCPU("cpufreq/cpuinfo_max_freq", "5000000", "5200000", "3000000", "3000000"), ""},
		{"equal capacities", perCPU("cpu_capacity", "1024", "1024", "1024", "1024", "1024", "1024", "1024", "1024"), ""},
		{"favoured cores", perCPU("cpu_capacity", "1024", "1009", "1009", "994", "1024", "1009", "1009", "994"), ""},
		{"two capacities", perCPU("cpu_capacity", "446", "446", "1024", "1024", "446", "446", "1024", "1024"),
			"performance 2-3,6-7 1024 cpu_capacity; efficiency 0-1,4-5 446 cpu_capacity"},
		{"three capacities", perCPU("cpu_capacity", "250", "700", "1024", "1024", "250", "700", "1024", "1024"),
			"performance 2-3,6-7 1024 cpu_capacity; middle 1,5 700 cpu_capacity; efficiency 0,4 250 cpu_capacity"},
		{"hybrid lists", map[string]string{"sys/devices/cpu_core/cpus": "0,4\n", "sys/devices/cpu_atom/cpus": "1-3,5-7\n"},
			"performance 0,4 - /sys/devices/cpu_core; efficiency 1-3,5-7 - /sys/devices/cpu_atom"},
		{"a hybrid part of one kind", map[string]string{"sys/devices/cpu_core/cpus": "0-7\n"}, ""},
		{"part numbers", perCPU("regs/identification/midr_el1", "0x00000000410fd034", "0x00000000410fd034", "0x00000000410fd092", "0x00000000410fd092"),
			"Cortex-A53 0-1 - MIDR_EL1; Cortex-A73 2-3 - MIDR_EL1"},
		{"near CPPC values", perCPU("acpi_cppc/highest_perf", "231", "226", "186", "166", "231", "226", "186", "166"), ""},
		{"far CPPC values", perCPU("acpi_cppc/highest_perf", "208", "208", "130", "130", "208", "208", "130", "130"),
			"performance 0-1,4-5 - CPPC highest_perf, an inference; efficiency 2-3,6-7 - CPPC highest_perf, an inference"},
	} {
		m := read(t, machine(c.changes))
		var got []string
		for _, k := range m.Topology.CoreKinds {
			capacity := "-"
			if k.Capacity != nil {
				capacity = fmt.Sprint(*k.Capacity)
			}
			got = append(got, fmt.Sprintf("%s %s %s %s", k.Name, k.CPUs, capacity, k.Source))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, strings.Join(got, "; "), c.want)
		}
		if len(got) > 0 && strings.Contains(c.want, "cpu_core") && m.Topology.Cores[0].Kind != "performance" {
			t.Errorf("%s: core 0 is of kind %q", c.name, m.Topology.Cores[0].Kind)
		}
	}
}

func TestBadDumps(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes map[string]string
		online  string
		finding string // that must be there
	}{
		{"no CPU folder", map[string]string{"sys": "", "proc/cpuinfo": "processor: 0\nphysical id: 0\ncore id: 0\n\nprocessor: 1\nphysical id: 0\ncore id: 1\n"}, "0-1", finding.Missing},
		{"a file as the CPU folder", map[string]string{"sys": "", "sys/devices/system/cpu": "x", "proc/cpuinfo": "processor: 0\n"}, "0", finding.Missing},
		{"affinity apart from online", map[string]string{"proc/self/status": "Cpus_allowed_list:\t100\n"}, "0-7", finding.Contradiction},
		{"garbage affinity", map[string]string{"proc/self/status": "Cpus_allowed_list:\tmany\n"}, "0-7", finding.Malformed},
		{"an unreadable meminfo", map[string]string{"proc/meminfo": "-> meminfo"}, "0-7", finding.Unreadable},
		{"nodes that do not add up", map[string]string{
			"sys/devices/system/node/node0/cpulist": "0-7\n", "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 10 kB\n"}, "0-7", finding.Contradiction},
		{"nodes that share CPUs", map[string]string{
			"sys/devices/system/node/node0/cpulist": "0-7\n", "sys/devices/system/node/node1/cpulist": "4-7\n"}, "0-7", finding.Contradiction},
		{"a mask unlike its list", map[string]string{"sys/devices/system/cpu/cpu0/topology/package_cpus": "f\n"}, "0-7", finding.Contradiction},
		{"a virtual machine", map[string]string{"proc/cpuinfo": "processor: 0\nvendor_id: GenuineIntel\nflags: lm hypervisor\n"}, "0-7", "vcpu-unverified"},
		{"SMT off", map[string]string{"sys/devices/system/cpu/smt/control": "off\n"}, "0-7", "smt-off"},
		{"isolated CPUs allowed", map[string]string{"sys/devices/system/cpu/isolated": "2-3\n"}, "0-7", "isolated-allowed"},
	} {
		m := read(t, machine(c.changes))
		if m.Topology.Online.String() != c.online || !slices.Contains(codes(m), c.finding) {
			t.Errorf("%s: online %s, findings %v; want %s and %s", c.name, m.Topology.Online, codes(m), c.online, c.finding)
		}
	}
	for name, files := range map[string]map[string]string{
		"empty":        {},
		"something":    {"etc/passwd": "x"},
		"empty online": {"sys/devices/system/cpu/online": "\n"},
	} {
		m, err := probe.Probe(context.Background(), probe.Source{Root: root.FromFiles(files)})
		if err == nil || !strings.Contains(err.Error(), "sys/devices/system/cpu") {
			t.Errorf("%s: %v, %v; want an error that says what is missing", name, m, err)
		}
	}
	if _, err := probe.Probe(context.Background(), probe.Source{}); err == nil {
		t.Error("the empty source has a machine")
	}
}

// TestFingerprint checks what a fingerprint must not see, and what it must.
func TestFingerprint(t *testing.T) {
	plain := read(t, machine(nil)).Fingerprint
	offline := map[string]string{"sys/devices/system/cpu/online": "0-6\n", "sys/devices/system/cpu/cpu7/topology": "", "sys/devices/system/cpu/cpu7/cache": ""}
	smtOff := map[string]string{"sys/devices/system/cpu/online": "0-3\n", "sys/devices/system/cpu/smt/control": "off\n"}
	for name, changes := range map[string]map[string]string{
		"kernel": {"proc/sys/kernel/osrelease": "7.0\n"}, "memory": {"proc/meminfo": "MemTotal: 4 kB\n"},
		"affinity": {"proc/self/status": "Cpus_allowed_list:\t1\n"}, "offline": offline, "SMT": smtOff,
	} {
		if got := read(t, machine(changes)).Fingerprint; got != plain {
			t.Errorf("%s changes the fingerprint", name)
		}
	}
	for name, changes := range map[string]map[string]string{
		"model":    {"proc/cpuinfo": "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 144\n\n"},
		"CPUs":     {"sys/devices/system/cpu/present": "0-15\n"},
		"L3 size":  {"sys/devices/system/cpu/cpu0/cache/index0/size": "4096K\n"},
		"sharing":  {"sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list": "0-3\n"},
		"packages": {"sys/devices/system/cpu/cpu0/topology/package_cpus_list": "0,4\n"},
	} {
		if got := read(t, machine(changes)).Fingerprint; got == plain {
			t.Errorf("%s does not change the fingerprint", name)
		}
	}
}

func TestDevices(t *testing.T) {
	m := read(t, machine(map[string]string{
		"sys/class/net/eth0":   "-> ../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/net/eth0",
		"sys/class/net/lo":     "-> ../../devices/virtual/net/lo",
		"sys/class/nvme/nvme0": "-> ../../devices/pci0000:00/0000:01:00.0/nvme/nvme0",
		"sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/net/eth0/device": "-> ../..",
		"sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/numa_node":       "1\n",
		"sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/local_cpulist":   "4-7,64\n",
		"sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/class":           "0x020000\n",
		"sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/device":            "-> ../..",
		"sys/devices/pci0000:00/0000:01:00.0/numa_node":                    "-1\n",
		"sys/devices/pci0000:00/0000:02:00.0/class":                        "0x030200\n",
		"sys/devices/pci0000:00/0000:02:00.0/local_cpus":                   "f\n",
		"sys/bus/pci/devices/0000:3b:00.1":                                 "-> ../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1",
		"sys/bus/pci/devices/0000:02:00.0":                                 "-> ../../../devices/pci0000:00/0000:02:00.0",
	}))
	var got []string
	for _, d := range m.Devices {
		node := "?"
		if d.NUMANode != nil {
			node = fmt.Sprint(*d.NUMANode)
		}
		got = append(got, fmt.Sprintf("%s %s %s node %s CPUs %s", d.Kind, d.Name, d.PCI, node, d.LocalCPUs))
	}
	want := []string{
		"gpu 0000:02:00.0 0000:02:00.0 node ? CPUs 0-3",
		"nic eth0 0000:3b:00.1 node 1 CPUs 4-7",
		"nvme nvme0 0000:01:00.0 node ? CPUs ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("devices:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOnly checks that a part can be asked for alone.
func TestOnly(t *testing.T) {
	source := probe.Source{Root: root.FromFiles(machine(nil)), Only: probe.Budget}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	if m.Limits.EffectiveCPUs != 6 || len(m.Topology.Caches) > 0 || len(m.Topology.Cores) > 0 || m.CPU.Vendor != "" || m.Fingerprint != "" {
		t.Errorf("more than the budget was read: %+v", m)
	}
}

// FuzzSysroot feeds dumps of two files, whose names it chooses too.
func FuzzSysroot(f *testing.F) {
	for name, content := range machine(nil) {
		f.Add(name, content, "sys/devices/system/cpu/online", "0-3")
	}
	f.Add("sys/fs/cgroup/cpu.max", "50000 100000", "proc/self/cgroup", "0::/\n")
	f.Add("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "proc/self/cgroup", "0::/a/b\n")
	f.Add("sys/devices/system/node/node3/meminfo", "Node 3 MemTotal: 9 kB", "sys/class/net/eth0", "-> ../../devices/x")
	f.Fuzz(func(t *testing.T, name1, content1, name2, content2 string) {
		for _, files := range []map[string]string{
			{name1: content1, name2: content2},
			machine(map[string]string{name1: content1, name2: content2}),
		} {
			m, err := probe.Probe(context.Background(), probe.Source{Root: root.FromFiles(files)})
			if err == nil {
				checkMachine(t, m)
			}
		}
	})
}

// checkMachine holds what is true of any machine.
func checkMachine(t *testing.T, m *probe.Machine) {
	t.Helper()
	top := &m.Topology
	if !top.Allowed.SubsetOf(top.Online) || top.Offline.Overlaps(top.Online) {
		t.Fatalf("online %s, allowed %s, offline %s", top.Online, top.Allowed, top.Offline)
	}
	if b := m.Limits.EffectiveCPUs; b < 0 || b > float64(top.Allowed.Len()) || b != b {
		t.Fatalf("budget %v", b)
	}
	var seen cpuset.Set
	for i, c := range top.Cores {
		if c.CPUs.IsEmpty() || !c.CPUs.SubsetOf(top.Online) || c.CPUs.Overlaps(seen) || int(c.Index) != i {
			t.Fatalf("core %+v", c)
		}
		seen = seen.Union(c.CPUs)
	}
	for _, c := range top.Caches {
		if c.CPUs.IsEmpty() || !c.CPUs.SubsetOf(top.Online) || (c.Size != nil && *c.Size <= 0) {
			t.Fatalf("cache %+v", c)
		}
	}
	for _, p := range top.Packages {
		if p.CPUs.IsEmpty() || !p.CPUs.SubsetOf(top.Online) {
			t.Fatalf("package %+v", p)
		}
	}
	for _, n := range top.NUMANodes {
		if !n.CPUs.SubsetOf(top.Online) || (n.MemoryBytes != nil && *n.MemoryBytes < 0) {
			t.Fatalf("node %+v", n)
		}
	}
}

// ExampleProbe reads a machine from a description; [probe.Live] and
// [probe.Sysroot] give the others.
func ExampleProbe() {
	source, err := probe.Synthetic("package:2 l3:2 core:4 pu:2")
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d cores, %d CPUs, a budget of %v\n", len(m.Topology.Cores), m.Topology.Online.Len(), m.Limits.EffectiveCPUs)
	for _, c := range m.Topology.Cores[:2] {
		fmt.Printf("core %d: CPUs %s\n", c.Index, c.CPUs)
	}
	// Output:
	// 16 cores, 32 CPUs, a budget of 32
	// core 0: CPUs 0-1
	// core 1: CPUs 2-3
}

func ExampleSysroot() {
	dir, err := os.MkdirTemp("", "machine")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cpus := filepath.Join(dir, "sys/devices/system/cpu")
	if err := os.MkdirAll(cpus, 0o755); err != nil {
		fmt.Println(err)
		return
	}
	if err := os.WriteFile(filepath.Join(cpus, "online"), []byte("0-3\n"), 0o644); err != nil {
		fmt.Println(err)
		return
	}
	source, err := probe.Sysroot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Topology.Online)
	// Output: 0-3
}
