//go:build linux

package main

import (
	"context"
	"testing"

	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// machines are what the views are tested on, each odd in a way of its own.
func machines(t *testing.T) map[string]*probe.Machine {
	return map[string]*probe.Machine{
		"epyc":        epyc(t),
		"epyc-pod":    pod(t),
		"laptop":      laptop(),
		"tiny":        tiny(t),
		"container":   container(t),
		"mainframe":   mainframe(t),
		"bare-nodes":  bareNodes(t),
		"big-little":  bigLittle(),
		"huge":        huge(t),
		"offline":     offline(t),
		"across":      across(t),
		"no-topology": noTopology(),
		"many-nodes":  manyNodes(t),
	}
}

// described makes a machine from a description, named.
func described(t *testing.T, brand, description string) *probe.Machine {
	t.Helper()
	source, err := probe.Synthetic(description)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	m.CPU.Brand = brand
	m.Host.Arch = "x86_64"
	m.Host.Kernel = "6.12.0"
	return m
}

func ref[T any](v T) *T { return &v }

func cpus(list string) cpuset.Set {
	s, err := cpuset.Parse(list)
	if err != nil {
		panic(err)
	}
	return s
}

const gib = 1 << 30

// give sets what the process may use.
func give(m *probe.Machine, allowed string) {
	set := cpus(allowed)
	m.Limits.Affinity = &set
	m.Topology.Allowed = m.Topology.Online.Intersect(set)
	m.Limits.EffectiveCPUs = float64(m.Topology.Allowed.Len())
	if q := m.Limits.QuotaCPUs; q != nil {
		m.Limits.EffectiveCPUs = min(m.Limits.EffectiveCPUs, *q)
	}
}

func memoryOf(m *probe.Machine, bytes ...int64) {
	var all int64
	for i, n := range bytes {
		m.Topology.NUMANodes[i].MemoryBytes = ref(n)
		all += n
	}
	m.Host.MemoryBytes = &all
}

// epyc numbers SMT siblings far apart: CPU n and CPU 64+n are one core.
func epyc(t *testing.T) *probe.Machine {
	indexes := ""
	for c := range 64 {
		if c > 0 {
			indexes += ","
		}
		indexes += cpuset.Of(cpuset.CPU(c)).String() + "," + cpuset.Of(cpuset.CPU(64+c)).String()
	}
	m := described(t, "AMD EPYC 7543 32-Core Processor",
		"package:2 numa:1 l3:8(size=32MiB) l2:4(size=512KiB) l1d:1(size=32KiB) l1i:1(size=32KiB) core:1 pu:2(indexes="+indexes+")")
	memoryOf(m, 251*gib+600<<20, 252*gib)
	m.Topology.NUMANodes[0].Distances = []int{10, 32}
	m.Topology.NUMANodes[1].Distances = []int{32, 10}
	m.Devices = []probe.Device{
		{Kind: "nic", Name: "ens1f0", PCI: "0000:41:00.0", NUMANode: ref(0), LocalCPUs: cpus("0-31,64-95")},
		{Kind: "nic", Name: "ens1f1", PCI: "0000:41:00.1", NUMANode: ref(0), LocalCPUs: cpus("0-31,64-95")},
		{Kind: "nvme", Name: "nvme0", PCI: "0000:c1:00.0", NUMANode: ref(1), LocalCPUs: cpus("32-63,96-127")},
	}
	give(m, "0-127")
	return m
}

// pod has four cores of it, and less time than that.
func pod(t *testing.T) *probe.Machine {
	m := epyc(t)
	m.Host.Container = "kubernetes"
	m.Limits.QuotaCPUs, m.Limits.QuotaPeriodMS = ref(2.5), ref(100.0)
	m.Limits.MemoryBytes = ref(int64(4 * gib))
	m.Limits.Throttled = &cgroup.Throttled{Periods: 1234, MS: 56200}
	give(m, "0-3,64-67")
	m.Limits.CPUSet = m.Limits.Affinity
	m.Limits.Chain = []cgroup.Link{
		{Resource: "cpuset", Source: "cpuset.cpus.effective", Path: "/kubepods/pod-a", Limit: *m.Limits.CPUSet, Binding: true},
		{Resource: "cpus", Source: "cpu.max", Path: "/kubepods/pod-a", Limit: 2.5, Binding: true},
		{Resource: "cpus", Source: "cpu.max", Path: "/kubepods", Limit: 4.0},
		{Resource: "memory_bytes", Source: "memory.max", Path: "/kubepods/pod-a", Limit: int64(4 * gib), Binding: true},
		{Resource: "weight", Source: "cpu.weight", Path: "/kubepods/pod-a", Limit: int64(79)},
	}
	m.Devices = []probe.Device{}
	return m
}

// laptop has two kinds of cores, of which only one has SMT.
func laptop() *probe.Machine {
	m := &probe.Machine{Schema: probe.Schema, Fingerprint: "0123456789abcdef0123456789abcdef"}
	m.CPU = topology.Identity{
		Vendor: "GenuineIntel", Brand: "12th Gen Intel(R) Core(TM) i7-1270P", Family: ref(6), Model: ref(154), Stepping: ref(3),
		Features: []string{"avx", "avx2", "sse4_2"}, Level: 3,
	}
	m.Host = probe.Host{OS: "linux", Kernel: "6.8.0", Arch: "x86_64", MemoryBytes: ref(int64(32 * gib))}
	t := &m.Topology
	t.Online, t.Offline = cpus("0-15"), cpus("")
	t.Packages = []topology.Package{{ID: ref(0), CPUs: cpus("0-15")}}
	t.Dies = []topology.Die{{ID: ref(0), CPUs: cpus("0-15")}}
	t.Clusters = []topology.Group{}
	t.NUMANodes = []topology.NUMA{{ID: 0, CPUs: cpus("0-15"), MemoryBytes: ref(int64(32 * gib)), Distances: []int{10}}}
	cache := func(level int, kind topology.CacheType, kib int64, ways int, list string) {
		t.Caches = append(t.Caches, topology.Cache{Level: level, Type: kind, Size: ref(kib << 10), Line: ref(64), Ways: &ways, CPUs: cpus(list), Source: "sysfs"})
	}
	for c := 0; c < 8; c += 2 {
		set := cpuset.Range(cpuset.CPU(c), cpuset.CPU(c+1))
		t.Cores = append(t.Cores, topology.Core{ID: ref(c * 2), CPUs: set})
		cache(1, topology.Data, 48, 12, set.String())
		cache(1, topology.Instruction, 32, 8, set.String())
		cache(2, topology.Unified, 1280, 10, set.String())
	}
	for c := 8; c < 16; c++ {
		set := cpuset.Of(cpuset.CPU(c))
		t.Cores = append(t.Cores, topology.Core{ID: ref(c + 16), CPUs: set})
		cache(1, topology.Data, 32, 8, set.String())
		cache(1, topology.Instruction, 64, 8, set.String())
	}
	cache(2, topology.Unified, 2048, 16, "8-11")
	cache(2, topology.Unified, 2048, 16, "12-15")
	cache(3, topology.Unified, 18432, 12, "0-15")
	t.CoreKinds = []topology.Kind{
		{Name: "performance", CPUs: cpus("0-7"), Capacity: ref(1024), MaxKHz: ref(int64(4800000)), Source: "/sys/devices/cpu_core"},
		{Name: "efficiency", CPUs: cpus("8-15"), Capacity: ref(640), MaxKHz: ref(int64(3500000)), Source: "/sys/devices/cpu_atom"},
	}
	t.SMT = &topology.SMT{Control: "on"}
	t.Arrange()
	m.Devices = []probe.Device{{Kind: "gpu", Name: "card0", PCI: "0000:00:02.0", LocalCPUs: cpus("0-15")}}
	m.Limits.Chain, m.Findings = []cgroup.Link{}, []finding.Finding{}
	give(m, "0-15")
	return m
}

// tiny is a virtual machine of one CPU.
func tiny(t *testing.T) *probe.Machine {
	m := described(t, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "package:1 numa:1 l3:1(size=105MiB) l2:1(size=2MiB) l1d:1(size=48KiB) l1i:1(size=32KiB) core:1 pu:1")
	memoryOf(m, 2*gib)
	m.Host.Hypervisor = "kvm"
	give(m, "0")
	m.Findings = []finding.Finding{{Code: "vcpu-unverified", Severity: finding.Info,
		Message: "A virtual machine without the promise of dedicated cores: which physical core a CPU runs on can change, so pinning here promises nothing physical."}}
	return m
}

// container sees no groups above its own; its parent allows it less than itself.
func container(t *testing.T) *probe.Machine {
	m := described(t, "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "package:1 numa:1 l3:1(size=28160KiB) l2:8(size=1MiB) l1d:1(size=32KiB) core:1 pu:2")
	memoryOf(m, 64*gib)
	m.Host.Container = "docker"
	m.Limits.QuotaCPUs, m.Limits.QuotaPeriodMS = ref(0.5), ref(50.0)
	give(m, "0-15")
	m.Limits.Chain = []cgroup.Link{
		{Resource: "cpus", Source: "cpu.cfs_quota_us", Path: "/docker/abc", Limit: 2.5},
		{Resource: "cpus", Source: "cpu.cfs_quota_us", Path: "/docker", Limit: 0.5, Binding: true},
	}
	m.Findings = []finding.Finding{
		{Code: "limits-hidden-above", Severity: finding.Info, Message: "The control groups above the highest one seen are hidden; the budget is an upper bound.", Evidence: []string{"/sys/fs/cgroup"}},
		{Code: "contradiction", Severity: finding.Warning, Message: "CPUID and the kernel's files describe the caches differently; the files are believed.",
			Evidence: []string{"sysfs: L3 unified 28160 KiB of 0-15", "cpuid: L3 unified 39424 KiB of 0-15 | L2 unified 1024 KiB of 0-1 | L2 unified 1024 KiB of 2-3 | and 6 more"}},
	}
	return m
}

func mainframe(t *testing.T) *probe.Machine {
	m := described(t, "IBM/S390", "package:4 l2:4(size=4MiB) l1d:1(size=128KiB) l1i:1(size=128KiB) core:1 pu:2")
	m.Host.Arch, m.Host.Hypervisor = "s390x", "pr/sm"
	m.Topology.Books = []topology.Group{{ID: ref(0), CPUs: cpus("0-15")}, {ID: ref(1), CPUs: cpus("16-31")}}
	m.Topology.Drawers = []topology.Group{{ID: ref(0), CPUs: cpus("0-31")}}
	give(m, "0-31")
	return m
}

// bareNodes has memory on cards, nodes without CPUs.
func bareNodes(t *testing.T) *probe.Machine {
	m := described(t, "Intel(R) Xeon Phi(TM) CPU 7250", "package:1 numa:1 l2:4(size=1MiB) core:2 pu:4")
	n := &m.Topology.NUMANodes
	*n = append(*n, topology.NUMA{ID: 1, Near: ref(cpus("0-31"))}, topology.NUMA{ID: 4, GPU: "0000:3b:00.0"})
	m.Limits.Mems = ref(cpus("0-1"))
	memoryOf(m, 96*gib, 16*gib, 512*gib)
	for i, d := range [][]int{{10, 31, 40}, {31, 10, 50}, {40, 50, 10}} {
		(*n)[i].Distances = d
	}
	m.Topology.Isolated, m.Topology.NohzFull = ref(cpus("24-31")), ref(cpus("28-31"))
	give(m, "0-31")
	return m
}

func bigLittle() *probe.Machine {
	m := &probe.Machine{Schema: probe.Schema}
	m.CPU = topology.Identity{Vendor: "ARM"}
	m.Host = probe.Host{OS: "linux", Kernel: "5.10.160", Arch: "aarch64", MemoryBytes: ref(int64(8047 << 20))}
	t := &m.Topology
	t.Online, t.Offline = cpus("0-7"), cpus("")
	t.Packages, t.Dies, t.NUMANodes, t.Caches = []topology.Package{}, []topology.Die{}, []topology.NUMA{}, []topology.Cache{}
	t.Clusters = []topology.Group{{ID: ref(0), CPUs: cpus("0-3")}, {ID: ref(1), CPUs: cpus("4-5")}, {ID: ref(2), CPUs: cpus("6-7")}}
	for c := range 8 {
		t.Cores = append(t.Cores, topology.Core{CPUs: cpuset.Of(cpuset.CPU(c))})
	}
	t.CoreKinds = []topology.Kind{
		{Name: "performance", CPUs: cpus("4-7"), Capacity: ref(1024), MaxKHz: ref(int64(2304000)), Model: "Cortex-A76", Source: "MIDR_EL1"},
		{Name: "efficiency", CPUs: cpus("0-3"), Capacity: ref(430), MaxKHz: ref(int64(1800000)), Model: "Cortex-A55", Source: "MIDR_EL1"},
	}
	t.Arrange()
	m.Limits.Chain, m.Findings, m.Devices = []cgroup.Link{}, []finding.Finding{}, []probe.Device{}
	give(m, "0-7")
	m.Topology.Allowed = cpus("4-6")
	give(m, "4-6")
	m.Limits.Chain = []cgroup.Link{{Resource: "cpuset", Source: "affinity", Limit: cpus("4-6"), Binding: true}}
	return m
}

// huge must still fit a screen.
func huge(t *testing.T) *probe.Machine {
	m := described(t, "AMD EPYC 9754 128-Core Processor", "package:2 numa:4 l3:4(size=16MiB) l2:4(size=1MiB) l1d:1(size=32KiB) l1i:1(size=32KiB) core:1 pu:2")
	sizes := make([]int64, 8)
	for i := range sizes {
		sizes[i] = 96 * gib
		for j := range sizes {
			d := 32
			switch {
			case i == j:
				d = 10
			case i/4 == j/4:
				d = 12
			}
			m.Topology.NUMANodes[i].Distances = append(m.Topology.NUMANodes[i].Distances, d)
		}
	}
	memoryOf(m, sizes...)
	give(m, "0-255")
	return m
}

// offline lacks CPU 0 and a sibling, and its isolated CPUs are allowed.
func offline(t *testing.T) *probe.Machine {
	m := described(t, "AMD Ryzen 5 1600 Six-Core Processor", "package:1 l3:2(size=8MiB) l2:3(size=512KiB) l1d:1(size=32KiB) l1i:1(size=64KiB) core:1 pu:2")
	top := &m.Topology
	gone := cpus("0-1,7")
	top.Offline, top.Online = gone, top.Online.Minus(gone)
	top.Cores = top.Cores[1:]
	for i := range top.Cores {
		top.Cores[i].CPUs = top.Cores[i].CPUs.Minus(gone)
	}
	top.Packages[0].CPUs = top.Online
	kept := top.Caches[:0]
	for _, c := range top.Caches {
		if c.CPUs = c.CPUs.Minus(gone); !c.CPUs.IsEmpty() {
			kept = append(kept, c)
		}
	}
	top.Caches = kept
	top.Arrange()
	top.Isolated = ref(cpus("10-11"))
	give(m, "2-11")
	m.Limits.Chain = []cgroup.Link{}
	return m
}

// across has nodes that lie across packages.
func across(t *testing.T) *probe.Machine {
	m := described(t, "", "package:4 l2:2(size=4MiB) core:2 pu:1")
	m.Topology.NUMANodes = []topology.NUMA{
		{ID: 0, CPUs: cpus("0-5"), MemoryBytes: ref(int64(gib))},
		{ID: 1, CPUs: cpus("6-15"), MemoryBytes: ref(int64(gib))},
	}
	m.Host.MemoryBytes = ref(int64(2 * gib))
	give(m, "0-15")
	return m
}

// noTopology knows which CPUs are online and no more.
func noTopology() *probe.Machine {
	m := &probe.Machine{Schema: probe.Schema, Limits: probe.Limits{Chain: []cgroup.Link{}}, Devices: []probe.Device{}}
	t := &m.Topology
	t.Online, t.Allowed = cpus("0-3"), cpus("0-3")
	t.Packages, t.Dies, t.Clusters, t.Cores = []topology.Package{}, []topology.Die{}, []topology.Group{}, []topology.Core{}
	t.NUMANodes, t.Caches, t.CoreKinds = []topology.NUMA{}, []topology.Cache{}, []topology.Kind{}
	m.Limits.EffectiveCPUs = 4
	m.Findings = []finding.Finding{{Code: finding.Missing, Severity: finding.Warning,
		Message:  "The kernel's CPU files are missing; which CPUs are online comes from /proc/cpuinfo, and how they share cores and caches is not known.",
		Evidence: []string{"/sys/devices/system/cpu"}}}
	return m
}

// manyNodes is too wide for a matrix of distances.
func manyNodes(t *testing.T) *probe.Machine {
	m := described(t, "", "numa:32 package:2 core:2 pu:1")
	sizes := make([]int64, 32)
	for i := range sizes {
		sizes[i] = 8*gib - int64(i%3)<<27
		for j := range sizes {
			d := 22
			if i == j {
				d = 10
			}
			m.Topology.NUMANodes[i].Distances = append(m.Topology.NUMANodes[i].Distances, d)
		}
	}
	memoryOf(m, sizes...)
	give(m, "0-127")
	return m
}

// tangled makes a machine of which nothing need fit together.
func tangled(data []byte) *probe.Machine {
	take := func() int {
		if len(data) == 0 {
			return 0
		}
		n := int(data[0])
		data = data[1:]
		return n
	}
	set := func() cpuset.Set {
		lo := cpuset.CPU(take() % 40)
		return cpuset.Range(lo, lo+cpuset.CPU(take()%20)-1).Union(cpuset.Of(cpuset.CPU(take() % 40)))
	}
	maybe := func() *int {
		if n := take(); n%3 > 0 {
			return &n
		}
		return nil
	}
	m := &probe.Machine{}
	t := &m.Topology
	t.Online, t.Offline, t.Allowed = set(), set(), set()
	for len(data) > 0 {
		switch take() % 10 {
		case 0:
			t.Packages = append(t.Packages, topology.Package{ID: maybe(), CPUs: set()})
		case 1:
			t.Dies = append(t.Dies, topology.Die{ID: maybe(), CPUs: set()})
		case 2:
			t.Clusters = append(t.Clusters, topology.Group{CPUs: set()})
		case 3:
			n := topology.NUMA{ID: take(), CPUs: set()}
			for range take() % 5 {
				n.Distances = append(n.Distances, take())
			}
			t.NUMANodes = append(t.NUMANodes, n)
		case 4:
			c := topology.Cache{Level: take() % 8, Type: topology.Unified, CPUs: set()}
			if size := maybe(); size != nil {
				c.Size = ref(int64(*size) << 8)
			}
			t.Caches = append(t.Caches, c)
		case 5:
			t.Caches = append(t.Caches,
				topology.Cache{Level: 1, Type: topology.Data, Size: ref(int64(take())), CPUs: set()},
				topology.Cache{Level: 1, Type: topology.Instruction, Size: ref(int64(take())), CPUs: set()})
		case 6:
			t.CoreKinds = append(t.CoreKinds, topology.Kind{Name: "k", CPUs: set()})
		case 7:
			m.Limits.Chain = append(m.Limits.Chain, cgroup.Link{Resource: "cpus", Limit: take(), Binding: true})
			m.Limits.QuotaCPUs = ref(float64(take()) / 7)
		case 8:
			t.Books = append(t.Books, topology.Group{ID: maybe(), CPUs: set()})
		default:
			t.Cores = append(t.Cores, topology.Core{Index: topology.CoreIndex(take()), CPUs: set()})
		}
	}
	return m
}
