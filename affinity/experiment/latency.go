//go:build linux

package experiment

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"berth/affinity/experiment/handover"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// LatencyOptions say which pairs of CPUs [Latency] measures.
type LatencyOptions struct {
	// AllPairs measures every pair of CPUs; else, where they are many, some of
	// each group that shares a last-level cache stand for the others.
	AllPairs bool
}

// LatencyReport is what [Latency] found: how long a cache line takes from one
// CPU to another, one way, in nanoseconds.
type LatencyReport struct {
	Report `yaml:",inline"`
	CPUs   []cpuset.CPU `json:"cpus" yaml:"cpus"`
	// NS has a row and a column for each of CPUs; nil on the diagonal and where
	// nothing was measured. Low and High are the ends of the intervals.
	NS   [][]*float64 `json:"ns" yaml:"ns"`
	Low  [][]*float64 `json:"low" yaml:"low"`
	High [][]*float64 `json:"high" yaml:"high"`
	// Classes sum up pairs by what they share, the closest first.
	Classes []LatencyClass `json:"classes" yaml:"classes"`
	Pairs   int            `json:"pairs" yaml:"pairs"`       // that were measured
	Of      int            `json:"of_pairs" yaml:"of_pairs"` // that there are
}

// LatencyClass is the pairs that share the same things.
type LatencyClass struct {
	Shares string `json:"shares" yaml:"shares"`
	Pairs  int    `json:"pairs" yaml:"pairs"`
	// NS is the median of the pairs' medians, and the lowest and highest of them.
	Median float64 `json:"median_ns" yaml:"median_ns"`
	Least  float64 `json:"least_ns" yaml:"least_ns"`
	Most   float64 `json:"most_ns" yaml:"most_ns"`
}

// What a pair of CPUs shares, the closest first.
const (
	sharesCore    = "core"
	sharesCache   = "last-level cache"
	sharesNode    = "node"
	sharesPackage = "package"
	sharesNothing = "machine"
)

// pairLimit is the most pairs measured unless all are asked for.
const pairLimit = 1200

type pairArm struct {
	arm
	i, j int
}

