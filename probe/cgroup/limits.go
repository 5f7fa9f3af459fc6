package cgroup

import (
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
)

// quota is a CPU quota of one group.
type quota struct {
	link     Link
	periodMS float64
	stat     *Throttled
}

// set is a group's CPUs.
type set struct {
	link Link
	cpus cpuset.Set
	top  bool // of the hierarchy's visible top
}

// read takes what one group limits.
func (s *scan) read(g group, h hierarchy) {
	if s.need&CPU != 0 {
		s.readQuota(g)
	}
	if s.need&CPUSet != 0 {
		s.readSet(g)
	}
	if s.need&Mems != 0 {
		if nodes, _, ok := g.effective("mems"); ok {
			s.mems = append(s.mems, nodes)
		}
	}
	if s.need&Memory != 0 {
		s.readMemory(g)
	}
	if s.need&Accounting != 0 && len(s.weight) == 0 {
		s.readWeight(g)
	}
	if s.need&throttling != 0 {
		if t := g.throttled(); t != nil {
			s.throttling[g.path] = *t
		}
	}
}

// readQuota reads cpu.max ("max 100000" or "50000 100000", microseconds) or
// version 1's pair of files, where a quota of -1 is none.
func (s *scan) readQuota(g group) {
	var quotaText, periodText, source string
	if g.v2 {
		text, ok := g.Text("cpu.max")
		fields := strings.Fields(text)
		if !ok || len(fields) == 0 || fields[0] == "max" {
			return
		}
		source, quotaText, periodText = "cpu.max", fields[0], "100000"
		if len(fields) > 1 {
			periodText = fields[1]
		}
	} else {
		text, ok := g.Text("cpu.cfs_quota_us")
		if !ok || text == "-1" {
			return
		}
		source, quotaText = "cpu.cfs_quota_us", text
		if periodText, ok = g.Text("cpu.cfs_period_us"); !ok {
			g.malformed("cpu.cfs_period_us", "the quota %s has no period beside it", shorten(text))
			return
		}
	}
	us, err1 := strconv.ParseInt(quotaText, 10, 64)
	period, err2 := strconv.ParseInt(periodText, 10, 64)
	if err1 != nil || err2 != nil || us <= 0 || period <= 0 {
		g.malformed(source, "%q per %q is no quota", shorten(quotaText), shorten(periodText))
		return
	}
	q := quota{
		link:     Link{Resource: "cpus", Source: source, Path: g.path, Limit: float64(us) / float64(period)},
		periodMS: float64(period) / 1000,
	}
	if s.need&Accounting != 0 {
		q.stat = g.throttled()
	}
	s.cpus = append(s.cpus, q)
}

// throttled reads the group's cpu.stat: throttled_usec in version 2,
// throttled_time in nanoseconds in version 1.
func (g group) throttled() *Throttled {
	text, ok := g.Text("cpu.stat")
	if !ok {
		return nil
	}
	var t Throttled
	seen := false
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch key {
		case "nr_throttled":
			t.Periods, seen = n, true
		case "throttled_usec":
			t.MS = float64(n) / 1e3
		case "throttled_time":
			t.MS = float64(n) / 1e6
		}
	}
	if !seen {
		return nil
	}
	return &t
}

// readSet reads the CPUs that a group really has.
func (s *scan) readSet(g group) {
	if cpus, name, ok := g.effective("cpus"); ok {
		s.sets = append(s.sets, set{Link{Resource: "cpuset", Source: name, Path: g.path, Limit: cpus}, cpus, g.top})
	}
}

// effective reads the cpus or mems that a group really has, and names the file:
// those asked for, less what its ancestors do not have. Only that effective set
// is worth reading, and kernels before 3.17 have but the one asked for.
func (g group) effective(what string) (cpuset.Set, string, bool) {
	names := []string{g.prefix + "effective_" + what, g.prefix + what}
	if g.v2 {
		names = []string{"cpuset." + what + ".effective"}
	}
	for _, name := range names {
		if set, ok := g.CPUs(name); ok && !set.IsEmpty() { // an empty cpuset of version 1 holds no process
			return set, name, true
		}
	}
	return cpuset.Set{}, "", false
}

