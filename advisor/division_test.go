package advisor

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

var (
	epycLike = shape{nodes: 2, groups: 8, cores: 4, threads: 2, memoryMiB: 512 << 10} // 64 cores, 128 CPUs
	twoCPUs  = shape{nodes: 1, groups: 1, cores: 2, threads: 1, memoryMiB: 8 << 10}
	large    = shape{nodes: 2, groups: 12, cores: 12, threads: 2, memoryMiB: 1 << 20} // 288 cores, 576 CPUs
)

// profilesOf parses profiles of one line each, "NAME: YAML", with flow style inside.
func profilesOf(t *testing.T, texts ...string) []*profiles.Profile {
	t.Helper()
	var out []*profiles.Profile
	for _, text := range texts {
		name, body, _ := strings.Cut(text, ": ")
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: "+name+"\n"+body), name)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		out = append(out, p)
	}
	return out
}

// sketch is what the table says of a division: for each part its CPUs, its budget and
// whom it shares with.
func sketch(d *Division) string {
	var parts []string
	for _, p := range d.Parts {
		text := fmt.Sprintf("%s %s", p.Profile, p.CPUs)
		if p.BudgetCPUs != float64(p.CPUs.Len()) {
			text += " budget " + number(p.BudgetCPUs)
		}
		if len(p.SharesWith) > 0 {
			text += " with " + strings.Join(p.SharesWith, "+")
		}
		parts = append(parts, text)
	}
	if !d.LeftCPUs.IsEmpty() {
		parts = append(parts, "left "+d.LeftCPUs.String())
	}
	if !d.Feasible {
		parts = append(parts, "infeasible")
	}
	return strings.Join(parts, "; ")
}

const (
	batch  = "batch: work: {kind: float}"
	urgent = "serve: objective: latency\nwork: {cpu_ms: 8}\nload: {arrival_per_s: 300, wait_target_ms: 6}" // M/M/6 alone
	ingest = "ingest: work: {kind: service, cpu_ms: 1, wait_ms: 99}\nload: {arrival_per_s: 200}"           // 0.204 CPUs
)

