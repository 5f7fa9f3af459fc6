package place_test

import (
	"errors"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/topology"
)

func cpus(list string) cpuset.Set {
	set, err := cpuset.Parse(list)
	if err != nil {
		panic(err)
	}
	return set
}

// laptop is a hybrid part with CPU 3 offline: two performance cores, four
// efficiency cores in a cluster with an L3, and two low-power ones that have
// none; and a node of memory without CPUs.
func laptop() *topology.Topology {
	t := &topology.Topology{
		Online: cpus("0-2,4-9"), Offline: cpus("3"),
		Packages:  []topology.Package{{CPUs: cpus("0-2,4-9")}},
		Clusters:  []topology.Group{{CPUs: cpus("4-7")}},
		NUMANodes: []topology.NUMA{{ID: 0, CPUs: cpus("0-9")}, {ID: 1}},
		CoreKinds: []topology.Kind{
			{Name: "performance", CPUs: cpus("0-2")}, {Name: "efficiency", CPUs: cpus("4-7")}, {Name: "Arm part 0xd.0c", CPUs: cpus("8-9")},
		},
		Caches: []topology.Cache{
			{Level: 3, Type: topology.Unified, CPUs: cpus("0-2,4-7")},
			{Level: 2, Type: topology.Unified, CPUs: cpus("8-9")},
			{Level: 2, Type: topology.Unified, CPUs: cpus("4-7")},
			{Level: 1, Type: topology.Instruction, CPUs: cpus("8-9")},
		},
	}
	for _, c := range []string{"0-1", "2", "4", "5", "6", "7", "8", "9"} {
		t.Cores = append(t.Cores, topology.Core{CPUs: cpus(c)})
	}
	t.Arrange()
	return t
}

// bare is a machine of which only the CPUs are known.
func bare() *topology.Topology {
	return &topology.Topology{Online: cpus("0-3")}
}

const (
	server = "package:2 numa:2 l3:2 core:4 pu:2"
	// interleaved numbers its CPUs as Intel's firmware does.
	interleaved = "package:2 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		machine *topology.Topology
		expr    string
		want    string // the places
	}{
		// A place for each object, in order.
		{shape(t, server), "package:0.core:0-3", "0-1 2-3 4-5 6-7"},
		{shape(t, server), "core:3 core:0", "6-7 0-1"},
		{shape(t, server), "core:31:2", "62-63 0-1"},
		{shape(t, server), "package:0", "0-31"},
		{shape(t, server), "core:0 core:0-1", "0-1 0-1 2-3"},
		{shape(t, server), "l3:0-1 ~core:all.pu:1", "0,2,4,6 8,10,12,14"},
		{shape(t, server), "core:0-2 ~core:1", "0-1 4-5"},
		{shape(t, server), "core:0-2 xpu:0-3", "0-1 2-3"},
		{shape(t, server), "core:0-1 ^pu:1-4", "0 4"},
		{shape(t, server), "  numa:1.llc:1\tcore:0 ", "24-31 0-1"},
		{shape(t, server), "machine", "0-63"},
		{shape(t, server), "cpu:5 thread:6 CORE:EVEN.pu:1 ~package:1 ~numa:1 ~llc:1", "5 6 1 5"},

		// Lists and masks are one place.
		{shape(t, server), "0-3,8", "0-3,8"},
		{shape(t, server), "0-10:2", "0,2,4,6,8,10"},
		{shape(t, server), "0-15:2/8", "0-1,8-9"},
		{shape(t, server), "!4-63", "0-3"},
		{shape(t, server), "all,!8-63", "0-7"},
		{shape(t, server), "0xff ~0-3 8", "4-7 8"},
		{shape(t, server), "0x1,00000000 0x1,0x3", "32 0-1,32"},
		{shape(t, server), "0xf...f", "0-63"},
		{shape(t, server), "0xf...f,0x5", "0,2,32-63"},
		{shape(t, server), "0xf...f,,0x5", "0,2"}, // 64 on are not there, and an unending mask need not know
		{shape(t, server), "0-15 xnuma:0 ~core:0", "2-15"},

		// What differs in the middle of a machine.
		{laptop(), "kind:performance", "0-2"},
		{laptop(), "kind:Efficiency.core:1-2", "5 6"},
		{laptop(), "kind:Arm part 0xd.0c.core:all", "8 9"},
		{laptop(), "all ~kind:arm part 0xd.0c", "0-2,4-7"},
		{laptop(), "package:0.kind:efficiency", "4-7"},
		{laptop(), "l2:0.kind:efficiency", "4-7"},
		{laptop(), "llc:all", "0-2,4-7 8-9"},
		{laptop(), "l2:1", "8-9"},
		{laptop(), "l1i:0", "8-9"},
		{laptop(), "cluster:0.core:3", "7"},
		{laptop(), "core:all.pu:1", "1"}, // the cores that have a second one
		{laptop(), "core:0-1.pu:0-1", "0 1 2"},
		{laptop(), "numa:all", "0-2,4-9"},
		{laptop(), "numa:0", "0-2,4-9"},
		{laptop(), "pu:3-4", "4 5"},
		{bare(), "pu:odd", "1 3"},
		{bare(), "all ~2", "0-1,3"},

		// likwid's, where likwid-pin itself cannot be asked.
		{laptop(), "likwid:N:0-3", "0 2 4 5"},
		{laptop(), "likwid:N", "0 1 2 4 5 6 7 8 9"},
		{laptop(), "likwid:C:scatter", "0 8 2 9 4 5 6 7 1"},
		{laptop(), "likwid:M:scatter:2", "0 2"},
		{laptop(), "likwid:M:balanced", "0 1 2 4 5 6 7 8 9"}, // of the nodes that have CPUs
		{laptop(), "likwid:L:0,8", "0 1"},
		{bare(), "likwid:3-2", "3 2"},
		{shape(t, interleaved), "likwid:S1:0-1@E:S0:2", "2 3 0 4"},

		// OpenMP's names.
		{shape(t, interleaved), "omp:threads", "0 4 1 5 2 6 3 7"},
		{shape(t, interleaved), "omp: Cores ( 2 ) ", "0,4 1,5"},
		{shape(t, interleaved), "omp:sockets", "0-1,4-5 2-3,6-7"},
		{shape(t, server), "omp:ll_caches(3)", "0-7 8-15 16-23"},
		{shape(t, server), "omp:numa_domains", "0-15 16-31 32-47 48-63"},
		{laptop(), "omp:numa_domains", "0-2,4-9"},
		{laptop(), "omp:{0:3},4:2", "0-2 4 5"},
	} {
		got, err := place.Parse(c.expr, c.machine)
		if err != nil || list(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.expr, list(got), err, c.want)
		}
	}
}

