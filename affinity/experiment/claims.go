//go:build linux

package experiment

import (
	"fmt"
	"time"

	"berth/affinity"
	"berth/affinity/experiment/python"
	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/topology"
)

// ClaimVerdict is what a machine says of a claim.
type ClaimVerdict string

const (
	Holds        ClaimVerdict = "holds"
	Fails        ClaimVerdict = "fails"
	Untestable   ClaimVerdict = "untestable"   // not on this machine, or not with what is installed
	Inconclusive ClaimVerdict = "inconclusive" // the machine was too noisy, or the interval too wide
)

// Claim is something that is often taught of threads, and what was seen here.
type Claim struct {
	ID       string       `json:"id" yaml:"id"`
	Claim    string       `json:"claim" yaml:"claim"`
	Expected string       `json:"expected" yaml:"expected"` // by the claim
	Measured string       `json:"measured" yaml:"measured"`
	Verdict  ClaimVerdict `json:"verdict" yaml:"verdict"`
	Why      string       `json:"why" yaml:"why"`
}

// evidence is what the claims are judged by. Nil is what could not be had; why
// says the reason for each that could not.
type evidence struct {
	machine *probe.Machine
	cores   int // that took part in parallel
	modes   *ModesReport
	// mixed is the sum of what an integer worker and a service on two siblings
	// did, each as a share of what it does alone.
	mixed  *measured.Value
	handed *SwitchReport
	gil    *GILReport
	python *pythonEvidence
	why    map[string]string // modes, switch, gil, python
}

// pythonEvidence is what single looks at one Python gave.
type pythonEvidence struct {
	interval    time.Duration   // asked of the interpreter
	held        *measured.Value // milliseconds for which a thread kept the GIL while another one waited
	changes     int             // of the GIL's holder
	nextP       *float64        // of the next one being drawn evenly from the others
	lost        []python.LostUpdate
	stall, calm *measured.Value // milliseconds that a ticking task came late, with a blocking call of block and without
	block       time.Duration
	waiters     int
	threadBytes *measured.Value // memory that a waiting thread adds, bytes
	taskBytes   *measured.Value
	starts      []python.Started
	threadSees  *bool // a write by a thread is seen by its parent
	processSees *bool
	sumSent     *measured.Value // speed-up of a sum of a list that is sent to a pool
	sumThere    *measured.Value // the same where the pool's workers hold the list already
	sumProcs    int
	sumElements int
}

// ask judges a value by whether all of its interval lies on one side.
func ask(v *measured.Value, at float64, above bool) ClaimVerdict {
	if v == nil || v.Runs == 0 {
		return Inconclusive
	}
	if v.Low >= at && v.High >= at {
		if above {
			return Holds
		}
		return Fails
	}
	if v.Low < at && v.High < at {
		if above {
			return Fails
		}
		return Holds
	}
	return Inconclusive
}

// is judges what has no interval.
func is(yes bool) ClaimVerdict {
	if yes {
		return Holds
	}
	return Fails
}

// run finds one of the runs of the modes.
func (e *evidence) run(mode Mode, kernel string, carrier Carrier) *ModeRun {
	if e.modes == nil {
		return nil
	}
	for i := range e.modes.Runs {
		if r := &e.modes.Runs[i]; r.Mode == mode && r.Kernel == kernel && r.Carrier == carrier {
			return r
		}
	}
	return nil
}

// skipped is why a mode could not be had; empty: it could.
func (e *evidence) skipped(mode Mode) string {
	if e.modes == nil {
		return e.why["modes"]
	}
	for _, s := range e.modes.Skipped {
		if s.Mode == mode && s.Carrier != Async {
			return s.Why
		}
	}
	return ""
}

// pythonRun finds one of the runs of the GIL's experiment.
func (e *evidence) pythonRun(work, carrier string, least int) *GILRun {
	if e.gil == nil {
		return nil
	}
	for i := range e.gil.Runs {
		if r := &e.gil.Runs[i]; r.Work == work && r.Carrier == carrier && r.Workers >= least && r.Verdict == affinity.Measured && r.usual {
			return r
		}
	}
	return nil
}

