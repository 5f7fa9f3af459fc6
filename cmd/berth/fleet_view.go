//go:build linux

package main

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"berth/affinity/fleet"
	"berth/probe/finding"
)

// Rows of a section: together they keep to one screen, however many nodes.
const (
	fleetShapes   = 8
	fleetOdd      = 8
	fleetTroubles = 6
	fleetFindings = 4
)

// fleetView prints a fleet for a person: how much there is, in which shapes,
// what is odd, and who did not answer.
func fleetView(p *page, f *fleet.Fleet, full bool) {
	t := &f.Totals
	head := count(t.Answered, "node")
	if t.Answered < t.Nodes {
		head = fmt.Sprintf("%d of %s", t.Answered, count(t.Nodes, "node"))
	}
	head += " answered"
	if t.Answered > 0 {
		head += fmt.Sprintf(", of %s", count(len(f.Shapes), "shape"))
	}
	answered(p, head)
	if t.Answered > 0 {
		sums := []string{count(t.Packages, "package"), count(t.Cores, "core"), count(t.CPUs, "CPU"), "the time of " + cpuTime(t.BudgetCPUs)}
		if t.MemoryBytes > 0 {
			sums = append(sums, memorySize(t.MemoryBytes))
		}
		p.wrapped(strings.Join(sums, ", ")+" · by "+f.Engine, ", ", "")
	}
	if f.Early != "" {
		p.line(p.paint(yellow, "! "+f.Early))
	}
	v := fleetPage{page: p, full: full}
	v.shapes(f)
	v.odd(f)
	v.silent(f)
	v.findings(f.Findings)
}

type fleetPage struct {
	*page
	full bool
}

// names folds names into a part of a line.
func (v *fleetPage) names(nodes []string, width int) string {
	if v.full {
		return fleet.Fold(nodes)
	}
	return foldedNames(nodes, width)
}

// foldedNames cuts a folded list where it grows too long, also within brackets.
func foldedNames(nodes []string, width int) string {
	text := fleet.Fold(nodes)
	if runes(text) <= width {
		return text
	}
	short := shorten(text, ",", width)
	if strings.Count(short, "[") > strings.Count(short, "]") {
		short = strings.TrimSuffix(short, " …") + ",…]"
	}
	return short
}

// section prints as many rows as fit, and says how many more there are.
func (v *fleetPage) section(heading string, rows [][]string, most int, more func(left [][]string) string) {
	if len(rows) == 0 {
		return
	}
	v.heading(heading)
	left := rows[:0]
	if !v.full && len(rows) > most {
		rows, left = rows[:most-1], rows[most-1:]
	}
	v.table(rows)
	if len(left) > 0 {
		v.line("  … " + more(left))
	}
}

func (v *fleetPage) shapes(f *fleet.Fleet) {
	var rows [][]string
	nodes := 0
	for i := range f.Shapes {
		s := &f.Shapes[i]
		if i >= fleetShapes-1 {
			nodes += len(s.Nodes)
		}
		what := shapeInWords(s)
		if len(s.Differences) > 0 {
			what = differencesInWords(f, s)
		}
		rows = append(rows, []string{fmt.Sprint(s.ID), count(len(s.Nodes), "node"), v.names(s.Nodes, 24), what})
	}
	v.section("Shapes", rows, fleetShapes, func(left [][]string) string {
		return fmt.Sprintf("and %s, of %s", count(len(left), "smaller shape"), count(nodes, "node"))
	})
}

// shapeInWords is a machine in a line.
func shapeInWords(s *fleet.Shape) string {
	m := s.Inspect
	words := headline(m, (&machineFlags{}).title(m))
	if s.BudgetCPUs < float64(m.Topology.Online.Len()) {
		words += " · the time of " + cpuTime(s.BudgetCPUs) + " allowed"
	}
	return words
}

