package sysfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/topology"
)

// cacheTasks reads each cache once. A cache shared by 16 CPUs stands in 16
// places, under the same index as a rule: a CPU that an earlier cache of that
// index names is not asked again. The indexes are independent of each other.
func (s *scan) cacheTasks() []task {
	if s.t.Online.IsEmpty() {
		return nil
	}
	n := max(s.countIndexes(s.t.Online.First()), s.countIndexes(s.t.Online.Last()), 1)
	s.byIndex = make([][]topology.Cache, n)
	tasks := make([]task, n)
	for i := range tasks {
		tasks[i].run = func(part *scan) { part.byIndex[i] = part.cachesOf(i, s.t.Online) }
	}
	return tasks
}

// joinCaches makes one list of what the tasks found. A CPU between the first
// and the last may have more caches than those; its last is asked for the next.
func (s *scan) joinCaches() {
	if len(s.byIndex) == 0 {
		return
	}
	for deeper := s.byIndex[len(s.byIndex)-1]; len(deeper) > 0; {
		var ask []cpuset.CPU
		for _, c := range deeper {
			ask = append(ask, c.CPUs.First())
		}
		deeper = s.cachesOf(len(s.byIndex), cpuset.Of(ask...))
		s.byIndex = append(s.byIndex, deeper)
	}
	s.t.Caches = distinct(s.byIndex)
}

// distinct joins the caches of all indexes. Where CPUs number their caches
// differently, one cache was found under two indexes.
func distinct(byIndex [][]topology.Cache) []topology.Cache {
	type key struct {
		level    int
		kind     topology.CacheType
		first, n int
	}
	seen := map[key]bool{}
	var out []topology.Cache
	for _, caches := range byIndex {
		for _, c := range caches {
			k := key{c.Level, c.Type, int(c.CPUs.First()), c.CPUs.Len()}
			if !seen[k] {
				seen[k] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// cachesOf reads the caches that the given CPUs have under one index.
func (s *scan) cachesOf(index int, cpus cpuset.Set) []topology.Cache {
	var out, unsaid []topology.Cache
	covered := make([]bool, s.t.Online.Last()+1)
	take := func(cache topology.Cache) {
		for m := range cache.CPUs.All() {
			covered[m] = true
		}
		out = append(out, cache)
	}
	for c := range cpus.All() {
		if covered[c] {
			continue
		}
		switch cache := s.cache(c, index); {
		case cache == nil:
		case cache.Source == assumed: // unless another CPU names this one
			unsaid = append(unsaid, *cache)
		default:
			take(*cache)
		}
	}
	for _, cache := range unsaid {
		c := cache.CPUs.First()
		s.Found.Add(finding.Missing, finding.Info, []string{fmt.Sprintf("%s/%s%d/shared_cpu_map: empty", s.Path(), cpuFile(c, "cache/index"), index)},
			"The kernel does not say for every CPU which share a level %d %s cache; where no other CPU does, those of a core are taken to.", cache.Level, cache.Type)
		if !slices.ContainsFunc(slices.Collect(cache.CPUs.All()), func(c cpuset.CPU) bool { return covered[c] }) {
			take(cache)
		}
	}
	return out
}

// countIndexes is one more than the highest index of c's cache directories.
func (s *scan) countIndexes(c cpuset.CPU) int {
	dir, err := s.Open(cpuFile(c, "cache"))
	if err != nil {
		s.Report(err)
		return 0
	}
	defer dir.Close()
	r := s.Reader
	r.Dir = dir
	return int(numbered(r, "index").Last()) + 1
}

// cache reads one cache directory, or nil if there is none that makes sense.
func (s *scan) cache(c cpuset.CPU, index int) *topology.Cache {
	dir, err := s.Open(cpuFile(c, "cache/index") + strconv.Itoa(index))
	if err != nil {
		s.Report(err)
		return nil
	}
	defer dir.Close()
	r := root.Reader{Dir: dir, Found: s.Found}
	level, ok := r.Int("level")
	if !ok {
		return nil
	}
	kind, ok := r.Text("type")
	if !ok {
		return nil
	}
	out := &topology.Cache{Level: int(level), Type: topology.CacheType(strings.ToLower(kind)), Source: source}
	switch out.Type {
	case topology.Data, topology.Instruction, topology.Unified:
	default:
		r.Malformed("type", fmt.Errorf("%.40q is none of Data, Instruction, Unified", kind))
		return nil
	}
	if level < 1 || level > 9 {
		r.Malformed("level", fmt.Errorf("there is no cache of level %d", level))
		return nil
	}
	shared, ok := r.CPUs("shared_cpu_list")
	switch {
	case !ok || shared.IsEmpty():
		shared, ok = r.CPUMask("shared_cpu_map")
	case shared.Len() > 2: // not those of one core, of which there are many
		out.Mask = s.otherMask(r, "shared_cpu_list", "shared_cpu_map", shared)
	}
	if ok && shared.IsEmpty() { // on ia64, where the firmware does not tell
		shared, ok = s.siblings(c, coreLevel, new(int))
		out.Source = assumed
	}
	out.CPUs = shared.Intersect(s.t.Online)
	if !ok || !out.CPUs.Contains(c) {
		s.Found.Add(finding.Missing, finding.Warning,
			[]string{fmt.Sprintf("%s/shared_cpu_map: %q", dir.Path(), shared)},
			"The kernel does not say which CPUs share a level %d %s cache; it was left out.", level, out.Type)
		return nil
	}
	if text, ok := r.Text("size"); ok {
		if size, err := parseSize(text); err != nil {
			r.Malformed("size", err)
		} else if size > 0 {
			out.Size = &size
		}
	}
	if s.need&Geometry == 0 {
		return out
	}
	if n, ok := r.Int("coherency_line_size"); ok && n > 0 { // kernels that do not know it print 0
		line := int(n)
		out.Line = &line
	}
	if n, ok := r.Int("ways_of_associativity"); ok && n >= 0 {
		ways := int(n)
		out.Ways = &ways
	}
	if out.Size != nil && out.Line != nil && out.Ways != nil && *out.Ways > 0 {
		out.Sets = oddSets(r, *out.Size/int64(*out.Line)/int64(*out.Ways))
	}
	return out
}

// oddSets reads how many lines a way has, which is the number of sets by the
// lines that share a tag; nil if it is what follows from the rest.
func oddSets(r root.Reader, follows int64) *int {
	sets, ok := r.Int("number_of_sets")
	if n, partitioned := r.Int("physical_line_partition"); partitioned && n > 0 && n < 1<<10 {
		sets *= n
	}
	if !ok || sets <= 0 || sets == follows {
		return nil
	}
	n := int(sets)
	return &n
}

// parseSize reads "32K", "2M" or plain bytes.
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	switch {
	case strings.HasSuffix(text, "K"):
		digits, shift = text[:len(text)-1], 10
	case strings.HasSuffix(text, "M"):
		digits, shift = text[:len(text)-1], 20
	case strings.HasSuffix(text, "G"):
		digits, shift = text[:len(text)-1], 30
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a size", text)
	}
	return int64(n) << shift, nil
}
