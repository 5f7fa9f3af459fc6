// Package cgroup reads what the control groups let this process use.
package cgroup

// Throttled counts how often the CPU quota stopped this process's group.
type Throttled struct {
	Periods int64   `json:"periods" yaml:"periods"` // periods in which it was stopped
	MS      float64 `json:"ms" yaml:"ms"`           // time it was stopped, summed over CPUs, milliseconds
}

// Link is one limit and the place that sets it.
type Link struct {
	Resource string `json:"resource" yaml:"resource"` // cpus, cpuset, memory_bytes or weight
	Source   string `json:"source" yaml:"source"`     // affinity, cpuset.cpus.effective, cpu.max, cpu.cfs_quota_us …
	Path     string `json:"path,omitempty" yaml:"path,omitempty"`
	// Limit is a float64 for cpus, a cpuset.Set for cpuset, an int64 else.
	Limit   any  `json:"limit" yaml:"limit"`
	Binding bool `json:"binding,omitempty" yaml:"binding,omitempty"` // this one decides the budget
}
