package advisor

import (
	"fmt"
	"slices"

	"berth/probe"
	"berth/probe/difference"
	"berth/profiles"
)

// Case is a plan, and what it was made from as far as that is at hand.
type Case struct {
	Plan        *Plan
	Machine     *probe.Machine     // nil: not at hand
	Profile     *profiles.Profile  // nil: not at hand
	Calibration *probe.Calibration // nil: none
}

// Compare tells what differs between two plans: counts, what binds, what they
// should yield, where the workers sit. Each row says why, where that is visible.
//
// With the machines and profiles at hand that is found by trial: a cause is the
// one input which, taken from B, gives A's plan the value of B's, and the other
// way round. Of plans alone a row says which of their inputs differ as well.
func Compare(a, b Case) *difference.Report {
	r := comparePlans(a.Plan, b.Plan)
	if len(r.Rows) == 0 {
		return r
	}
	if a.Machine != nil && b.Machine != nil && a.Profile != nil && b.Profile != nil {
		explainByTrial(r, a, b)
	} else {
		explainByInputs(r, a.Plan, b.Plan)
	}
	return r
}

func comparePlans(a, b *Plan) *difference.Report {
	r := difference.New()
	r.Flag("feasible", a.Feasible, b.Feasible)
	r.Word("class", string(a.Class), string(b.Class))
	r.Word("model", string(a.Workers.Model), string(b.Workers.Model))
	w, v := a.Workers, b.Workers
	r.Count("processes", "", w.Processes, v.Processes)
	r.Count("threads_per_process", "", w.Threads, v.Threads)
	if w.Inner > 0 || v.Inner > 0 {
		r.Count("inner_threads", "", w.Inner, v.Inner)
	}
	if w.EventLoops > 0 || v.EventLoops > 0 {
		r.Count("event_loops", "", w.EventLoops, v.EventLoops)
		r.Count("in_flight", "", w.InFlight, v.InFlight)
	}
	r.Word("binding", string(a.Binding.Name), string(b.Binding.Name))
	r.Figure("budget_cpus", "cpus", &a.BudgetCPUs, &b.BudgetCPUs)
	y, z := &a.Predicted, &b.Predicted
	r.Figure("speedup", "", y.Speedup, z.Speedup)
	r.Figure("throughput_per_s", "tasks/s", y.ThroughputPS, z.ThroughputPS)
	r.Figure("capacity", "cores", y.Capacity, z.Capacity)
	r.Figure("utilisation", "", y.Utilisation, z.Utilisation)
	r.Figure("wait_ms_at_quantile", "ms", y.WaitMS, z.WaitMS)
	r.Figure("stall_ms_per_period", "ms", y.StallMS, z.StallMS)
	r.Figure("knee_95", "", countOf(y.Knee), countOf(z.Knee))
	r.Figure("memory_mib", "MiB", a.MemoryMiB, b.MemoryMiB)
	r.Word("pin", string(a.Placement.Pin), string(b.Placement.Pin))
	r.CPUs("placement_cpus", &a.Placement.CPUs, &b.Placement.CPUs)
	compareSeats(r, a.Placement.Seats, b.Placement.Seats)
	r.Word("runtime", string(a.Runtime), string(b.Runtime))
	r.Word("confidence", string(a.Confidence.Basis), string(b.Confidence.Basis))
	return r
}

func countOf(n *int) *float64 {
	if n == nil {
		return nil
	}
	x := float64(*n)
	return &x
}

