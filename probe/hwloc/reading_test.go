package hwloc

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/synthetic"
	"berth/probe/topology"
)

// What hwloc sees differently from the kernel is written as hwloc has it, and
// the kernel's word beside it: berth reads the same machine back.
func TestReading(t *testing.T) {
	set := func(list string) *cpuset.Set {
		s, err := cpuset.Parse(list)
		if err != nil {
			t.Fatal(err)
		}
		return &s
	}
	for _, c := range []struct {
		name   string
		shape  string
		change func(*Machine)
		has    []string // in the file
		hasNot string
		left   string
		lost   bool // what is read back is less
	}{
		{name: "nodes that are not allowed", shape: "numa:2(memory=1GiB) core:2 pu:1",
			change: func(m *Machine) { m.AllowedNodes = set("1") },
			has:    []string{`nodeset="0x00000003" complete_nodeset="0x00000003" allowed_nodeset="0x00000002"`}},
		{name: "online without topology, offline without folder", shape: "core:4 pu:1",
			change: func(m *Machine) {
				top := &m.Topology
				top.NoTopology, top.NoFolder, top.Offline = set("3"), set("4"), *set("4-5")
				top.Cores = top.Cores[:3]
			},
			has: []string{`cpuset="0x00000007" complete_cpuset="0x0000002f" allowed_cpuset="0x00000007"`,
				`<info name="BerthOnline" value="0-3"/>`, `<info name="BerthOffline" value="4-5"/>`},
			hasNot: `type="PU" os_index="3"`},
		{name: "online without any folder", shape: "core:2 pu:1",
			change: func(m *Machine) {
				m.Topology.NoTopology, m.Topology.NoFolder = set("1"), set("1")
				m.Topology.Cores = m.Topology.Cores[:1]
			},
			has: []string{`cpuset="0x00000001" complete_cpuset="0x00000001" allowed_cpuset="0x00000001"`}, hasNot: "BerthOffline"},
		{name: "no topology at all", shape: "pu:2",
			change: func(m *Machine) { m.Topology.NoTopology = set("0-1"); m.Topology.Cores = nil },
			has:    []string{`cpuset="0x00000003"`}, hasNot: "BerthOnline", lost: true},
		{name: "compute units", shape: "package:2 core:2 pu:2",
			change: func(m *Machine) {
				for i := range m.Topology.Cores {
					core := &m.Topology.Cores[i]
					id := 2 * i % 4
					core.ID, core.IDs = &id, []int{id, id + 1}
				}
			},
			has: []string{`type="Core" os_index="3" cpuset="0x00000080"`, `<info name="BerthCore" value="6-7"/>`}},
		{name: "compute units, where uname is not known", shape: "package:2 core:2 pu:2",
			change: func(m *Machine) {
				m.Arch, m.ArchGuessed = "x86_64", true
				for i := range m.Topology.Cores {
					core := &m.Topology.Cores[i]
					id := 2 * i % 4
					core.ID, core.IDs = &id, []int{id, id + 1}
				}
			},
			has:    []string{`type="Core" os_index="2" cpuset="0x000000c0"`, `<info name="BerthCoreIDs" value="2 3"/>`, `<info name="BerthArchitecture" value="x86_64"/>`},
			hasNot: `"Architecture"`},
		{name: "books, where uname is not known", shape: "core:4 pu:1",
			change: func(m *Machine) {
				m.ArchGuessed = true
				m.Topology.Books = []topology.Group{{CPUs: *set("0-1")}, {CPUs: *set("2-3")}}
			},
			hasNot: "Group", lost: true,
			left: "book or drawer 0-1, as uname of the machine is not kept; book or drawer 2-3, as uname of the machine is not kept"},
		{name: "nodes that share CPUs", shape: "numa:2(memory=1GiB) core:2 pu:1",
			change: func(m *Machine) { m.Topology.NUMANodes[1].CPUs = *set("1-3") },
			has:    []string{`type="NUMANode" os_index="0"`}, hasNot: `type="NUMANode" os_index="1"`,
			left: "NUMANode 1, which shares CPUs with one before it", lost: true},
		{name: "masks that were changed", shape: "package:3 l3:1(size=1MiB) core:2 pu:1",
			change: func(m *Machine) {
				top := &m.Topology
				top.Packages[0].Mask, top.Packages[1].Mask, top.Packages[2].Mask = set("0"), set("2-5"), set("0-5")
				top.Caches[2].Mask = set("3-4")
			},
			has:    []string{`type="Package" os_index="0" cpuset="0x00000001"`, `type="Package" os_index="1" cpuset="0x0000003c"`},
			hasNot: `type="Package" os_index="2"`, lost: true,
			left: "package 4-5, whose mask says 0-5; level 3 unified cache 4-5, whose mask says 3-4"},
		{name: "ways of a slice", shape: "l3:1(size=32MiB) core:2 pu:1",
			change: func(m *Machine) {
				line, ways, sets := 128, 15, 2048
				l3 := &m.Topology.Caches[0]
				l3.Line, l3.Ways, l3.Sets = &line, &ways, &sets
			},
			has: []string{`cache_associativity="128"`, `<info name="BerthWays" value="15"/>`}},
		{name: "a node beside two others", shape: "package:2 numa:2(memory=1GiB) core:1 pu:1",
			change: func(m *Machine) {
				m.Topology.NUMANodes = append(m.Topology.NUMANodes, topology.NUMA{ID: 9, Near: set("0-1")})
				for i := range m.Topology.NUMANodes {
					m.Topology.NUMANodes[i].Distances = nil
				}
			},
			has: []string{`type="NUMANode" os_index="9" cpuset="0x00000003"`}},
		{name: "GPU memory", shape: "numa:2(memory=1GiB) core:1 pu:1",
			change: func(m *Machine) {
				m.Topology.NUMANodes = append(m.Topology.NUMANodes, topology.NUMA{ID: 2, Near: set("1"), GPU: "0000:3b:00.0"})
				for i, row := range [][]int{{10, 20, 80}, {20, 10, 80}, {80, 80, 10}} {
					m.Topology.NUMANodes[i].Distances = row
				}
			},
			has: []string{`subtype="GPUMemory"`, `<info name="PCIBusID" value="0000:3b:00.0"/>`, `nbobjs="3"`}},
		{name: "GPU memory on POWER", shape: "numa:2(memory=1GiB) core:1 pu:1",
			change: func(m *Machine) {
				m.Arch = "ppc64le"
				m.Topology.NUMANodes = append(m.Topology.NUMANodes, topology.NUMA{ID: 2, GPU: "0000:3b:00.0"})
				for i, row := range [][]int{{10, 20, 80}, {20, 10, 80}, {80, 80, 10}} {
					m.Topology.NUMANodes[i].Distances = row
				}
			},
			has: []string{`nbobjs="2"`, `>10 20 20 10 <`, `allowed_nodeset="0x00000003"`}, hasNot: "0000:3b:00.0",
			left: "NUMANode 2, the memory of GPU 0000:3b:00.0", lost: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			top, err := synthetic.Parse(c.shape)
			if err != nil {
				t.Fatal(err)
			}
			top.Allowed = top.Online
			top.Possible, top.Present, top.Isolated, top.NohzFull = nil, nil, nil, nil
			m := &Machine{Topology: *top, OS: "linux"}
			c.change(m)
			m.Topology.Arrange()
			var out bytes.Buffer
			left, err := Write(&out, m)
			if err != nil || strings.Join(left, "; ") != c.left {
				t.Fatalf("%v, left out %q", err, left)
			}
			for _, part := range c.has {
				if !strings.Contains(out.String(), part) {
					t.Errorf("%s is not in\n%s", part, out.String())
				}
			}
			if c.hasNot != "" && strings.Contains(out.String(), c.hasNot) {
				t.Errorf("%s is in\n%s", c.hasNot, out.String())
			}
			again, found, err := Read(out.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if c.lost {
				return
			}
			got, want := again.Topology, m.Topology
			for i := range got.Caches {
				got.Caches[i].Source = want.Caches[i].Source
			}
			if len(want.NUMANodes) == 0 { // hwloc needs one
				got.NUMANodes = want.NUMANodes
				got.Arrange()
			}
			// Where CPUs are missing, so they are to hwloc.
			if want.NoTopology != nil {
				got.Packages, want.Packages = nil, nil
			} else if len(found) > 0 {
				t.Errorf("findings %v", found)
			}
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(again.AllowedNodes, m.AllowedNodes) {
				t.Errorf("%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// hwloc gives a node without CPUs those of its neighbours; the kernel gives each
// CPU to one node.
func TestApart(t *testing.T) {
	m, _, err := Read([]byte(strings.ReplaceAll(file, `type="NUMANode" os_index="2" cpuset="0x0"`, `type="NUMANode" os_index="2" cpuset="0x00000003"`)))
	if err != nil {
		t.Fatal(err)
	}
	nodes := m.Topology.NUMANodes
	if i := slices.IndexFunc(nodes, func(n topology.NUMA) bool { return n.Near != nil }); i != 1 || !nodes[1].CPUs.IsEmpty() || nodes[1].Near.String() != "0-1" || nodes[0].CPUs.String() != "0-1" {
		t.Errorf("%+v", nodes)
	}
}

// What berth wrote of CPUs can have been changed since.
func TestReadingErrors(t *testing.T) {
	for _, info := range []string{`<info name="BerthOnline" value="3-1"/>`, `<info name="BerthOffline" value="1-"/>`} {
		_, _, err := Read([]byte(strings.Replace(file, `<info name="OSName"`, info+`<info name="OSName"`, 1)))
		if err == nil || !strings.Contains(err.Error(), "line 4: info Berth") {
			t.Errorf("%s: %v", info, err)
		}
	}
	// A unit whose first CPU is missing is no unit.
	m, _, err := Read([]byte(strings.Replace(file, `<object type="PU" os_index="0"`, `<info name="BerthCore" value="0-1"/><object type="PU" os_index="0"`, 1)))
	if err != nil || len(m.Topology.Cores) != 1 || m.Topology.Cores[0].IDs != nil {
		t.Errorf("%v, cores %+v", err, m.Topology.Cores)
	}
}
