//go:build linux

package affinity

import (
	"time"

	"berth/probe/cpuset"
	"berth/probe/tasks"
	"berth/probe/topology"
)

// Conflict is a way in which a thread and the CPU that it is on get on badly.
type Conflict string

// The conflicts of a thread. All shares are of the interval. A thread is busy
// if its time on a CPU and its waiting for one come to [BusyFrom]; a core is
// idle if none of its CPUs was in use for [IdleBelow]. What use others made of
// a CPU is what programs ran there (/proc/stat, without interrupts) less what
// the thread itself ran. What is unknown makes no conflict.
const (
	// Queued: threads take turns on one CPU. The thread is busy, and on its CPU
	// is another busy one, of which one at least waited for [QueuedFrom]; or it
	// waited so long itself and others used so much of its CPU.
	Queued Conflict = "queued"
	// SharesSibling: SMT siblings of one core are busy at once. The thread is
	// busy, and on another CPU of its core is a busy one; or others used the
	// other CPUs of its core for [BusyFrom] of one.
	SharesSibling Conflict = "shares-sibling"
	// SharesCore: either of these, while a core that the thread may use is idle.
	SharesCore Conflict = "shares-core"
	// OutsideCPUSet: the thread may run on CPUs that its control group's cpuset
	// leaves out. Threads of the kernel's own are under no cpuset.
	OutsideCPUSet Conflict = "outside-cpuset"
	// OfflineCPU: all CPUs that the thread may run on are offline, or it is busy
	// on one that is. An unpinned thread that has slept since its CPU went
	// offline wakes elsewhere, and is none.
	OfflineCPU Conflict = "offline-cpu"
	// RemoteMemory: the thread is busy, and more than [RemoteAbove] of its
	// process's memory, and at least [RemoteFrom], lies on other NUMA nodes than
	// its CPU.
	RemoteMemory Conflict = "remote-memory"
	// IRQHeavy: the thread is busy, and its CPU served interrupts, hard and
	// soft, for [IRQHeavyFrom].
	IRQHeavy Conflict = "irq-heavy"
)

// Shares that part one thing from the other.
const (
	BusyFrom     = 0.5
	IdleBelow    = 0.1
	QueuedFrom   = 0.1
	RemoteAbove  = 0.5
	IRQHeavyFrom = 0.2
)

// RemoteFrom is in bytes. Caches hold what is less; and the pages of a small
// program are mostly those of its file, which stay where somebody first read it.
const RemoteFrom = 16 << 20

// Occupant is a thread and where it was at the end of an interval.
type Occupant struct {
	CPU     cpuset.CPU // -1 unknown
	Allowed cpuset.Set // CPUs it may run on; empty is unknown
	CPUSet  cpuset.Set // CPUs that its control group leaves; empty is unknown
	// OnCPU and Waiting, ready but without a CPU, are shares of the interval;
	// -1 unknown.
	OnCPU, Waiting float64
	Kernel         bool          // a thread of the kernel's own
	Memory         map[int]int64 // bytes of its process by NUMA node; nil is unknown
}

// Busy reports whether the thread had work for [BusyFrom] of the interval.
func (o *Occupant) Busy() bool { return max(o.OnCPU, 0)+max(o.Waiting, 0) >= BusyFrom }

// Occupancy is who was on which CPU in an interval.
type Occupancy struct {
	Topology *topology.Topology
	Spent    map[cpuset.CPU]tasks.CPUTimes // by each CPU in the interval: see [tasks.CPUTimes.Since]
	Threads  []Occupant                    // all there are or some
}

// Conflicts finds the conflicts of each thread, in the order of the constants.
func (o *Occupancy) Conflicts() [][]Conflict {
	j := o.judge()
	all := make([][]Conflict, len(o.Threads))
	for i := range o.Threads {
		all[i] = j.conflicts(&o.Threads[i])
	}
	return all
}

// Noise is what disturbed the CPUs that the threads ran on: what the host of a
// virtual machine took of them, and what interrupts and other threads did.
func (o *Occupancy) Noise() Noise {
	ran := map[cpuset.CPU]float64{}
	for i := range o.Threads {
		if t := &o.Threads[i]; t.CPU >= 0 && t.OnCPU > 0 {
			ran[t.CPU] += t.OnCPU
		}
	}
	var steal, other, whole time.Duration
	stealKnown := true
	for c, own := range ran {
		spent := o.Spent[c]
		all := total(spent)
		if all == 0 {
			return Noise{}
		}
		whole += all
		steal += max(spent.Steal, 0)
		stealKnown = stealKnown && spent.Steal >= 0
		other += spent.Busy() - time.Duration(own*float64(all))
	}
	if whole == 0 {
		return Noise{}
	}
	n := Noise{OtherBusyPct: percent(max(other, 0), whole)}
	if stealKnown {
		n.StealPct = percent(steal, whole)
	}
	return n
}

// total is all the time that a CPU accounted for.
func total(t tasks.CPUTimes) time.Duration {
	return t.Busy() + t.Idle + max(t.IOWait, 0) + max(t.Steal, 0)
}

func share(of tasks.CPUTimes, part time.Duration) float64 {
	return float64(part) / float64(total(of))
}

