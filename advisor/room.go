package advisor

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/topology"
	"berth/profiles"
)

// room is what a machine leaves to a workload: the CPUs that are allowed and
// neither reserved, avoided nor isolated, as cores in the machine's own order.
type room struct {
	cores  []core
	groups []group // of cores under one last-level cache and in one node
	nodes  []node  // those that hold any of the cores
	cpus   cpuset.Set
	kinds  int // of cores, among these
	// quota is in CPUs; +Inf where none is smaller than the set of CPUs.
	quota, periodMS float64
	memoryMiB       float64 // what may be used, or 0 where it is not known
	near            int     // the node that the profile wants to be near, or -1
	short           string  // why the profile's wishes left nothing and were overruled; or ""
	assumptions     []string
	reasons         []string
}

type core struct {
	index       topology.CoreIndex
	cpus        []cpuset.CPU // that may be used, ascending
	rate        float64      // relative to the fastest kind of the machine
	kind        int          // its rank, the fastest being 0
	group       int
	node        int  // place in room.nodes
	performance bool // of the fastest kind there is
}

type group struct {
	node  int
	cores []int
}

type node struct {
	id        int
	known     bool // false: the machine names no nodes
	place     int  // in the machine's list
	groups    []int
	cores     int
	distances []int
}

func (r *room) assume(format string, args ...any) {
	r.assumptions = append(r.assumptions, fmt.Sprintf(format, args...))
}

func (r *room) reason(format string, args ...any) {
	r.reasons = append(r.reasons, fmt.Sprintf(format, args...))
}

// budget is min(CPUs, quota).
func (r *room) budget() float64 { return math.Min(float64(r.cpus.Len()), r.quota) }

func newRoom(m *probe.Machine, p *profiles.Profile) (*room, error) {
	r := &room{quota: math.Inf(1), periodMS: 100, near: -1}
	all := allCores(&m.Topology)
	if m.Topology.Allowed.IsEmpty() {
		return nil, fmt.Errorf("the machine allows no CPU: topology.allowed is empty")
	}
	if len(m.Topology.Cores) == 0 {
		r.assume("The machine's cores are not known: each CPU counts as one.")
	}
	left, err := r.keepOut(&m.Topology, all, p)
	if err != nil {
		return nil, err
	}
	r.cpus = left
	r.furnish(&m.Topology, all)

	if q := m.Limits.QuotaCPUs; q != nil && *q < float64(left.Len()) {
		r.quota = *q
		if m.Limits.QuotaPeriodMS != nil && *m.Limits.QuotaPeriodMS > 0 {
			r.periodMS = *m.Limits.QuotaPeriodMS
		} else {
			r.assume("The quota's period is not known: 100 ms, the kernel's default.")
		}
	}
	r.memoryMiB = memory(m)
	if p.Work.Near != "" {
		r.findDevice(m, p.Work.Near)
	}
	return r, nil
}

// allCores are the machine's cores, or its CPUs where cores are not known.
func allCores(t *topology.Topology) []topology.Core {
	if len(t.Cores) > 0 {
		return t.Cores
	}
	var out []topology.Core
	for c := range t.Allowed.All() {
		out = append(out, topology.Core{Index: topology.CoreIndex(len(out)), CPUs: cpuset.Range(c, c)})
	}
	return out
}

