//go:build linux

package experiment

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"berth/affinity"
	"berth/affinity/experiment/kernel"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// Mode is one of the ways in which workers can sit.
type Mode string

const (
	Alone          Mode = "alone"
	Parallel       Mode = "parallel"       // a core each
	SMT            Mode = "smt"            // the siblings of one core
	Oversubscribed Mode = "oversubscribed" // several on each CPU
)

// Carrier is what carries a worker.
type Carrier string

const (
	Processes Carrier = "processes"
	Threads   Carrier = "threads" // of one process
	Async     Carrier = "async"   // goroutines on one CPU of one process
)

// Carriers are all there are.
func Carriers() []Carrier { return []Carrier{Processes, Threads, Async} }

// ModesOptions say what [Modes] compares.
type ModesOptions struct {
	Kernels  []string  // of package kernel; empty: integer, float, memory-latency, service
	Carriers []Carrier // empty: processes, threads; processes alone where time is short
	// Over are the workers per CPU when oversubscribed; empty: 4.
	Over []int
	// Workers is the most cores to use; 0: all.
	Workers int
}

// DefaultKernels are those measured unless others are asked for.
func DefaultKernels() []string { return []string{"integer", "float", "memory-latency", "service"} }

// ModesReport is what [Modes] found.
type ModesReport struct {
	Report  `yaml:",inline"`
	Runs    []ModeRun    `json:"runs" yaml:"runs"`
	Skipped []Skipped    `json:"skipped" yaml:"skipped"`
	Derived ModesDerived `json:"derived" yaml:"derived"`
}

// ModeRun is one kernel, by one carrier, in one mode.
type ModeRun struct {
	Mode    Mode    `json:"mode" yaml:"mode"`
	Kernel  string  `json:"kernel" yaml:"kernel"`
	Carrier Carrier `json:"carrier" yaml:"carrier"`
	Workers int     `json:"workers" yaml:"workers"`
	PerCPU  int     `json:"per_cpu" yaml:"per_cpu"` // workers on each CPU
	// CPUs is the seats, and RanOn where workers were seen.
	CPUs  cpuset.Set `json:"cpus" yaml:"cpus"`
	RanOn cpuset.Set `json:"ran_on" yaml:"ran_on"`
	Unit  string     `json:"unit" yaml:"unit"`
	// Throughput is in units per second, of all workers together; like the other
	// values it has no runs where every trial was disturbed.
	Throughput measured.Value `json:"throughput_per_s" yaml:"throughput_per_s"`
	// Relative is the ratio to one worker alone, trial by trial.
	Relative measured.Value `json:"relative_to_alone" yaml:"relative_to_alone"`
	// Switches from one thread to another that the workers made, per second.
	Switches measured.Value `json:"switches_per_s" yaml:"switches_per_s"`
	// LeastShare is what the worker got that got least, as a share of the mean.
	LeastShare measured.Value   `json:"least_share" yaml:"least_share"`
	ClockGHz   *measured.Value  `json:"clock_ghz,omitempty" yaml:"clock_ghz,omitempty"`
	Verdict    affinity.Verdict `json:"verdict" yaml:"verdict"`
}

// Skipped is a mode that cannot be had here.
type Skipped struct {
	Mode    Mode    `json:"mode" yaml:"mode"`
	Carrier Carrier `json:"carrier,omitempty" yaml:"carrier,omitempty"`
	Why     string  `json:"why" yaml:"why"`
}

// ModesDerived is what follows for a pool of workers, by kernel.
type ModesDerived struct {
	// SMTYield is the extra throughput of using a core's siblings: 0.2 is 20 %
	// more than one of them alone.
	SMTYield map[string]measured.Value `json:"smt_yield" yaml:"smt_yield"`
	// OversubscriptionCostPct is the throughput lost, in per cent, when the same
	// CPUs have several workers each; below 0 is a gain.
	OversubscriptionCostPct map[string]measured.Value `json:"oversubscription_cost_pct" yaml:"oversubscription_cost_pct"`
}

// modeArm is an arm with what it stands for.
type modeArm struct {
	arm
	run   ModeRun
	seats []cpuset.CPU
	each  []string // kernels of the workers, where they differ
	bound bool     // its workers never wait by themselves
}

// shop is what the trials of kernels need.
type shop struct {
	crew *crew
	processes,
	threads []*worker
	async         []*worker
	chase, stream int64 // bytes, for those that need them
	rounds        int   // of service's work
	quota         bool
	close         func()
}

// settling is the time that workers run before they are counted: the clock
// rises, caches fill, and all have begun.
const settling = 10 * time.Millisecond