// Latency bounces a cache line between pairs of CPUs.
func Latency(ctx context.Context, s Settings, o LatencyOptions) (*LatencyReport, error) {
	cpus, err := s.cpus()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	rep := &LatencyReport{Report: s.newReport("latency", cpus), Classes: []LatencyClass{}}
	if cpus.Len() < 2 {
		return nil, &TooFewCPUs{What: "measure core-to-core latency", CPUs: cpus}
	}
	rep.Of = cpus.Len() * (cpus.Len() - 1) / 2
	t := &s.Machine.Topology
	rep.CPUs = sampleCPUs(t, cpus, o.AllPairs)
	if floats(s.Machine) {
		rep.add(FindFloating, finding.Warning, "a virtual machine whose CPUs may move on the host: these latencies are those of wherever the CPUs were just then")
	}
	crew, err := s.newCrew()
	if err != nil {
		return nil, err
	}
	defer crew.close()
	worker, err := crew.hire(cpuset.Set{})
	if err != nil {
		return nil, err
	}
	var arms []*pairArm
	r := &rounds{settings: &s, report: &rep.Report, workers: 2, children: crew.pids, deadline: began.Add(s.Limit)}
	for j := range rep.CPUs {
		for i := range j {
			a, b := rep.CPUs[i], rep.CPUs[j]
			arm := &pairArm{i: i, j: j}
			arm.name = fmt.Sprintf("CPUs %d and %d", a, b)
			arm.watched = cpuset.Of(a, b)
			arm.trial = func(ctx context.Context, _ time.Duration) (measurement, error) {
				return bounce(ctx, worker, pingPongArgs{a, b, bounces(s.Limit, len(arms))})
			}
			arms = append(arms, arm)
			r.arms = append(r.arms, &arm.arm)
		}
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	rep.WallS = time.Since(began).Seconds()
	rep.fill(t, arms)
	return rep, nil
}

// TooFewCPUs is the error of an experiment that needs more of them.
type TooFewCPUs struct {
	What string
	CPUs cpuset.Set
}

func (e *TooFewCPUs) Error() string {
	return fmt.Sprintf("%s: two CPUs are needed, and only %s may be used", e.What, e.CPUs)
}

// bounces is how many there are in one trial, for a dozen rounds to fit into
// two thirds of the time at 100 ns each way.
func bounces(limit time.Duration, pairs int) int {
	each := limit * 2 / 3 / time.Duration(12*pairs)
	return min(max(int(each/(200*time.Nanosecond)), 1000), 300_000)
}

// sampleCPUs are all CPUs of the set where those make few pairs; else as many
// cores of every last-level cache as fit, and for one core its siblings.
func sampleCPUs(t *topology.Topology, cpus cpuset.Set, all bool) []cpuset.CPU {
	var order []cpuset.CPU
	for _, c := range t.LogicalOrder() {
		if cpus.Contains(c) {
			order = append(order, c)
		}
	}
	if n := len(order); all || n*(n-1)/2 <= pairLimit {
		return order
	}
	groups := t.LastLevel()
	owner := topology.Owners(int(cpus.Last())+1, groups, func(c topology.Cache) cpuset.Set { return c.CPUs })
	// As many CPUs of each as come to the limit, and one fewer until they fit.
	for per := int(math.Sqrt(2*pairLimit))/max(len(groups), 1) + 1; ; per-- {
		taken := map[int32]int{}
		var used cpuset.Set // CPUs whose core has one in the sample
		var sample []cpuset.CPU
		siblings := false
		for _, c := range order {
			core := coreOf(t, c)
			switch {
			case used.Contains(c) && (siblings || taken[owner[c]] > 1):
				continue
			case used.Contains(c):
				siblings = true
			case taken[owner[c]] >= per:
				continue
			default:
				taken[owner[c]]++
			}
			used = used.Union(core)
			sample = append(sample, c)
		}
		if n := len(sample); n*(n-1)/2 <= pairLimit || per == 1 {
			return sample
		}
	}
}

func coreOf(t *topology.Topology, c cpuset.CPU) cpuset.Set {
	for i := range t.Cores {
		if t.Cores[i].CPUs.Contains(c) {
			return t.Cores[i].CPUs
		}
	}
	return cpuset.Of(c)
}

// shares names the closest thing that two CPUs have in common.
func shares(t *topology.Topology, a, b cpuset.CPU) string {
	both := cpuset.Of(a, b)
	if both.SubsetOf(coreOf(t, a)) {
		return sharesCore
	}
	for _, c := range t.LastLevel() {
		if both.SubsetOf(c.CPUs) {
			return sharesCache
		}
	}
	for _, n := range t.NUMANodes {
		if both.SubsetOf(n.CPUs) {
			return sharesNode
		}
	}
	for _, p := range t.Packages {
		if both.SubsetOf(p.CPUs) {
			return sharesPackage
		}
	}
	return sharesNothing
}

func (rep *LatencyReport) fill(t *topology.Topology, arms []*pairArm) {
	grid := func() [][]*float64 {
		g := make([][]*float64, len(rep.CPUs))
		for i := range g {
			g[i] = make([]*float64, len(rep.CPUs))
		}
		return g
	}
	rep.NS, rep.Low, rep.High = grid(), grid(), grid()
	class := map[string][]float64{}
	for _, a := range arms {
		if len(a.round) == 0 {
			continue
		}
		v := measured.Of(a.values(""))
		rep.Pairs++
		for _, at := range [...][2]int{{a.i, a.j}, {a.j, a.i}} {
			rep.NS[at[0]][at[1]], rep.Low[at[0]][at[1]], rep.High[at[0]][at[1]] = &v.Median, &v.Low, &v.High
		}
		s := shares(t, rep.CPUs[a.i], rep.CPUs[a.j])
		class[s] = append(class[s], v.Median)
	}
	for _, s := range [...]string{sharesCore, sharesCache, sharesNode, sharesPackage, sharesNothing} {
		if ns := class[s]; len(ns) > 0 {
			slices.Sort(ns)
			rep.Classes = append(rep.Classes, LatencyClass{s, len(ns), measured.Of(ns).Median, ns[0], ns[len(ns)-1]})
		}
	}
}

type pingPongArgs struct {
	A, B   cpuset.CPU
	Rounds int
}

func (s *station) pingPong(raw []byte) (any, error) {
	a, err := decode[pingPongArgs](raw)
	if err != nil {
		return nil, err
	}
	return handover.PingPong(int(a.A), int(a.B), a.Rounds)
}

func bounce(ctx context.Context, w *worker, a pingPongArgs) (measurement, error) {
	var r handover.Result
	if err := alone(ctx, job{w, "pingpong", a, &r}, 0); err != nil {
		return measurement{}, err
	}
	return handed(r, [2]cpuset.Set{cpuset.Of(a.A), cpuset.Of(a.B)}, true), nil
}
