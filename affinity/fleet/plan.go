//go:build linux

package fleet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"berth/advisor"
	"berth/probe"
	"berth/profiles"
)

// PlanSchema names the JSON document that a [Plan] marshals to.
const PlanSchema = "berth.fleet-plan/v1"

// Plan is a workload on a whole fleet: a plan for each shape, and what all of
// them yield together.
type Plan struct {
	Schema  string `json:"schema" yaml:"schema"`
	Profile string `json:"profile" yaml:"profile"` // its name
	Parts   []Part `json:"parts" yaml:"parts"`
	// Nodes is how many have work, Workers and Threads what runs on all of them.
	Nodes   int `json:"nodes" yaml:"nodes"`
	Workers int `json:"workers" yaml:"workers"` // processes
	Threads int `json:"threads" yaml:"threads"` // that want a CPU
	// InFlight is the number of tasks at once in all event loops together.
	InFlight int `json:"in_flight,omitempty" yaml:"in_flight,omitempty"`
	// Binding is what stops a larger count in the fleet as a whole.
	Binding advisor.Binding `json:"binding" yaml:"binding"`
	// ThroughputPS is of all nodes, in tasks per second; nil where the model cannot say.
	ThroughputPS *float64 `json:"throughput_per_s,omitempty" yaml:"throughput_per_s,omitempty"`
	Feasible     bool     `json:"feasible" yaml:"feasible"`
	Reasons      []string `json:"reasons" yaml:"reasons"`
	Assumptions  []string `json:"assumptions" yaml:"assumptions"`
}