// openShop makes what kernels work on.
func (s *Settings) openShop(rep *Report, cpus cpuset.Set, kernels []string, most int, quota bool) (*shop, error) {
	sh := &shop{quota: quota}
	llc := lastLevel(&s.Machine.Topology, cpus)
	free := spare(s.Machine)
	wish := max(2*llc, 64<<20)
	var extra []*os.File
	if slices.Contains(kernels, "memory-latency") {
		sh.chase = min(wish, free)
		if sh.chase < wish {
			rep.add(FindMemory, finding.Warning, "the pointer chase goes over %d MiB, not twice the last-level cache (%d MiB): there is no more memory to spare", sh.chase>>20, wish>>20)
		}
		f, err := sharedChase(sh.chase)
		if err != nil {
			return nil, err
		}
		extra = append(extra, f)
	}
	if slices.Contains(kernels, "memory-bandwidth") {
		sh.stream = min(wish, free/2/int64(most))
		if sh.stream < wish {
			rep.add(FindMemory, finding.Warning, "each worker streams over %d MiB, not twice the last-level cache (%d MiB): there is no more memory to spare for %d workers", sh.stream>>20, wish>>20, most)
		}
	}
	if slices.Contains(kernels, "service") {
		sh.rounds = kernel.Rounds(200 * time.Microsecond)
	}
	var err error
	sh.crew, err = s.newCrew(extra...)
	for _, f := range extra {
		sh.close = func() { f.Close() }
	}
	if err != nil {
		return nil, err
	}
	return sh, nil
}

func (sh *shop) end() {
	sh.crew.close()
	if sh.close != nil {
		sh.close()
	}
}

// staff hires the processes that a trial needs.
func (sh *shop) staff(carrier Carrier, seats []cpuset.CPU) ([]*worker, error) {
	list, n := &sh.processes, len(seats)
	var set cpuset.Set
	var environ []string
	switch carrier {
	case Threads:
		list, n = &sh.threads, 1
	case Async:
		list, n = &sh.async, 1
		set, environ = cpuset.Of(seats[0]), []string{"GOMAXPROCS=1"}
	}
	for len(*list) < n {
		w, err := sh.crew.hire(set, environ...)
		if err != nil {
			return nil, err
		}
		*list = append(*list, w)
	}
	return (*list)[:n], nil
}

// trial is one trial of an arm.
func (sh *shop) trial(ctx context.Context, a *modeArm, length time.Duration) (measurement, error) {
	var m measurement
	workers, err := sh.staff(a.run.Carrier, a.seats)
	if err != nil {
		return m, err
	}
	jobs := make([]job, len(workers))
	results := make([][]seatResult, len(workers))
	per := len(a.seats) / len(workers)
	for i, w := range workers {
		args := kernelArgs{Kernel: a.run.Kernel, Async: a.run.Carrier == Async, First: i * per, Rounds: sh.rounds}
		for k := i * per; k < (i+1)*per; k++ {
			args.Seats = append(args.Seats, cpuset.Of(a.seats[k]))
			if a.each != nil {
				args.Each = append(args.Each, a.each[k])
			}
		}
		if a.uses("memory-latency") {
			args.Chase = sh.chase
		}
		if a.uses("memory-bandwidth") {
			args.Stream = sh.stream
		}
		jobs[i] = job{w, "kernel", args, &results[i]}
	}
	// Each worker on a CPU has had its turn by then.
	settle := settling + time.Duration(a.run.PerCPU-1)*4*time.Millisecond
	if err := together(ctx, jobs, settle, length); err != nil {
		return m, err
	}
	return a.add(slices.Concat(results...), length, sh.quota), nil
}

func (a *modeArm) uses(name string) bool {
	return a.run.Kernel == name || slices.Contains(a.each, name)
}

// add makes one measurement of what the workers did.
func (a *modeArm) add(seats []seatResult, length time.Duration, quota bool) measurement {
	m := measurement{more: map[string]float64{}}
	var onCPU, delay, switches int64
	least, clock := seats[0].Units, 0.0
	seconds := length.Seconds()
	for i, s := range seats {
		m.value += s.Units / seconds
		onCPU += s.OnCPU
		delay += s.RunDelay
		switches += s.Voluntary + s.Involuntary
		least = min(least, s.Units)
		clock = max(clock, s.GHz)
		m.more[fmt.Sprint("worker ", i)] = s.Units / seconds
		if own := cpuset.Of(a.seats[i]); !s.RanOn.SubsetOf(own) || !s.Set.Equal(own) {
			m.off = fmt.Sprintf("worker %d of seat %s was seen on %s (allowed: %s)", i, own, s.RanOn, s.Set)
		}
		a.run.RanOn = a.run.RanOn.Union(s.RanOn)
	}
	m.more["switches"] = float64(switches) / seconds
	if m.value > 0 {
		m.more["least"] = least / seconds / (m.value / float64(len(seats)))
	}
	if clock > 0 {
		m.more["clock"] = clock
	}
	switch {
	case quota: // it is the quota that is measured
	case a.bound:
		m.lost = 1 - float64(onCPU)/(float64(length)*float64(a.run.CPUs.Len()))
		if a.run.PerCPU > 1 {
			m.lost -= 0.02 // the switches between them are nobody's time, and their own doing
		}
	case a.run.PerCPU == 1 && a.run.Carrier != Async:
		m.lost = float64(delay) / (float64(length) * float64(len(seats)))
	}
	return m
}

