package advisor

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"berth/profiles"
)

// divideCores gives whole cores to whoever needs them, and a seat beside others to
// whoever mostly waits or comes when no core is left.
func (d *divider) divideCores() {
	d.reason("to divide: %s on %s", plural(d.room.cpus.Len(), "CPU", "CPUs"), plural(len(d.room.cores), "core", "cores"))
	d.explainDemands()
	for _, s := range d.shares {
		for c := range d.on {
			if d.mayHave(s, c) {
				s.choice++
			}
		}
	}
	own, guests := d.sort()
	d.count(own)
	d.seatAll(own)
	d.reason("max–min fairness: core by core to whoever has least for its priority, until its demand is met: %s", d.counts(own))
	hosts := slices.DeleteFunc(slices.Clone(own), func(s *share) bool { return s.p.Objective != profiles.Throughput || len(s.cores) == 0 })
	for _, s := range own {
		if len(s.cores) == 0 {
			d.squeeze(s)
		}
	}
	for _, g := range guests {
		d.lodge(g, hosts)
	}
	d.explainCommon()
}

// sort tells those that mostly wait, if there is a throughput workload to sit beside,
// from those that have cores of their own.
func (d *divider) sort() (own, guests []*share) {
	for _, s := range d.shares {
		if s.mostlyWaits() {
			guests = append(guests, s)
		} else {
			own = append(own, s)
		}
	}
	if !slices.ContainsFunc(own, func(s *share) bool { return s.p.Objective == profiles.Throughput }) {
		return d.shares, nil
	}
	return own, guests
}

// count finds how many cores of each kind everybody is to have. Who has least for its
// priority chooses next, and takes the fastest kind that is left; but the slowest, if its
// objective is not latency while that of another is, which wants more.
func (d *divider) count(own []*share) {
	var left []int // cores of each kind, the fastest first
	var speeds []float64
	for _, c := range d.room.cores {
		for len(left) <= c.kind {
			left, speeds = append(left, 0), append(speeds, 0)
		}
		left[c.kind]++
		speeds[c.kind] = c.rate
	}
	had := make(map[*share]int, len(own))
	for _, s := range own {
		s.wants = make([]int, len(left))
	}
	wants := func(s *share) bool {
		return s.speed < s.demand*(1-slack) && had[s] < s.choice
	}
	for range d.room.cores {
		var next *share
		urgent := false
		for _, s := range own {
			if wants(s) && (next == nil || less(s, next, had[s], had[next])) {
				next = s
			}
		}
		if next == nil {
			break
		}
		for _, s := range own {
			urgent = urgent || s.latency() && wants(s)
		}
		kind := slices.IndexFunc(left, func(n int) bool { return n > 0 })
		if urgent && !next.latency() {
			for k, n := range left {
				if n > 0 {
					kind = k
				}
			}
		}
		left[kind]--
		next.wants[kind]++
		had[next]++
		next.speed += speeds[kind]
	}
	for _, s := range own {
		s.speed = 0 // until it has them
	}
}

// less reports whether a chooses before b: who has nothing yet, then who has least for
// its priority; of equals the higher priority, then latency, then the name.
func less(a, b *share, hasA, hasB int) bool {
	if (hasA == 0) != (hasB == 0) {
		return hasA == 0
	}
	if x, y := a.speed*b.weight, b.speed*a.weight; x != y {
		return x < y
	}
	return precedes(a, b) < 0
}

func precedes(a, b *share) int {
	return cmp.Or(cmp.Compare(b.weight, a.weight), first(a.latency(), b.latency()), strings.Compare(a.p.Name, b.p.Name))
}

// first orders what has a property before what has not.
func first(a, b bool) int {
	switch {
	case a && !b:
		return -1
	case b && !a:
		return 1
	}
	return 0
}

func (d *divider) mayHave(s *share, core int) bool {
	return slices.ContainsFunc(d.room.cores[core].cpus, s.may.Contains)
}

// seatAll gives out the cores that were counted: to those that avoid some first, as
// nobody else has as little choice, then to those near a device, those that
// communicate, those of objective latency and the largest.
func (d *divider) seatAll(own []*share) {
	all := len(d.room.cores)
	total := func(s *share) (n int) {
		for _, k := range s.wants {
			n += k
		}
		return n
	}
	order := slices.Clone(own)
	slices.SortFunc(order, func(a, b *share) int {
		return cmp.Or(a.choice-b.choice, first(a.near >= 0, b.near >= 0), first(a.p.Work.Communicates, b.p.Work.Communicates),
			first(a.latency(), b.latency()), total(b)-total(a), precedes(a, b))
	})
	// Whoever avoids some cores has one kept for it.
	home := make([]*share, all)
	for _, s := range order {
		if s.choice < all && total(s) > 0 {
			d.keep(s, home, make([]bool, all))
		}
	}
	for _, s := range order {
		for kind, n := range s.wants {
			d.take(s, n, kind, home)
		}
		for c, who := range home {
			if who == s {
				home[c] = nil
			}
		}
	}
	// What somebody could not have for the CPUs that it avoids goes to others.
	full := map[*share]bool{}
	for {
		var next *share
		for _, s := range own {
			if !full[s] && s.speed < s.demand*(1-slack) && (next == nil || less(s, next, len(s.cores), len(next.cores))) {
				next = s
			}
		}
		if next == nil {
			return
		}
		full[next] = d.take(next, 1, anyKind, home) == 0
	}
}

