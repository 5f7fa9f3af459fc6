package emit

import (
	"context"
	"testing"

	"berth/advisor"
	"berth/probe"
	"berth/profiles"
)

// testPlan is a plan by its ingredients.
type testPlan struct {
	name    string
	machine string // synthetic
	profile string // YAML below the name; flow style keeps it to a line
	change  func(*probe.Machine)
}

func (c testPlan) advise(t testing.TB) *advisor.Plan {
	t.Helper()
	source, err := probe.Synthetic(c.machine)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	m.Fingerprint = "0123456789abcdef0123456789abcdef" // as good as any
	if c.change != nil {
		c.change(m)
	}
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: "+c.name+"\n"+c.profile), c.name)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := advisor.Advise(m, p, nil)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return plan
}

func quotaOf(cpus float64) func(*probe.Machine) {
	return func(m *probe.Machine) { m.Limits.QuotaCPUs = &cpus }
}

// virtual makes a machine on which nothing is pinned.
func virtual(m *probe.Machine) { m.Host.Hypervisor = "kvm" }

const (
	desktop = "package:1 l3:1 core:4 pu:2(indexes=0,4,1,5,2,6,3,7)"
	server  = "package:2 numa:1(memory=64GiB) l3:2 core:2 pu:2"
)

// testPlans are of every shape that a plan can have.
func testPlans() []testPlan {
	return []testPlan{
		{"threads-per-cpu", desktop, "runtime: native\nwork: {kind: integer}\n", nil},
		{"threads-per-core", server, "runtime: openmp\nwork: {kind: float}\n", nil},
		{"processes-per-core", server, "model: processes\nwork: {kind: float}\n", nil},
		{"go-per-group", server, "runtime: go\n", nil},
		{"java", desktop, "runtime: java\nwork: {kind: float}\n", nil},
		{"python-processes", server, "runtime: python\n", nil},
		{"python-threads-pinned", desktop, "runtime: python\nobjective: efficiency\nwork: {cpu_ms: 10, native_ms: 8}\n", nil},
		{"python-threads", desktop, "runtime: python\nwork: {cpu_ms: 10, native_ms: 5, wait_ms: 40}\n", nil},
		{"free-threaded", desktop, "runtime: python-free-threaded\nwork: {kind: float}\n", nil},
		{"async-python", desktop, "runtime: python\nwork: {cpu_ms: 1, wait_ms: 99, blocking: false}\n", nil},
		{"async-python-downstream", desktop, "runtime: python\nwork: {cpu_ms: 1, wait_ms: 99, blocking: false}\nlimits: {downstream_concurrency: 30}\n", virtual},
		{"async-go", server, "runtime: go\nwork: {cpu_ms: 1, wait_ms: 99, blocking: false}\nload: {arrival_per_s: 3000}\n", nil},
		{"async-native", desktop, "runtime: native\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\nload: {arrival_per_s: 2000}\n", nil},
		{"node", desktop, "runtime: node\nwork: {cpu_ms: 2, wait_ms: 20, blocking: false}\n", virtual},
		{"ranks-per-node", server, "runtime: openmp\nload: {ranks_per: node}\n", nil},
		{"nested-python", server, "runtime: python\nload: {nested: true, tasks: 2}\n", nil},
		{"blocking", server, "work: {cpu_ms: 5, wait_ms: 45}\n", nil},
		{"crowd-in-groups", server, "model: processes\nwork: {cpu_ms: 10, wait_ms: 10}\nload: {tasks: 20}\n", nil},
		{"quota", desktop, "runtime: go\n", quotaOf(2.5)},
		{"small-quota", desktop, "runtime: java\n", quotaOf(0.123456)},
		{"infeasible", desktop, "work: {cpu_ms: 10, wait_ms: 10}\nload: {arrival_per_s: 5000}\n", nil},
		{"memory", desktop, "runtime: python\nlimits: {memory_per_worker_mib: 700.5, memory_shared_mib: 100, memory_reserve_fraction: 0}\n", func(m *probe.Machine) {
			bytes := int64(6 << 30)
			m.Host.MemoryBytes = &bytes
		}},
		{"one-worker", desktop, "load: {tasks: 1}\n", nil},
		{`"transcoding: 'it''s' $HOME ` + "`id`" + ` %n \\ \\\"x\\\" {a} # ü"`, desktop, "runtime: python\nobjective: latency\n", nil},
	}
}
