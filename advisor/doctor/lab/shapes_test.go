//go:build lab

package lab

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/advisor/doctor"
	"berth/probe"
	"berth/probe/cpuset"
)

// Cases for machines of other shapes, as a virtual machine has them; see package
// vmlab.

// inGuest says that the machine is there for the lab alone, and may be changed.
var inGuest = flag.Bool("guest", false, "also do what changes the whole machine")

func machine(t *testing.T) *probe.Machine {
	t.Helper()
	twoCPUs(t)
	m, err := probe.Probe(t.Context(), probe.Live())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func guest(t *testing.T) {
	t.Helper()
	if !*inGuest {
		t.Skip("this changes the whole machine")
	}
}

func isolated(t *testing.T, least int) cpuset.Set {
	t.Helper()
	m := machine(t)
	if m.Topology.Isolated == nil || m.Topology.Isolated.Len() < least {
		t.Skip("too few isolated CPUs")
	}
	return *m.Topology.Isolated
}

// TestIsolatedWide: two threads whose mask is several isolated CPUs stay where
// they began.
func TestIsolatedWide(t *testing.T) {
	set := isolated(t, 2)
	pid := patient{env: spin(2).env, mask: set.String()}.start(t)
	named(t, look(t, pid), doctor.IsolatedWide, pid)
}

func TestIsolatedPinned(t *testing.T) {
	set := isolated(t, 1)
	pid := patient{env: spin(1).env, mask: strconv.Itoa(int(set.First()))}.start(t)
	named(t, look(t, pid), doctor.IsolatedPinned, pid)
}

// TestSharedSiblings: two busy threads on the siblings of an isolated core, with
// masks that hold another, idle core; only there does the kernel leave them so.
func TestSharedSiblings(t *testing.T) {
	set := isolated(t, 4)
	var core cpuset.Set
	for _, c := range machine(t).Topology.Cores {
		if c.CPUs.Len() > 1 && c.CPUs.SubsetOf(set) {
			core = c.CPUs
			break
		}
	}
	if core.IsEmpty() {
		t.Skip("no isolated core with SMT")
	}
	var pids []int
	for c := range core.All() {
		pid := patient{env: spin(1).env, mask: strconv.Itoa(int(c))}.start(t)
		pids = append(pids, pid)
		widen(t, pid, set)
	}
	named(t, look(t, pids...), doctor.SharedCore, pids...)
}

// widen gives all threads of a process another mask.
func widen(t *testing.T, pid int, set cpuset.Set) {
	t.Helper()
	time.Sleep(100 * time.Millisecond) // its threads are born
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SchedSetaffinityDynamic(tid, set.Unix()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOffline: a thread that sleeps, bound to a CPU that then goes offline.
func TestOffline(t *testing.T) {
	guest(t)
	m := machine(t)
	last := m.Topology.Online.Last()
	file := "/sys/devices/system/cpu/cpu" + strconv.Itoa(int(last)) + "/online"
	pid := patient{env: []string{spinning + "=0"}, mask: strconv.Itoa(int(last))}.start(t)
	time.Sleep(200 * time.Millisecond)
	if err := unix.Kill(pid, syscall.SIGSTOP); err != nil { // else it may wake, and be freed
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Skip(err)
	}
	defer func() { _ = os.WriteFile(file, []byte("1"), 0) }()
	named(t, look(t, pid), doctor.OfflineCPU, pid)
}

// TestRemoteMemory: a process that fills its memory on one node and is moved to
// another.
func TestRemoteMemory(t *testing.T) {
	m := machine(t)
	var nodes []cpuset.Set
	for _, n := range m.Topology.NUMANodes {
		if on := n.CPUs.Intersect(m.Topology.Allowed); !on.IsEmpty() {
			nodes = append(nodes, on)
		}
	}
	if len(nodes) < 2 {
		t.Skip("one NUMA node")
	}
	// Automatic balancing would bring the memory after it.
	_ = os.WriteFile("/proc/sys/kernel/numa_balancing", []byte("0"), 0)
	p := patient{env: append(spin(1).env, filling+"=64"), mask: nodes[0].String()}
	pid := p.start(t)
	time.Sleep(2 * time.Second)
	widen(t, pid, nodes[1])
	named(t, look(t, pid), doctor.RemoteMemory, pid)
}

// TestPartition: unpinned threads in an isolated partition.
func TestPartition(t *testing.T) {
	guest(t)
	m := machine(t)
	dir := "/sys/fs/cgroup/doctor"
	_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpuset"), 0)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip(err)
	}
	defer func() { _ = os.Remove(dir) }()
	last := m.Topology.Online.Last()
	for _, file := range [][2]string{{"cpuset.cpus", cpuset.Range(last-1, last).String()}, {"cpuset.cpus.partition", "isolated"}} {
		if err := os.WriteFile(filepath.Join(dir, file[0]), []byte(file[1]), 0); err != nil {
			t.Skip(err)
		}
	}
	if is, _ := os.ReadFile(filepath.Join(dir, "cpuset.cpus.partition")); strings.TrimSpace(string(is)) != "isolated" {
		t.Skipf("no isolated partition: %s", is)
	}
	pid := spin(2).start(t)
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
	named(t, look(t, pid), doctor.NoBalancing, pid)
}

// TestThrottledInVersion2: a quota of cpu.max.
func TestThrottledInVersion2(t *testing.T) {
	guest(t)
	dir := "/sys/fs/cgroup/quota"
	_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu"), 0)
	if err := os.MkdirAll(dir+"/inner", 0o755); err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(dir+"/cpu.max", []byte("20000 100000"), 0); err != nil {
		t.Skip(err)
	}
	pid := spin(1).start(t)
	if err := os.WriteFile(dir+"/inner/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
	found := look(t, pid)
	named(t, found, doctor.Throttled, pid)
	for _, f := range found {
		if f.Code == doctor.Throttled && f.Subject.Path != "/quota" {
			t.Errorf("it names %s", f.Subject.Path)
		}
	}
}

// TestQuietNode: one busy thread on a node with CPUs to spare; only notes are
// made of the whole node.
func TestQuietNode(t *testing.T) {
	guest(t)
	spin(1).start(t)
	if found := look(t); doctor.Bad(found) {
		t.Errorf("%+v", found)
	}
}