// differencesInWords is a shape by what it has unlike the usual one of its hardware.
func differencesInWords(f *fleet.Fleet, s *fleet.Shape) string {
	var parts []string
	for _, d := range s.Differences {
		parts = append(parts, d.Text)
	}
	words := strings.Join(parts, " · ")
	for _, o := range f.Shapes {
		if o.Usual && o.Fingerprint == s.Fingerprint {
			return fmt.Sprintf("as shape %d, but %s", o.ID, words)
		}
	}
	return words
}

// odd is a row for each difference, with who has it.
func (v *fleetPage) odd(f *fleet.Fleet) {
	nodes := map[string][]string{}
	var order []string
	for i := range f.Nodes {
		n := &f.Nodes[i]
		var all []string
		for _, d := range n.Differences {
			all = append(all, d.Text)
		}
		for _, text := range append(all, n.Notes...) {
			if nodes[text] == nil {
				order = append(order, text)
			}
			nodes[text] = append(nodes[text], n.Name)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return len(nodes[a]) - len(nodes[b]) }) // one of a kind first
	var rows [][]string
	for _, text := range order {
		rows = append(rows, []string{v.names(nodes[text], 32), text})
	}
	v.section("Not as the others of their hardware", rows, fleetOdd, func(left [][]string) string {
		return fmt.Sprintf("and %s; -o json has all, by node", count(len(left), "further difference"))
	})
}

// reason is why nodes gave no answer.
type reason struct {
	code fleet.TroubleCode
	text string
}

// perCode joins reasons of one sort, of which it keeps the first's words.
func perCode(order []reason, nodes map[reason][]string) []reason {
	same := map[fleet.TroubleCode][]reason{}
	var codes []fleet.TroubleCode
	for _, r := range order {
		if same[r.code] == nil {
			codes = append(codes, r.code)
		}
		same[r.code] = append(same[r.code], r)
	}
	var out []reason
	for _, code := range codes {
		all := same[code]
		one := all[0]
		if len(all) > 1 {
			one.text = "of the first: " + one.text
			for _, r := range all {
				nodes[one] = append(nodes[one], nodes[r]...)
			}
		}
		out = append(out, one)
	}
	return out
}

// silent tells why nodes gave no answer.
func (v *fleetPage) silent(f *fleet.Fleet) {
	v.troubles("No answer", func(yield func(string, reason) bool) {
		for i := range f.Nodes {
			if n := &f.Nodes[i]; !yield(n.Name, reason{n.Trouble, n.Error}) {
				return
			}
		}
	})
}

// troubles is a row for each reason, with whom it holds for, of the nodes that
// have one.
func (v *fleetPage) troubles(heading string, all iter.Seq2[string, reason]) {
	nodes := map[reason][]string{}
	var order []reason
	for name, r := range all {
		if r.code == "" {
			continue
		}
		if nodes[r] == nil {
			order = append(order, r)
		}
		nodes[r] = append(nodes[r], name)
	}
	if !v.full && len(order) > fleetTroubles {
		order = perCode(order, nodes)
	}
	slices.SortStableFunc(order, func(a, b reason) int {
		return cmp.Or(len(nodes[b])-len(nodes[a]), strings.Compare(string(a.code), string(b.code)))
	})
	var rows [][]string
	for _, r := range order {
		rows = append(rows, []string{v.names(nodes[r], 32), string(r.code), r.text})
	}
	v.section(heading, rows, fleetTroubles, func(left [][]string) string {
		return fmt.Sprintf("and %s; -o json has all, by node", count(len(left), "further reason"))
	})
}

// findings prints the first few, and their evidence whole: there are lines to
// copy among it.
func (v *fleetPage) findings(found []finding.Finding) {
	for i := range found {
		if !v.full && i == fleetFindings {
			v.gap()
			v.line("… and " + count(len(found)-i, "further finding") + "; -o json has all")
			return
		}
		v.gap()
		findingHead(v.page, &found[i])
		for _, e := range found[i].Evidence {
			v.line("    " + e)
		}
	}
}
