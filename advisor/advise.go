package advisor

import (
	"fmt"
	"math"

	"berth/probe"
	"berth/profiles"
)

// Advise plans a workload on a machine. It is pure: the same input gives the
// same plan. The calibration may be nil.
//
// A target that cannot be met is no error: the plan then is the best there is,
// with Feasible false. Errors are a machine without a CPU to use and a
// calibration of another machine.
func Advise(m *probe.Machine, p *profiles.Profile, c *probe.Calibration) (*Plan, error) {
	s, err := consider(m, p, c)
	if err != nil {
		return nil, err
	}
	return s.plan, nil
}

// study is a plan with what it was made from.
type study struct {
	*task
	rule rule
	plan *Plan
}

func consider(m *probe.Machine, p *profiles.Profile, c *probe.Calibration) (*study, error) {
	room, err := newRoom(m, p)
	if err != nil {
		return nil, err
	}
	if c != nil {
		switch {
		case c.Fingerprint == "":
			room.assume("The calibration does not say which machine it was measured on; it is taken as this one's.")
		case m.Fingerprint == "":
			room.assume("The machine has no fingerprint, so the calibration of %s is taken as its own.", c.Fingerprint)
		case c.Fingerprint != m.Fingerprint:
			return nil, fmt.Errorf("the calibration was measured on machine %s, and this is machine %s: its figures say nothing here", c.Fingerprint, m.Fingerprint)
		}
	}
	t := newTask(room, p, c)
	rule := t.chooseRule()
	wanted := rule.propose()
	t.bound(rule, &wanted)
	if room.short != "" {
		wanted.miss("fewer cores reserved or avoided: " + room.short)
	}
	t.explainIgnored(rule)
	w := wanted.workers
	plan := &Plan{
		Schema: Schema, Profile: p.Name, Machine: m.Fingerprint, Runtime: p.Runtime, Blocking: p.BlockingWaits(),
		Class: t.class(), Confidence: t.confidence(), BudgetCPUs: *figure(t.budget()), MemoryMiB: t.memoryNeed(w),
		Workers: w, Binding: wanted.by, Placement: t.place(m, w), Predicted: t.predict(rule, w),
		Feasible: !wanted.missed, Remedies: wanted.remedies, Verify: t.verify(w),
	}
	plan.Placement.keepOut(m, t.cpus)
	plan.Levels = plan.Inside(plan.Runtime)
	plan.Rejected = t.alternatives(rule, plan)
	plan.Reasons, plan.Assumptions = orEmpty(t.reasons), orEmpty(t.assumptions)
	return &study{t, rule, plan}, nil
}

func orEmpty(lines []string) []string {
	if lines == nil {
		return []string{}
	}
	return lines
}

// class says what one task does when it runs alone.
func (t *task) class() profiles.Class {
	waits := 0.0
	if t.cpu > 0 {
		waits = t.wait / (t.wait + t.cpu)
	}
	return profiles.ClassOf(waits, t.p.BlockingWaits(), t.p.Work.Kind)
}

func (t *task) confidence() Confidence {
	switch m := t.p.Measured; {
	case m != nil:
		return Confidence{Basis: Measured, Seconds: &m.Seconds, Level: &m.Confidence}
	case t.cpu > 0:
		return Confidence{Basis: Declared}
	}
	t.assume("cpu_ms is not known: a task counts as pure work.")
	return Confidence{Basis: Assumed}
}

