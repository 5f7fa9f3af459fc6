// Package hwloc reads and writes the XML in which hwloc keeps a machine's
// topology, as "lstopo --of xml" writes it and "lstopo -i FILE" reads it.
//
// [Read] understands version 2 of the format (hwloc 2.0 and later) and version 1
// (hwloc 1.x, or lstopo --export-xml-flags v1). [Write] writes version 2.0. The
// elements are those of hwloc2.dtd and hwloc.dtd, which hwloc installs; what
// their attributes mean is in hwloc's manual, chapters "Importing and exporting
// topologies from/to XML files", "Object attributes" and "Heterogeneous memory".
package hwloc

import (
	"fmt"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// Machine is what an hwloc file can hold of a machine.
type Machine struct {
	// Topology is the shape. Its Allowed is hwloc's allowed_cpuset: what the
	// control groups leave, whatever the affinity of the process. Its CoreKinds
	// are written; what is read of kinds is in Kinds.
	Topology topology.Topology
	// AllowedNodes are the numbers of the NUMA nodes that the cpuset leaves; nil
	// where it leaves all.
	AllowedNodes *cpuset.Set
	CPU          topology.Identity // vendor, brand, family, model and stepping
	Hostname     string
	OS           string // in lower case
	Kernel       string // release, as uname -r
	Arch         string // as uname -m
	// ArchGuessed says that nobody kept what uname said, which decides what hwloc
	// looks for.
	ArchGuessed bool
	Cgroup      string // the control group of the process that looked
	// MemoryBytes is the memory of all nodes; nil where that of one is not known.
	MemoryBytes *int64
	Kinds       []Kind // as read, the order of the file: slowest first where hwloc knew
	Devices     []Device
}

// Kind is a cpukind element: CPUs with the same attributes. hwloc makes kinds
// of frequency alone too, also where all cores are of one design.
type Kind struct {
	CPUs     cpuset.Set
	CoreType string // IntelCore, IntelAtom …; "" where the file has none
	Capacity *int   // LinuxCapacity, of 1024
	MaxKHz   *int64
	// Name, Model and Source are what [Write] kept of berth's own kinds.
	Name, Model, Source string
}

// Device is an I/O device. The fields are those of the device of the same name
// in package probe.
type Device struct {
	Kind      string // nic, gpu, nvme, infiniband, accelerator, block
	Name      string
	PCI       string // bus address, 0000:3b:00.0; "" where it is on no PCI bus
	NUMANode  *int   // nil where it is near more than one node
	LocalCPUs cpuset.Set
}

// Error says where a file is wrong.
type Error struct {
	Line int
	Why  string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Why) }

// Limits of what is read, so that no file takes more than some hundred MiB.
const (
	maxDepth   = 100     // elements inside each other
	maxObjects = 1 << 19 // objects of one file
	maxDigits  = 4 << 20 // hexadecimal digits of masks that differ
	maxNodes   = 4096    // NUMA nodes
)

// Names of infos, on the machine, a package, a cpukind or a device. Those that
// begin with Berth are berth's own, for what hwloc has no name for.
const (
	infoOS       = "OSName"
	infoKernel   = "OSRelease"
	infoHost     = "HostName"
	infoArch     = "Architecture"
	infoCgroup   = "LinuxCgroup"
	infoVendor   = "CPUVendor"
	infoFamily   = "CPUFamilyNumber"
	infoModel    = "CPUModelNumber"
	infoBrand    = "CPUModel"
	infoStepping = "CPUStepping"
	infoCoreType = "CoreType"
	infoCapacity = "LinuxCapacity"
	infoMaxMHz   = "FrequencyMaxMHz"
	infoPCI      = "PCIBusID"
	infoGuess    = "BerthArchitecture" // where uname said none
	infoOnline   = "BerthOnline"       // the CPUs, where hwloc does not show all that are online
	infoOffline  = "BerthOffline"      // the same of those offline
	infoCore     = "BerthCore"         // the CPUs of the core that this one is a part of to the kernel
	infoCores    = "BerthCoreIDs"      // the kernel's number of each CPU of a compute unit that is not split
	infoWays     = "BerthWays"         // the ways that the kernel gives, where hwloc reckons others
	infoKind     = "BerthKind"
	infoDesign   = "BerthCoreModel"
	infoSource   = "BerthKindSource"
)

// subtypeGPU is hwloc's subtype of a NUMANode that is a GPU's memory.
const subtypeGPU = "GPUMemory"

// Groups that the kernel names, by hwloc's kind and subkind of a Group.
const (
	kindModule  = 102 // Intel modules: cores that share an L2
	kindBook    = 110 // s390 books, subkind 0; drawers are subkind 1
	kindCluster = 222
	kindMemory  = 1001 // the CPUs of a NUMA node that no other object covers
)
