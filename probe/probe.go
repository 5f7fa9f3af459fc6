package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/procfs"
	"berth/probe/root"
	"berth/probe/sysfs"
	"berth/probe/topology"
)

// VCPUUnverified is the code of the finding that this is a virtual machine of
// which nobody promised that its CPUs stay where they are.
const VCPUUnverified = "vcpu-unverified"

// Probe reads a machine.
//
// Sources are merged by one rule. The kernel's files say which CPUs there are
// and what they share, because its scheduler acts on them; CPUID fills in what
// the files leave out. The affinity of a live process comes from the kernel's
// answer to sched_getaffinity(2), that of a dump from /proc/self/status. Where
// two sources differ, the finding "contradiction" holds both answers.
//
// A fact that cannot be read is left out and reported in the machine's
// findings. An error means that there is no machine to speak of.
func Probe(ctx context.Context, source Source) (*Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := &Machine{Schema: Schema}
	var err error
	switch {
	case source.Root != nil:
		err = m.fromFiles(ctx, source)
	case source.dump != nil:
		m.fromDump(source)
	case source.hwloc != nil:
		m.fromHwloc(source)
	case source.shape != nil:
		m.Topology = *source.shape
		m.Host.OS = "linux"
		m.Topology.Allowed = m.Topology.Online
		m.budget()
	default:
		return nil, errors.New("probe: the source is empty; start from Live, Sysroot, CPUID, HwlocXML or Synthetic")
	}
	if err != nil {
		return nil, err
	}
	m.neverNil()
	if source.Only == 0 {
		m.Fingerprint = m.fingerprint()
	}
	return m, nil
}

// files is what the sources over one root answer.
type files struct {
	sysfs    *sysfs.Facts
	groups   *cgroup.State
	info     procfs.CPUInfo
	hasInfo  bool
	host     Host
	devices  []Device
	gpus     map[int]Device // by the NUMA node that is their memory
	affinity *cpuset.Set
	cpuid    fromCPUID
}

func (m *Machine) fromFiles(ctx context.Context, source Source) error {
	var f files
	var found finding.List
	found.Append(source.Root.Findings...)
	if source.Root.Live {
		// First of all: reading CPUID will move a thread about.
		set, err := Affinity(os.Getpid())
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		f.affinity = &set
	}

	// Each source reports to a list of its own, so that the order of the
	// findings does not depend on which goroutine ends first.
	var wait sync.WaitGroup
	var lists [4]finding.List
	reader := func(i int) root.Reader { return root.Reader{Dir: source.Root.Dir, Found: &lists[i]} }
	wait.Go(func() {
		facts, found := sysfs.Read(source.Root, source.sysfsNeed())
		f.sysfs = facts
		lists[0].Append(found...)
	})
	wait.Go(func() {
		state, found := cgroup.Read(source.Root, source.cgroupNeed())
		f.groups = state
		lists[1].Append(found...)
		r := reader(1)
		if f.affinity == nil {
			if set, ok := procfs.Affinity(r); ok {
				f.affinity = &set
			}
		}
		if source.wants(NUMA) {
			if set, ok := procfs.Mems(r); ok {
				state.Mems = &set
			}
			f.gpus = gpuMemory(r)
		}
		if source.wants(Identity | Kinds) {
			extent := procfs.Head
			if source.wants(Kinds) && !(source.Root.Live && onX86) {
				extent = procfs.Whole // Arm names each CPU's part
			}
			f.info, f.hasInfo = procfs.ReadCPUInfo(r, extent)
		}
		if source.wants(Identity) {
			f.host = readHost(r, source.Root.Live, f.info, state.Chain)
		}
		if source.wants(Devices) {
			f.devices = readDevices(r)
		}
	})
	wait.Wait()
	missing := source.wants(Cores) && len(f.sysfs.Cores) == 0 || source.wants(Caches) && len(f.sysfs.Caches) == 0
	if source.Root.Live && onX86 && (source.wants(Kinds|Identity) || missing) {
		// By itself: a thread that is pinned to a busy CPU waits.
		f.cpuid = readCPUID(ctx, source, *f.affinity, &lists[3])
	}
	if err := ctx.Err(); err != nil {
		return err
	}

	if err := f.rescue(reader(2), source); err != nil {
		return err
	}
	m.merge(&f, source, &lists[2])
	for i := range lists {
		found.Append(lists[i].All()...)
	}
	m.judge(&f, &found)
	m.Findings = found.Report()
	return nil
}

