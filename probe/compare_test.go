package probe_test

import (
	"context"
	"testing"

	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/difference"
	"berth/probe/difference/differencetest"
	"berth/probe/finding"
)

func synthetic(t *testing.T, description string, changes ...func(*probe.Machine)) *probe.Machine {
	t.Helper()
	source, err := probe.Synthetic(description)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(m)
	}
	return m
}

func quota(cpus float64, path string) func(*probe.Machine) {
	return func(m *probe.Machine) {
		m.Limits.QuotaCPUs = &cpus
		m.Limits.EffectiveCPUs = min(float64(m.Topology.Allowed.Len()), cpus)
		m.Limits.Chain = []cgroup.Link{{Resource: "cpus", Source: "cpu.max", Path: path, Limit: cpus, Binding: true}}
	}
}

const box = "package:1 numa:1(memory=8GiB) l3:2(size=32MiB) core:4 pu:2"

func TestCompareMachines(t *testing.T) {
	allow := func(list string) func(*probe.Machine) {
		return func(m *probe.Machine) {
			set, err := cpuset.Parse(list)
			if err != nil {
				t.Fatal(err)
			}
			m.Topology.Allowed = set
			m.Limits.EffectiveCPUs = float64(set.Len())
			m.Limits.Chain = []cgroup.Link{{Resource: "cpuset", Source: "affinity", Limit: set, Binding: true}}
		}
	}
	node := func(n int) func(*probe.Machine) {
		return func(m *probe.Machine) { m.Devices = []probe.Device{{Kind: "nic", Name: "eth0", NUMANode: &n}} }
	}
	found := func(codes ...string) func(*probe.Machine) {
		return func(m *probe.Machine) {
			for _, c := range codes {
				m.Findings = append(m.Findings, finding.Finding{Code: c, Severity: finding.Info, Message: c})
			}
		}
	}
	system := func(kernel, microcode, hypervisor string) func(*probe.Machine) {
		return func(m *probe.Machine) {
			m.Host.Kernel, m.CPU.Microcode, m.Host.Hypervisor = kernel, microcode, hypervisor
		}
	}
	for _, c := range []struct {
		name string
		a, b *probe.Machine
		want []difference.Row // the rows that there must be, by name, A and B; and no others
	}{
		{"a quota that fell", synthetic(t, box, quota(4, "/a")), synthetic(t, box, quota(2.5, "/a")),
			[]difference.Row{{Name: "budget_cpus", A: 4.0, B: 2.5}, {Name: "quota_cpus", A: 4.0, B: 2.5}}},
		{"a quota that is new", synthetic(t, box), synthetic(t, box, quota(2.5, "/a")),
			[]difference.Row{{Name: "budget_cpus", A: 16.0, B: 2.5}, {Name: "budget_by", B: "cpu.max of /a"}, {Name: "quota_cpus", B: 2.5}}},
		{"a quota above the CPUs binds nothing", synthetic(t, box), synthetic(t, box, quota(64, "/a")), []difference.Row{{Name: "quota_cpus", B: 64.0}}},
		{"fewer CPUs allowed", synthetic(t, box), synthetic(t, box, allow("0-5")),
			[]difference.Row{{Name: "budget_cpus", A: 16.0, B: 6.0}, {Name: "budget_by", B: "affinity"}, {Name: "allowed", A: "0-15", B: "0-5"}}},
		{"a device at another node", synthetic(t, box, node(0)), synthetic(t, box, node(1)), []difference.Row{{Name: "devices", A: 1, B: 1}}},
		{"findings", synthetic(t, box, found("smt-off")), synthetic(t, box, found("vcpu-floats", "missing")), []difference.Row{{Name: "findings", A: 1, B: 2}}},
		{"an update", synthetic(t, box, system("6.1", "0x1", "")), synthetic(t, box, system("6.12", "0x2", "kvm")),
			[]difference.Row{{Name: "microcode", A: "0x1", B: "0x2"}, {Name: "kernel", A: "6.1", B: "6.12"}, {Name: "hypervisor", B: "kvm"}}},
		{"siblings numbered in another way", synthetic(t, "core:2 pu:2"), synthetic(t, "core:2 pu:2(indexes=0,2,1,3)"), []difference.Row{{Name: "core_cpus", A: "0-1", B: "0,2"}}},
	} {
		r := probe.Compare(c.a, c.b)
		differencetest.Mirrored(t, c.name, r, probe.Compare(c.b, c.a))
		if len(r.Rows) != len(c.want) {
			t.Errorf("%s: %+v, want %d rows", c.name, r.Rows, len(c.want))
		}
		for _, want := range c.want {
			if row := r.Find(want.Name); row == nil || row.A != want.A || row.B != want.B || row.Verdict != difference.Changed {
				t.Errorf("%s: %s is %+v, want %v and %v", c.name, want.Name, row, want.A, want.B)
			}
		}
	}
}

// Every pair of machines keeps the laws, and a shape that differs is told.
func TestCompareMachinesLaws(t *testing.T) {
	all := map[string]*probe.Machine{
		"box": synthetic(t, box), "quota": synthetic(t, box, quota(2.5, "/a")), "bare": synthetic(t, "core:4 pu:1"),
		"two": synthetic(t, "package:2 numa:2(memory=64GiB) l3:4(size=16MiB) core:8 pu:2"), "dump": read(t, machine(nil)),
	}
	for x, a := range all {
		differencetest.Nothing(t, x, probe.Compare(a, a))
		for y, b := range all {
			r := probe.Compare(a, b)
			differencetest.Mirrored(t, x+" and "+y, r, probe.Compare(b, a))
			if x != y && !r.Differ() {
				t.Errorf("%s and %s do not differ", x, y)
			}
		}
	}
	r := probe.Compare(all["box"], all["two"])
	for name, want := range map[string][2]any{
		"packages": {1.0, 2.0}, "cores": {8.0, 128.0}, "cpus": {16.0, 256.0}, "llc_groups": {2.0, 16.0}, "numa_nodes": {1.0, 4.0},
		"llc_bytes": {float64(64 << 20), float64(256 << 20)}, "llc_largest_bytes": {float64(32 << 20), float64(16 << 20)}, "memory_bytes": {float64(8 << 30), float64(256 << 30)},
	} {
		if row := r.Find(name); row == nil || row.A != want[0] || row.B != want[1] {
			t.Errorf("%s: %+v, want %v", name, row, want)
		}
	}
}

func TestCompareCalibrations(t *testing.T) {
	us, ns := 1.5, 80.0
	a := &probe.Calibration{SMTYield: map[string]float64{"integer": 0.2, "float": 0}, SwitchUS: &us, CoreToCoreNS: [][]*float64{{nil, &ns}, {&ns, nil}}}
	b := &probe.Calibration{SMTYield: map[string]float64{"integer": 0.25, "service": 0.3}, SwitchUS: &us}
	r := probe.CompareCalibrations(a, b)
	differencetest.Mirrored(t, "calibrations", r, probe.CompareCalibrations(b, a))
	differencetest.Nothing(t, "a calibration", probe.CompareCalibrations(a, a))
	if row := r.Find("smt_yield[integer]"); row == nil || row.Verdict != difference.Unjudged || len(r.Rows) != 1 || len(r.Unknown) != 4 {
		t.Errorf("%+v", r)
	}
	if r.Differ() {
		t.Error("medians without intervals are called a change")
	}
}
