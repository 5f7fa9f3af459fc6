package advisor

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"berth/probe/cpuset"
)

// lodge seats one that mostly waits on the cores of the throughput workload with the
// lowest priority that has time for it; else on a core that is left; else there all
// the same.
func (d *divider) lodge(g *share, hosts []*share) {
	order := slices.Clone(hosts)
	slices.SortFunc(order, func(a, b *share) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), len(b.cores)-len(a.cores), strings.Compare(a.p.Name, b.p.Name))
	})
	for _, room := range [...]bool{true, false} {
		for _, h := range order {
			cores := d.common(g, h)
			if len(cores) == 0 || room && h.spare() < g.demand {
				continue
			}
			for _, c := range cores {
				d.give(c, g)
			}
			h.guests += g.demand
			d.reason("%s mostly waits: %s CPUs are all that its tasks need together, so it sits on cores of %s and wastes none of its own",
				g.p.Name, number(g.demand), h.p.Name)
			return
		}
		if d.take(g, 1, anyKind, make([]*share, len(d.on))) > 0 {
			d.reason("%s mostly waits, and has a core that nobody else needs", g.p.Name)
			return
		}
	}
	d.squeeze(g)
}

// spare is the time that somebody has for guests: what its demand leaves, or half of
// what it has where it takes all it can get.
func (s *share) spare() float64 {
	if math.IsInf(s.demand, 1) {
		return s.speed/2 - s.guests
	}
	return s.speed - s.demand - s.guests
}

// common are the cores of a host that a guest may have; on the node that it wants to be
// near, if there are any.
func (d *divider) common(g, h *share) []int {
	var cores, near []int
	for _, c := range h.cores {
		if d.on[c][0] == h && d.mayHave(g, c) {
			cores = append(cores, c)
			if d.room.cores[c].node == g.near {
				near = append(near, c)
			}
		}
	}
	if near != nil {
		return near
	}
	return cores
}

// squeeze seats somebody for whom there is no core on one that others have: where the
// fewest are, and among them none of objective latency, those with the most cores, and
// the lowest priorities.
func (d *divider) squeeze(s *share) {
	best := -1
	urgent := func(on []*share) bool { return slices.ContainsFunc(on, (*share).latency) }
	sum := func(on []*share) (cores int, weight float64) {
		for _, o := range on {
			cores, weight = cores+len(o.cores), weight+o.weight
		}
		return cores, weight
	}
	better := func(x, y []*share) bool {
		coresX, weightX := sum(x)
		coresY, weightY := sum(y)
		return cmp.Or(len(x)-len(y), first(urgent(y), urgent(x)), coresY-coresX, cmp.Compare(weightX, weightY)) < 0
	}
	for c := range d.on {
		if d.mayHave(s, c) && (best < 0 || better(d.on[c], d.on[best])) {
			best = c
		}
	}
	d.reason("%s shares the core of CPUs %s with %s: there is none for it alone", s.p.Name, cpuset.Of(d.room.cores[best].cpus...), names(d.on[best]))
	d.give(best, s)
}

func names(shares []*share) string {
	out := make([]string, len(shares))
	for i, s := range shares {
		out[i] = s.p.Name
	}
	return inList(out)
}

// divideTime finds what everybody's budget is: the time of its cores; on a core that
// several have, each its demand or its fair part; and of a quota its fair part.
func (d *divider) divideTime() {
	if d.timeOnly() {
		for _, s := range d.shares {
			s.budget = float64(s.may.Len())
		}
	} else {
		for c, on := range d.on {
			d.divideCore(c, on)
		}
	}
	if math.IsInf(d.room.quota, 1) {
		return
	}
	demands, weights := make([]float64, len(d.shares)), make([]float64, len(d.shares))
	for i, s := range d.shares {
		demands[i], weights[i] = math.Min(s.demand, s.budget), s.weight
	}
	var parts []string
	for i, q := range fairly(d.room.quota, demands, weights) {
		d.shares[i].budget = q
		parts = append(parts, d.shares[i].p.Name+" "+number(q))
	}
	d.reason("max–min fairness of the quota, by demand and priority: %s of %s CPUs", inList(parts), number(d.room.quota))
}

// divideCore counts the time of one core to those who have it. What is left goes to its
// owner.
func (d *divider) divideCore(core int, on []*share) {
	if len(on) == 0 {
		return
	}
	cpus := cpuset.Of(d.room.cores[core].cpus...)
	var used cpuset.Set
	var most, demands, weights []float64
	for _, s := range on {
		mine := cpus.Intersect(s.may)
		used = used.Union(mine)
		most = append(most, float64(mine.Len()))
		demands = append(demands, math.Min(math.Max(0, s.demand-s.budget), float64(mine.Len())))
		weights = append(weights, s.weight)
	}
	left := float64(used.Len())
	for i, time := range fairly(left, demands, weights) {
		on[i].budget += time
		most[i] -= time
		left -= time
	}
	on[0].budget += math.Max(0, math.Min(left, most[0]))
}

// divideMemory lowers the memory of some where together they ask for more than there is:
// beyond a worker for each, it is divided as time is. It plans for them again.
func (d *divider) divideMemory() error {
	if d.room.memoryMiB <= 0 {
		return nil
	}
	var in []*share
	var least, more, weights []float64
	reserve, need, base := 0.0, 0.0, 0.0
	for _, s := range d.shares {
		if s.plan.MemoryMiB == nil {
			continue
		}
		l := &s.p.Limits
		one := *l.MemoryPerWorkerMiB + l.MemorySharedMiB
		in = append(in, s)
		least, more, weights = append(least, one), append(more, math.Max(0, *s.plan.MemoryMiB-one)), append(weights, s.weight)
		reserve, need, base = math.Max(reserve, l.MemoryReserveFraction), need+*s.plan.MemoryMiB, base+one
	}
	usable := d.room.memoryMiB * (1 - reserve)
	if need <= usable*(1+1e-6) {
		return nil
	}
	if base > usable*(1+1e-6) {
		d.needMiB = base / (1 - reserve)
		more, base = least, 0
		least = make([]float64, len(in))
	}
	var parts []string
	var again []*share
	for i, extra := range fairly(usable-base, more, weights) {
		s, got := in[i], least[i]+extra
		parts = append(parts, s.p.Name+" "+number(got))
		if got < *s.plan.MemoryMiB*(1-slack) {
			s.memory = math.Max(1, got)
			again = append(again, s)
		}
	}
	d.reason("memory: together the plans ask for %s MiB, and %s of %s may be used (memory_reserve_fraction %s); a worker for each and then max–min fairness: %s MiB",
		number(need), number(usable), number(d.room.memoryMiB), number(reserve), inList(parts))
	return d.plan(again)
}

// fairly divides an amount by weighted max–min fairness: the level rises for all
// alike, for each in proportion to its weight, until its demand is met or nothing is
// left (see [Divide]).
func fairly(amount float64, demands, weights []float64) []float64 {
	out := make([]float64, len(demands))
	met := make([]bool, len(demands))
	for {
		sum := 0.0
		for i, w := range weights {
			if !met[i] {
				sum += w
			}
		}
		if sum == 0 {
			return out
		}
		level, last := math.Max(0, amount)/sum, true
		for i, w := range weights {
			if !met[i] && demands[i] <= level*w {
				out[i], met[i], last = demands[i], true, false
				amount -= demands[i]
			}
		}
		for i, w := range weights {
			if last && !met[i] {
				out[i], met[i] = level*w, true
			}
		}
	}
}
