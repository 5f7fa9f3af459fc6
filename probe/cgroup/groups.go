package cgroup

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/probe/finding"
	"berth/probe/root"
)

// Group is a control group of the live system, in one hierarchy.
type Group struct {
	// Controllers are the hierarchy's in version 1, as cpu and cpuacct. In
	// version 2 there are none: the file cgroup.controllers has the group's.
	Controllers []string
	V2          bool
	Path        string // in the hierarchy, as /proc/PID/cgroup has it
	Dir         string // its directory; empty: no mount shows it
	files       *root.Root
	at          hierarchy
}

// Of gives the groups of a thread, one in each hierarchy. 0 is the calling
// thread, and a process's number is its first thread's.
func Of(tid int) ([]Group, error) { return of(root.Live(), tid) }

func of(r *root.Root, tid int) ([]Group, error) {
	who := "thread-self"
	if tid != 0 {
		who = strconv.Itoa(tid)
	}
	text, err := r.ReadFile("/proc/" + who + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the control groups of a thread: %w", err)
	}
	mounts := newScan(r, 0).mounts()
	var groups []Group
	for _, m := range parseMembers(text) {
		g := Group{Controllers: m.controllers, V2: len(m.controllers) == 0, Path: m.path, files: r}
		if h, ok := locate(m, mounts, false); ok && !outside(m.path) {
			g.at, g.Dir = h, path.Join(h.point, h.below)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// outside reports whether a path leads above the root of the reader's cgroup
// namespace, from where no way down has a name (cgroup_namespaces(7)).
func outside(p string) bool { return p == "/.." || strings.HasPrefix(p, "/../") }

// Find gives the groups that a user means by name: one, where it is a directory
// of a control group file system, as /sys/fs/cgroup/a; else, as /proc/PID/cgroup
// writes it, the group of that path in every hierarchy that has one.
func Find(name string) ([]Group, error) {
	dir := name
	if real, err := filepath.EvalSymlinks(name); err == nil { // as /sys/fs/cgroup/cpu often is one
		dir = real
	}
	return find(root.Live(), name, dir)
}

func find(r *root.Root, name, dir string) ([]Group, error) {
	switch {
	case !path.IsAbs(name):
		return nil, fmt.Errorf("find control group %q: it is a directory, as /sys/fs/cgroup/%[1]s, or a path as /proc/PID/cgroup has it, as /%[1]s", name)
	case outside(name):
		return nil, fmt.Errorf("find control group %s: it lies above the root of this cgroup namespace; ask from outside of it", name)
	}
	s := newScan(r, 0)
	mounts := s.mounts()
	members, _ := s.members() // has a line for every hierarchy
	if g, ok := holding(dir, mounts, members); ok {
		g.files = r
		if err := g.exists(); err != nil {
			return nil, fmt.Errorf("find control group %s: %w", name, err)
		}
		return []Group{g}, nil
	}
	var found []Group
	var looked []string
	var failed error
	for _, m := range members {
		m.path = path.Clean(name)
		h, ok := locate(m, mounts, false)
		if !ok {
			continue
		}
		g := Group{Controllers: m.controllers, V2: h.v2, Path: m.path, Dir: path.Join(h.point, h.below), files: r, at: h}
		switch err := g.exists(); {
		case err == nil:
			found = append(found, g)
		case root.IsMissing(err):
			looked = append(looked, g.Dir)
		default:
			failed = err
		}
	}
	switch {
	case found != nil:
		return found, nil
	case failed != nil:
		return nil, fmt.Errorf("find control group %s: %w", name, failed)
	case looked == nil:
		return nil, fmt.Errorf("find control group %s: no mount shows a hierarchy that could have it (/proc/self/mountinfo)", name)
	}
	return nil, fmt.Errorf("find control group %s: there is none: looked for %s", name, strings.Join(looked, ", "))
}

// holding gives the group of a directory in a control group file system.
func holding(dir string, mounts []mount, members []member) (g Group, ok bool) {
	dir = path.Clean(dir)
	for _, mt := range mounts {
		if !within(dir, mt.point) || ok && len(mt.point) <= len(g.at.point) {
			continue
		}
		h := mt.hierarchy()
		h.below = path.Join("/", strings.TrimPrefix(dir, strings.TrimSuffix(mt.point, "/")))
		g, ok = Group{V2: h.v2, at: h}.moved(h.below), true
		for _, m := range members {
			if !h.v2 && mt.shows(m, false) {
				g.Controllers = m.controllers
			}
		}
	}
	return g, ok
}

func (g Group) exists() error {
	dir, err := g.files.Open(g.Dir)
	if err != nil {
		return err
	}
	return dir.Close()
}

// Parent is the group above, where the mount shows one.
func (g Group) Parent() (up Group, ok bool) {
	if g.Dir == "" || g.at.below == "/" {
		return Group{}, false
	}
	return g.moved(path.Dir(g.at.below)), true
}

// Child is the group of that name below, which need not be there yet.
func (g Group) Child(name string) Group { return g.moved(path.Join(g.at.below, name)) }

func (g Group) moved(below string) Group {
	g.Path = path.Join(g.at.root, below)
	if outside(g.at.root) { // cleaned, the way up would be lost
		g.Path = g.at.root + strings.TrimSuffix(below, "/")
	}
	g.Dir = path.Join(g.at.point, below)
	g.at.below, g.at.member = below, g.Path
	return g
}

// Read reads what the group and those above it limit, in this hierarchy.
func (g Group) Read(need Need) (*State, []finding.Finding) {
	s := g.scan(need)
	s.decide()
	return &s.state, s.Found.All()
}

func (g Group) scan(need Need) *scan {
	if g.Dir == "" {
		return newScan(&root.Root{}, 0)
	}
	s := newScan(g.files, need)
	s.climb(g.at)
	return s
}

// Throttling is how much CPU quotas have stopped groups since those were made:
// of a group and all above it that count it, by path. They count whether they
// have a quota or not, so that one that comes or goes between two readings is
// not missed.
type Throttling map[string]Throttled

// Throttling reads the counters of the group and of those above it.
func (g Group) Throttling() Throttling { return g.scan(throttling).throttling }

// ThrottlingOf reads the counters of a thread's group and of those above it;
// see [Of] for its number.
func ThrottlingOf(tid int) (Throttling, error) {
	g, err := Throttler(tid)
	if err != nil {
		return nil, err
	}
	return g.Throttling(), nil
}

// Throttler gives the group that a CPU quota of a thread counts in, for who
// reads its [Group.Throttling] again and again; see [Of] for the number. A
// thread in none has the zero Group, which was never throttled.
func Throttler(tid int) (Group, error) {
	groups, err := Of(tid)
	if err != nil {
		return Group{}, err
	}
	for _, g := range groups {
		if slices.Contains(g.Controllers, "cpu") {
			return g, nil
		}
	}
	for _, g := range groups {
		if g.V2 {
			return g, nil
		}
	}
	return Group{}, nil
}

// Since is what came to an earlier reading: of the group that was stopped the
// longest. Groups below one another are stopped together or in turn, so that
// for a process in all of them the truth is this or more, up to the sum.
func (t Throttling) Since(earlier Throttling) Throttled {
	var most Throttled
	for group, now := range t {
		was, ok := earlier[group]
		if !ok {
			continue
		}
		if d := (Throttled{now.Periods - was.Periods, now.MS - was.MS}); d.MS > most.MS || d.MS == most.MS && d.Periods > most.Periods {
			most = d
		}
	}
	return most
}