// Modes compares workers alone, in parallel, on siblings and too many.
func Modes(ctx context.Context, s Settings, o ModesOptions) (*ModesReport, error) {
	cpus, err := s.cpus()
	if err != nil {
		return nil, err
	}
	if len(o.Kernels) == 0 {
		o.Kernels = DefaultKernels()
	}
	rep := &ModesReport{Report: s.newReport("modes", cpus), Runs: []ModeRun{}, Skipped: []Skipped{}}
	if len(o.Carriers) == 0 {
		o.Carriers = []Carrier{Processes, Threads}
		if s.Limit < shortTime { // better one known than two unknown
			o.Carriers = o.Carriers[:1]
			rep.add(FindShort, finding.Info, "threads were left out for want of time: give it more, or ask for them")
		}
	}
	if len(o.Over) == 0 {
		o.Over = []int{4}
	}
	return rep, s.runModes(ctx, rep, s.modeArms(rep, cpus, &o), o.Kernels)
}

// modeArms are the arms that can be had; the report is told of the others.
func (s *Settings) modeArms(rep *ModesReport, cpus cpuset.Set, o *ModesOptions) []*modeArm {
	var arms []*modeArm
	cores, other := s.cores(cpus)
	if len(other) > 0 {
		rep.add(FindKinds, finding.Info, "measured on cores of kind %s; those of kind %v are left out, since they differ", cores[0].kind, other)
	}
	if o.Workers > 0 && o.Workers < len(cores) {
		cores = cores[:o.Workers]
	}
	own := make([]cpuset.CPU, len(cores))
	for i, c := range cores {
		own[i] = c.cpus[0]
	}
	paired := slices.IndexFunc(cores, func(c core) bool { return len(c.cpus) > 1 })
	add := func(mode Mode, kernel string, carrier Carrier, per int, seats ...cpuset.CPU) {
		a := &modeArm{seats: seats, bound: kernel != "service"}
		a.run = ModeRun{Mode: mode, Kernel: kernel, Carrier: carrier, Workers: len(seats), PerCPU: per,
			CPUs: cpuset.Of(seats...), Unit: unitOf(kernel)}
		a.name = fmt.Sprintf("%s, %s, %s", kernel, carrier, mode)
		if mode == Oversubscribed {
			a.name += fmt.Sprintf(" %d×", per)
		}
		arms = append(arms, a)
	}
	for _, carrier := range o.Carriers {
		skip := func(mode Mode, format string, args ...any) {
			rep.Skipped = append(rep.Skipped, Skipped{mode, carrier, fmt.Sprintf(format, args...)})
		}
		set := own
		switch {
		case carrier == Async:
			set = own[:1]
			skip(Parallel, "one thread runs its tasks on one CPU")
			skip(SMT, "one thread runs its tasks on one CPU")
		case len(cores) == 1:
			skip(Parallel, "only one core is there to measure on: CPUs %s", cpus)
		}
		if carrier != Async && paired < 0 {
			skip(SMT, "%s", s.whyNoSMT(cpus))
		}
		for _, k := range o.Kernels {
			add(Alone, k, carrier, 1, own[0])
			if carrier != Async && len(cores) > 1 {
				add(Parallel, k, carrier, 1, own...)
			}
			if carrier != Async && paired >= 0 {
				add(SMT, k, carrier, 1, cores[paired].cpus...)
			}
			for _, per := range o.Over {
				add(Oversubscribed, k, carrier, per, slices.Repeat(set, per)...)
			}
		}
	}
	return arms
}

// siblings are the CPUs of the same cores: their work is felt too.
func (s *Settings) siblings(cpus cpuset.Set) cpuset.Set {
	all := cpus
	for i := range s.Machine.Topology.Cores {
		if c := s.Machine.Topology.Cores[i].CPUs; c.Overlaps(cpus) {
			all = all.Union(c)
		}
	}
	return all.Intersect(s.Machine.Topology.Online)
}

// whyNoSMT says why no two CPUs of the set are siblings.
func (s *Settings) whyNoSMT(cpus cpuset.Set) string {
	t := &s.Machine.Topology
	for i := range t.Cores {
		if t.Cores[i].CPUs.Len() > 1 {
			return fmt.Sprintf("no core has two of the CPUs %s", cpus)
		}
	}
	if t.SMT != nil && (t.SMT.Control == "off" || t.SMT.Control == "forceoff") {
		return "SMT is switched off (/sys/devices/system/cpu/smt/control)"
	}
	return "no core here has more than one CPU"
}