// keepOut takes from the allowed CPUs those that the workload must leave alone.
func (r *room) keepOut(t *topology.Topology, cores []topology.Core, p *profiles.Profile) (cpuset.Set, error) {
	left := t.Allowed
	if t.Isolated != nil && left.Overlaps(*t.Isolated) {
		if rest := left.Minus(*t.Isolated); !rest.IsEmpty() {
			r.reason("kept out: the isolated CPUs %s, on which the scheduler balances nothing; --cpus takes them if they are meant", left.Intersect(*t.Isolated))
			left = rest
		} else {
			r.assume("Only isolated CPUs are allowed, so they are taken as meant for this workload. The scheduler balances nothing there: every thread needs its seat.")
		}
	}
	free := left
	avoid, err := cpuset.Parse(p.Limits.AvoidCPUs)
	if err != nil {
		return cpuset.Set{}, fmt.Errorf("limits.avoid_cpus: %w", err)
	}
	if !avoid.IsEmpty() {
		if !avoid.Overlaps(left) {
			r.assume("None of the CPUs to avoid (%s) is among those allowed.", avoid)
		}
		left = left.Minus(avoid)
	}
	want := int(p.Limits.ReserveCores)
	left = left.Minus(reserved(cores, free, avoid, want))
	if left.IsEmpty() {
		last := lastCore(cores, free)
		r.short = fmt.Sprintf("reserve_cores %d and avoid_cpus %q leave none of the CPUs %s", want, p.Limits.AvoidCPUs, free)
		return last, nil
	}
	if kept := free.Minus(left); !kept.IsEmpty() {
		r.reason("kept out: CPUs %s (reserve_cores %d, avoid_cpus %q)", kept, want, p.Limits.AvoidCPUs)
	}
	return left, nil
}

// reserved are the free CPUs of so many cores: those that hold a CPU to avoid
// first, then the lowest.
func reserved(cores []topology.Core, free, avoid cpuset.Set, want int) cpuset.Set {
	var out []cpuset.Set
	for _, touched := range [...]bool{true, false} {
		for _, c := range cores {
			if len(out) >= want {
				break
			}
			usable := c.CPUs.Intersect(free)
			if !usable.IsEmpty() && c.CPUs.Overlaps(avoid) == touched {
				out = append(out, usable)
			}
		}
	}
	return cpuset.UnionAll(out...)
}

func lastCore(cores []topology.Core, among cpuset.Set) cpuset.Set {
	for i := len(cores) - 1; i >= 0; i-- {
		if usable := cores[i].CPUs.Intersect(among); !usable.IsEmpty() {
			return usable
		}
	}
	return among
}

// furnish puts the usable cores into nodes and groups.
func (r *room) furnish(t *topology.Topology, all []topology.Core) {
	size := int(r.cpus.Last()) + 1
	usable := make([]bool, size)
	for c := range r.cpus.All() {
		usable[c] = true
	}
	nodeOf := topology.Owners(size, t.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs })
	packageOf := topology.Owners(size, t.Packages, func(p topology.Package) cpuset.Set { return p.CPUs })
	kindOf := topology.Owners(size, t.CoreKinds, func(k topology.Kind) cpuset.Set { return k.CPUs })
	llcOf := topology.Owners(size, t.LastLevel(), func(c topology.Cache) cpuset.Set { return c.CPUs })
	rates, ranks := r.kindRates(t.CoreKinds)

	nodeAt := map[int32]int{}
	groupAt := map[[2]int32]int{}
	kinds := map[int32]bool{}
	for _, c := range all {
		k := core{index: c.Index, rate: 1, performance: true}
		for cpu := range c.CPUs.All() {
			if int(cpu) < size && usable[cpu] {
				k.cpus = append(k.cpus, cpu)
			}
		}
		if len(k.cpus) == 0 {
			continue
		}
		first := k.cpus[0]
		kind := kindOf[first]
		kinds[kind] = true
		if kind >= 0 {
			k.rate, k.kind = rates[kind], ranks[kind]
			k.performance = rates[kind] == 1
		}
		n := nodeOf[first]
		at, ok := nodeAt[n]
		if !ok {
			at = len(r.nodes)
			nodeAt[n] = at
			seat := node{place: int(n)}
			if n >= 0 {
				seat.id, seat.known, seat.distances = t.NUMANodes[n].ID, true, t.NUMANodes[n].Distances
			}
			r.nodes = append(r.nodes, seat)
		}
		k.node = at
		key := [2]int32{n, llcOf[first]}
		if llcOf[first] < 0 {
			key[1] = -2 - packageOf[first]
		}
		g, ok := groupAt[key]
		if !ok {
			g = len(r.groups)
			groupAt[key] = g
			r.groups = append(r.groups, group{node: at})
			r.nodes[at].groups = append(r.nodes[at].groups, g)
		}
		k.group = g
		r.groups[g].cores = append(r.groups[g].cores, len(r.cores))
		r.nodes[at].cores++
		r.cores = append(r.cores, k)
	}
	r.kinds = len(kinds)
	r.sortNodes()
}

