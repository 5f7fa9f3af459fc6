package main

import (
	"fmt"
	"slices"
	"strings"

	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// headline says what the machine is: its processor, and how many of everything.
func headline(m *probe.Machine, title string) string {
	t := &m.Topology
	parts := []string{tidyTitle(title)}

	var counts []string
	if n := len(t.Packages); n > 0 {
		counts = append(counts, count(n, "package"))
	}
	if n := len(t.Cores); n > 0 {
		cores := count(n, "core")
		if len(t.CoreKinds) > 1 {
			var kinds []string
			for _, k := range t.CoreKinds {
				if n := coresOf(t, k); n > 0 { // none: of its CPUs the cores are not known
					kinds = append(kinds, fmt.Sprintf("%d %s", n, k.Name))
				}
			}
			if len(kinds) > 1 {
				cores += " (" + strings.Join(kinds, " + ") + ")"
			}
		}
		counts = append(counts, cores)
	}
	cpus := count(t.Online.Len(), "CPU")
	if n := t.Offline.Len(); n > 0 {
		cpus += fmt.Sprintf(" and %d offline", n)
	}
	parts = append(parts, strings.Join(append(counts, cpus), ", "))

	if level, n := lastLevel(t); n > 1 {
		parts = append(parts, fmt.Sprintf("%d L%d groups", n, level))
	}
	if s := memory(m); s != "" {
		parts = append(parts, s)
	}
	return strings.Join(parts, " · ")
}

// tidyTitle drops what lawyers put into processors' names.
func tidyTitle(title string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("(R)", "", "(TM)", "", "(tm)", "", "(r)", "").Replace(title)), " ")
}

func coresOf(t *topology.Topology, k topology.Kind) int {
	n := 0
	for _, c := range t.Cores {
		if c.Kind == k.Name {
			n++
		}
	}
	return n
}

// lastLevel is the highest level of cache and how many groups of cores share
// one; none where each core has its own.
func lastLevel(t *topology.Topology) (level, n int) {
	shared := false
	for _, c := range t.Caches {
		if c.Type == topology.Instruction || c.Level < level {
			continue
		}
		if c.Level > level {
			level, n, shared = c.Level, 0, false
		}
		n++
		shared = shared || t.SMT == nil || c.CPUs.Len() > t.SMT.Threads
	}
	if !shared {
		return 0, 0
	}
	return level, n
}

func memory(m *probe.Machine) string {
	nodes := m.Topology.NUMANodes
	var total int64
	bare := 0
	for _, n := range nodes {
		if n.MemoryBytes != nil {
			total += *n.MemoryBytes
		}
		if n.CPUs.IsEmpty() {
			bare++
		}
	}
	if m.Host.MemoryBytes != nil {
		total = *m.Host.MemoryBytes
	}
	in := ""
	if len(nodes) > 1 {
		in = count(len(nodes), "node")
		if bare > 0 {
			in += fmt.Sprintf(" (%d without CPUs)", bare)
		}
	}
	switch {
	case total > 0 && in != "":
		return memorySize(total) + " in " + in
	case total > 0:
		return memorySize(total)
	}
	return in
}

