//go:build lab

package vmlab

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

const look = "facts\nrun machine /berth inspect -o json\n"

// machineOf reads a step's JSON.
func machineOf(t *testing.T, steps map[string]string, name string) *probe.Machine {
	t.Helper()
	var m probe.Machine
	if err := json.Unmarshal([]byte(steps[name]), &m); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, steps[name])
	}
	return &m
}

// lists is the distinct CPU lists of the files that match, restricted to the
// online CPUs, by a reading of the guest's files that is not berth's.
func lists(t *testing.T, facts map[string]string, pattern string) []string {
	online, err := cpuset.Parse(facts["cpu/online"])
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for name, text := range facts {
		if ok, _ := path.Match(pattern, name); !ok {
			continue
		}
		set, err := cpuset.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if set = set.Intersect(online); !set.IsEmpty() {
			found[set.String()] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func setsOf[T any](objects []T, cpus func(T) cpuset.Set) []string {
	var out []string
	for _, o := range objects {
		if s := cpus(o); !s.IsEmpty() {
			out = append(out, s.String())
		}
	}
	slices.Sort(out)
	return out
}

// factsOf is what the guest's files said, by name.
func factsOf(steps map[string]string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(steps["facts"]) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			facts[name] = text
		}
	}
	return facts
}

func mustParse(t *testing.T, list string) cpuset.Set {
	t.Helper()
	set, err := cpuset.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// checkAgainstFiles holds a machine against the guest's own files.
func checkAgainstFiles(t *testing.T, steps map[string]string, m *probe.Machine) {
	t.Helper()
	facts := factsOf(steps)
	top := m.Topology
	same := func(what string, got, want []string) {
		if !slices.Equal(got, want) {
			t.Errorf("%s: berth says %v, the files %v", what, got, want)
		}
	}
	same("online", []string{top.Online.String()}, []string{facts["cpu/online"]})
	same("packages", setsOf(top.Packages, func(p topology.Package) cpuset.Set { return p.CPUs }), lists(t, facts, "cpu/cpu*/topology/package_cpus_list"))
	same("cores", setsOf(top.Cores, func(c topology.Core) cpuset.Set { return c.CPUs }), lists(t, facts, "cpu/cpu*/topology/core_cpus_list"))
	same("nodes", setsOf(top.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs }), lists(t, facts, "node/node*/cpulist"))
	var caches []string
	for _, c := range top.Caches {
		caches = append(caches, c.CPUs.String())
	}
	slices.Sort(caches)
	same("caches", slices.Compact(caches), lists(t, facts, "cpu/cpu*/cache/index*/shared_cpu_list"))
}

func TestSkylakeDies(t *testing.T) {
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu Skylake-Server,+x2apic -smp 16,sockets=2,dies=2,cores=2,threads=2",
		steps: look +
			"run bound on 3-4,9 /berth inspect -o json\nrun one on 3-4,9 /berth nproc\n" +
			"run save /berth snapshot /s.tar.gz\nrun replay /berth inspect -o json --sysroot /s.tar.gz\n" +
			"write /sys/devices/system/cpu/cpu5/online 0\nrun offline /berth inspect -o json\n" +
			"write /sys/devices/system/cpu/cpu5/online 1\n" +
			"write /sys/devices/system/cpu/smt/control off\nrun nosmt /berth inspect -o json\n"})
	m := machineOf(t, steps, "machine")
	checkAgainstFiles(t, steps, m)
	top := m.Topology
	if len(top.Packages) != 2 || len(top.Dies) != 4 || len(top.Cores) != 8 || top.SMT.Threads != 2 || m.Host.Hypervisor == "" {
		t.Errorf("%d packages, %d dies, %d cores, SMT %+v, hypervisor %q", len(top.Packages), len(top.Dies), len(top.Cores), top.SMT, m.Host.Hypervisor)
	}
	if b := machineOf(t, steps, "bound"); b.Topology.Allowed.String() != "3-4,9" || b.Limits.EffectiveCPUs != 3 || strings.TrimSpace(steps["one"]) != "3" {
		t.Errorf("bound to 3-4,9: allowed %s, budget %v, nproc %q", b.Topology.Allowed, b.Limits.EffectiveCPUs, steps["one"])
	}
	off := machineOf(t, steps, "offline")
	if off.Topology.Offline.String() != "5" || off.Topology.Online.Contains(5) || len(off.Topology.Cores) != 8 || off.Fingerprint != m.Fingerprint {
		t.Errorf("CPU 5 offline: offline %s, online %s, %d cores, fingerprint kept: %v", off.Topology.Offline, off.Topology.Online, len(off.Topology.Cores), off.Fingerprint == m.Fingerprint)
	}
	if s := machineOf(t, steps, "nosmt"); s.Topology.SMT.Active || s.Topology.Online.Len() != 8 || s.Fingerprint != m.Fingerprint {
		t.Errorf("SMT off: %+v, online %s, fingerprint kept: %v", s.Topology.SMT, s.Topology.Online, s.Fingerprint == m.Fingerprint)
	}
	replayed := machineOf(t, steps, "replay")
	if replayed.Fingerprint != m.Fingerprint || len(replayed.Topology.Caches) != len(top.Caches) || !replayed.Topology.Allowed.Equal(top.Allowed) {
		t.Errorf("the snapshot replays to %+v", replayed.Topology)
	}
}

