package profiles

// Schema names the document that a [Profile] is.
const Schema = "berth.profile/v1"

// Profile describes a workload by one of its tasks: a request, an item, a step.
// Times are in milliseconds, memory in MiB (2^20 bytes), bandwidth in 10^9
// bytes per second. A nil pointer means that the profile does not say;
// [Parse] fills the fields that have a default.
type Profile struct {
	Schema    string    `json:"schema" yaml:"schema"`
	Name      string    `json:"name" yaml:"name"`
	Runtime   Runtime   `json:"runtime,omitempty" yaml:"runtime,omitempty"`
	Objective Objective `json:"objective,omitempty" yaml:"objective,omitempty"`
	Model     Model     `json:"model,omitempty" yaml:"model,omitempty"`
	Priority  *float64  `json:"priority,omitempty" yaml:"priority,omitempty"` // see [Profile.Weight]
	Work      Work      `json:"work" yaml:"work"`
	Scaling   *Scaling  `json:"scaling,omitempty" yaml:"scaling,omitempty"`
	Load      Load      `json:"load" yaml:"load"`
	Limits    Limits    `json:"limits" yaml:"limits"`
	Measured  *Measured `json:"measured,omitempty" yaml:"measured,omitempty"`
}

// Runtime is what executes the tasks, as far as it changes how they share CPUs.
type Runtime string

const (
	Native             Runtime = "native"
	Go                 Runtime = "go"
	Java               Runtime = "java"
	Node               Runtime = "node"
	Python             Runtime = "python" // CPython with its global interpreter lock
	PythonFreeThreaded Runtime = "python-free-threaded"
	OpenMP             Runtime = "openmp"
)

// Objective is what the plan should be best at.
type Objective string

const (
	Throughput Objective = "throughput" // most tasks per second
	Latency    Objective = "latency"    // shortest time of one task
	Efficiency Objective = "efficiency" // nearly as many tasks on the fewest cores
)

// Model is how tasks run beside each other.
type Model string

const (
	AnyModel  Model = "auto" // the advisor chooses
	Threads   Model = "threads"
	Processes Model = "processes"
	Async     Model = "async"
)

// Work is what one task does.
type Work struct {
	Kind     Kind     `json:"kind,omitempty" yaml:"kind,omitempty"`
	CPUMS    *float64 `json:"cpu_ms,omitempty" yaml:"cpu_ms,omitempty"`       // time on a CPU, of the fastest kind where kinds differ
	NativeMS float64  `json:"native_ms,omitempty" yaml:"native_ms,omitempty"` // the part of CPUMS with the GIL released
	WaitMS   float64  `json:"wait_ms,omitempty" yaml:"wait_ms,omitempty"`     // off the CPU: network, disk, another service
	// Blocking: the waits hold their thread. Nil counts as true, unless the
	// model is async.
	Blocking           *bool     `json:"blocking,omitempty" yaml:"blocking,omitempty"`
	SerialFraction     float64   `json:"serial_fraction,omitempty" yaml:"serial_fraction,omitempty"`
	SMTYield           *float64  `json:"smt_yield,omitempty" yaml:"smt_yield,omitempty"` // extra throughput for each SMT sibling used
	ThreadBandwidthGBS *float64  `json:"thread_bandwidth_gbs,omitempty" yaml:"thread_bandwidth_gbs,omitempty"`
	Communicates       bool      `json:"communicates,omitempty" yaml:"communicates,omitempty"`
	Partition          Partition `json:"partition,omitempty" yaml:"partition,omitempty"`
	Near               string    `json:"near,omitempty" yaml:"near,omitempty"` // KIND:NAME or a PCI address
}

// Kind is what a task's CPU time goes into.
type Kind string

const (
	Integer         Kind = "integer"
	Float           Kind = "float"
	MemoryLatency   Kind = "memory-latency"
	MemoryBandwidth Kind = "memory-bandwidth"
	Service         Kind = "service" // compute, then wait
)

// Partition is how work is shared out.
type Partition string

const (
	Dynamic Partition = "dynamic" // whoever is free takes the next piece
	Static  Partition = "static"  // equal shares; the slowest worker sets the pace
)