func TestParseLogical(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{"0-1", "0,4"},
		{"0,2 3", "0-1 5"},
		{"all,!0", "1-7"},
		{"!0-3", "2-3,6-7"},
		{"0x3 ~1", "0-1"}, // a mask is Linux's, and L#1 is CPU 4
		{"core:0 ~0", "4"},
		{"all ~core:1-", "0,4"},
		{"likwid:4", "4"},
		{"omp:{4}", "4"},
	} {
		got, err := place.ParseLogical(c.expr, shape(t, interleaved))
		if err != nil || list(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.expr, list(got), err, c.want)
		}
	}
	_, err := place.ParseLogical("0,8", shape(t, interleaved))
	if err == nil || !strings.Contains(err.Error(), "8 is not there; 0-7 are logical CPUs here") {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		machine *topology.Topology
		expr    string
		offset  int
		says    string
	}{
		{bare(), "", 0, "the expression is empty"},
		{bare(), " \n", 0, "the expression is empty"},
		{shape(t, server), "package:1.cor:0", 10, `at "cor" (character 11): no such type of object; did you mean core?`},
		{shape(t, server), "sokcet:0", 0, "did you mean socket?"},
		{shape(t, server), "frobnicate:0", 0, "it is one of machine, package"},
		{shape(t, server), "l9:0", 0, "did you mean l1?"},
		{shape(t, server), "core", 4, "at its end: core needs an index; for example core:0, core:0-3 or core:all"},
		{shape(t, server), "core.pu:0", 4, "core needs an index"},
		{shape(t, server), "package:0.core", 14, "core needs an index"},
		{shape(t, server), "package:0.", 10, "a type of object is missing"},
		{shape(t, server), "package:0..core:0", 10, "a type of object is missing"},
		{shape(t, server), "corner", 0, `neither a type of object nor a list of CPUs; did you mean core?`},
		{shape(t, server), "core:", 5, "a number is missing; an index is N, N-M"},
		{shape(t, server), "core:al", 5, "did you mean all?"},
		{shape(t, server), "core:P#3", 5, "indexes are logical"},
		{shape(t, server), "core:1x", 6, "the index does not end here"},
		{shape(t, server), "core:1,3", 6, "write a term for each"},
		{shape(t, server), "core:0~core:1", 6, "put a space before ~"},
		{shape(t, server), "core:32", 5, "the machine has 32 cores, 0-31"},
		{shape(t, server), "core:30-32", 8, "the machine has 32 cores, 0-31"},
		{shape(t, server), "package:1.core:0-16", 17, "package:1 has 16 cores, 0-15"},
		{shape(t, server), "numa:all.core:8", 14, "the most that any of numa:all has is 8 cores, 0-7"},
		{shape(t, server), "core:99999999999", 5, "the number is over 65536"},
		{shape(t, server), "package:0.package:odd", 18, "package:0 has 1 package, number 0"},
		{shape(t, server), "core:0.package:0", 7, "no package lies inside core:0; the outer object comes first"},
		{shape(t, server), "package:0 core:7 ~foo:3", 18, "no such type of object"},
		{shape(t, server), "die:0", 0, "of this machine no die is known"},
		{shape(t, server), "~core:0", 0, "begin with all"},
		{shape(t, server), "xcore:0", 0, "begin with all"},
		{shape(t, server), "core:0 ~", 7, "nothing follows the operator"},
		{shape(t, server), "core:0 ~ core:1", 7, "nothing follows the operator"},
		{shape(t, server), "core:0 ~core:0", 7, "no CPU is left"},
		{shape(t, server), "package:0 xpackage:1 ~0", 21, "there is nothing before it"},
		{shape(t, server), "0,64", 2, `at "64" (character 3): 64 is not there; 0-63 are online`},
		{shape(t, server), "0-3,60-70", 4, "64-70 are not there"},
		{shape(t, server), "0-3,5-", 4, "a number is missing"},
		{shape(t, server), "0,,2", 2, "an item is empty"},
		{shape(t, server), "0,", 2, "an item is empty"},
		{shape(t, server), "!all", 0, "it names no CPU"},
		{shape(t, server), "0x0", 0, "it names no CPU"},
		{shape(t, server), "core:0 0xfz", 7, "not a hexadecimal digit"},
		{shape(t, server), "0x1,,", 0, "1 to 8 digits"},
		{shape(t, server), "0xf,,0x0", 0, "64-67 are not there"},
		{shape(t, server), "0-3~1", 0, "put a space before ~"},
		{shape(t, server), "kind:performance", 5, "all cores of this machine are alike"},
		{laptop(), "3", 0, "3 is not there; 0-2,4-9 are online"},
		{laptop(), "kind:effciency", 5, "did you mean efficiency?"},
		{laptop(), "kind:fast", 5, "the kinds are performance, efficiency, Arm part 0xd.0c"},
		{laptop(), "kind:", 5, "the name of a kind is missing"},
		{laptop(), "cluster:0.kind:performance", 15, "cluster:0 has no performance cores"},
		{laptop(), "kind:performance:0", 5, `no cores here are of that kind; did you mean performance?`},
		{laptop(), "numa:1", 0, "the NUMA node has no CPUs"},
		{laptop(), "core:all.pu:2", 12, "the most that any of core:all has is 2 CPUs, 0-1"},
		{laptop(), "kernel:é", 0, `at "kernel" (character 1): no such type`},
		{laptop(), "pu:0 é:3", 5, `at "é" (character 6)`},
		{laptop(), "é pu:0 pü:3", 0, "not a CPU number"},
		{bare(), "core:0", 0, "of this machine no core is known"},
		{bare(), "llc:0", 0, "no last-level cache is known"},
		{bare(), "l1i:0", 0, "no L1i cache is known"},

		// Where hwloc-calc goes on, in silence or with a warning.
		{shape(t, server), "core:3-1", 5, "the range runs backwards"},
		{shape(t, server), "core:0:33", 7, "the machine has 32 cores"},
		{shape(t, server), "core:40:2", 5, "the machine has 32 cores"},
		{shape(t, server), "core:0:0", 7, "no object at all"},
		{shape(t, server), "core:allx", 5, "did you mean all?"},

		{shape(t, server), "likwid:", 7, "the expression is empty; for example likwid:S0:0-3"},
		{shape(t, server), "likwid:S0:0-3@", 14, "no domain"},
		{shape(t, server), "likwid:S0:0-3@S2:0", 14, "the machine has 2 packages, 0-1"},
		{shape(t, server), "likwid:Q0:1", 7, "no domain; the domains are N"},
		{shape(t, server), "likwid:S:0-3", 7, "S is not one domain but all of its sort; give its number, as in S0"},
		{shape(t, server), "likwid:E:S:3", 9, "S is not one domain"},
		{shape(t, server), "likwid:S0:0 1", 11, "the part does not end here"},
		{shape(t, server), "likwid:S:sactter", 9, "did you mean scatter?"},
		{shape(t, server), "likwid:L:S0", 11, "a list is missing; as in L:S0:0-3"},
		{shape(t, server), "likwid:E:N:4:1", 14, "a stride is missing"},
		{shape(t, server), "likwid:E:N:4:1:0", 15, "it is at least 1"},
		{shape(t, server), "likwid:E:N:4:1:2:3:4", 18, "the part does not end here"},
		{shape(t, server), "likwid:M1:0,", 12, "a number is missing"},
		{laptop(), "likwid:M1:0", 7, "the domain has no CPUs"},
		{laptop(), "likwid:C:balanced:6", 9, "an equal share is 3 threads, and one of the domains has 2; scatter takes more"},
		{laptop(), "likwid:2-4", 9, "CPU 3 is not there"},
		{bare(), "likwid:S0", 7, "of this machine no package is known"},
		{bare(), "likwid:D0", 7, "of this machine no package is known"},

		// Where likwid-pin goes round, or passes over it.
		{shape(t, server), "likwid:S0:0,32", 12, "S0 has 32 hardware threads, 0-31"},
		{shape(t, server), "likwid:E:N:65:1:1", 11, "the machine has only 64 CPUs"},
		{shape(t, server), "likwid:E:S0:4:1:1:32", 18, "S0 has 32 hardware threads"},
		{shape(t, server), "likwid:S:scatter:65", 17, "it is from 1 to 64"},
		{shape(t, server), "likwid:0,64", 9, "CPU 64 is not there; 0-63 are online"},

		{shape(t, server), "omp:", 4, "a place is missing"},
		{shape(t, server), "omp:{0:4", 8, "the place is not closed"},
		{shape(t, server), "omp:{0},", 8, "a place is missing"},
		{shape(t, server), "omp:{0-3}", 6, "the place is not closed"},
		{shape(t, server), "omp:{}", 5, "a number is missing"},
		{shape(t, server), "omp:{0,!1}", 7, "CPU 1 is not in the place"},
		{shape(t, server), "omp:{0},!{1}", 8, "that place is not among those before it"},
		{shape(t, server), "omp:{0},!{0}:2", 12, "an excluded place has no count"},
		{shape(t, server), "omp:{0},!{0}", 8, "no place is left"},
		{shape(t, server), "omp:socket", 4, "did you mean sockets?"},
		{shape(t, server), "omp:cores(33)", 10, "it is from 1 to 32"},
		{shape(t, server), "omp:cores(3", 11, "the parenthesis is not closed"},
		{shape(t, server), "omp:cores,threads", 9, "a name of places stands alone"},
		{bare(), "omp:sockets", 4, "of this machine no package is known"},

		// Where libgomp mends it.
		{shape(t, server), "omp:{60:4}:2:4", 11, "CPU 64 is not there"},
		{shape(t, server), "omp:{62:4}", 8, "CPU 64 is not there"},
		{shape(t, server), "omp:{64}", 5, "CPU 64 is not there"},

		// What would never end, or fill the memory.
		{shape(t, server), "omp:{0:4}:1000000000", 10, "over 65536"},
		{shape(t, server), "omp:{0:4}:65536:0,{0}", 18, "more than 65536 places"},
		{shape(t, "core:4096 pu:1"), "omp:{0:2048}:2048,{0:2048}:2048", 13, "more than 1048576 CPUs in all"},
		{shape(t, "core:4096 pu:1"), "core:all" + strings.Repeat(" core:all", 16), 8*16 + 16, "more than 65536 places"},
		{shape(t, "core:4096 pu:1"), "likwid:" + strings.Repeat("0-4095,", 17), 7, "more than 65536 places"},
		{shape(t, server), strings.Repeat("core:0 ", 1001), 7000, "more than 1000 terms"},
		{shape(t, "core:4096 pu:1"), "likwid:N" + strings.Repeat("@N", 16), 8 + 2*16 - 1, "more than 65536 places"},
	} {
		got, err := place.Parse(c.expr, c.machine)
		var e *place.Error
		if !errors.As(err, &e) || got != nil || e.Offset != c.offset || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%.60s: %v, %v; want %q at %d", c.expr, got, err, c.says, c.offset)
		}
	}
}

