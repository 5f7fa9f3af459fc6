package advisor

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

// DivisionSchema names the JSON document that a [Division] marshals to.
const DivisionSchema = "berth.division/v1"

// Division says which workload gets which part of a machine.
type Division struct {
	Schema  string `json:"schema" yaml:"schema"`
	Machine string `json:"machine_fingerprint,omitempty" yaml:"machine_fingerprint,omitempty"`
	// BudgetCPUs is how many CPUs' worth of time there is to divide.
	BudgetCPUs float64    `json:"budget_cpus" yaml:"budget_cpus"`
	Feasible   bool       `json:"feasible" yaml:"feasible"`                     // every part's plan is
	Remedies   []string   `json:"remedies,omitempty" yaml:"remedies,omitempty"` // what would make it feasible
	Parts      []Part     `json:"parts" yaml:"parts"`                           // in the order of the profiles
	LeftCPUs   cpuset.Set `json:"left_cpus" yaml:"left_cpus"`                   // that could be used and nobody has
	Reasons    []string   `json:"reasons" yaml:"reasons"`
	// Assumptions are those of the division; the plans have their own.
	Assumptions []string `json:"assumptions" yaml:"assumptions"`
}

// Part is what one workload gets, and its plan there.
type Part struct {
	Profile string     `json:"profile" yaml:"profile"` // its name
	CPUs    cpuset.Set `json:"cpus" yaml:"cpus"`
	// BudgetCPUs is the time of them that is counted as this part's, in CPUs: all of
	// it, less what goes to those it shares with, or its part of the quota. Over all
	// parts they add up to no more than the division's.
	BudgetCPUs float64 `json:"budget_cpus" yaml:"budget_cpus"`
	// DemandCPUs is what the workload can use, in CPUs of the fastest kind; nil: all it
	// can get.
	DemandCPUs *float64 `json:"demand_cpus" yaml:"demand_cpus"`
	Priority   float64  `json:"priority" yaml:"priority"`
	SharesWith []string `json:"shares_with" yaml:"shares_with"` // the parts with which it has cores in common
	Plan       *Plan    `json:"plan" yaml:"plan"`
}

// Divide plans several workloads beside each other on one machine. It is pure, as
// [Advise] is. The order of the profiles decides nothing: where all else is equal,
// the name does.
//
// Each gets CPUs up to its demand, by weighted max–min fairness: nobody's part could
// grow but at the cost of one that has less for its priority (Bertsekas and Gallager,
// Data Networks, 2nd edition 1992, section 6.5.2, whose progressive filling goes here
// by whole cores). Its plan is that of Advise on a machine of these CPUs. Under a
// quota smaller than the CPUs the time is divided so, and the CPUs are not.
//
// A single profile has the machine, and its plan is Advise's. An error is one of
// Advise's, no profile, or two of one name.
func Divide(m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) (*Division, error) {
	d, err := newDivider(m, ps, c)
	if err != nil {
		return nil, err
	}
	if len(ps) == 1 {
		return d.undivided(), nil
	}
	if d.timeOnly() {
		d.openCPUs()
	} else {
		d.divideCores()
	}
	d.divideTime()
	if err := d.plan(d.shares); err != nil {
		return nil, err
	}
	if err := d.divideMemory(); err != nil {
		return nil, err
	}
	return d.report(), nil
}

// share is one workload in a division on its way.
type share struct {
	at      int // among the profiles
	p       *profiles.Profile
	alone   *study // with the machine for itself
	weight  float64
	demand  float64    // in CPUs of the fastest kind; +Inf: all it can get
	why     string     // the demand is that
	avoid   cpuset.Set // limits.avoid_cpus
	may     cpuset.Set // the others of divider.room
	ignored bool       // there are no others
	choice  int        // of how many cores: those of which it may have a CPU
	near    int        // the node that it wants to be near, in divider.room, or -1
	cores   []int      // that it has, of divider.room
	speed   float64    // of them all, in cores of the fastest kind
	wants   []int      // how many cores of each kind it is to have
	guests  float64    // the demand of those that sit on its cores
	budget  float64
	memory  float64 // MiB, where it was divided; else 0
	plan    *Plan
}

func (s *share) latency() bool { return s.p.Objective == profiles.Latency }

// divider divides one machine.
type divider struct {
	machine     *probe.Machine
	calibration *probe.Calibration
	room        *room      // what there is to divide
	shares      []*share   // by name
	on          [][]*share // for each core, who has it, its owner first
	short       bool       // all cores were to be left empty, which was overruled
	needMiB     float64    // of memory in all, where it cannot hold a worker of each
	reasons     []string
	assumptions []string
}

func (d *divider) reason(format string, args ...any) {
	d.reasons = append(d.reasons, fmt.Sprintf(format, args...))
}

