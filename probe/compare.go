package probe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"berth/probe/cpuset"
	"berth/probe/difference"
	"berth/probe/topology"
)

// Compare tells what differs between two machines, or one machine at two times:
// the hardware, what the process may use of it, and what was found odd. What
// only one of the documents knows is named and not counted as a difference.
func Compare(a, b *Machine) *difference.Report {
	r := difference.New()
	r.Word("fingerprint", a.Fingerprint, b.Fingerprint)
	compareShape(r, &a.Topology, &b.Topology)
	r.Figure("memory_bytes", "bytes", totalMemory(a), totalMemory(b))
	compareLimits(r, a, b)
	compareSystem(r, a, b)
	r.Members("devices", deviceNames(a), deviceNames(b))
	compareDevices(r, a, b)
	r.Members("findings", findingCodes(a), findingCodes(b))
	return r
}

// Shape names the rows of [Compare] that say what the hardware is made of, and
// how much of it is switched on.
func Shape() []string {
	return []string{"packages", "dies", "clusters", "cores", "cpus", "threads_per_core", "core_kinds",
		"llc_groups", "llc_bytes", "llc_largest_bytes", "cpus_per_llc", "numa_nodes", "core_cpus", "llc_cpus", "node_cpus"}
}

func compareShape(r *difference.Report, a, b *topology.Topology) {
	part := func(name string, n, m int) { // none: not known
		r.Figure(name, "", some(float64(n)), some(float64(m)))
	}
	part("packages", len(a.Packages), len(b.Packages))
	part("dies", len(a.Dies), len(b.Dies))
	part("clusters", len(a.Clusters), len(b.Clusters))
	part("cores", len(a.Cores), len(b.Cores))
	part("cpus", a.Online.Len(), b.Online.Len())
	part("threads_per_core", threads(a), threads(b))
	r.Name("core_kinds", kinds(a), kinds(b))

	last, next := a.LastLevel(), b.LastLevel()
	part("llc_groups", len(last), len(next))
	inAll, largest, most := measure(last)
	inAllToo, largestToo, mostToo := measure(next)
	r.Figure("llc_bytes", "bytes", inAll, inAllToo)
	r.Figure("llc_largest_bytes", "bytes", largest, largestToo)
	part("cpus_per_llc", most, mostToo)
	part("numa_nodes", len(a.NUMANodes), len(b.NUMANodes))

	numbering(r, "core_cpus", a.Cores, b.Cores, func(c topology.Core) cpuset.Set { return c.CPUs })
	numbering(r, "llc_cpus", last, next, func(c topology.Cache) cpuset.Set { return c.CPUs })
	numbering(r, "node_cpus", a.NUMANodes, b.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs })
}

// numbering compares which CPUs objects have, where there are as many of them:
// else that follows from their number. The row shows the first that differs.
func numbering[T any](r *difference.Report, name string, a, b []T, cpus func(T) cpuset.Set) {
	if len(a) != len(b) || len(a) == 0 {
		return
	}
	for i := range a {
		if x, y := cpus(a[i]), cpus(b[i]); !x.Equal(y) {
			r.CPUs(name, &x, &y)
			return
		}
	}
	r.Same = append(r.Same, name)
}

func some(x float64) *float64 {
	if x == 0 {
		return nil
	}
	return &x
}

func threads(t *topology.Topology) int {
	if t.SMT == nil {
		return 0
	}
	return t.SMT.Threads
}

// kinds says how many cores there are of each kind; empty where all are alike.
func kinds(t *topology.Topology) string {
	text := ""
	for _, k := range t.CoreKinds {
		n := 0
		for _, c := range t.Cores {
			if c.Kind == k.Name {
				n++
			}
		}
		if text != "" {
			text += " + "
		}
		text += fmt.Sprintf("%d %s", n, k.Name)
	}
	return text
}

// measure adds up caches, and tells the size of the largest and the most CPUs
// behind one.
func measure(caches []topology.Cache) (inAll, largest *float64, cpus int) {
	sum, top := 0.0, 0.0
	for _, c := range caches {
		cpus = max(cpus, c.CPUs.Len())
		if c.Size == nil {
			return nil, nil, cpus
		}
		sum += float64(*c.Size)
		top = max(top, float64(*c.Size))
	}
	return some(sum), some(top), cpus
}

// totalMemory is the machine's, or that of its nodes; nil is unknown.
func totalMemory(m *Machine) *float64 {
	if n := m.Host.MemoryBytes; n != nil {
		return some(float64(*n))
	}
	sum := 0.0
	for _, n := range m.Topology.NUMANodes {
		if n.MemoryBytes == nil {
			return nil
		}
		sum += float64(*n.MemoryBytes)
	}
	return some(sum)
}

func compareLimits(r *difference.Report, a, b *Machine) {
	t, u := &a.Topology, &b.Topology
	x, y := &a.Limits, &b.Limits
	r.Figure("budget_cpus", "cpus", some(x.EffectiveCPUs), some(y.EffectiveCPUs))
	r.Name("budget_by", budgetBy(a), budgetBy(b))
	r.Limit("quota_cpus", "cpus", x.QuotaCPUs, y.QuotaCPUs)
	if x.QuotaCPUs != nil && y.QuotaCPUs != nil {
		r.Figure("quota_period_ms", "ms", x.QuotaPeriodMS, y.QuotaPeriodMS)
	}
	r.Limit("memory_limit_bytes", "bytes", wide(x.MemoryBytes), wide(y.MemoryBytes))
	for _, s := range [...]struct {
		name string
		a, b *cpuset.Set
	}{{"allowed", &t.Allowed, &u.Allowed}, {"online", &t.Online, &u.Online}, {"offline", &t.Offline, &u.Offline},
		{"isolated", t.Isolated, u.Isolated}, {"nohz_full", t.NohzFull, u.NohzFull}} {
		r.CPUs(s.name, s.a, s.b)
	}
}

