package sysfs

import (
	"fmt"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
)

// Differences is what the files say that can tell kinds of cores apart. The
// slices are indexed by CPU number and nil where no CPU has the file.
type Differences struct {
	// PMU holds the CPUs of each kind on hybrid Intel parts, by the name of
	// its performance-monitoring device: cpu_core, cpu_atom, cpu_lowpower.
	PMU [3]cpuset.Set
	// Capacity is the scheduler's cpu_capacity; the fastest CPU has 1024.
	Capacity []int
	// MIDR is arm64's main identification register; 0 is unknown.
	MIDR []uint64
	// HighestPerf is CPPC's highest_perf (ACPI 6.5, 8.4.6.1.1.1), an abstract
	// scale that only one machine's CPUs share; 0 is unknown.
	HighestPerf []int
}

// PMUs names the devices behind [Differences.PMU], in its order.
var PMUs = [3]string{"cpu_core", "cpu_atom", "cpu_lowpower"}

func (s *scan) differences() {
	top := root.Reader{Dir: s.top, Found: s.Found}
	for i, name := range PMUs {
		set, _ := top.CPUs("/sys/devices/" + name + "/cpus")
		s.t.PMU[i] = set.Intersect(s.t.Online)
	}
	s.t.Capacity = perCPU(s, "cpu_capacity", func(text string) (int, error) { return strconv.Atoi(text) })
	s.t.MIDR = perCPU(s, "regs/identification/midr_el1", func(text string) (uint64, error) {
		return strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	})
	if s.t.Capacity == nil && s.t.MIDR == nil && s.t.PMU[0].IsEmpty() {
		// Reading it may interrupt the CPU it is about, so it comes last.
		s.t.HighestPerf = perCPU(s, "acpi_cppc/highest_perf", func(text string) (int, error) { return strconv.Atoi(text) })
	}
}

// perCPU reads one number of each online CPU, if the first or the last has it.
func perCPU[N int | uint64](s *scan, name string, parse func(string) (N, error)) []N {
	var out []N
	read := func(c cpuset.CPU) bool {
		if s.t.NohzFull != nil && s.t.NohzFull.Contains(c) {
			return false
		}
		text, ok := s.Text(cpuFile(c, name))
		if !ok {
			return false
		}
		n, err := parse(text)
		if err != nil || n < 0 {
			s.Malformed(cpuFile(c, name), fmt.Errorf("%.40q is not such a number", text))
			return false
		}
		if out == nil {
			out = make([]N, s.t.Online.Last()+1)
		}
		out[c] = n
		return true
	}
	first, last := s.t.Online.First(), s.t.Online.Last()
	if first < 0 || (!read(first) && !read(last)) {
		return out
	}
	for c := range s.t.Online.All() {
		if c != first {
			read(c)
		}
	}
	return out
}

// Frequencies are those of CPU c, in kHz, as its cpufreq driver gives them: the
// highest that can be set and, on some drivers, the one that is guaranteed
// (Documentation/admin-guide/pm/cpufreq.rst). What is not known is nil.
func Frequencies(r *root.Root, c cpuset.CPU) (highest, base *int64) {
	rd := root.Reader{Dir: r.Dir, Found: new(finding.List)}
	read := func(name string) *int64 {
		if n, ok := rd.Int(cpuDir + "/" + cpuFile(c, "cpufreq/"+name)); ok && n > 0 {
			return &n
		}
		return nil
	}
	return read("cpuinfo_max_freq"), read("base_frequency")
}
