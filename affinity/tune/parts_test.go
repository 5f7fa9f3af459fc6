//go:build linux

package tune

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/cpuset"
)

func TestParseCounts(t *testing.T) {
	for _, c := range []struct {
		text, want, err string
	}{
		{"1", "[1]", ""},
		{"4,1,2,2", "[1 2 4]", ""},
		{"1-4", "[1 2 3 4]", ""},
		{"1..4, 8", "[1 2 3 4 8]", ""},
		{"1..64:x2", "[1 2 4 8 16 32 64]", ""},
		{"2..16:4", "[2 6 10 14]", ""},
		{"3..100:x3", "[3 9 27 81]", ""},
		{"", "", "a number is missing"},
		{"1..", "", "a number is missing"},
		{"..4", "", "a number is missing"},
		{"0", "", "0 is not a number of workers from 1 to 65536"},
		{"-4", "", "a number is missing"},
		{"65537", "", "65537 is not a number of workers from 1 to 65536"},
		{"99999999999", "", `"99999999999" is not a number`},
		{"4..1", "", "4..1 runs backwards"},
		{"1..8:x1", "", "a factor of 1 leads nowhere"},
		{"1..8:0", "", "0 is not a number of workers"},
		{"1..8:", "", "a number is missing"},
		{"1:2", "", "a step follows a range, and 1 is none"},
		{"two", "", `"two" is not a number`},
		{"1..65536,1..2", "", "that is more than 65536 counts"},
	} {
		got, err := ParseCounts(c.text)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: %v, want %s", c.text, err, c.err)
		case c.err == "" && (err != nil || fmt.Sprint(got.All()) != c.want):
			t.Errorf("%q: %v, %v", c.text, got.All(), err)
		}
	}
}

func TestGrid(t *testing.T) {
	for _, c := range []struct {
		counts Counts
		must   []int
		want   string
	}{
		{counts(t, "1..64"), nil, "[1 2 3 6 11 20 35 64]"},
		{counts(t, "1..64"), []int{8, 100}, "[1 2 3 6 8 11 20 35 64]"},
		{counts(t, "1-8"), []int{8}, "[1 2 3 4 5 6 7 8]"},
		{CountsFor(2), nil, "[1 2 3 4 6 8 12 16]"},
		{CountsFor(0.3), nil, "[1 2 3 4 6 8]"},
	} {
		if got := fmt.Sprint(c.counts.grid(c.must...)); got != c.want {
			t.Errorf("%v: %s, want %s", c.counts.All(), got, c.want)
		}
	}
	c := counts(t, "1..64")
	if n, ok := c.between(6, 11); n != 9 || !ok {
		t.Errorf("between 6 and 11: %d", n)
	}
	if n, ok := c.between(6, 7); ok {
		t.Errorf("between 6 and 7: %d", n)
	}
	if _, ok := c.grow(); ok {
		t.Error("a list that was given grows")
	}
}

func FuzzParseCounts(f *testing.F) {
	for _, s := range []string{"1..64", "1-8", "1,2,4,8", "1..64:x2", "2..16:4", "65536", ",", "1..", "1:x", "1-2-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCounts(text)
		if err != nil {
			return
		}
		all := c.All()
		if len(all) == 0 || !slices.IsSorted(all) || len(slices.Compact(c.All())) != len(all) || all[0] < 1 || all[len(all)-1] > MostWorkers {
			t.Fatalf("%q: %v", text, all)
		}
		grid := c.grid(all[0])
		if len(grid) > coarse+1 || grid[0] != all[0] || grid[len(grid)-1] != all[len(all)-1] {
			t.Fatalf("%q: grid %v", text, grid)
		}
	})
}