func wide(n *int64) *float64 {
	if n == nil {
		return nil
	}
	x := float64(*n)
	return &x
}

// budgetBy names the limit that the budget comes from; empty where that is the
// CPUs that are online.
func budgetBy(m *Machine) string {
	resource := ""
	switch q := m.Limits.QuotaCPUs; {
	case q != nil && *q < float64(m.Topology.Allowed.Len()):
		resource = "cpus"
	case m.Topology.Allowed.Len() < m.Topology.Online.Len():
		resource = "cpuset"
	default:
		return ""
	}
	for _, link := range m.Limits.Chain {
		if link.Resource == resource && link.Binding {
			if link.Path == "" {
				return link.Source
			}
			return link.Source + " of " + link.Path
		}
	}
	return map[string]string{"cpus": "a quota", "cpuset": "the CPUs allowed"}[resource]
}

func compareSystem(r *difference.Report, a, b *Machine) {
	r.Word("processor", processor(a), processor(b))
	r.Word("microcode", a.CPU.Microcode, b.CPU.Microcode)
	r.Word("kernel", a.Host.Kernel, b.Host.Kernel)
	r.Word("arch", a.Host.Arch, b.Host.Arch)
	if a.Host.Kernel != "" && b.Host.Kernel != "" { // a description has neither, and no word of it
		r.Name("hypervisor", a.Host.Hypervisor, b.Host.Hypervisor)
		r.Name("container", a.Host.Container, b.Host.Container)
	}
	r.Word("smt_control", control(a), control(b))
	r.Figure("max_khz", "khz", wide(a.CPU.MaxKHz), wide(b.CPU.MaxKHz))
	if len(a.CPU.Features) > 0 && len(b.CPU.Features) > 0 {
		r.Members("features", a.CPU.Features, b.CPU.Features)
	}
}

func control(m *Machine) string {
	if m.Topology.SMT == nil {
		return ""
	}
	return m.Topology.SMT.Control
}

func processor(m *Machine) string {
	if m.CPU.Brand != "" || m.CPU.Family == nil || m.CPU.Model == nil {
		return cmp.Or(m.CPU.Brand, m.CPU.Vendor)
	}
	return fmt.Sprintf("%s family %d model %d", m.CPU.Vendor, *m.CPU.Family, *m.CPU.Model)
}

func deviceNames(m *Machine) []string {
	var out []string
	for _, d := range m.Devices {
		out = append(out, d.Kind+":"+d.Name)
	}
	return out
}

// compareDevices tells of devices that both have next to different nodes.
func compareDevices(r *difference.Report, a, b *Machine) {
	at := map[string]*int{}
	for i := range a.Devices {
		at[a.Devices[i].Kind+":"+a.Devices[i].Name] = a.Devices[i].NUMANode
	}
	var moved []string
	for _, d := range b.Devices {
		name := d.Kind + ":" + d.Name
		if was := at[name]; was != nil && d.NUMANode != nil && *was != *d.NUMANode {
			moved = append(moved, fmt.Sprintf("%s from node %d to %d", name, *was, *d.NUMANode))
		}
	}
	if moved == nil {
		return
	}
	if row := r.Find("devices"); row != nil {
		row.Moved = moved
		return
	}
	r.Same = slices.DeleteFunc(r.Same, func(name string) bool { return name == "devices" })
	r.Rows = append(r.Rows, difference.Row{Name: "devices", A: len(a.Devices), B: len(b.Devices), Moved: moved, Verdict: difference.Changed})
}

func findingCodes(m *Machine) []string {
	var out []string
	for _, f := range m.Findings {
		out = append(out, f.Code)
	}
	return out
}

// CompareCalibrations tells what two calibrations say differently. They keep
// medians alone, so that nothing tells a change from chance; the experiments
// themselves have intervals.
func CompareCalibrations(a, b *Calibration) *difference.Report {
	r := difference.New()
	r.Word("fingerprint", a.Fingerprint, b.Fingerprint)
	table := func(name, unit string, a, b map[string]float64) {
		keys := maps.Clone(a)
		if keys == nil {
			keys = map[string]float64{}
		}
		maps.Copy(keys, b)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			r.Once(name+"["+key+"]", unit, of(a, key), of(b, key))
		}
	}
	table("smt_yield", "", a.SMTYield, b.SMTYield)
	table("memory_bandwidth_gbs", "GB/s", a.MemoryBandwidthGBS, b.MemoryBandwidthGBS)
	r.Once("switch_us", "us", a.SwitchUS, b.SwitchUS)
	table("core_to_core_ns", "ns", pairs(a.CoreToCoreNS), pairs(b.CoreToCoreNS))
	return r
}

func of(values map[string]float64, key string) *float64 {
	if x, ok := values[key]; ok {
		return &x
	}
	return nil
}

// pairs names the cells of a matrix as 0-3, from row to column.
func pairs(matrix [][]*float64) map[string]float64 {
	out := map[string]float64{}
	for i, row := range matrix {
		for j, x := range row {
			if x != nil {
				out[strconv.Itoa(i)+"-"+strconv.Itoa(j)] = *x
			}
		}
	}
	return out
}
