//go:build linux

package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth/affinity"
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// sharedWait is the least waiting of a thread that takes turns beside an idle
// core: a daemon that comes by now and then takes less.
const sharedWait = 0.25

// conflicts judges the threads that lived to the end, in their order.
func (r *report) conflicts() (threads []*Thread, found [][]affinity.Conflict) {
	o := affinity.Occupancy{Topology: &r.Machine.Topology, Spent: r.Spent}
	for i := range r.Threads {
		if t := &r.Threads[i]; !t.Ended {
			threads = append(threads, t)
			o.Threads = append(o.Threads, t.Occupant)
		}
	}
	return threads, o.Conflicts()
}

// with is the threads of chosen processes that are in a conflict and fit.
func (r *report) with(c affinity.Conflict, fits func(*Thread, []affinity.Conflict) bool) []*Thread {
	threads, found := r.conflicts()
	var out []*Thread
	for i, t := range threads {
		if p := r.Processes[t.PID]; p != nil && p.Chosen && slices.Contains(found[i], c) && fits(t, found[i]) {
			out = append(out, t)
		}
	}
	return out
}

// seats: shared cores beside idle ones, masks with offline CPUs, masks that
// lead out of the cpuset.
func seats(r *report) {
	shared := r.with(affinity.SharesCore, func(t *Thread, all []affinity.Conflict) bool {
		return slices.Contains(all, affinity.SharesSibling) || t.Waiting >= sharedWait
	})
	processes, of := byProcess(r, shared)
	for _, p := range processes {
		var evidence []string
		var mask cpuset.Set
		for _, t := range of[p.PID] {
			mask = mask.Union(t.Allowed)
			evidence = append(evidence, fmt.Sprintf("%s on CPU %d, core %s; it may use %s", threadWord(t), t.CPU, r.coreWord(t.CPU), t.Allowed))
		}
		idle := r.idleCores(mask)
		if idle != "" {
			evidence = append(evidence, "idle meanwhile: "+idle)
		}
		r.add(SharedCore, ofThreads(p, of[p.PID]), evidence, fmt.Sprintf("berth pin --pid %d --each -c %s", p.PID, r.spread(mask)),
			"%s of %s shared a core with another busy one while a core that it may use was idle.", count(len(of[p.PID]), "busy thread", "busy threads"), name(p))
	}
	r.masks(affinity.OfflineCPU, OfflineCPU, "%s of %s can only run on CPUs that are offline.")
	r.masks(affinity.OutsideCPUSet, OutsideCPUSet, "%s of %s may run on CPUs that the cpuset of the control group leaves out.")
}

func (r *report) masks(c affinity.Conflict, code, format string) {
	demands := r.demands()
	processes, of := byProcess(r, r.with(c, func(t *Thread, _ []affinity.Conflict) bool { return r.judged(r.Processes[t.PID], demands[t.PID]) }))
	for _, p := range processes {
		evidence := []string{"CPUs online: " + r.Machine.Topology.Online.String()}
		s := ofThreads(p, of[p.PID])
		room := r.Machine.Topology.Online
		if g := p.Group; g != nil && !g.CPUSet.IsEmpty() {
			room = room.Intersect(g.CPUSet)
			if s.Path = g.CPUSetPath; s.Path != "" {
				evidence = append(evidence, fmt.Sprintf("cpuset of %s: %s", s.Path, g.CPUSet))
			}
		}
		for _, t := range of[p.PID] {
			evidence = append(evidence, fmt.Sprintf("%s may use %s", threadWord(t), t.Allowed))
		}
		r.add(code, s, evidence, fmt.Sprintf("taskset -acp %s %d", room, p.PID), format, count(len(of[p.PID]), "thread", "threads"), name(p))
	}
}

func (r *report) core(c cpuset.CPU) *topology.Core {
	for i := range r.Machine.Topology.Cores {
		if core := &r.Machine.Topology.Cores[i]; core.CPUs.Contains(c) {
			return core
		}
	}
	return nil
}

