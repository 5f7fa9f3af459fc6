package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"berth/probe/cpuid"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/topology"
)

// cpuidSource is how facts name CPUID as their source.
const cpuidSource = "cpuid"

// fromCPUID is what CPUID says of the live machine; the zero value says
// nothing.
type fromCPUID struct {
	dump     *cpuid.Dump
	topology topology.Topology
}

// readCPUID asks each CPU that the process may run on, except those that are
// kept free of disturbance.
func readCPUID(ctx context.Context, source Source, affinity cpuset.Set, found *finding.List) fromCPUID {
	visit := affinity
	if !source.EveryCPUID {
		r := root.Reader{Dir: source.Root.Dir, Found: found}
		for _, name := range [...]string{"isolated", "nohz_full"} {
			if quiet, ok := r.CPUs("/sys/devices/system/cpu/" + name); ok {
				visit = visit.Minus(quiet)
			}
		}
	}
	dump, odd, err := cpuid.Live(ctx, visit, cpuid.Needed)
	found.Append(odd...)
	if err != nil {
		found.Add(finding.Unreadable, finding.Warning, []string{err.Error()},
			"CPUID could not be read on every CPU; the kernel's files alone are used.")
		return fromCPUID{}
	}
	t, odd := dump.Topology()
	found.Append(odd...)
	return fromCPUID{dump, t}
}

// kinds is what CPUID says of core kinds, if it was read on every online CPU.
func (f *fromCPUID) kinds(online cpuset.Set) []topology.Kind {
	if f.dump == nil || !f.topology.Online.Equal(online) {
		return nil
	}
	return f.topology.CoreKinds
}

// dedicated reports whether the hypervisor promises that each vCPU has a
// physical CPU of its own.
func (f *fromCPUID) dedicated() bool {
	return f.dump != nil && f.dump.Hypervisor().Dedicated
}

// fill puts CPUID's answer where the files gave none. Objects are taken over
// only if CPUID was read on every online CPU.
func (f *fromCPUID) fill(m *Machine) {
	if f.dump == nil {
		return
	}
	id, files := f.dump.Identity(), &m.CPU
	if files.Vendor == "" {
		files.Vendor, files.Family, files.Model, files.Stepping = id.Vendor, id.Family, id.Model, id.Stepping
	}
	if files.Brand == "" {
		files.Brand = id.Brand
	}
	if files.Features == nil {
		files.Features, files.Level = cpuid.LiveFeatures()
	}
	if name := hypervisorName(f.dump.Hypervisor()); name != "" {
		m.Host.Hypervisor = name
	}
	t, c := &m.Topology, &f.topology
	if !c.Online.Equal(t.Online) {
		return
	}
	if len(t.Packages) == 0 {
		t.Packages = c.Packages
	}
	if len(t.Cores) == 0 {
		t.Cores = c.Cores
	}
	if len(t.Caches) == 0 {
		t.Caches = c.Caches
	}
}

// hypervisorName turns a CPUID signature into the usual short name.
func hypervisorName(h cpuid.Hypervisor) string {
	if !h.Present {
		return ""
	}
	for _, known := range [...]struct{ signature, name string }{
		{"KVMKVMKVM", "kvm"}, {"TCGTCGTCGTCG", "qemu"}, {"VMwareVMware", "vmware"}, {"Microsoft Hv", "hyper-v"},
		{"XenVMMXenVMM", "xen"}, {"VBoxVBoxVBox", "virtualbox"}, {"bhyve bhyve ", "bhyve"}, {"ACRNACRNACRN", "acrn"},
		{" lrpepyh  vr", "parallels"}, {"prl hyperv  ", "parallels"}, {"QNXQVMBSQG", "qnx"}, {"Jailhouse", "jailhouse"},
	} {
		if strings.HasPrefix(h.Vendor, strings.TrimSpace(known.signature)) || h.Vendor == known.signature {
			return known.name
		}
	}
	if name := strings.TrimSpace(h.Vendor); name != "" {
		return name
	}
	return "unknown"
}

// compare reports where CPUID and the kernel's files describe the same CPUs
// differently.
func (f *fromCPUID) compare(t *topology.Topology, found *finding.List) {
	if f.dump == nil {
		return
	}
	c, visited := &f.topology, f.topology.Online
	differ(found, visited, "packages", t.Packages, c.Packages, func(p topology.Package) (string, cpuset.Set) { return "", p.CPUs })
	differ(found, visited, "cores", t.Cores, c.Cores, func(c topology.Core) (string, cpuset.Set) { return "", c.CPUs })
	differ(found, visited, "caches", t.Caches, c.Caches, func(c topology.Cache) (string, cpuset.Set) {
		size := "size unknown"
		if c.Size != nil {
			size = fmt.Sprintf("%d KiB", *c.Size>>10)
		}
		return fmt.Sprintf("L%d %s %s of ", c.Level, c.Type, size), c.CPUs
	})
}

// differ compares two descriptions of one sort of object on the visited CPUs.
// A source that has no such objects says nothing.
func differ[T any](found *finding.List, visited cpuset.Set, what string, files, asked []T, describe func(T) (string, cpuset.Set)) {
	if len(files) == 0 || len(asked) == 0 {
		return
	}
	list := func(objects []T) []string {
		var out []string
		for _, o := range objects {
			label, cpus := describe(o)
			if cpus = cpus.Intersect(visited); !cpus.IsEmpty() {
				out = append(out, label+cpus.String())
			}
		}
		slices.Sort(out)
		return out
	}
	a, b := list(files), list(asked)
	if slices.Equal(a, b) {
		return
	}
	found.Add(finding.Contradiction, finding.Warning,
		[]string{"sysfs: " + only(a, b), "cpuid: " + only(b, a)},
		"CPUID and the kernel's files describe the %s differently; the files are believed.", what)
}

// only is the entries of a that b lacks, shortened to a readable few.
func only(a, b []string) string {
	const most = 4
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	if n := len(out); n > most {
		out = append(out[:most], fmt.Sprintf("and %d more", n-most))
	}
	if len(out) == 0 {
		return "nothing more"
	}
	return strings.Join(out, " | ")
}

// fromDump makes a machine of a CPUID dump.
func (m *Machine) fromDump(source Source) {
	found := finding.List{}
	found.Append(source.odd...)
	t, odd := source.dump.Topology()
	found.Append(odd...)
	m.Topology = t
	m.Topology.Allowed = t.Online
	m.Topology.Arrange()
	m.CPU = source.dump.Identity()
	m.Host = Host{OS: "linux", Arch: "x86_64", Hypervisor: hypervisorName(source.dump.Hypervisor())}
	m.budget()
	m.Findings = found.Report()
}
