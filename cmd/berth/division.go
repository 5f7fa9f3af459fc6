package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

// together refuses flags that mean nothing for several profiles, or only for them.
func (o *adviseOptions) together(cmd *cobra.Command, names []string) error {
	only := cmd.Flags().Changed("only")
	if only {
		if err := atMostOne(cmd, "only", "sweep"); err != nil {
			return err
		}
		if err := atMostOne(cmd, "only", "explain"); err != nil {
			return err
		}
	}
	if len(names) < 2 {
		return nil
	}
	stdin := 0
	for _, name := range names {
		if name == "-" {
			stdin++
		}
	}
	switch {
	case stdin > 1:
		return usage("put the others into files", "standard input holds one profile, and - is given %d times", stdin)
	case cmd.Flags().Changed("emit") && !only:
		return usage("--only NAME says whose settings are meant", "--emit prints one plan, and %d profiles have one each", len(names))
	case cmd.Flags().Changed("sweep"):
		return usage("sweep them one by one", "--sweep is about one profile, and %d are given", len(names))
	case len(o.set) > 0:
		return usage("write it into the profile that is meant", "--set changes one profile, and %d are given", len(names))
	}
	return nil
}

// divide divides the machine between profiles and prints that, or the plan of one part.
func (o *adviseOptions) divide(cmd *cobra.Command, all []*profiles.Profile, targets []emit.Target) error {
	var names []string
	for i, p := range all {
		if slices.Contains(names, p.Name) {
			return usage("tell them apart by the field name of one file; `berth profiles show` prints those that come with berth", "two profiles have the name %q, arguments %d and %d", p.Name, 1+slices.Index(names, p.Name), i+1)
		}
		names = append(names, p.Name)
	}
	only := cmd.Flags().Changed("only")
	if only {
		if err := known("profile among those given", o.only, names, "they are: "+strings.Join(names, ", ")); err != nil {
			return err
		}
	}
	machine, title, err := o.open(cmd)
	if err != nil {
		return err
	}
	calibration, err := o.calibrationFor(cmd, machine)
	if err != nil {
		return err
	}
	if note := calibration.note(); note != "" && targets != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %s\n", note)
	}
	d, err := advisor.Divide(machine, all, calibration.Calibration)
	if err != nil {
		return usage("give the calibration of this machine, or leave it out", "%w", err)
	}
	for _, part := range d.Parts {
		calibration.mark(part.Plan)
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	view := planOptions{title: title, screen: screenOf(cmd.OutOrStdout())}
	if only {
		return o.printPlan(cmd, out, d.Parts[slices.Index(names, o.only)].Plan, machine, view, targets)
	}
	switch o.format.value {
	case "json":
		err = writeJSON(out, d)
	case "yaml":
		err = writeYAML(out, d)
	default:
		err = divisionView(out, d, machine, view, o.explain)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// divisionView prints a division for a person: who gets how many, a row for each, why,
// and in full the plans.
func divisionView(w *bufio.Writer, d *advisor.Division, m *probe.Machine, o planOptions, full bool) error {
	p := &page{w: w, screen: o.screen}
	for _, line := range wrap(divisionHeadline(d), ", ", o.screen.width) {
		p.line(p.paint(bold, line))
	}
	p.wrapped(fmt.Sprintf("The %s has the time of %s CPU%s for them; %s.", o.title, cpuTime(d.BudgetCPUs), plural(d.BudgetCPUs), leftWord(d.LeftCPUs)), " ", "")
	if !d.Feasible {
		p.line("")
		p.line(p.paint(yellow, "! Not feasible. What would help:"))
		for _, r := range d.Remedies {
			p.wrapped("  - "+r, " ", "    ")
		}
	}
	p.heading("Parts")
	rows := [][]string{{"profile", "priority", "CPUs", "demand", "budget", "bound by", "plan"}}
	if !slices.ContainsFunc(d.Parts, func(part advisor.Part) bool { return part.Priority != profiles.DefaultPriority }) {
		rows[0][1] = ""
	}
	for _, part := range d.Parts {
		row := []string{part.Profile, "", shorten(cpuList(part.CPUs), ",", 24), "all", cpuTime(part.BudgetCPUs), binderInWords(part.Plan.Binding.Name), partPlan(part.Plan)}
		if rows[0][1] != "" {
			row[1] = decimal(part.Priority, places(part.Priority))
		}
		if part.DemandCPUs != nil {
			row[3] = cpuTime(*part.DemandCPUs)
		}
		rows = append(rows, row)
	}
	alignRight(rows, 1, 3, 4)
	p.table(rows)
	list(p, "Why", d.Reasons)
	list(p, "Assumed", d.Assumptions)
	if full {
		for _, part := range d.Parts {
			p.gap()
			p.line(p.paint(bold, strings.Repeat("─", min(o.screen.width, 40))))
			if err := planView(p.w, part.Plan, m, o); err != nil {
				return err
			}
		}
	}
	return p.w.Flush()
}

// divisionHeadline is the answer: how many CPUs each has, and beside whom.
func divisionHeadline(d *advisor.Division) string {
	var parts []string
	for _, part := range d.Parts {
		text := part.Profile + " " + count(part.CPUs.Len(), "CPU")
		if len(part.SharesWith) > 0 {
			text += " shared with " + strings.Join(part.SharesWith, " and ")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func leftWord(left cpuset.Set) string {
	if left.IsEmpty() {
		return "no CPU is left over"
	}
	return cpuWord(left) + " " + map[bool]string{true: "is", false: "are"}[left.Len() == 1] + " left over"
}

// partPlan is a plan in a cell of a table; its CPUs have their own.
func partPlan(plan *advisor.Plan) string {
	text := advisor.Describe(plan.Workers)
	switch plan.Placement.Pin {
	case advisor.PerCore:
		text += ", one per core"
	case advisor.PerCPU:
		text += ", one per CPU"
	case advisor.NoPin:
		text += ", not pinned"
	}
	if !plan.Feasible {
		text += ", not feasible"
	}
	return text
}