// rescue finds the CPUs of a machine whose CPU directory is missing or empty.
func (f *files) rescue(r root.Reader, source Source) error {
	t := &f.sysfs.Topology
	if !t.Online.IsEmpty() {
		return nil
	}
	info, ok := procfs.ReadCPUInfo(r, procfs.Whole)
	f.info, f.hasInfo = info, ok
	var listed []cpuset.CPU
	for _, p := range info.Processors {
		listed = append(listed, p.CPU)
	}
	t.Online = cpuset.Of(listed...)
	from := "/proc/cpuinfo"
	if t.Online.IsEmpty() && source.Root.Live {
		t.Online, from = *f.affinity, "sched_getaffinity(2)"
	}
	if t.Online.IsEmpty() {
		return fmt.Errorf("read machine %s: neither sys/devices/system/cpu nor proc/cpuinfo below it names a CPU; give the folder that holds sys and proc", source.Root.Name)
	}
	r.Found.Add(finding.Missing, finding.Warning, []string{"/sys/devices/system/cpu"},
		"The kernel's CPU files are missing; which CPUs are online comes from %s, and how they share cores and caches is not known.", from)
	f.coresFromInfo()
	return nil
}

// coresFromInfo takes packages and cores from the "physical id" and "core id"
// lines of /proc/cpuinfo, which x86 kernels print.
func (f *files) coresFromInfo() {
	type coreKey struct{ pkg, core int }
	packages := map[int][]cpuset.CPU{}
	cores := map[coreKey][]cpuset.CPU{}
	for _, p := range f.info.Processors {
		if p.Package < 0 || p.Core < 0 {
			return
		}
		packages[p.Package] = append(packages[p.Package], p.CPU)
		k := coreKey{p.Package, p.Core}
		cores[k] = append(cores[k], p.CPU)
	}
	t := &f.sysfs.Topology
	for id, cpus := range packages {
		t.Packages = append(t.Packages, topology.Package{ID: &id, CPUs: cpuset.Of(cpus...)})
	}
	for k, cpus := range cores {
		t.Cores = append(t.Cores, topology.Core{ID: &k.core, CPUs: cpuset.Of(cpus...)})
	}
}

// merge makes one machine of what the sources said.
func (m *Machine) merge(f *files, source Source, found *finding.List) {
	m.Topology = f.sysfs.Topology
	t := &m.Topology
	m.Host, m.CPU = f.host, f.info.Identity
	m.Devices = f.devices
	for i := range m.Devices {
		m.Devices[i].LocalCPUs = m.Devices[i].LocalCPUs.Intersect(t.Online)
	}

	m.Limits = Limits{
		Affinity: f.affinity, CPUSet: f.groups.CPUSet, Mems: f.groups.Mems,
		QuotaCPUs: f.groups.QuotaCPUs, QuotaPeriodMS: f.groups.QuotaPeriodMS,
		MemoryBytes: f.groups.MemoryBytes, Throttled: f.groups.Throttled, Chain: f.groups.Chain,
	}
	t.Allowed = t.Online
	if f.affinity != nil {
		t.Allowed = t.Allowed.Intersect(*f.affinity)
	}
	if f.groups.CPUSet != nil {
		t.Allowed = t.Allowed.Intersect(*f.groups.CPUSet)
	}

	if !computeUnits(&m.CPU) {
		for i := range t.Cores {
			t.Cores[i].IDs = nil
		}
	}
	f.cpuid.compare(t, found)
	f.cpuid.fill(m)
	if source.wants(Kinds) {
		t.CoreKinds = findKinds(f.sysfs, f.cpuid.kinds(t.Online), f.info.Processors, source.Root)
	}
	if source.wants(Identity) {
		fastest := t.Online
		if len(t.CoreKinds) > 0 {
			fastest = t.CoreKinds[0].CPUs
		}
		m.CPU.MaxKHz, m.CPU.BaseKHz = sysfs.Frequencies(source.Root, fastest.First())
	}
	for i := range t.NUMANodes {
		n := &t.NUMANodes[i]
		gpu, ok := f.gpus[n.ID]
		if n.GPU = gpu.PCI; !ok || !n.CPUs.IsEmpty() {
			continue
		}
		if near := gpu.LocalCPUs.Intersect(t.Online); !near.IsEmpty() {
			n.Near = &near
		}
	}
	t.Arrange()
	m.budget()
	m.affinityLink()
}

// computeUnits reports whether siblings with a core_id each can be a compute unit:
// AMD's families 15h and 16h, as hwloc has it. Elsewhere they are a hypervisor's
// or an old kernel's mistake.
func computeUnits(c *topology.Identity) bool {
	return c.Vendor == "AuthenticAMD" && c.Family != nil && (*c.Family == 0x15 || *c.Family == 0x16)
}

// budget fills what the process may use in all.
func (m *Machine) budget() {
	m.Limits.EffectiveCPUs = float64(m.Topology.Allowed.Len())
	if q := m.Limits.QuotaCPUs; q != nil && *q < m.Limits.EffectiveCPUs {
		m.Limits.EffectiveCPUs = *q
	}
}

