package advisor

import (
	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

// Schema names the JSON document that a [Plan] marshals to.
const Schema = "berth.plan/v1"

// Plan says how many workers a workload should have on a machine, where they
// sit, what stops a larger number, and what that should yield.
//
// A worker is a process. CPU sets are Linux CPU numbers.
type Plan struct {
	Schema     string           `json:"schema" yaml:"schema"`
	Profile    string           `json:"profile" yaml:"profile"` // its name
	Machine    string           `json:"machine_fingerprint,omitempty" yaml:"machine_fingerprint,omitempty"`
	Runtime    profiles.Runtime `json:"runtime" yaml:"runtime"`
	Blocking   bool             `json:"blocking" yaml:"blocking"` // a waiting task holds its thread
	Class      profiles.Class   `json:"class" yaml:"class"`
	Confidence Confidence       `json:"confidence" yaml:"confidence"`
	// BudgetCPUs is how many CPUs' worth of time the workers can get: the CPUs
	// left to them, or the quota if that is less.
	BudgetCPUs float64 `json:"budget_cpus" yaml:"budget_cpus"`
	// MemoryMiB is what all workers and what they share need, in 2^20 bytes; nil
	// where the profile does not say.
	MemoryMiB   *float64   `json:"memory_mib,omitempty" yaml:"memory_mib,omitempty"`
	Workers     Workers    `json:"workers" yaml:"workers"`
	Levels      Levels     `json:"levels,omitempty" yaml:"levels,omitempty"` // inside each worker, from the outside in
	Binding     Binding    `json:"binding" yaml:"binding"`
	Placement   Placement  `json:"placement" yaml:"placement"`
	Predicted   Prediction `json:"predicted" yaml:"predicted"`
	Feasible    bool       `json:"feasible" yaml:"feasible"`
	Remedies    []string   `json:"remedies,omitempty" yaml:"remedies,omitempty"` // what would make it feasible
	Rejected    []Rejected `json:"rejected" yaml:"rejected"`
	Reasons     []string   `json:"reasons" yaml:"reasons"`         // the arithmetic: formula, inputs, result
	Assumptions []string   `json:"assumptions" yaml:"assumptions"` // what was not measured or declared
	Verify      string     `json:"verify" yaml:"verify"`           // the command that tests it here
}

// Confidence says what the class and the counts rest on.
type Confidence struct {
	Basis   Basis    `json:"basis" yaml:"basis"`
	Seconds *float64 `json:"seconds,omitempty" yaml:"seconds,omitempty"` // of measurement
	Level   *float64 `json:"level,omitempty" yaml:"level,omitempty"`     // 0 to 1, as measured
}

// Basis is where figures come from.
type Basis string

const (
	Declared Basis = "declared" // the profile says so
	Measured Basis = "measured" // berth observe wrote the profile
	Assumed  Basis = "assumed"  // neither
)

// WorkerModel is how tasks run beside each other.
type WorkerModel string

const (
	Threads         WorkerModel = "threads"
	Processes       WorkerModel = "processes"
	Async           WorkerModel = "async"
	ProcessesOfMany WorkerModel = "processes x threads"
)

// Workers is how many of what.
type Workers struct {
	Model     WorkerModel `json:"model" yaml:"model"`
	Processes int         `json:"processes" yaml:"processes"`
	Threads   int         `json:"threads_per_process" yaml:"threads_per_process"`
	// InFlight is the number of tasks at once in all event loops together.
	InFlight   int `json:"in_flight,omitempty" yaml:"in_flight,omitempty"`
	Inner      int `json:"inner_threads,omitempty" yaml:"inner_threads,omitempty"` // that a nested task uses
	EventLoops int `json:"event_loops,omitempty" yaml:"event_loops,omitempty"`
}

// Total is the number of threads that want a CPU.
func (w Workers) Total() int { return w.Processes * w.Each() }

// Binding names what stops a larger count.
type Binding struct {
	Name   Binder `json:"name" yaml:"name"`
	Detail string `json:"detail" yaml:"detail"`
}

// Binder is a resource that a plan uses up.
type Binder string

const (
	ByCores     Binder = "cores"
	ByCPUs      Binder = "logical_cpus"
	ByQuota     Binder = "quota"
	ByMemory    Binder = "memory"
	ByTasks     Binder = "tasks"
	ByDown      Binder = "downstream"
	ByDemand    Binder = "demand"
	ByCPU       Binder = "cpu" // a saturated queue
	ByPeak      Binder = "usl_peak"
	ByKinds     Binder = "core_kinds"
	ByBandwidth Binder = "memory_bandwidth"
	ByTarget    Binder = "latency_target"
)

// Pin says how closely workers are tied.
type Pin string

const (
	PerCPU   Pin = "per_cpu"   // each on a CPU, SMT siblings included
	PerCore  Pin = "per_core"  // each on a core of its own, on that core's first CPU
	PerGroup Pin = "per_group" // each within a set of CPUs
	NoPin    Pin = "none"
)

// Placement is where the workers sit.
type Placement struct {
	Pin   Pin        `json:"pin" yaml:"pin"`
	CPUs  cpuset.Set `json:"cpus" yaml:"cpus"` // of all seats; without seats, all that may be used
	Seats []Seat     `json:"seats" yaml:"seats"`
	Why   string     `json:"why" yaml:"why"`
	// KeptOut are, without seats, the CPUs that the workers can run on although
	// the plan leaves them to others; nil where there are none.
	KeptOut *cpuset.Set `json:"kept_out,omitempty" yaml:"kept_out,omitempty"`
}

// keepOut fills KeptOut: of a machine's allowed CPUs those that are not the
// plan's. The kernel moves no thread to isolated ones.
func (p *Placement) keepOut(m *probe.Machine, own cpuset.Set) {
	if p.Pin != NoPin {
		return
	}
	out := m.Topology.Allowed.Minus(own)
	if m.Topology.Isolated != nil {
		out = out.Minus(*m.Topology.Isolated)
	}
	if !out.IsEmpty() {
		p.KeptOut = &out
	}
}

// Seat is where one process, or one thread of it, runs and has its memory.
type Seat struct {
	Worker int        `json:"worker" yaml:"worker"`
	Thread *int       `json:"thread,omitempty" yaml:"thread,omitempty"` // nil: the whole process
	CPUs   cpuset.Set `json:"cpus" yaml:"cpus"`
	Mems   string     `json:"mems,omitempty" yaml:"mems,omitempty"` // NUMA nodes, as a list; empty where none are known
}

// Prediction is what a count should yield. Nil: the model cannot say.
type Prediction struct {
	// Speedup is against one worker alone on an idle core of the fastest kind used.
	Speedup      *float64 `json:"speedup,omitempty" yaml:"speedup,omitempty"`
	ThroughputPS *float64 `json:"throughput_per_s,omitempty" yaml:"throughput_per_s,omitempty"`
	Utilisation  *float64 `json:"utilisation,omitempty" yaml:"utilisation,omitempty"` // of the capacity the workers could use
	WaitMS       *float64 `json:"wait_ms_at_quantile,omitempty" yaml:"wait_ms_at_quantile,omitempty"`
	StallMS      *float64 `json:"stall_ms_per_period,omitempty" yaml:"stall_ms_per_period,omitempty"`
	Knee         *int     `json:"knee_95,omitempty" yaml:"knee_95,omitempty"`
	Capacity     *float64 `json:"capacity,omitempty" yaml:"capacity,omitempty"` // in idle cores of the fastest kind
}

// Rejected is a count that people would have tried, and what it would yield.
type Rejected struct {
	Option    string     `json:"option" yaml:"option"`
	Predicted Prediction `json:"predicted" yaml:"predicted"`
	Why       string     `json:"why" yaml:"why"`
}
