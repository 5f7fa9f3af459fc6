//go:build linux

package affinity

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

// MemoryMode is how a thread's new pages are spread over NUMA nodes
// (set_mempolicy(2)).
type MemoryMode string

const (
	MemoryDefault    MemoryMode = "default"    // the node that the thread runs on
	MemoryLocal      MemoryMode = "local"      // the same, whatever the process's own policy was
	MemoryBind       MemoryMode = "bind"       // these nodes, or no memory
	MemoryPreferred  MemoryMode = "preferred"  // these nodes while they have any; several need Linux 5.15
	MemoryInterleave MemoryMode = "interleave" // page by page
	MemoryWeighted   MemoryMode = "weighted"   // by the weights of /sys/kernel/mm/mempolicy; Linux 6.9
)

// Memory is a memory policy: a mode, and the NUMA nodes that it is about.
type Memory struct {
	Mode  MemoryMode
	Nodes cpuset.Set // numbers of nodes
}

// ParseMemory reads MODE or MODE:NODES, as local, bind:0 or interleave:0-1.
func ParseMemory(text string) (Memory, error) {
	mode, list, given := strings.Cut(text, ":")
	m := Memory{Mode: MemoryMode(mode)}
	takes, ok := map[MemoryMode]bool{MemoryDefault: false, MemoryLocal: false, MemoryBind: true, MemoryPreferred: true,
		MemoryInterleave: true, MemoryWeighted: true}[m.Mode]
	switch {
	case !ok:
		return Memory{}, fmt.Errorf("memory policy %q: it is one of bind, preferred, interleave, weighted, each with :NODES, or local, default", text)
	case !takes && given:
		return Memory{}, fmt.Errorf("memory policy %q: %s takes no nodes", text, mode)
	case !takes:
		return m, nil
	}
	nodes, err := cpuset.Parse(list)
	if err != nil {
		return Memory{}, fmt.Errorf("memory policy %q: nodes: %w", text, err)
	}
	if nodes.IsEmpty() {
		return Memory{}, fmt.Errorf("memory policy %q: %s needs nodes, as %s:0", text, mode, mode)
	}
	m.Nodes = nodes
	return m, nil
}

func (m Memory) String() string {
	if m.Nodes.IsEmpty() {
		return string(m.Mode)
	}
	return string(m.Mode) + ":" + m.Nodes.String()
}

// modes are the kernel's numbers (include/uapi/linux/mempolicy.h).
func (m Memory) number() int {
	switch m.Mode {
	case MemoryLocal:
		return unix.MPOL_LOCAL
	case MemoryBind:
		return unix.MPOL_BIND
	case MemoryPreferred:
		if m.Nodes.Len() > 1 {
			return unix.MPOL_PREFERRED_MANY
		}
		return unix.MPOL_PREFERRED
	case MemoryInterleave:
		return unix.MPOL_INTERLEAVE
	case MemoryWeighted:
		return unix.MPOL_WEIGHTED_INTERLEAVE
	}
	return unix.MPOL_DEFAULT
}

// maxNodes is more than any kernel's MAX_NUMNODES, in bits.
const maxNodes = 4096

// SetMemory gives the calling thread a memory policy, which what it starts
// inherits, and reads it back.
func SetMemory(want Memory) error {
	mask := unix.NewCPUSet(maxNodes)
	for n := range want.Nodes.All() {
		if int(n) >= maxNodes {
			return fmt.Errorf("memory policy %s: there is no node %d", want, n)
		}
		mask.Set(int(n))
	}
	if want.Nodes.IsEmpty() {
		mask = nil
	}
	if err := unix.SetMemPolicyDynamic(want.number(), mask); err != nil {
		return fmt.Errorf("memory policy %s: %w", want, want.explain(err))
	}
	got, err := OwnMemory()
	if err != nil {
		return err
	}
	if !got.Nodes.Equal(want.Nodes) || got.number() != want.number() {
		return fmt.Errorf("memory policy %s: the kernel made %s of it", want, got)
	}
	return nil
}

// explain adds what an errno means here.
func (m Memory) explain(err error) error {
	switch {
	case err == unix.EINVAL && m.Mode == MemoryWeighted:
		return fmt.Errorf("%w: it needs Linux 6.9, and nodes that have memory and are in the cpuset's mems (Mems_allowed_list in /proc/self/status)", err)
	case err == unix.EINVAL && m.Mode == MemoryPreferred && m.Nodes.Len() > 1:
		return fmt.Errorf("%w: several preferred nodes need Linux 5.15, and nodes in the cpuset's mems (Mems_allowed_list in /proc/self/status)", err)
	case err == unix.EINVAL:
		return fmt.Errorf("%w: a node must have memory and be in the cpuset's mems (Mems_allowed_list in /proc/self/status)", err)
	case err == unix.ENOSYS:
		return fmt.Errorf("%w: the kernel was built without NUMA", err)
	}
	return err
}

// OwnMemory is the memory policy of the calling thread (get_mempolicy(2)).
func OwnMemory() (Memory, error) {
	var mode int32
	mask := unix.NewCPUSet(maxNodes)
	_, _, errno := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), uintptr(unsafe.Pointer(&mask[0])), maxNodes, 0, 0, 0)
	if errno != 0 {
		return Memory{}, fmt.Errorf("get_mempolicy: %w", Memory{}.explain(errno))
	}
	m := Memory{Mode: MemoryDefault, Nodes: cpuset.FromUnixDynamic(mask)}
	switch mode &^ unix.MPOL_MODE_FLAGS {
	case unix.MPOL_LOCAL:
		m.Mode = MemoryLocal
	case unix.MPOL_BIND:
		m.Mode = MemoryBind
	case unix.MPOL_PREFERRED, unix.MPOL_PREFERRED_MANY:
		m.Mode = MemoryPreferred
		if m.Nodes.IsEmpty() {
			m.Mode = MemoryLocal // before Linux 5.14
		}
	case unix.MPOL_INTERLEAVE:
		m.Mode = MemoryInterleave
	case unix.MPOL_WEIGHTED_INTERLEAVE:
		m.Mode = MemoryWeighted
	}
	return m, nil
}

// MovePages moves what a process has in memory from all other nodes to these
// (migrate_pages(2)), and tells how many pages would not move. Where its later
// pages come from stays its own affair: no system call changes another
// process's policy.
func MovePages(pid int, nodes cpuset.Set) (stayed int, err error) {
	from, to := unix.NewCPUSet(maxNodes), unix.NewCPUSet(maxNodes)
	online, ok := systemList("/sys/devices/system/node/online")
	if !ok {
		return 0, fmt.Errorf("move the pages of process %d: the kernel names no NUMA nodes in /sys/devices/system/node", pid)
	}
	for n := range online.Minus(nodes).All() {
		from.Set(int(n))
	}
	for n := range nodes.All() {
		if int(n) >= maxNodes {
			return 0, fmt.Errorf("move the pages of process %d to node %d: there is no such node", pid, n)
		}
		to.Set(int(n))
	}
	left, _, errno := unix.Syscall6(unix.SYS_MIGRATE_PAGES, uintptr(pid), maxNodes, uintptr(unsafe.Pointer(&from[0])), uintptr(unsafe.Pointer(&to[0])), 0, 0)
	if errno != 0 {
		return 0, fmt.Errorf("move the pages of process %d to nodes %s: migrate_pages: %w", pid, nodes, Memory{Mode: MemoryBind, Nodes: nodes}.explain(errno))
	}
	return int(left), nil
}
