//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
	"berth/probe/topology"
)

// psSchema names the JSON document of berth ps.
const psSchema = "berth.ps/v1"

// psDocument is who sat where at the end of an interval.
type psDocument struct {
	Schema     string            `json:"schema" yaml:"schema"`
	MeasuredAt time.Time         `json:"measured_at" yaml:"measured_at"`
	IntervalS  float64           `json:"interval_s" yaml:"interval_s"` // seconds
	Verdict    affinity.Verdict  `json:"verdict" yaml:"verdict"`
	Threads    []psThread        `json:"threads" yaml:"threads"`
	Noise      affinity.Noise    `json:"noise" yaml:"noise"`
	Findings   []finding.Finding `json:"findings" yaml:"findings"`
}

// psThread is one thread. Percentages are of the interval; nil is unknown.
type psThread struct {
	PID        int                 `json:"pid" yaml:"pid"`
	TID        int                 `json:"tid" yaml:"tid"`
	Process    string              `json:"process" yaml:"process"` // names, of which the kernel keeps 15 bytes
	Name       string              `json:"name" yaml:"name"`
	CPU        *cpuset.CPU         `json:"cpu,omitempty" yaml:"cpu,omitempty"`
	Allowed    *cpuset.Set         `json:"allowed,omitempty" yaml:"allowed,omitempty"`
	State      string              `json:"state" yaml:"state"` // the kernel's letter
	Core       *topology.CoreIndex `json:"core,omitempty" yaml:"core,omitempty"`
	Package    *int                `json:"package,omitempty" yaml:"package,omitempty"`
	LLC        *int                `json:"llc,omitempty" yaml:"llc,omitempty"` // as llc:N in a place expression
	Node       *int                `json:"node,omitempty" yaml:"node,omitempty"`
	Kind       string              `json:"kind,omitempty" yaml:"kind,omitempty"`
	Busy       bool                `json:"busy" yaml:"busy"`
	OnCPUPct   *float64            `json:"on_cpu_pct,omitempty" yaml:"on_cpu_pct,omitempty"`
	WaitingPct *float64            `json:"waiting_pct,omitempty" yaml:"waiting_pct,omitempty"`
	// Migrations is how often the kernel moved it in the interval.
	Migrations *int64              `json:"migrations,omitempty" yaml:"migrations,omitempty"`
	StartS     float64             `json:"start_s" yaml:"start_s"` // seconds after the machine's start
	Conflicts  []affinity.Conflict `json:"conflicts" yaml:"conflicts"`
}

// lookout follows processes, and tells at the end of each interval who sat
// where.
type lookout struct {
	who     *selection
	proc    tasks.Proc
	sampler *tasks.Sampler
	chosen  map[int]tasks.Process
	missed  int // readings of the sampler that were told of

	topology *topology.Topology
	shape    psShape
	llc      []topology.Cache
	counted  cpuset.Set // the CPUs of which /proc/stat told last

	// At the start of the interval.
	began     time.Time
	was       map[threadID]reading
	spent     tasks.SystemStat
	blind     error                        // why that is not known
	throttled map[string]cgroup.Throttling // by where a process is in the control groups
	groups    map[threadID]string          // where each process is
	hidden    bool
	unread    map[int]error // processes whose threads could not be read

	memory map[threadID]memoryReading // of busy processes

	// At its end.
	cpuset map[string]cpuset.Set // of groups, by where a thread is in them
	found  finding.List
	unsure bool // some conflict may have been missed
}

// threadID names a thread, or a process, for good.
type threadID struct {
	number int
	start  time.Duration
}

// reading is a thread at the start of an interval.
type reading struct {
	at, statusAt time.Time
	used         tasks.Counters
	account      tasks.SchedStat
	state        tasks.State
	migrations   int64
}

type memoryReading struct {
	at    time.Time
	nodes map[int]int64
	err   error
}

