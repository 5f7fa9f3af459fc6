//go:build linux

package main

import (
	"fmt"
	"strings"

	"berth/advisor/doctor"
)

// doctorView prints the findings for a person, the gravest first.
func doctorView(p *page, d *doctorDocument) {
	answered(p, doctorAnswer(d.Findings))
	p.wrapped(doctorSeen(d), " · ", "")
	for i := range d.Findings {
		doctorFinding(p, &d.Findings[i])
	}
}

// doctorAnswer is the first line.
func doctorAnswer(found []doctor.Finding) string {
	number := map[doctor.Severity]int{}
	for _, f := range found {
		number[f.Severity]++
	}
	if len(found) == 0 {
		return "Nothing found."
	}
	var parts []string
	for _, s := range [...]struct {
		severity doctor.Severity
		noun     string
	}{{doctor.Error, "error"}, {doctor.Warning, "warning"}, {doctor.Info, "note"}} {
		if n := number[s.severity]; n > 0 {
			parts = append(parts, count(n, s.noun))
		}
	}
	if !doctor.Bad(found) {
		return "Nothing is wrong; " + strings.Join(parts, ", ") + "."
	}
	return strings.Join(parts, ", ") + "."
}

// doctorSeen says what was looked at.
func doctorSeen(d *doctorDocument) string {
	l := d.LookedAt
	processes := fmt.Sprintf("%d processes", l.Processes)
	if l.Processes == 1 {
		processes = "1 process"
	}
	return strings.Join([]string{"seen for " + decimal(d.IntervalS, 1) + " s", processes, count(l.Threads, "thread") + fmt.Sprintf(", %d busy", l.Busy),
		count(l.CPUs, "CPU"), fmt.Sprintf("%d kinds of findings looked for", len(doctor.Kinds()))}, " · ")
}

func doctorFinding(p *page, f *doctor.Finding) {
	mark, colour := doctorMark(f.Severity)
	head := mark + " " + f.Code
	p.gap()
	lines := wrap(head+"  "+f.Message, " ", p.width-2)
	lines[0] = p.paint(colour, head) + strings.TrimPrefix(lines[0], head)
	p.line(lines[0])
	for _, l := range lines[1:] {
		p.line("  " + l)
	}
	for _, e := range f.Evidence {
		p.wrapped("    "+e, " ", "      ")
	}
	if f.Fix != "" { // whole, to be copied
		p.line("  " + p.paint(dim, "fix:") + " " + f.Fix)
	}
}

func doctorMark(s doctor.Severity) (mark, colour string) {
	switch s {
	case doctor.Error:
		return "✗", red
	case doctor.Warning:
		return "!", yellow
	}
	return "·", ""
}

// doctorKinds lists what findings there are.
func doctorKinds(p *page, kinds []doctor.Kind) {
	var rows [][]string
	for _, k := range kinds {
		mark, _ := doctorMark(k.Severity)
		rows = append(rows, []string{mark + " " + k.Code, string(k.Severity), k.Meaning})
	}
	p.table(rows)
}