func TestMilanIsNotAsAsked(t *testing.T) {
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu EPYC-Milan -smp 8,sockets=2,cores=2,threads=2", steps: look})
	m := machineOf(t, steps, "machine")
	checkAgainstFiles(t, steps, m)
	t.Logf("findings: %v", m.Findings)
}

func TestNodesAndIsolation(t *testing.T) {
	steps := boot(t, guest{arch: "amd64", append: "isolcpus=2-3 nohz_full=2-3", steps: look,
		cpu: "-cpu max -smp 8,sockets=2,cores=4,threads=1 -object memory-backend-ram,id=a,size=512M -object memory-backend-ram,id=b,size=256M " +
			"-object memory-backend-ram,id=c,size=256M -numa node,nodeid=0,cpus=0-3,memdev=a -numa node,nodeid=1,cpus=4-7,memdev=b -numa node,nodeid=2,memdev=c " +
			"-numa dist,src=0,dst=1,val=21 -numa dist,src=0,dst=2,val=17 -numa dist,src=1,dst=2,val=28 -numa dist,src=1,dst=0,val=31 -numa dist,src=2,dst=0,val=17 -numa dist,src=2,dst=1,val=28"})
	m := machineOf(t, steps, "machine")
	checkAgainstFiles(t, steps, m)
	top := m.Topology
	if top.Isolated == nil || top.Isolated.String() != "2-3" || top.Allowed.String() != "0-1,4-7" {
		t.Errorf("isolated %v, allowed %s", top.Isolated, top.Allowed)
	}
	if len(top.NUMANodes) != 3 || !top.NUMANodes[2].CPUs.IsEmpty() || !slices.Equal(top.NUMANodes[1].Distances, []int{31, 10, 28}) {
		t.Errorf("nodes %+v", top.NUMANodes)
	}
}

func TestManyCPUs(t *testing.T) {
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu Skylake-Server,+x2apic -smp 64,sockets=2,cores=16,threads=2", steps: look})
	m := machineOf(t, steps, "machine")
	checkAgainstFiles(t, steps, m)
	if len(m.Topology.Cores) != 32 || m.Limits.EffectiveCPUs != 64 {
		t.Errorf("%d cores, budget %v", len(m.Topology.Cores), m.Limits.EffectiveCPUs)
	}
}

func TestArmClusters(t *testing.T) {
	steps := boot(t, guest{arch: "arm64", cpu: "-M virt -cpu cortex-a72 -smp 8,sockets=1,clusters=2,cores=2,threads=2", steps: look})
	m := machineOf(t, steps, "machine")
	checkAgainstFiles(t, steps, m)
	if len(m.Topology.Clusters) != 2 || len(m.Topology.Cores) != 4 || m.CPU.Brand != "Cortex-A72" || m.Host.Arch != "aarch64" {
		t.Errorf("%d clusters, %d cores, %+v, %+v", len(m.Topology.Clusters), len(m.Topology.Cores), m.CPU, m.Host)
	}
}

func TestGroups(t *testing.T) {
	const top = "/sys/fs/cgroup"
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu max -smp 4", steps: "write " + top + "/cgroup.subtree_control +cpu +cpuset +memory\n" +
		"mkdir " + top + "/pod\nwrite " + top + "/pod/cpu.max 50000 100000\nwrite " + top + "/pod/cgroup.subtree_control +cpu +cpuset +memory\n" +
		"mkdir " + top + "/pod/c\nwrite " + top + "/pod/c/cpuset.cpus 1-2\nwrite " + top + "/pod/c/cpu.max 200000 100000\n" +
		"run exact in " + top + "/pod/c /berth nproc --exact\nrun machine in " + top + "/pod/c /berth inspect -o json\n" +
		"run apart in " + top + "/pod/c apart /berth inspect -o json\n"})
	if got := strings.TrimSpace(steps["exact"]); got != "0.5" {
		t.Errorf("nproc --exact: %q", got)
	}
	m := machineOf(t, steps, "machine")
	if m.Topology.Allowed.String() != "1-2" || m.Limits.EffectiveCPUs != 0.5 {
		t.Errorf("allowed %s, budget %v", m.Topology.Allowed, m.Limits.EffectiveCPUs)
	}
	binding := ""
	for _, l := range m.Limits.Chain {
		if l.Binding && l.Resource == "cpus" {
			binding = l.Path
		}
	}
	if binding != "/pod" {
		t.Errorf("the quota that binds is of %q: %+v", binding, m.Limits.Chain)
	}
	apart := machineOf(t, steps, "apart")
	if !slices.ContainsFunc(apart.Findings, func(f finding.Finding) bool { return f.Code == "limits-hidden-above" }) {
		t.Errorf("a namespace hides its ancestors without a word: %+v", apart.Findings)
	}
}
