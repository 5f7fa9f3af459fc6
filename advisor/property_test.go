package advisor

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/topology"
	"berth/profiles"
)

// shape says what a made-up machine consists of.
type shape struct {
	nodes, groups, cores, threads int // groups per node, cores per group
	slow                          int // cores of the last group of each node are of a slow kind of so many 1024ths
	quota                         float64
	memoryMiB                     int64
	relabel                       []cpuset.CPU // the number that each CPU gets
}

func (s shape) size() int { return s.nodes * s.groups * s.cores * s.threads }

// machine numbers siblings as Linux mostly does: first all first threads, then
// all second ones.
func (s shape) machine() *probe.Machine {
	m := &probe.Machine{Schema: probe.Schema}
	t := &m.Topology
	total := s.nodes * s.groups * s.cores
	label := func(core, thread int) cpuset.CPU {
		n := cpuset.CPU(thread*total + core)
		if s.relabel != nil {
			n = s.relabel[n]
		}
		return n
	}
	var all, fast, slow []cpuset.CPU
	core := 0
	for n := range s.nodes {
		var inNode []cpuset.CPU
		for g := range s.groups {
			var inGroup []cpuset.CPU
			for range s.cores {
				var mine []cpuset.CPU
				for thread := range s.threads {
					mine = append(mine, label(core, thread))
				}
				id := core
				t.Cores = append(t.Cores, topology.Core{Index: topology.CoreIndex(core), ID: &id, NUMANode: &n, CPUs: cpuset.Of(mine...)})
				inGroup = append(inGroup, mine...)
				if s.slow > 0 && g == s.groups-1 {
					slow = append(slow, mine...)
				} else {
					fast = append(fast, mine...)
				}
				core++
			}
			t.Caches = append(t.Caches, topology.Cache{Level: 3, Type: topology.Unified, CPUs: cpuset.Of(inGroup...)})
			inNode = append(inNode, inGroup...)
		}
		bytes := s.memoryMiB << 20 / int64(s.nodes)
		t.NUMANodes = append(t.NUMANodes, topology.NUMA{ID: n, CPUs: cpuset.Of(inNode...), MemoryBytes: &bytes})
		all = append(all, inNode...)
	}
	t.Online = cpuset.Of(all...)
	t.Allowed = t.Online
	if len(slow) > 0 && len(fast) > 0 {
		best := 1024
		t.CoreKinds = []topology.Kind{{Name: "performance", CPUs: cpuset.Of(fast...), Capacity: &best}, {Name: "efficiency", CPUs: cpuset.Of(slow...), Capacity: &s.slow}}
	}
	if s.quota > 0 {
		m.Limits.QuotaCPUs = &s.quota
	}
	return m
}

