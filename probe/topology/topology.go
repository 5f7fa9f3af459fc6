// Package topology holds the shape of a machine: packages, dies, clusters,
// cores, caches, NUMA nodes and core kinds, each with the CPUs it covers.
//
// The types are shared by every source that can describe a machine (sysfs,
// CPUID, a synthetic description) and are the "topology" object of the
// berth.inspect/v1 document. Sizes are in bytes; a pointer or a zero that is
// left out of the JSON means that no source gave the fact.
package topology

import "berth/probe/cpuset"

// CoreIndex is the logical number (L#) of a core: its place in the machine's
// order of cores. It is never a CPU number and never the kernel's core_id.
type CoreIndex int

// Topology is the machine's shape. Objects are ordered by package, die,
// cluster and first CPU; no object has an empty set unless it is a NUMA node
// without CPUs.
type Topology struct {
	Possible *cpuset.Set `json:"possible,omitempty" yaml:"possible,omitempty"`
	Present  *cpuset.Set `json:"present,omitempty" yaml:"present,omitempty"`
	Online   cpuset.Set  `json:"online" yaml:"online"`
	Offline  cpuset.Set  `json:"offline" yaml:"offline"`
	Allowed  cpuset.Set  `json:"allowed" yaml:"allowed"` // affinity ∩ cpuset ∩ online
	Isolated *cpuset.Set `json:"isolated,omitempty" yaml:"isolated,omitempty"`
	NohzFull *cpuset.Set `json:"nohz_full,omitempty" yaml:"nohz_full,omitempty"`
	// NoTopology are online CPUs whose topology folder is missing, and NoFolder
	// CPUs that have no folder at all: a dump was trimmed, or CPUs came and went
	// while it was taken. nil where there are none.
	NoTopology *cpuset.Set `json:"no_topology,omitempty" yaml:"no_topology,omitempty"`
	NoFolder   *cpuset.Set `json:"no_folder,omitempty" yaml:"no_folder,omitempty"`

	Drawers   []Group   `json:"drawers,omitempty" yaml:"drawers,omitempty"` // s390x
	Books     []Group   `json:"books,omitempty" yaml:"books,omitempty"`     // s390x
	Packages  []Package `json:"packages" yaml:"packages"`
	Dies      []Die     `json:"dies" yaml:"dies"`
	Clusters  []Group   `json:"clusters" yaml:"clusters"`
	Cores     []Core    `json:"cores" yaml:"cores"`
	NUMANodes []NUMA    `json:"numa_nodes" yaml:"numa_nodes"`
	Caches    []Cache   `json:"caches" yaml:"caches"`
	CoreKinds []Kind    `json:"core_kinds" yaml:"core_kinds"` // fastest first; none where all cores are alike
	SMT       *SMT      `json:"smt,omitempty" yaml:"smt,omitempty"`
}

// Identity is what the processor says it is. Family and model are the display
// values: on x86 the extended fields are already added in (Intel SDM vol. 2,
// CPUID leaf 1). Other architectures fill what /proc/cpuinfo gives.
type Identity struct {
	Vendor    string   `json:"vendor,omitempty" yaml:"vendor,omitempty"`
	Brand     string   `json:"brand,omitempty" yaml:"brand,omitempty"`
	Family    *int     `json:"family,omitempty" yaml:"family,omitempty"`
	Model     *int     `json:"model,omitempty" yaml:"model,omitempty"`
	Stepping  *int     `json:"stepping,omitempty" yaml:"stepping,omitempty"`
	Microcode string   `json:"microcode,omitempty" yaml:"microcode,omitempty"`
	Features  []string `json:"features,omitempty" yaml:"features,omitempty,flow"`
	// Level is the x86-64 psABI microarchitecture level, 1 to 4; 0 elsewhere.
	Level int `json:"x86_64_level,omitempty" yaml:"x86_64_level,omitempty"`
	// MaxKHz and BaseKHz are the highest frequency of the fastest kind of core,
	// as cpufreq sets it, and the one that it keeps up without limit.
	MaxKHz  *int64 `json:"max_khz,omitempty" yaml:"max_khz,omitempty"`
	BaseKHz *int64 `json:"base_khz,omitempty" yaml:"base_khz,omitempty"`
}

// Group is a drawer, a book or a cluster of cores.
type Group struct {
	ID   *int       `json:"id,omitempty" yaml:"id,omitempty"` // the kernel's; not unique across packages
	CPUs cpuset.Set `json:"cpus" yaml:"cpus"`
}

// Package is a processor package (socket).
type Package struct {
	ID   *int       `json:"id,omitempty" yaml:"id,omitempty"`
	CPUs cpuset.Set `json:"cpus" yaml:"cpus"`
	// Mask is what the kernel's mask says where its list says something else, as
	// only files that somebody changed do: berth believes the list, hwloc the mask.
	Mask *cpuset.Set `json:"-" yaml:"-"`
}