// sortNodes puts the nodes into the machine's order.
func (r *room) sortNodes() {
	order := make([]int, len(r.nodes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return r.nodes[a].place - r.nodes[b].place })
	if slices.IsSorted(order) {
		return
	}
	now := make([]int, len(order))
	nodes := make([]node, len(order))
	for to, from := range order {
		nodes[to], now[from] = r.nodes[from], to
	}
	r.nodes = nodes
	for i := range r.cores {
		r.cores[i].node = now[r.cores[i].node]
	}
	for i := range r.groups {
		r.groups[i].node = now[r.groups[i].node]
	}
}

// kindRates are the speeds of kinds relative to the fastest, and their ranks by
// speed. Where the kernel gives no capacities they are assumed.
func (r *room) kindRates(kinds []topology.Kind) (rates []float64, ranks []int) {
	rates, ranks = make([]float64, len(kinds)), make([]int, len(kinds))
	best, known := 0, len(kinds) > 0
	for _, k := range kinds {
		known = known && k.Capacity != nil && *k.Capacity > 0
		if known {
			best = max(best, *k.Capacity)
		}
	}
	var assumed []string
	for i, k := range kinds {
		switch {
		case known:
			rates[i] = float64(*k.Capacity) / float64(best)
		case k.Name == "efficiency":
			rates[i] = 0.6
		case k.Name == "low-power":
			rates[i] = 0.4
		default:
			rates[i] = 1
		}
		assumed = append(assumed, fmt.Sprintf("%s %s", k.Name, number(rates[i])))
	}
	if !known && len(kinds) > 1 {
		r.assume("The kernel gives no capacities of the kinds of cores; assumed: %s.", strings.Join(assumed, ", "))
	}
	order := make([]int, len(kinds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case rates[a] > rates[b]:
			return -1
		case rates[a] < rates[b]:
			return 1
		}
		return 0
	})
	for rank, i := range order {
		ranks[i] = rank
	}
	return rates, ranks
}

// memory is min(total, limit) in MiB, or 0.
func memory(m *probe.Machine) float64 {
	var total int64
	if m.Host.MemoryBytes != nil {
		total = *m.Host.MemoryBytes
	} else {
		for _, n := range m.Topology.NUMANodes {
			if n.MemoryBytes == nil {
				total = 0
				break
			}
			total += *n.MemoryBytes
		}
	}
	if l := m.Limits.MemoryBytes; l != nil && (total <= 0 || *l < total) {
		total = *l
	}
	return float64(total) / (1 << 20)
}

// findDevice looks for the node of a device: KIND:NAME or a PCI address.
func (r *room) findDevice(m *probe.Machine, want string) {
	var there []string
	for _, d := range m.Devices {
		there = append(there, d.Kind+":"+d.Name)
		if want != d.Kind+":"+d.Name && !samePCI(want, d.PCI) {
			continue
		}
		id := -1
		switch {
		case d.NUMANode != nil:
			id = *d.NUMANode
		case !d.LocalCPUs.IsEmpty():
			for _, n := range m.Topology.NUMANodes {
				if d.LocalCPUs.SubsetOf(n.CPUs) {
					id = n.ID
				}
			}
		}
		for i, n := range r.nodes {
			if n.known && n.id == id {
				r.near = i
				r.reason("near %s: node %d comes first", want, id)
				return
			}
		}
		if id < 0 {
			r.assume("The machine does not say next to which node %s is, so all nodes count as equally near.", want)
		} else {
			r.assume("%s is next to node %d, where no CPU may be used, so all nodes count as equally near.", want, id)
		}
		return
	}
	if len(there) == 0 {
		there = []string{"none"}
	}
	r.assume("There is no device %s (known: %s), so all nodes count as equally near.", want, strings.Join(there, ", "))
}

// samePCI compares bus addresses; the domain 0000 may be left out.
func samePCI(want, have string) bool {
	if have == "" {
		return false
	}
	return strings.EqualFold(want, have) || strings.EqualFold("0000:"+want, have)
}
