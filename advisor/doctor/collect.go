//go:build linux

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/tasks"
)

// Options say how to look.
type Options struct {
	For time.Duration
	// PIDs are the processes to judge; none: all that can be seen. All others
	// are watched too, for who is in whose way.
	PIDs []int
	// All also judges the kernel's threads, and how idle programs are set up.
	All bool
}

// Bounds of the time that is spent on questions that hold others up or take
// long.
const (
	memoryTime  = 500 * time.Millisecond // numa_maps locks the mappings of its process
	programTime = 2 * time.Second
	leastSample = 250 * time.Millisecond // samples find processes that come and go
)

// collector is the look at one interval.
type collector struct {
	Options
	*Facts
	proc     tasks.Proc
	files    root.Reader
	found    finding.List // what files were odd
	sampler  *tasks.Sampler
	readings map[string]*groupReading // by the text of /proc/PID/cgroup
	crowded  bool                     // more groups than are read

	began time.Time
	// waiting holds threads that were ready or running at the start.
	waiting    map[int]bool
	spent      tasks.SystemStat
	blind      error
	irqs, soft []Interrupt
	heat       []Heat
	pressure   pressureReading
}

// Collect looks at the live node for an interval. Where the context ends first,
// the facts are those until then. An error means that there is nothing to judge.
func Collect(ctx context.Context, o Options) (*Facts, error) {
	c := &collector{Options: o, sampler: tasks.NewSampler("", tasks.Options{Children: true}), readings: map[string]*groupReading{}}
	defer c.sampler.Close()
	c.Facts = &Facts{Processes: map[int]*Process{}, Idle: o.All, Pressure: noPressure}
	c.files = root.Reader{Dir: root.Live(), Found: &c.found}
	source := probe.Live()
	defer source.Close()
	source.Only = probe.Budget | probe.Cores | probe.NUMA | probe.Identity | probe.Devices
	var err error
	if c.Machine, err = probe.Probe(ctx, source); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	c.watch(ctx)
	c.end()
	return c.Facts, nil
}

// unseen notes what could not be read.
func (c *collector) unseen(format string, args ...any) {
	c.Unseen = append(c.Unseen, fmt.Sprintf(format, args...))
}

func (c *collector) begin() error {
	all, err := c.proc.Processes()
	if err != nil {
		return err
	}
	if all.Hidden {
		c.unseen("some processes are hidden from this user: /proc is mounted with hidepid (proc(5))")
	}
	named := map[int]bool{}
	for _, pid := range c.PIDs {
		named[pid] = true
	}
	unread := 0
	for _, p := range all.Processes {
		if p.PID == os.Getpid() || p.Kernel && !c.All && !named[p.PID] {
			continue
		}
		q := c.add(p)
		q.Named = named[p.PID]
		q.Chosen = len(named) == 0 || q.Named
		if err := c.sampler.Follow(p.PID, time.Now()); err != nil && !errors.Is(err, tasks.ErrGone) {
			unread++
		}
	}
	if unread > 0 {
		c.unseen("the threads of %d processes cannot be read", unread)
	}
	c.Settings = readSettings(c.files)
	c.irqs, c.soft = c.interrupts("/proc/interrupts"), c.interrupts("/proc/softirqs")
	c.heat = readHeat(c.files, c.Machine.Topology.Online)
	c.waiting = map[int]bool{}
	for t := range c.sampler.Live() {
		if t.State == tasks.Running {
			c.waiting[t.TID] = true
		}
	}
	c.began = time.Now()
	c.pressure = readPressure(c.began, c.proc.Pressure)
	c.spent, c.blind = c.proc.SystemStat()
	return nil
}

// add makes a process one of those watched.
func (c *collector) add(p tasks.Process) *Process {
	q := &Process{Process: p, SwapBytes: -1, MajorFaults: -1}
	c.Processes[p.PID] = q
	where, err := c.proc.ReadFile(fmt.Sprintf("%d/cgroup", p.PID))
	if err != nil {
		return q
	}
	r, known := c.readings[string(where)]
	if !known {
		if len(c.readings) >= mostGroups {
			c.crowded = true
			return q
		}
		if r, err = readGroup(p.PID, time.Now()); err != nil {
			r = nil // it has ended
		} else {
			c.readings[string(where)] = r
		}
	}
	if r != nil {
		q.Group = r.group
	}
	return q
}

func (c *collector) interrupts(name string) []Interrupt {
	text, ok := c.files.Text(name)
	if !ok {
		return nil
	}
	all, err := parseInterrupts(text)
	if err != nil {
		c.files.Malformed(name, err)
	}
	return all
}

// watch samples until the interval is over.
func (c *collector) watch(ctx context.Context) {
	over := time.NewTimer(c.For)
	defer over.Stop()
	for {
		next := time.NewTimer(max(c.sampler.Interval(), leastSample))
		select {
		case <-ctx.Done():
		case <-over.C:
		case <-next.C:
			c.sampler.Sample(time.Now())
			continue
		}
		next.Stop()
		return
	}
}