const (
	// mostGroups bounds how many control groups are asked about throttling.
	mostGroups = 64
	// memoryAge is how old what is known of a process's memory may be: to ask
	// holds the process up.
	memoryAge = 10 * time.Second
	// coarse is the interval below which the steps of CPU times show: 10 ms are
	// 5 % of it.
	coarse = 20 * tasks.Tick
)

func newLookout(ctx context.Context, who *selection) (*lookout, error) {
	l := &lookout{who: who, sampler: tasks.NewSampler("", watchAll)}
	return l, l.probe(ctx)
}

// watchAll also tells of threads that are ready and never ran.
var watchAll = tasks.Options{EveryState: true}

func (l *lookout) close() { l.sampler.Close() }

// probe reads the machine's shape.
func (l *lookout) probe(ctx context.Context) error {
	source := probe.Live()
	defer source.Close()
	source.Only = probe.Budget | probe.Cores | probe.Caches | probe.NUMA | probe.Kinds
	m, err := probe.Probe(ctx, source)
	if err != nil {
		return err
	}
	l.topology = &m.Topology
	l.shape, l.llc = shapeOf(l.topology)
	return nil
}

// shapeOf counts what a thread's place in the machine is told by.
func shapeOf(t *topology.Topology) (psShape, []topology.Cache) {
	llc := t.LastLevel()
	return psShape{cores: len(t.Cores), llcs: len(llc), nodes: len(t.NUMANodes), kinds: len(t.CoreKinds)}, llc
}

// done reports whether there is nobody left to look for.
func (l *lookout) done() bool {
	return len(l.chosen) == 0 && l.who.match == "" && l.who.cgroup == "" && len(l.who.pids) > 0
}

// begin starts an interval. It returns what was asked for by number and is not
// there.
func (l *lookout) begin() (gone []error, err error) {
	c, err := l.who.find(l.proc)
	if err != nil {
		return nil, err
	}
	l.hidden = c.hidden
	l.chosen, l.unread = map[int]tasks.Process{}, map[int]error{}
	for _, p := range c.processes {
		switch err := l.sampler.Follow(p.PID, time.Now()); {
		case errors.Is(err, tasks.ErrGone):
		case err != nil:
			l.unread[p.PID] = err
		default:
			l.chosen[p.PID] = p
		}
	}
	l.throttled = l.throttling()
	l.was = map[threadID]reading{}
	for t := range l.sampler.Live() {
		l.was[identity(t)] = reading{t.Last, t.StatusAt, t.Used, t.SchedStat, t.State, t.Migrations}
	}
	l.spent, l.blind = l.proc.SystemStat()
	if l.counted.IsEmpty() {
		l.counted = cpuset.Of(slices.Collect(maps.Keys(l.spent.CPUs))...)
	}
	l.began = time.Now()
	return c.gone, nil
}

func identity(t *tasks.Watched) threadID { return threadID{t.TID, t.Start} }

// doubt reports something for want of which a conflict may have been missed.
func (l *lookout) doubt(code string, evidence []string, format string, args ...any) {
	l.unsure = true
	l.found.Add(code, finding.Warning, evidence, format, args...)
}

// end closes the interval and judges what was seen in it.
func (l *lookout) end(ctx context.Context) *psDocument {
	now := time.Now()
	l.sampler.Sample(now)
	l.found, l.unsure = finding.List{}, false
	spent := l.timesSince(ctx)
	o := affinity.Occupancy{Topology: l.topology, Spent: spent}
	d := &psDocument{Schema: psSchema, MeasuredAt: now.Truncate(time.Millisecond), IntervalS: wholeMS(now.Sub(l.began)), Verdict: affinity.Measured}
	at := l.seats()
	l.cpuset = map[string]cpuset.Set{}
	noWait := false
	for t := range l.sampler.Live() {
		p, ok := l.chosen[t.PID]
		if !ok {
			continue
		}
		who := l.occupant(t, now)
		noWait = noWait || t.Coarse() && who.OnCPU >= 0
		o.Threads = append(o.Threads, who)
		d.Threads = append(d.Threads, l.thread(t, &who, p.Name, at, now))
	}
	l.askMemory(&o, d.Threads, now)
	for i, conflicts := range o.Conflicts() {
		d.Threads[i].Conflicts = conflicts
	}
	d.Noise = o.Noise()
	d.Noise.ThrottledMS = l.stopped()
	l.doubts(noWait, now)
	if l.unsure {
		d.Verdict = affinity.Inconclusive
	}
	d.Findings = l.found.Report()
	if d.Findings == nil {
		d.Findings = []finding.Finding{}
	}
	if d.Threads == nil {
		d.Threads = []psThread{}
	}
	slices.SortFunc(d.Threads, func(a, b psThread) int { return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.TID, b.TID)) })
	l.sampler.Forget()
	return d
}