// explainIgnored says which wishes of the profile the rule had no use for.
func (t *task) explainIgnored(r rule) {
	load := &t.p.Load
	_, latency := r.(*latencyRule)
	if load.WaitTargetMS != nil && !latency {
		if t.p.Objective != profiles.Latency {
			t.assume("wait_target_ms is for objective latency and was not used: the objective is %s.", t.p.Objective)
		} else {
			t.assume("wait_target_ms was not used: it needs load.arrival_per_s and work.cpu_ms too.")
		}
	}
	if load.ArrivalPerS != nil && t.cpu == 0 {
		t.assume("arrival_per_s was not used: it needs work.cpu_ms.")
	}
	if t.wait > 0 && t.cpu == 0 {
		t.assume("wait_ms was not used: without work.cpu_ms nobody knows how it compares.")
	}
	if t.p.Work.NativeMS > 0 && t.p.Runtime != profiles.Python {
		t.assume("native_ms was not used: it is for runtime python, and %s has no such lock.", t.p.Runtime)
	}
	switch r.(type) {
	case *pureRule, *nestedRule:
	default:
		if t.p.Work.SerialFraction > 0 {
			t.assume("serial_fraction was not used: tasks that come one by one have no serial part in common.")
		}
		if t.p.Scaling != nil {
			t.assume("scaling bounds the busy threads by its peak and was not used else: it was fitted to pure work.")
		}
	}
	if t.p.Work.Communicates && t.p.Scaling == nil && t.law.cpus > 1 {
		t.assume("Workers that communicate wait for each other, and no law was fitted (scaling): the figures hold no loss by it. `berth tune` fits one.")
	}
	if t.p.Runtime == profiles.Node && t.p.BlockingWaits() && t.wait > 0 {
		t.assume("Node blocks the whole event loop on synchronous calls: each worker is a worker_thread of its own.")
	}
}

// bound applies memory, tasks and downstream: the smallest wins and is named.
func (t *task) bound(r rule, out *proposal) {
	before := out.workers
	t.boundMemory(r, out)
	if n := t.p.Load.Tasks; n != nil && *n < int64(t.atOnce(r, out.workers)) {
		out.workers = r.shrink(out.workers, int(*n))
		out.by = Binding{ByTasks, fmt.Sprintf("there are %d tasks", *n)}
		t.reason("tasks: there are %d, and more workers would have none", *n)
		before = out.workers // fewer tasks than workers miss no rate
	}
	if n := t.p.Limits.DownstreamConcurrency; n != nil && *n < int64(t.atOnce(r, out.workers)) {
		out.workers = r.shrink(out.workers, int(*n))
		out.by = Binding{ByDown, "what is waited for takes " + plural(int(*n), "task", "tasks") + " at once"}
		t.reason("downstream: at most %d at once", *n)
	}
	if _, nested := r.(*nestedRule); (nested || out.workers != before) && !out.missed {
		t.checkServed(r, out)
	}
}

// atOnce is how many tasks such workers have in hand.
func (t *task) atOnce(r rule, w Workers) int {
	switch r.(type) {
	case *asyncRule:
		return w.InFlight
	case *nestedRule:
		return w.Processes
	}
	return w.Total()
}

// predict is the rule's word on workers of whom no more are busy than there are
// tasks, and than what they wait for takes.
func (t *task) predict(r rule, w Workers) Prediction {
	busy := t.atOnce(r, w)
	for _, most := range [...]*int64{t.p.Load.Tasks, t.p.Limits.DownstreamConcurrency} {
		if most != nil && *most < int64(busy) {
			busy = int(*most)
		}
	}
	if busy < t.atOnce(r, w) {
		if _, nested := r.(*nestedRule); nested {
			w.Processes = busy
		} else {
			w = r.shrink(w, busy)
		}
	}
	return r.predict(w)
}