// ReadPlan reads a berth.fleet-plan/v1 document, which errors call name. What a
// launcher relies on in the nodes' plans is checked, as [advisor.Read] does.
func ReadPlan(r io.Reader, name string) (*Plan, error) {
	p := &Plan{}
	if err := probe.ReadDocument(r, name, PlanSchema, p); err != nil {
		return nil, err
	}
	for i := range p.Parts {
		part := &p.Parts[i]
		if part.Plan == nil {
			continue
		}
		text, err := json.Marshal(part.Plan)
		if err != nil {
			return nil, err
		}
		if part.Plan, err = advisor.Read(bytes.NewReader(text), fmt.Sprintf("%s: parts[%d].plan", name, i)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Part is nodes of one shape that do the same.
type Part struct {
	Shape int      `json:"shape" yaml:"shape"` // its ID in the fleet
	Nodes []string `json:"nodes" yaml:"nodes"`
	// Weight is a node's part of what the fleet can do, as a fraction of 1.
	Weight float64 `json:"weight" yaml:"weight"`
	Share  Share   `json:"share" yaml:"share"`
	// Plan is that of each node; nil: no work, and Why says why.
	Plan *advisor.Plan `json:"plan,omitempty" yaml:"plan,omitempty"`
	Why  string        `json:"why,omitempty" yaml:"why,omitempty"`
}

// Share is what one node gets of what the whole fleet has. Nil: there is no
// such figure.
type Share struct {
	Tasks       *int64   `json:"tasks,omitempty" yaml:"tasks,omitempty"`
	Downstream  *int64   `json:"downstream_concurrency,omitempty" yaml:"downstream_concurrency,omitempty"`
	ArrivalPerS *float64 `json:"arrival_per_s,omitempty" yaml:"arrival_per_s,omitempty"`
}

// BySlowest: work in equal shares ends when the slowest worker does.
const BySlowest advisor.Binder = "slowest_shape"

// AdviseOptions are what a plan may know beyond the fleet.
type AdviseOptions struct {
	// Calibration is what was measured on a kind of hardware; it may be nil, and
	// so may its answer.
	Calibration func(fingerprint string) *probe.Calibration
	// Speed is how fast a core of a shape is, by the shape's ID; 1 where nothing is said.
	Speed map[int]float64
}

// Advise plans a workload on all nodes of a fleet that answered. The tasks, the
// arrivals and the concurrency downstream of the profile are the whole fleet's:
// they are divided among the nodes by what each can do. An error is a fleet
// without a node, a shape that has no CPU for the workload, or a calibration of
// another machine.
func Advise(f *Fleet, p *profiles.Profile, o AdviseOptions) (*Plan, error) {
	if len(f.Shapes) == 0 {
		return nil, fmt.Errorf("no node of the fleet has answered, so there is nothing to plan for")
	}
	d := &division{fleet: f, profile: p, options: o}
	if err := d.weigh(); err != nil {
		return nil, err
	}
	out := &Plan{Schema: PlanSchema, Profile: p.Name, Parts: []Part{}, Feasible: true, Reasons: []string{}, Assumptions: []string{}}
	d.leaveOutSlow()
	for i := range d.sides {
		parts, err := d.parts(&d.sides[i])
		if err != nil {
			return nil, err
		}
		out.Parts = append(out.Parts, parts...)
	}
	d.sum(out)
	out.Reasons = append(out.Reasons, d.reasons...)
	out.Assumptions = append(out.Assumptions, d.assumptions()...)
	return out, nil
}

// division shares a workload out among the shapes of a fleet.
type division struct {
	fleet   *Fleet
	profile *profiles.Profile
	options AdviseOptions
	sides   []side
	weight  float64 // of all nodes with work
	reasons []string
	slowest string // what the slowest shape costs
	tasks   []int64
	down    []int64
}

// side is a shape in a division.
type side struct {
	shape *Shape
	speed float64
	alone *advisor.Plan // as if the node were all there is
	can   float64       // what a node can do, in one unit for all shapes
	out   string        // why it has no work
}

func (s *side) nodes() int { return len(s.shape.Nodes) }

// rate is a worker's own, if all work alike.
func (s *side) rate() float64 { return s.can / float64(s.alone.Workers.Total()) }

func (d *division) advise(s *side, p *profiles.Profile) (*advisor.Plan, error) {
	if s.speed != 1 && p.Work.CPUMS != nil {
		faster := *p.Work.CPUMS / s.speed
		p.Work.CPUMS, p.Work.NativeMS = &faster, p.Work.NativeMS/s.speed
	}
	var c *probe.Calibration
	if d.options.Calibration != nil {
		c = d.options.Calibration(s.shape.Fingerprint)
	}
	plan, err := advisor.Advise(s.shape.Inspect, p, c)
	if err != nil {
		return nil, fmt.Errorf("shape %d (%s): %w", s.shape.ID, Fold(s.shape.Nodes[:1]), err)
	}
	return plan, nil
}

// weigh finds what a node of each shape can do when nothing that the whole
// fleet shares holds it up: tasks per second where they are known for all, else
// capacity.
func (d *division) weigh() error {
	for i := range d.fleet.Shapes {
		s := side{shape: &d.fleet.Shapes[i], speed: 1}
		if x, ok := d.options.Speed[s.shape.ID]; ok {
			s.speed = x
		}
		p := *d.profile
		p.Load.Tasks, p.Load.ArrivalPerS, p.Limits.DownstreamConcurrency = nil, nil, nil
		var err error
		if s.alone, err = d.advise(&s, &p); err != nil {
			return err
		}
		d.sides = append(d.sides, s)
	}
	for _, unit := range []func(*side) *float64{
		func(s *side) *float64 { return s.alone.Predicted.ThroughputPS },
		func(s *side) *float64 { return scaled(s.alone.Predicted.Capacity, s.speed) },
		func(s *side) *float64 { return scaled(s.alone.Predicted.Speedup, s.speed) },
		func(s *side) *float64 { return scaled(&s.alone.BudgetCPUs, s.speed) },
	} {
		known := true
		for i := range d.sides {
			x := unit(&d.sides[i])
			if known = x != nil && *x > 0; !known {
				break
			}
			d.sides[i].can = *x
		}
		if known {
			break
		}
	}
	return nil
}

func scaled(x *float64, by float64) *float64 {
	if x == nil {
		return nil
	}
	y := *x * by
	return &y
}

// leaveOutSlow gives work in equal shares to the shapes that do most with it:
// every worker gets as much, so that n of them do n times what the slowest does.
func (d *division) leaveOutSlow() {
	if d.profile.Work.Partition == profiles.Static && len(d.sides) > 1 {
		order := make([]*side, len(d.sides))
		for i := range d.sides {
			order[i] = &d.sides[i]
		}
		slices.SortStableFunc(order, func(a, b *side) int { return cmp.Compare(b.rate(), a.rate()) })
		best, most, workers, even := 0, 0.0, 0.0, 0.0
		for i, s := range order {
			workers += float64(s.nodes() * s.alone.Workers.Total())
			even += float64(s.nodes()) * s.can
			if total := workers * s.rate(); total > most*(1+1e-9) {
				best, most = i, total
			}
		}
		for _, s := range order[best+1:] {
			s.out = fmt.Sprintf("in equal shares its workers, at %s of the rate of the others, would hold up all", percent(s.rate()/order[best].rate()))
		}
		if most < even*(1-1e-9) {
			slow := order[best]
			d.slowest = fmt.Sprintf("shares are equal, and a worker of shape %d does %s of what one of shape %d does", slow.shape.ID, percent(slow.rate()/order[0].rate()), order[0].shape.ID)
			d.reason("static: equal shares use %s of what the nodes can do; shares by the nodes' weights would use all of it", percent(most/even))
		}
	}
	for i := range d.sides {
		if s := &d.sides[i]; s.out == "" {
			d.weight += float64(s.nodes()) * s.can
		}
	}
	d.tasks, d.down = d.deal(d.profile.Load.Tasks, "tasks"), d.deal(d.profile.Limits.DownstreamConcurrency, "places downstream")
}

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

func (d *division) reason(format string, args ...any) {
	d.reasons = append(d.reasons, fmt.Sprintf(format, args...))
}

// deal gives each node its part of a whole number, by largest remainders; per
// shape it returns the sum over its nodes. Nodes of one shape differ by one at
// most.
func (d *division) deal(all *int64, what string) []int64 {
	if all == nil {
		return nil
	}
	out := make([]int64, len(d.sides))
	left := *all
	rest := make([]float64, len(d.sides))
	for i := range d.sides {
		if s := &d.sides[i]; s.out == "" {
			exact := float64(*all) * s.can / d.weight
			whole := int64(exact * (1 + 1e-12))
			out[i], rest[i] = whole*int64(s.nodes()), exact-float64(whole)
			left -= out[i]
		}
	}
	order := make([]int, len(d.sides))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for _, i := range order {
		if s := &d.sides[i]; s.out == "" {
			more := min(left, int64(s.nodes()))
			out[i] += more
			left -= more
		}
	}
	d.reason("%s: %d are divided over the nodes by what each can do", what, *all)
	return out
}

// parts are the nodes of a shape by what they do.
func (d *division) parts(s *side) ([]Part, error) {
	whole := Part{Shape: s.shape.ID, Nodes: s.shape.Nodes, Why: s.out}
	if s.out != "" {
		return []Part{whole}, nil
	}
	whole.Weight = s.can / d.weight
	n := int64(s.nodes())
	cuts := []int64{0, n}
	each := func(sums []int64) (low, more int64, ok bool) {
		if sums == nil {
			return 0, 0, false
		}
		sum := sums[s.shape.ID-1]
		cuts = append(cuts, sum%n)
		return sum / n, sum % n, true
	}
	tasks, moreTasks, haveTasks := each(d.tasks)
	down, moreDown, haveDown := each(d.down)
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var out []Part
	for i, from := range cuts[:len(cuts)-1] {
		part := whole
		part.Nodes = s.shape.Nodes[from:cuts[i+1]]
		p := *d.profile
		give := func(low, more int64) *int64 {
			if from < more {
				low++
			}
			return &low
		}
		if haveTasks {
			part.Share.Tasks = give(tasks, moreTasks)
			p.Load.Tasks = part.Share.Tasks
		}
		if haveDown {
			part.Share.Downstream = give(down, moreDown)
			p.Limits.DownstreamConcurrency = part.Share.Downstream
		}
		if rate := d.profile.Load.ArrivalPerS; rate != nil {
			mine := *rate * part.Weight
			part.Share.ArrivalPerS = &mine
			p.Load.ArrivalPerS = &mine
		}
		switch {
		case haveTasks && *part.Share.Tasks == 0:
			part.Why = fmt.Sprintf("there are only %d tasks", *d.profile.Load.Tasks)
		case haveDown && *part.Share.Downstream == 0:
			part.Why = fmt.Sprintf("what is waited for takes only %d at once", *d.profile.Limits.DownstreamConcurrency)
		default:
			var err error
			if part.Plan, err = d.advise(s, &p); err != nil {
				return nil, err
			}
		}
		out = append(out, part)
	}
	return out, nil
}

// sum adds the parts up and finds what binds all of them.
func (d *division) sum(out *Plan) {
	throughput, slow, known, workers := 0.0, math.Inf(1), true, 0
	bound := map[advisor.Binder]int{} // nodes
	details := map[advisor.Binder]string{}
	var names []advisor.Binder
	starved := ""
	for i := range out.Parts {
		part := &out.Parts[i]
		if part.Plan == nil {
			if d.sides[part.Shape-1].out == "" {
				starved = part.Why
			}
			continue
		}
		n, w := len(part.Nodes), part.Plan.Workers
		out.Nodes += n
		out.Workers += n * w.Processes
		out.Threads += n * w.Total()
		out.InFlight += n * w.InFlight
		out.Feasible = out.Feasible && part.Plan.Feasible
		if x := part.Plan.Predicted.ThroughputPS; x != nil {
			throughput += float64(n) * *x
			slow = math.Min(slow, *x/float64(w.Total()))
			workers += n * w.Total()
		} else {
			known = false
		}
		b := part.Plan.Binding
		if bound[b.Name] == 0 {
			names = append(names, b.Name)
			details[b.Name] = b.Detail
		}
		bound[b.Name] += n
	}
	if known && out.Nodes > 0 {
		if d.profile.Work.Partition == profiles.Static {
			throughput = slow * float64(workers)
		}
		out.ThroughputPS = &throughput
	}
	slices.SortStableFunc(names, func(a, b advisor.Binder) int { return bound[b] - bound[a] })
	has := func(b advisor.Binder) bool { return bound[b] > 0 }
	switch {
	case d.profile.Load.Tasks != nil && (has(advisor.ByTasks) || strings.HasSuffix(starved, "tasks")):
		out.Binding = advisor.Binding{Name: advisor.ByTasks, Detail: fmt.Sprintf("there are %d tasks for %d nodes", *d.profile.Load.Tasks, d.fleet.Totals.Answered)}
	case d.profile.Limits.DownstreamConcurrency != nil && (has(advisor.ByDown) || starved != ""):
		out.Binding = advisor.Binding{Name: advisor.ByDown, Detail: fmt.Sprintf("what is waited for takes %d at once from %d nodes together", *d.profile.Limits.DownstreamConcurrency, d.fleet.Totals.Answered)}
	case d.slowest != "":
		out.Binding = advisor.Binding{Name: BySlowest, Detail: d.slowest}
	case len(names) == 1:
		out.Binding = advisor.Binding{Name: names[0], Detail: "on every node; " + details[names[0]]}
	default:
		var list []string
		for _, b := range names {
			list = append(list, fmt.Sprintf("%s on %d", b, bound[b]))
		}
		out.Binding = advisor.Binding{Name: names[0], Detail: "not the same on all nodes: " + strings.ReplaceAll(strings.Join(list, ", "), "_", " ")}
	}
}

func (d *division) assumptions() []string {
	var out []string
	hardware := map[string]bool{}
	for _, s := range d.fleet.Shapes {
		hardware[s.Fingerprint] = true
	}
	if len(hardware) > 1 && len(d.options.Speed) == 0 {
		out = append(out, fmt.Sprintf("A core counts the same on all %d kinds of hardware: nobody measured how fast each does this work. --speed SHAPE=FACTOR says it.", len(hardware)))
	}
	if missing := d.fleet.Totals.Nodes - d.fleet.Totals.Answered; missing > 0 {
		out = append(out, fmt.Sprintf("%d nodes gave no answer and have no part in the plan.", missing))
	}
	return out
}