// mayUse is the answer: how many CPUs, how much of their time and of the
// memory, and what decides that.
func mayUse(m *probe.Machine, o textOptions) string {
	t, l := &m.Topology, &m.Limits
	if l.Affinity == nil && l.CPUSet == nil && l.QuotaCPUs == nil && l.MemoryBytes == nil {
		return "" // a description or a CPUID dump: there is no process
	}
	who := "You"
	if !o.live {
		who = "The process that was recorded"
	}
	total, n := t.Online.Len(), t.Allowed.Len()
	var use, bound []string
	switch {
	case n == 0:
		return who + " may use no CPU at all."
	case n < total:
		what := fmt.Sprintf("%d of %s", n, count(total, "CPU"))
		if len(t.Cores) > 0 {
			what += " on " + count(allowedCores(t), "core")
		}
		use = append(use, what+" ("+shorten(cpuWord(t.Allowed), ",", max(24, o.screen.width/2))+")")
		bound = append(bound, "cpuset")
	case total == 1:
		use = append(use, "the one CPU")
	case total == 2:
		use = append(use, "both CPUs")
	default:
		use = append(use, "all "+count(total, "CPU"))
	}
	if l.QuotaCPUs != nil && *l.QuotaCPUs < float64(n) {
		use = append(use, "the time of "+cpuTime(*l.QuotaCPUs))
		bound = append(bound, "cpus")
	}
	nodes := 0
	for _, n := range t.NUMANodes {
		if l.Mems == nil || l.Mems.Contains(cpuset.CPU(n.ID)) {
			nodes++
		}
	}
	if nodes > 0 && nodes < len(t.NUMANodes) {
		use = append(use, fmt.Sprintf("the memory of %d of %d nodes", nodes, len(t.NUMANodes)))
		bound = append(bound, "mems")
	}
	if tightMemory(m) {
		use = append(use, memorySize(*l.MemoryBytes)+" of memory")
		bound = append(bound, "memory_bytes")
	}
	answer := who + " may use " + enumerate(use)
	if slices.ContainsFunc(m.Findings, func(f finding.Finding) bool { return f.Code == "limits-hidden-above" }) {
		answer += " at most"
	}
	if by := binders(l.Chain, bound); by != "" {
		return answer + " — bound by " + by
	}
	if len(bound) == 0 {
		answer += "; no limit was found"
	}
	return answer + "."
}

func enumerate(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	last := len(parts) - 1
	return strings.Join(parts[:last], ", ") + " and " + parts[last]
}

func tightMemory(m *probe.Machine) bool {
	limit := m.Limits.MemoryBytes
	return limit != nil && (m.Host.MemoryBytes == nil || *limit < *m.Host.MemoryBytes)
}

// binders names the limits that decide about resources, those of one group
// together: "cpu.max and memory.max of /a".
func binders(chain []cgroup.Link, resources []string) string {
	var paths []string
	files := map[string][]string{}
	for _, resource := range resources {
		for _, l := range chain {
			if l.Resource != resource || !l.Binding {
				continue
			}
			name := sourceName(l)
			if l.Source == "affinity" {
				name = "the affinity mask"
			}
			if files[l.Path] == nil {
				paths = append(paths, l.Path)
			}
			files[l.Path] = append(files[l.Path], name)
		}
	}
	var parts []string
	for _, p := range paths {
		part := enumerate(files[p])
		if p != "" {
			part += " of " + p
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", and ")
}

// sourceName is a limit's file; the old cpuset file system calls it just cpus.
func sourceName(l cgroup.Link) string {
	if l.Resource == "cpuset" && l.Source == "cpus" {
		return "cpuset cpus"
	}
	return l.Source
}

func surroundings(m *probe.Machine) string {
	var parts []string
	system := ""
	if m.Host.Kernel != "" {
		system = "Linux " + m.Host.Kernel
	}
	if m.Host.Arch != "" && system != "" {
		system += " " + m.Host.Arch
	}
	if system != "" {
		parts = append(parts, system)
	}
	switch h := strings.Join(strings.Fields(m.Host.Hypervisor), " "); h {
	case "":
	case "unknown":
		parts = append(parts, "virtual machine")
	case "pr/sm":
		parts = append(parts, "LPAR")
	default:
		parts = append(parts, h+" virtual machine")
	}
	if c := m.Host.Container; c != "" {
		parts = append(parts, c+" container")
	}
	if s := speed(m); s != "" {
		parts = append(parts, s)
	}
	return strings.Join(parts, " · ")
}

// speed is the processor's; where kinds of cores differ, each has its own.
func speed(m *probe.Machine) string {
	if len(m.Topology.CoreKinds) > 1 {
		return ""
	}
	var parts []string
	if f := m.CPU.BaseKHz; f != nil {
		parts = append(parts, gigahertz(*f))
	}
	if f := m.CPU.MaxKHz; f != nil {
		parts = append(parts, "up to "+gigahertz(*f))
	}
	return strings.Join(parts, ", ")
}

func gigahertz(khz int64) string { return decimal(float64(khz)/1e6, 2) + " GHz" }
