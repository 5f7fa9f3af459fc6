package sysfs

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/topology"
)

// level is one kind of object above the CPU: the files of a CPU that list who
// shares the object with it, newest name first, and the one with its id.
type level struct {
	name  string
	lists [4]siblingFile
	id    string
}

type siblingFile struct {
	name string
	mask bool
}

var (
	drawerLevel  = level{"drawer", [4]siblingFile{{"topology/drawer_siblings_list", false}, {"topology/drawer_siblings", true}}, "topology/drawer_id"}
	bookLevel    = level{"book", [4]siblingFile{{"topology/book_siblings_list", false}, {"topology/book_siblings", true}}, "topology/book_id"}
	packageLevel = level{"package", [4]siblingFile{{"topology/package_cpus_list", false}, {"topology/core_siblings_list", false},
		{"topology/package_cpus", true}, {"topology/core_siblings", true}}, "topology/physical_package_id"}
	dieLevel     = level{"die", [4]siblingFile{{"topology/die_cpus_list", false}, {"topology/die_cpus", true}}, "topology/die_id"}
	clusterLevel = level{"cluster", [4]siblingFile{{"topology/cluster_cpus_list", false}, {"topology/cluster_cpus", true}}, "topology/cluster_id"}
	coreLevel    = level{"core", [4]siblingFile{{"topology/core_cpus_list", false}, {"topology/thread_siblings_list", false},
		{"topology/core_cpus", true}, {"topology/thread_siblings", true}}, "topology/core_id"}
)

// group is an object that was found: its CPUs, its id if the kernel has one, and
// what the mask of its first CPU says if that is something else.
type group struct {
	cpus cpuset.Set
	id   *int
	mask *cpuset.Set
}

// noID reports whether the kernel says by an id that there is no such object:
// -1, or 65535 where it was kept in 16 bits.
func noID(id int64) bool { return id < 0 || id == 65535 }

// read finds the objects of a level, reading each once: the CPUs that an
// object's list names are not asked again. Of an optional level the kernel may
// know nothing, or say by an object's id that it is none.
func (s *scan) read(l level, optional bool) []group {
	if optional && !s.knows(s.t.Online.First(), l) && !s.knows(s.t.Online.Last(), l) {
		return nil
	}
	var out []group
	covered := make([]bool, s.t.Online.Last()+1)
	answers := 0 // the file that answered last is tried first
	for c := range s.t.Online.All() {
		if covered[c] {
			continue
		}
		var id *int
		n, hasID := s.Int(cpuFile(c, l.id))
		if hasID && !noID(n) {
			v := int(n)
			id = &v
		}
		if optional && hasID && id == nil {
			continue
		}
		set, ok := s.siblings(c, l, &answers)
		if !ok {
			continue
		}
		shared := set.Intersect(s.t.Online)
		if !shared.Contains(c) {
			s.Malformed(cpuFile(c, l.lists[answers].name), fmt.Errorf("%s does not name CPU %d itself", set, c))
			continue
		}
		if own := s.unclaimed(shared, covered); own.Len() < shared.Len() {
			s.Found.Add(finding.Contradiction, finding.Warning,
				[]string{fmt.Sprintf("%s/%s: %s", s.Path(), cpuFile(c, l.lists[answers].name), set)},
				"CPUs disagree about who shares a %s; the lowest-numbered CPU is believed.", l.name)
			shared = own
		}
		for m := range shared.All() {
			covered[m] = true
		}
		g := group{cpus: shared, id: id}
		if f := l.lists[answers]; l.name == packageLevel.name && !f.mask {
			g.mask = s.otherMask(s.Reader, cpuFile(c, f.name), cpuFile(c, strings.TrimSuffix(f.name, "_list")), set)
		}
		out = append(out, g)
	}
	return out
}

// otherMask reads the mask beside a list; nil where it says the same of the CPUs
// that are online. A kernel prints both of one mask, so one was changed since.
func (s *scan) otherMask(r root.Reader, list, mask string, listed cpuset.Set) *cpuset.Set {
	set, ok := r.CPUMask(mask)
	if set = set.Intersect(s.t.Online); !ok || set.Equal(listed.Intersect(s.t.Online)) {
		return nil
	}
	if again, ok := r.CPUs(list); !ok || !again.Equal(listed) {
		return nil // a CPU went or came in between
	}
	r.Found.Add(finding.Contradiction, finding.Warning,
		[]string{fmt.Sprintf("%s/%s: %s, %s: %s", r.Path(), list, listed, path.Base(mask), set)},
		"A list of CPUs and the mask beside it differ, so the files were changed; the list is believed.")
	return &set
}

// knows reports whether CPU c has a file about the level that does not deny it.
func (s *scan) knows(c cpuset.CPU, l level) bool {
	if c < 0 {
		return false
	}
	if id, ok := s.Int(cpuFile(c, l.id)); ok {
		return !noID(id)
	}
	_, ok := s.siblings(c, l, new(int))
	return ok
}

// unclaimed is the part of a set that no earlier object holds.
func (s *scan) unclaimed(set cpuset.Set, covered []bool) cpuset.Set {
	for c := range set.All() {
		if covered[c] {
			var own []cpuset.CPU
			for c := range set.All() {
				if !covered[c] {
					own = append(own, c)
				}
			}
			return cpuset.Of(own...)
		}
	}
	return set
}

