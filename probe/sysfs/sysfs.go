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
	"strconv"
	"strings"
	"sync"

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

	// The parts are independent of each other and spend their time in the
	// kernel, so they run side by side, each with findings of its own.
	var parts []*scan
	var wait sync.WaitGroup
	run := func(part func(*scan)) {
		p := s.part(&finding.List{})
		parts = append(parts, p)
		wait.Go(func() { part(p) })
	}
	if need&Cores != 0 {
		run((*scan).groups)
		run((*scan).cores)
	}
	if need&Caches != 0 {
		run((*scan).caches)
	}
	if need&NUMA != 0 {
		run((*scan).nodes)
	}
	if need&Kinds != 0 {
		run((*scan).differences)
	}
	wait.Wait()
	for _, p := range parts {
		found.Append(p.Found.All()...)
	}
	return f, found.All()
}

// scan is one pass over the CPU directory.
type scan struct {
	root.Reader
	need Need
	top  root.Dir // for paths outside the CPU directory
	t    *Facts
}

// part is the same pass with findings of its own.
func (s *scan) part(found *finding.List) *scan {
	p := *s
	p.Found = found
	return &p
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
		if state, ok := s.Int(cpuFile(c, "online")); !ok || state != 0 {
			on = append(on, c)
		}
	}
	return cpuset.Of(on...)
}
