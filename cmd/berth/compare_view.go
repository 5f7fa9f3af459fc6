//go:build linux

package main

import (
	"fmt"
	"strings"

	"berth/probe/difference"
)

// comparisonView prints the answer, what the two are, and a row for all that
// differs.
func comparisonView(p *page, c *comparison, full bool) {
	answered(p, c.Answer)
	if c.Because != "" {
		p.wrapped(c.Because, " ", "")
	}
	for _, of := range [...]struct {
		letter string
		side   side
	}{{"A", c.A}, {"B", c.B}} {
		p.wrapped(of.letter+" "+sideLine(of.side), " ", "  ")
	}
	for _, note := range c.Notes {
		p.wrapped("· "+printable(note), " ", "  ")
	}
	for _, part := range c.Parts {
		about := ""
		if len(c.Parts) > 1 {
			about = ", of the " + part.About + "s"
		}
		partView(p, part.Report, about, full)
	}
}

func sideLine(s side) string {
	if s.Title == "" {
		return printable(s.Name)
	}
	if strings.HasPrefix(s.Title, s.Name+":") {
		return printable(s.Title)
	}
	return printable(s.Name + ": " + s.Title)
}

func partView(p *page, r *difference.Report, about string, full bool) {
	rowsView(p, "What differs"+about, r.Rows, difference.Changed, full)
	rowsView(p, "Without an interval"+about, r.Rows, difference.Unjudged, full)
	if full {
		rowsView(p, "No difference seen"+about, r.Rows, difference.NotSeen, full)
	}
	whys(p, r.Rows, full)
	var unseen []string
	for _, row := range r.Rows {
		if row.Verdict == difference.NotSeen {
			unseen = append(unseen, label(row.Name))
		}
	}
	p.gap()
	names := func(head string, of []string) {
		if len(of) == 0 {
			return
		}
		text := strings.Join(of, ", ")
		if most := 2 * p.width; !full {
			text = shorten(text, ", ", most)
		}
		p.wrapped(printable(head+text), ", ", "  ")
	}
	if !full {
		names("No difference seen: ", unseen)
	}
	names("Same: ", labelled(r.Same))
	names("Known of one alone: ", labelled(r.Unknown))
}

func labelled(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, label(n))
	}
	return out
}

// rowsView is a table of the rows with one verdict. A value too long for a column
// stands in a line of its own below, as do members of lists.
func rowsView(p *page, heading string, rows []difference.Row, verdict difference.Verdict, full bool) {
	name, change := 28, 24 // the widest that their columns hold
	if p.width < 90 {
		name, change = 20, 14
	}
	value := max(8, (p.width-name-change-8)/2)
	cells := [][]string{{"", "A", "B", "change"}}
	var below []string
	for i := range rows {
		row := &rows[i]
		if row.Verdict != verdict {
			continue
		}
		c := []string{printable(label(row.Name)), cell(row, row.A), cell(row, row.B), changeWord(row)}
		if runes(c[0]) <= name && runes(c[1]) <= value && runes(c[2]) <= value && runes(c[3]) <= change {
			cells = append(cells, c)
		} else {
			below = append(below, p.besides(c))
		}
		below = append(below, memberLines(row, full)...)
	}
	if len(cells) == 1 && below == nil {
		return
	}
	p.heading(heading)
	if len(cells) > 1 {
		p.table(cells)
	}
	for _, line := range below {
		p.wrapped("  "+line, " ", "    ")
	}
}

// besides is a row as a line: name: A → B (change).
func (p *page) besides(c []string) string {
	text := c[0] + ": " + shorten(c[1], ",", p.width-8) + " → " + shorten(c[2], ",", p.width-8)
	if c[3] != "" {
		text += "  (" + c[3] + ")"
	}
	return text
}

// changeWord is the ratio where there is one, or the difference; of sets, what
// came and went.
func changeWord(row *difference.Row) string {
	if row.Moved == nil && len(row.Added) <= 1 && len(row.Removed) <= 1 && row.Difference == nil {
		var parts []string
		for _, s := range row.Added {
			parts = append(parts, "+ "+shorten(s, ",", 16))
		}
		for _, s := range row.Removed {
			parts = append(parts, "− "+shorten(s, ",", 16))
		}
		return strings.Join(parts, ", ")
	}
	if row.Moved != nil || row.Added != nil || row.Removed != nil {
		var parts []string
		for _, of := range [...]struct {
			word string
			n    int
		}{{"new", len(row.Added)}, {"gone", len(row.Removed)}, {"moved", len(row.Moved)}} {
			if of.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", of.n, of.word))
			}
		}
		return strings.Join(parts, ", ")
	}
	switch {
	case row.Ratio != nil && *row.Ratio > 0.5 && *row.Ratio < 1.5:
		percent := (*row.Ratio - 1) * 100
		return signed(percent, max(0, min(2, places(percent)-1))) + " %"
	case row.Ratio != nil:
		return times(*row.Ratio)
	case row.Difference != nil:
		return signed(*row.Difference, min(3, places(*row.Difference)))
	}
	return ""
}

func signed(x float64, places int) string {
	text := decimal(x, places)
	if digits, negative := strings.CutPrefix(text, "-"); negative {
		return "−" + digits
	}
	return "+" + text
}

// mostMembers of a list fit a screen.
const mostMembers = 4

// memberLines name what came, went and moved of a list.
func memberLines(row *difference.Row, full bool) []string {
	if row.Difference == nil && row.Moved == nil { // a set: the table has it
		return nil
	}
	var out []string
	for _, of := range [...]struct {
		word    string
		members []string
	}{{"new", row.Added}, {"gone", row.Removed}, {"moved", row.Moved}} {
		if len(of.members) == 0 {
			continue
		}
		shown := of.members
		rest := ""
		if !full && len(shown) > mostMembers+1 {
			rest = fmt.Sprintf(" and %d more", len(shown)-mostMembers)
			shown = shown[:mostMembers]
		}
		out = append(out, printable(fmt.Sprintf("%s %s: %s%s", label(row.Name), of.word, strings.Join(shown, ", "), rest)))
	}
	return out
}

// whys says each cause once, with the rows that it explains.
func whys(p *page, rows []difference.Row, full bool) {
	var order []string
	explained := map[string][]string{}
	for _, row := range rows {
		if row.Why == "" || row.Verdict == difference.NotSeen && !full {
			continue
		}
		if explained[row.Why] == nil {
			order = append(order, row.Why)
		}
		explained[row.Why] = append(explained[row.Why], label(row.Name))
	}
	var lines []string
	for _, why := range order {
		lines = append(lines, printable(strings.Join(explained[why], ", ")+": "+why))
	}
	list(p, "Why", lines)
}
