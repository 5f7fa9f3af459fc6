package sysfs_test

import (
	"fmt"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/root"
	"berth/probe/synthetic"
	"berth/probe/sysfs"
	"berth/probe/topology"

	"github.com/google/go-cmp/cmp"
)

// era is how a kernel of some age names and writes its files.
type era struct {
	name           string
	core, pkg      string // the files that list siblings, without _list
	lists          bool
	ids            bool // die_id and cluster_id exist
	online         bool // the online file exists
	cpuMapSuffix   string
	sharedCPULists bool
}

var eras = []era{
	{name: "today", core: "core_cpus", pkg: "package_cpus", lists: true, ids: true, online: true, sharedCPULists: true},
	{name: "4.x", core: "thread_siblings", pkg: "core_siblings", lists: true, online: true, sharedCPULists: true},
	{name: "2.6", core: "thread_siblings", pkg: "core_siblings", cpuMapSuffix: "\n\x00"},
}

// render writes a shape as the files that a kernel of an era would show.
func render(t *topology.Topology, e era) map[string]string {
	files := map[string]string{}
	cpu := "sys/devices/system/cpu/"
	set := func(base string, s cpuset.Set) {
		if e.lists {
			files[base+"_list"] = s.String() + "\n"
		}
		files[base] = s.KernelMask() + "\n" + e.cpuMapSuffix
	}
	if e.online {
		files[cpu+"online"] = t.Online.String() + "\n"
		files[cpu+"present"] = t.Online.Union(t.Offline).String() + "\n"
		files[cpu+"possible"] = t.Online.Union(t.Offline).String() + "\n"
		files[cpu+"isolated"] = "\n"
		files[cpu+"nohz_full"] = " (null)\n"
	}
	for c := range t.Offline.All() {
		files[fmt.Sprintf("%scpu%d/online", cpu, c)] = "0\n"
	}
	at := func(c cpuset.CPU, rest string) string { return fmt.Sprintf("%scpu%d/%s", cpu, c, rest) }
	for _, p := range t.Packages {
		for c := range p.CPUs.All() {
			files[at(c, "topology/physical_package_id")] = fmt.Sprintln(*p.ID)
			set(at(c, "topology/"+e.pkg), p.CPUs)
			if e.ids && len(t.Dies) == 0 {
				files[at(c, "topology/die_id")] = "-1\n"
				set(at(c, "topology/die_cpus"), cpuset.Of(c))
			}
		}
	}
	for _, d := range t.Dies {
		for c := range d.CPUs.All() {
			files[at(c, "topology/die_id")] = fmt.Sprintln(*d.ID)
			set(at(c, "topology/die_cpus"), d.CPUs)
		}
	}
	for _, g := range t.Clusters {
		for c := range g.CPUs.All() {
			files[at(c, "topology/cluster_id")] = fmt.Sprintln(*g.ID)
			set(at(c, "topology/cluster_cpus"), g.CPUs)
		}
	}
	for _, k := range t.Cores {
		for c := range k.CPUs.All() {
			files[at(c, "topology/core_id")] = fmt.Sprintln(*k.ID)
			set(at(c, "topology/"+e.core), k.CPUs)
		}
	}
	index := map[cpuset.CPU]int{}
	for _, k := range t.Caches {
		for c := range k.CPUs.All() {
			base := at(c, fmt.Sprintf("cache/index%d/", index[c]))
			index[c]++
			files[base+"level"] = fmt.Sprintln(k.Level)
			files[base+"type"] = strings.ToUpper(string(k.Type[:1])) + string(k.Type[1:]) + "\n"
			if k.Size != nil {
				files[base+"size"] = fmt.Sprintf("%dK\n", *k.Size>>10)
			}
			if e.sharedCPULists {
				files[base+"shared_cpu_list"] = k.CPUs.String() + "\n"
			}
			files[base+"shared_cpu_map"] = k.CPUs.KernelMask() + "\n"
			files[base+"coherency_line_size"] = "64\n"
			files[base+"ways_of_associativity"] = "8\n"
		}
	}
	for i, n := range t.NUMANodes {
		base := fmt.Sprintf("sys/devices/system/node/node%d/", n.ID)
		files[base+"cpumap"] = n.CPUs.KernelMask() + "\n"
		if e.lists {
			files[base+"cpulist"] = n.CPUs.String() + "\n"
		}
		if n.MemoryBytes != nil {
			files[base+"meminfo"] = fmt.Sprintf("Node %d MemTotal:       %d kB\nNode %d MemFree: 1 kB\n", n.ID, *n.MemoryBytes>>10, n.ID)
		}
		row := ""
		for j := range t.NUMANodes {
			if i == j {
				row += "10 "
			} else {
				row += "21 "
			}
		}
		files[base+"distance"] = row + "\n"
	}
	return files
}

