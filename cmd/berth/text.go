package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

type textOptions struct {
	title         string // for the processor
	live          bool   // the machine is the reader's own
	full, logical bool
	screen        screen
}

// textView prints a machine for a person: the answer first, then what explains
// it. Sections with nothing to say are not there.
func textView(w *bufio.Writer, m *probe.Machine, o textOptions) error {
	p := &page{w: w, screen: o.screen}
	for _, line := range wrap(headline(m, o.title), " · ", o.screen.width) {
		p.line(p.paint(bold, line))
	}
	for _, line := range wrap(mayUse(m, o), " ", o.screen.width) {
		if line != "" {
			p.line(p.paint(bold, line))
		}
	}
	if s := surroundings(m); s != "" {
		p.wrapped(s, " · ", "")
	}

	t := newTree(&m.Topology)
	if len(t.tops) > 0 {
		p.gap()
		view := treeView{screen: o.screen, machine: m, full: o.full, logical: o.logical}
		view.print(p, t)
	}
	numaSection(p, &m.Topology, t.across, o.full)
	kindSection(p, &m.Topology)
	aside(p, &m.Topology)
	limitSection(p, &m.Limits)
	deviceSection(p, m, o.full)
	findingSection(p, m.Findings, o.full)
	return p.w.Flush()
}

// page is a text being printed; errors of writing wait in the buffer.
type page struct {
	screen
	w   *bufio.Writer
	any bool
}

func (p *page) line(s string) {
	p.any = true
	io.WriteString(p.w, strings.TrimRight(s, " "))
	p.w.WriteByte('\n')
}

func (p *page) gap() {
	if p.any {
		p.w.WriteByte('\n')
	}
}

func (p *page) heading(s string) {
	p.gap()
	p.line(p.paint(bold, s))
}

// wrapped prints text with all lines but the first indented.
func (p *page) wrapped(text, separator, indent string) {
	lines := wrap(text, separator, p.width-runes(indent))
	for i, line := range lines {
		if i > 0 {
			line = indent + line
		}
		p.line(line)
	}
}

// table prints rows in columns, two spaces in; the last column wraps.
func (p *page) table(rows [][]string) {
	var widths []int // of what is in the column; 0 drops it
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runes(cell))
		}
	}
	for _, row := range rows {
		line := "  "
		for i, cell := range row {
			if i < len(row)-1 {
				if widths[i] > 0 {
					line += pad(cell, widths[i]) + "  "
				}
				continue
			}
			indent := runes(line)
			lines := wrap(cell, ", ", max(p.width-indent, 20))
			p.line(line + lines[0])
			for _, more := range lines[1:] {
				p.line(strings.Repeat(" ", indent) + more)
			}
		}
	}
}

