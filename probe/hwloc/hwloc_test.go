package hwloc

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/synthetic"
	"berth/probe/topology"
)

// file is one as lstopo writes it: a package of one core with two CPUs and
// a node, beside a node without CPUs; CPU 2 is offline.
const file = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000007" allowed_cpuset="0x00000001" nodeset="0x00000005" gp_index="1">
    <info name="OSName" value="Linux"/>
    <info name="HostName" value="a&amp;b"/>
    <object type="Package" os_index="7" cpuset="0x00000003" nodeset="0x00000001" gp_index="2">
      <info name="CPUVendor" value="GenuineIntel"/>
      <info name="CPUModelNumber" value="138"/>
      <info name="CPUModel" value="A processor"/>
      <object type="NUMANode" os_index="0" cpuset="0x00000003" nodeset="0x00000001" gp_index="3" local_memory="4096"/>
      <object type="L3Cache" cpuset="0x00000003" gp_index="4" cache_size="65536" depth="3" cache_linesize="64" cache_associativity="-1" cache_type="0">
        <object type="L1iCache" cpuset="0x00000003" gp_index="5" cache_size="0" depth="1" cache_linesize="0" cache_associativity="0" cache_type="2">
          <object type="Core" os_index="4" cpuset="0x00000003" gp_index="6">
            <object type="PU" os_index="0" cpuset="0x00000001" gp_index="7"/>
            <object type="PU" os_index="1" cpuset="0x00000002" gp_index="8"/>
          </object>
        </object>
      </object>
      <object type="Bridge" gp_index="9" bridge_type="0-1" depth="0" bridge_pci="0000:[00-3b]">
        <object type="PCIDev" gp_index="10" pci_busid="0000:3b:00.0" pci_type="0200 [15b3:1017] [0000:0000] 00" pci_link_speed="0.0">
          <object type="OSDev" gp_index="11" name="eth0" osdev_type="2"/>
          <object type="OSDev" gp_index="12" name="mlx5_0" osdev_type="3"/>
        </object>
        <object type="PCIDev" gp_index="13" pci_busid="0000:3c:00.0" pci_type="0302 [10de:2330] [0000:0000] a1" pci_link_speed="0.0">
          <object type="OSDev" gp_index="14" name="cuda0" osdev_type="5"/>
          <object type="OSDev" gp_index="15" name="card0" osdev_type="1"/>
        </object>
        <object type="PCIDev" gp_index="16" pci_busid="0000:3d:00.0" pci_type="0108 [144d:a808] [0000:0000] 00" pci_link_speed="0.0"/>
        <object type="PCIDev" gp_index="17" pci_busid="0000:3e:00.0" pci_type="0c03 [144d:a808] [0000:0000] 00" pci_link_speed="0.0"/>
      </object>
    </object>
    <object type="Group" cpuset="0x0" nodeset="0x00000004" gp_index="18" kind="1001" subkind="0">
      <object type="NUMANode" os_index="2" cpuset="0x0" nodeset="0x00000004" gp_index="19" local_memory="1024"/>
    </object>
  </object>
  <distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">
    <indexes length="4">2 0 </indexes>
    <u64values length="12">10 21 20 10 </u64values>
  </distances2>
  <cpukind cpuset="0x00000001"><info name="CoreType" value="IntelAtom"/></cpukind>
  <cpukind cpuset="0x00000002"><info name="CoreType" value="IntelCore"/><info name="FrequencyMaxMHz" value="5000"/></cpukind>