// siblings reads who shares a level with CPU c from the first file that is
// there. An empty list counts as none: kernels without the level print one.
func (s *scan) siblings(c cpuset.CPU, l level, answers *int) (cpuset.Set, bool) {
	for i := range l.lists {
		at := (*answers + i) % len(l.lists)
		f := l.lists[at]
		if f.name == "" {
			continue
		}
		read := s.CPUs
		if f.mask {
			read = s.CPUMask
		}
		if set, ok := read(cpuFile(c, f.name)); ok && !set.IsEmpty() {
			*answers = at
			return set, true
		}
	}
	return cpuset.Set{}, false
}

// groups reads the levels above the core.
func (s *scan) groups() {
	clusters := s.read(clusterLevel, true)
	for _, p := range s.packages(clusters) {
		s.t.Packages = append(s.t.Packages, topology.Package{ID: p.id, CPUs: p.cpus, Mask: p.mask})
	}
	for _, d := range s.read(dieLevel, true) {
		s.t.Dies = append(s.t.Dies, topology.Die{ID: d.id, CPUs: d.cpus})
	}
	s.t.Clusters = asGroups(clusters)
	if !slices.ContainsFunc(s.t.Clusters, func(g topology.Group) bool { return g.CPUs.Len() > 1 }) {
		s.t.Clusters = nil // clusters of one CPU say nothing
	}
	s.t.Books = asGroups(s.read(bookLevel, true))
	s.t.Drawers = asGroups(s.read(drawerLevel, true))
}

func asGroups(found []group) []topology.Group {
	var out []topology.Group
	for _, g := range found {
		out = append(out, topology.Group{ID: g.id, CPUs: g.cpus})
	}
	return out
}

// packages reads the package level. Some arm64 kernels list each CPU alone
// although the ids put several into one package; then the ids are believed,
// unless they are those of the clusters, as arm64 kernels before 6.0 have them
// on machines that a device tree describes: then nothing tells the packages.
func (s *scan) packages(clusters []group) []group {
	found := s.read(packageLevel, false)
	byID := map[int][]cpuset.Set{}
	for _, g := range found {
		if g.id == nil || g.cpus.Len() > 1 {
			return found
		}
		byID[*g.id] = append(byID[*g.id], g.cpus)
	}
	if len(byID) == len(found) {
		return found
	}
	var out []group
	for _, g := range found {
		sets := byID[*g.id]
		if sets == nil {
			continue
		}
		out = append(out, group{cpus: cpuset.UnionAll(sets...), id: g.id})
		delete(byID, *g.id)
	}
	if slices.EqualFunc(out, clusters, func(p, c group) bool { return p.cpus.Equal(c.cpus) }) {
		s.Found.Add(finding.Contradiction, finding.Info,
			[]string{fmt.Sprintf("%s/cpu*/topology: physical_package_id gives the %d clusters, the sibling lists %d packages", s.Path(), len(out), len(found))},
			"The package ids are those of the clusters, and the lists keep every CPU apart; the packages are not known.")
		return nil
	}
	s.Found.Add(finding.Contradiction, finding.Warning,
		[]string{fmt.Sprintf("%s/cpu*/topology: physical_package_id gives %d packages, the sibling lists %d", s.Path(), len(out), len(found))},
		"The package ids join CPUs that the lists keep apart; the ids are believed.")
	return out
}

// cores reads the core level and how SMT is set.
func (s *scan) cores() {
	var described []cpuset.Set
	units := false
	for i, c := range s.read(coreLevel, false) {
		core := topology.Core{ID: c.id, CPUs: c.cpus}
		if c.cpus.Len() > 1 && (units || i == 0) { // all cores or none are units
			core.IDs = s.unit(c.cpus)
			units = core.IDs != nil
		}
		s.t.Cores = append(s.t.Cores, core)
		described = append(described, c.cpus)
	}
	if len(described) > 0 {
		s.t.NoTopology = s.undescribed(s.t.Online.Minus(cpuset.UnionAll(described...)))
	}
	if control, ok := s.Text("smt/control"); ok {
		s.t.SMT = &topology.SMT{Control: control}
	}
}

// unit reads the core_id of each of a core's CPUs; nil unless they differ.
func (s *scan) unit(cpus cpuset.Set) []int {
	var ids []int
	differ := false
	for c := range cpus.All() {
		id, ok := s.Int(cpuFile(c, coreLevel.id))
		if !ok || noID(id) {
			return nil
		}
		ids = append(ids, int(id))
		differ = differ || ids[0] != int(id)
	}
	if !differ {
		return nil
	}
	return ids
}

// undescribed are those of the CPUs that have no topology folder; nil if none.
func (s *scan) undescribed(cpus cpuset.Set) *cpuset.Set {
	var missing []cpuset.CPU
	for c := range cpus.All() {
		dir, err := s.Open(cpuFile(c, "topology"))
		if err == nil {
			dir.Close()
		} else if root.IsMissing(err) {
			missing = append(missing, c)
		}
	}
	if missing == nil {
		return nil
	}
	set := cpuset.Of(missing...)
	if gone := set.Minus(s.directories()); !gone.IsEmpty() {
		if s.t.NoFolder != nil {
			gone = gone.Union(*s.t.NoFolder)
		}
		s.t.NoFolder = &gone
	}
	s.Found.Add(finding.Missing, finding.Warning, []string{s.Path() + "/cpu*/topology"},
		"CPUs that are online have no topology files: %s. Their cores are not known.", set)
	return &set
}
