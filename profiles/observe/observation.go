//go:build linux

package observe

import (
	"time"

	"berth/probe/finding"
	"berth/profiles"
)

// Schema names the JSON document that an Observation marshals to.
const Schema = "berth.observation/v1"

// Observation is what was seen of a program. A nil pointer is unknown.
type Observation struct {
	Schema     string           `json:"schema" yaml:"schema"`
	PID        int              `json:"pid" yaml:"pid"` // of several processes the first
	Processes  int              `json:"processes" yaml:"processes"`
	Command    string           `json:"command" yaml:"command"`
	MeasuredAt time.Time        `json:"measured_at" yaml:"measured_at"`
	DurationS  float64          `json:"duration_s" yaml:"duration_s"`
	Samples    int              `json:"samples" yaml:"samples"`
	Class      profiles.Class   `json:"class" yaml:"class"`
	Confidence float64          `json:"confidence" yaml:"confidence"` // 0 to 1
	Runtime    profiles.Runtime `json:"runtime,omitempty" yaml:"runtime,omitempty"`
	RuntimeWhy string           `json:"runtime_why,omitempty" yaml:"runtime_why,omitempty"`
	Shares     Shares           `json:"shares" yaml:"shares"`
	// CPUMS and WaitMS are milliseconds of one unit of work, Units of which were
	// seen. WaitMS holds no wait for a CPU, for a lock or for more work.
	CPUMS  *float64 `json:"cpu_ms,omitempty" yaml:"cpu_ms,omitempty"`
	WaitMS *float64 `json:"wait_ms,omitempty" yaml:"wait_ms,omitempty"`
	// WOverC is the ratio of waiting to time on a CPU, by the threads' own time.
	WOverC  *float64 `json:"w_over_c,omitempty" yaml:"w_over_c,omitempty"`
	Unit    string   `json:"unit" yaml:"unit"`
	Units   *float64 `json:"units,omitempty" yaml:"units,omitempty"`
	Threads Threads  `json:"threads" yaml:"threads"`
	GIL     GIL      `json:"gil" yaml:"gil"`
	// Counters is nil where no event can be counted.
	Counters *Counters `json:"counters,omitempty" yaml:"counters,omitempty"`
	// OverheadPct is what the watch itself cost, with its beginning and the
	// judgement, in per cent of one CPU.
	OverheadPct float64           `json:"overhead_pct" yaml:"overhead_pct"`
	Phases      []Phase           `json:"phases,omitempty" yaml:"phases,omitempty"`
	Evidence    []string          `json:"evidence" yaml:"evidence"`
	Against     []string          `json:"against" yaml:"against"` // what speaks against the class
	Profile     *profiles.Profile `json:"profile,omitempty" yaml:"profile,omitempty"`
	// ProfileYAML is the profile with comments that say how it was measured.
	ProfileYAML []byte            `json:"-" yaml:"-"`
	Noise       Noise             `json:"-" yaml:"-"`
	Findings    []finding.Finding `json:"findings" yaml:"findings"`
}

// Shares are what busy threads did with their time; they sum to 1.
type Shares struct {
	OnCPU         float64 `json:"on_cpu" yaml:"on_cpu"`
	WaitingForCPU float64 `json:"waiting_for_cpu" yaml:"waiting_for_cpu"`
	Throttled     float64 `json:"throttled" yaml:"throttled"`
	Disk          float64 `json:"disk" yaml:"disk"`
	Network       float64 `json:"network" yaml:"network"`
	Lock          float64 `json:"lock" yaml:"lock"` // the GIL is one; waiting for more work looks like one
	Sleep         float64 `json:"sleep" yaml:"sleep"`
	Other         float64 `json:"other" yaml:"other"`
}

// Threads counts threads. Busy ones did at least a tenth as much as the one
// that did most.
type Threads struct {
	Total        int     `json:"total" yaml:"total"`
	Busy         int     `json:"busy" yaml:"busy"`
	RunnableMean float64 `json:"runnable_mean" yaml:"runnable_mean"` // on a CPU or waiting for one, on average
}

// GIL is how much of the time the lock of a Python interpreter was held.
type GIL struct {
	Present bool     `json:"present" yaml:"present"`
	HeldPct *float64 `json:"held_pct,omitempty" yaml:"held_pct,omitempty"`
	Method  string   `json:"method,omitempty" yaml:"method,omitempty"`
}

// Phase is a stretch of time with a class of its own.
type Phase struct {
	FromS float64        `json:"from_s" yaml:"from_s"`
	ToS   float64        `json:"to_s" yaml:"to_s"`
	Class profiles.Class `json:"class" yaml:"class"`
	OnCPU float64        `json:"on_cpu" yaml:"on_cpu"` // share, of busy threads
}

// Noise is what else happened on the program's CPUs: shares of their time, in
// per cent, and milliseconds for which quotas stopped it. Nil is unknown.
type Noise struct{ StealPct, OtherBusyPct, ThrottledMS *float64 }