func TestCaret(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{"package:1.cor:0", "package:1.cor:0\n          ^"},
		{"core", "core\n    ^"},
		{"pu:0\té:1", "pu:0 é:1\n     ^"},
		{strings.Repeat("pu:0 ", 20) + "é:0 " + strings.Repeat("pu:0 ", 20),
			"…" + strings.Repeat("pu:0 ", 10) + "é:0 pu:0 pu:0 pu:0 p…\n" + strings.Repeat(" ", 51) + "^"},
	} {
		_, err := place.Parse(c.expr, shape(t, server))
		var e *place.Error
		if !errors.As(err, &e) || e.Caret() != c.want {
			t.Errorf("%q: %v\n%s\nwant\n%s", c.expr, err, e.Caret(), c.want)
		}
	}
	if e := (&place.Error{Expr: "\xff\x00pu", Offset: 2, Found: "pu"}); e.Caret() != "\ufffd pu\n  ^" {
		t.Errorf("%q", e.Caret())
	}
}

func TestPlaces(t *testing.T) {
	p := place.Places{cpus("0-3"), cpus("8"), cpus("2-5,9")}
	if got := list(p.Within(cpus("3-9"))); got != "3 8 3-5,9" {
		t.Error(got)
	}
	if got := p.Within(cpus("9")); list(got) != "9" {
		t.Error(got)
	}
	if got := p.Union().String(); got != "0-5,8-9" {
		t.Error(got)
	}
	if got := p.OMP(); got != "{0:4},{8},{2:4,9}" {
		t.Error(got)
	}
	for list, want := range map[string]string{"": "0x0", "0": "0x00000001", "31-32": "0x00000001,0x80000000", "0,96": "0x00000001,,,0x00000001", "96": "0x00000001,,,0x0"} {
		if got := place.Hwloc(cpus(list)); got != want {
			t.Errorf("%s: %s, want %s", list, got, want)
		}
	}
}

