//go:build linux

package doctor

import (
	"maps"
	"time"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"
	"berth/profiles/program"
)

// Facts are what was seen on a node in an interval. Shares are of the interval.
type Facts struct {
	At       time.Time // the end of the interval
	Interval time.Duration
	Machine  *probe.Machine
	// Spent is what each CPU did in the interval; nil is unknown.
	Spent map[cpuset.CPU]tasks.CPUTimes
	// Interrupts and SoftIRQs were served in the interval.
	Interrupts, SoftIRQs []Interrupt
	Settings             Settings
	Heat                 []Heat
	Pressure             Pressure
	Groups               []*Group
	Processes            map[int]*Process
	Threads              []Thread
	// Idle asks for findings on the settings of idle programs too.
	Idle bool
	// Unseen says what could not be read, a sentence each.
	Unseen []string
}

// Group is where a process is in the control groups.
type Group struct {
	Path string // in the hierarchy that has the cpu controller
	// QuotaCPUs is the tightest quota of the group and its ancestors, set in
	// the file QuotaFile of the group QuotaPath; 0: there is none.
	QuotaCPUs, QuotaPeriodMS float64
	QuotaPath, QuotaFile     string
	CPUSet                   cpuset.Set // CPUs that it leaves; empty is unknown
	CPUSetPath               string
	// Throttled is what quotas took in the interval, by the path of the group
	// that has the quota.
	Throttled map[string]Stopped
	Pressure  Pressure
	// Unbalanced is the file that tells the kernel to balance no load among the
	// group's CPUs; empty: it does balance.
	Unbalanced string
	// Top: it is the root group of the cpu controller, the only one in which
	// autogroups count (sched(7)).
	Top bool
}

// Stopped is what a quota took.
type Stopped struct {
	Periods int64
	Time    time.Duration // summed over CPUs
}

// Pressure is the shares of the interval in which threads stood still (psi.rst);
// -1 is unknown.
type Pressure struct{ CPU, Memory, MemoryFull float64 }

var noPressure = Pressure{-1, -1, -1}

// Process is one process.
type Process struct {
	tasks.Process
	Chosen bool // findings on it are asked for
	Named  bool // by the caller
	Group  *Group
	// Program is what runs in it; nil was not asked, or could not be told.
	Program *program.Program
	Session *Session
	// Memory is bytes by NUMA node; nil is unknown.
	Memory      map[int]int64
	SwapBytes   int64 // -1 unknown
	MajorFaults int64 // in the interval; -1 unknown
	Devices     []OpenDevice
}

// Session is an autogroup: the threads of a session share the CPU time as
// one does (sched(7)).
type Session struct {
	Name string // as in /proc/PID/autogroup
	Nice int
}

// OpenDevice is a device that a process holds open.
type OpenDevice struct {
	File string // /dev/nvidia0
	PCI  string // bus address
}

// Thread is a thread and what it did. Its Memory and CPUSet are those of its
// process.
type Thread struct {
	affinity.Occupant
	PID, TID int
	Name     string
	State    tasks.State
	Nice     int
	Policy   tasks.Policy
	Ended    bool // in the interval: its times count, its place does not
}

// demand is how much of a CPU the thread had work for.
func (t *Thread) demand() float64 { return max(t.OnCPU, 0) + max(t.Waiting, 0) }

// Scheduling policies (sched(7)), and the nice value from which work takes what
// others leave: that makes nobody oversubscribed.
const (
	policyOther    tasks.Policy = 0 // SCHED_OTHER
	policyBatch    tasks.Policy = 3 // SCHED_BATCH
	policyIdle     tasks.Policy = 5 // SCHED_IDLE
	backgroundNice              = 10
)

func (t *Thread) background() bool { return t.Policy == policyIdle || t.Nice >= backgroundNice }

// Working is the least share of a CPU that a process must have work for to be
// judged by how it is set up: less costs nobody anything.
const Working = 0.05

// demands is how many threads of each process had work, on average.
func (f *Facts) demands() map[int]float64 {
	sum := map[int]float64{}
	for i := range f.Threads {
		sum[f.Threads[i].PID] += f.Threads[i].demand()
	}
	return sum
}

// treeDemands adds to the demand of each process that of its children: a master
// hardly works itself.
func (f *Facts) treeDemands() map[int]float64 {
	own := f.demands()
	sum := maps.Clone(own)
	for pid, d := range own {
		if p := f.Processes[pid]; p != nil && p.Parent > 0 {
			sum[p.Parent] += d
		}
	}
	return sum
}

// allowed is the CPUs that the threads of a process may use together: those of
// the threads seen, or what its control group leaves.
func (f *Facts) allowed(p *Process) cpuset.Set {
	var set cpuset.Set
	for i := range f.Threads {
		if t := &f.Threads[i]; t.PID == p.PID && !t.Ended {
			set = set.Union(t.Allowed)
		}
	}
	if set.IsEmpty() && p.Group != nil {
		set = p.Group.CPUSet
	}
	online := f.Machine.Topology.Online
	if set = set.Intersect(online); set.IsEmpty() {
		set = online
	}
	return set
}

// budget is how many CPUs' worth of time a process can get, and what says so.
func (f *Facts) budget(p *Process) (cpus float64, why string) {
	set := f.allowed(p)
	cpus, why = float64(set.Len()), "it may use CPUs "+set.String()
	if g := p.Group; g != nil && g.QuotaCPUs > 0 && g.QuotaCPUs < cpus {
		cpus, why = g.QuotaCPUs, quotaWord(g)
	}
	return cpus, why
}

// judged reports whether a process is to be judged by how it is set up.
func (f *Facts) judged(p *Process, demand float64) bool {
	return p.Chosen && (demand >= Working || p.Named || f.Idle)
}