// claims are the judgements, in the order in which they are told.
var claims = []func(e *evidence, c *Claim){
	separateCores, threadsInParallel, smtNoGain, smtWaiting, smtTurns, oversubscription, waitingOversubscribed, switchCost, noSwitching,
	gilThreads, gilWaiting, gilInterval, gilNext, gilSafety, multiprocessing, poolSum, asyncThousands, asyncBlocked, threadMemory, sharedMemory, ownCaches,
}

// judge makes all claims of the evidence.
func judge(e *evidence) []Claim {
	all := make([]Claim, len(claims))
	for i, f := range claims {
		f(e, &all[i])
		c := &all[i]
		if c.Measured == "" {
			c.Measured = "nothing"
		}
	}
	return all
}

// untestable ends a claim for which something could not be had.
func (c *Claim) untestable(why string) { c.Verdict, c.Why = Untestable, why }

// unclear ends a claim whose measurement did not come to a result.
func (c *Claim) unclear() {
	c.Verdict, c.Why = Inconclusive, "too few trials were undisturbed, so this is not known: measure again when the machine is quiet"
}

func separateCores(e *evidence, c *Claim) {
	c.ID, c.Claim = "separate-cores", "Separate cores multiply the throughput of CPU-bound work: 8 cores do about 8 times as much"
	c.Expected = fmt.Sprintf("%d cores do about %d times the work of one", e.cores, e.cores)
	if why := e.skipped(Parallel); why != "" {
		c.untestable(why)
		return
	}
	r := e.run(Parallel, "integer", Processes)
	if r == nil || r.Verdict != affinity.Measured {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s times with %d processes of integer work", r.Relative, r.Workers)
	switch c.Verdict = ask(&r.Relative, 0.9*float64(r.Workers), true); c.Verdict {
	case Holds:
		c.Why = "each worker had a core to itself, and integer work needs nothing else that the cores share"
	case Fails:
		c.Why = "the cores share something: power and so the clock, a quota, or, in a virtual machine, the host's cores"
		if q := e.machine.Limits.QuotaCPUs; q != nil && *q < float64(r.Workers) {
			c.Why = fmt.Sprintf("a CPU quota of %.4g CPUs is what was measured", *q)
		}
	default:
		c.Why = "the interval reaches over nine tenths of a core for each worker"
	}
}

func threadsInParallel(e *evidence, c *Claim) {
	c.ID, c.Claim = "threads-not-parallel", "Threads use logical cores and run concurrently, not in parallel; only processes run in parallel"
	c.Expected = "threads on separate cores do no more than one thread"
	if why := e.skipped(Parallel); why != "" {
		c.untestable(why)
		return
	}
	r := e.run(Parallel, "integer", Threads)
	if r == nil || r.Verdict != affinity.Measured {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s times with %d threads of one process", r.Relative, r.Workers)
	switch c.Verdict = ask(&r.Relative, 0.5*float64(r.Workers)+0.5, false); c.Verdict {
	case Fails:
		c.Why = "the kernel seats threads and processes alike; it is Python's lock that keeps threads of Python code apart, not the CPU"
	case Holds:
		c.Why = "the threads got no more than one core's time here: look for a quota or a shared core"
	default:
		c.Why = "the interval is too wide to tell"
	}
}

// smtRun gives the run on siblings, or ends the claim.
func (e *evidence) smtRun(c *Claim, kernel string) *ModeRun {
	if why := e.skipped(SMT); why != "" {
		c.untestable(why)
		return nil
	}
	r := e.run(SMT, kernel, Processes)
	if r == nil || r.Verdict != affinity.Measured {
		c.unclear()
		return nil
	}
	return r
}

func smtNoGain(e *evidence, c *Claim) {
	c.ID, c.Claim = "smt-no-gain", "Two heavy CPU tasks on the siblings of one core gain nothing, or even lose"
	c.Expected = "two siblings do at most what one does"
	integer := e.smtRun(c, "integer")
	if integer == nil {
		return
	}
	c.Measured = fmt.Sprintf("%s times for integer work", integer.Relative)
	c.Verdict = ask(&integer.Relative, 1.05, false)
	if float := e.run(SMT, "float", Processes); float != nil {
		c.Measured += fmt.Sprintf(", %s for floating point", float.Relative)
		if v := ask(&float.Relative, 1.05, false); v != c.Verdict && c.Verdict == Holds {
			c.Verdict = v
		}
	}
	c.Why = "one task leaves execution units idle that the other one uses; how many depends on the work, so it must be measured for each"
	if c.Verdict == Holds {
		c.Why = "this work keeps the core's units busy by itself; other work may leave more to a sibling"
	}
}

func smtWaiting(e *evidence, c *Claim) {
	c.ID, c.Claim = "smt-gains-when-waiting", "Siblings pay when one of the two tasks waits"
	c.Expected = "a task that computes and one that mostly waits hardly notice each other"
	if why := e.skipped(SMT); why != "" {
		c.untestable(why)
		return
	}
	if e.mixed == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("together %s of the 2 that two cores would do", *e.mixed)
	if m := e.run(SMT, "memory-latency", Processes); m != nil {
		c.Measured += fmt.Sprintf("; two that wait for memory: %s times one", m.Relative)
	}
	c.Verdict = ask(e.mixed, 1.5, true)
	c.Why = "while one waits, for a timer or for memory, the core is the other one's"
}

func smtTurns(e *evidence, c *Claim) {
	c.ID, c.Claim = "smt-takes-turns", "Siblings only take turns: the core runs one of them at a time"
	c.Expected = "two siblings together never do more than one could with no pauses"
	r := e.smtRun(c, "integer")
	if r == nil {
		return
	}
	c.Measured = fmt.Sprintf("%s times for integer work, which hardly pauses", r.Relative)
	c.Verdict = ask(&r.Relative, 1.05, false)
	switch c.Verdict {
	case Fails:
		c.Why = "instructions of both are executed in the same cycle, on units that the other one leaves idle: that is what simultaneous means"
	case Holds:
		c.Why = "no sign of both running at once was seen in this work; that alone does not prove turns"
	default:
		c.Why = "the interval is too wide to tell"
	}
}

// cost is what several workers a CPU lose against one each, in per cent.
func (e *evidence) cost(kernel string) *measured.Value {
	if e.modes == nil {
		return nil
	}
	if v, ok := e.modes.Derived.OversubscriptionCostPct[kernel]; ok {
		return &v
	}
	return nil
}

func oversubscription(e *evidence, c *Claim) {
	c.ID, c.Claim = "oversubscription-costs", "More runnable threads than CPUs cost much throughput, so context switching must be avoided"
	c.Expected = "four workers on each CPU do clearly less than one on each"
	v, r := e.cost("integer"), e.run(Oversubscribed, "integer", Processes)
	if v == nil || r == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s %% less throughput with %d on each CPU, at %.0f switches per second", *v, r.PerCPU, r.Switches.Median)
	if m := e.cost("memory-latency"); m != nil {
		c.Measured += fmt.Sprintf("; memory-bound work %s %%", *m)
	}
	switch c.Verdict = ask(v, 5, true); c.Verdict {
	case Fails:
		c.Why = "a time slice lasts milliseconds and a switch microseconds, so little is lost in all; what suffers is the time that each one waits for its turn"
	case Holds:
		c.Why = "the switches, and what they push out of the caches, cost that much here"
	default:
		c.Why = "the interval reaches over 5 %"
	}
}

func waitingOversubscribed(e *evidence, c *Claim) {
	c.ID, c.Claim = "waiting-needs-more-workers", "Work that waits wants more workers than CPUs"
	r := e.run(Oversubscribed, "service", Processes)
	if r == nil || r.Verdict != affinity.Measured {
		c.Expected = "several waiting workers on a CPU do several times the work"
		c.unclear()
		return
	}
	c.Expected = fmt.Sprintf("%d workers on each CPU do several times the work of one on each", r.PerCPU)
	base := float64(r.CPUs.Len())
	c.Measured = fmt.Sprintf("%s times one worker, on %d CPUs", r.Relative, r.CPUs.Len())
	c.Verdict = ask(&r.Relative, 1.5*base, true)
	c.Why = "while one request waits another one computes, until the CPUs are full"
}

func switchCost(e *evidence, c *Claim) {
	c.ID, c.Claim = "switch-costs-more-than-smt", "A context switch costs far more than the change from one SMT sibling to the other"
	c.Expected = "thousands of cycles against about one"
	if e.handed == nil || e.handed.Pinned == nil || e.handed.Verdict != affinity.Measured {
		if why := e.why["switch"]; why != "" {
			c.untestable(why)
		} else {
			c.unclear()
		}
		return
	}
	c.Measured = fmt.Sprintf("%s µs to hand over to another thread on the same CPU", *e.handed.Pinned)
	cycles := 0.0
	if r := e.run(Alone, "integer", Processes); r != nil && r.ClockGHz != nil {
		cycles = e.handed.Pinned.Low * 1000 * r.ClockGHz.Median
		c.Measured += fmt.Sprintf(", %.0f cycles of %.2f GHz", e.handed.Pinned.Median*1000*r.ClockGHz.Median, r.ClockGHz.Median)
	}
	if why := e.skipped(SMT); why != "" {
		c.untestable("the switch was measured, but there are no siblings to compare it with: " + why)
		return
	}
	c.Verdict = is(cycles > 100)
	c.Why = "the kernel saves one thread and picks another; siblings are both on the core already, and their instructions mix cycle by cycle"
}

func noSwitching(e *evidence, c *Claim) {
	c.ID, c.Claim = "no-switching-up-to-cores", "Up to one process for each core, they run without context switches"
	c.Expected = "next to no switches"
	mode := Parallel
	if e.skipped(Parallel) != "" {
		mode = Alone
	}
	r := e.run(mode, "integer", Processes)
	if r == nil || r.Verdict != affinity.Measured {
		c.unclear()
		return
	}
	each := r.Switches.Scaled(1 / float64(r.Workers))
	c.Measured = fmt.Sprintf("%s switches per second for each of %d processes", each, r.Workers)
	if o := e.run(Oversubscribed, "integer", Processes); o != nil {
		c.Measured += fmt.Sprintf("; %.0f with %d on each CPU", o.Switches.Median/float64(o.Workers), o.PerCPU)
	}
	us := 5. // a guess, where it was not measured
	if e.handed != nil && e.handed.Pinned != nil {
		us = e.handed.Pinned.Median
	}
	lost := each.Scaled(us / 1e6 * 100)
	c.Measured += fmt.Sprintf("; at %.2g µs a switch they take %.2g %% of its time", us, lost.Median)
	c.Verdict = ask(&lost, 0.2, false)
	c.Why = "nobody else wants the CPU for long: what switches is the kernel's own short tasks, and a background thread of each worker's Go runtime that looks in a hundred times a second"
	if c.Verdict != Holds {
		c.Why = "something else runs on these CPUs too: `berth ps --all` tells what"
	}
}

func ownCaches(e *evidence, c *Claim) {
	c.ID, c.Claim = "own-l1-shared-rest", "Each core has an L1 of its own and shares all other memory"
	c.Expected = "an L1 for each core; L2, L3 and memory for several"
	t := &e.machine.Topology
	per := map[int]int{} // most cores that one cache of a level serves
	known := false
	for _, cache := range t.Caches {
		if cache.Type == topology.Instruction {
			continue
		}
		n := 0
		for i := range t.Cores {
			if t.Cores[i].CPUs.Overlaps(cache.CPUs) {
				n++
			}
		}
		per[cache.Level] = max(per[cache.Level], n)
		known = true
	}
	if !known || len(t.Cores) < 2 {
		c.untestable("inspect knows too little of this machine's caches, or there is one core alone")
		return
	}
	for level := 1; level <= 4; level++ {
		if n, ok := per[level]; ok {
			if c.Measured != "" {
				c.Measured += ", "
			}
			c.Measured += fmt.Sprintf("an L%d for %d", level, n)
			if n == 1 {
				c.Measured += " core"
			} else {
				c.Measured += " cores"
			}
		}
	}
	l2, has := per[2]
	c.Verdict = is(per[1] == 1 && (!has || l2 > 1))
	c.Why = "as inspect reads it from the kernel and CPUID"
	if per[1] == 1 && has && l2 == 1 {
		c.Why = "the L2 belongs to one core here too; only what lies beyond it is shared"
	}
}