// wholeMS is a time in seconds, rounded to milliseconds.
func wholeMS(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}

// timesSince is how the CPUs spent the interval. Where others have come online
// or gone, the machine is read anew.
func (l *lookout) timesSince(ctx context.Context) map[cpuset.CPU]tasks.CPUTimes {
	is, err := l.proc.SystemStat()
	if err = cmp.Or(l.blind, err); err != nil {
		l.doubt("cpu-times-unknown", []string{err.Error()}, "What CPUs spent their time on cannot be read: idle cores, interrupts and threads that are not shown are not known.")
		return nil
	}
	spent := map[cpuset.CPU]tasks.CPUTimes{}
	for c, times := range is.CPUs {
		if was, ok := l.spent.CPUs[c]; ok {
			spent[c] = times.Since(was)
		}
	}
	// Some containers show a /proc/stat of their own, so the machine's list is
	// no measure of it.
	was := l.counted
	if l.counted = cpuset.Of(slices.Collect(maps.Keys(is.CPUs))...); !was.IsEmpty() && !was.Equal(l.counted) {
		if err := l.probe(ctx); err != nil {
			l.doubt("machine-changed", []string{err.Error()}, "CPUs came or went, and the machine cannot be read anew.")
		}
	}
	return spent
}

// occupant is a thread as the judge of conflicts wants to see it.
func (l *lookout) occupant(t *tasks.Watched, now time.Time) affinity.Occupant {
	who := affinity.Occupant{CPU: t.CPU, Allowed: t.Allowed, OnCPU: -1, Waiting: -1, Kernel: t.Kernel}
	// The status may be old, and names CPUs that are offline. Where the kernel
	// answers with none, all are.
	if set, err := probe.Affinity(t.TID); err == nil && !set.IsEmpty() {
		who.Allowed = set
	}
	was, seen := l.was[identity(t)]
	elapsed := now.Sub(was.at)
	if !seen { // born in the interval
		was, elapsed = reading{used: tasks.Counters{}}, now.Sub(l.began)
	}
	who.OnCPU = portion(t.Used.OnCPU-max(was.used.OnCPU, 0), elapsed)
	if !t.Coarse() {
		who.Waiting = portion(t.Used.RunDelay-max(was.used.RunDelay, 0), elapsed)
	}
	if seen && !t.Coarse() && t.SchedStat == was.account && t.State == tasks.Running && was.state == tasks.Running {
		// The kernel counts a wait when it ends, so it waited all along; unless it
		// runs without the clock's tick, when the kernel counts but once a second.
		who.Waiting = 1
		if tickless := l.topology.NohzFull; tickless != nil && tickless.Contains(t.CPU) {
			who.OnCPU, who.Waiting = -1, -1
		}
	}
	who.Waiting = min(who.Waiting, 1-max(who.OnCPU, 0))
	if pinned := !who.Allowed.IsEmpty() && !l.topology.Online.SubsetOf(who.Allowed); (pinned || who.Busy()) && !t.Kernel {
		who.CPUSet = l.cpusetOf(t)
	}
	return who
}

// portion is a part of a time, from 0 to 1.
func portion(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return min(max(float64(part)/float64(whole), 0), 1)
}