func randomShape(rng *rand.Rand) shape {
	s := shape{nodes: 1 + rng.IntN(3), groups: 1 + rng.IntN(3), cores: 1 + rng.IntN(6), threads: 1 + rng.IntN(2), memoryMiB: 1 << (10 + rng.IntN(8))}
	if rng.IntN(3) == 0 {
		s.slow = 200 + rng.IntN(800)
	}
	if rng.IntN(3) == 0 {
		s.quota = math.Round(100*float64(s.size())*rng.Float64()*1.2+1) / 100
	}
	return s
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func randomProfile(t *testing.T, rng *rand.Rand) *profiles.Profile {
	t.Helper()
	text := fmt.Sprintf("schema: %s\nname: random\nruntime: %s\nobjective: %s\n", profiles.Schema,
		pick(rng, "native", "go", "java", "node", "python", "python", "python-free-threaded", "openmp"), pick(rng, "throughput", "throughput", "latency", "efficiency"))
	line := func(chance float64, format string, args ...any) {
		if rng.Float64() < chance {
			text += fmt.Sprintf(format+"\n", args...)
		}
	}
	cpu := math.Exp(rng.Float64()*8 - 3)
	blocking := rng.IntN(3) > 0
	line(0.3, "model: %s", pick(rng, "threads", "processes"))
	text += fmt.Sprintf("work:\n  kind: %s\n", pick(rng, "integer", "float", "memory-latency", "memory-bandwidth", "service"))
	if rng.IntN(6) > 0 {
		text += fmt.Sprintf("  cpu_ms: %.4f\n", cpu)
		line(0.3, "  native_ms: %.4f", cpu*rng.Float64()*0.99)
	}
	line(0.6, "  wait_ms: %.4f", cpu*math.Exp(rng.Float64()*7-3))
	line(1, "  blocking: %v", blocking)
	line(0.2, "  smt_yield: %.2f", rng.Float64()*0.6-0.1)
	line(0.3, "  thread_bandwidth_gbs: %.2f", 1+rng.Float64()*20)
	line(0.2, "  communicates: true")
	line(0.1, "  partition: static")
	if rng.IntN(5) == 0 {
		line(1, "  serial_fraction: %.3f", rng.Float64()*0.3)
	} else if rng.IntN(5) == 0 {
		line(1, "scaling: {sigma: %.4f, kappa: %.5f}", rng.Float64()*0.1, rng.Float64()*0.005)
	}
	text += "load:\n"
	line(0.2, "  tasks: %d", 1+rng.IntN(200))
	line(0.1, "  nested: true")
	line(0.05, "  ranks_per: %s", pick(rng, "node", "llc", "core"))
	line(0.3, "  arrival_per_s: %.3f", 1000/cpu*rng.Float64()*30)
	line(0.3, "  wait_target_ms: %.3f", cpu*rng.Float64()*4)
	text += "limits:\n"
	line(0.2, "  memory_per_worker_mib: %d", 1+rng.IntN(4000))
	line(0.1, "  downstream_concurrency: %d", 1+rng.IntN(60))
	line(0.1, "  reserve_cores: %d", rng.IntN(3))
	line(0.1, "  avoid_cpus: \"%d\"", rng.IntN(4))
	if rng.IntN(5) == 0 {
		text += fmt.Sprintf("measured: {seconds: 10, utilisation: %.2f, confidence: 0.9}\n", rng.Float64())
	}
	p, err := profiles.Parse([]byte(text), "random")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func randomCalibration(rng *rand.Rand, s shape) *probe.Calibration {
	if rng.IntN(3) > 0 {
		return nil
	}
	c := &probe.Calibration{Schema: probe.CalibrationSchema, MemoryBandwidthGBS: map[string]float64{}, SMTYield: map[string]float64{"integer": rng.Float64()*0.5 - 0.1}}
	for n := range s.nodes {
		c.MemoryBandwidthGBS[fmt.Sprint(n)] = 10 + rng.Float64()*100
	}
	return c
}

// cases is how many random inputs each property is tried on: a tenth with -short,
// for machines that are emulated.
func cases() uint64 {
	if testing.Short() {
		return 300
	}
	return 3000
}

func forRandom(t *testing.T, try func(t *testing.T, rng *rand.Rand, s shape, p *profiles.Profile, c *probe.Calibration)) {
	for seed := range cases() {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := randomShape(rng)
		p := randomProfile(t, rng)
		c := randomCalibration(rng, s)
		try(t, rng, s, p, c)
		if t.Failed() {
			text, _ := json.Marshal(p)
			t.Fatalf("seed %d, machine %+v\nprofile %s", seed, s, text)
		}
	}
}

func advise(t *testing.T, s shape, p *profiles.Profile, c *probe.Calibration) *Plan {
	t.Helper()
	plan, err := Advise(s.machine(), p, c)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return plan
}

func TestPlansHoldTogether(t *testing.T) {
	forRandom(t, func(t *testing.T, rng *rand.Rand, s shape, p *profiles.Profile, c *probe.Calibration) {
		m := s.machine()
		m.Topology.Allowed = someOf(rng, m.Topology.Online)
		plan, err := Advise(m, p, c)
		if err != nil {
			t.Fatal(err)
		}
		w := plan.Workers
		if w.Processes < 1 || w.Threads < 1 || w.EventLoops > 0 && w.InFlight < 1 {
			t.Errorf("workers %+v", w)
		}
		seats := plan.Placement.Seats
		if plan.Placement.CPUs.IsEmpty() || !plan.Placement.CPUs.SubsetOf(m.Topology.Allowed) {
			t.Errorf("CPUs %s of %s allowed", plan.Placement.CPUs, m.Topology.Allowed)
		}
		if (plan.Placement.Pin == NoPin) != (len(seats) == 0) {
			t.Errorf("pin %s with %d seats", plan.Placement.Pin, len(seats))
		}
		var taken cpuset.Set
		for _, seat := range seats {
			if seat.CPUs.IsEmpty() {
				t.Errorf("seat %+v is empty", seat)
			}
			if plan.Placement.Pin != PerGroup || w.Total() <= plan.Placement.CPUs.Len() {
				if taken.Overlaps(seat.CPUs) {
					t.Errorf("two seats on CPU %s", taken.Intersect(seat.CPUs))
				}
			}
			taken = taken.Union(seat.CPUs)
		}
		if len(seats) > 0 && !taken.Equal(plan.Placement.CPUs) {
			t.Errorf("seats on %s, CPUs %s", taken, plan.Placement.CPUs)
		}
		if !plan.Feasible && len(plan.Remedies) == 0 {
			t.Error("infeasible, and nothing would help")
		}
		finite(t, plan)
		again, err := Advise(m, p, c)
		if err != nil || !cmp.Equal(plan, again) {
			t.Error("the same input gives another plan")
		}
		for _, r := range plan.Rejected {
			if r.Why == "" || r.Option == "" {
				t.Errorf("rejected %+v", r)
			}
		}
	})
}

func someOf(rng *rand.Rand, all cpuset.Set) cpuset.Set {
	if rng.IntN(2) == 0 {
		return all
	}
	var some []cpuset.CPU
	for c := range all.All() {
		if rng.IntN(3) > 0 {
			some = append(some, c)
		}
	}
	if some == nil {
		return all
	}
	return cpuset.Of(some...)
}

func finite(t *testing.T, plan *Plan) {
	t.Helper()
	if _, err := json.Marshal(plan); err != nil { // JSON has no NaN and no infinity
		t.Error(err)
	}
	for _, x := range []*float64{plan.Predicted.Speedup, plan.Predicted.ThroughputPS, plan.Predicted.Utilisation, plan.Predicted.Capacity} {
		if x != nil && (*x <= 0 || math.IsInf(*x, 0)) {
			t.Errorf("predicted %+v", plan.Predicted)
		}
	}
	if u := plan.Predicted.Utilisation; u == nil || *u > 1+1e-6 {
		t.Errorf("utilisation %v", u)
	}
}

// yield is what a plan promises, in one unit.
func yield(p *Plan) float64 {
	if p.Predicted.ThroughputPS != nil {
		return *p.Predicted.ThroughputPS
	}
	return *p.Predicted.Speedup
}

func TestMoreIsNeverWorse(t *testing.T) {
	forRandom(t, func(t *testing.T, rng *rand.Rand, s shape, p *profiles.Profile, c *probe.Calibration) {
		if p.Objective == profiles.Efficiency {
			return // its aim is fewer cores, not more throughput
		}
		before := advise(t, s, p, c)
		more := s
		what := "cores"
		switch rng.IntN(3) {
		case 0:
			what = "quota"
			if s.quota == 0 {
				return
			}
			if more.quota += rng.Float64() * 3; rng.IntN(4) == 0 {
				more.quota = 0
			}
		case 1:
			what = "memory"
			if p.NestedTasks() {
				return // another number of workers leaves other threads over
			}
			more.memoryMiB *= 2
		default:
			more.cores++
		}
		after := advise(t, more, p, c)
		least := 1 - 1e-3 // a plateau has ends
		if before.Workers.Model == ProcessesOfMany {
			// Another number of processes takes other whole threads to reach the
			// target, and may overshoot it by less.
			least = p.Target()
		}
		if x, y := yield(before), yield(after); y < x*least {
			t.Errorf("more %s: %+v, %g before; %+v, %g after (%s; %s)", what, before.Workers, x, after.Workers, y, before.Binding, after.Binding)
		}
		if before.Feasible && !after.Feasible {
			t.Errorf("more %s makes the plan infeasible: %s", what, after.Remedies)
		}
	})
}

func TestNumbersOfCPUsDoNotMatter(t *testing.T) {
	forRandom(t, func(t *testing.T, rng *rand.Rand, s shape, p *profiles.Profile, c *probe.Calibration) {
		if p.Limits.AvoidCPUs != "" {
			return // it names numbers
		}
		plan := advise(t, s, p, c)
		// Any numbers, as long as siblings keep their order.
		s.relabel = make([]cpuset.CPU, s.size())
		numbers := rng.Perm(4 * s.size())
		cores := s.size() / s.threads
		for core := range cores {
			mine := numbers[core*s.threads : (core+1)*s.threads]
			slices.Sort(mine)
			for thread, n := range mine {
				s.relabel[thread*cores+core] = cpuset.CPU(n)
			}
		}
		other := advise(t, s, p, c)
		want := relabelled(plan, s.relabel)
		if diff := cmp.Diff(want.Placement, other.Placement); diff != "" {
			t.Error(diff)
		}
		want.Placement, other.Placement = Placement{}, Placement{}
		want.Reasons, other.Reasons = nil, nil // they name CPUs kept out
		want.Remedies, other.Remedies = nil, nil
		if diff := cmp.Diff(want, other); diff != "" {
			t.Error(diff)
		}
	})
}

func relabelled(p *Plan, to []cpuset.CPU) *Plan {
	out := *p
	apply := func(s cpuset.Set) cpuset.Set {
		var cpus []cpuset.CPU
		for c := range s.All() {
			cpus = append(cpus, to[c])
		}
		return cpuset.Of(cpus...)
	}
	out.Placement.CPUs = apply(p.Placement.CPUs)
	if p.Placement.KeptOut != nil {
		kept := apply(*p.Placement.KeptOut)
		out.Placement.KeptOut = &kept
	}
	out.Placement.Seats = slices.Clone(p.Placement.Seats)
	for i := range out.Placement.Seats {
		out.Placement.Seats[i].CPUs = apply(p.Placement.Seats[i].CPUs)
	}
	return &out
}

func TestNoSeatIsSharedWhileACPUIsFree(t *testing.T) {
	forRandom(t, func(t *testing.T, rng *rand.Rand, s shape, p *profiles.Profile, c *probe.Calibration) {
		s.quota = 0
		plan := advise(t, s, p, c)
		if plan.Workers.Total() > plan.Placement.CPUs.Len() || plan.Placement.Pin == NoPin {
			return
		}
		used := 0
		for _, seat := range plan.Placement.Seats {
			used += seat.CPUs.Len()
		}
		if used != plan.Placement.CPUs.Len() {
			t.Errorf("%d seats' CPUs on %s", used, plan.Placement.CPUs)
		}
		if plan.Placement.Pin == PerCore {
			seen := map[topology.CoreIndex]bool{}
			for _, core := range s.machine().Topology.Cores {
				if n := core.CPUs.Intersect(plan.Placement.CPUs).Len(); n > 1 || seen[core.Index] {
					t.Errorf("core %d has %d of the seats", core.Index, n)
				}
			}
		}
	})
}
