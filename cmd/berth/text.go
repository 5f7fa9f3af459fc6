package main

import (
	"bufio"
	"cmp"
	"fmt"
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
	numaSection(p, m, t.across, o.full)
	kindSection(p, &m.Topology)
	aside(p, &m.Topology)
	limitSection(p, &m.Limits)
	deviceSection(p, m, o.full)
	findingSection(p, m.Findings, o.full)
	return p.w.Flush()
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
		findingHead(p, &f)
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

// findingHead prints a finding without its evidence.
func findingHead(p *page, f *finding.Finding) {
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