// Scaling holds the coefficients of the Universal Scalability Law (Gunther,
// Guerrilla Capacity Planning, 2007): X(n) = n / (1 + σ(n−1) + κn(n−1)).
type Scaling struct {
	Sigma float64 `json:"sigma" yaml:"sigma"` // contention
	Kappa float64 `json:"kappa" yaml:"kappa"` // coherence; 0: no peak
}

// Load is how much there is to do.
type Load struct {
	Tasks        *int64   `json:"tasks,omitempty" yaml:"tasks,omitempty"`
	Nested       *bool    `json:"nested,omitempty" yaml:"nested,omitempty"` // a task can itself use several threads
	RanksPer     RanksPer `json:"ranks_per,omitempty" yaml:"ranks_per,omitempty"`
	ArrivalPerS  *float64 `json:"arrival_per_s,omitempty" yaml:"arrival_per_s,omitempty"`
	WaitTargetMS *float64 `json:"wait_target_ms,omitempty" yaml:"wait_target_ms,omitempty"` // queueing wait at Quantile
	Quantile     float64  `json:"quantile,omitempty" yaml:"quantile,omitempty"`
}

// RanksPer is what gets one MPI rank each.
type RanksPer string

const (
	PerNode RanksPer = "node"
	PerLLC  RanksPer = "llc"
	PerCore RanksPer = "core"
)

// Limits is what the workers may not exceed.
type Limits struct {
	MemoryPerWorkerMiB    *float64 `json:"memory_per_worker_mib,omitempty" yaml:"memory_per_worker_mib,omitempty"`
	MemorySharedMiB       float64  `json:"memory_shared_mib,omitempty" yaml:"memory_shared_mib,omitempty"`
	MemoryReserveFraction float64  `json:"memory_reserve_fraction" yaml:"memory_reserve_fraction"`
	DownstreamConcurrency *int64   `json:"downstream_concurrency,omitempty" yaml:"downstream_concurrency,omitempty"`
	TargetUtilisation     *float64 `json:"target_utilisation,omitempty" yaml:"target_utilisation,omitempty"` // see [Profile.Target]
	ReserveCores          int64    `json:"reserve_cores,omitempty" yaml:"reserve_cores,omitempty"`
	AvoidCPUs             string   `json:"avoid_cpus,omitempty" yaml:"avoid_cpus,omitempty"` // Linux cpulist
}

// Measured says how observe came by the figures.
type Measured struct {
	Seconds     float64  `json:"seconds" yaml:"seconds"`
	Utilisation *float64 `json:"utilisation,omitempty" yaml:"utilisation,omitempty"` // busy share of the workers it saw
	Confidence  float64  `json:"confidence" yaml:"confidence"`
}

// Defaults of fields that have one.
const (
	DefaultQuantile            = 0.99
	DefaultMemoryReserve       = 0.10
	DefaultTarget              = 0.98
	DefaultTargetForEfficiency = 0.90
	DefaultPriority            = 1
)

// BlockingWaits reports whether a waiting task holds its thread.
func (p *Profile) BlockingWaits() bool {
	if p.Work.Blocking != nil {
		return *p.Work.Blocking
	}
	return p.Model != Async
}

// NestedTasks reports whether a task can use several threads.
func (p *Profile) NestedTasks() bool {
	return p.Load.RanksPer != "" || p.Load.Nested != nil && *p.Load.Nested
}

// Weight is the workload's priority among those that share a machine: where all
// of them want more than there is, a priority of 2 gets twice what 1 gets.
func (p *Profile) Weight() float64 {
	if p.Priority != nil {
		return *p.Priority
	}
	return DefaultPriority
}

// blank is a profile that says nothing: the defaults alone.
func blank() Profile {
	return Profile{
		Runtime: Native, Objective: Throughput, Model: AnyModel,
		Work:   Work{Kind: Integer, Partition: Dynamic},
		Load:   Load{Quantile: DefaultQuantile},
		Limits: Limits{MemoryReserveFraction: DefaultMemoryReserve},
	}
}

// Target is the utilisation at which a closed queue counts as saturated.
func (p *Profile) Target() float64 {
	switch {
	case p.Limits.TargetUtilisation != nil:
		return *p.Limits.TargetUtilisation
	case p.Objective == Efficiency:
		return DefaultTargetForEfficiency
	}
	return DefaultTarget
}
