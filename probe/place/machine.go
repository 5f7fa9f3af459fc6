package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// machine finds the objects of a topology. What an expression does not ask for
// is not looked up.
type machine struct {
	*topology.Topology
	levels map[string]*level
}

// level is the objects of one type, in the machine's order.
type level struct {
	noun   string // of one of them
	sets   []cpuset.Set
	owners []int32 // for each CPU the object that has it
	counts []int   // for each object a counter that is 0 between uses
}

func newMachine(t *topology.Topology) *machine {
	return &machine{t, map[string]*level{}}
}

// types holds the names of types: berth's first, then hwloc's and the usual
// others. A word that is at least so long and begins a name stands for it.
var types = [...]struct {
	name  string
	least int
	means string
}{
	{"machine", 4, "machine"}, {"package", 4, "package"}, {"die", 3, "die"}, {"cluster", 4, "cluster"}, {"numa", 4, "numa"},
	{"llc", 3, "llc"}, {"core", 4, "core"}, {"pu", 2, "pu"}, {"kind", 4, "kind"}, {"drawer", 6, "drawer"}, {"book", 4, "book"},
	{"socket", 4, "package"}, {"group", 5, "cluster"}, {"numanode", 4, "numa"}, {"node", 4, "numa"},
	{"cpu", 3, "pu"}, {"thread", 6, "pu"},
}

const typeList = "machine, package, die, cluster, numa, llc, l1 to l5, core, pu, kind"

// typeNamed returns the type that a word stands for, in berth's name; a cache
// is "l2", or "l1i" if it holds instructions.
func typeNamed(word string) (string, bool) {
	word = strings.ToLower(word)
	for _, t := range types {
		if len(word) >= t.least && strings.HasPrefix(t.name, word) {
			return t.means, true
		}
	}
	cache := strings.TrimSuffix(word, "cache")
	if len(cache) < 2 || cache[0] != 'l' || cache[1] < '1' || cache[1] > '5' {
		return "", false
	}
	switch cache[2:] {
	case "", "d", "u": // hwloc holds data and unified caches to be one type
		return cache[:2], true
	case "i":
		return cache, cache[1] <= '3'
	}
	return "", false
}

// nearest is what a mistyped word may have been meant to be, or "".
func nearest(word string, of ...string) string {
	best, least := "", min(len(word)/2, 3)+1
	for _, w := range of {
		if d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(w), nil); d < least {
			best, least = w, d
		}
	}
	return best
}

func typeHint(word string) string {
	names := []string{"l1", "l2", "l3", "l1i"}
	for _, t := range types {
		names = append(names, t.name)
	}
	if like := nearest(word, names...); like != "" {
		return "did you mean " + like + "?"
	}
	return "it is one of " + typeList
}

// level returns the objects of a type as [typeNamed] calls it; none if nothing
// says what they are.
func (m *machine) level(typ string) *level {
	l := m.levels[typ]
	if l == nil {
		l = m.find(typ)
		for i, s := range l.sets {
			if !s.SubsetOf(m.Online) {
				l.sets[i] = s.Intersect(m.Online)
			}
		}
		m.levels[typ] = l
	}
	return l
}

func (m *machine) find(typ string) *level {
	group := func(g topology.Group) cpuset.Set { return g.CPUs }
	switch typ {
	case "machine":
		return &level{noun: typ, sets: []cpuset.Set{m.Online}}
	case "drawer":
		return &level{noun: typ, sets: setsOf(m.Drawers, group)}
	case "book":
		return &level{noun: typ, sets: setsOf(m.Books, group)}
	case "package":
		return &level{noun: typ, sets: setsOf(m.Packages, func(p topology.Package) cpuset.Set { return p.CPUs })}
	case "die":
		return &level{noun: typ, sets: setsOf(m.Dies, func(d topology.Die) cpuset.Set { return d.CPUs })}
	case "cluster":
		return &level{noun: typ, sets: setsOf(m.Clusters, group)}
	case "numa":
		return &level{noun: "NUMA node", sets: setsOf(m.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs })}
	case "core":
		return &level{noun: typ, sets: setsOf(m.Cores, func(c topology.Core) cpuset.Set { return c.CPUs })}
	case "pu":
		return &level{noun: "CPU", sets: setsOf(m.LogicalOrder(), func(c cpuset.CPU) cpuset.Set { return cpuset.Range(c, c) })}
	case "llc":
		return &level{noun: "last-level cache", sets: setsOf(m.LastLevel(), func(c topology.Cache) cpuset.Set { return c.CPUs })}
	}
	l := &level{noun: strings.ToUpper(typ[:2]) + typ[2:] + " cache"}
	for _, c := range m.Caches {
		if c.Level == int(typ[1]-'0') && (c.Type == topology.Instruction) == strings.HasSuffix(typ, "i") {
			l.sets = append(l.sets, c.CPUs)
		}
	}
	return l
}

func setsOf[T any](objects []T, cpus func(T) cpuset.Set) []cpuset.Set {
	sets := make([]cpuset.Set, len(objects))
	for i, o := range objects {
		sets[i] = cpus(o)
	}
	return sets
}

// inside returns those objects of a level that lie wholly in a set, in order.
func (m *machine) inside(l *level, set cpuset.Set) []cpuset.Set {
	if set.Equal(m.Online) {
		return l.sets
	}
	if l.owners == nil {
		l.owners = topology.Owners(int(m.Online.Last())+1, l.sets, func(s cpuset.Set) cpuset.Set { return s })
		l.counts = make([]int, len(l.sets))
	}
	var touched []int32
	for c := range set.All() {
		if i := l.owners[c]; i >= 0 {
			if l.counts[i]++; l.counts[i] == 1 {
				touched = append(touched, i)
			}
		}
	}
	slices.Sort(touched)
	whole := make([]cpuset.Set, 0, len(touched))
	for _, i := range touched {
		if l.counts[i] == l.sets[i].Len() {
			whole = append(whole, l.sets[i])
		}
		l.counts[i] = 0
	}
	return whole
}

// among is "3 cores, 0-2".
func among(noun string, n int) string {
	switch n {
	case 0:
		return "no " + noun
	case 1:
		return "1 " + noun + ", number 0"
	}
	return fmt.Sprintf("%d %ss, 0-%d", n, noun, n-1)
}
