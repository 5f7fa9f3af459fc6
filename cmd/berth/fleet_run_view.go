//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"berth/affinity/fleet"
)

// fleetRunView prints what became of a run, on one screen: the whole, a row for
// each part, and by name the nodes of which there is more to say.
func fleetRunView(p *page, o *fleet.Outcome, full bool) {
	t := &o.Totals
	head := fmt.Sprintf("%s kept all their seats", count(t.Nodes, "node"))
	if t.Nodes == 1 {
		head = "The node kept all its seats"
	}
	if t.Kept < t.Nodes {
		head = fmt.Sprintf("%d of %s kept all their seats", t.Kept, count(t.Nodes, "node"))
	}
	answered(p, head)
	line := fmt.Sprintf("%s seated as planned", count(t.WorkersKept, "worker"))
	if t.WorkersKept < t.Workers {
		line = fmt.Sprintf("%d of %s seated as planned", t.WorkersKept, count(t.Workers, "worker"))
	}
	p.wrapped(fmt.Sprintf("%s, in %s s · by %s", line, decimal(o.WallS, places(o.WallS)), o.Engine), ", ", "")
	if o.Early != "" {
		p.wrapped(p.paint(yellow, "! ")+o.Early, " ", "  ")
	}
	v := fleetPage{page: p, full: full}
	v.ranParts(o)
	v.broken(o)
	v.failed(o)
	v.unreported(o)
	v.noted(o)
}

// ranParts is a row for each shape: who ran there, how long, and the slowest.
func (v *fleetPage) ranParts(o *fleet.Outcome) {
	type part struct {
		names         []string
		kept, workers int
		ready, wall   []float64
		slowest       string
	}
	parts := map[int]*part{}
	var order []int
	for i := range o.Nodes {
		n := &o.Nodes[i]
		at := parts[n.Shape]
		if at == nil {
			at = &part{}
			parts[n.Shape] = at
			order = append(order, n.Shape)
		}
		at.names = append(at.names, n.Name)
		at.workers += len(n.Workers)
		if n.Kept {
			at.kept++
		}
		if n.ReadyS != nil {
			at.ready = append(at.ready, *n.ReadyS)
		}
		if n.WallS != nil {
			if len(at.wall) == 0 || *n.WallS > slices.Max(at.wall) {
				at.slowest = n.Name
			}
			at.wall = append(at.wall, *n.WallS)
		}
	}
	slices.Sort(order)
	rows := [][]string{{"shape", "", "", "workers", "kept", "ready after", "ran", "longest"}}
	for _, shape := range order {
		at := parts[shape]
		slowest := ""
		if len(at.wall) > 1 && slices.Max(at.wall) > slices.Min(at.wall)*1.05+0.1 {
			slowest = at.slowest
		}
		rows = append(rows, []string{fmt.Sprint(shape), count(len(at.names), "node"), v.names(at.names, 24), fmt.Sprint(at.workers),
			fmt.Sprintf("%d of %d", at.kept, len(at.names)), span(at.ready), span(at.wall), slowest})
	}
	head := rows[0]
	for c := 3; c < len(head); c++ {
		if !slices.ContainsFunc(rows[1:], func(r []string) bool { return r[c] != "" }) {
			head[c] = ""
		}
	}
	v.section("Nodes", rows, fleetShapes+1, func(left [][]string) string { return "and " + count(len(left), "further shape") })
}

// span is seconds from the least to the most.
func span(all []float64) string {
	if len(all) == 0 {
		return ""
	}
	low, high := slices.Min(all), slices.Max(all)
	if decimal(low, 1) == decimal(high, 1) {
		return decimal(high, 1) + " s"
	}
	return decimal(low, 1) + " to " + decimal(high, 1) + " s"
}

// broken is a row for each worker that was not seated as planned.
func (v *fleetPage) broken(o *fleet.Outcome) {
	var rows [][]string
	for i := range o.Nodes {
		n := &o.Nodes[i]
		for _, w := range n.Workers {
			if w.Kept || n.Trouble != "" {
				continue
			}
			why := ""
			for _, b := range n.Violations {
				if b.Worker == w.Worker {
					why = b.Code + ": " + b.Message
					break
				}
			}
			rows = append(rows, []string{n.Name, fmt.Sprintf("worker %d", w.Worker), "planned " + orWord(w.Planned, "any"), "sat on " + orWord(w.Set, "?"), why})
		}
	}
	v.section("Seats not kept", rows, fleetOdd, func(left [][]string) string {
		return fmt.Sprintf("and %s; --receipt FILE has all", count(len(left), "further worker"))
	})
}

// failed is a row for each status, with the nodes that ended with it.
func (v *fleetPage) failed(o *fleet.Outcome) {
	nodes := map[int][]string{}
	var order []int
	for i := range o.Nodes {
		n := &o.Nodes[i]
		if n.Status == nil || *n.Status == 0 || n.Trouble != "" {
			continue
		}
		if nodes[*n.Status] == nil {
			order = append(order, *n.Status)
		}
		nodes[*n.Status] = append(nodes[*n.Status], n.Name)
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(nodes[b]) - len(nodes[a]) })
	var rows [][]string
	for _, status := range order {
		row := []string{v.names(nodes[status], 32), fmt.Sprintf("status %d", status)}
		if slices.Contains(nodes[status], o.First) {
			row[1] += ", first " + o.First
		}
		rows = append(rows, row)
	}
	v.section("Programs failed", rows, fleetTroubles, func(left [][]string) string {
		return "and " + count(len(left), "further status")
	})
}

// unreported is a row for each reason why there is no receipt.
func (v *fleetPage) unreported(o *fleet.Outcome) {
	v.troubles("No receipt", func(yield func(string, reason) bool) {
		for i := range o.Nodes {
			if n := &o.Nodes[i]; !yield(n.Name, reason{n.Trouble, n.Error}) {
				return
			}
		}
	})
}

// noted is a row for each difference and each note.
func (v *fleetPage) noted(o *fleet.Outcome) {
	nodes := map[string][]string{}
	var order []string
	for i := range o.Nodes {
		n := &o.Nodes[i]
		for _, text := range slices.Concat(n.Differs, n.Notes) {
			if n.Trouble == fleet.Refused && strings.HasSuffix(n.Error, text) {
				continue // it is said there
			}
			if nodes[text] == nil {
				order = append(order, text)
			}
			nodes[text] = append(nodes[text], n.Name)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(len(nodes[b]), len(nodes[a])) })
	var rows [][]string
	for _, text := range order {
		rows = append(rows, []string{v.names(nodes[text], 32), text})
	}
	v.section("To note", rows, fleetOdd, func(left [][]string) string {
		return fmt.Sprintf("and %s; --receipt FILE has all", count(len(left), "further note"))
	})
}