func TestFit(t *testing.T) {
	points := func(l Law, ns ...float64) (out []measuredAt) {
		for _, n := range ns {
			out = append(out, measuredAt{n, l.At(n)})
		}
		return out
	}
	for _, l := range []Law{{Lambda: 3}, {Lambda: 0.01, Sigma: 0.3}, {Lambda: 1e6, Sigma: 0.02, Kappa: 0.0005}, {Lambda: 5, Kappa: 0.1}, {Lambda: 2, Sigma: 1.5, Kappa: 0.01}} {
		for _, ns := range [][]float64{{1, 2, 3}, {1, 2, 4, 8, 16, 64}, {100, 1000, 10000, 65536}} {
			got, ok := fit(points(l, ns...))
			near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-4*max(math.Abs(b), 1e-3) }
			if !ok || ns[0] == 1 && (!near(got.Lambda/l.Lambda, 1) || !near(got.Sigma, l.Sigma) || !near(got.Kappa, l.Kappa)) || got.R2 < 0.9999 {
				t.Errorf("%+v at %v: %+v, %t", l, ns, got, ok)
			}
		}
	}
	if l, ok := fit(points(Law{Lambda: 1}, 1, 2, 2, 1)); ok {
		t.Errorf("two counts: %+v", l)
	}
	// Faster than linear: no coefficient falls below 0.
	l, ok := fit([]measuredAt{{1, 1}, {2, 2.5}, {4, 6}})
	if !ok || l.Sigma != 0 || l.Kappa != 0 {
		t.Errorf("%+v, %t", l, ok)
	}
	if got := (&Law{Sigma: 0.02, Kappa: 0.0098}).Peak(); math.Abs(got-10) > 0.01 {
		t.Errorf("peak %g", got)
	}
}

// The law over all counts hides that another one holds while there are CPUs.
func TestBreaks(t *testing.T) {
	var wall, smooth []measuredAt
	l := Law{Lambda: 1, Sigma: 0.05, Kappa: 0.001}
	for _, n := range []float64{1, 2, 3, 4, 6, 8, 12, 16} {
		wall = append(wall, measuredAt{n, min(n, 4)})
		smooth = append(smooth, measuredAt{n, l.At(n)})
	}
	over, _ := fit(wall)
	if inner, off, ok := breaks(wall, 4, over); !ok || inner.Sigma > 1e-6 || off < 2 {
		t.Errorf("%+v, off by %g, %t", inner, off, ok)
	}
	over, _ = fit(smooth)
	if inner, off, ok := breaks(smooth, 4, over); ok {
		t.Errorf("%+v, off by %g", inner, off)
	}
}

