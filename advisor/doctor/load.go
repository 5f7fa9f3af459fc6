//go:build linux

package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/affinity"
	"berth/probe/cpuset"
)

const (
	// throttledFrom is the share of the quota's periods that were cut short from
	// which it is told: rarer stops are bursts that nobody waits for.
	throttledFrom = 0.02
	// crowdedBy is how many more threads than CPUs must have work: what comes and
	// goes beside N busy threads on N CPUs stays below.
	crowdedBy = 0.5
	// crowdedWait is how many threads' worth of waiting that must cost.
	crowdedWait = 0.25
	// mostlyOne is the part of the work from which a crowd is one process's own.
	mostlyOne = 0.8
)

// throttling: quotas that stopped groups in which chosen processes are.
func throttling(r *report) {
	demands := r.demands()
	type hit struct {
		group   *Group
		stopped Stopped
		members []*Process
		demand  float64
	}
	hits := map[string]*hit{}
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		if p.Group == nil || demands[pid] < Working/5 {
			continue
		}
		for where, d := range p.Group.Throttled {
			h := hits[where]
			if h == nil {
				h = &hit{group: p.Group, stopped: d}
				hits[where] = h
			}
			if h.demand += demands[pid]; p.Chosen && demands[pid] >= Working {
				h.members = append(h.members, p)
			}
		}
	}
	for _, where := range slices.Sorted(maps.Keys(hits)) {
		h := hits[where]
		g := h.group
		periods := 0.0
		if g.QuotaPeriodMS > 0 {
			periods = float64(r.Interval) / float64(time.Millisecond) / g.QuotaPeriodMS
		}
		if len(h.members) == 0 || periods > 0 && float64(h.stopped.Periods) < max(1, throttledFrom*periods) {
			continue
		}
		slices.SortStableFunc(h.members, func(a, b *Process) int { return cmp.Compare(demands[b.PID], demands[a.PID]) })
		worst := h.members[0]
		evidence := []string{fmt.Sprintf("stopped in %d of about %.0f periods, for %s in all, summed over CPUs", h.stopped.Periods, max(periods, float64(h.stopped.Periods)), h.stopped.Time.Round(time.Millisecond))}
		binds := where == g.QuotaPath
		if binds {
			evidence = append(evidence, quotaWord(g)+fmt.Sprintf(" (%s); its threads have work for %s", g.QuotaFile, tenths(h.demand)))
		}
		for _, p := range h.members {
			evidence = append(evidence, fmt.Sprintf("%s: work for %s", name(p), tenths(demands[p.PID])))
		}
		s := subject(worst)
		s.Path = where
		fix := ""
		if binds {
			fix = quotaFix(g, max(min(math.Ceil(h.demand), float64(r.allowed(worst).Len())), math.Ceil(g.QuotaCPUs+0.5)))
		}
		r.add(Throttled, s, evidence, fix, "The CPU quota of %s stopped %s for part of the time: all its threads stand still until the next period.", where, name(worst))
	}
}

// pool is threads that share the same CPUs and the same quota.
type pool struct {
	cpus            cpuset.Set
	quota           *Group // nil: none below the number of CPUs
	demand, waiting float64
	of              map[int]float64 // demand by process
}

func (p *pool) capacity() float64 {
	if p.quota != nil {
		return p.quota.QuotaCPUs
	}
	return float64(p.cpus.Len())
}

func (p *pool) crowded() bool {
	return p.demand >= float64(whole(p.capacity()))*1.1+crowdedBy && p.waiting >= crowdedWait
}

// pools sorts the threads that had work by where they may get it done. Work
// in the background is left out.
func (r *report) pools() []*pool {
	all := map[string]*pool{}
	online := r.Machine.Topology.Online
	for i := range r.Threads {
		t := &r.Threads[i]
		if t.Kernel || t.background() || t.demand() == 0 {
			continue
		}
		set := t.Allowed.Intersect(online)
		process := r.Processes[t.PID]
		if set.IsEmpty() && process != nil && process.Group != nil {
			set = process.Group.CPUSet.Intersect(online)
		}
		if set.IsEmpty() {
			set = online
		}
		key := set.String()
		var quota *Group
		if process != nil && process.Group != nil {
			if g := process.Group; g.QuotaCPUs > 0 && g.QuotaCPUs < float64(set.Len()) {
				quota, key = g, key+" "+g.QuotaPath
			}
		}
		p := all[key]
		if p == nil {
			p = &pool{cpus: set, quota: quota, of: map[int]float64{}}
			all[key] = p
		}
		p.demand += t.demand()
		p.waiting += max(t.Waiting, 0)
		p.of[t.PID] += t.demand()
	}
	var list []*pool
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[key])
	}
	return list
}

// crowds: more threads with work than CPUs or quota.
func crowds(r *report) {
	node := &pool{cpus: r.Machine.Topology.Online, of: map[int]float64{}}
	told := false
	for _, p := range r.pools() {
		node.demand += p.demand
		node.waiting += p.waiting
		for pid, d := range p.of {
			node.of[pid] += d
		}
		if p.crowded() && !r.pinned(p) {
			r.crowd(p)
			told = true
		}
	}
	if !told && node.crowded() && !slices.ContainsFunc(r.pools(), func(p *pool) bool { return r.pinned(p) && p.crowded() }) {
		r.crowd(node)
	}
}

// pinned reports whether a pool's threads share one CPU though there are others
// for them: that is a pile.
func (r *report) pinned(p *pool) bool {
	if p.cpus.Len() != 1 {
		return false
	}
	for pid := range p.of {
		if q := r.Processes[pid]; q != nil && q.Group != nil && q.Group.CPUSet.Len() == 1 {
			return false
		}
	}
	return r.Machine.Topology.Online.Len() > 1
}