func (c *collector) end() {
	now := time.Now()
	c.sampler.Sample(now)
	c.At, c.Interval = now, now.Sub(c.began)
	is, err := c.proc.SystemStat()
	if err = cmp.Or(c.blind, err); err != nil {
		c.unseen("what the CPUs did is not known: %v", err)
	} else {
		c.Spent = map[cpuset.CPU]tasks.CPUTimes{}
		for cpu, times := range is.CPUs {
			if was, ok := c.spent.CPUs[cpu]; ok {
				c.Spent[cpu] = times.Since(was)
			}
		}
	}
	c.Interrupts = interruptsSince(c.interrupts("/proc/interrupts"), c.irqs)
	c.SoftIRQs = interruptsSince(c.interrupts("/proc/softirqs"), c.soft)
	for i := range c.Interrupts {
		if one := &c.Interrupts[i]; one.numbered() {
			one.Affinity, _ = c.files.Text("/proc/irq/" + one.Label + "/smp_affinity_list")
		}
	}
	c.Heat = heatSince(readHeat(c.files, c.Machine.Topology.Online), c.heat)
	c.Facts.Pressure = c.pressure.since(now)
	c.newcomers()
	for _, text := range slices.Sorted(maps.Keys(c.readings)) {
		r := c.readings[text]
		r.finish(now)
		c.Groups = append(c.Groups, r.group)
	}
	c.threads(now)
	c.details()
	if c.crowded {
		c.unseen("only %d control groups were read", mostGroups)
	}
	if n := c.sampler.Missed(); n > 0 {
		c.unseen("%d readings of threads failed, for want of file descriptors or rights", n)
	}
	for _, f := range c.found.Report() {
		c.unseen("%s", f.Message)
	}
}

// newcomers adds the processes that were born in the interval; they are chosen
// as their parents are.
func (c *collector) newcomers() {
	for _, w := range c.sampler.Processes() {
		if _, known := c.Processes[w.PID]; known {
			continue
		}
		p, err := c.proc.Process(w.PID)
		if err != nil || p.Start != w.Start {
			p = tasks.Process{PID: w.PID, UID: -1, EUID: -1, Stat: tasks.Stat{Name: w.Name, Parent: w.Parent, Start: w.Start}}
		}
		q := c.add(p)
		parent := c.Processes[w.Parent]
		q.Chosen = len(c.PIDs) == 0 || parent != nil && parent.Chosen
		if q.Group == nil && parent != nil {
			q.Group = parent.Group
		}
	}
}

// threads turns what was sampled into shares of the interval.
func (c *collector) threads(now time.Time) {
	noWait := false
	var masks probe.Masks
	for _, w := range c.sampler.Threads() {
		p := c.Processes[w.PID]
		if p == nil || w.PID == os.Getpid() {
			continue
		}
		t := Thread{PID: w.PID, TID: w.TID, Name: w.Name, State: w.State, Nice: w.Nice, Policy: w.Policy, Ended: w.Ended,
			Occupant: affinity.Occupant{CPU: w.CPU, Allowed: w.Allowed, OnCPU: -1, Waiting: -1, Kernel: w.Kernel}}
		t.OnCPU = c.share(w.Used.OnCPU)
		if noWait = noWait || w.Coarse() && t.OnCPU > 0; !w.Coarse() {
			t.Waiting = min(c.share(w.Used.RunDelay), 1-t.OnCPU)
			if c.waitedAllAlong(&w) {
				t.Waiting = 1
			}
		}
		if w.Used.MajorFaults >= 0 {
			p.MajorFaults = max(p.MajorFaults, 0) + w.Used.MajorFaults
		}
		if !w.Ended && t.demand() >= Working/4 || w.TID == w.PID {
			if set, err := masks.Affinity(w.TID); err == nil && !set.IsEmpty() {
				t.Allowed = set
			}
		}
		if p.Group != nil && !w.Kernel {
			t.CPUSet = p.Group.CPUSet
		}
		c.Threads = append(c.Threads, t)
	}
	if noWait {
		c.unseen("this kernel does not count how long threads wait for a CPU (CONFIG_SCHED_INFO)")
	}
}

func (c *collector) share(d time.Duration) float64 {
	if c.Interval <= 0 {
		return 0
	}
	return min(max(float64(d)/float64(c.Interval), 0), 1)
}

// waitedAllAlong: the kernel counts a wait when it ends. A thread that was ready
// at both ends and is not known to have run waited all along, unless it runs
// without the clock's tick, when the kernel rarely counts.
func (c *collector) waitedAllAlong(w *tasks.Watched) bool {
	if w.Ended || !c.waiting[w.TID] || w.Used.OnCPU != 0 || w.Used.RunDelay != 0 {
		return false
	}
	if tickless := c.Machine.Topology.NohzFull; tickless != nil && tickless.Contains(w.CPU) {
		return false
	}
	data, err := c.proc.ReadFile(fmt.Sprintf("%d/task/%d/stat", w.PID, w.TID))
	if err != nil {
		return false
	}
	is, err := tasks.ParseStat(data)
	return err == nil && is.Start == w.Start && is.State == tasks.Running
}