func (r *report) coreWord(c cpuset.CPU) string {
	if core := r.core(c); core != nil {
		return fmt.Sprintf("%d (CPUs %s)", core.Index, core.CPUs)
	}
	return "unknown"
}

// idleCores lists cores within a mask of which no CPU was in use.
func (r *report) idleCores(mask cpuset.Set) string {
	var words []string
	for i := range r.Machine.Topology.Cores {
		core := &r.Machine.Topology.Cores[i]
		if core.CPUs.Overlaps(mask) && !core.CPUs.Overlaps(r.inUse(affinity.IdleBelow)) {
			words = append(words, fmt.Sprintf("core %d (CPUs %s)", core.Index, core.CPUs))
		}
	}
	return someOf(words)
}

// inUse is the CPUs that worked for at least that share, or of which that is not
// known.
func (r *report) inUse(from float64) cpuset.Set {
	var list []cpuset.CPU
	for c := range r.Machine.Topology.Online.All() {
		t, known := r.Spent[c]
		if all := whileThere(t); !known || all <= 0 || t.Busy().Seconds()/all >= from {
			list = append(list, c)
		}
	}
	return cpuset.Of(list...)
}

// spread is one CPU of each core in a mask.
func (r *report) spread(mask cpuset.Set) cpuset.Set {
	var list []cpuset.CPU
	for i := range r.Machine.Topology.Cores {
		if on := r.Machine.Topology.Cores[i].CPUs.Intersect(mask); !on.IsEmpty() {
			list = append(list, on.First())
		}
	}
	if list == nil {
		return mask
	}
	return cpuset.Of(list...)
}

// isolation: busy threads on isolated CPUs.
func isolation(r *report) {
	isolated := r.Machine.Topology.Isolated
	if isolated == nil || isolated.IsEmpty() {
		return
	}
	var wide, pinned []*Thread
	for _, t := range r.live(func(t *Thread) bool { return t.Busy() && !t.Kernel && t.Allowed.Overlaps(*isolated) }) {
		if g := r.Processes[t.PID].Group; g != nil && g.Unbalanced != "" {
			continue // told as such
		}
		switch {
		case t.Allowed.Len() == 1:
			pinned = append(pinned, t)
		case t.Allowed.SubsetOf(*isolated) || t.CPU >= 0 && isolated.Contains(t.CPU):
			wide = append(wide, t)
		}
	}
	tell := func(code string, threads []*Thread, fix func(*Process) string, format string) {
		processes, of := byProcess(r, threads)
		for _, p := range processes {
			evidence := []string{fmt.Sprintf("isolated: CPUs %s (%s/isolated)", isolated, cpuDir)}
			for _, t := range of[p.PID] {
				evidence = append(evidence, fmt.Sprintf("%s may use %s, and is on CPU %d", threadWord(t), t.Allowed, t.CPU))
			}
			r.add(code, ofThreads(p, of[p.PID]), evidence, fix(p), format, count(len(of[p.PID]), "busy thread", "busy threads"), name(p))
		}
	}
	tell(IsolatedWide, wide, func(p *Process) string {
		var mask cpuset.Set
		for _, t := range wide {
			if t.PID == p.PID {
				mask = mask.Union(t.Allowed)
			}
		}
		return fmt.Sprintf("berth pin --pid %d --each -c %s", p.PID, mask)
	}, "%s of %s may run on several CPUs of which some are isolated: the kernel never moves a thread there or away.")
	tell(IsolatedPinned, pinned, func(p *Process) string {
		return fmt.Sprintf("taskset -acp %s %d", r.Machine.Topology.Online.Minus(*isolated), p.PID)
	}, "%s of %s, pinned to an isolated CPU: right only if that was set aside for it.")
}