func (r *report) crowd(p *pool) {
	var members []*Process
	var chosen *Process
	named := false
	for _, pid := range slices.Sorted(maps.Keys(p.of)) {
		q, d := r.Processes[pid], p.of[pid]
		if q == nil || d < Working {
			continue
		}
		members = append(members, q)
		named = named || q.Named
		if q.Chosen && (chosen == nil || d > p.of[chosen.PID]) {
			chosen = q
		}
	}
	if chosen == nil {
		return
	}
	slices.SortStableFunc(members, func(a, b *Process) int { return cmp.Compare(p.of[b.PID], p.of[a.PID]) })
	worst := members[0]
	s := Subject{}
	who := fmt.Sprintf("%d processes", len(members))
	switch {
	case worst.Chosen && (p.of[worst.PID] >= mostlyOne*p.demand || len(members) == 1):
		s, who = subject(worst), name(worst)
	case named:
		s, who = subject(chosen), fmt.Sprintf("%d processes, %s among them,", len(members), name(chosen))
	}
	room := fmt.Sprintf("%s (%s)", count(p.cpus.Len(), "CPU", "CPUs"), p.cpus)
	var fix string
	switch {
	case p.quota != nil:
		s.Path = p.quota.QuotaPath
		room = "the time of " + cpus(p.quota.QuotaCPUs)
		fix = quotaFix(p.quota, min(math.Ceil(p.demand), float64(p.cpus.Len())))
	case s.PID == worst.PID:
		fix = fmt.Sprintf("berth observe --pid %d --advise", s.PID)
		if more := r.roomBeyond(worst, p.cpus); more.Len() > p.cpus.Len() {
			fix = fmt.Sprintf("taskset -acp %s %d", more, s.PID)
		}
	default:
		fix = "berth ps --all"
		s.Path = commonPath(members)
	}
	var evidence []string
	if p.quota != nil {
		evidence = append(evidence, quotaWord(p.quota)+" ("+p.quota.QuotaFile+")")
	}
	evidence = append(evidence, fmt.Sprintf("run-queue delay: %s of the time that threads had work they waited for a CPU", percent(p.waiting/p.demand)))
	for _, q := range members {
		evidence = append(evidence, fmt.Sprintf("%s: work for %s on average", name(q), tenths(p.of[q.PID])))
	}
	r.add(Oversubscribed, s, evidence, fix, "%s threads of %s have work at a time, on average, and there is room for %d: %s.", figure(p.demand), who, whole(p.capacity()), room)
}

// roomBeyond is the CPUs that a process's control group leaves, of which its
// mask may take only some.
func (r *report) roomBeyond(p *Process, mask cpuset.Set) cpuset.Set {
	room := r.Machine.Topology.Online
	if iso := r.Machine.Topology.Isolated; iso != nil {
		room = room.Minus(*iso)
	}
	if p.Group != nil && !p.Group.CPUSet.IsEmpty() {
		room = room.Intersect(p.Group.CPUSet)
	}
	return room.Union(mask)
}

// commonPath is the control group of processes, where it is one and not the
// root.
func commonPath(processes []*Process) string {
	at := ""
	for _, p := range processes {
		if p.Group == nil || at != "" && p.Group.Path != at {
			return ""
		}
		at = p.Group.Path
	}
	if at == "/" {
		return ""
	}
	return at
}

// piles: several busy threads pinned to one CPU though there are others.
func piles(r *report) {
	for _, p := range r.pools() {
		if !r.pinned(p) || !p.crowded() {
			continue
		}
		cpu := p.cpus.First()
		var here []*Thread
		for i := range r.Threads {
			if t := &r.Threads[i]; !t.Ended && !t.Kernel && t.Allowed.Equal(p.cpus) && t.demand() >= affinity.QueuedFrom && !t.background() {
				here = append(here, t)
			}
		}
		processes, of := byProcess(r, here)
		slices.SortStableFunc(processes, func(a, b *Process) int { return cmp.Compare(p.of[b.PID], p.of[a.PID]) })
		first := slices.IndexFunc(processes, func(q *Process) bool { return q.Chosen })
		if first < 0 {
			continue
		}
		var evidence, pids []string
		room := p.cpus
		for _, q := range processes {
			for _, t := range of[q.PID] {
				evidence = append(evidence, fmt.Sprintf("%s of %s: on the CPU for %s of the time, waited for %s", threadWord(t), name(q), percent(max(t.OnCPU, 0)), percent(max(t.Waiting, 0))))
			}
			if q.Chosen {
				pids = append(pids, strconv.Itoa(q.PID))
				room = room.Union(r.roomBeyond(q, p.cpus))
			}
		}
		s := subject(processes[first])
		s.CPU = &cpu
		fix := fmt.Sprintf("for p in %s; do taskset -acp %s $p; done", strings.Join(pids, " "), room)
		if len(pids) == 1 {
			fix = fmt.Sprintf("taskset -acp %s %s", room, pids[0])
		}
		if iso := r.Machine.Topology.Isolated; iso != nil && iso.Contains(cpu) {
			evidence = append(evidence, fmt.Sprintf("CPU %d is isolated: nothing moves them apart", cpu))
		}
		r.add(PinnedPile, s, evidence, fix, "%s pinned to CPU %d want %s there, and wait for each other.", count(len(here), "thread", "threads"), cpu, tenths(p.demand))
	}
}