// use is what a CPU did in the interval, as shares of it.
type use struct {
	programs   float64
	interrupts float64
}

// judge knows of every CPU and core what the threads on it need to be told.
type judge struct {
	*topology.Topology
	core, node []int32 // of each CPU
	use        map[cpuset.CPU]use
	idle       cpuset.Set             // the CPUs of idle cores
	busy       map[cpuset.CPU][]int   // the busy threads on each CPU
	ran        map[cpuset.CPU]float64 // what the threads on each CPU ran
	threads    []Occupant
}

func (o *Occupancy) judge() *judge {
	t := o.Topology
	j := &judge{Topology: t, threads: o.Threads, use: map[cpuset.CPU]use{}, busy: map[cpuset.CPU][]int{}, ran: map[cpuset.CPU]float64{}}
	size := int(t.Online.Last()) + 1
	j.core = topology.Owners(size, t.Cores, func(c topology.Core) cpuset.Set { return c.CPUs })
	j.node = topology.Owners(size, t.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs })
	inUse := cpuset.Set{}
	for c, spent := range o.Spent {
		if total(spent) == 0 {
			continue
		}
		j.use[c] = use{
			programs:   share(spent, spent.User+spent.Nice+spent.System),
			interrupts: share(spent, max(spent.IRQ, 0)+max(spent.SoftIRQ, 0)),
		}
		// While the host had the CPU, the CPU had work.
		if share(spent, spent.Busy()+max(spent.Steal, 0)) >= IdleBelow {
			inUse = inUse.Union(cpuset.Of(c))
		}
	}
	var idle []cpuset.Set
	for _, core := range t.Cores {
		known := true
		for c := range core.CPUs.All() {
			_, ok := j.use[c]
			known = known && ok
		}
		if known && !core.CPUs.Overlaps(inUse) {
			idle = append(idle, core.CPUs)
		}
	}
	j.idle = cpuset.UnionAll(idle...)
	for i := range o.Threads {
		t := &o.Threads[i]
		if t.CPU < 0 {
			continue
		}
		j.ran[t.CPU] += max(t.OnCPU, 0)
		if t.Busy() {
			j.busy[t.CPU] = append(j.busy[t.CPU], i)
		}
	}
	return j
}

func (j *judge) conflicts(t *Occupant) []Conflict {
	found := []Conflict{}
	add := func(c Conflict, holds bool) {
		if holds {
			found = append(found, c)
		}
	}
	seated := t.Busy() && t.CPU >= 0
	if seated {
		queued, beside := j.queued(t), j.besideBusy(t)
		add(Queued, queued)
		add(SharesSibling, beside)
		add(SharesCore, (queued || beside) && t.Allowed.Overlaps(j.idle.Minus(j.coreOf(t.CPU))))
	}
	online := t.Allowed.Intersect(j.Online)
	add(OutsideCPUSet, !t.Kernel && !t.CPUSet.IsEmpty() && !online.SubsetOf(t.CPUSet))
	add(OfflineCPU, !t.Allowed.IsEmpty() && online.IsEmpty() || seated && !j.Online.Contains(t.CPU))
	if seated {
		add(RemoteMemory, j.remote(t))
		add(IRQHeavy, j.use[t.CPU].interrupts >= IRQHeavyFrom)
	}
	return found
}

// coreOf is the CPUs of a CPU's core; none where that is not known.
func (j *judge) coreOf(c cpuset.CPU) cpuset.Set {
	if int(c) >= len(j.core) || j.core[c] < 0 {
		return cpuset.Set{}
	}
	return j.Cores[j.core[c]].CPUs
}

func (j *judge) queued(t *Occupant) bool {
	here := j.busy[t.CPU]
	if len(here) > 1 {
		for _, i := range here {
			if w := j.threads[i].Waiting; w < 0 || w >= QueuedFrom {
				return true
			}
		}
	}
	return t.Waiting >= QueuedFrom && j.use[t.CPU].programs-max(t.OnCPU, 0) >= QueuedFrom
}

// besideBusy reports whether a sibling of the thread's CPU is busy.
func (j *judge) besideBusy(t *Occupant) bool {
	core := j.coreOf(t.CPU)
	var beside, all float64
	for c := range core.All() {
		all += j.use[c].programs
		if c == t.CPU {
			continue
		}
		beside += j.use[c].programs
		if len(j.busy[c]) > 0 {
			return true
		}
	}
	// The thread may have been on its siblings itself, and the threads that it
	// takes turns with on its own CPU are not beside it: others used the least
	// that either leaves.
	return min(beside, all-j.ran[t.CPU]) >= BusyFrom
}

// remote reports whether most memory of a thread's process is on other nodes.
func (j *judge) remote(t *Occupant) bool {
	if int(t.CPU) >= len(j.node) || j.node[t.CPU] < 0 {
		return false
	}
	var all, away int64
	for node, bytes := range t.Memory {
		all += bytes
		if node != j.NUMANodes[j.node[t.CPU]].ID {
			away += bytes
		}
	}
	return away >= RemoteFrom && float64(away) > RemoteAbove*float64(all)
}