// cpusetOf is the CPUs that a thread's control group leaves; none where that is
// not known. Threads of one process may be in several groups.
func (l *lookout) cpusetOf(t *tasks.Watched) cpuset.Set {
	where, err := l.proc.ReadFile(fmt.Sprintf("%d/task/%d/cgroup", t.PID, t.TID))
	if err != nil {
		return cpuset.Set{}
	}
	set, known := l.cpuset[string(where)]
	if known {
		return set
	}
	groups, err := cgroup.Of(t.TID)
	var at cgroup.Group
	for _, g := range groups {
		if own := slices.Contains(g.Controllers, "cpuset"); own || g.V2 && at.Dir == "" {
			if at = g; own {
				break
			}
		}
	}
	if err == nil && at.Dir != "" {
		if state, _ := at.Read(cgroup.CPUSet); state.CPUSet != nil {
			set = *state.CPUSet
		}
	}
	l.cpuset[string(where)] = set
	return set
}

// seats tells of each CPU where it is.
type seats struct {
	*topology.Topology
	core, llc, node, kind []int32
}

func (l *lookout) seats() *seats {
	t := l.topology
	size := int(t.Online.Last()) + 1
	return &seats{
		t,
		topology.Owners(size, t.Cores, func(c topology.Core) cpuset.Set { return c.CPUs }),
		topology.Owners(size, l.llc, func(c topology.Cache) cpuset.Set { return c.CPUs }),
		topology.Owners(size, t.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs }),
		topology.Owners(size, t.CoreKinds, func(k topology.Kind) cpuset.Set { return k.CPUs }),
	}
}

// thread describes a thread on its CPU.
func (l *lookout) thread(t *tasks.Watched, who *affinity.Occupant, process string, at *seats, now time.Time) psThread {
	d := psThread{PID: t.PID, TID: t.TID, Process: process, Name: t.Name, State: t.State.String(), Busy: who.Busy(),
		OnCPUPct: percentage(who.OnCPU), WaitingPct: percentage(who.Waiting), StartS: t.Start.Seconds()}
	if !who.Allowed.IsEmpty() {
		d.Allowed = &who.Allowed
	}
	was, seen := l.was[identity(t)]
	if seen && was.migrations >= 0 && t.Migrations >= 0 && was.statusAt.Equal(was.at) && t.StatusAt.Equal(now) {
		d.Migrations = new(t.Migrations - was.migrations)
	}
	c := t.CPU
	if c < 0 {
		return d
	}
	d.CPU = &c
	if int(c) >= len(at.core) {
		return d
	}
	if i := at.core[c]; i >= 0 {
		core := &at.Cores[i]
		d.Core, d.Package = &core.Index, core.Package
	}
	if i := at.llc[c]; i >= 0 {
		d.LLC = new(int(i))
	}
	if i := at.node[c]; i >= 0 {
		d.Node = &at.NUMANodes[i].ID
	}
	if i := at.kind[c]; i >= 0 {
		d.Kind = at.CoreKinds[i].Name
	}
	return d
}

func percentage(share float64) *float64 {
	if share < 0 {
		return nil
	}
	return new(math.Round(share*1000) / 10)
}

// askMemory finds where the memory of busy processes lies, the first of each
// that can be asked for within one interval.
func (l *lookout) askMemory(o *affinity.Occupancy, threads []psThread, now time.Time) {
	if len(l.topology.NUMANodes) < 2 {
		return
	}
	known := map[threadID]memoryReading{}
	var denied, late []string
	for i := range o.Threads {
		if !o.Threads[i].Busy() {
			continue
		}
		p := l.chosen[threads[i].PID]
		id := threadID{p.PID, p.Start}
		m, ok := known[id]
		if !ok {
			if m, ok = l.memory[id]; !ok || now.Sub(m.at) >= memoryAge {
				m = memoryReading{at: now, err: errTooSlow}
				if time.Since(now) < memoryTime {
					m.nodes, m.err = l.proc.NUMAMaps(p.PID)
				}
			}
			known[id] = m
			switch {
			case errors.Is(m.err, errTooSlow):
				late = append(late, processWord(&p))
			case errors.Is(m.err, fs.ErrPermission):
				denied = append(denied, processWord(&p))
			}
		}
		o.Threads[i].Memory = m.nodes
	}
	l.memory = known
	if denied != nil {
		l.doubt("memory-unreadable", denied, "Where the memory of some processes lies is not known: to read their numa_maps takes the right to trace them.")
	}
	if late != nil {
		l.doubt("memory-unread", late, "Where the memory of some processes lies was not asked: that took too long with those before them.")
	}
}