// keep finds a core for each of some that avoid others, by augmenting paths (Kuhn's
// algorithm): if all cores of one are kept already, their keepers look for another.
func (d *divider) keep(s *share, home []*share, seen []bool) bool {
	for c := range home {
		if seen[c] || !d.mayHave(s, c) {
			continue
		}
		seen[c] = true
		if home[c] == nil || d.keep(home[c], home, seen) {
			home[c] = s
			return true
		}
	}
	return false
}

const anyKind = -1

// take gives somebody up to n free cores of a kind, on as few nodes and last-level
// caches as they fit, and tells how many there were. Cores kept for others are not
// free.
func (d *divider) take(s *share, n, kind int, home []*share) int {
	got := 0
	for got < n {
		free := d.free(s, kind, home)
		g := d.bestGroup(s, free, n-got)
		if g < 0 {
			break
		}
		for _, c := range free[g] {
			if got < n {
				d.give(c, s)
				got++
			}
		}
	}
	return got
}

func (d *divider) give(core int, s *share) {
	d.on[core] = append(d.on[core], s)
	s.cores = append(s.cores, core)
	s.speed += d.room.cores[core].rate
}

// free are the cores that somebody could have, by group; of any kind, the fastest that
// there are in each.
func (d *divider) free(s *share, kind int, home []*share) [][]int {
	out := make([][]int, len(d.room.groups))
	fastest := math.MaxInt
	for c := range d.room.cores {
		core := &d.room.cores[c]
		if len(d.on[c]) > 0 || home[c] != nil && home[c] != s || kind != anyKind && core.kind != kind || !d.mayHave(s, c) {
			continue
		}
		if core.kind < fastest && kind == anyKind {
			fastest = core.kind
			clear(out)
		}
		if core.kind <= fastest {
			out[core.group] = append(out[core.group], c)
		}
	}
	return out
}

// bestGroup is the group from which to take the next of n cores, or -1: the near node's,
// then one that is begun, in a node that is begun, in the smallest node that holds all n
// or else the largest; and there the smallest group that holds them or else the largest.
func (d *divider) bestGroup(s *share, free [][]int, n int) int {
	inNode := make([]int, len(d.room.nodes))
	for g, cores := range free {
		inNode[d.room.groups[g].node] += len(cores)
	}
	begun, begunNode := make([]bool, len(free)), make([]bool, len(inNode))
	for _, c := range s.cores {
		begun[d.room.cores[c].group], begunNode[d.room.cores[c].node] = true, true
	}
	fit := func(a, b int) int {
		if a >= n && b >= n {
			return a - b
		}
		return b - a
	}
	best := -1
	for _, g := range d.room.everyGroup() {
		if len(free[g]) == 0 {
			continue
		}
		if best < 0 {
			best = g
			continue
		}
		a, b := d.room.groups[g].node, d.room.groups[best].node
		if cmp.Or(first(a == s.near, b == s.near), first(begun[g], begun[best]), first(begunNode[a], begunNode[b]),
			fit(inNode[a], inNode[b]), a-b, fit(len(free[g]), len(free[best]))) < 0 {
			best = g
		}
	}
	return best
}

// counts says who has how many cores.
func (d *divider) counts(shares []*share) string {
	var out []string
	for _, s := range shares {
		out = append(out, s.p.Name+" "+number(float64(len(s.cores))))
	}
	return inList(out)
}

// explainCommon says what the parts still have in common, which their plans do not know.
func (d *divider) explainCommon() {
	var groups []string
	shared := false
	for g := range d.room.groups {
		var owners []*share
		for _, c := range d.room.groups[g].cores {
			shared = shared || len(d.on[c]) > 1
			if len(d.on[c]) > 0 && !slices.Contains(owners, d.on[c][0]) {
				owners = append(owners, d.on[c][0])
			}
		}
		if len(owners) > 1 {
			groups = append(groups, names(owners))
		}
	}
	if shared {
		d.assume("Parts that share cores are planned as if these were theirs alone: the budgets, and not the plans, hold what each leaves to the others.")
	}
	if len(groups) > 0 {
		slices.Sort(groups)
		d.assume("Some parts share a last-level cache and the way to memory, which no plan counts: %s.", strings.Join(slices.Compact(groups), "; "))
	}
}
