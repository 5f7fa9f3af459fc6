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
	"berth/profiles"
)

// divisions is how many random sets of profiles each property is tried on.
const divisions = 800

// forDivisions tries random sets of profiles on random machines.
func forDivisions(t *testing.T, try func(t *testing.T, rng *rand.Rand, s shape, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration)) {
	for seed := range uint64(divisions) {
		rng := rand.New(rand.NewPCG(seed, 11))
		s := randomShape(rng)
		if rng.IntN(10) == 0 {
			s = twoCPUs
		}
		m := s.machine()
		m.Topology.Allowed = someOf(rng, m.Topology.Online)
		switch rng.IntN(8) {
		case 0:
			m.Host.Hypervisor = "kvm"
		case 1:
			isolated := someOf(rng, m.Topology.Online)
			m.Topology.Isolated = &isolated
		}
		var ps []*profiles.Profile
		for i := range 2 + rng.IntN(5) {
			p := randomProfile(t, rng)
			p.Name = fmt.Sprintf("p%d", i)
			if rng.IntN(3) == 0 {
				p.Priority = new(pick(rng, 0.1, 0.5, 2, 3, 7))
			}
			if rng.IntN(4) == 0 && p.Work.CPUMS != nil { // one that mostly waits
				p.Work.WaitMS = *p.Work.CPUMS * 30
				p.Load.ArrivalPerS = new(rng.Float64() * 1000 / *p.Work.CPUMS)
			}
			ps = append(ps, p)
		}
		try(t, rng, s, m, ps, randomCalibration(rng, s))
		if t.Failed() {
			text, _ := json.Marshal(ps)
			t.Fatalf("seed %d, machine %+v, allowed %s\nprofiles %s", seed, s, m.Topology.Allowed, text)
		}
	}
}