// check holds what any expression must keep to.
func check(t *testing.T, expr string) {
	for _, machine := range []*topology.Topology{laptop(), bare(), shape(t, server), shape(t, interleaved)} {
		for _, parse := range []func(string, *topology.Topology) (place.Places, error){place.Parse, place.ParseLogical} {
			places, err := parse(expr, machine)
			if err != nil {
				var e *place.Error
				if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(e.Expr) || !strings.HasPrefix(expr, e.Expr) || e.Why == "" {
					t.Fatalf("%q: %#v", expr, err)
				}
				e.Caret()
				continue
			}
			if len(places) == 0 || len(places) > cpuset.Limit {
				t.Fatalf("%q: %d places", expr, len(places))
			}
			for _, set := range places {
				if set.IsEmpty() || !set.SubsetOf(machine.Online) {
					t.Fatalf("%q: a place is %q of %s", expr, set, machine.Online)
				}
			}
			if len(places) > 1000 {
				continue
			}
			again, err := place.Parse("omp:"+places.OMP(), machine)
			if err != nil || list(again) != list(places) {
				t.Fatalf("%q: %s is %s again, %v", expr, list(places), list(again), err)
			}
			union, err := place.Parse(place.Hwloc(places.Union()), machine)
			if err != nil || !union.Union().Equal(places.Union()) {
				t.Fatalf("%q: %s is %s by its mask, %v", expr, places.Union(), union, err)
			}
		}
	}
}

