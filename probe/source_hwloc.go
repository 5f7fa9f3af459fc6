package probe

import (
	"errors"
	"fmt"
	"io"
	"os"

	"berth/probe/cgroup"
	"berth/probe/finding"
	"berth/probe/hwloc"
	"berth/probe/topology"
)

// maxHwlocXML is the most that is read of an hwloc file. That of a machine with
// 4096 CPUs has 6 MiB; with the number of CPUs it grows by the square.
const maxHwlocXML = 64 << 20

// HwlocXML is a machine as hwloc describes it in an XML file, such as lstopo
// --of xml writes. The file may be a pipe.
func HwlocXML(path string) (Source, error) {
	file, err := os.Open(path)
	if err != nil {
		return Source{}, fmt.Errorf("open hwloc XML: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxHwlocXML+1))
	if err == nil && len(data) > maxHwlocXML {
		err = &os.PathError{Op: "read", Path: path, Err: errors.New("too large for hwloc XML")}
	}
	if err != nil {
		return Source{}, fmt.Errorf("read hwloc XML: %w", err)
	}
	machine, odd, err := hwloc.Read(data)
	if err != nil {
		return Source{}, fmt.Errorf("hwloc XML %s: %w", path, err)
	}
	return Source{hwloc: machine, odd: odd}, nil
}

// fromHwloc makes a machine of hwloc's.
func (m *Machine) fromHwloc(source Source) {
	h := source.hwloc
	var found finding.List
	found.Append(source.odd...)
	m.Topology, m.CPU = h.Topology, h.CPU
	m.Host = Host{Hostname: h.Hostname, OS: h.OS, Kernel: h.Kernel, Arch: h.Arch, MemoryBytes: h.MemoryBytes, ArchGuessed: h.ArchGuessed}
	for _, d := range h.Devices {
		m.Devices = append(m.Devices, Device(d))
	}
	t := &m.Topology
	t.CoreKinds = hwlocKinds(h, source)
	t.Arrange()
	if !t.Allowed.Equal(t.Online) {
		allowed := t.Allowed
		m.Limits.CPUSet = &allowed
		m.Limits.Chain = []cgroup.Link{{Resource: "cpuset", Source: "allowed_cpuset", Path: h.Cgroup, Limit: allowed, Binding: true}}
	}
	m.Limits.Mems = h.AllowedNodes
	m.budget()
	if t.Allowed.IsEmpty() {
		found.Add(finding.Contradiction, finding.Warning, []string{"allowed_cpuset: empty"}, "The file allows no CPU.")
	}
	m.Findings = found.Report()
}

// hwlocKinds makes core kinds of cpukind elements: those that berth wrote as
// they are; else by their core type, else by capacity. The frequency alone
// makes no kind, see [findKinds].
func hwlocKinds(h *hwloc.Machine, source Source) []topology.Kind {
	if len(h.Kinds) < 2 || !source.wants(Kinds) {
		return nil
	}
	named, typed := true, true
	capacity := make([]int, int(h.Topology.Online.Last())+1)
	for _, k := range h.Kinds {
		named = named && k.Name != ""
		typed = typed && k.CoreType != ""
		if k.Capacity != nil {
			for c := range k.CPUs.All() {
				capacity[c] = *k.Capacity
			}
		}
	}
	var kinds []topology.Kind
	switch {
	case named:
		for i := range h.Kinds { // the slowest comes first
			k := h.Kinds[len(h.Kinds)-1-i]
			kinds = append(kinds, topology.Kind{Name: k.Name, CPUs: k.CPUs, Capacity: k.Capacity, MaxKHz: k.MaxKHz, Model: k.Model, Source: k.Source})
		}
		return kinds
	case typed:
		kinds = typedKinds(h)
	default:
		kinds = scaleKinds(h.Topology.Online, capacity, 1.15, "hwloc LinuxCapacity")
		for i := range kinds {
			if c := maxOver(kinds[i].CPUs, capacity); c > 0 {
				kinds[i].Capacity = &c
			}
		}
	}
	if len(kinds) < 2 {
		return nil
	}
	for i := range kinds {
		for _, k := range h.Kinds {
			if k.CPUs.Overlaps(kinds[i].CPUs) && k.MaxKHz != nil && (kinds[i].MaxKHz == nil || *k.MaxKHz > *kinds[i].MaxKHz) {
				kinds[i].MaxKHz = k.MaxKHz
			}
		}
	}
	rank(kinds)
	return kinds
}

// typedKinds unites the kinds of one core type: hwloc parts them by frequency.
func typedKinds(h *hwloc.Machine) []topology.Kind {
	names := map[string]string{"IntelCore": performance, "IntelAtom": efficiency}
	var kinds []topology.Kind
	at := map[string]int{}
	for i := range h.Kinds {
		k := h.Kinds[len(h.Kinds)-1-i]
		j, there := at[k.CoreType]
		if !there {
			j = len(kinds)
			at[k.CoreType] = j
			kinds = append(kinds, topology.Kind{Name: names[k.CoreType], Source: "hwloc CoreType " + k.CoreType})
			if kinds[j].Name == "" {
				kinds[j].Name = k.CoreType
			}
		}
		kinds[j].CPUs = kinds[j].CPUs.Union(k.CPUs)
	}
	return kinds
}

// Hwloc is what an hwloc XML file can hold of the machine, for [hwloc.Write].
// What it allows is what the control groups leave, as in hwloc, which heeds no
// affinity there.
func (m *Machine) Hwloc() *hwloc.Machine {
	h := &hwloc.Machine{
		Topology: m.Topology, CPU: m.CPU,
		Hostname: m.Host.Hostname, OS: m.Host.OS, Kernel: m.Host.Kernel, Arch: m.Host.Arch, MemoryBytes: m.Host.MemoryBytes,
		ArchGuessed: m.Host.ArchGuessed,
	}
	h.Topology.Allowed = m.Topology.Online
	if m.Limits.CPUSet != nil {
		h.Topology.Allowed = h.Topology.Allowed.Intersect(*m.Limits.CPUSet)
	}
	h.AllowedNodes = m.Limits.Mems
	for _, link := range m.Limits.Chain {
		if link.Resource == "cpuset" && link.Binding && link.Source != "affinity" {
			h.Cgroup = link.Path
		}
	}
	for _, d := range m.Devices {
		h.Devices = append(h.Devices, hwloc.Device(d))
	}
	return h
}