// noLimit is above any memory that there is: version 1 shows no limit as the
// largest multiple of the page size in 63 bits.
const noLimit = 1 << 62

// readMemory reads the hard limit and, in version 2, memory.high, above which
// the kernel slows the group down until it is below again.
func (s *scan) readMemory(g group) {
	names := []string{"memory.limit_in_bytes"}
	if g.v2 {
		names = []string{"memory.max", "memory.high"}
	}
	for _, name := range names {
		text, ok := g.Text(name)
		if !ok || text == "max" || text == "" || text == "-1" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			g.malformed(name, "%q is not a number of bytes", shorten(text))
			continue
		}
		if n < noLimit {
			s.memory = append(s.memory, Link{Resource: "memory_bytes", Source: name, Path: g.path, Limit: int64(n)})
		}
	}
}

// readWeight reads the share of CPU time that the group gets when there is not
// enough for all. The default (100, in version 1 1024) says nothing.
func (s *scan) readWeight(g group) {
	name, usual := "cpu.shares", int64(1024)
	if g.v2 {
		name, usual = "cpu.weight", 100
	}
	if n, ok := g.Int(name); ok && n > 0 && n != usual {
		s.weight = append(s.weight, Link{Resource: "weight", Source: name, Path: g.path, Limit: n})
	}
}

// decide finds what binds and puts the chain together.
func (s *scan) decide() {
	s.decideSet()
	for _, nodes := range s.mems {
		if s.state.Mems == nil {
			s.state.Mems = &nodes
		} else if both := s.state.Mems.Intersect(nodes); !both.IsEmpty() {
			s.state.Mems = &both
		}
	}
	if len(s.cpus) > 0 {
		tightest := slices.MinFunc(s.cpus, func(a, b quota) int { return compare(a.link.Limit.(float64), b.link.Limit.(float64)) })
		for i := range s.cpus {
			if s.cpus[i].link == tightest.link {
				s.cpus[i].link.Binding = true
				break
			}
		}
		limit := tightest.link.Limit.(float64)
		s.state.QuotaCPUs, s.state.QuotaPeriodMS, s.state.Throttled = &limit, &tightest.periodMS, tightest.stat
		for _, q := range s.cpus {
			s.state.Chain = append(s.state.Chain, q.link)
		}
	}
	if len(s.memory) > 0 {
		at := 0
		for i, l := range s.memory {
			if l.Limit.(int64) < s.memory[at].Limit.(int64) {
				at = i
			}
		}
		s.memory[at].Binding = true
		limit := s.memory[at].Limit.(int64)
		s.state.MemoryBytes = &limit
		s.state.Chain = append(s.state.Chain, s.memory...)
	}
	s.state.Chain = append(s.state.Chain, s.weight...)
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// decideSet intersects the sets on the way up. A group is a link of the chain
// if its set is smaller than that of the group above, and the highest such
// group whose set is the result is the one that binds.
func (s *scan) decideSet() {
	if len(s.sets) == 0 {
		return
	}
	result := s.sets[0].cpus
	for _, at := range s.sets {
		if !at.cpus.Intersect(result).IsEmpty() { // else the sets were read at different times
			result = result.Intersect(at.cpus)
		}
	}
	s.state.CPUSet = &result
	binding := -1
	for i, at := range s.sets {
		above := i + 1
		if at.top {
			// The root of all has every CPU and limits nothing; a top that is
			// not the root has nothing above it to compare with.
			if len(s.sets) > 1 || at.link.Path == "/" {
				continue
			}
		} else if above < len(s.sets) && s.sets[above].cpus.SubsetOf(at.cpus) {
			continue
		}
		if at.cpus.Equal(result) {
			binding = len(s.state.Chain)
		}
		s.state.Chain = append(s.state.Chain, at.link)
	}
	if binding >= 0 {
		s.state.Chain[binding].Binding = true
	}
}