// affinityLink puts the affinity mask into the chain where it takes CPUs away,
// and marks which set of CPUs decides.
func (m *Machine) affinityLink() {
	l, t := &m.Limits, &m.Topology
	if l.Affinity == nil || t.Online.SubsetOf(*l.Affinity) {
		return
	}
	// The kernel's answer already has the cpuset taken off.
	if l.CPUSet != nil && l.CPUSet.Intersect(t.Online).SubsetOf(*l.Affinity) {
		return
	}
	for i := range l.Chain {
		if l.Chain[i].Resource == "cpuset" {
			l.Chain[i].Binding = false
		}
	}
	l.Chain = append([]cgroup.Link{{Resource: "cpuset", Source: "affinity", Limit: *l.Affinity, Binding: true}}, l.Chain...)
}

// judge reports what follows from the machine as a whole.
func (m *Machine) judge(f *files, found *finding.List) {
	t := &m.Topology
	if t.Allowed.IsEmpty() {
		found.Add(finding.Contradiction, finding.Warning, m.allowedEvidence(),
			"Affinity, cpuset and online CPUs have no CPU in common; a dump may have been taken piecemeal.")
	}
	m.judgeNodes(found)
	m.judgeMemory(found)
	if m.Host.Hypervisor != "" && m.Host.Hypervisor != "pr/sm" && !f.cpuid.dedicated() {
		found.Add(VCPUUnverified, finding.Info, nil,
			"A virtual machine without the promise of dedicated cores: which physical core a CPU runs on can change, so pinning here promises nothing physical.")
	}
	if t.Isolated != nil && t.Isolated.Overlaps(t.Allowed) {
		found.Add("isolated-allowed", finding.Info, []string{"/sys/devices/system/cpu/isolated: " + t.Isolated.String()},
			"Isolated CPUs are among those allowed: the kernel never moves a thread to or from them, so place threads there one by one.")
	}
	if t.SMT != nil && (t.SMT.Control == "off" || t.SMT.Control == "forceoff") {
		found.Add("smt-off", finding.Info, []string{"/sys/devices/system/cpu/smt/control: " + t.SMT.Control},
			"SMT is switched off: each core offers one CPU although it may have more.")
	}
}

// judgeNodes reports NUMA nodes that have CPUs in common.
func (m *Machine) judgeNodes(found *finding.List) {
	var seen cpuset.Set
	for _, n := range m.Topology.NUMANodes {
		if n.CPUs.Overlaps(seen) {
			found.Add(finding.Contradiction, finding.Warning,
				[]string{fmt.Sprintf("/sys/devices/system/node/node%d/cpulist: %s; nodes before it: %s", n.ID, n.CPUs, seen)},
				"NUMA nodes have CPUs in common, as a kernel has them only if it was started with numa=fake.")
		}
		seen = seen.Union(n.CPUs)
	}
}

// judgeMemory compares the nodes' memory with the machine's. The kernel counts
// both from the same pages, so that more than rounding is odd.
func (m *Machine) judgeMemory(found *finding.List) {
	if m.Host.MemoryBytes == nil || len(m.Topology.NUMANodes) == 0 {
		return
	}
	var sum int64
	for _, n := range m.Topology.NUMANodes {
		if n.MemoryBytes == nil {
			return
		}
		sum += *n.MemoryBytes
	}
	if total := *m.Host.MemoryBytes; sum < total-total/20 || sum > total+total/20 {
		found.Add(finding.Contradiction, finding.Warning,
			[]string{fmt.Sprintf("/proc/meminfo: MemTotal %d MiB", total>>20), fmt.Sprintf("/sys/devices/system/node: MemTotal %d MiB in all", sum>>20)},
			"The NUMA nodes do not add up to the machine's memory; plan with the smaller.")
	}
}

func (m *Machine) allowedEvidence() []string {
	evidence := []string{"online: " + m.Topology.Online.String()}
	if m.Limits.Affinity != nil {
		evidence = append(evidence, "affinity: "+m.Limits.Affinity.String())
	}
	if m.Limits.CPUSet != nil {
		evidence = append(evidence, "cpuset: "+m.Limits.CPUSet.String())
	}
	return evidence
}

// neverNil makes the lists that the contract names empty instead of absent.
func (m *Machine) neverNil() {
	t := &m.Topology
	fillEmpty(&t.Packages)
	fillEmpty(&t.Dies)
	fillEmpty(&t.Clusters)
	fillEmpty(&t.Cores)
	fillEmpty(&t.NUMANodes)
	fillEmpty(&t.Caches)
	fillEmpty(&t.CoreKinds)
	fillEmpty(&m.Limits.Chain)
	fillEmpty(&m.Devices)
	fillEmpty(&m.Findings)
}

func fillEmpty[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}
