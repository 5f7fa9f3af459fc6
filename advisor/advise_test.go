package advisor

import (
	"fmt"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

// The machines of the table.
var (
	eight   = shape{nodes: 1, groups: 1, cores: 8, threads: 1, memoryMiB: 64 << 10}
	sixteen = shape{nodes: 1, groups: 2, cores: 8, threads: 2, memoryMiB: 64 << 10}  // 16 cores, 32 CPUs
	twoNode = shape{nodes: 2, groups: 2, cores: 4, threads: 2, memoryMiB: 128 << 10} // 16 cores, 32 CPUs
	hybrid  = shape{nodes: 1, groups: 2, cores: 4, threads: 1, slow: 512, memoryMiB: 16 << 10}
)

func (s shape) under(quota float64) shape {
	s.quota = quota
	return s
}

// summary is what the table says of a plan.
func summary(p *Plan) string {
	w := p.Workers
	parts := []string{fmt.Sprintf("%s %d×%d", w.Model, w.Processes, w.Threads)}
	if w.Inner > 0 {
		parts[0] += fmt.Sprintf("×%d", w.Inner)
	}
	if w.EventLoops > 0 {
		parts[0] += fmt.Sprintf(" loops %d flight %d", w.EventLoops, w.InFlight)
	}
	parts = append(parts, string(p.Binding.Name), fmt.Sprintf("%s %s", p.Placement.Pin, p.Placement.CPUs))
	if y := p.Predicted.Speedup; y != nil {
		parts = append(parts, number(*y)+"×")
	}
	if y := p.Predicted.WaitMS; y != nil {
		parts = append(parts, "wait "+number(*y))
	}
	if y := p.Predicted.StallMS; y != nil && *y > 0 {
		parts = append(parts, "stall "+number(*y))
	}
	if !p.Feasible {
		parts = append(parts, "infeasible")
	}
	return strings.Join(parts, ", ")
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine shape
		change  func(*probe.Machine)
		profile string // YAML below the name; flow style keeps it to a line
		gbs     float64
		want    string
	}{
		// Pure work.
		{name: "siblings pay at 0.10", machine: sixteen, profile: "work: {kind: float, smt_yield: 0.10}", want: "threads 1×32, logical_cpus, per_cpu 0-31, 17.6×"},
		{name: "and not below", machine: sixteen, profile: "work: {kind: integer, smt_yield: 0.09}", want: "threads 1×16, cores, per_core 0-15, 16×"},
		{name: "latency leaves siblings idle", machine: sixteen, profile: "objective: latency\nwork: {kind: integer}", want: "threads 1×16, cores, per_core 0-15, 16×"},
		{name: "Amdahl counts the quota too", machine: eight.under(0.5), profile: "work: {serial_fraction: 0.5}", want: "threads 1×1, quota, none 0-7, 0.5×, stall 50"},
		{name: "all serial", machine: eight, profile: "work: {serial_fraction: 1}", want: "threads 1×1, cores, per_core 0, 1×"},
		{name: "USL peak √(0.98/0.0125) = 8.85, X(9) > X(8)", machine: sixteen, profile: "work: {kind: float}\nscaling: {sigma: 0.02, kappa: 0.0125}", want: "threads 1×9, usl_peak, per_core 0-4,8-11, 4.369×"},
		{name: "USL without a peak", machine: eight, profile: "scaling: {sigma: 0.1, kappa: 0}", want: "threads 1×8, cores, per_core 0-7, 4.706×"},
		{name: "quota 3 of 8", machine: eight.under(3), profile: "work: {kind: float}", want: "threads 1×3, quota, none 0-7, 3×"},
		{name: "quota above the cores, no siblings", machine: sixteen.under(24), profile: "work: {kind: float}", want: "threads 1×16, cores, none 0-31, 16×"},
		{name: "quota 17.5: 17 whole beat 18 that stall", machine: sixteen.under(17.5), profile: "work: {kind: integer}", want: "threads 1×17, quota, none 0-31, 16.15×"},
		{name: "quota below one, latency", machine: eight.under(0.4), profile: "objective: latency", want: "threads 1×1, quota, none 0-7, 0.4×, stall 60"},
		{name: "quota no smaller than the set binds nothing", machine: eight.under(8), profile: "work: {kind: float}", want: "threads 1×8, cores, per_core 0-7, 8×"},
		{name: "kinds: all, fastest first", machine: hybrid, profile: "work: {kind: float}", want: "threads 1×8, core_kinds, per_core 0-7, 6×"},
		{name: "kinds: equal shares on the fast ones", machine: shape{nodes: 1, groups: 2, cores: 4, threads: 1, slow: 500}, profile: "work: {kind: float, partition: static}", want: "threads 1×4, core_kinds, per_core 0-3, 4×"},
		{name: "efficiency: the knee", machine: sixteen, profile: "objective: efficiency\nwork: {serial_fraction: 0.3}", want: "threads 1×12, cores, per_core 0-11, 2.791×"},
		{name: "python: a process each", machine: sixteen, profile: "runtime: python\nwork: {kind: float}", want: "processes 16×1, cores, per_core 0-15, 16×"},
		{name: "python threads asked for", machine: eight, profile: "runtime: python\nmodel: threads", want: "threads 1×1, cpu, per_core 0, 1×"},
		{name: "processes asked for", machine: eight, profile: "model: processes", want: "processes 8×1, cores, per_core 0-7, 8×"},
		{name: "all native: no GIL", machine: eight, profile: "runtime: python\nwork: {cpu_ms: 5, native_ms: 5}", want: "threads 1×8, cores, per_core 0-7, 8×"},
		{name: "half native: half the processes", machine: eight, profile: "runtime: python\nwork: {kind: float, cpu_ms: 10, native_ms: 5}", want: "processes x threads 4×4, cores, none 0-7, 7.877×"},
		{name: "go: a process has its CPUs", machine: eight, profile: "runtime: go\nload: {tasks: 4}", want: "threads 1×4, tasks, per_group 0-3, 4×"},
		{name: "a rate that two cores carry", machine: eight, profile: "work: {cpu_ms: 10}\nload: {arrival_per_s: 150}", want: "threads 1×2, demand, per_core 0-1, 1.5×"},

		// Memory bandwidth.
		{name: "bandwidth: ⌈50/20⌉ on each node, 2 × 2.5", machine: twoNode, gbs: 50, profile: "work: {kind: memory-bandwidth, thread_bandwidth_gbs: 20}", want: "threads 1×6, memory_bandwidth, per_core 0-1,4,8-9,12, 5×"},
		{name: "bandwidth for all cores", machine: twoNode, gbs: 500, profile: "work: {kind: memory-bandwidth, thread_bandwidth_gbs: 20}", want: "threads 1×16, cores, per_core 0-15, 16×"},
		{name: "bandwidth unknown", machine: twoNode, profile: "work: {kind: memory-bandwidth}", want: "threads 1×16, cores, per_core 0-15, 16×"},
		{name: "bandwidth under a quota", machine: twoNode.under(3), gbs: 50, profile: "work: {kind: memory-bandwidth, thread_bandwidth_gbs: 20}", want: "threads 1×3, quota, none 0-31, 3×"},

		// Blocking waits. The counts are those of the closed queue.
		{name: "quota 2.5: full speed 2.5", machine: eight.under(2.5), profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90}", want: "threads 1×32, cpu, none 0-7, 24.57×, stall 68.75"},
		{name: "demand", machine: eight, profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90}\nload: {arrival_per_s: 100}", want: "threads 1×13, demand, none 0-7, 10×"},
		{name: "downstream", machine: eight, profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90}\nlimits: {downstream_concurrency: 20}", want: "threads 1×20, downstream, none 0-7, 20×"},
		{name: "downstream too narrow for the rate", machine: eight, profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90}\nload: {arrival_per_s: 300}\nlimits: {downstream_concurrency: 20}", want: "threads 1×20, downstream, none 0-7, 20×, infeasible"},
		{name: "efficiency aims at 0.90", machine: eight, profile: "objective: efficiency\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}", want: "threads 1×76, cpu, none 0-7, 72.52×"},
		{name: "no room in memory for one", machine: eight, profile: "work: {cpu_ms: 10, wait_ms: 90}\nlimits: {memory_per_worker_mib: 60000}", want: "threads 1×1, memory, per_core 0, 1×, infeasible"},
		{name: "python processes asked for", machine: eight, profile: "runtime: python\nmodel: processes\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}", want: "processes 89×1, cpu, none 0-7, 78.58×"},
		{name: "free-threaded: as native", machine: eight, profile: "runtime: python-free-threaded\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}", want: "threads 1×89, cpu, none 0-7, 78.58×"},
		{name: "python threads asked for, with waits", machine: eight, profile: "runtime: python\nmodel: threads\nwork: {kind: service, cpu_ms: 2, wait_ms: 18}", want: "threads 1×15, cpu, none 0-7, 9.801×"},
		{name: "python on a rate", machine: eight, profile: "runtime: python\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}\nload: {arrival_per_s: 100}", want: "processes x threads 2×7, demand, none 0-7, 10×"},
		{name: "python in little memory: fewer processes, threads anew", machine: eight, profile: "runtime: python\nwork: {kind: service, cpu_ms: 2, wait_ms: 18}\nlimits: {memory_per_worker_mib: 25000}", want: "processes x threads 2×15, memory, none 0-7, 19.6×"},
		{name: "python, downstream", machine: eight, profile: "runtime: python\nwork: {kind: service, cpu_ms: 2, wait_ms: 18}\nlimits: {downstream_concurrency: 20}", want: "processes x threads 5×4, downstream, none 0-7, 19.31×"},

		{name: "a rate beyond saturation: as many as saturate", machine: eight, profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90}\nload: {arrival_per_s: 790}", want: "threads 1×89, cpu, none 0-7, 78.58×, infeasible"},
		{name: "requests have no serial part in common", machine: eight, profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90, serial_fraction: 0.05}", want: "threads 1×89, cpu, none 0-7, 78.58×"},
		{name: "a quota below one CPU", machine: eight.under(0.5), profile: "work: {kind: service, cpu_ms: 10, wait_ms: 90}", want: "threads 1×10, cpu, none 0-7, 4.948×, stall 93.75"},

		// A fitted law is of n workers, whatever they sit on: X(n) itself.
		{name: "USL with siblings", machine: sixteen, profile: "work: {kind: integer}\nscaling: {sigma: 0.1, kappa: 0}", want: "threads 1×32, logical_cpus, per_cpu 0-31, 7.805×"},
		{name: "USL peak with siblings", machine: sixteen, profile: "work: {kind: integer}\nscaling: {sigma: 0.02, kappa: 0.002}", want: "threads 1×22, usl_peak, per_cpu 0-18,24-26, 9.386×"},

		// What binds is what is smaller than the quota.
		{name: "bandwidth below the quota", machine: twoNode.under(12), gbs: 50, profile: "work: {kind: memory-bandwidth, thread_bandwidth_gbs: 20}", want: "threads 1×6, memory_bandwidth, none 0-31, 5×"},
		{name: "fast cores below the quota", machine: hybrid.under(6), profile: "work: {kind: float, partition: static, smt_yield: 0}", want: "threads 1×4, core_kinds, none 0-7, 4×"},
		{name: "static shares of bandwidth", machine: twoNode, gbs: 50, profile: "work: {kind: memory-bandwidth, thread_bandwidth_gbs: 20, partition: static}", want: "threads 1×6, memory_bandwidth, per_core 0-1,4,8-9,12, 5×"},
		{name: "efficiency within a fractional quota", machine: eight.under(2.5), profile: "objective: efficiency\nwork: {kind: float}", want: "threads 1×2, quota, none 0-7, 2×"},
		{name: "as many ranks as tasks", machine: sixteen, profile: "work: {kind: float}\nload: {ranks_per: core, tasks: 5}", want: "processes 5×1×3, tasks, per_group 0-14, 15×"},
		{name: "efficiency: the first cache that holds all", machine: twoNode, profile: "objective: efficiency\nwork: {kind: float}\nload: {tasks: 2}\nlimits: {avoid_cpus: '0-1'}", want: "threads 1×2, tasks, per_core 16-17, 2×"},

		// Awaited waits.
		{name: "a loop on each sibling, if the rate asks for it", machine: sixteen, profile: "work: {kind: float, cpu_ms: 1, wait_ms: 9, blocking: false}\nload: {arrival_per_s: 12000}", want: "async 1×18 loops 18 flight 150, demand, per_cpu 0-16,24, 120×"},
		{name: "async without a rate", machine: eight, profile: "work: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}", want: "async 1×8 loops 8 flight 120, cpu, per_core 0-7, 78.41×"},
		{name: "asyncio: a process per loop", machine: eight, profile: "runtime: python\nwork: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}\nload: {arrival_per_s: 1000}", want: "async 3×1 loops 3 flight 25, demand, per_core 0-2, 20×"},
		{name: "more than the loops carry", machine: eight, profile: "work: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}\nload: {arrival_per_s: 5000}", want: "async 1×8 loops 8 flight 125, cpu, per_core 0-7, 78.85×, infeasible"},
		{name: "async, downstream", machine: eight, profile: "work: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}\nload: {arrival_per_s: 1000}\nlimits: {downstream_concurrency: 10}", want: "async 1×3 loops 3 flight 10, downstream, per_core 0-2, 9.734×, infeasible"},
		{name: "async, few tasks", machine: eight, profile: "work: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}\nload: {tasks: 5}", want: "async 1×5 loops 5 flight 5, tasks, per_core 0-4, 5×"},
		{name: "node in little memory", machine: eight, profile: "runtime: node\nwork: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}\nlimits: {memory_per_worker_mib: 20000}", want: "async 2×1 loops 2 flight 30, memory, per_core 0-1, 19.6×"},
		{name: "async of unknown cost", machine: eight, profile: "model: async", want: "async 1×8 loops 8 flight 8, cores, per_core 0-7, 8×"},

		// A target for the wait. Erlang's C by hand for one server: ρ = 0.5, P(wait) = 0.5, ln(0.5/0.1)/(0.1 − 0.05) = 32.19.
		{name: "one server suffices", machine: eight, profile: "objective: latency\nwork: {kind: service, cpu_ms: 10}\nload: {arrival_per_s: 50, wait_target_ms: 33, quantile: 0.9}", want: "threads 1×1, latency_target, per_core 0, 1×, wait 32.19"},
		{name: "utilisation at most 0.8", machine: eight, profile: "objective: latency\nwork: {kind: service, cpu_ms: 10}\nload: {arrival_per_s: 85, wait_target_ms: 10000, quantile: 0.5}", want: "threads 1×2, latency_target, per_core 0-1, 2×, wait 0"},
		{name: "the quota has whole CPUs only", machine: eight.under(2.9), profile: "objective: latency\nwork: {kind: service, cpu_ms: 10}\nload: {arrival_per_s: 150, wait_target_ms: 0.1}", want: "threads 1×2, quota, none 0-7, 2×, wait 83.27, infeasible"},
		{name: "waiters hold workers", machine: eight, profile: "objective: latency\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}\nload: {arrival_per_s: 50, wait_target_ms: 33, quantile: 0.9}", want: "threads 1×7, latency_target, per_core 0-6, 1×, wait 32.19"},

		// Nested work and ranks.
		{name: "nested: 3 tasks", machine: eight, profile: "load: {tasks: 3, nested: true}", want: "processes 3×1×2, tasks, per_group 0-5, 6×"},
		{name: "nested: as many as four each", machine: eight, profile: "load: {tasks: 32, nested: true}", want: "processes 8×1×1, cores, per_core 0-7, 8×"},
		{name: "nested in memory", machine: eight, profile: "load: {tasks: 100, nested: true}\nlimits: {memory_per_worker_mib: 20000}", want: "processes 2×1×4, memory, per_group 0-7, 8×"},
		{name: "a rank per node", machine: twoNode, profile: "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}", want: "processes 2×1×8, cores, per_group 0-15, 16×"},
		{name: "a rank per cache", machine: twoNode, profile: "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: llc}", want: "processes 4×1×4, cores, per_group 0-15, 16×"},
		{name: "a rank per core", machine: twoNode, profile: "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: core}", want: "processes 16×1×1, cores, per_core 0-15, 16×"},
		{name: "ranks under a quota", machine: twoNode.under(5), profile: "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}", want: "processes 2×1×2, quota, none 0-31, 4×"},

		// Where.
		{name: "independent: over nodes and caches", machine: twoNode, profile: "work: {kind: float}\nload: {tasks: 6}", want: "threads 1×6, tasks, per_core 0-1,4,8-9,12, 6×"},
		{name: "communicating: one cache, then its neighbour", machine: twoNode, profile: "work: {kind: float, communicates: true}\nload: {tasks: 6}", want: "threads 1×6, tasks, per_core 0-5, 6×"},
		{name: "communicating: a cache that holds all", machine: twoNode, profile: "work: {kind: float, communicates: true}\nload: {tasks: 4}\nlimits: {avoid_cpus: \"0\", reserve_cores: 1}", want: "threads 1×4, tasks, per_core 4-7, 4×"},
		{name: "near a device", machine: twoNode, profile: "work: {kind: float, near: '81:00.0'}\nload: {tasks: 10}", change: withNIC, want: "threads 1×10, tasks, per_core 0,4,8-15, 10×"},
		{name: "near a GPU, by its CPUs", machine: twoNode, profile: "runtime: python\nmodel: processes\nwork: {kind: integer, near: '3b:00.0'}\nload: {tasks: 3}", change: func(m *probe.Machine) {
			m.Devices = []probe.Device{{Kind: "gpu", Name: "card0", PCI: "0000:3b:00.0", LocalCPUs: m.Topology.NUMANodes[1].CPUs}}
		}, want: "processes 3×1, tasks, per_core 8-9,12, 3×"},
		{name: "near what is not there", machine: twoNode, profile: "work: {kind: float, near: nic:eth9}\nload: {tasks: 2}", change: withNIC, want: "threads 1×2, tasks, per_core 0,8, 2×"},
		{name: "reserved: the avoided core counts", machine: sixteen, profile: "work: {kind: integer}\nlimits: {avoid_cpus: \"3\", reserve_cores: 2}", want: "threads 1×28, logical_cpus, per_cpu 1-2,4-15,17-18,20-31, 16.1×"},
		{name: "avoided alone: its sibling stays", machine: sixteen, profile: "work: {kind: integer}\nlimits: {avoid_cpus: \"3\"}", want: "threads 1×31, logical_cpus, per_cpu 0-2,4-31, 18.25×"},
		{name: "all reserved", machine: eight, profile: "limits: {reserve_cores: 8}", want: "threads 1×1, cores, per_core 7, 1×, infeasible"},
		{name: "isolated CPUs are left alone", machine: eight, profile: "work: {kind: float}", change: func(m *probe.Machine) { m.Topology.Isolated = new(cpuset.Range(6, 7)) }, want: "threads 1×6, cores, per_core 0-5, 6×"},
		{name: "nothing but isolated: meant, and seated even in a VM", machine: eight, profile: "work: {kind: float}", change: func(m *probe.Machine) {
			m.Topology.Isolated, m.Topology.Allowed, m.Host.Hypervisor = new(cpuset.Range(4, 7)), cpuset.Range(4, 7), "kvm"
		}, want: "threads 1×4, cores, per_core 4-7, 4×"},
		{name: "virtual CPUs", machine: eight, profile: "work: {kind: float}", change: func(m *probe.Machine) { m.Host.Hypervisor = "kvm" }, want: "threads 1×8, cores, none 0-7, 8×"},
		{name: "a shared box", machine: eight, profile: "work: {kind: float}", change: func(m *probe.Machine) { m.Host.Container = "docker" }, want: "threads 1×8, cores, none 0-7, 8×"},
		{name: "a container with its own CPUs", machine: eight, profile: "work: {kind: float}", change: func(m *probe.Machine) {
			m.Host.Container, m.Topology.Allowed = "docker", cpuset.Range(2, 5)
		}, want: "threads 1×4, cores, per_core 2-5, 4×"},
		{name: "a crowd of processes: each under one cache", machine: twoNode, profile: "runtime: python\nwork: {kind: service, cpu_ms: 2, wait_ms: 18, smt_yield: 0}", want: "processes x threads 16×15, cpu, per_group 0-31, 156.8×"},
		{name: "no topology at all", machine: eight, profile: "work: {kind: float}", change: func(m *probe.Machine) {
			m.Topology.Cores, m.Topology.Caches, m.Topology.NUMANodes = nil, nil, nil
		}, want: "threads 1×8, cores, per_core 0-7, 8×"},
		{name: "the fastest kind used is the unit", machine: hybrid, profile: "work: {kind: float}", change: func(m *probe.Machine) { m.Topology.Allowed = cpuset.Range(4, 7) }, want: "threads 1×4, cores, per_core 4-7, 4×"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := c.machine.machine()
			if c.change != nil {
				c.change(m)
			}
			p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\n"+c.profile), "x.yaml")
			if err != nil {
				t.Fatal(err)
			}
			var calibration *probe.Calibration
			if c.gbs > 0 {
				calibration = &probe.Calibration{MemoryBandwidthGBS: map[string]float64{"0": c.gbs, "1": c.gbs}}
			}
			plan, err := Advise(m, p, calibration)
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(plan); got != c.want {
				t.Errorf("\ngot  %s\nwant %s\nbecause %q", got, c.want, plan.Reasons)
			}
		})
	}
}