func TestDivide(t *testing.T) {
	for _, c := range []struct {
		name     string
		machine  shape
		change   func(*probe.Machine)
		profiles []string
		want     string
	}{
		{name: "halves", machine: eight, profiles: []string{"a: work: {kind: float}", "b: work: {kind: float}"}, want: "a 0-3; b 4-7"},
		{name: "by priority", machine: eight, profiles: []string{"a: priority: 3\nwork: {kind: float}", "b: work: {kind: float}"}, want: "a 0-5; b 6-7"},
		{name: "a rate has its demand, the other the rest", machine: eight,
			profiles: []string{batch, "rate: work: {cpu_ms: 10}\nload: {arrival_per_s: 150}"}, want: "batch 0-5; rate 6-7"},
		{name: "priority is for what is short", machine: eight,
			profiles: []string{"batch: priority: 100\nwork: {kind: float}", "rate: work: {cpu_ms: 10}\nload: {arrival_per_s: 90}"}, want: "batch 0-6; rate 7"},
		{name: "demands below the supply leave cores over", machine: eight,
			profiles: []string{"a: load: {tasks: 2}", "b: load: {tasks: 3}"}, want: "a 3-4; b 0-2; left 5-7"},
		{name: "siblings stay together", machine: shape{nodes: 1, groups: 1, cores: 4, threads: 2}, profiles: []string{"a: work: {kind: integer}", "b: work: {kind: integer}"}, want: "a 0-1,4-5; b 2-3,6-7"},
		{name: "last-level caches whole", machine: epycLike,
			profiles: []string{"a: load: {tasks: 4}\nwork: {kind: float, communicates: true}", "b: load: {tasks: 8}", "c: load: {tasks: 3}"},
			want:     "a 0-3,64-67; b 4-11,68-75; c 12-14,76-78; left 15-63,79-127"},
		{name: "three stages", machine: sixteen, profiles: []string{ingest, batch, urgent},
			want: "ingest 6-15,22-31 budget 0.2041 with batch; batch 6-15,22-31 budget 19.8 with ingest; serve 0-5,16-21"},
		{name: "it waits beside the lowest priority", machine: eight, profiles: []string{ingest, "a: work: {kind: float}", "b: priority: 0.5\nwork: {kind: float}"},
			want: "ingest 5-7 budget 0.2041 with b; a 0-4; b 5-7 budget 2.796 with ingest"},
		{name: "beside latency nobody sits", machine: eight, profiles: []string{ingest, urgent}, want: "ingest 6; serve 0-5; left 7"},
		{name: "a host whose demand leaves no time", machine: eight,
			profiles: []string{ingest, "a: load: {tasks: 4}"}, want: "ingest 4; a 0-3; left 5-7"},
		{name: "fast cores for latency", machine: hybrid, profiles: []string{"a: work: {kind: float}", "z: objective: latency\nload: {tasks: 2}"}, want: "a 2-7; z 0-1"},
		{name: "alike, each has of both kinds", machine: hybrid, profiles: []string{"a: work: {kind: float}", "b: work: {kind: float}"}, want: "a 0-1,4-5; b 2-3,6-7"},
		{name: "two CPUs for two", machine: twoCPUs, profiles: []string{batch, "b: work: {kind: float}"}, want: "batch 1; b 0"},
		{name: "two CPUs for three", machine: twoCPUs, profiles: []string{"a: priority: 2\nwork: {kind: float}", "b: work: {kind: float}", "c: work: {kind: float}"},
			want: "a 0; b 1 budget 0.5 with c; c 1 budget 0.5 with b"},
		{name: "the lower priority yields on a shared core", machine: shape{nodes: 1, groups: 1, cores: 1, threads: 1},
			profiles: []string{"a: priority: 3\nwork: {kind: float}", "b: work: {kind: float}"}, want: "a 0 budget 0.75 with b; b 0 budget 0.25 with a"},
		{name: "a quota for three", machine: eight.under(1.5), profiles: []string{"a: work: {kind: float}", "b: work: {kind: float}", "c: work: {kind: float}"},
			want: "a 0-7 budget 0.5 with b+c; b 0-7 budget 0.5 with a+c; c 0-7 budget 0.5 with a+b"},
		{name: "a quota by demand and priority", machine: eight.under(3.5), profiles: []string{"a: priority: 2\nwork: {kind: float}", "b: work: {kind: float}", "c: load: {arrival_per_s: 49}\nwork: {cpu_ms: 10}"},
			want: "a 0-7 budget 2 with b+c; b 0-7 budget 1 with a+c; c 0-7 budget 0.5 with a+b"},
		{name: "a quota no smaller than the CPUs", machine: twoCPUs.under(2), profiles: []string{"a: work: {kind: float}", "b: work: {kind: float}"}, want: "a 0; b 1"},
		{name: "avoided by one, had by the other", machine: shape{nodes: 1, groups: 1, cores: 2, threads: 1}, profiles: []string{"a: limits: {avoid_cpus: '0'}", "b: work: {kind: float}"}, want: "a 1; b 0"},
		{name: "both avoid the same", machine: twoCPUs, profiles: []string{"a: limits: {avoid_cpus: '0'}", "b: limits: {avoid_cpus: '0'}"}, want: "a 1 budget 0.5 with b; b 1 budget 0.5 with a; left 0"},
		{name: "one kept for each of two with little choice", machine: eight, profiles: []string{"a: limits: {avoid_cpus: '2-7'}", "b: limits: {avoid_cpus: '2-7'}"}, want: "a 1; b 0; left 2-7"},
		{name: "reserved for all", machine: eight, profiles: []string{"a: limits: {reserve_cores: 2}", "b: limits: {reserve_cores: 1, avoid_cpus: '3'}"}, want: "a 1-2,4; b 5-7"},
		{name: "all reserved", machine: twoCPUs, profiles: []string{"a: limits: {reserve_cores: 2}", batch}, want: "a 1 budget 0.5 with batch; batch 1 budget 0.5 with a; infeasible"},
		{name: "near a device", machine: twoNode, change: func(m *probe.Machine) {
			at := 1
			m.Devices = []probe.Device{{Kind: "nic", Name: "eth0", NUMANode: &at}}
		}, profiles: []string{"a: load: {tasks: 3}", "b: load: {tasks: 3}\nwork: {near: 'nic:eth0'}"}, want: "a 12-14,28-30; b 8-10,24-26; left 0-7,11,15-23,27,31"},
		{name: "isolated CPUs are not divided", machine: eight, change: func(m *probe.Machine) {
			set := cpuset.Range(6, 7)
			m.Topology.Isolated = &set
		}, profiles: []string{"a: work: {kind: float}", "b: work: {kind: float}"}, want: "a 0-2; b 3-5"},
		{name: "memory is divided too", machine: eight, profiles: []string{"a: model: processes\nlimits: {memory_per_worker_mib: 16384}", "b: model: processes\nlimits: {memory_per_worker_mib: 16384}"},
			want: "a 0-2; b 3-5; left 6-7"},
		{name: "memory for neither", machine: twoCPUs, profiles: []string{"a: model: processes\nlimits: {memory_per_worker_mib: 5000}", "b: model: processes\nlimits: {memory_per_worker_mib: 5000}"},
			want: "a 0; b 1; infeasible"},
		{name: "more is asked for than there is", machine: twoCPUs, profiles: []string{urgent, batch}, want: "serve 0; batch 1; infeasible"},
		{name: "a large machine", machine: large, profiles: []string{batch, urgent, ingest}, want: "batch 6-287,294-575 budget 563.8 with ingest; serve 0-5,288-293; ingest 6-287,294-575 budget 0.2041 with batch"},
		{name: "one has all", machine: eight, profiles: []string{"a: load: {tasks: 2}"}, want: "a 0-7"},
	} {
		m := c.machine.machine()
		if c.change != nil {
			c.change(m)
		}
		d, err := Divide(m, profilesOf(t, c.profiles...), nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := sketch(d); got != c.want {
			t.Errorf("%s:\n%s\ninstead of\n%s\n%s", c.name, got, c.want, strings.Join(d.Reasons, "\n"))
		}
	}
}

func TestDivideRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*probe.Machine)
		ps     []string
		c      *probe.Calibration
		want   string
	}{
		{ps: nil, want: "no profile"},
		{ps: []string{batch, urgent, batch}, want: `two profiles have the name "batch"`},
		{change: func(m *probe.Machine) { m.Topology.Allowed = cpuset.Set{} }, ps: []string{batch, urgent}, want: "allows no CPU"},
		{change: func(m *probe.Machine) { m.Fingerprint = "a" }, ps: []string{batch, urgent}, c: &probe.Calibration{Fingerprint: "b"}, want: "measured on machine b"},
	} {
		m := eight.machine()
		if c.change != nil {
			c.change(m)
		}
		if _, err := Divide(m, profilesOf(t, c.ps...), c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, and not %q", c.ps, err, c.want)
		}
	}
}