// Die is a piece of silicon inside a package.
type Die struct {
	ID      *int       `json:"id,omitempty" yaml:"id,omitempty"` // unique only within the package
	Package *int       `json:"package,omitempty" yaml:"package,omitempty"`
	CPUs    cpuset.Set `json:"cpus" yaml:"cpus"`
}

// Core is a physical core.
type Core struct {
	Index    CoreIndex  `json:"index" yaml:"index"`
	ID       *int       `json:"id,omitempty" yaml:"id,omitempty"` // the kernel's core_id: unique only within its package or die
	Package  *int       `json:"package,omitempty" yaml:"package,omitempty"`
	Die      *int       `json:"die,omitempty" yaml:"die,omitempty"`
	Cluster  *int       `json:"cluster,omitempty" yaml:"cluster,omitempty"`
	NUMANode *int       `json:"numa_node,omitempty" yaml:"numa_node,omitempty"`
	Kind     string     `json:"kind,omitempty" yaml:"kind,omitempty"`
	CPUs     cpuset.Set `json:"cpus" yaml:"cpus"` // the SMT siblings that are online
	// IDs are the core_id of each CPU, in their order, where siblings have
	// different ones: the compute units of AMD's family 15h, two integer cores
	// that share a front end and which the kernel schedules as siblings.
	IDs []int `json:"ids,omitempty" yaml:"ids,omitempty,flow"`
}

// NUMA is a node of memory and the CPUs next to it, if any.
type NUMA struct {
	ID   int        `json:"id" yaml:"id"`
	CPUs cpuset.Set `json:"cpus" yaml:"cpus"`
	// MemoryBytes is the node's total; nil where it is not known.
	MemoryBytes *int64 `json:"memory_bytes,omitempty" yaml:"memory_bytes,omitempty"`
	// Distances are the ACPI SLIT values to each node in the order of their
	// ids, 10 being local; nil where they are not known.
	Distances []int `json:"distances,omitempty" yaml:"distances,omitempty,flow"`
	// Near are the CPUs that reach the memory of a node without CPUs fastest; nil
	// where nobody says, or all do alike.
	Near *cpuset.Set `json:"near_cpus,omitempty" yaml:"near_cpus,omitempty"`
	// GPU is the PCI address of the GPU whose memory the node is.
	GPU string `json:"gpu,omitempty" yaml:"gpu,omitempty"`
}

// CacheType is what a cache holds.
type CacheType string

const (
	Data        CacheType = "data"
	Instruction CacheType = "instruction"
	Unified     CacheType = "unified"
)

// Cache is one cache, described once however many CPUs share it.
type Cache struct {
	Level int       `json:"level" yaml:"level"`
	Type  CacheType `json:"type" yaml:"type"`
	Size  *int64    `json:"size_bytes,omitempty" yaml:"size_bytes,omitempty"`
	Line  *int      `json:"line_bytes,omitempty" yaml:"line_bytes,omitempty"`
	// Ways is the associativity; 0 is fully associative.
	Ways *int `json:"ways,omitempty" yaml:"ways,omitempty"`
	// Sets is how many lines each way has, where that does not follow from size,
	// line and ways, as in a cache of slices that is described by one of them.
	Sets   *int       `json:"sets,omitempty" yaml:"sets,omitempty"`
	CPUs   cpuset.Set `json:"cpus" yaml:"cpus"`
	Source string     `json:"source" yaml:"source"` // sysfs, cpuid, synthetic …
	// Mask is as that of a [Package].
	Mask *cpuset.Set `json:"-" yaml:"-"`
}

// Kind is a set of cores that are alike and differ from the others.
type Kind struct {
	Name     string     `json:"name" yaml:"name"` // performance, efficiency, low-power; or cap-N by capacity
	CPUs     cpuset.Set `json:"cpus" yaml:"cpus"`
	Capacity *int       `json:"capacity,omitempty" yaml:"capacity,omitempty"` // the kernel's scale: the fastest CPU is 1024
	MaxKHz   *int64     `json:"max_khz,omitempty" yaml:"max_khz,omitempty"`
	Model    string     `json:"model,omitempty" yaml:"model,omitempty"`                       // the core's design, as Cortex-A72
	Threads  int        `json:"threads_per_core,omitempty" yaml:"threads_per_core,omitempty"` // SMT width of this kind's cores
	Source   string     `json:"source" yaml:"source"`                                         // who says that these cores differ
}

// SMT says how simultaneous multithreading stands.
type SMT struct {
	Control string `json:"control,omitempty" yaml:"control,omitempty"` // the kernel's smt/control: on, off, forceoff, notsupported, notimplemented
	Active  bool   `json:"active" yaml:"active"`                       // some online core has more than one CPU online
	Threads int    `json:"threads_per_core" yaml:"threads_per_core"`   // the most CPUs of one core
}
