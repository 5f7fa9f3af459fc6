//go:build linux

package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"berth/probe/tasks"
)

const (
	// servicePatience is how much of its time a service must wait for a CPU
	// before who it shares a session with matters.
	servicePatience = 0.1
	// sessionBusy is how much work a session must have to be one that others
	// compete with.
	sessionBusy = 0.5
)

// serves reports whether somebody waits for what a process answers; for Celery's
// jobs nobody does at once.
func (p *Process) serves() bool {
	return p.Program != nil && p.Program.Server != "" && p.Program.Server != "celery"
}

// services: those that let others go first, a server with all its workers once.
func services(r *report) {
	demands := r.demands()
	type hit struct{ nice, policy, session []*Process }
	hits := map[int]*hit{} // by the master's number
	first := map[int]*Thread{}
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		if !p.serves() || !r.judged(p, demands[pid]) {
			continue
		}
		h := hits[r.master(p).PID]
		if h == nil {
			h = &hit{}
			hits[r.master(p).PID] = h
		}
		threads := r.live(func(t *Thread) bool { return t.PID == pid && (t.demand() >= Working || p.Named || r.Idle) })
		if i := slices.IndexFunc(threads, func(t *Thread) bool { return t.Nice > 0 }); i >= 0 {
			h.nice, first[pid] = append(h.nice, p), threads[i]
		}
		if i := slices.IndexFunc(threads, func(t *Thread) bool { return t.Policy == policyBatch || t.Policy == policyIdle }); i >= 0 {
			h.policy, first[pid] = append(h.policy, p), threads[i]
		}
		if r.Settings.Autogroup && p.Session != nil && p.Session.Nice > 0 && p.Group != nil && p.Group.Top {
			h.session = append(h.session, p)
		}
	}
	for _, pid := range slices.Sorted(maps.Keys(hits)) {
		h := hits[pid]
		if p, pids := family(h.nice); p != nil {
			n := first[p.PID].Nice
			r.add(ServiceNiced, subject(p), each(h.nice, func(p *Process) string { return fmt.Sprintf("nice %d", first[p.PID].Nice) }),
				"renice -n 0 -p "+pids, "%s, a service (%s), runs at nice %d, so that other programs go before it.", name(p), p.Program.Server, n)
		}
		if p, pids := family(h.policy); p != nil {
			r.add(ServicePolicy, subject(p), each(h.policy, func(p *Process) string { return "policy " + first[p.PID].Policy.String() }),
				fmt.Sprintf("for p in %s; do chrt --all-tasks --other --pid 0 $p; done", pids), "%s, a service (%s), runs under the policy %s, which is meant for work in the background.",
				name(p), p.Program.Server, first[p.PID].Policy)
		}
		if p, _ := family(h.session); p != nil {
			s := subject(p)
			s.Path = fmt.Sprintf("/proc/%d/autogroup", p.PID)
			r.add(ServiceNiced, s, each(h.session, func(p *Process) string { return fmt.Sprintf("%s nice %d", p.Session.Name, p.Session.Nice) }),
				fmt.Sprintf("echo 0 > /proc/%d/autogroup", p.PID), "The session of %s, a service (%s), runs at nice %d, so that other sessions go before it.", name(p), p.Program.Server, p.Session.Nice)
		}
	}
}

// family is the first of some processes, and the numbers of all.
func family(processes []*Process) (first *Process, pids string) {
	if len(processes) == 0 {
		return nil, ""
	}
	var numbers []string
	for _, p := range processes {
		numbers = append(numbers, strconv.Itoa(p.PID))
	}
	return processes[0], strings.Join(numbers, " ")
}

func each(processes []*Process, what func(*Process) string) []string {
	var words []string
	for _, p := range processes {
		words = append(words, name(p)+": "+what(p))
	}
	return words
}