// What a part's plan is: on its CPUs alone, under its part of the quota, and held to its
// CPUs where nothing pins it closer.
func TestPartsPlans(t *testing.T) {
	waits := "a: work: {kind: service, cpu_ms: 10, wait_ms: 90}"
	for _, c := range []struct {
		name    string
		machine shape
		change  func(*probe.Machine)
		ps      []string
		want    []string // summaries of the plans
	}{
		{name: "pinned", machine: eight, ps: []string{batch, "b: work: {kind: float}"}, want: []string{"threads 1×4, cores, per_core 4-7, 4×", "threads 1×4, cores, per_core 0-3, 4×"}},
		{name: "more threads than CPUs", machine: eight, ps: []string{waits, batch}, want: []string{"threads 1×48, cpu, per_group 0-3, 39.34×", "threads 1×4, cores, per_core 4-7, 4×"}},
		{name: "CPUs avoided", machine: eight, ps: []string{"a: limits: {avoid_cpus: '0'}", "b: work: {kind: float}"}, want: []string{"threads 1×4, cores, per_core 1-4, 4×", "threads 1×4, cores, per_core 0,5-7, 4×"}},
		{name: "a quota", machine: eight.under(4), ps: []string{"a: work: {kind: float}", "b: priority: 3\nwork: {kind: float}"}, want: []string{"threads 1×1, quota, none 0-7, 1×", "threads 1×3, quota, none 0-7, 3×"}},
		{name: "a virtual machine", machine: eight, change: func(m *probe.Machine) { m.Host.Hypervisor = "kvm" },
			ps: []string{"a: model: processes", "b: load: {tasks: 2}"}, want: []string{"processes 6×1, cores, per_group 0-5, 6×", "threads 1×2, cores, per_group 6-7, 2×"}},
		{name: "a container without CPUs of its own", machine: eight, change: func(m *probe.Machine) { m.Host.Container = "docker" },
			ps: []string{"a: work: {kind: float}", "b: work: {kind: float}"}, want: []string{"threads 1×4, cores, per_group 0-3, 4×", "threads 1×4, cores, per_group 4-7, 4×"}},
		{name: "memory for some of each", machine: eight, ps: []string{"a: model: processes\nlimits: {memory_per_worker_mib: 16384}", "b: model: processes\nlimits: {memory_per_worker_mib: 8192}"},
			want: []string{"processes 2×1, memory, per_core 5-6, 2×", "processes 3×1, memory, per_core 0-2, 3×"}},
	} {
		m := c.machine.machine()
		if c.change != nil {
			c.change(m)
		}
		d, err := Divide(m, profilesOf(t, c.ps...), nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for i, want := range c.want {
			if said := strings.Join(d.Parts[i].Plan.Assumptions, "\n"); strings.Contains(said, "to avoid") {
				t.Errorf("%s: the plan speaks of what the division settled: %s", c.name, said)
			}
			if got := summary(d.Parts[i].Plan); got != want {
				t.Errorf("%s: %s: %s\ninstead of %s", c.name, d.Parts[i].Profile, got, want)
			}
			if plan := d.Parts[i].Plan; plan.Placement.Pin == PerGroup && strings.Contains(plan.Placement.Why, "not pinned") {
				t.Errorf("%s: seats, and %q", c.name, plan.Placement.Why)
			}
		}
	}
}

func TestDemand(t *testing.T) {
	all := math.Inf(1)
	for _, c := range []struct {
		machine shape
		profile string
		want    float64
		says    string
	}{
		{eight, "work: {kind: float}", all, "all it can get"},
		{eight, "work: {cpu_ms: 10}\nload: {arrival_per_s: 98}", 1, "98/s × 10 ms ÷ 0.98 = 1 CPUs"},
		{eight, "work: {cpu_ms: 10}\nload: {arrival_per_s: 98}\nlimits: {target_utilisation: 0.49}", 2, "÷ 0.49"},
		{eight, "work: {cpu_ms: 10}\nload: {arrival_per_s: 9800}", 100, ""},
		{eight, "load: {tasks: 3}", 3, "there are 3 tasks"},
		{eight, "load: {tasks: 30}", all, ""},
		{eight, "work: {cpu_ms: 10, wait_ms: 90}", all, ""},
		{eight, "work: {cpu_ms: 10, wait_ms: 90}\nload: {tasks: 9}", 0.9 / 0.98, "there are 9 tasks"},
		{eight, "work: {cpu_ms: 10, wait_ms: 90}\nload: {arrival_per_s: 300}\nlimits: {downstream_concurrency: 10}", 1 / 0.98, "takes 10 tasks at once"},
		{eight, "model: processes\nlimits: {memory_per_worker_mib: 20000}", 2, "2 workers of 20000 MiB"},
		{eight, "objective: latency\nwork: {cpu_ms: 8}\nload: {arrival_per_s: 300, wait_target_ms: 6}", 6, "6 cores keep the wait within 6 ms"},
		{twoCPUs, "objective: latency\nwork: {cpu_ms: 8}\nload: {arrival_per_s: 300, wait_target_ms: 6}", all, "no part of this machine meets its target"},
		{eight, "work: {cpu_ms: 1, wait_ms: 60, blocking: false}\nload: {arrival_per_s: 1500}", 3, "3 event loops for 1500 per second"},
		{eight, "work: {cpu_ms: 1, wait_ms: 60, blocking: false}\nload: {arrival_per_s: 140}", 0.2, "140/s × 1 ms ÷ 0.7 = 0.2 of an event loop"},
		{eight, "work: {kind: float}\nscaling: {sigma: 0.02, kappa: 0.05}", 4, "the fitted law falls"},
		{hybrid, "work: {kind: float, partition: static}", 4, "a slower core would set the pace"},
		{hybrid, "load: {tasks: 6}", 5, "there are 6 tasks"}, // four of 1 and two of 0.5
		{eight.under(2.5), "work: {kind: float}", all, ""},
	} {
		p := profilesOf(t, "x: "+c.profile)[0]
		s, err := consider(c.machine.machine(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, why := s.demandCPUs()
		if got != c.want && math.Abs(got-c.want) > 1e-3 || !strings.Contains(why, c.says) {
			t.Errorf("%q: %v CPUs, %q; not %v, %q", c.profile, got, why, c.want, c.says)
		}
	}
}

func TestFairly(t *testing.T) {
	all := math.Inf(1)
	for _, c := range []struct {
		amount                 float64
		demands, weights, want []float64
	}{
		{6, []float64{all, all, all}, []float64{1, 1, 1}, []float64{2, 2, 2}},
		{6, []float64{1, all, all}, []float64{1, 1, 1}, []float64{1, 2.5, 2.5}},
		{6, []float64{all, all}, []float64{2, 1}, []float64{4, 2}},
		{6, []float64{1, 1}, []float64{1, 9}, []float64{1, 1}},
		{6, []float64{5, 1, 4}, []float64{1, 1, 1}, []float64{2.5, 1, 2.5}},
		{0, []float64{1, all}, []float64{1, 1}, []float64{0, 0}},
		{10, []float64{2.2, all, 3.9}, []float64{1, 0.5, 2}, []float64{2.2, 3.9, 3.9}},
	} {
		got := fairly(c.amount, c.demands, c.weights)
		for i := range got {
			if math.Abs(got[i]-c.want[i]) > 1e-9 {
				t.Errorf("%v of %v by %v: %v instead of %v", c.amount, c.demands, c.weights, got, c.want)
			}
		}
	}
}