func (d *divider) assume(format string, args ...any) {
	d.assumptions = append(d.assumptions, fmt.Sprintf(format, args...))
}

func newDivider(m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) (*divider, error) {
	if len(ps) == 0 {
		return nil, errors.New("there is no profile to give a part of the machine to")
	}
	d := &divider{machine: m, calibration: c}
	var avoided []cpuset.Set
	empty := 0
	for i, p := range ps {
		if slices.ContainsFunc(d.shares, func(s *share) bool { return s.p.Name == p.Name }) {
			return nil, fmt.Errorf("two profiles have the name %q: their parts could not be told apart; give one another name", p.Name)
		}
		alone, err := consider(m, p, c)
		if err != nil {
			return nil, err
		}
		s := &share{at: i, p: p, alone: alone, weight: p.Weight(), near: -1}
		s.demand, s.why = alone.demandCPUs()
		if s.avoid, err = cpuset.Parse(p.Limits.AvoidCPUs); err != nil {
			return nil, fmt.Errorf("limits.avoid_cpus: %w", err)
		}
		d.shares = append(d.shares, s)
		avoided = append(avoided, s.avoid)
		empty = max(empty, int(p.Limits.ReserveCores))
	}
	slices.SortFunc(d.shares, func(a, b *share) int { return strings.Compare(a.p.Name, b.p.Name) })
	if err := d.open(empty, cpuset.UnionAll(avoided...)); err != nil {
		return nil, err
	}
	for _, s := range d.shares {
		if s.may = d.room.cpus.Minus(s.avoid); s.may.IsEmpty() {
			s.may, s.ignored = lastCore(allCores(&m.Topology), d.room.cpus), true
		} else if s.avoid.Overlaps(d.room.cpus) {
			d.reason("%s keeps away from CPUs %s", s.p.Name, s.avoid.Intersect(d.room.cpus))
		}
		if s.alone.near >= 0 {
			id := s.alone.nodes[s.alone.near].id
			s.near = slices.IndexFunc(d.room.nodes, func(n node) bool { return n.known && n.id == id })
		}
	}
	return d, nil
}

// open finds what there is to divide: the CPUs that a workload of no wishes could
// use, less the cores that one of these wants left empty. Those are empty for all.
func (d *divider) open(empty int, avoid cpuset.Set) error {
	m := d.machine
	whole, err := newRoom(m, &profiles.Profile{})
	if err != nil {
		return err
	}
	d.reasons = append(d.reasons, whole.reasons...)
	cores := allCores(&m.Topology)
	kept := reserved(cores, whole.cpus, avoid, empty)
	left := whole.cpus.Minus(kept)
	switch {
	case left.IsEmpty():
		d.short = true
		left = lastCore(cores, whole.cpus)
	case !kept.IsEmpty():
		d.reason("kept out for all: CPUs %s (reserve_cores %d is the most that one asks for)", kept, empty)
	}
	if d.room, err = newRoom(narrowed(m, left), &profiles.Profile{}); err != nil {
		return err
	}
	d.on = make([][]*share, len(d.room.cores))
	d.assumptions = append(d.assumptions, d.room.assumptions...)
	return nil
}

// narrowed is the machine with fewer CPUs allowed.
func narrowed(m *probe.Machine, cpus cpuset.Set) *probe.Machine {
	out := *m
	if m.Host.Container != "" && m.Topology.Allowed.Equal(m.Topology.Online) {
		out.Topology.Online = cpus // a part of what others use is no more its own than the whole
	}
	out.Topology.Allowed = cpus
	out.Limits.EffectiveCPUs = math.Min(m.Limits.EffectiveCPUs, float64(cpus.Len()))
	return &out
}

// undivided is the machine of one workload.
func (d *divider) undivided() *Division {
	s := d.shares[0]
	s.plan, s.budget, s.may = s.alone.plan, s.alone.budget(), s.alone.cpus
	d.room.cpus, d.room.quota = s.alone.cpus, s.alone.quota
	d.reasons, d.assumptions = []string{s.p.Name + " has the machine for itself"}, nil
	out := d.report()
	out.Parts[0].CPUs, out.LeftCPUs = s.may, cpuset.Set{}
	return out
}

// isolated: whatever runs here needs a CPU of its own, as nothing balances it.
func (d *divider) isolated() bool {
	isolated := d.machine.Topology.Isolated
	return isolated != nil && d.room.cpus.SubsetOf(*isolated)
}

// timeOnly: under a quota smaller than the CPUs nobody is pinned.
func (d *divider) timeOnly() bool { return !math.IsInf(d.room.quota, 1) && !d.isolated() }

