//go:build linux

package doctor

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/root"
)

// Settings are those of the node that decide how fast its CPUs run.
type Settings struct {
	Policies []FrequencyPolicy
	// TurboFile switches turbo off where it is not empty.
	TurboFile string
	// Autogroup: sessions share the CPU time (sched(7)).
	Autogroup bool
}

// FrequencyPolicy is a set of CPUs whose frequency is set as one
// (Documentation/admin-guide/pm/cpufreq.rst). Frequencies are in kHz, 0 is
// unknown.
type FrequencyPolicy struct {
	Path             string // its directory
	CPUs             cpuset.Set
	Driver, Governor string
	Preference       string // energy_performance_preference; empty: there is none
	MaxKHz, TopKHz   int64  // scaling_max_freq, cpuinfo_max_freq
	CurrentKHz       int64
}

// Heat is what heat did to a CPU, or to its package, since the machine's start
// or in an interval.
type Heat struct {
	CPU   cpuset.CPU
	File  string // the counter
	Count int64
}

const cpuDir = "/sys/devices/system/cpu"

// readSettings reads the settings of a node. What is not there is unknown.
func readSettings(r root.Reader) Settings {
	var s Settings
	for _, name := range names(r, cpuDir+"/cpufreq") {
		if !strings.HasPrefix(name, "policy") {
			continue
		}
		dir := cpuDir + "/cpufreq/" + name + "/"
		p := FrequencyPolicy{Path: path.Clean(dir)}
		if p.CPUs, _ = spacedCPUs(r, dir+"affected_cpus"); p.CPUs.IsEmpty() {
			continue // all its CPUs are offline
		}
		p.Driver, _ = r.Text(dir + "scaling_driver")
		p.Governor, _ = r.Text(dir + "scaling_governor")
		p.Preference, _ = r.Text(dir + "energy_performance_preference")
		p.MaxKHz, _ = r.Int(dir + "scaling_max_freq")
		p.TopKHz, _ = r.Int(dir + "cpuinfo_max_freq")
		p.CurrentKHz, _ = r.Int(dir + "scaling_cur_freq")
		s.Policies = append(s.Policies, p)
	}
	slices.SortFunc(s.Policies, func(a, b FrequencyPolicy) int { return cmp.Compare(a.CPUs.First(), b.CPUs.First()) })
	if off, ok := r.Int(cpuDir + "/intel_pstate/no_turbo"); ok && off == 1 {
		s.TurboFile = cpuDir + "/intel_pstate/no_turbo"
	}
	if on, ok := r.Int(cpuDir + "/cpufreq/boost"); ok && on == 0 {
		s.TurboFile = cpuDir + "/cpufreq/boost"
	}
	if on, ok := r.Int("/proc/sys/kernel/sched_autogroup_enabled"); ok {
		s.Autogroup = on == 1
	}
	return s
}

// spacedCPUs reads a list of CPUs with spaces between, as cpufreq writes them.
func spacedCPUs(r root.Reader, name string) (cpuset.Set, bool) {
	text, ok := r.Text(name)
	if !ok || text == "" {
		return cpuset.Set{}, false
	}
	set, err := cpuset.Parse(strings.Join(strings.Fields(text), ","))
	if err != nil {
		r.Malformed(name, err)
		return cpuset.Set{}, false
	}
	return set, true
}

// names lists a directory in order; nothing where there is none.
func names(r root.Reader, dir string) []string {
	d, err := r.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	found, err := d.Names()
	if err != nil {
		return nil
	}
	slices.Sort(found)
	return found
}

// readHeat reads the counters of Intel's therm_throt driver
// (arch/x86/kernel/cpu/mce/therm_throt.c): how often a core, or the package,
// was too hot.
func readHeat(r root.Reader, online cpuset.Set) []Heat {
	var all []Heat
	for c := range online.All() {
		for _, counter := range [...]string{"core_throttle_count", "package_throttle_count"} {
			name := cpuDir + "/cpu" + strconv.Itoa(int(c)) + "/thermal_throttle/" + counter
			if n, ok := r.Int(name); ok {
				all = append(all, Heat{c, name, n})
			}
		}
	}
	return all
}

// heatSince is what came to an earlier reading.
func heatSince(now, earlier []Heat) []Heat {
	was := map[string]int64{}
	for _, h := range earlier {
		was[h.File] = h.Count
	}
	var grown []Heat
	for _, h := range now {
		if before, ok := was[h.File]; ok && h.Count > before {
			h.Count -= before
			grown = append(grown, h)
		}
	}
	return grown
}