func unitOf(name string) string { return kernel.Unit(name) }

// runModes measures the arms and fills in the report.
func (s *Settings) runModes(ctx context.Context, rep *ModesReport, arms []*modeArm, kernels []string) error {
	began := time.Now()
	most, busiest := 0, 0
	for _, a := range arms {
		most = max(most, len(a.seats))
		busiest = max(busiest, a.run.CPUs.Len())
	}
	limit, quota := s.quotaBelow(busiest)
	if quota {
		rep.add(FindQuota, finding.Warning, "a CPU quota gives this process the time of %.4g CPUs, fewer than the %d measured on: what several workers get here is that quota, not the cores", limit, busiest)
	}
	if floats(s.Machine) {
		rep.add(FindFloating, finding.Info, floating)
	}
	sh, err := s.openShop(&rep.Report, rep.CPUSet, kernels, most, quota)
	if err != nil {
		return err
	}
	defer sh.end()
	r := &rounds{settings: s, report: &rep.Report, workers: busiest, children: sh.crew.pids, deadline: began.Add(s.Limit)}
	for _, a := range arms {
		a.trial = func(ctx context.Context, length time.Duration) (measurement, error) { return sh.trial(ctx, a, length) }
		a.watched = s.siblings(a.run.CPUs)
		if alone := findArm(arms, a, Alone); alone != a {
			a.base = &alone.arm
		}
		r.arms = append(r.arms, &a.arm)
	}
	r.window = s.windowFor(time.Until(r.deadline), len(arms), 12, 20*time.Millisecond, 400*time.Millisecond)
	if quota {
		r.window = max(r.window, 300*time.Millisecond) // a few of its periods
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	rep.WallS = time.Since(began).Seconds()
	rep.fill(arms)
	return nil
}

// windowFor is the time to count in one trial, so that as many rounds as asked
// fit into the time that is left.
func (s *Settings) windowFor(left time.Duration, arms, rounds int, least, most time.Duration) time.Duration {
	if s.Window > 0 {
		return s.Window
	}
	const overhead = settling + 5*time.Millisecond
	return min(max(left/time.Duration(arms*rounds)-overhead, least), most)
}

func findArm(arms []*modeArm, like *modeArm, mode Mode) *modeArm {
	for _, a := range arms {
		if a.run.Mode == mode && a.run.Kernel == like.run.Kernel && a.run.Carrier == like.run.Carrier {
			return a
		}
	}
	return nil
}

// fill turns trials into values.
func (rep *ModesReport) fill(arms []*modeArm) {
	rep.Derived = ModesDerived{map[string]measured.Value{}, map[string]measured.Value{}}
	find := func(like *modeArm, mode Mode) *modeArm { return findArm(arms, like, mode) }
	slowest, fastest := 0.0, 0.0
	for _, a := range arms {
		for _, ghz := range a.values("clock") {
			if slowest == 0 || ghz < slowest {
				slowest = ghz
			}
			fastest = max(fastest, ghz)
		}
	}
	if slowest < 0.9*fastest {
		rep.add(FindClock, finding.Info, "the clock was not steady: it was seen at %.2f to %.2f GHz; what is relative to one alone is of the same round, and suffers less", slowest, fastest)
	}
	for _, a := range arms {
		if a.run.RanOn.IsEmpty() { // no trial came to its end
			continue
		}
		run := a.run
		run.Throughput = measured.Of(a.values(""))
		run.Switches = measured.Of(a.values("switches"))
		run.LeastShare = measured.Of(a.values("least"))
		if ghz := a.values("clock"); len(ghz) > 0 {
			v := measured.Of(ghz)
			run.ClockGHz = &v
		}
		alone := find(a, Alone)
		run.Relative = measured.Of(a.over(&alone.arm))
		run.Verdict = affinity.Measured
		if !a.known() || !alone.known() || rep.Verdict == affinity.Inconclusive && (a.noisy*2 > a.noisy+len(a.round)) {
			run.Verdict = affinity.Inconclusive
		}
		rep.Runs = append(rep.Runs, run)
		if !a.known() || !alone.known() {
			continue
		}
		if _, done := rep.Derived.SMTYield[run.Kernel]; run.Mode == SMT && !done {
			rep.Derived.SMTYield[run.Kernel] = run.Relative.Plus(-1)
		}
		if _, done := rep.Derived.OversubscriptionCostPct[run.Kernel]; run.Mode == Oversubscribed && !done {
			base := cmp.Or(find(a, Parallel), alone)
			if base.known() {
				rep.Derived.OversubscriptionCostPct[run.Kernel] = measured.Of(a.over(&base.arm)).Plus(-1).Scaled(-100)
			}
		}
	}
}