// memoryTime is how long processes may be asked for their memory in a row.
const memoryTime = 500 * time.Millisecond

var errTooSlow = errors.New("not asked for want of time")

func processWord(p *tasks.Process) string {
	return fmt.Sprintf("process %d (%s)", p.PID, printable(p.Name))
}

// throttling reads how much quotas have stopped the processes' control groups.
func (l *lookout) throttling() map[string]cgroup.Throttling {
	where := map[threadID]string{}
	all := map[string]cgroup.Throttling{}
	for pid, p := range l.chosen {
		id := threadID{pid, p.Start}
		at, ok := l.groups[id]
		if !ok {
			text, err := l.proc.ReadFile(strconv.Itoa(pid) + "/cgroup")
			if err != nil {
				continue
			}
			at = string(text)
		}
		where[id] = at
		if _, ok := all[at]; ok || len(all) == mostGroups {
			continue
		}
		if t, err := cgroup.ThrottlingOf(pid); err == nil {
			all[at] = t
		}
	}
	l.groups = where
	return all
}

// stopped is for how many milliseconds quotas stopped the group that they
// stopped the longest.
func (l *lookout) stopped() *float64 {
	var most *float64
	ms := map[string]float64{}
	for at, now := range l.throttling() {
		for group, t := range now {
			was, ok := l.throttled[at][group]
			if !ok {
				continue
			}
			ms[group] = max(ms[group], t.MS-was.MS)
			if most == nil || ms[group] > *most {
				most = new(ms[group])
			}
		}
	}
	var evidence []string
	for _, group := range slices.Sorted(maps.Keys(ms)) {
		if ms[group] > 0 {
			evidence = append(evidence, fmt.Sprintf("%s: for %s ms, summed over CPUs", group, decimal(ms[group], 1)))
		}
	}
	if evidence != nil {
		l.found.Add("throttled", finding.Warning, evidence, "CPU quotas stopped threads in the interval, and that counts as waiting: raise cpu.max, or run fewer threads.")
	}
	return most
}

// doubts says what conflicts may have been missed for.
func (l *lookout) doubts(noWait bool, now time.Time) {
	if l.shape.cores == 0 {
		l.doubt("cores-unknown", nil, "Which CPUs share a core is not known, so that conflicts within cores are not seen.")
	}
	if d := now.Sub(l.began); d < coarse {
		l.doubt("interval-short", nil, "The kernel counts what CPUs do in steps of %s; look for %s or longer.", tasks.Tick, coarse)
	}
	if noWait {
		l.doubt("waiting-unknown", nil, "The kernel does not count how long threads wait for a CPU (CONFIG_SCHED_INFO): threads count as busy by their time on a CPU alone.")
	}
	if l.hidden {
		l.doubt("processes-hidden", nil, "Some processes cannot be seen by this user: /proc is mounted with hidepid (proc(5)).")
	}
	if len(l.unread) > 0 {
		var evidence []string
		for _, pid := range slices.Sorted(maps.Keys(l.unread)) {
			evidence = append(evidence, l.unread[pid].Error())
		}
		l.doubt("threads-unreadable", evidence, "The threads of some processes cannot be read.")
	}
	if n := l.sampler.Missed(); n > l.missed {
		l.doubt("readings-missed", nil, "%d readings of threads failed, for want of file descriptors or rights.", n-l.missed)
		l.missed = n
	}
}