// unbalancedGroups: groups in which the kernel does not spread threads.
func unbalancedGroups(r *report) {
	threads := r.live(func(t *Thread) bool {
		g := r.Processes[t.PID].Group
		return t.Busy() && !t.Kernel && g != nil && g.Unbalanced != "" && g.CPUSet.Len() > 1 && t.Allowed.Len() > 1
	})
	processes, of := byProcess(r, threads)
	for _, p := range processes {
		var evidence []string
		for _, t := range of[p.PID] {
			evidence = append(evidence, fmt.Sprintf("%s may use %s, and is on CPU %d", threadWord(t), t.Allowed, t.CPU))
		}
		s := ofThreads(p, of[p.PID])
		s.Path = p.Group.CPUSetPath
		r.add(NoBalancing, s, append([]string{p.Group.Unbalanced + " switches balancing off among CPUs " + p.Group.CPUSet.String()}, evidence...),
			fmt.Sprintf("berth pin --pid %d --each -c %s", p.PID, p.Group.CPUSet),
			"%s of %s are not pinned, in a cpuset in which the kernel balances no load: they stay on the CPU where they began.", count(len(of[p.PID]), "busy thread", "busy threads"), name(p))
	}
}

// remoteMemory: memory on other nodes than the threads.
func remoteMemory(r *report) {
	processes, of := byProcess(r, r.with(affinity.RemoteMemory, func(*Thread, []affinity.Conflict) bool { return true }))
	for _, p := range processes {
		var evidence []string
		home, most := 0, int64(-1)
		for _, node := range slices.Sorted(maps.Keys(p.Memory)) {
			evidence = append(evidence, fmt.Sprintf("on node %d: %s", node, mebibytes(p.Memory[node])))
			if p.Memory[node] > most {
				home, most = node, p.Memory[node]
			}
		}
		on := map[int]bool{}
		for _, t := range of[p.PID] {
			if n := r.node(t.CPU); n >= 0 {
				on[n] = true
			}
			evidence = append(evidence, fmt.Sprintf("%s on CPU %d of node %d", threadWord(t), t.CPU, r.node(t.CPU)))
		}
		fix := fmt.Sprintf("berth pin --pid %d --place node:%d", p.PID, home)
		if to := slices.Sorted(maps.Keys(on)); len(to) == 1 {
			fix = fmt.Sprintf("migratepages %d %d %d", p.PID, home, to[0])
		}
		r.add(RemoteMemory, ofThreads(p, of[p.PID]), evidence, fix, "Most memory of %s lies on another NUMA node than %s.", name(p), count(len(of[p.PID]), "its busy thread", "of its busy threads"))
	}
}

// node is the NUMA node of a CPU; -1 is unknown.
func (r *report) node(c cpuset.CPU) int {
	for _, n := range r.Machine.Topology.NUMANodes {
		if n.CPUs.Contains(c) {
			return n.ID
		}
	}
	return -1
}

// remoteDevices: devices on other nodes than the threads of the process that
// has them open.
func remoteDevices(r *report) {
	if len(r.Machine.Topology.NUMANodes) < 2 {
		return
	}
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		if len(p.Devices) == 0 || !p.Chosen {
			continue
		}
		busy := r.live(func(t *Thread) bool { return t.PID == pid && t.Busy() && t.CPU >= 0 })
		for _, open := range p.Devices {
			for _, d := range r.Machine.Devices {
				if !strings.EqualFold(d.PCI, open.PCI) || d.NUMANode == nil {
					continue
				}
				var away []string
				for _, t := range busy {
					if n := r.node(t.CPU); n >= 0 && n != *d.NUMANode {
						away = append(away, fmt.Sprintf("%s on CPU %d of node %d", threadWord(t), t.CPU, n))
					}
				}
				if len(away) == 0 || len(away) < len(busy) {
					continue // some of its threads are near
				}
				s := subject(p)
				s.Path = open.File
				r.add(RemoteDevice, s, append([]string{fmt.Sprintf("%s is %s %s (%s) on node %d", open.File, d.Kind, d.Name, d.PCI, *d.NUMANode)}, away...),
					fmt.Sprintf("berth pin --pid %d --place node:%d", pid, *d.NUMANode), "%s uses %s of NUMA node %d, and its busy threads are on others.", name(p), d.Name, *d.NUMANode)
				break
			}
		}
	}
}