// sessions: autogroups, which count only in the root group of the cpu
// controller (sched(7), "The autogroup feature").
func sessions(r *report) {
	if !r.Settings.Autogroup {
		return
	}
	demands := r.demands()
	work := map[string]float64{}
	members := map[string][]*Process{}
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		if p := r.Processes[pid]; p.Session != nil && p.Group != nil && p.Group.Top {
			work[p.Session.Name] += demands[pid]
			members[p.Session.Name] = append(members[p.Session.Name], p)
		}
	}
	busy := 0
	for _, w := range work {
		if w >= sessionBusy {
			busy++
		}
	}
	waiting := map[int]float64{}
	niced := map[int][]*Thread{}
	for _, t := range r.live(func(*Thread) bool { return true }) {
		waiting[t.PID] += max(t.Waiting, 0)
		if t.Nice != 0 && t.Busy() && (t.Policy == policyOther || t.Policy == policyBatch) {
			niced[t.PID] = append(niced[t.PID], t)
		}
	}
	var hit []*Process
	for _, at := range slices.Sorted(maps.Keys(members)) {
		for _, p := range members[at] {
			if p.Chosen && p.serves() && demands[p.PID] >= Working && waiting[p.PID] >= servicePatience*demands[p.PID] {
				r.crowdedSession(p, members[at], demands, waiting[p.PID])
			}
			if len(niced[p.PID]) > 0 {
				hit = append(hit, p)
			}
		}
	}
	if len(hit) == 0 || busy < 2 || !r.contended() {
		return
	}
	slices.SortStableFunc(hit, func(a, b *Process) int { return cmp.Compare(demands[b.PID], demands[a.PID]) })
	evidence := []string{fmt.Sprintf("%d sessions compete; kernel.sched_autogroup_enabled is 1", busy)}
	for _, p := range hit {
		evidence = append(evidence, fmt.Sprintf("%s: nice %d, in %s", name(p), niced[p.PID][0].Nice, p.Session.Name))
	}
	p := hit[0]
	r.add(NiceIneffective, ofThreads(p, niced[p.PID]), evidence, fmt.Sprintf("echo %d > /proc/%d/autogroup", niced[p.PID][0].Nice, p.PID),
		"The nice value %d of %s counts only within its own session: sessions share the CPUs evenly.", niced[p.PID][0].Nice, name(p))
}

// crowdedSession tells of the busy programs in a service's session that are not
// the service itself.
func (r *report) crowdedSession(p *Process, members []*Process, demands map[int]float64, waiting float64) {
	others := 0.0
	var evidence []string
	for _, q := range members {
		if q.Name == p.Name || demands[q.PID] < sessionBusy {
			continue
		}
		others += demands[q.PID]
		evidence = append(evidence, fmt.Sprintf("%s: work for %s", name(q), tenths(demands[q.PID])))
	}
	if others < sessionBusy {
		return
	}
	s := subject(p)
	s.Path = fmt.Sprintf("/proc/%d/autogroup", p.PID)
	r.add(CrowdedSession, s, append([]string{fmt.Sprintf("waited for a CPU for %s of the time that it had work", percent(waiting/demands[p.PID]))}, evidence...),
		"setsid --fork COMMAND, or systemd-run COMMAND: start it in a session of its own",
		"%s (%s) is in one session with other busy programs (%s), and a session gets the CPU time of one.", name(p), p.Program.Server, p.Session.Name)
}

// contended reports whether threads waited for CPUs at all.
func (r *report) contended() bool {
	waiting := 0.0
	for i := range r.Threads {
		waiting += max(r.Threads[i].Waiting, 0)
	}
	return waiting >= crowdedWait
}

// notRunning says of a state why a process cannot be judged.
func notRunning(s tasks.State) string {
	switch s {
	case tasks.Zombie, tasks.Dead:
		return "it has ended, and its parent has not taken note of it yet"
	case tasks.Stopped, tasks.Traced:
		return "it is stopped"
	}
	return ""
}
