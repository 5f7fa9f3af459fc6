//go:build linux

package main

import (
	"fmt"
	"strings"

	"berth/affinity/experiment"
)

// studyView is a claim after the other: what is said, and what was seen.
func studyView(p *page, rep *experiment.StudyReport) {
	n := 0
	for _, c := range rep.Claims {
		if c.Verdict == experiment.Inconclusive {
			n++
		}
	}
	if n > 0 { // of these claims nothing is known; the others stand
		loudly(p, fmt.Sprintf("INCONCLUSIVE for %d of %s: %s.", n, count(len(rep.Claims), "claim"), "what they rest on was too disturbed, or the time too short"))
	}
	answered(p, studyAnswer(rep))
	if s := noiseLine(&rep.Report); s != "" {
		p.wrapped(s, " ", "")
	}
	colours := map[experiment.ClaimVerdict]string{
		experiment.Holds: green, experiment.Fails: red, experiment.Untestable: dim, experiment.Inconclusive: yellow,
	}
	const column = len(experiment.Inconclusive) + 2
	for _, c := range rep.Claims {
		p.gap()
		indent := strings.Repeat(" ", column)
		for i, line := range wrap(c.Claim, " ", p.width-column) {
			if i == 0 {
				p.line(p.paint(colours[c.Verdict], pad(string(c.Verdict), column)) + p.paint(bold, line))
			} else {
				p.line(indent + p.paint(bold, line))
			}
		}
		for _, row := range [...][2]string{{"expected", c.Expected}, {"measured", c.Measured}, {"why", c.Why}} {
			if row[1] == "" {
				continue
			}
			for i, line := range wrap(row[1], " ", p.width-column-10) {
				name := strings.Repeat(" ", 10)
				if i == 0 {
					name = p.paint(dim, row[0]) + name[len(row[0]):]
				}
				p.line(indent + name + line)
			}
		}
	}
	closing(p, &rep.Report, [][2]string{
		{"done", "Short versions of the other experiments, and single looks at Python."},
		{"read it so", "A claim holds or fails if the whole interval says so. Untestable: this machine, or what is installed, cannot show it. Inconclusive: it could, but not in this time or in this noise; the experiment of that name, alone and longer, may."},
	})
}

func studyAnswer(rep *experiment.StudyReport) string {
	n := map[experiment.ClaimVerdict]int{}
	for _, c := range rep.Claims {
		n[c.Verdict]++
	}
	var parts []string
	add := func(v experiment.ClaimVerdict, one, more string) {
		if k := n[v]; k == 1 {
			parts = append(parts, "1 "+one)
		} else if k > 1 {
			parts = append(parts, fmt.Sprintf("%d %s", k, more))
		}
	}
	add(experiment.Holds, "holds", "hold")
	add(experiment.Fails, "fails", "fail")
	add(experiment.Untestable, "cannot be tested", "cannot be tested")
	add(experiment.Inconclusive, "is inconclusive", "are inconclusive")
	if len(parts) == 0 {
		return "No claim was tested."
	}
	return "Of " + count(len(rep.Claims), "claim") + " " + enumerate(parts) + " on this machine."
}