// compareSeats tells which workers, or threads of them, got or lost a seat, and
// whose is on other CPUs or another node.
func compareSeats(r *difference.Report, a, b []Seat) {
	type sitter struct{ worker, thread int } // thread -1: all of them
	key := func(s Seat) sitter {
		if s.Thread == nil {
			return sitter{s.Worker, -1}
		}
		return sitter{s.Worker, *s.Thread}
	}
	name := func(s Seat) string {
		if s.Thread == nil {
			return fmt.Sprintf("worker %d", s.Worker)
		}
		return fmt.Sprintf("worker %d thread %d", s.Worker, *s.Thread)
	}
	row := difference.Row{Name: "seats", A: len(a), B: len(b), Verdict: difference.Changed}
	was := map[sitter]Seat{}
	for _, s := range a {
		was[key(s)] = s
	}
	for _, s := range b {
		old, had := was[key(s)]
		delete(was, key(s))
		switch {
		case !had:
			row.Added = append(row.Added, name(s)+" on "+s.CPUs.String())
		case !old.CPUs.Equal(s.CPUs):
			row.Moved = append(row.Moved, fmt.Sprintf("%s from %s to %s", name(s), old.CPUs, s.CPUs))
		case old.Mems != s.Mems:
			row.Moved = append(row.Moved, fmt.Sprintf("%s from memory of node %s to %s", name(s), orNone(old.Mems), orNone(s.Mems)))
		}
	}
	for _, s := range a {
		if _, left := was[key(s)]; left {
			row.Removed = append(row.Removed, name(s)+" on "+s.CPUs.String())
			delete(was, key(s))
		}
	}
	if row.Added == nil && row.Removed == nil && row.Moved == nil {
		r.Same = append(r.Same, "seats")
		return
	}
	d := float64(len(b) - len(a))
	row.Difference = &d
	r.Rows = append(r.Rows, row)
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// explainByInputs names what differs of what the plans themselves tell of their
// inputs. Which of it did what, they do not tell.
func explainByInputs(r *difference.Report, a, b *Plan) {
	var with []string
	causes := map[string]bool{}
	note := func(name string, differs bool, format string, args ...any) {
		if differs {
			causes[name] = true
			with = append(with, fmt.Sprintf(format, args...))
		}
	}
	note("", a.Profile != b.Profile, "profile %s instead of %s", b.Profile, a.Profile)
	note("class", a.Class != b.Class, "class %s instead of %s", b.Class, a.Class)
	note("runtime", a.Runtime != b.Runtime, "runtime %s instead of %s", b.Runtime, a.Runtime)
	note("", a.Machine != b.Machine && a.Machine != "" && b.Machine != "", "another machine")
	note("budget_cpus", r.Find("budget_cpus") != nil, "a budget of %s CPUs instead of %s", number(b.BudgetCPUs), number(a.BudgetCPUs))
	if len(with) == 0 {
		siblings := func(p *Plan) bool { return p.Placement.Pin == PerCPU }
		note("pin", siblings(a) != siblings(b) && a.Placement.CPUs.Len() != b.Placement.CPUs.Len(),
			"SMT siblings that are used in one of them only: the yields differ")
	}
	if len(with) == 0 {
		return
	}
	why := "it goes with " + joined(with)
	for i := range r.Rows {
		if !causes[r.Rows[i].Name] {
			r.Rows[i].Why = why
		}
	}
}

func joined(parts []string) string {
	text := ""
	for i, p := range parts {
		switch {
		case i == 0:
		case i == len(parts)-1:
			text += " and "
		default:
			text += ", "
		}
		text += p
	}
	return text
}

// input is one of the things that plans are made from, in which two cases differ.
type input struct {
	says string // how B's is instead of A's
	take func(to, from Case) Case
}

// explainByTrial plans each case with one input of the other at a time.
func explainByTrial(r *difference.Report, a, b Case) {
	all := inputs(a, b)
	open := make([]bool, len(r.Rows))
	for i := range open {
		open[i] = true
	}
	for _, in := range all {
		there, err := planOf(in.take(a, b))
		if err != nil {
			continue
		}
		back, err := planOf(in.take(b, a))
		if err != nil {
			continue
		}
		missed, kept := comparePlans(there, b.Plan), comparePlans(back, a.Plan)
		for i := range r.Rows {
			row := &r.Rows[i]
			if open[i] && agree(missed, row.Name) && agree(kept, row.Name) {
				open[i] = false
				row.Why = in.says
				if len(all) > 1 {
					row.Why += ", which is enough alone"
				}
			}
		}
	}
	for i := range r.Rows {
		if open[i] && len(all) > 0 {
			r.Rows[i].Why = "several inputs that differ have a part in it"
		}
	}
}

// agree reports whether two plans say the same of a fact, and both know it.
func agree(r *difference.Report, name string) bool {
	return r.Find(name) == nil && !slices.Contains(r.Unknown, name)
}

// planOf plans a case anew. A calibration counts for the machine that it comes
// with.
func planOf(c Case) (*Plan, error) {
	calibration := c.Calibration
	if calibration != nil {
		free := *calibration
		free.Fingerprint = ""
		calibration = &free
	}
	return Advise(c.Machine, c.Profile, calibration)
}

// inputs are those in which two cases differ, from the narrowest of the machine
// to the fields of the profile.
func inputs(a, b Case) []input {
	var out []input
	m, n := a.Machine, b.Machine
	if x, y := m.Limits.QuotaCPUs, n.Limits.QuotaCPUs; !equal(x, y) || x != nil && !equal(m.Limits.QuotaPeriodMS, n.Limits.QuotaPeriodMS) {
		says := fmt.Sprintf("the quota is %s instead of %s", cpusOr(y), cpusOr(x))
		if equal(x, y) {
			says = "the quota's period is another"
		}
		out = append(out, input{says, func(to, from Case) Case {
			return to.with(func(m *probe.Machine) {
				m.Limits.QuotaCPUs, m.Limits.QuotaPeriodMS = from.Machine.Limits.QuotaCPUs, from.Machine.Limits.QuotaPeriodMS
			})
		}})
	}
	if x, y := memory(m), memory(n); x != y {
		out = append(out, input{fmt.Sprintf("there are %s MiB of memory instead of %s", mibOr(y), mibOr(x)), func(to, from Case) Case {
			return to.with(func(m *probe.Machine) {
				m.Host.MemoryBytes, m.Limits.MemoryBytes = nil, nil
				if mib := memory(from.Machine); mib > 0 {
					bytes := int64(mib * (1 << 20))
					m.Host.MemoryBytes = &bytes
				} else { // nor is the nodes' known
					m.Topology.NUMANodes = slices.Clone(m.Topology.NUMANodes)
					for i := range m.Topology.NUMANodes {
						m.Topology.NUMANodes[i].MemoryBytes = nil
					}
				}
			})
		}})
	}
	out = append(out, shapeInputs(m, n)...)
	if x, y := a.Calibration, b.Calibration; (x == nil) != (y == nil) || x != nil && len(probe.CompareCalibrations(x, y).Rows) > 0 {
		says := "the calibration is another"
		switch {
		case x == nil:
			says = "a calibration is used"
		case y == nil:
			says = "no calibration is used"
		}
		out = append(out, input{says, func(to, from Case) Case {
			to.Calibration = from.Calibration
			return to
		}})
	}
	for _, part := range profiles.Differences(a.Profile, b.Profile) {
		out = append(out, input{fmt.Sprintf("%s is %s instead of %s", part.Path, orUnsaid(part.B), orUnsaid(part.A)), func(to, from Case) Case {
			to.Profile = to.Profile.Taking(part.Path, from.Profile)
			return to
		}})
	}
	return out
}

// shapeInputs are the CPUs that the process may use and, where machines differ
// in more than that, the machine's shape in all.
func shapeInputs(m, n *probe.Machine) []input {
	r := probe.Compare(m, n)
	var allowed, shape bool
	for _, name := range probe.Shape() {
		shape = shape || r.Find(name) != nil || slices.Contains(r.Unknown, name)
	}
	allowed = r.Find("allowed") != nil
	switch {
	case shape || r.Find("isolated") != nil:
		return []input{{"the machine is another shape", func(to, from Case) Case {
			return to.with(func(m *probe.Machine) { m.Topology, m.Devices = from.Machine.Topology, from.Machine.Devices })
		}}}
	case allowed:
		says := fmt.Sprintf("the CPUs allowed are %s instead of %s", n.Topology.Allowed, m.Topology.Allowed)
		return []input{{says, func(to, from Case) Case {
			return to.with(func(m *probe.Machine) { m.Topology.Allowed = from.Machine.Topology.Allowed })
		}}}
	}
	return nil
}

// with is the case on a machine that is changed in a copy.
func (c Case) with(change func(*probe.Machine)) Case {
	m := *c.Machine
	change(&m)
	c.Machine = &m
	return c
}

func equal(a, b *float64) bool { return a == b || a != nil && b != nil && *a == *b }

func cpusOr(x *float64) string {
	if x == nil {
		return "none"
	}
	return number(*x) + " CPUs"
}

func mibOr(x float64) string {
	if x == 0 {
		return "an unknown number"
	}
	return number(x)
}

func orUnsaid(text string) string {
	if text == "" {
		return "not given"
	}
	return text
}