// checkServed tells whether fewer workers than the CPUs call for still do what
// was asked of them.
func (t *task) checkServed(r rule, out *proposal) {
	if t.arrivals() == 0 || t.cpu == 0 {
		return
	}
	rate := *t.p.Load.ArrivalPerS
	after := t.predict(r, out.workers)
	served := *after.ThroughputPS
	switch r.(type) {
	case *asyncRule:
		served = 1000 * math.Min(float64(out.workers.InFlight)/(t.wait+t.planned), t.law.capacity(out.workers.EventLoops)/t.planned)
	case *latencyRule:
		if after.WaitMS == nil || *after.WaitMS > *t.p.Load.WaitTargetMS*(1+slack) {
			t.reason("infeasible: %d workers do not meet the target of the wait", out.workers.Total())
			out.miss(fmt.Sprintf("room for more workers: %s binds (%s)", out.by.Name, out.by.Detail))
		}
		return
	}
	if served < rate*(1-1e-6) {
		t.reason("infeasible: %s of the %s tasks per second are served", number(served), number(rate))
		need := ceil(t.arrivals() * (t.wait + t.planned))
		out.miss(fmt.Sprintf("room for %d tasks at once: %s binds (%s)", need, out.by.Name, out.by.Detail),
			fmt.Sprintf("at most %s tasks per second", number(served)))
	}
}

// boundMemory: workers ≤ (memory·(1−reserve) − shared) ÷ per worker. A worker
// is a thread in the model threads, else a process.
func (t *task) boundMemory(r rule, out *proposal) {
	l := &t.p.Limits
	if l.MemoryPerWorkerMiB == nil {
		return
	}
	if t.memoryMiB <= 0 {
		t.assume("The machine's memory is not known, so it binds nothing here.")
		return
	}
	per := *l.MemoryPerWorkerMiB
	free := t.memoryMiB*(1-l.MemoryReserveFraction) - l.MemorySharedMiB
	room := free / per
	w := out.workers
	units := t.memoryUnits(w)
	if room >= float64(units)*(1-slack) {
		return
	}
	n := max(1, floor(room))
	t.reason("memory: (%s MiB × (1 − %s) − %s) ÷ %s = %s workers", number(t.memoryMiB), number(l.MemoryReserveFraction), number(l.MemorySharedMiB), number(per), number(room))
	out.by = Binding{ByMemory, fmt.Sprintf("%s of %s MiB fill %s MiB", plural(n, "worker", "workers"), number(per), number(math.Max(0, free)))}
	switch r := r.(type) {
	case *asyncRule:
		out.workers = r.fewerProcesses(w, n)
	case *gilRule:
		out.workers = r.fewerProcesses(w, n)
	default:
		out.workers = r.shrink(w, n)
	}
	if floor(room) < 1 {
		need := (per + l.MemorySharedMiB) / (1 - l.MemoryReserveFraction)
		t.reason("infeasible: one worker and what is shared need %s MiB, reserve included", number(need))
		out.by.Detail = fmt.Sprintf("not even one worker of %s MiB fits", number(per))
		out.miss(fmt.Sprintf("%s MiB of memory (now %s)", number(math.Ceil(need)), number(t.memoryMiB)))
	}
}

func (t *task) memoryNeed(w Workers) *float64 {
	l := &t.p.Limits
	if l.MemoryPerWorkerMiB == nil {
		return nil
	}
	return figure(l.MemorySharedMiB + *l.MemoryPerWorkerMiB*float64(t.memoryUnits(w)))
}

// memoryUnits are the workers that have memory of their own: threads in the
// model threads, else processes, as those are whose threads share an
// interpreter, even if one suffices.
func (t *task) memoryUnits(w Workers) int {
	if w.Model == Threads && (!t.sharesInterpreter() || t.p.Model == profiles.Threads) {
		return w.Threads
	}
	return w.Processes
}

// verify is the command that tests the plan where it will run.
func (t *task) verify(w Workers) string {
	n := max(w.Processes, w.Threads)
	switch {
	case t.wait > 0 && t.cpu > 0 && w.InFlight == 0:
		return fmt.Sprintf("berth tune -n %d..%d -- COMMAND", max(1, w.Total()/2), 2*w.Total())
	case w.InFlight > 0 || t.sharesInterpreter():
		return "berth experiment modes --kernels service --carrier async"
	}
	return fmt.Sprintf("berth experiment modes --kernels %s --workers %d", t.p.Work.Kind, n)
}