</topology>
`

func TestRead(t *testing.T) {
	m, found, err := Read([]byte(file))
	if err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
	top := m.Topology
	for _, c := range []struct{ what, got, want string }{
		{"online", top.Online.String(), "0-1"}, {"offline", top.Offline.String(), "2"}, {"allowed", top.Allowed.String(), "0"},
		{"host", m.Hostname, "a&b"}, {"os", m.OS, "linux"}, {"brand", m.CPU.Brand, "A processor"}, {"vendor", m.CPU.Vendor, "GenuineIntel"},
		{"kinds", m.Kinds[0].CoreType + m.Kinds[1].CoreType, "IntelAtomIntelCore"},
	} {
		if c.got != c.want {
			t.Errorf("%s %q, want %q", c.what, c.got, c.want)
		}
	}
	if *top.Packages[0].ID != 7 || *top.Cores[0].ID != 4 || *top.Cores[0].NUMANode != 0 || *m.CPU.Model != 138 || *m.Kinds[1].MaxKHz != 5_000_000 {
		t.Errorf("%+v", top)
	}
	l1, l3 := top.Caches[0], top.Caches[1]
	if l1.Size != nil || l1.Line != nil || l1.Ways != nil || l1.Type != topology.Instruction {
		t.Errorf("what the file does not know is known: %+v", l1)
	}
	if *l3.Size != 65536 || *l3.Line != 64 || *l3.Ways != 0 || l3.Level != 3 {
		t.Errorf("L3 %+v", l3)
	}
	if len(top.NUMANodes) != 2 || top.NUMANodes[1].ID != 2 || !top.NUMANodes[1].CPUs.IsEmpty() || *m.MemoryBytes != 5120 ||
		!reflect.DeepEqual(top.NUMANodes[0].Distances, []int{10, 20}) || !reflect.DeepEqual(top.NUMANodes[1].Distances, []int{21, 10}) {
		t.Errorf("nodes %+v", top.NUMANodes)
	}
	devices := ""
	for _, d := range m.Devices {
		devices += d.Kind + " " + d.Name + " " + d.PCI + " " + d.LocalCPUs.String() + "; "
		if d.NUMANode == nil || *d.NUMANode != 0 {
			t.Errorf("%+v is near no node", d)
		}
	}
	if want := "gpu card0 0000:3c:00.0 0-1; infiniband mlx5_0 0000:3b:00.0 0-1; nic eth0 0000:3b:00.0 0-1; nvme 0000:3d:00.0 0000:3d:00.0 0-1; "; devices != want {
		t.Errorf("devices %s\nwant %s", devices, want)
	}
}

// Version 1 has other names: Socket, Cache, and distances inside an object.
func TestReadOld(t *testing.T) {
	m, _, err := Read([]byte(`<topology><object type="Machine" os_index="0" cpuset="0x0000000f" complete_cpuset="0x0000000f" allowed_cpuset="0x0000000f">
