// Package cgroup reads what the control groups let a process use: [Read] for
// this one, from any root; [Of] and [Find] give the groups of the live system.
//
// A limit binds wherever it stands on the way from the process's own group to
// the root, so every group on that way is read, in version 1, version 2 and
// mixed set-ups. The files are described in the kernel's
// Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpusets.rst,
// cgroup-v1/memory.rst and Documentation/scheduler/sched-bwc.rst.
package cgroup

import (
	"fmt"
	"path"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
)

// State is what the groups say in all.
type State struct {
	// CPUSet is the set of CPUs that the groups leave; nil where no cpuset
	// controller is seen.
	CPUSet *cpuset.Set
	// Mems are the numbers of the NUMA nodes that the groups leave; nil where no
	// cpuset controller is seen or [Mems] was not asked for.
	Mems *cpuset.Set
	// QuotaCPUs is the tightest CPU quota, in CPUs; nil where there is none.
	// QuotaPeriodMS is its period in milliseconds.
	QuotaCPUs, QuotaPeriodMS *float64
	// MemoryBytes is the tightest memory limit; nil where there is none.
	MemoryBytes *int64
	// Throttled is of the group whose quota binds.
	Throttled *Throttled
	// Chain holds every limit that was found, the nearest to the process first
	// within a resource.
	Chain []Link
}

// Throttled counts how often the CPU quota stopped this process's group.
type Throttled struct {
	Periods int64   `json:"periods" yaml:"periods"` // periods in which it was stopped
	MS      float64 `json:"ms" yaml:"ms"`           // time it was stopped, summed over CPUs, milliseconds
}

// Link is one limit and the place that sets it.
type Link struct {
	Resource string `json:"resource" yaml:"resource"` // cpus, cpuset, memory_bytes or weight
	Source   string `json:"source" yaml:"source"`     // the file: cpu.max, cpuset.cpus.effective …; or affinity
	// Path is the group's path in its hierarchy, as /proc/PID/cgroup has it.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
	// Limit is a float64 for cpus, a cpuset.Set for cpuset, an int64 else.
	Limit any `json:"limit" yaml:"limit"`
	// Binding marks the limit that decides; of equal ones the nearest.
	Binding bool `json:"binding,omitempty" yaml:"binding,omitempty"`
}

// Need names what to read.
type Need uint

const (
	CPU        Need = 1 << iota // quotas
	CPUSet                      // sets of CPUs
	Memory                      // memory limits
	Accounting                  // weights and throttling
	Mems                        // sets of NUMA nodes
	throttling                  // of every group, with a quota or without
	Everything = CPU | CPUSet | Memory | Accounting | Mems
)

// maxDepth bounds how many groups are read on the way to the root. The kernel
// has no lower limit of its own than the length of a path.
const maxDepth = 128

// Read reads the groups of the process that reads. What cannot be found or
// read is left out and reported.
func Read(r *root.Root, need Need) (*State, []finding.Finding) {
	s := newScan(r, need)
	members, named := s.members()
	for _, h := range hierarchies(members, s.mounts(), named, s.Found) {
		s.climb(h)
	}
	s.decide()
	return &s.state, s.Found.All()
}

// scan is one pass.
type scan struct {
	root.Reader
	need   Need
	state  State
	cpus   []quota
	sets   []set
	mems   []cpuset.Set
	memory []Link
	weight []Link

	throttling Throttling
}

func newScan(r *root.Root, need Need) *scan {
	return &scan{Reader: root.Reader{Dir: r.Dir, Found: &finding.List{}}, need: need, throttling: Throttling{}}
}

// group is one directory of a hierarchy.
type group struct {
	root.Reader
	path string // in the hierarchy
	top  bool   // nothing above can be seen
	v2   bool
	// prefix stands before the files of the cpuset controller; its old file
	// system has none.
	prefix string
}

// climb reads a hierarchy from the process's group up.
func (s *scan) climb(h hierarchy) {
	below := h.below
	var missing []string
	for depth := 0; ; depth++ {
		if depth == maxDepth {
			s.Found.Add(finding.Malformed, finding.Warning, []string{"/proc/self/cgroup: " + shorten(h.below)},
				"A control group lies deeper than %d groups; those further up were not read.", maxDepth)
			return
		}
		at := path.Join(h.point, below)
		dir, err := s.Open(at)
		top := below == "/"
		switch {
		case err == nil:
			g := group{Reader: root.Reader{Dir: dir, Found: s.Found}, path: path.Join(h.root, below), top: top, v2: h.v2, prefix: h.prefix}
			s.read(g, h)
			if top {
				s.lookAbove(g, h)
			}
			dir.Close()
		case root.IsMissing(err):
			missing = append(missing, at)
		default:
			s.Report(err)
		}
		if top {
			break
		}
		below = path.Dir(below)
	}
	if n := len(missing); n > 0 {
		if missing[n-1] == h.point { // a dump without control groups
			missing = missing[n-1:]
		}
		s.Found.Add(finding.Missing, finding.Warning, missing,
			"The folder of a control group of this process is missing; what it limits is not known.")
	}
}

// lookAbove tells whether the highest group seen is the hierarchy's root, which
// a cgroup namespace (cgroup_namespaces(7)) or a mount of a part of it hides.
func (s *scan) lookAbove(g group, h hierarchy) {
	hidden := h.root != "/" || strings.HasPrefix(h.member, "/..")
	switch {
	case hidden:
	case h.v2:
		hidden = g.has("cgroup.events") // every group but the root has it
	default:
		hidden = g.has("cgroup.procs") && !g.has("release_agent") && !g.has("cgroup.sane_behavior") // only the root has them
	}
	if hidden {
		s.Found.Add("limits-hidden-above", finding.Info, []string{h.point},
			"The control groups above the highest one seen are hidden (a cgroup namespace or a partial mount); the budget is an upper bound.")
	}
}

// has reports whether a file is there, without reading it.
func (g group) has(name string) bool {
	_, err := g.ReadHead(name, 0)
	return err == nil
}

func shorten(text string) string {
	if len(text) > 60 {
		return text[:57] + "…"
	}
	return text
}

// malformed reports a file of the group.
func (g group) malformed(name string, format string, args ...any) {
	g.Malformed(name, fmt.Errorf(format, args...))
}