func headline(m *probe.Machine, title string) string {
	t := &m.Topology
	title = strings.Join(strings.Fields(strings.NewReplacer("(R)", "", "(TM)", "", "(tm)", "", "(r)", "").Replace(title)), " ")
	parts := []string{title}

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

// numaSection prints each node's memory and distances. The CPUs of a node are
// in the tree, but for nodes that lie across its objects.
func numaSection(p *page, t *topology.Topology, across map[int]bool, full bool) {
	nodes := t.NUMANodes
	if len(nodes) < 2 {
		return
	}
	known := slices.ContainsFunc(nodes, func(n topology.NUMA) bool {
		return n.MemoryBytes != nil || len(n.Distances) > 0 || n.CPUs.IsEmpty() || across[n.ID]
	})
	if !known {
		return
	}
	// A matrix where it fits, else nodes that see the others alike in one row.
	matrix := full || len(nodes) <= 8 && 40+5*len(nodes) <= p.width
	if !matrix {
		p.heading("NUMA nodes")
		p.table(nodeGroups(nodes, across))
		return
	}
	p.heading("NUMA")
	var rows [][]string
	wide := slices.ContainsFunc(nodes, func(n topology.NUMA) bool { return len(n.Distances) == len(nodes) })
	if wide {
		var ids []string
		for _, n := range nodes {
			ids = append(ids, fmt.Sprintf("%4d", n.ID))
		}
		rows = append(rows, []string{"", "memory", "distance to" + strings.Join(ids, "")})
	}
	for _, n := range nodes {
		var line strings.Builder
		if wide {
			line.WriteString(pad("", len("distance to")))
		}
		for i, d := range n.Distances {
			fmt.Fprintf(&line, "%*d", max(4, len(strconv.Itoa(nodes[min(i, len(nodes)-1)].ID))), d)
		}
		cells := line.String()
		if extra := nodeExtra(n, across); extra != "" {
			cells += "  " + extra
		}
		rows = append(rows, []string{fmt.Sprintf("node %d", n.ID), nodeMemory(n), cells})
	}
	p.table(rows)
}

func nodeExtra(n topology.NUMA, across map[int]bool) string {
	switch {
	case n.CPUs.IsEmpty():
		return "no CPUs"
	case across[n.ID]:
		return cpuWord(n.CPUs)
	}
	return ""
}

func nodeMemory(n topology.NUMA) string {
	if n.MemoryBytes == nil {
		return "memory unknown"
	}
	return memorySize(*n.MemoryBytes)
}

// nodeGroups sums up nodes that have CPUs or none alike and see the same
// distances.
func nodeGroups(nodes []topology.NUMA, across map[int]bool) [][]string {
	type group struct {
		ids            []int
		least, most    int64
		distance, more string
	}
	var groups []*group
	for _, n := range nodes {
		g := &group{distance: distances(n.Distances), more: nodeExtra(n, across)}
		i := slices.IndexFunc(groups, func(o *group) bool { return o.distance == g.distance && o.more == g.more })
		if i < 0 {
			groups = append(groups, g)
		} else {
			g = groups[i]
		}
		if n.MemoryBytes != nil {
			if g.ids == nil || *n.MemoryBytes < g.least {
				g.least = *n.MemoryBytes
			}
			g.most = max(g.most, *n.MemoryBytes)
		}
		g.ids = append(g.ids, n.ID)
	}
	var rows [][]string
	for _, g := range groups {
		memory := "memory unknown"
		if g.most > 0 {
			memory = memorySize(g.most)
			if least := memorySize(g.least); least != memory {
				memory = least + " to " + memory
			}
			if len(g.ids) > 1 {
				memory += " each"
			}
		}
		name := "node "
		if len(g.ids) > 1 {
			name = "nodes "
		}
		rows = append(rows, []string{name + numbers(g.ids), memory, strings.TrimSpace(g.distance + "  " + g.more)})
	}
	return rows
}

// distances counts equal distances: "distance 10, 22 × 3, 28 × 60".
func distances(list []int) string {
	if len(list) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(list))
	var parts []string
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j] == sorted[i] {
			j++
		}
		part := strconv.Itoa(sorted[i])
		if j-i > 1 {
			part += fmt.Sprintf(" × %d", j-i)
		}
		parts = append(parts, part)
		i = j
	}
	return "distance " + strings.Join(parts, ", ")
}

// kindSection says how kinds of cores differ, and who says so.
func kindSection(p *page, t *topology.Topology) {
	if len(t.CoreKinds) < 2 {
		return
	}
	source := t.CoreKinds[0].Source
	same := !slices.ContainsFunc(t.CoreKinds, func(k topology.Kind) bool { return k.Source != source })
	if same {
		p.heading("Core kinds, by " + source)
	} else {
		p.heading("Core kinds")
	}
	var rows [][]string
	for _, k := range t.CoreKinds {
		n := count(k.CPUs.Len(), "CPU")
		if k.Threads > 1 {
			n += fmt.Sprintf(", %d per core", k.Threads)
		}
		var facts []string
		if k.Model != "" && k.Model != k.Name {
			facts = append(facts, k.Model)
		}
		if k.MaxKHz != nil {
			facts = append(facts, "up to "+gigahertz(*k.MaxKHz))
		}
		if k.Capacity != nil {
			facts = append(facts, "capacity "+strconv.Itoa(*k.Capacity))
		}
		if !same {
			facts = append(facts, "by "+k.Source)
		}
		rows = append(rows, []string{k.Name, n, cpuList(k.CPUs), strings.Join(facts, ", ")})
	}
	p.table(rows)
}

// aside lists the CPUs that are not like the others.
func aside(p *page, t *topology.Topology) {
	var rows [][]string
	if !t.Offline.IsEmpty() {
		rows = append(rows, []string{"offline", cpuList(t.Offline)})
	}
	if len(t.Cores) > 0 {
		placed := make([]cpuset.Set, len(t.Cores))
		for i, c := range t.Cores {
			placed[i] = c.CPUs
		}
		if lost := t.Online.Minus(cpuset.UnionAll(placed...)); !lost.IsEmpty() {
			rows = append(rows, []string{"coreless", cpuList(lost) + " (no source says which core has them)"})
		}
	}
	if t.Isolated != nil && !t.Isolated.IsEmpty() {
		rows = append(rows, []string{"isolated", cpuList(*t.Isolated)})
	}
	if t.NohzFull != nil && !t.NohzFull.IsEmpty() {
		rows = append(rows, []string{"tickless", cpuList(*t.NohzFull) + " (nohz_full)"})
	}
	if len(rows) > 0 {
		p.heading("CPUs apart")
		p.table(rows)
	}
}

