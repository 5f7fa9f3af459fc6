//go:build lab

package vmlab

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// document reads the first JSON document of a step's output.
func document(t *testing.T, steps map[string]string, name string, into any) {
	t.Helper()
	said := steps[name]
	at := strings.Index(said, "{")
	if at < 0 {
		t.Fatalf("%s: no JSON:\n%s", name, said)
	}
	if err := json.NewDecoder(strings.NewReader(said[at:])).Decode(into); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, said)
	}
}

// machineOf reads a step's machine.
func machineOf(t *testing.T, steps map[string]string, name string) *probe.Machine {
	t.Helper()
	var m probe.Machine
	document(t, steps, name, &m)
	return &m
}

func mustParse(t *testing.T, list string) cpuset.Set {
	t.Helper()
	set, err := cpuset.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// facts is what the guest's files said, by name.
type facts map[string]string

func factsOf(steps map[string]string) facts {
	f := facts{}
	for line := range strings.Lines(steps["facts"]) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			f[name] = text
		}
	}
	return f
}

// lists is the distinct CPU lists of the files that match, restricted to the
// online CPUs, by a reading of the guest's files that is not berth's.
func (f facts) lists(t *testing.T, pattern string) []string {
	t.Helper()
	online := mustParse(t, f["cpu/online"])
	found := map[string]bool{}
	for name, text := range f {
		if ok, _ := path.Match(pattern, name); !ok {
			continue
		}
		if set := mustParse(t, text).Intersect(online); !set.IsEmpty() {
			found[set.String()] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// optional is lists for a level that the kernel denies by an id of -1 or 65535.
func (f facts) optional(t *testing.T, level string) []string {
	t.Helper()
	kept := maps.Clone(f)
	for name := range f {
		cpu, ok := strings.CutSuffix(name, "/topology/"+level+"_cpus_list")
		if id := f[cpu+"/topology/"+level+"_id"]; ok && (id == "-1" || id == "65535") {
			delete(kept, name)
		}
	}
	return kept.lists(t, "cpu/cpu*/topology/"+level+"_cpus_list")
}

// clusters leaves out those of one CPU, which say nothing.
func (f facts) clusters(t *testing.T) []string {
	t.Helper()
	all := f.optional(t, "cluster")
	if slices.ContainsFunc(all, func(list string) bool { return mustParse(t, list).Len() > 1 }) {
		return all
	}
	return nil
}

// levels are those that a shape counts.
var levels = [...]string{"packages", "dies", "clusters", "cores", "CPUs", "nodes"}

// shape counts the objects of each level that have a CPU online, and the nodes;
// 0 stands for a level that was not asked for or is not known.
type shape [len(levels)]int

func (s shape) String() string {
	var parts []string
	for _, n := range s {
		if n == 0 {
			parts = append(parts, "–")
			continue
		}
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, "/")
}

// differs names the levels that were asked for and are not as asked.
func (s shape) differs(asked shape) []string {
	var out []string
	for i, n := range asked {
		if n != 0 && n != s[i] {
			out = append(out, levels[i])
		}
	}
	return out
}

// shape is the kernel's.
func (f facts) shape(t *testing.T) shape {
	t.Helper()
	nodes := 0
	for name := range f {
		if ok, _ := path.Match("node/node*/cpulist", name); ok {
			nodes++
		}
	}
	return shape{len(f.lists(t, "cpu/cpu*/topology/package_cpus_list")), len(f.optional(t, "die")), len(f.clusters(t)),
		len(f.lists(t, "cpu/cpu*/topology/core_cpus_list")), mustParse(t, f["cpu/online"]).Len(), nodes}
}

// shapeOf is berth's.
func shapeOf(top *topology.Topology) shape {
	return shape{len(top.Packages), len(top.Dies), len(top.Clusters), len(top.Cores), top.Online.Len(), len(top.NUMANodes)}
}

func setsOf[T any](objects []T, cpus func(T) cpuset.Set) []string {
	var out []string
	for _, o := range objects {
		if s := cpus(o); !s.IsEmpty() {
			out = append(out, s.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkAgainstFiles holds a machine against the guest's own files.
func checkAgainstFiles(t *testing.T, f facts, m *probe.Machine) {
	t.Helper()
	top := &m.Topology
	same := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: berth says %q, the files %q", what, got, want)
		}
	}
	groups := func(g topology.Group) cpuset.Set { return g.CPUs }
	same("online", []string{top.Online.String()}, []string{f["cpu/online"]})
	same("packages", setsOf(top.Packages, func(p topology.Package) cpuset.Set { return p.CPUs }), f.lists(t, "cpu/cpu*/topology/package_cpus_list"))
	same("dies", setsOf(top.Dies, func(d topology.Die) cpuset.Set { return d.CPUs }), f.optional(t, "die"))
	same("clusters", setsOf(top.Clusters, groups), f.clusters(t))
	same("cores", setsOf(top.Cores, func(c topology.Core) cpuset.Set { return c.CPUs }), f.lists(t, "cpu/cpu*/topology/core_cpus_list"))
	same("nodes", setsOf(top.NUMANodes, func(n topology.NUMA) cpuset.Set { return n.CPUs }), f.lists(t, "node/node*/cpulist"))
	same("caches", setsOf(top.Caches, func(c topology.Cache) cpuset.Set { return c.CPUs }), f.lists(t, "cpu/cpu*/cache/index*/shared_cpu_list"))
	for _, n := range top.NUMANodes {
		var row []string
		for _, d := range n.Distances {
			row = append(row, strconv.Itoa(d))
		}
		same("distances", row, strings.Fields(f["node/node"+strconv.Itoa(n.ID)+"/distance"]))
	}
	for name, got := range map[string]*cpuset.Set{"present": top.Present, "isolated": top.Isolated, "nohz_full": top.NohzFull} {
		text, ok := f["cpu/"+name]
		if text == "(null)" {
			text = ""
		}
		if ok && (got == nil && text != "" || got != nil && got.String() != text) {
			t.Errorf("%s: berth says %v, the file %q", name, got, text)
		}
	}
	if control := f["cpu/smt/control"]; control != "" && (top.SMT == nil || top.SMT.Control != control) {
		t.Errorf("smt/control: berth says %+v, the file %q", top.SMT, control)
	}
	// Capacities: those of one kind are equal, and kinds differ.
	for _, k := range top.CoreKinds {
		for c := range k.CPUs.All() {
			if text := f["cpu/cpu"+strconv.Itoa(int(c))+"/cpu_capacity"]; k.Capacity != nil && text != strconv.Itoa(*k.Capacity) {
				t.Errorf("CPU %d of kind %s: capacity %d, the file says %q", c, k.Name, *k.Capacity, text)
			}
		}
	}
	capacities := map[string]bool{}
	for name, text := range f {
		if ok, _ := path.Match("cpu/cpu*/cpu_capacity", name); ok {
			capacities[text] = true
		}
	}
	if len(capacities) > 1 && len(top.CoreKinds) != len(capacities) {
		t.Errorf("%d kinds of cores, and the files have the capacities %v", len(top.CoreKinds), slices.Sorted(maps.Keys(capacities)))
	}
}
