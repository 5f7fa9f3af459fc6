// Package sysfs reads the shape of a machine from the kernel's files under
// /sys/devices/system/cpu and /sys/devices/system/node.
//
// It knows the files of every kernel since 2.6.16: today's names
// (core_cpus_list, package_cpus_list), those they replaced
// (thread_siblings_list, core_siblings_list) and the masks from before there
// were lists. The files are described in the kernel's
// Documentation/ABI/stable/sysfs-devices-system-cpu,
// Documentation/ABI/testing/sysfs-devices-system-cpu and
// Documentation/admin-guide/cputopology.rst.
package sysfs

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/topology"
)

// Need names what to read; the sets of CPUs are always read.
type Need uint

const (
	Cores    Need = 1 << iota // packages, dies, clusters, cores, books, drawers, SMT
	Caches                    // caches, their sizes and who shares them
	Geometry                  // their line sizes and ways; needs Caches
	NUMA                      // nodes with memory and distances
	Kinds                     // what tells core kinds apart
)

const (
	cpuDir  = "/sys/devices/system/cpu"
	nodeDir = "/sys/devices/system/node"
)

// source is how caches and kinds name where they come from.
const source = "sysfs"

// assumed is the source of a cache whose CPUs are taken to be those of a core.
const assumed = "sysfs, sharing assumed"

// Facts is what the files say.
type Facts struct {
	// Topology is the shape. Its Allowed, its core kinds and the place of
	// each core are not filled: they are not for sysfs alone to know.
	topology.Topology
	Differences
}

// Read reads the machine. What the files do not say is left empty; a machine
// without CPU directories has an empty Online.
func Read(r *root.Root, need Need) (*Facts, []finding.Finding) {
	f := &Facts{}
	var found finding.List
	dir, err := r.Open(cpuDir)
	if err != nil {
		rd := root.Reader{Dir: r.Dir, Found: &found}
		rd.Report(err)
		return f, found.All()
	}
	defer dir.Close()
	s := &scan{Reader: root.Reader{Dir: dir, Found: &found}, need: need, top: r.Dir, t: f}
	s.sets()

	// The parts are independent of each other, so each has findings of its
	// own and they can run side by side.
	var parts []task
	if need&Caches != 0 {
		parts = append(parts, s.cacheTasks()...) // the longest first
	}
	if need&Cores != 0 {
		parts = append(parts, task{run: (*scan).cores}, task{run: (*scan).groups})
	}
	if need&Kinds != 0 {
		parts = append(parts, task{run: (*scan).differences})
	}
	if need&NUMA != 0 {
		parts = append(parts, task{run: (*scan).nodes})
	}
	s.sideBySide(parts)
	if need&Caches != 0 {
		s.joinCaches()
	}
	return f, found.All()
}

// task is a part of the pass that can run beside the others.
type task struct {
	run   func(*scan)
	found finding.List
}

// sideBySide runs the tasks on as many threads as there are CPUs, and not more:
// they spend their time in the kernel, where further threads only take turns.
func (s *scan) sideBySide(tasks []task) {
	var next atomic.Int32
	worker := func() {
		for i := next.Add(1) - 1; int(i) < len(tasks); i = next.Add(1) - 1 {
			part := *s
			part.Found = &tasks[i].found
			tasks[i].run(&part)
		}
	}
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(tasks)) - 1 {
		wait.Go(worker)
	}
	worker()
	wait.Wait()
	for i := range tasks {
		s.Found.Append(tasks[i].found.All()...)
	}
}

// scan is one pass over the CPU directory.
type scan struct {
	root.Reader
	need Need
	top  root.Dir // for paths outside the CPU directory
	t    *Facts

	byIndex [][]topology.Cache // what the cache tasks found
}

func cpuFile(c cpuset.CPU, name string) string {
	b := make([]byte, 0, 64)
	b = append(b, "cpu"...)
	b = strconv.AppendInt(b, int64(c), 10)
	b = append(b, '/')
	return string(append(b, name...))
}

// sets reads which CPUs there are and how they stand.
func (s *scan) sets() {
	optional := func(name string) *cpuset.Set {
		if set, ok := s.CPUs(name); ok {
			return &set
		}
		return nil
	}
	s.t.Possible = optional("possible")
	s.t.Present = optional("present")
	s.t.Isolated = optional("isolated")
	s.t.NohzFull = optional("nohz_full")
	online, ok := s.CPUs("online")
	directories := sync.OnceValue(s.directories)
	if !ok || online.IsEmpty() {
		online = s.onlineByDirectory(directories())
	}
	s.t.Online = online
	present := s.t.Present
	if present == nil {
		// Kernels before 2.6.29 have no such file, and some dumps lost it.
		all := directories()
		present = &all
	}
	s.t.Offline = present.Minus(online)
	if s.need&Cores != 0 && !s.t.Offline.IsEmpty() {
		if gone := s.t.Offline.Minus(directories()); !gone.IsEmpty() {
			s.t.NoFolder = &gone
		}
	}
}

// directories is the set of CPUs that have a directory.
func (s *scan) directories() cpuset.Set {
	return numbered(s.Reader, "cpu")
}

// numbered is the set of N for which the directory holds an entry prefixN.
func numbered(r root.Reader, prefix string) cpuset.Set {
	names, err := r.Names()
	if err != nil {
		r.Report(err)
	}
	var list []cpuset.CPU
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, prefix)
		if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n >= cpuset.Limit {
			r.Malformed(name, errOverLimit)
			continue
		}
		list = append(list, cpuset.CPU(n))
	}
	return cpuset.Of(list...)
}

type constError string

func (e constError) Error() string { return string(e) }

const errOverLimit = constError("its number is over the limit of 65536")

// onlineByDirectory is for kernels and dumps without the online file: a CPU is
// online unless its own online file says 0.
func (s *scan) onlineByDirectory(all cpuset.Set) cpuset.Set {
	var on []cpuset.CPU
	for c := range all.All() {
		if state, _ := s.Text(cpuFile(c, "online")); state != "0" {
			on = append(on, c)
		}
	}
	return cpuset.Of(on...)
}
