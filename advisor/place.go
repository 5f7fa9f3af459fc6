package advisor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

// slot is one CPU in the order in which seats are given out.
type slot struct {
	cpu  cpuset.CPU
	core int // in room.cores
}

// place seats the workers, or says why seats would do harm.
func (t *task) place(m *probe.Machine, w Workers) Placement {
	total := w.Total()
	free := Placement{Pin: NoPin, CPUs: t.cpus, Seats: []Seat{}}
	isolated := m.Topology.Isolated != nil && t.cpus.SubsetOf(*m.Topology.Isolated)
	switch {
	case isolated:
		// Without seats all threads would stay where they were born.
	case !math.IsInf(t.quota, 1):
		free.Why = fmt.Sprintf("not pinned: the quota of %s CPUs can be spent on any of the %d, and a pinned worker would wait for its one while others idle",
			number(t.quota), t.cpus.Len())
		return free
	case m.Host.Hypervisor != "":
		free.Why = "not pinned: these are virtual CPUs, and nothing promises that one keeps its physical core"
		return free
	case m.Host.Container != "" && t.cpus.Equal(m.Topology.Online):
		free.Why = "not pinned: the container has no CPUs of its own, and whoever shares these would be pinned against"
		return free
	}
	if total > t.cpus.Len() {
		return t.placeCrowd(w, free, isolated)
	}
	if w.Inner > 1 {
		return t.placeTeams(w)
	}
	slots := t.slots(total)
	out := Placement{Pin: PerCore}
	if total > len(t.cores) {
		out.Pin = PerCPU
	}
	switch {
	case t.migrates() && w.Threads > 1:
		// The language's own scheduler moves its tasks between threads.
		out.Pin = PerGroup
		for worker := range w.Processes {
			var mine []slot
			for thread := range w.Threads {
				mine = append(mine, slots[worker+thread*w.Processes])
			}
			out.Seats = append(out.Seats, t.seat(worker, nil, mine...))
		}
		out.Why = fmt.Sprintf("%s; the %s runtime moves work between its threads, so a process has its CPUs, not a thread its CPU", t.manner(total), t.p.Runtime)
	default:
		for worker := range w.Processes {
			for thread := range w.Threads {
				seat := t.seat(worker, nil, slots[worker+thread*w.Processes])
				if w.Threads > 1 || w.Model == Threads {
					seat.Thread = &thread
				}
				out.Seats = append(out.Seats, seat)
			}
		}
		out.Why = t.manner(total)
	}
	out.CPUs = union(slots)
	return out
}

// migrates: the runtime schedules its own tasks over its threads.
func (t *task) migrates() bool {
	return t.p.Runtime == profiles.Go || t.p.Runtime == profiles.Java
}

// manner says how the seats were chosen.
func (t *task) manner(n int) string {
	var parts []string
	switch {
	case n > len(t.cores):
		parts = append(parts, "one per core first, then their siblings")
	default:
		parts = append(parts, "one per core")
	}
	if t.kinds > 1 {
		parts = append(parts, "the fastest kind first")
	}
	if t.near >= 0 {
		parts = append(parts, fmt.Sprintf("node %d first, where %s is", t.nodes[t.near].id, t.p.Work.Near))
	}
	switch {
	case len(t.groups) == 1:
	case t.p.Work.Communicates:
		parts = append(parts, "one last-level cache filled before the next, because workers communicate")
	case t.p.Objective == profiles.Latency && t.law.drawn == nil:
		parts = append(parts, "close together, which leaves the rest undisturbed")
	case t.p.Objective == profiles.Efficiency && t.law.drawn == nil:
		parts = append(parts, "on the fewest last-level caches")
	default:
		parts = append(parts, "dealt out over last-level caches and nodes, so that each has the most room")
	}
	return strings.Join(parts, ", ")
}

// crowd is how many processes for each CPU a list of seats is good for.
const crowd = 16

// placeCrowd is for more threads than CPUs: seats of one CPU would make queues.
func (t *task) placeCrowd(w Workers, free Placement, isolated bool) Placement {
	groups := t.dealt(t.everyGroup())
	if w.Processes > 1 && w.Processes <= crowd*t.cpus.Len() && len(groups) > 1 && w.Processes%len(groups) == 0 {
		out := Placement{Pin: PerGroup, CPUs: t.cpus}
		sets := make([][]slot, len(groups))
		for i, g := range groups {
			for _, c := range t.groups[g].cores {
				for _, cpu := range t.cores[c].cpus {
					sets[i] = append(sets[i], slot{cpu, c})
				}
			}
		}
		for worker := range w.Processes {
			out.Seats = append(out.Seats, t.seat(worker, nil, sets[worker%len(groups)]...))
		}
		out.Why = "each process within one last-level cache, whose CPUs its threads share: more threads than CPUs cannot have one each"
		return out
	}
	if isolated {
		free.Why = "not pinned, for there are more threads than CPUs; but these CPUs are isolated and nothing balances threads on them: use others"
	} else {
		free.Why = fmt.Sprintf("not pinned: %d threads share %d CPUs, and the kernel gives whoever wakes one that is free", w.Total(), t.cpus.Len())
	}
	return free
}

