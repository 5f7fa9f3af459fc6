package sysfs

import (
	"fmt"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// caches reads each cache once. A cache shared by 16 CPUs stands in 16 places,
// under the same index as a rule: a CPU that an earlier cache of that index
// names is not asked again.
func (s *scan) caches() {
	var covered [][]bool // by index, by CPU
	type key struct {
		level int
		kind  topology.CacheType
		first cpuset.CPU
		n     int
	}
	seen := map[key]bool{}
	indexes := -1 // how many cache directories the CPUs so far have had
	for c := range s.t.Online.All() {
		if indexes < 0 {
			if indexes = s.countIndexes(c); indexes == 0 {
				indexes = -1 // this CPU's may be lost; ask the next
				continue
			}
		}
		for i := 0; i < indexes+1; i++ {
			if i == len(covered) {
				covered = append(covered, make([]bool, s.t.Online.Last()+1))
			}
			if covered[i][c] {
				continue
			}
			cache, present := s.cache(c, i)
			if present && i == indexes {
				indexes++
			}
			if cache == nil {
				continue
			}
			for m := range cache.CPUs.All() {
				covered[i][m] = true
			}
			k := key{cache.Level, cache.Type, cache.CPUs.First(), cache.CPUs.Len()}
			if !seen[k] {
				seen[k] = true
				s.t.Caches = append(s.t.Caches, *cache)
			}
		}
	}
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

// cache reads one cache directory; present says whether there is one.
func (s *scan) cache(c cpuset.CPU, index int) (cache *topology.Cache, present bool) {
	base := cpuFile(c, "cache/index") + strconv.Itoa(index) + "/"
	level, ok := s.Int(base + "level")
	if !ok {
		return nil, false
	}
	kind, ok := s.Text(base + "type")
	if !ok {
		return nil, true
	}
	out := &topology.Cache{Level: int(level), Type: topology.CacheType(strings.ToLower(kind)), Source: source}
	switch out.Type {
	case topology.Data, topology.Instruction, topology.Unified:
	default:
		s.Malformed(base+"type", fmt.Errorf("%.40q is none of Data, Instruction, Unified", kind))
		return nil, true
	}
	if level < 1 || level > 9 {
		s.Malformed(base+"level", fmt.Errorf("there is no cache of level %d", level))
		return nil, true
	}
	shared, ok := s.CPUs(base + "shared_cpu_list")
	if !ok || shared.IsEmpty() {
		shared, ok = s.CPUMask(base + "shared_cpu_map")
	}
	out.CPUs = shared.Intersect(s.t.Online)
	if !ok || !out.CPUs.Contains(c) {
		s.Found.Add(finding.Missing, finding.Warning,
			[]string{fmt.Sprintf("%s/%sshared_cpu_map: %q", s.Path(), base, shared)},
			"The kernel does not say which CPUs share a level %d %s cache; it was left out.", level, out.Type)
		return nil, true
	}
	if text, ok := s.Text(base + "size"); ok {
		if size, err := parseSize(text); err != nil {
			s.Malformed(base+"size", err)
		} else if size > 0 {
			out.Size = &size
		}
	}
	out.Line = s.positive(base + "coherency_line_size")
	if ways, ok := s.Int(base + "ways_of_associativity"); ok && ways >= 0 {
		n := int(ways)
		out.Ways = &n
	}
	return out, true
}

// positive is a file's number where that is above zero: kernels that do not
// know it print 0 or leave the file out.
func (s *scan) positive(name string) *int {
	if n, ok := s.Int(name); ok && n > 0 {
		v := int(n)
		return &v
	}
	return nil
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