// limitSection prints the chain, from the process outwards.
func limitSection(p *page, l *probe.Limits) {
	if len(l.Chain) == 0 {
		return
	}
	p.heading("Limits, the nearest to the process first")
	var rows [][]string
	for _, link := range l.Chain {
		name, value := limitText(link)
		from := sourceName(link)
		if link.Path != "" {
			from += " of " + link.Path
		}
		if link.Binding {
			from += "  ← decides"
		}
		rows = append(rows, []string{name, shorten(value, ",", max(24, p.width/3)), from})
	}
	if l.QuotaPeriodMS != nil {
		text := "quota periods of " + decimal(*l.QuotaPeriodMS, 3) + " ms"
		if t := l.Throttled; t != nil && t.Periods > 0 {
			text += fmt.Sprintf("; throttled in %d of them, %s s in all", t.Periods, decimal(t.MS/1000, 1))
		}
		p.table(rows)
		p.line("  " + text)
		return
	}
	p.table(rows)
}

func limitText(l cgroup.Link) (name, value string) {
	name = l.Resource
	switch limit := l.Limit.(type) {
	case float64:
		return "time", cpuTime(limit) + " CPUs"
	case cpuset.Set:
		return "CPUs", cpuList(limit)
	case int64:
		if l.Resource == "memory_bytes" {
			return "memory", memorySize(limit)
		}
	}
	return name, fmt.Sprint(l.Limit)
}

// deviceSection prints devices by where they are.
func deviceSection(p *page, m *probe.Machine, full bool) {
	if len(m.Devices) == 0 {
		return
	}
	p.heading("Devices")
	type place struct{ kind, near string }
	names := map[place][]string{}
	var places []place
	for _, d := range m.Devices {
		at := place{d.Kind, near(&m.Topology, d)}
		name := d.Name
		if full && d.PCI != "" && d.PCI != d.Name {
			name += " (" + d.PCI + ")"
		}
		if names[at] == nil {
			places = append(places, at)
		}
		names[at] = append(names[at], name)
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.kind, b.kind) })
	var rows [][]string
	for _, at := range places {
		rows = append(rows, []string{at.kind, at.near, strings.Join(names[at], ", ")})
	}
	p.table(rows)
}

func near(t *topology.Topology, d probe.Device) string {
	switch {
	case d.NUMANode != nil && len(t.NUMANodes) > 1:
		return fmt.Sprintf("node %d", *d.NUMANode)
	case !d.LocalCPUs.IsEmpty() && !t.Online.SubsetOf(d.LocalCPUs):
		return cpuWord(d.LocalCPUs)
	case len(t.NUMANodes) > 1:
		return "node unknown"
	}
	return ""
}

// findingSection prints what the reader should know, the grave first.
func findingSection(p *page, found []finding.Finding, full bool) {
	if len(found) == 0 {
		return
	}
	p.gap()
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b finding.Finding) int {
		return cmp.Compare(gravity(a.Severity), gravity(b.Severity))
	})
	for _, f := range found {
		mark, colour := "·", ""
		if f.Severity == finding.Warning {
			mark, colour = "!", yellow
		}
		head := mark + " " + f.Code
		lines := wrap(head+"  "+f.Message, " ", p.width-2)
		lines[0] = p.paint(colour, head) + strings.TrimPrefix(lines[0], head)
		p.line(lines[0])
		for _, l := range lines[1:] {
			p.line("  " + l)
		}
		for i, e := range f.Evidence {
			if most := 3; !full && i == most && len(f.Evidence) > most+1 {
				p.line(p.paint(dim, fmt.Sprintf("    and %d more: --full", len(f.Evidence)-most)))
				break
			}
			if full {
				p.wrapped("    "+e, " ", "      ")
			} else {
				p.line(p.paint(dim, "    "+cut(e, p.width-4)))
			}
		}
	}
}

func gravity(s finding.Severity) int {
	if s == finding.Warning {
		return 0
	}
	return 1
}

// cut ends a line that is too long with "…".
func cut(s string, width int) string {
	if runes(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}