func withNIC(m *probe.Machine) {
	m.Devices = []probe.Device{{Kind: "nic", Name: "eth0", PCI: "0000:81:00.0", NUMANode: new(1)}}
}

func TestCalibrationOfAnotherMachine(t *testing.T) {
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\nwork: {kind: integer}"), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ machine, calibration, assumed, refused string }{
		{machine: "a", calibration: "a"},
		{machine: "a", assumed: "does not say which machine"},
		{calibration: "b", assumed: "has no fingerprint"},
		{machine: "a", calibration: "b", refused: "measured on machine b, and this is machine a"},
	} {
		m := sixteen.machine()
		m.Fingerprint = c.machine
		plan, err := Advise(m, p, &probe.Calibration{Fingerprint: c.calibration, SMTYield: map[string]float64{"integer": 0.3}})
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := *plan.Predicted.Speedup; got != 20.8 {
			t.Errorf("%+v: the measured yield gives %v", c, got)
		}
		if got := strings.Join(plan.Assumptions, "\n"); !strings.Contains(got, c.assumed) || c.assumed == "" && strings.Contains(got, "calibration") {
			t.Errorf("%+v assumes %q", c, got)
		}
	}
}

func TestLightLoadIsPlannedForLoad(t *testing.T) {
	plan := func(measured string) *Plan {
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}\n"+measured), "x.yaml")
		if err != nil {
			t.Fatal(err)
		}
		out, err := Advise(eight.machine(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for measured, want := range map[string]int{
		"": 89, "measured: {seconds: 10, utilisation: 0.1}": 121, "measured: {seconds: 10, utilisation: 0.5}": 89, "measured: {seconds: 10}": 89,
	} {
		if got := plan(measured).Workers.Threads; got != want {
			t.Errorf("%q: %d threads instead of %d", measured, got, want)
		}
	}
	if got := plan("measured: {seconds: 10, utilisation: 0.1, confidence: 0.9}").Confidence; got.Basis != Measured || *got.Seconds != 10 || *got.Level != 0.9 {
		t.Errorf("confidence %+v", got)
	}
}

// The options that people would have tried are in the plan, with their loss.
func TestRejectedOptions(t *testing.T) {
	for _, c := range []struct {
		machine shape
		profile string
		want    []string // option, and a part of why
	}{
		{sixteen, "work: {kind: integer}", []string{"one per core, siblings idle|13 % less", "2n + 1|no more throughput"}},
		{sixteen, "work: {kind: float}", []string{"one per CPU, siblings used|no more throughput from 16"}},
		{hybrid, "work: {kind: float}", []string{"the fastest kind of cores alone|33.3 % less"}},
		{eight, "work: {kind: service, cpu_ms: 10, wait_ms: 90}", []string{"Goetz's formula|4.6 % less", "one per CPU|89.8 % less"}},
		{eight, "runtime: python\nwork: {cpu_ms: 10}", []string{"threads of one process|87.5 % less"}},
		{eight, "runtime: python\nwork: {kind: service, cpu_ms: 10, wait_ms: 90}", []string{"all threads in one process|87.", "ThreadPoolExecutor's default|"}},
		{eight.under(2.5), "runtime: go\nwork: {kind: float}", []string{"one per CPU|stand still for up to 68.75 ms", "the quota rounded down|20 % less"}},
		{eight.under(1.5), "runtime: go\nwork: {kind: float}\nobjective: latency", []string{"GOMAXPROCS|more throughput, but each task takes longer"}},
		{sixteen, "work: {kind: service, cpu_ms: 2, wait_ms: 18, blocking: false}", []string{"one event loop|", "blocking calls, one thread per CPU|"}},
		{eight, "load: {tasks: 4, nested: true}", []string{"one worker with all the threads|", "a worker per core with one thread|50 % less"}},
		{eight, "objective: latency\nwork: {cpu_ms: 8}\nload: {arrival_per_s: 300, wait_target_ms: 6}", []string{"one per CPU|more workers for a wait"}},
	} {
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\n"+c.profile), "x.yaml")
		if err != nil {
			t.Fatal(err)
		}
		plan, err := Advise(c.machine.machine(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			option, why, _ := strings.Cut(want, "|")
			found := false
			for _, r := range plan.Rejected {
				found = found || strings.Contains(r.Option, option) && strings.Contains(r.Why, why)
			}
			if !found {
				t.Errorf("%q of %q is not among %+v", want, c.profile, plan.Rejected)
			}
		}
	}
}