func mustParse(t *testing.T, description string) *topology.Topology {
	t.Helper()
	shape, err := synthetic.Parse(description)
	if err != nil {
		t.Fatal(err)
	}
	return shape
}

func read(t *testing.T, files map[string]string) (*sysfs.Facts, []finding.Finding) {
	t.Helper()
	f, found := sysfs.Read(root.FromFiles(files), sysfs.Cores|sysfs.Caches|sysfs.Geometry|sysfs.NUMA|sysfs.Kinds)
	f.Arrange()
	return f, found
}

// TestEras reads machines of several shapes as kernels of several ages would
// show them, and expects the shape back.
func TestEras(t *testing.T) {
	for _, description := range []string{
		"package:1 core:1 pu:1",
		"package:2 l3:2(size=32MiB) l2:4(size=512KiB) l1i:1(size=32KiB) l1d:1(size=32KiB) core:1 pu:2",
		"package:2 numa:2(memory=16GiB) l3:1(size=8MiB) core:4 l1:1(size=48KiB) pu:2",
		"package:1 die:2 cluster:2 l2:1(size=1MiB) core:4 pu:1",
		"numa:4(memory=1GiB) core:2 pu:1",
		"package:2 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)",
		"package:1 core:80 pu:1",
	} {
		for _, e := range eras {
			want := mustParse(t, description)
			if e.name != "today" { // they know neither
				want.Dies, want.Clusters = nil, nil
			}
			f, found := read(t, render(want, e))
			if len(found) > 0 {
				t.Errorf("%s, %s: findings %v", description, e.name, found)
			}
			want.Allowed = cpuset.Set{}
			line, ways := 64, 8
			for i := range want.Caches {
				want.Caches[i].Line, want.Caches[i].Ways, want.Caches[i].Source = &line, &ways, "sysfs"
			}
			for i := range want.NUMANodes {
				for j := range want.NUMANodes {
					want.NUMANodes[i].Distances = append(want.NUMANodes[i].Distances, map[bool]int{true: 10, false: 21}[i == j])
				}
			}
			want.Arrange()
			got := f.Topology
			got.Possible, got.Present, got.Isolated, got.NohzFull = want.Possible, want.Present, want.Isolated, want.NohzFull
			if diff := cmp.Diff(*want, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", description, e.name, diff)
			}
		}
	}
}

func TestOffline(t *testing.T) {
	shape := mustParse(t, "package:2 l2:4(size=1MiB) core:1 pu:2")
	files := render(shape, eras[0])
	// CPU 0 is offline: its folder stays and loses topology and cache; the
	// others' lists do not name it.
	for name, content := range files {
		if strings.Contains(name, "/cpu0/") {
			delete(files, name)
		} else if content == "0-1\n" {
			files[name] = "1\n"
		} else if content == "0-7\n" {
			files[name] = "1-7\n"
		}
	}
	files["sys/devices/system/cpu/online"] = "1-15\n"
	files["sys/devices/system/cpu/present"] = "0-15\n"
	files["sys/devices/system/cpu/cpu0/online"] = "0\n"
	f, found := read(t, files)
	if len(found) > 0 {
		t.Errorf("findings: %v", found)
	}
	if f.Online.String() != "1-15" || f.Offline.String() != "0" {
		t.Errorf("online %s, offline %s", f.Online, f.Offline)
	}
	if len(f.Cores) != 8 || f.Cores[0].CPUs.String() != "1" || f.Packages[0].CPUs.String() != "1-7" || f.Caches[0].CPUs.String() != "1" {
		t.Errorf("core 0 %s, package 0 %s, cache 0 %s", f.Cores[0].CPUs, f.Packages[0].CPUs, f.Caches[0].CPUs)
	}
}