// placeTeams seats workers of several threads each: within one object if ranks
// ask for it, else each where one last-level cache has the most room.
func (t *task) placeTeams(w Workers) Placement {
	out := Placement{Pin: PerGroup}
	var taken []slot
	sit := func(worker int, mine []slot) {
		out.Seats = append(out.Seats, t.seat(worker, nil, mine...))
		taken = append(taken, mine...)
	}
	var objects [][]int
	switch t.p.Load.RanksPer {
	case profiles.PerNode:
		for _, n := range t.nodes {
			var cores []int
			for _, g := range n.groups {
				cores = append(cores, t.groups[g].cores...)
			}
			objects = append(objects, cores)
		}
		out.Why = "a rank in each NUMA node, so that its threads' memory is local; one thread per core"
	case profiles.PerLLC:
		for _, g := range t.everyGroup() {
			objects = append(objects, t.groups[g].cores)
		}
		out.Why = "a rank under each last-level cache, so that its threads share one; one thread per core"
	}
	if objects != nil && w.Processes == len(objects) {
		for worker := range w.Processes {
			cores := objects[worker]
			sit(worker, t.firsts(cores[:min(len(cores), w.Inner)]))
		}
	} else {
		out.Why = "each worker's threads under one last-level cache where they fit, one per core"
		left := make([][]int, len(t.groups))
		for g := range t.groups {
			left[g] = slices.Clone(t.groups[g].cores)
		}
		order := t.dealt(t.everyGroup())
		for worker := range w.Processes {
			best := order[0]
			for _, g := range order {
				if len(left[g]) > len(left[best]) {
					best = g
				}
			}
			var mine []int
			for need := w.Inner; need > 0; need = w.Inner - len(mine) {
				k := min(need, len(left[best]))
				mine = append(mine, left[best][:k]...)
				left[best] = left[best][k:]
				for _, g := range order { // the neighbour with room
					if len(mine) < w.Inner && len(left[g]) > 0 {
						best = g
						break
					}
				}
			}
			sit(worker, t.firsts(mine))
		}
	}
	out.CPUs = union(taken)
	return out
}

// firsts are the slots on the first CPU of cores.
func (t *task) firsts(cores []int) []slot {
	out := make([]slot, len(cores))
	for i, c := range cores {
		out[i] = slot{t.cores[c].cpus[0], c}
	}
	return out
}

// seat is the place of a process, or of a thread of it, on some slots.
func (t *task) seat(worker int, thread *int, slots ...slot) Seat {
	return Seat{Worker: worker, Thread: thread, CPUs: union(slots), Mems: t.mems(slots)}
}

func union(slots []slot) cpuset.Set {
	cpus := make([]cpuset.CPU, len(slots))
	last := cpuset.CPU(0)
	for i, s := range slots {
		cpus[i] = s.cpu
		last = max(last, s.cpu)
	}
	if len(slots) > 64 { // put them in order without comparing each with others
		seen := make([]bool, last+1)
		for _, c := range cpus {
			seen[c] = true
		}
		cpus = cpus[:0]
		for c, is := range seen {
			if is {
				cpus = append(cpus, cpuset.CPU(c))
			}
		}
	}
	return cpuset.Of(cpus...)
}

// mems lists the nodes beside the slots, in their order.
func (t *task) mems(slots []slot) string {
	var ids []string
	last := -1
	seen := make([]bool, len(t.nodes))
	for _, s := range slots {
		n := t.cores[s.core].node
		if n == last || seen[n] {
			continue
		}
		last, seen[n] = n, true
		if t.nodes[n].known {
			ids = append(ids, strconv.Itoa(t.nodes[n].id))
		}
	}
	return strings.Join(ids, ",")
}

// everyGroup lists the groups node by node.
func (r *room) everyGroup() []int {
	out := make([]int, 0, len(r.groups))
	for _, n := range r.nodes {
		out = append(out, n.groups...)
	}
	return out
}

// dealt takes one group from each node in turn: node 0's first, node 1's first,
// node 0's second …
func (t *task) dealt(groups []int) []int {
	byNode := make([][]int, len(t.nodes))
	for _, g := range groups {
		n := t.groups[g].node
		byNode[n] = append(byNode[n], g)
	}
	out := make([]int, 0, len(groups))
	for i := 0; len(out) < len(groups); i++ {
		for _, list := range byNode {
			if i < len(list) {
				out = append(out, list[i])
			}
		}
	}
	return out
}