func divide(t *testing.T, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) *Division {
	t.Helper()
	d, err := Divide(m, ps, c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// coresOf are the indexes of the cores that hold any of the CPUs.
func coresOf(m *probe.Machine, cpus cpuset.Set) []int {
	var out []int
	for i, c := range m.Topology.Cores {
		if c.CPUs.Overlaps(cpus) {
			out = append(out, i)
		}
	}
	return out
}

func TestDivisionsHoldTogether(t *testing.T) {
	shared, left, timed := 0, 0, 0
	forDivisions(t, func(t *testing.T, rng *rand.Rand, s shape, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) {
		d := divide(t, m, ps, c)
		var all cpuset.Set
		sum, feasible := 0.0, true
		for i, part := range d.Parts {
			if part.Profile != ps[i].Name || part.Priority != ps[i].Weight() {
				t.Errorf("part %d is %s, priority %g", i, part.Profile, part.Priority)
			}
			plan := part.Plan
			if part.CPUs.IsEmpty() || !part.CPUs.SubsetOf(m.Topology.Allowed) {
				t.Errorf("%s has CPUs %s of %s", part.Profile, part.CPUs, m.Topology.Allowed)
			}
			if !plan.Placement.CPUs.SubsetOf(part.CPUs) {
				t.Errorf("%s is placed on %s, and its part is %s", part.Profile, plan.Placement.CPUs, part.CPUs)
			}
			for _, seat := range plan.Placement.Seats {
				if seat.CPUs.IsEmpty() || !seat.CPUs.SubsetOf(part.CPUs) {
					t.Errorf("%s has a seat on %s, and its part is %s", part.Profile, seat.CPUs, part.CPUs)
				}
			}
			if avoid, _ := cpuset.Parse(ps[i].Limits.AvoidCPUs); avoid.Overlaps(part.CPUs) && plan.Feasible {
				t.Errorf("%s avoids %s and has %s", part.Profile, avoid, part.CPUs)
			}
			if !(part.BudgetCPUs > 0 && part.BudgetCPUs <= float64(part.CPUs.Len())+1e-6) {
				t.Errorf("%s has a budget of %g on CPUs %s", part.Profile, part.BudgetCPUs, part.CPUs)
			}
			if !plan.Feasible && len(plan.Remedies) == 0 {
				t.Errorf("%s is infeasible, and nothing would help", part.Profile)
			}
			finite(t, plan)
			all = all.Union(part.CPUs)
			sum += part.BudgetCPUs
			feasible = feasible && plan.Feasible
		}
		if sum > d.BudgetCPUs+1e-5 {
			t.Errorf("the budgets add up to %g of %g", sum, d.BudgetCPUs)
		}
		if q := m.Limits.QuotaCPUs; q != nil && sum > *q+1e-5 {
			t.Errorf("the budgets add up to %g, and the quota is %g", sum, *q)
		}
		if feasible != d.Feasible || !feasible && len(d.Remedies) == 0 {
			t.Errorf("feasible %v, plans %v, remedies %q", d.Feasible, feasible, d.Remedies)
		}
		if d.LeftCPUs.Overlaps(all) {
			t.Errorf("left over is %s, of which %s are had", d.LeftCPUs, all.Intersect(d.LeftCPUs))
		}
		for _, a := range d.Parts {
			for _, b := range d.Parts {
				if a.Profile == b.Profile {
					continue
				}
				overlap := slices.ContainsFunc(coresOf(m, a.CPUs), func(c int) bool { return slices.Contains(coresOf(m, b.CPUs), c) })
				if overlap != slices.Contains(a.SharesWith, b.Profile) || overlap != slices.Contains(b.SharesWith, a.Profile) {
					t.Errorf("%s on %s with %v, %s on %s with %v", a.Profile, a.CPUs, a.SharesWith, b.Profile, b.CPUs, b.SharesWith)
				}
				if overlap {
					shared++
				}
			}
		}
		if !d.LeftCPUs.IsEmpty() {
			left++
		}
		if d.BudgetCPUs < float64(all.Len()) {
			timed++
		}
	})
	if shared == 0 || left == 0 || timed == 0 {
		t.Errorf("%d pairs shared, %d divisions left CPUs, %d divided time: the cases are too tame", shared, left, timed)
	}
}

// The same input gives the same division, and another order of the profiles gives the
// same parts in that order.
func TestOrderOfProfilesDoesNotMatter(t *testing.T) {
	forDivisions(t, func(t *testing.T, rng *rand.Rand, s shape, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) {
		d := divide(t, m, ps, c)
		if again := divide(t, m, ps, c); !cmp.Equal(d, again) {
			t.Error("the same input gives another division")
		}
		order := rng.Perm(len(ps))
		mixed := make([]*profiles.Profile, len(ps))
		for to, from := range order {
			mixed[to] = ps[from]
		}
		other := divide(t, m, mixed, c)
		parts := make([]Part, len(ps))
		for to, from := range order {
			parts[from] = other.Parts[to]
		}
		if diff := cmp.Diff(d.Parts, parts); diff != "" {
			t.Error(diff)
		}
		if !d.LeftCPUs.Equal(other.LeftCPUs) || !cmp.Equal(d.Reasons, other.Reasons) {
			t.Errorf("left %s, or %s; reasons %q, or %q", d.LeftCPUs, other.LeftCPUs, d.Reasons, other.Reasons)
		}
	})
}

// own are the parts with cores of their own, and how many cores.
func own(m *probe.Machine, d *Division) map[string]int {
	out := map[string]int{}
	for _, p := range d.Parts {
		if len(p.SharesWith) == 0 {
			out[p.Profile] = len(coresOf(m, p.CPUs))
		}
	}
	return out
}

// Max–min fairness by whole cores: nobody that wants more has less for its priority than
// another would have with a core less; and no core that somebody wants is left over.
func TestDivisionsAreFair(t *testing.T) {
	forDivisions(t, func(t *testing.T, rng *rand.Rand, s shape, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) {
		if m.Limits.QuotaCPUs != nil || s.slow > 0 {
			return
		}
		for _, p := range ps {
			p.Limits.AvoidCPUs, p.Limits.ReserveCores = "", 0
		}
		d := divide(t, m, ps, c)
		has := own(m, d)
		for _, a := range d.Parts {
			n, ok := has[a.Profile]
			if !ok || a.DemandCPUs != nil && *a.DemandCPUs <= float64(n)+1e-6 {
				continue
			}
			if !d.LeftCPUs.IsEmpty() {
				t.Errorf("%s wants more than CPUs %s, and %s are left over", a.Profile, a.CPUs, d.LeftCPUs)
			}
			for _, b := range d.Parts {
				if k, ok := has[b.Profile]; ok && float64(k-1)/b.Priority > float64(n)/a.Priority+1e-9 {
					t.Errorf("%s wants more than its %d cores by priority %g, and %s has %d by %g", a.Profile, n, a.Priority, b.Profile, k, b.Priority)
				}
			}
		}
	})
}

func TestMorePriorityIsNeverLess(t *testing.T) {
	forDivisions(t, func(t *testing.T, rng *rand.Rand, s shape, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) {
		for _, p := range ps {
			p.Limits.AvoidCPUs = "" // who avoids some CPUs may be in another's way
		}
		before := divide(t, m, ps, c)
		i := rng.IntN(len(ps))
		more := *ps[i]
		more.Priority = new(more.Weight() * pick(rng, 1.1, 2, 5))
		after := divide(t, m, slices.Replace(slices.Clone(ps), i, i+1, &more), c)
		x, y := &before.Parts[i], &after.Parts[i]
		if s.slow > 0 {
			// Faster cores, of which fewer suffice; and a whole core, of whichever kind,
			// is as fine as it gets.
			if a, b := speedOf(m, s, x.CPUs), speedOf(m, s, y.CPUs); b < a-1 {
				t.Errorf("priority %g instead of %g: %s has %s, %g fast cores, instead of %s, %g", y.Priority, x.Priority, y.Profile, y.CPUs, b, x.CPUs, a)
			}
			return
		}
		// How many CPUs a core has differs where not all are allowed.
		if a, b := len(coresOf(m, x.CPUs)), len(coresOf(m, y.CPUs)); b < a && len(x.SharesWith) == 0 {
			t.Errorf("priority %g instead of %g: %s has CPUs %s instead of %s", y.Priority, x.Priority, y.Profile, y.CPUs, x.CPUs)
		}
		if m.Limits.QuotaCPUs != nil && y.BudgetCPUs < x.BudgetCPUs*(1-1e-6) && y.CPUs.Equal(x.CPUs) {
			t.Errorf("priority %g instead of %g: %s has a budget of %g instead of %g", y.Priority, x.Priority, y.Profile, y.BudgetCPUs, x.BudgetCPUs)
		}
	})
}

func speedOf(m *probe.Machine, s shape, cpus cpuset.Set) (sum float64) {
	for _, c := range coresOf(m, cpus) {
		rate := 1.0
		if kinds := m.Topology.CoreKinds; len(kinds) > 1 && m.Topology.Cores[c].CPUs.Overlaps(kinds[1].CPUs) {
			rate = float64(s.slow) / 1024
		}
		sum += rate
	}
	return sum
}

// Together the plans need no more memory than there is, or the division says so.
func TestMemoryIsDivided(t *testing.T) {
	divided := 0
	forDivisions(t, func(t *testing.T, rng *rand.Rand, s shape, m *probe.Machine, ps []*profiles.Profile, c *probe.Calibration) {
		reserve := 0.0
		for _, p := range ps {
			p.Limits.MemoryPerWorkerMiB = new(math.Exp(rng.Float64() * 8))
			p.Limits.MemoryReserveFraction = rng.Float64() * 0.5
			reserve = max(reserve, p.Limits.MemoryReserveFraction)
		}
		d := divide(t, m, ps, c)
		need := 0.0
		for _, part := range d.Parts {
			need += *part.Plan.MemoryMiB
			if part.Plan.Binding.Name == ByMemory {
				divided++
			}
		}
		if d.Feasible && need > float64(s.memoryMiB)*(1-reserve)*(1+1e-5)+1 {
			t.Errorf("%g MiB are needed of %d, of which a share of %g stays free", need, s.memoryMiB, reserve)
		}
	})
	if divided == 0 {
		t.Error("memory bound no plan: the cases are too tame")
	}
}