// openCPUs lets everybody use all CPUs that it does not avoid.
func (d *divider) openCPUs() {
	d.reason("the time of %s CPUs is divided, and not the %d CPUs: whoever is held to some of them would wait while others idle",
		number(d.room.quota), d.room.cpus.Len())
	for _, s := range d.shares {
		for c := range d.room.cores {
			if d.mayHave(s, c) {
				d.give(c, s)
			}
		}
	}
	d.explainDemands()
}

func (d *divider) explainDemands() {
	for _, s := range d.shares {
		name := s.p.Name
		if s.p.Priority != nil {
			name += ", priority " + number(s.weight)
		}
		d.reason("%s: %s", name, s.why)
	}
}

// plan plans for some, each on its part.
func (d *divider) plan(shares []*share) error {
	for _, s := range shares {
		cpus := d.cpusOf(s)
		m := narrowed(d.machine, cpus)
		m.Limits.QuotaCPUs = nil
		if !math.IsInf(d.room.quota, 1) && s.budget < float64(cpus.Len())*(1-slack) {
			m.Limits.QuotaCPUs = &s.budget
			m.Limits.EffectiveCPUs = s.budget
		}
		if s.memory > 0 {
			bytes := int64(math.Ceil(s.memory / (1 - s.p.Limits.MemoryReserveFraction) * (1 << 20)))
			m.Limits.MemoryBytes = &bytes
		}
		p := *s.p // of which the division heeded these, but where it could not
		if !d.short {
			p.Limits.ReserveCores = 0
		}
		if !s.ignored {
			p.Limits.AvoidCPUs = ""
		}
		own, err := consider(m, &p, d.calibration)
		if err != nil {
			return err
		}
		if !cpus.Equal(d.room.cpus) {
			own.keepWithin()
		}
		own.plan.Placement.keepOut(d.machine, cpus)
		s.plan = own.plan
	}
	return nil
}

// keepWithin gives each process the CPUs of its part as its seat, where its plan would
// leave it unpinned: nothing else keeps it off the CPUs of others.
func (s *study) keepWithin() {
	w, place := s.plan.Workers, &s.plan.Placement
	if place.Pin != NoPin || !math.IsInf(s.quota, 1) {
		return
	}
	if w.Processes > crowd*s.cpus.Len() {
		s.plan.Reasons = append(s.plan.Reasons, fmt.Sprintf("%d processes are too many for a list of seats: nothing here holds them to CPUs %s", w.Processes, s.cpus))
		return
	}
	var all []slot
	for c := range s.cores {
		for _, cpu := range s.cores[c].cpus {
			all = append(all, slot{cpu, c})
		}
	}
	seat := s.seat(0, nil, all...)
	for seat.Worker = range w.Processes {
		place.Seats = append(place.Seats, seat)
	}
	place.Pin, place.KeptOut = PerGroup, nil
	place.Why = "within its part, and pinned no closer" + strings.TrimPrefix(place.Why, "not pinned")
}

// cpusOf are the CPUs of somebody's cores.
func (d *divider) cpusOf(s *share) cpuset.Set {
	var cpus []cpuset.CPU
	for _, c := range s.cores {
		cpus = append(cpus, d.room.cores[c].cpus...)
	}
	return cpuset.Of(cpus...).Intersect(s.may)
}

func (d *divider) report() *Division {
	out := &Division{
		Schema: DivisionSchema, Machine: d.machine.Fingerprint, BudgetCPUs: *figure(d.room.budget()), Feasible: true,
		Parts: make([]Part, len(d.shares)),
	}
	left := d.room.cpus
	for _, s := range d.shares {
		part := Part{
			Profile: s.p.Name, CPUs: d.cpusOf(s), BudgetCPUs: *figure(s.budget), DemandCPUs: figure(s.demand),
			Priority: s.weight, SharesWith: orEmpty(d.sharers(s)), Plan: s.plan,
		}
		left = left.Minus(part.CPUs)
		out.Parts[s.at] = part
	}
	if d.needMiB > 0 {
		out.Remedies = append(out.Remedies, fmt.Sprintf("%s MiB of memory (now %s)", number(math.Ceil(d.needMiB)), number(d.room.memoryMiB)))
	}
	for _, part := range out.Parts {
		if !part.Plan.Feasible {
			out.Feasible = false
			for _, r := range part.Plan.Remedies {
				out.Remedies = append(out.Remedies, part.Profile+": "+r)
			}
		}
	}
	out.LeftCPUs = left
	out.Reasons, out.Assumptions = orEmpty(d.reasons), orEmpty(d.assumptions)
	return out
}

// sharers are the others that have a core of this one.
func (d *divider) sharers(s *share) []string {
	var names []string
	for _, other := range d.shares {
		if other != s && slices.ContainsFunc(s.cores, func(c int) bool { return slices.Contains(d.on[c], other) }) {
			names = append(names, other.p.Name)
		}
	}
	return names
}