<distances nbobjs="2" relative_depth="1" latency_base="10.000000"><latency value="1.000000"/><latency value="2.100000"/><latency value="2.000000"/><latency value="1.000000"/></distances>
<object type="NUMANode" os_index="0" cpuset="0x00000003" local_memory="4096"><object type="Socket" os_index="0" cpuset="0x00000003">
<object type="Cache" cpuset="0x00000003" cache_size="1024" depth="2" cache_linesize="64" cache_associativity="8" cache_type="0">
<object type="PU" os_index="0" cpuset="0x00000001"/><object type="PU" os_index="1" cpuset="0x00000002"/></object></object></object>
<object type="NUMANode" os_index="1" cpuset="0x0000000c" local_memory="4096"><object type="Socket" os_index="1" cpuset="0x0000000c">
<object type="PU" os_index="2" cpuset="0x00000004"/><object type="PU" os_index="3" cpuset="0x00000008"/></object></object>
</object></topology>`))
	if err != nil {
		t.Fatal(err)
	}
	top := m.Topology
	if len(top.Packages) != 2 || top.Caches[0].Level != 2 || *top.Caches[0].Ways != 8 ||
		!reflect.DeepEqual(top.NUMANodes[0].Distances, []int{10, 21}) || !reflect.DeepEqual(top.NUMANodes[1].Distances, []int{20, 10}) {
		t.Errorf("%+v", top)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"no XML", file, "hello", "no <topology>"},
		{"empty", file, "", "no <topology>"},
		{"other XML", file, "<html/>", "line 1: the first element is <html>"},
		{"difference", file, "<topologydiff/>", "difference between two"},
		{"later version", `version="2.0"`, `version="3.0"`, `line 3: version "3.0" of the format is not known`},
		{"cut off", "</topology>", "", "ends inside <topology>"},
		{"wrong close", "</topology>", "</topologie>", "</topologie> closes nothing"},
		{"entity", "a&amp;b", "&a;", "line 6: not well-formed XML"},
		{"no object", file, `<topology version="2.0"></topology>`, "holds no object"},
		{"two machines", "  <distances2", `<object type="Machine"/><distances2`, "second outermost"},
		{"no PU", `type="PU"`, `type="Misc"`, "line 4: the topology holds no PU"},
		{"no machine", `type="Machine"`, `type="Package"`, "line 4: the outermost object is a Package"},
		{"number", `os_index="4"`, `os_index="four"`, `line 14: object Core: os_index is "four"`},
		{"memory", `local_memory="4096"`, `local_memory="-1"`, `line 11: object NUMANode: local_memory is "-1"`},
		{"mask", `cpuset="0x00000003" gp_index="6"`, `cpuset="0-1" gp_index="6"`, `line 14: object Core: "0-1" is no set`},
		{"endless", `complete_cpuset="0x00000007"`, `complete_cpuset="0xf...f"`, "has no end"},
		{"far", `complete_cpuset="0x00000007"`, `complete_cpuset="0x1` + strings.Repeat(",", 3000) + `0x0"`, "goes beyond CPU 65535"},
		{"PU set", `cpuset="0x00000001" gp_index="7"`, `cpuset="0x00000003" gp_index="7"`, "line 15: PU 0 has the cpuset 0-1"},
		{"twice", `type="PU" os_index="1" cpuset="0x00000002"`, `type="PU" os_index="0" cpuset="0x00000001"`, "two PUs have one os_index"},
		{"overlap", `type="L1iCache"`, `type="Core"`, "line 14: CPU 0 is already in the core of line 13"},
		{"node twice", `type="NUMANode" os_index="2"`, `type="NUMANode" os_index="0"`, "NUMA node 0 is already in line 11"},
		{"cache depth", `depth="3"`, `depth="9"`, "line 12: L3Cache of depth 9"},
		{"cache type", `cache_associativity="-1" cache_type="0"`, `cache_type="7"`, `cache_type "7"`},
		{"short matrix", "10 21 20 10 ", "10 21 ", "distances: 2 nodes need as many indexes and 4 values; there are 2 and 2"},
		{"index", "2 0 ", "2 2 ", `index "2" is not that of one NUMA node`},
		{"distance", "10 21", "10 far", "value 2 is no distance"},
		{"kinds", `cpukind cpuset="0x00000002"`, `cpukind cpuset="0x00000003"`, "its CPUs are in another kind"},
		{"deep", "<distances2", strings.Repeat("<a>", 200) + "<distances2", "more than 100 elements inside each other"},
	} {
		text := strings.ReplaceAll(file, c.from, c.to)
		if text == file {
			t.Errorf("%s: the change changes nothing", c.name)
		}
		_, _, err := Read([]byte(text))
		var at *Error
		if !errors.As(err, &at) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// What is odd and can be left out is a finding.
func TestFindings(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{`allowed_cpuset="0x00000001"`, ``, "hwloc-left-out"},
		{`cpuset="0x00000003" complete`, `cpuset="0x0000000f" complete`, "contradiction"},
		{`os_index="4" cpuset="0x00000003"`, `os_index="4" cpuset="0x00000013"`, "malformed"},
		{`nbobjs="2"`, `nbobjs="1"`, "malformed"},
	} {
		m, found, err := Read([]byte(strings.ReplaceAll(file, c.from, c.to)))
		if err != nil || len(found) != 1 || found[0].Code != c.want || !m.Topology.Cores[0].CPUs.Equal(cpuset.Range(0, 1)) {
			t.Errorf("%s: %v %v", c.to, err, found)
		}
	}
}

// A machine that is written and read again is the same.
func TestRoundTrip(t *testing.T) {
	for _, description := range []string{
		"pu:1", "core:2 pu:2", "package:2 numa:2 l3:2(size=32MiB) core:4 pu:2", "numa:3 package:1 core:2 pu:1",
		"package:2 die:2 l3:2 core:2 pu:2(indexes=0,16,1,17,2,18,3,19,4,20,5,21,6,22,7,23,8,24,9,25,10,26,11,27,12,28,13,29,14,30,15,31)",
		"package:16 numa:4 core:8 pu:4",
	} {
		top, err := synthetic.Parse(description)
		if err != nil {
			t.Fatalf("%s: %v", description, err)
		}
		top.Allowed = top.Online
		var out bytes.Buffer
		left, err := Write(&out, &Machine{Topology: *top, Hostname: "a\"b<c>&\n", OS: "linux"})
		if err != nil || len(left) > 0 {
			t.Fatalf("%s: %v, left out %s", description, err, left)
		}
		m, found, err := Read(out.Bytes())
		if err != nil || len(found) > 0 || m.Hostname != "a\"b<c>&\n" || m.OS != "linux" {
			t.Fatalf("%s: %v %v %q", description, err, found, m.Hostname)
		}
		if len(top.NUMANodes) == 0 {
			m.Topology.NUMANodes = nil // hwloc needs one
			m.Topology.Arrange()
		}
		for i := range m.Topology.Caches {
			m.Topology.Caches[i].Source = "synthetic"
		}
		for i := range top.NUMANodes {
			if len(top.NUMANodes) == 1 {
				top.NUMANodes[i].Distances = nil
			}
		}
		if !m.Topology.Online.Equal(top.Online) || !reflect.DeepEqual(m.Topology.Packages, top.Packages) || !reflect.DeepEqual(m.Topology.Cores, top.Cores) ||
			!reflect.DeepEqual(m.Topology.NUMANodes, top.NUMANodes) || !reflect.DeepEqual(m.Topology.Caches, top.Caches) {
			t.Errorf("%s:\n%+v\nwant\n%+v", description, m.Topology, *top)
		}
	}
}

// Devices, kinds and what cannot be nested.
func TestWrite(t *testing.T) {
	m, _, err := Read([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	capacity := 512
	m.Topology.CoreKinds = []topology.Kind{
		{Name: "performance", CPUs: cpuset.Of(1), Source: "/sys/devices/cpu_core"},
		{Name: "efficiency", CPUs: cpuset.Of(0), Capacity: &capacity, Source: "/sys/devices/cpu_atom"},
	}
	m.Topology.Clusters = []topology.Group{{CPUs: cpuset.Range(0, 1)}} // the package too
	var out bytes.Buffer
	if _, err := Write(&out, m); err != nil {
		t.Fatal(err)
	}
	again, _, err := Read(out.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	if !reflect.DeepEqual(again.Devices, m.Devices) || len(again.Topology.Clusters) != 0 || !again.Topology.Allowed.Equal(cpuset.Of(0)) ||
		!reflect.DeepEqual(again.Topology.NUMANodes, m.Topology.NUMANodes) || !again.Topology.Offline.Equal(cpuset.Of(2)) {
		t.Errorf("%+v\nwant\n%+v\n%s", again, m, out.Bytes())
	}
	if k := again.Kinds[0]; k.Name != "efficiency" || k.CoreType != "IntelAtom" || *k.Capacity != 512 || k.Source != "/sys/devices/cpu_atom" {
		t.Errorf("%+v", k)
	}

	crossed := topology.Topology{Online: cpuset.Range(0, 3), Packages: []topology.Package{{CPUs: cpuset.Range(0, 1)}, {CPUs: cpuset.Range(2, 3)}},
		Caches: []topology.Cache{{Level: 3, Type: topology.Unified, CPUs: cpuset.Range(1, 2)}}}
	out.Reset()
	left, err := Write(&out, &Machine{Topology: crossed})
	if err != nil || len(left) != 1 || left[0] != "L3Cache 1-2" {
		t.Errorf("%v %v", left, err)
	}
	if _, _, err := Read(out.Bytes()); err != nil {
		t.Error(err)
	}
}

// Whatever is read can be written, and reads as the same again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(file))
	f.Add([]byte(`<topology version="2.0"><object type="Machine" cpuset="0x1"><object type="PU" os_index="0"/></object></topology>`))
	f.Add([]byte(`<topology><object type="System" cpuset="0x80000000,,0x1"><object type="PU" os_index="0"/><object type="PU" os_index="95"/></object></topology>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _, err := Read(data)
		if err != nil {
			var at *Error
			if !errors.As(err, &at) || at.Line < 1 {
				t.Fatalf("an error without a line: %v", err)
			}
			return
		}
		var out bytes.Buffer
		if _, err := Write(&out, m); err != nil {
			t.Fatal(err)
		}
		again, _, err := Read(out.Bytes())
		if err != nil {
			t.Fatalf("berth cannot read what it wrote: %v\n%s", err, out.Bytes())
		}
		if !again.Topology.Online.Equal(m.Topology.Online) || !again.Topology.Allowed.Equal(m.Topology.Allowed) {
			t.Fatalf("%s became %s", m.Topology.Online, again.Topology.Online)
		}
	})
}