func FuzzLocations(f *testing.F) {
	for _, s := range []string{"package:1.core:0-3 ~pu:odd", "all xl3:1 ^core:0-", "kind:efficiency.core:3:2", "0-3,!2 0xf...f,,0x3", "!0-3", "pu:0", "é"} {
		f.Add(s)
	}
	f.Fuzz(check)
}

func FuzzLikwid(f *testing.F) {
	for _, s := range []string{"S0:0-3@S1:0-3", "E:N:4:1:2", "E:S0:4:2:4:1", "M:scatter:3", "S:balanced", "L:C0:3-0", "0,2-1@N", "S", "E:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { check(t, "likwid:"+s) })
}

func FuzzOMP(f *testing.F) {
	for _, s := range []string{"{0:4}:2:4", "{0,1,!1},4:2", "{3:4:-1},!{0:4}", "cores(2)", " { 0 : 2 } : 2 : 0", "{0:4}:1000000000", "{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { check(t, "omp:"+s) })
}

func BenchmarkParse(b *testing.B) {
	machine := shape(b, "package:8 numa:2 l3:8 core:16 pu:2") // 4096 CPUs
	for _, expr := range []string{"package:1.core:0-3 ~pu:0", "core:all.pu:0", "package:all.l3:all.core:all.pu:1", "likwid:C:scatter", "omp:{0:32}:128:32", "omp:cores"} {
		b.Run(expr, func(b *testing.B) {
			for b.Loop() {
				if _, err := place.Parse(expr, machine); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
