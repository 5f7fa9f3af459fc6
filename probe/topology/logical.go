package topology

import (
	"slices"

	"berth/probe/cpuset"
)

// LogicalOrder is the online CPUs in the machine's order, core by core; those of
// no known core come last. A CPU's index in it is its logical number (L#).
func (t *Topology) LogicalOrder() []cpuset.CPU {
	order := make([]cpuset.CPU, 0, t.Online.Len())
	seen := make([]bool, int(t.Online.Last())+1)
	add := func(set cpuset.Set) {
		for c := range set.All() {
			if int(c) < len(seen) && !seen[c] {
				seen[c] = true
				order = append(order, c)
			}
		}
	}
	for _, core := range t.Cores {
		add(core.CPUs.Intersect(t.Online))
	}
	add(t.Online)
	return order
}

// LastLevel is the data caches that have no larger one behind them, in the
// machine's order: what shares one is an LLC group. Their level differs where
// efficiency cores have no L3.
func (t *Topology) LastLevel() []Cache {
	var last []Cache
	behind := cpuset.Set{}
	for level := 5; level > 0; level-- {
		var here []cpuset.Set
		for _, c := range t.Caches {
			if c.Level == level && c.Type != Instruction && !c.CPUs.Overlaps(behind) {
				last = append(last, c)
				here = append(here, c.CPUs)
			}
		}
		behind = behind.Union(cpuset.UnionAll(here...))
	}
	place := make([]int, int(t.Online.Last())+1)
	for i, c := range t.LogicalOrder() {
		place[c] = i
	}
	first := func(c Cache) int {
		least := len(place)
		for cpu := range c.CPUs.Intersect(t.Online).All() {
			least = min(least, place[cpu])
		}
		return least
	}
	slices.SortStableFunc(last, func(a, b Cache) int { return first(a) - first(b) })
	return last
}
