//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"berth/affinity/fleet"
)

// fleetParts is how many parts a screen holds.
const fleetParts = 12

// fleetPlanView prints a plan for a fleet: the whole, then a row for each part.
func fleetPlanView(p *page, plan *fleet.Plan, f *fleet.Fleet) {
	answered(p, fleetCount(plan)+" on "+count(plan.Nodes, "node"))
	line := fmt.Sprintf("%s is bound by %s: %s", plan.Profile, binderInWords(plan.Binding.Name), plan.Binding.Detail)
	if x := plan.ThroughputPS; x != nil {
		line += fmt.Sprintf("; %s tasks per second in all", decimal(*x, places(*x)))
	}
	p.wrapped(line+".", " ", "")
	if !plan.Feasible {
		p.line(p.paint(yellow, "! Not feasible on every node: berth advise on one of its shape says what would help."))
	}
	var rows [][]string
	left, leftNodes := 0, 0
	for i, part := range plan.Parts {
		if i >= fleetParts-1 && len(plan.Parts) > fleetParts {
			left++
			leftNodes += len(part.Nodes)
			continue
		}
		what := part.Why
		if part.Plan != nil {
			what = planHeadline(part.Plan)
		} else {
			what = "no work: " + what
		}
		weight := ""
		if part.Weight > 0 {
			weight = decimal(part.Weight*100, places(part.Weight*100)) + " %"
		}
		rows = append(rows, []string{fmt.Sprint(part.Shape), count(len(part.Nodes), "node"), foldedNames(part.Nodes, 24), weight, shareInWords(&part.Share), what})
	}
	head := []string{"shape", "", "", "each", "its share", "plan of each node"}
	if !slices.ContainsFunc(rows, func(r []string) bool { return r[4] != "" }) {
		head[4] = ""
	}
	rows = append([][]string{head}, rows...)
	p.heading("Plans")
	p.table(rows)
	if left > 0 {
		p.line(fmt.Sprintf("  … and %s, of %s; -o json has all", count(left, "further part"), count(leftNodes, "node")))
	}
	list(p, "Why", plan.Reasons)
	list(p, "Assumed", plan.Assumptions)
	if missing := f.Totals.Nodes - f.Totals.Answered; missing > 0 || f.Early != "" {
		p.gap()
		p.wrapped("! The look at the fleet was not whole; berth fleet inspect says who is missing, and why.", " ", "  ")
	}
}

// fleetCount is how many workers there are in all.
func fleetCount(plan *fleet.Plan) string {
	if plan.Workers == 0 {
		return "No worker"
	}
	words := count(plan.Workers, "process")
	if plan.Threads != plan.Workers {
		words += fmt.Sprintf(", %s in all", count(plan.Threads, "thread"))
	}
	if plan.InFlight > 0 {
		words += fmt.Sprintf(", %s in flight", count(plan.InFlight, "task"))
	}
	return words
}

func shareInWords(s *fleet.Share) string {
	var parts []string
	if s.Tasks != nil {
		parts = append(parts, count(int(*s.Tasks), "task"))
	}
	if s.Downstream != nil {
		parts = append(parts, fmt.Sprintf("%d downstream", *s.Downstream))
	}
	if s.ArrivalPerS != nil {
		parts = append(parts, decimal(*s.ArrivalPerS, places(*s.ArrivalPerS))+"/s")
	}
	return strings.Join(parts, " · ")
}