func TestMetric(t *testing.T) {
	write := func(text string) *tail {
		var t tail
		_, _ = t.Write([]byte(text))
		t.close()
		return &t
	}
	printed := func(re string, lower bool) Metric {
		m, err := Printed(re, lower)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	each, err := Units("100n")
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := Units("2.5")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m        Metric
		out, err string
		want     float64
		bad      string
	}{
		{Wall(), "", "", 0.5, ""},
		{Metric{}, "", "", 0.5, ""},
		{each, "", "", 150, ""},
		{fixed, "", "", 1.25, ""},
		{Lines(), "a\nb\nc", "x\n", 1.5, ""},
		{Lines(), "", "x\n", 0, "printed no line on standard output"},
		{printed(`([\d.]+) op/s`, false), "1 op/s\n7.25 op/s\n", "9 op/s", 7.25, ""},
		{printed(`([\d.]+) op/s`, false), "nothing", "9 op/s", 9, ""},
		{printed(`\d+`, true), "12 then 40", "", 40, ""},
		{printed(`rate: (\S+)`, false), "rate: 1e3", "", 1000, ""},
		{printed(`rate: (\S+)`, false), "rate: fast", "", 0, `matches "fast", which is not a number`},
		{printed(`rate: (\S+)`, false), "rate: 0", "", 0, "gives 0; values are above 0"},
		{printed(`rate: (\S+)`, false), "rate: -3", "", 0, "gives -3"},
		{printed(`rate: (\S+)`, false), "rate: inf", "", 0, "gives +Inf"},
		{printed(`rate: (\S+)`, false), "rate: NaN", "", 0, "gives NaN"},
		{printed(`(x)?rate`, false), "rate", "", 0, `matches "", which is not a number`},
		{printed(`rate: (\S+)`, false), "", "", 0, "matches nothing that it printed"},
	} {
		got, err := c.m.value(3, 2*time.Second, write(c.out), write(c.err))
		switch {
		case c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s of %q: %v, want %s", c.m, c.out, err, c.bad)
		case c.bad == "" && (err != nil || math.Abs(got-c.want) > 1e-12):
			t.Errorf("%s of %q: %g, %v", c.m, c.out, got, err)
		}
	}
	for _, bad := range []string{`(a)(b)`, `(`} {
		if _, err := Printed(bad, false); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	for _, bad := range []string{"", "n", "0", "-1n", "NaN", "inf", "1x"} {
		if _, err := Units(bad); err == nil {
			t.Errorf("%q units are accepted", bad)
		}
	}
	m := printed("x", true)
	if v := m.valueOf([]float64{1, 2, 4}); v != (measured.Value{Median: 0.5, Low: 0.25, High: 1, Runs: 3}) {
		t.Errorf("%+v", v)
	}
}

func TestTail(t *testing.T) {
	var out tail
	line := strings.Repeat("x", 1023) + "\n"
	for range 5000 {
		_, _ = out.Write([]byte(line))
	}
	_, _ = out.Write([]byte("the\x1b[1m\tend"))
	out.close()
	if out.lines != 5001 || len(out.bytes()) != keptOutput || len(out.kept) > 3*keptOutput {
		t.Errorf("%d lines, %d bytes of %d kept", out.lines, len(out.bytes()), len(out.kept))
	}
	last := out.last(2)
	if len(last) != 2 || last[1] != "the[1m end" || len(last[0]) > 310 {
		t.Errorf("%q", last)
	}
	if got := (&tail{}).last(3); got != nil {
		t.Errorf("%q", got)
	}
}

func FuzzMetric(f *testing.F) {
	f.Add(`([\d.]+) op/s`, "7 op/s")
	f.Add(`.*`, "\xff\n")
	f.Fuzz(func(t *testing.T, expression, output string) {
		if _, err := regexp.Compile(expression); err != nil || len(expression) > 100 {
			return
		}
		m, err := Printed(expression, false)
		if err != nil {
			return
		}
		var out tail
		_, _ = out.Write([]byte(output))
		out.close()
		out.last(3)
		if x, err := m.value(1, time.Second, &out, &tail{}); err == nil && !(x > 0 && !math.IsInf(x, 0)) {
			t.Fatalf("%g", x)
		}
	})
}

func TestState(t *testing.T) {
	const head = `{"schema":"berth.tune-state/v1","command":["a"],"metric":"wall"}` + "\n"
	const one = `{"n":2,"cpus":"0-1","value":3,"wall_s":0.5}` + "\n"
	for _, c := range []struct {
		text string
		runs int
		bad  string
	}{
		{"", 0, ""},
		{head, 0, ""},
		{head + one + one, 2, ""},
		{head + one + `{"n":2,"cpus"`, 1, ""},
		{head + `{"n":2,"cpus":"","wall_s":1,"failed":{"status":3,"why":"x"}}` + "\n", 1, ""},
		{head + "x\n" + one, 0, "line 2: "},
		{head + `{"n":0,"cpus":"","value":1}` + "\n", 0, "line 2 is not a run"},
		{head + `{"n":1,"cpus":""}` + "\n", 0, "line 2 is not a run"},
		{head + `{"n":1,"cpus":"3-1","value":1}` + "\n", 0, "line 2: "},
		{"hello\n", 0, "line 1 is not the beginning of a state"},
		{"hello", 0, "line 1 has no end"},
		{`{"schema":"berth.tune/v1"}` + "\n", 0, `line 1 has the schema "berth.tune/v1"`},
	} {
		name := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, runs, err := openState(name, (&Settings{Command: []string{"a"}}).head())
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) || !strings.Contains(err.Error(), name) {
				t.Errorf("%q: %v, want %s", c.text, err, c.bad)
			}
			continue
		}
		if err != nil || len(runs) != c.runs {
			t.Errorf("%q: %d runs, %v", c.text, len(runs), err)
			continue
		}
		if _, _, err := openState(name, stateHead{}); err == nil || !strings.Contains(err.Error(), "in use by another search") {
			t.Errorf("a second one: %v", err)
		}
		if err := s.write(stateRun{N: 1, Value: 1}); err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		text, _ := os.ReadFile(name)
		if _, runs, _, err := parseState(text); err != nil || len(runs) != c.runs+1 {
			t.Errorf("%q becomes %q: %v", c.text, text, err)
		}
	}
	if _, _, err := openState(t.TempDir(), stateHead{}); err == nil {
		t.Error("a directory is accepted")
	}
	a := stateHead{Schema: StateSchema, Command: []string{"a"}, Metric: "wall", ForS: 1, Env: []string{"X"}, Fingerprint: "f"}
	for _, change := range []func(*stateHead){
		func(h *stateHead) { h.Command = []string{"b"} }, func(h *stateHead) { h.Metric = "m" }, func(h *stateHead) { h.ForS = 2 },
		func(h *stateHead) { h.Env = nil }, func(h *stateHead) { h.Fingerprint = "g" }, func(h *stateHead) { h.Schema = "s" },
	} {
		b := a
		if change(&b); a.differs(&b) == "" {
			t.Errorf("%+v is the same as %+v", a, b)
		}
	}
	b := a
	if b.Fingerprint = ""; a.differs(&b) != "" {
		t.Error("an unknown machine is another")
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"schema":"berth.tune-state/v1","command":["a"],"metric":"wall"}` + "\n" + `{"n":2,"cpus":"0-1","value":3,"wall_s":0.5}` + "\n" + `{"n"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		head, runs, whole, err := parseState(text)
		if err != nil {
			return
		}
		if whole > len(text) || head == nil && (len(runs) > 0 || len(text) > 0) {
			t.Fatalf("%d of %d, %+v", whole, len(text), head)
		}
		for _, r := range runs {
			if r.N < 1 || r.Failed == nil && !(r.Value > 0) {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func synthetic(t *testing.T, text string) *probe.Machine {
	t.Helper()
	source, err := probe.Synthetic(text)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	m, err := probe.Probe(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPlacementOrder(t *testing.T) {
	order := func(p Placement) string {
		var out []string
		for _, s := range p.Places {
			out = append(out, s.String())
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ machine, spread, compact string }{
		{"core:2 pu:1", "0 1", "0 1"},
		{"package:1 l3:2 core:2 pu:2", "0 4 2 6 1 5 3 7", "0 2 1 3 4 6 5 7"},
		{"package:2 numa:1 l3:2 core:1 pu:1", "0 2 1 3", "0 1 2 3"},
	} {
		m := synthetic(t, c.machine)
		if diff := cmp.Diff(c.spread, order(Spread(&m.Topology))); diff != "" {
			t.Errorf("%s: spread\n%s", c.machine, diff)
		}
		if diff := cmp.Diff(c.compact, order(Compact(&m.Topology))); diff != "" {
			t.Errorf("%s: compact\n%s", c.machine, diff)
		}
	}
	// Each CPU allowed once, whatever the machine.
	random := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		text := fmt.Sprintf("package:%d l3:%d core:%d pu:%d", 1+random.IntN(3), 1+random.IntN(3), 1+random.IntN(5), 1+random.IntN(2))
		m := synthetic(t, text)
		var some []cpuset.CPU
		for c := range m.Topology.Online.All() {
			if random.IntN(3) > 0 || len(some) == 0 {
				some = append(some, c)
			}
		}
		m.Topology.Allowed = cpuset.Of(some...)
		for _, p := range []Placement{Spread(&m.Topology), Compact(&m.Topology)} {
			if len(p.Places) != len(some) || !p.On(len(some)+5).Equal(m.Topology.Allowed) || p.On(1).Len() != 1 {
				t.Errorf("%s on %s: %s is %s", text, m.Topology.Allowed, p.Name, order(p))
			}
		}
	}
}
