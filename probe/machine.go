// Package probe reads what a machine is and what this process may use of it.
//
// [Probe] merges what the kernel's files, CPUID and the control groups say
// into a [Machine]. Where they disagree the machine holds one answer, chosen by
// the rule at [Probe], and a finding that holds both.
package probe

import (
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// Schema names the JSON document that a [Machine] marshals to.
const Schema = "berth.inspect/v1"

// Machine is one machine as one process sees it.
type Machine struct {
	Schema      string            `json:"schema" yaml:"schema"`
	Fingerprint string            `json:"fingerprint,omitempty" yaml:"fingerprint,omitempty"`
	Host        Host              `json:"host" yaml:"host"`
	CPU         topology.Identity `json:"cpu" yaml:"cpu"`
	Topology    topology.Topology `json:"topology" yaml:"topology"`
	Limits      Limits            `json:"limits" yaml:"limits"`
	Devices     []Device          `json:"devices" yaml:"devices"`
	Findings    []finding.Finding `json:"findings" yaml:"findings"`
}

// Host is the system around the processor.
type Host struct {
	Hostname   string `json:"hostname,omitempty" yaml:"hostname,omitempty"`
	OS         string `json:"os,omitempty" yaml:"os,omitempty"`
	Kernel     string `json:"kernel,omitempty" yaml:"kernel,omitempty"`         // release, as uname -r
	Arch       string `json:"arch,omitempty" yaml:"arch,omitempty"`             // as uname -m
	Hypervisor string `json:"hypervisor,omitempty" yaml:"hypervisor,omitempty"` // kvm, vmware, xen …
	Container  string `json:"container,omitempty" yaml:"container,omitempty"`   // docker, podman, kubernetes …
	// MemoryBytes is all the memory of the machine, from /proc/meminfo.
	MemoryBytes *int64 `json:"memory_bytes,omitempty" yaml:"memory_bytes,omitempty"`
	// ArchGuessed says that Arch is what /proc/cpuinfo looks like, where nobody kept
	// what uname said.
	ArchGuessed bool `json:"arch_guessed,omitempty" yaml:"arch_guessed,omitempty"`
}

// Limits says what this process may use, and what decides it.
type Limits struct {
	Affinity *cpuset.Set `json:"affinity,omitempty" yaml:"affinity,omitempty"` // sched_getaffinity(2)
	CPUSet   *cpuset.Set `json:"cpuset,omitempty" yaml:"cpuset,omitempty"`     // the cpuset controller's effective set
	Mems     *cpuset.Set `json:"mems,omitempty" yaml:"mems,omitempty"`         // the NUMA nodes that the cpuset controller leaves
	// QuotaCPUs is the tightest CPU quota of any ancestor, in CPUs; absent
	// where there is none.
	QuotaCPUs     *float64 `json:"quota_cpus,omitempty" yaml:"quota_cpus,omitempty"`
	QuotaPeriodMS *float64 `json:"quota_period_ms,omitempty" yaml:"quota_period_ms,omitempty"`
	MemoryBytes   *int64   `json:"memory_bytes,omitempty" yaml:"memory_bytes,omitempty"` // the tightest memory limit
	// EffectiveCPUs is the budget: min(CPUs allowed, QuotaCPUs).
	EffectiveCPUs float64           `json:"effective_cpus" yaml:"effective_cpus"`
	Throttled     *cgroup.Throttled `json:"throttled,omitempty" yaml:"throttled,omitempty"`
	Chain         []cgroup.Link     `json:"chain" yaml:"chain"`
}

// Device is a device whose place in the machine matters to a workload.
type Device struct {
	Kind      string     `json:"kind" yaml:"kind"` // nic, gpu, nvme, infiniband, accelerator …
	Name      string     `json:"name" yaml:"name"`
	PCI       string     `json:"pci,omitempty" yaml:"pci,omitempty"`             // bus address, 0000:3b:00.0
	NUMANode  *int       `json:"numa_node,omitempty" yaml:"numa_node,omitempty"` // absent where the kernel does not know
	LocalCPUs cpuset.Set `json:"local_cpus" yaml:"local_cpus"`
}
