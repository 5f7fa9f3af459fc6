//go:build linux

package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"berth/probe/finding"
)

// gathered are the nodes of one cell, or of one shape, in the order of their names.
type gathered struct {
	key         cellKey
	nodes       []*record
	least, most int64 // memory that may be used
}

// family is all shapes of one hardware.
type family struct {
	shapes []*gathered
	usual  traits
	memory memories
}

// fleet makes the answer out of what was taken in.
func (g *groups) fleet(declared map[string]Declared) (*Fleet, error) {
	f := &Fleet{Schema: Schema, Nodes: []Node{}, Shapes: []Shape{}, Findings: []finding.Finding{}}
	records := make([]*record, 0, len(g.nodes))
	for _, r := range g.nodes {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b *record) int { return Compare(a.name, b.name) })
	shapes := merge(records)
	slices.SortStableFunc(shapes, func(a, b *gathered) int { return len(b.nodes) - len(a.nodes) }) // else by first name
	families := familiesOf(shapes)

	shapeOf := make(map[*record]*gathered, len(records))
	id := make(map[*gathered]int, len(shapes))
	for i, s := range shapes {
		c := g.cells[s.key]
		m, err := c.machine()
		if err != nil {
			return nil, fmt.Errorf("unpack the machine of %s: %w", c.name, err)
		}
		home := families[s.key.fingerprint]
		out := Shape{ID: i + 1, Fingerprint: s.key.fingerprint, BudgetCPUs: m.Limits.EffectiveCPUs, Usual: home.shapes[0] == s, Inspect: m, From: c.name}
		if s.least > 0 {
			out.MemoryBytes = &s.least
		}
		id[s] = i + 1
		for n, r := range s.nodes {
			shapeOf[r] = s
			out.Nodes = append(out.Nodes, r.name)
			d := home.differences(r, s)
			if n == 0 {
				out.Differences = d
			} else if len(out.Differences) > 0 {
				out.Differences = common(out.Differences, d)
			}
		}
		f.Shapes = append(f.Shapes, out)
	}
	for _, r := range records {
		n := Node{Name: r.name, Notes: r.notes, Inspect: r.machine}
		if r.traits != nil {
			s := shapeOf[r]
			n.Fingerprint, n.Shape = r.traits.fingerprint, id[s]
			n.Differences = families[n.Fingerprint].differences(r, s)
			f.Totals.add(r)
		} else {
			n.Trouble, n.Error = r.trouble.Code, r.trouble.Text
		}
		f.Nodes = append(f.Nodes, n)
	}
	f.Totals.Nodes = len(records)
	var found finding.List
	checkDeclared(&found, records, declared) // warnings
	sameHosts(&found, records)
	f.Findings = append(f.Findings, found.Report()...)
	return f, nil
}

func (t *Totals) add(r *record) {
	t.Answered++
	t.Packages += r.traits.packages
	t.Cores += r.traits.cores
	t.CPUs += r.traits.online
	t.BudgetCPUs += r.budget
	t.MemoryBytes += r.memory.host
}

// merge gathers records by cell, and joins cells whose memories are alike.
func merge(records []*record) []*gathered {
	cells := map[cellKey]*gathered{}
	var order []*gathered
	for _, r := range records {
		if r.traits == nil {
			continue
		}
		k, mem := r.key(), r.memory.usable
		c := cells[k]
		if c == nil {
			c = &gathered{key: k, least: mem, most: mem}
			cells[k] = c
			order = append(order, c)
		}
		c.nodes = append(c.nodes, r)
		c.least, c.most = min(c.least, mem), max(c.most, mem)
	}
	slices.SortStableFunc(order, func(a, b *gathered) int { return a.key.band - b.key.band })
	last := map[cellKey]*gathered{} // the shape that a cell of more memory may join
	var shapes []*gathered
	for _, c := range order {
		k := c.key
		k.band = 0
		s := last[k]
		if s == nil || !alikeMemory(s.most, c.least) {
			last[k] = c
			shapes = append(shapes, c)
			continue
		}
		s.nodes = append(s.nodes, c.nodes...)
		s.most = c.most
	}
	for _, s := range shapes {
		slices.SortFunc(s.nodes, func(a, b *record) int { return Compare(a.name, b.name) })
	}
	slices.SortFunc(shapes, func(a, b *gathered) int { return Compare(a.nodes[0].name, b.nodes[0].name) })
	return shapes
}

// familiesOf gathers shapes by hardware, that which most nodes have first.
func familiesOf(shapes []*gathered) map[string]*family {
	out := map[string]*family{}
	for _, s := range shapes {
		home := out[s.key.fingerprint]
		if home == nil {
			home = &family{}
			out[s.key.fingerprint] = home
		}
		home.shapes = append(home.shapes, s)
	}
	for _, home := range out {
		slices.SortStableFunc(home.shapes, func(a, b *gathered) int {
			return cmp.Or(len(b.nodes)-len(a.nodes), cmp.Compare(b.nodes[0].budget, a.nodes[0].budget), cmp.Compare(b.least, a.least))
		})
		home.settle()
	}
	return out
}

// settle finds what is usual: of what makes a shape that of the first one, of
// all else what most nodes have, and of two equally common values the higher.
func (home *family) settle() {
	first := home.shapes[0].nodes
	home.usual = *first[0].traits
	hosts := make([]int64, len(first))
	for i, r := range first {
		if hosts[i] = r.memory.host; r.memory.host == r.memory.usable {
			hosts[i] = home.shapes[0].least
		}
	}
	slices.Sort(hosts)
	home.memory.host = hosts[len(hosts)/2]
	for _, field := range []func(*traits) *string{
		func(x *traits) *string { return &x.kernel }, func(x *traits) *string { return &x.microcode },
		func(x *traits) *string { return &x.hypervisor }, func(x *traits) *string { return &x.container },
		func(x *traits) *string { return &x.devices }, func(x *traits) *string { return &x.limits },
	} {
		count := map[string]int{}
		for _, s := range home.shapes {
			for _, r := range s.nodes {
				count[*field(r.traits)]++
			}
		}
		best := ""
		for value, n := range count {
			if n > count[best] || n == count[best] && Compare(value, best) > 0 {
				best = value
			}
		}
		*field(&home.usual) = best
	}
}

// differences are those of a node of a shape from what is usual. Its memory
// counts as the least of the shape, so that nodes which lack the same say so in
// the same words.
func (home *family) differences(r *record, s *gathered) []Difference {
	mem := r.memory
	if mem.host == mem.usable {
		mem.host = s.least
	}
	if *r.traits == home.usual && alikeMemory(mem.host, home.memory.host) {
		return nil
	}
	return differences(r.traits, &home.usual, mem, home.memory)
}

// common are those differences of which the others have the same.
func common(some, others []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(some), func(d Difference) bool {
		return !slices.ContainsFunc(others, func(o Difference) bool { return o.Code == d.Code && o.Has == d.Has })
	})
}

// sameHosts tells of machines that are counted more than once.
func sameHosts(found *finding.List, records []*record) {
	names := map[string][]string{}
	var hosts []string
	for _, r := range records {
		if r.traits == nil || r.hostname == "" {
			continue
		}
		if names[r.hostname] = append(names[r.hostname], r.name); len(names[r.hostname]) == 2 {
			hosts = append(hosts, r.hostname)
		}
	}
	slices.SortFunc(hosts, Compare)
	for _, host := range hosts {
		found.Add("same-host", finding.Info, []string{fmt.Sprintf("%s: %s", shown(host), Fold(names[host]))},
			"Several nodes give the same host name; if they are one machine, it is counted more than once.")
	}
}
