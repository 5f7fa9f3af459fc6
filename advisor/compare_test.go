package advisor

import (
	"fmt"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/difference/differencetest"
	"berth/profiles"
)

// cased plans a profile, given as YAML below its name, on a machine.
func cased(t *testing.T, m *probe.Machine, text string, c *probe.Calibration) Case {
	t.Helper()
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\n"+text), "x")
	if err != nil {
		t.Fatal(err)
	}
	return caseOf(t, m, p, c)
}

func caseOf(t *testing.T, m *probe.Machine, p *profiles.Profile, c *probe.Calibration) Case {
	t.Helper()
	plan, err := Advise(m, p, c)
	if err != nil {
		t.Fatal(err)
	}
	return Case{plan, m, p, c}
}

// With all inputs at hand the cause of a row is found by planning again.
func TestCompareCauses(t *testing.T) {
	const service = "work: {kind: service, cpu_ms: 10, wait_ms: 90}"
	small := eight
	small.memoryMiB = 1 << 10
	for _, c := range []struct {
		name string
		a, b Case
		row  string
		want string // its cause
	}{
		{"a quota", cased(t, eight.machine(), service, nil), cased(t, eight.under(2.5).machine(), service, nil), "threads_per_process",
			"the quota is 2.5 CPUs instead of none"},
		{"memory", cased(t, eight.machine(), service+"\nlimits: {memory_per_worker_mib: 64}", nil), cased(t, small.machine(), service+"\nlimits: {memory_per_worker_mib: 64}", nil),
			"binding", "there are 1024 MiB of memory instead of 65536"},
		{"a shape", cased(t, eight.machine(), "work: {kind: float}", nil), cased(t, sixteen.machine(), "work: {kind: float}", nil), "threads_per_process",
			"the machine is another shape"},
		{"a field", cased(t, eight.machine(), service, nil), cased(t, eight.machine(), "work: {kind: service, cpu_ms: 10, wait_ms: 10}", nil), "class",
			"work.wait_ms is 10 instead of 90"},
		{"a field among several", cased(t, eight.machine(), service, nil), cased(t, eight.machine(), "runtime: go\nwork: {kind: service, cpu_ms: 10, wait_ms: 10}", nil), "class",
			"work.wait_ms is 10 instead of 90, which is enough alone"},
		{"a calibration", cased(t, sixteen.machine(), "work: {kind: integer}", nil), cased(t, sixteen.machine(), "work: {kind: integer}", &probe.Calibration{SMTYield: map[string]float64{"integer": 0}}),
			"threads_per_process", "a calibration is used"},
		{"a field beside a quota", cased(t, eight.machine(), service, nil), cased(t, eight.under(2.5).machine(), "runtime: go\n"+service, nil), "threads_per_process",
			"the quota is 2.5 CPUs instead of none, which is enough alone"},
	} {
		r := Compare(c.a, c.b)
		differencetest.Mirrored(t, c.name, r, Compare(c.b, c.a))
		if row := r.Find(c.row); row == nil || row.Why != c.want {
			t.Errorf("%s: %+v, want %s because %q", c.name, row, c.row, c.want)
		}
	}
}

// What takes two inputs at once is not put down to either.
func TestCompareTogether(t *testing.T) {
	const together = "several inputs that differ have a part in it"
	a := cased(t, eight.machine(), "work: {kind: float}", nil)
	b := cased(t, eight.under(5).machine(), "objective: latency\nwork: {kind: float}\nload: {tasks: 3}", nil)
	r := Compare(a, b)
	for _, row := range r.Rows {
		if row.Why == "" {
			t.Errorf("%s has no word of its cause", row.Name)
		}
	}
	// Without the tasks the quota would bind.
	if row := r.Find("binding"); row == nil || row.Why != together {
		t.Errorf("binding: %+v", row)
	}
	if row := r.Find("pin"); row == nil || !strings.HasPrefix(row.Why, "the quota is 5 CPUs instead of none") {
		t.Errorf("pin: %+v", row)
	}
	// Either alone would have this budget, so neither accounts for it.
	x := cased(t, eight.machine(), "work: {kind: float}", nil)
	y := cased(t, eight.under(4).machine(), "work: {kind: float}\nlimits: {avoid_cpus: '0-3'}", nil)
	if row := Compare(x, y).Find("budget_cpus"); row == nil || row.Why != together {
		t.Errorf("budget: %+v", row)
	}
}

// Plans alone tell what goes with a difference, and no cause.
func TestComparePlansAlone(t *testing.T) {
	m := sixteen.machine()
	integer := "work: {kind: integer}"
	for _, c := range []struct {
		name, row, want string
		a, b            Case
	}{
		{"a budget", "threads_per_process", "it goes with a budget of 3 CPUs instead of 32", cased(t, m, integer, nil), cased(t, sixteen.under(3).machine(), integer, nil)},
		{"a class", "threads_per_process", "it goes with class io-bound (blocking) instead of cpu-bound", cased(t, m, integer, nil), cased(t, m, "work: {kind: service, cpu_ms: 1, wait_ms: 9}", nil)},
		{"a class says itself", "class", "", cased(t, m, integer, nil), cased(t, m, "work: {kind: service, cpu_ms: 1, wait_ms: 9}", nil)},
		{"siblings", "threads_per_process", "it goes with SMT siblings that are used in one of them only: the yields differ",
			cased(t, m, integer, nil), cased(t, m, "work: {kind: integer, smt_yield: 0}", nil)},
	} {
		r := Compare(Case{Plan: c.a.Plan}, Case{Plan: c.b.Plan})
		differencetest.Mirrored(t, c.name, r, Compare(Case{Plan: c.b.Plan}, Case{Plan: c.a.Plan}))
		if row := r.Find(c.row); row == nil || row.Why != c.want {
			t.Errorf("%s: %+v, want %s because %q", c.name, row, c.row, c.want)
		}
	}
}

func TestCompareSeats(t *testing.T) {
	r := Compare(cased(t, eight.machine(), "model: processes\nwork: {kind: float}", nil), cased(t, eight.machine(), "model: processes\nwork: {kind: float}\nlimits: {avoid_cpus: '0'}", nil))
	row := r.Find("seats")
	if row == nil || fmt.Sprint(row.A, row.B) != "8 7" || len(row.Removed) != 1 || len(row.Moved) != 7 || row.Added != nil {
		t.Fatalf("%+v", row)
	}
	if row.Moved[0] != "worker 0 from 0 to 1" || row.Removed[0] != "worker 7 on 7" {
		t.Errorf("moved %q, removed %q", row.Moved, row.Removed)
	}
}

// The laws hold for every profile that comes with berth on every shape.
func TestCompareLaws(t *testing.T) {
	var all []Case
	var names []string
	for _, name := range profiles.Shipped() {
		text, err := profiles.Source(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := profiles.Parse(text, name)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range []shape{eight, sixteen.under(2.5), twoNode, hybrid} {
			all = append(all, caseOf(t, s.machine(), p, nil))
			names = append(names, fmt.Sprintf("%s on shape %d", name, i))
		}
	}
	for i, a := range all {
		differencetest.Nothing(t, names[i], Compare(a, a))
		for _, step := range []int{1, 5} { // the next shape; the next profile on the next shape
			j := (i + step) % len(all)
			b := all[j]
			what := names[i] + " and " + names[j]
			differencetest.Mirrored(t, what, Compare(a, b), Compare(b, a))
			differencetest.Mirrored(t, what+", plans alone", Compare(Case{Plan: a.Plan}, Case{Plan: b.Plan}), Compare(Case{Plan: b.Plan}, Case{Plan: a.Plan}))
		}
	}
}
