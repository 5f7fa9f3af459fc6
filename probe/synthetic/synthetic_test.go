package synthetic_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/synthetic"
	"berth/probe/topology"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		description                           string
		cpus, packages, nodes, caches, cores  int
		firstCore, lastCore, lastNode, lastL3 string
	}{
		{"package:2 numa:2 l3:4 core:8 pu:2", 256, 2, 4, 16, 128, "0-1", "254-255", "192-255", "240-255"},
		{"pack:1 core:4 pu:1", 4, 1, 0, 0, 4, "0", "3", "", ""},
		{"numa:2 socket:1 l3:1 core:2 pu:2", 8, 2, 2, 2, 4, "0-1", "6-7", "4-7", "4-7"},
		{"pu:3", 3, 0, 0, 0, 3, "0", "2", "", ""},
		{"Machine:1 Package:1 L3Cache:1 Core:2 PU:1", 2, 1, 0, 1, 2, "0", "1", "", "0-1"},
		{"core:2 pu:2(indexes=0,2,1,3)", 4, 0, 0, 0, 2, "0,2", "1,3", "", ""},
		{"package:1 group:2 die:1 core:1 thread:1", 2, 1, 0, 0, 2, "0", "1", "", ""},
		{"numa:1024 core:32 pu:2", cpuset.Limit, 0, 1024, 0, 32768, "0-1", "65534-65535", "65472-65535", ""},
	} {
		shape, err := synthetic.Parse(c.description)
		if err != nil {
			t.Errorf("%s: %v", c.description, err)
			continue
		}
		if shape.Online.Len() != c.cpus || len(shape.Packages) != c.packages || len(shape.NUMANodes) != c.nodes ||
			len(shape.Caches) != c.caches || len(shape.Cores) != c.cores {
			t.Errorf("%s: %d CPUs, %d packages, %d nodes, %d caches, %d cores", c.description, shape.Online.Len(),
				len(shape.Packages), len(shape.NUMANodes), len(shape.Caches), len(shape.Cores))
		}
		last := func(sets []cpuset.Set) string {
			if len(sets) == 0 {
				return ""
			}
			return sets[len(sets)-1].String()
		}
		var nodes, l3 []cpuset.Set
		for _, n := range shape.NUMANodes {
			nodes = append(nodes, n.CPUs)
		}
		for _, k := range shape.Caches {
			l3 = append(l3, k.CPUs)
		}
		if first, lastCore := shape.Cores[0].CPUs.String(), shape.Cores[len(shape.Cores)-1].CPUs.String(); first != c.firstCore ||
			lastCore != c.lastCore || last(nodes) != c.lastNode || last(l3) != c.lastL3 {
			t.Errorf("%s: cores %s … %s, last node %s, last cache %s", c.description, first, lastCore, last(nodes), last(l3))
		}
	}
}

func TestAttributes(t *testing.T) {
	shape, err := synthetic.Parse("numa:2(memory=64GiB) l3:1(size=32MB) l2:2(size=1048576) l1d:1(size=48KiB) l1i:1 core:1 pu:2")
	if err != nil {
		t.Fatal(err)
	}
	if *shape.NUMANodes[0].MemoryBytes != 64<<30 {
		t.Errorf("memory %d", *shape.NUMANodes[0].MemoryBytes)
	}
	for _, k := range shape.Caches {
		want := map[string]int64{"3unified": 32 << 20, "2unified": 1 << 20, "1data": 48 << 10}[fmt.Sprint(k.Level, k.Type)]
		switch {
		case k.Level == 1 && k.Type == topology.Instruction:
			if k.Size != nil {
				t.Error("a size that nobody gave")
			}
		case k.Size == nil || *k.Size != want:
			t.Errorf("L%d %s: size %v, want %d", k.Level, k.Type, k.Size, want)
		}
	}
	if c := shape.Cores[0]; *c.NUMANode != 0 || c.CPUs.String() != "0-1" || shape.SMT.Threads != 2 {
		t.Errorf("core 0: %+v, SMT %+v", c, shape.SMT)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		description, says string
		offset            int
	}{
		{"", "empty", 0},
		{"   ", "empty", 0},
		{"core", "type:count", 0},
		{"package:2 kore:4 pu:1", "no type", 10},
		{"core:0 pu:1", "not a number from 1", 0},
		{"core:-1 pu:1", "not a number from 1", 0},
		{"core:x pu:1", "not a number from 1", 0},
		{"core:4", "innermost level is pu", 0},
		{"pu:2 core:2", "pu comes last", 5},
		{"core:2 package:2 pu:1", "a core holds", 7},
		{"die:2 package:2 pu:1", "inside a package", 6},
		{"package:2 package:2 pu:1", "already", 10},
		{"l2:1 l3:1 pu:1", "never inside", 5},
		{"package:65536 pu:2", "more than 65536 CPUs", 14},
		{"package:2000000000 core:2000000000 pu:2", "more than 65536 CPUs", 0},
		{"l3:1(size=1MB pu:1", "not closed", 0},
		{"l3:1(size=tiny) pu:1", "not a size", 0},
		{"l3:1(size=99999999999TiB) pu:1", "not a size", 0},
		{"l3:1(speed=3) pu:1", "no attribute", 0},
		{"pu:2(indexes=0,0)", "1 different CPUs", 0},
		{"pu:2(indexes=0,70000)", "not a CPU number", 0},
		{"l9:1 pu:1", "no type", 0},
	} {
		_, err := synthetic.Parse(c.description)
		var e *synthetic.Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), c.says) || e.Offset != c.offset {
			t.Errorf("%q: %v; want %q at %d", c.description, err, c.says, c.offset)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"package:2 numa:2 l3:4 core:8 pu:2", "l3:1(size=32MiB) pu:2(indexes=1,0)", "core:4", "(((", "pu:1)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, description string) {
		shape, err := synthetic.Parse(description)
		if err != nil {
			return
		}
		if n := shape.Online.Len(); n < 1 || n > cpuset.Limit {
			t.Fatalf("%q has %d CPUs", description, n)
		}
		covered := 0
		for i, c := range shape.Cores {
			if int(c.Index) != i || !c.CPUs.SubsetOf(shape.Online) {
				t.Fatalf("%q: core %d is %+v", description, i, c)
			}
			covered += c.CPUs.Len()
		}
		if covered != shape.Online.Len() {
			t.Fatalf("%q: the cores hold %d of %d CPUs", description, covered, shape.Online.Len())
		}
	})
}

func ExampleParse() {
	shape, err := synthetic.Parse("package:2 l3:2(size=32MiB) core:4 pu:2")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(shape.Online.Len(), "CPUs,", len(shape.Cores), "cores; the second L3 has", shape.Caches[1].CPUs)
	// Output: 32 CPUs, 16 cores; the second L3 has 8-15
}
