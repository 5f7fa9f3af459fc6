//go:build linux

package tune

import (
	"cmp"
	"slices"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// Placement is where workers are: the first n of its places together are the
// CPUs of n workers. Without places they are not pinned.
type Placement struct {
	Name   string
	Places []cpuset.Set
}

// Names of the placements that [None], [Spread] and [Compact] make.
const (
	NameNone    = "none"
	NameSpread  = "spread"
	NameCompact = "compact"
)

// None leaves it to the kernel.
func None() Placement { return Placement{Name: NameNone} }

// On is the CPUs for n workers; empty: any.
func (p *Placement) On(n int) cpuset.Set {
	return cpuset.UnionAll(p.Places[:min(n, len(p.Places))]...)
}

// Spread gives each worker a core, in turn from each group of cores that share a
// last-level cache, and these from each node in turn; siblings last.
func Spread(t *topology.Topology) Placement {
	groups := groupsOf(t)
	slices.SortStableFunc(groups, func(a, b cacheGroup) int { return cmp.Or(a.turn-b.turn, a.node-b.node) })
	p := Placement{Name: NameSpread}
	width := 0
	for _, g := range groups {
		for _, c := range g.cores {
			width = max(width, len(c))
		}
	}
	for thread := range width {
		for core, more := 0, true; more; core++ {
			more = false
			for _, g := range groups {
				if core < len(g.cores) {
					more = true
					if c := g.cores[core]; thread < len(c) {
						p.Places = append(p.Places, single(c[thread]))
					}
				}
			}
		}
	}
	return p
}

// Compact fills one group of cores that share a last-level cache, siblings
// included, before the next.
func Compact(t *topology.Topology) Placement {
	p := Placement{Name: NameCompact}
	groups := groupsOf(t)
	slices.SortStableFunc(groups, func(a, b cacheGroup) int { return a.node - b.node })
	for _, g := range groups {
		for thread, more := 0, true; more; thread++ {
			more = false
			for _, c := range g.cores {
				if thread < len(c) {
					more = true
					p.Places = append(p.Places, single(c[thread]))
				}
			}
		}
	}
	return p
}

// Groups is how many groups of cores with a common last-level cache there are
// among the CPUs that may be used.
func Groups(t *topology.Topology) int { return len(groupsOf(t)) }

func single(c cpuset.CPU) cpuset.Set { return cpuset.Range(c, c) }

// cacheGroup is the cores behind one last-level cache, fast kinds first.
type cacheGroup struct {
	cores [][]cpuset.CPU
	node  int // place of its node
	turn  int // of the groups of that node
}

// groupsOf are the groups of the CPUs allowed, without isolated ones unless
// there are no others, in the machine's order.
func groupsOf(t *topology.Topology) []cacheGroup {
	usable := t.Allowed
	if t.Isolated != nil && !usable.SubsetOf(*t.Isolated) {
		usable = usable.Minus(*t.Isolated)
	}
	rank := map[string]int{}
	for i, k := range t.CoreKinds {
		rank[k.Name] = i
	}
	left := usable
	var groups []cacheGroup
	take := func(set cpuset.Set) {
		type ranked struct {
			cpus []cpuset.CPU
			kind int
		}
		var cores []ranked
		for i := range t.Cores {
			if in := t.Cores[i].CPUs.Intersect(set).Intersect(left); !in.IsEmpty() {
				cores = append(cores, ranked{slices.Collect(in.All()), rank[t.Cores[i].Kind]})
				left = left.Minus(in)
			}
		}
		for c := range set.Intersect(left).All() { // CPUs of which no core is known
			cores = append(cores, ranked{cpus: []cpuset.CPU{c}})
		}
		left = left.Minus(set)
		if len(cores) == 0 {
			return
		}
		slices.SortStableFunc(cores, func(a, b ranked) int { return a.kind - b.kind })
		g := cacheGroup{}
		for _, c := range cores {
			g.cores = append(g.cores, c.cpus)
		}
		for i, n := range t.NUMANodes {
			if n.CPUs.Contains(g.cores[0][0]) {
				g.node = i
			}
		}
		for _, other := range groups {
			if other.node == g.node {
				g.turn++
			}
		}
		groups = append(groups, g)
	}
	for _, c := range t.LastLevel() {
		take(c.CPUs.Intersect(left))
	}
	take(left)
	return groups
}