func TestOddities(t *testing.T) {
	const cpu = "sys/devices/system/cpu/"
	base := "package:1 cluster:2 l2:1(size=1MiB) core:2 pu:1"
	for _, c := range []struct {
		name    string
		shape   string
		change  func(files map[string]string)
		check   func(f *sysfs.Facts) string // what is wrong, or ""
		finding string                      // the code that must be reported
		names   string                      // what its evidence must name
	}{
		{name: "die_id 65535 is no die", shape: "package:1 die:2 core:2 pu:1",
			change: func(m map[string]string) {
				for c := range 4 {
					m[fmt.Sprintf(cpu+"cpu%d/topology/die_id", c)] = "65535\n"
				}
			},
			check: func(f *sysfs.Facts) string { return unless(len(f.Dies) == 0, "dies %v", f.Dies) }},
		{name: "cluster lists without ids", shape: base,
			change: func(m map[string]string) {
				for c := range 4 {
					delete(m, fmt.Sprintf(cpu+"cpu%d/topology/cluster_id", c))
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Clusters) == 2 && f.Clusters[0].ID == nil, "clusters %v", f.Clusters)
			}},
		{name: "no folder of CPUs", shape: base,
			change: func(m map[string]string) {
				for name := range m {
					delete(m, name)
				}
			},
			check: func(f *sysfs.Facts) string { return unless(f.Online.IsEmpty(), "online %s", f.Online) }},
		{name: "a file in place of the folder", shape: base,
			change: func(m map[string]string) {
				for name := range m {
					delete(m, name)
				}
				m["sys/devices/system/cpu"] = "hello"
			},
			check: func(f *sysfs.Facts) string { return unless(f.Online.IsEmpty(), "online %s", f.Online) }},
		{name: "one CPU has no topology", shape: base,
			change: func(m map[string]string) {
				for name := range m {
					if strings.Contains(name, "cpu3/topology") {
						delete(m, name)
					}
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Cores) == 3 && f.Packages[0].CPUs.String() == "0-3" && f.NoTopology.String() == "3", "cores %v, without %s", f.Cores, f.NoTopology)
			},
			finding: finding.Missing, names: "cpu*/topology"},
		{name: "an offline CPU has no folder", shape: base,
			change: func(m map[string]string) {
				m[cpu+"cpu4/online"] = "0\n"
				m[cpu+"present"] = "0-5\n"
			},
			check: func(f *sysfs.Facts) string {
				return unless(f.Offline.String() == "4-5" && f.NoFolder.String() == "5" && f.NoTopology == nil, "offline %s, no folder %s", f.Offline, f.NoFolder)
			}},
		{name: "siblings with numbers of their own", shape: "package:1 core:2 pu:2",
			change: func(m map[string]string) {
				for c := range 4 {
					m[fmt.Sprintf(cpu+"cpu%d/topology/core_id", c)] = fmt.Sprintln(c)
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Cores) == 2 && cmp.Equal(f.Cores[1].IDs, []int{2, 3}), "cores %+v", f.Cores)
			}},
		{name: "garbage in a list", shape: base,
			change: func(m map[string]string) {
				m[cpu+"cpu2/topology/core_cpus_list"] = "2-\n"
				delete(m, cpu+"cpu2/topology/core_cpus")
			},
			check:   func(f *sysfs.Facts) string { return unless(len(f.Cores) == 3, "cores %v", f.Cores) },
			finding: finding.Malformed, names: "cpu2/topology/core_cpus_list"},
		{name: "the mask helps out", shape: base,
			change: func(m map[string]string) { m[cpu+"cpu2/topology/core_cpus_list"] = "\n" },
			check:  func(f *sysfs.Facts) string { return unless(len(f.Cores) == 4, "cores %v", f.Cores) }},
		{name: "a list without its own CPU", shape: base,
			change:  func(m map[string]string) { m[cpu+"cpu2/topology/core_cpus_list"] = "1\n" },
			check:   func(f *sysfs.Facts) string { return unless(len(f.Cores) == 3, "cores %v", f.Cores) },
			finding: finding.Malformed, names: "cpu2/topology/core_cpus_list"},
		{name: "CPUs that disagree", shape: base,
			change: func(m map[string]string) { m[cpu+"cpu2/topology/core_cpus_list"] = "1-2\n" },
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Cores) == 4 && f.Cores[2].CPUs.String() == "2", "cores %v", f.Cores)
			},
			finding: finding.Contradiction, names: "cpu2/topology/core_cpus_list"},
		{name: "a cache that nobody is said to share", shape: base,
			change: func(m map[string]string) {
				m[cpu+"cpu0/cache/index0/shared_cpu_list"] = "\n"
				m[cpu+"cpu0/cache/index0/shared_cpu_map"] = "0\n"
			},
			check:   func(f *sysfs.Facts) string { return unless(len(f.Caches) == 2, "caches %v", f.Caches) }, // found by CPU 1
			finding: finding.Missing, names: "cpu0/cache/index0"},
		{name: "a cache of which no CPU says who shares it", shape: "package:1 l2:2(size=1MiB) core:1 pu:2",
			change: func(m map[string]string) {
				for c := range 4 {
					m[fmt.Sprintf(cpu+"cpu%d/cache/index0/shared_cpu_list", c)] = "\n"
					m[fmt.Sprintf(cpu+"cpu%d/cache/index0/shared_cpu_map", c)] = "0\n"
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Caches) == 2 && f.Caches[1].CPUs.String() == "2-3" && f.Caches[1].Source == "sysfs, sharing assumed", "caches %v", f.Caches)
			},
			finding: finding.Missing, names: "cpu2/cache/index0"},
		{name: "a cache of unknown size", shape: base,
			change: func(m map[string]string) {
				m[cpu+"cpu0/cache/index0/size"] = "0K\n"
				m[cpu+"cpu0/cache/index0/coherency_line_size"] = "0\n"
				delete(m, cpu+"cpu0/cache/index0/ways_of_associativity")
			},
			check: func(f *sysfs.Facts) string {
				k := f.Caches[0]
				return unless(k.Size == nil && k.Line == nil && k.Ways == nil, "cache %+v", k)
			}},
		{name: "a cache of no type", shape: base,
			change:  func(m map[string]string) { m[cpu+"cpu0/cache/index0/type"] = "Trace\n" },
			check:   func(f *sysfs.Facts) string { return unless(len(f.Caches) == 2, "caches %v", f.Caches) },
			finding: finding.Malformed, names: "index0/type"},
		{name: "a number over the limit", shape: base,
			change:  func(m map[string]string) { m[cpu+"online"] = "0-70000\n" },
			check:   func(f *sysfs.Facts) string { return unless(f.Online.String() == "0-3", "online %s", f.Online) },
			finding: finding.Malformed, names: "cpu/online"},
		{name: "a link that leads out", shape: base,
			change:  func(m map[string]string) { m[cpu+"online"] = "-> /proc/self/status" },
			check:   func(f *sysfs.Facts) string { return unless(f.Online.String() == "0-3", "online %s", f.Online) },
			finding: "outside-root", names: "cpu/online"},
		{name: "a node without CPUs", shape: "numa:2(memory=1GiB) core:2 pu:1",
			change: func(m map[string]string) {
				m["sys/devices/system/node/node7/cpulist"] = "\n"
				m["sys/devices/system/node/node7/meminfo"] = "Node 7 MemTotal: 4 kB\n"
				for i, n := range []int{0, 1, 7} {
					m[fmt.Sprintf("sys/devices/system/node/node%d/distance", n)] = []string{"10 20 30", "20 10 30", "30 30 10"}[i]
				}
			},
			check: func(f *sysfs.Facts) string {
				n := f.NUMANodes[len(f.NUMANodes)-1]
				return unless(len(f.NUMANodes) == 3 && n.ID == 7 && n.CPUs.IsEmpty() && *n.MemoryBytes == 4096 && len(n.Distances) == 3 && n.Near == nil, "nodes %v", f.NUMANodes)
			}},
		{name: "a node without CPUs, nearer to one", shape: "numa:2(memory=1GiB) core:2 pu:1",
			change: func(m map[string]string) {
				m["sys/devices/system/node/node7/cpulist"] = "\n"
				for i, n := range []int{0, 1, 7} {
					m[fmt.Sprintf("sys/devices/system/node/node%d/distance", n)] = []string{"10 20 30", "20 10 17", "30 17 10"}[i]
				}
			},
			check: func(f *sysfs.Facts) string {
				n := f.NUMANodes[2]
				return unless(n.CPUs.IsEmpty() && n.Near != nil && n.Near.String() == "2-3", "node %+v", n)
			}},
		{name: "a node without CPUs, by its initiators", shape: "numa:2(memory=1GiB) core:2 pu:1",
			change: func(m map[string]string) {
				m["sys/devices/system/node/node7/cpulist"] = "\n"
				m["sys/devices/system/node/node7/access0/initiators/node1/cpulist"] = "2-3\n" // as good as a link
				m["sys/devices/system/node/node7/access1/initiators/node0/cpulist"] = "0-1\n"
			},
			check: func(f *sysfs.Facts) string {
				n := f.NUMANodes[2]
				return unless(n.Near != nil && n.Near.String() == "0-1" && f.NUMANodes[0].Near == nil, "node %+v", n)
			},
			finding: finding.Contradiction, names: "distance"}, // those of two nodes
		{name: "ids are those of clusters", shape: "package:1 cluster:2 core:2 pu:1",
			change: func(m map[string]string) {
				for c := range 4 {
					m[fmt.Sprintf(cpu+"cpu%d/topology/package_cpus_list", c)] = fmt.Sprintln(c)
					m[fmt.Sprintf(cpu+"cpu%d/topology/physical_package_id", c)] = fmt.Sprintln(c / 2)
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Packages) == 0 && len(f.Clusters) == 2, "packages %v", f.Packages)
			},
			finding: finding.Contradiction, names: "physical_package_id"},
		{name: "distances of another machine", shape: "numa:2(memory=1GiB) core:2 pu:1",
			change: func(m map[string]string) { m["sys/devices/system/node/node0/distance"] = "10 20 20" },
			check: func(f *sysfs.Facts) string {
				return unless(f.NUMANodes[0].Distances == nil && f.NUMANodes[1].Distances != nil, "nodes %v", f.NUMANodes)
			},
			finding: finding.Contradiction, names: "node0/distance"},
		{name: "memory that is no number", shape: "numa:1(memory=1GiB) core:2 pu:1",
			change: func(m map[string]string) {
				m["sys/devices/system/node/node0/meminfo"] = "Node 0 MemTotal: lots kB\n"
			},
			check: func(f *sysfs.Facts) string {
				return unless(f.NUMANodes[0].MemoryBytes == nil, "nodes %v", f.NUMANodes)
			},
			finding: finding.Malformed, names: "node0/meminfo"},
		{name: "ids join what lists keep apart", shape: "package:1 core:4 pu:1",
			change: func(m map[string]string) {
				for c := range 4 {
					m[fmt.Sprintf(cpu+"cpu%d/topology/package_cpus_list", c)] = fmt.Sprintln(c)
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(len(f.Packages) == 1 && f.Packages[0].CPUs.String() == "0-3", "packages %v", f.Packages)
			},
			finding: finding.Contradiction, names: "physical_package_id"},
		{name: "hybrid lists and capacities", shape: "package:1 core:4 pu:1",
			change: func(m map[string]string) {
				m["sys/devices/cpu_core/cpus"] = "0-1\n"
				m["sys/devices/cpu_atom/cpus"] = "2-3\n"
				for c, n := range []int{1024, 1024, 600, 600} {
					m[fmt.Sprintf(cpu+"cpu%d/cpu_capacity", c)] = fmt.Sprintln(n)
				}
			},
			check: func(f *sysfs.Facts) string {
				return unless(f.PMU[0].String() == "0-1" && f.PMU[1].String() == "2-3" && f.Capacity[3] == 600, "differences %v", f.Differences)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := render(mustParse(t, c.shape), eras[0])
			c.change(files)
			f, found := read(t, files)
			if wrong := c.check(f); wrong != "" {
				t.Error(wrong)
			}
			if c.finding == "" {
				if len(found) > 0 {
					t.Errorf("findings: %v", found)
				}
				return
			}
			for _, got := range found {
				if got.Code == c.finding && strings.Contains(strings.Join(got.Evidence, "\n"), c.names) {
					return
				}
			}
			t.Errorf("findings %v; want %s about %s", found, c.finding, c.names)
		})
	}
}

func unless(ok bool, format string, args ...any) string {
	if ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}