// slots gives out n CPUs: cores before siblings, the near node before the
// others, fast kinds before slow ones; and among equals by the work: spread over
// caches and nodes, or filling one after another.
func (t *task) slots(n int) []slot {
	near, far := t.everyGroup(), []int(nil)
	if t.near >= 0 {
		near = t.nodes[t.near].groups
		for _, g := range t.everyGroup() {
			if t.groups[g].node != t.near {
				far = append(far, g)
			}
		}
	}
	spread := t.spreads()
	room := make([]int, len(t.nodes))
	for i := range room {
		room[i] = math.MaxInt
		if t.law.drawn != nil && n < len(t.law.drawn) {
			room[i] = t.law.wanted[i]
		}
	}
	kinds, width := 0, 0
	for _, c := range t.cores {
		kinds, width = max(kinds, c.kind+1), max(width, len(c.cpus))
	}
	out := make([]slot, 0, n)
	for thread := 0; thread < width; thread++ {
		for _, part := range [...][]int{near, far} {
			for kind := range kinds {
				groups := part
				if kinds > 1 {
					groups = t.holding(part, kind)
				}
				out = t.deal(out, n, t.sequence(groups, n), spread, room, func(c *core) bool { return c.kind == kind && len(c.cpus) > thread }, thread)
			}
		}
	}
	return out
}

// holding are those of the groups that have cores of a kind.
func (t *task) holding(groups []int, kind int) []int {
	var out []int
	for _, g := range groups {
		if slices.ContainsFunc(t.groups[g].cores, func(c int) bool { return t.cores[c].kind == kind }) {
			out = append(out, g)
		}
	}
	return out
}

// spreads reports whether workers keep apart.
func (t *task) spreads() bool {
	return t.law.drawn != nil || !t.p.Work.Communicates && t.p.Objective == profiles.Throughput
}

// sequence is the order of groups for this work.
func (t *task) sequence(groups []int, n int) []int {
	switch {
	case t.spreads():
		return t.dealt(groups)
	case t.p.Work.Communicates:
		return t.neighbours(groups, n)
	case t.p.Objective == profiles.Efficiency:
		return t.fewest(groups, n)
	}
	return groups
}

// fewest puts first as few groups as hold n workers, and of equally few those
// that come first.
func (t *task) fewest(groups []int, n int) []int {
	size := func(g int) int { return len(t.groups[g].cores) }
	bySize := slices.Clone(groups)
	slices.SortStableFunc(bySize, func(a, b int) int { return size(b) - size(a) })
	place := make([]int, len(t.groups))
	for i, g := range groups {
		place[g] = i
	}
	needed, held := 0, 0
	for needed < len(bySize) && held < n {
		held += size(bySize[needed])
		needed++
	}
	var first, rest []int
	for i, g := range groups {
		// Would the largest of those to come make up for what g lacks?
		most, more := size(g), needed-len(first)-1
		for _, later := range bySize {
			if more > 0 && place[later] > i {
				most += size(later)
				more--
			}
		}
		if len(first) < needed && most >= n {
			first = append(first, g)
			n -= size(g)
		} else {
			rest = append(rest, g)
		}
	}
	return append(first, rest...)
}

// neighbours begins with the first group that holds all n workers, or else the
// first, and goes on in its node, then by distance.
func (t *task) neighbours(groups []int, n int) []int {
	if len(groups) == 0 {
		return nil
	}
	start := groups[0]
	for _, g := range groups {
		if len(t.groups[g].cores) >= n {
			start = g
			break
		}
	}
	home := t.nodes[t.groups[start].node]
	distance := func(g int) int {
		at := t.nodes[t.groups[g].node]
		switch {
		case g == start:
			return -2
		case t.groups[g].node == t.groups[start].node:
			return -1
		case at.place >= 0 && at.place < len(home.distances):
			return home.distances[at.place]
		}
		return math.MaxInt
	}
	out := slices.Clone(groups)
	slices.SortStableFunc(out, func(a, b int) int {
		switch x, y := distance(a), distance(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return out
}

// deal adds slots on the cores of groups that fit until there are n: one from
// each group in turn, or group after group. room is what each node still takes.
func (t *task) deal(out []slot, n int, groups []int, spread bool, room []int, fits func(*core) bool, thread int) []slot {
	next := make([]int, len(groups)) // where to look on in each group
	for more := true; more && len(out) < n; {
		more = false
		for i, g := range groups {
			cores := t.groups[g].cores
			for next[i] < len(cores) && len(out) < n {
				c := cores[next[i]]
				next[i]++
				node := t.cores[c].node
				if !fits(&t.cores[c]) || room[node] == 0 {
					continue
				}
				room[node]--
				out = append(out, slot{t.cores[c].cpus[thread], c})
				if spread {
					more = true
					break
				}
			}
		}
	}
	return out
}
