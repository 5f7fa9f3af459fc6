//go:build linux

package fleet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"berth/advisor"
	"berth/probe"
	"berth/profiles"
)

func profile(t testing.TB, yaml string) *profiles.Profile {
	t.Helper()
	p, err := profiles.Parse([]byte("schema: berth.profile/v1\nname: work\n"+yaml), "work.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// uneven is two nodes of 16 cores, one of 8 and one of 4, without SMT.
func uneven(t *testing.T) *Fleet {
	var all answers
	for name, description := range map[string]string{"a1": "core:16 pu:1", "a2": "core:16 pu:1", "b1": "core:8 pu:1", "c1": "core:4 pu:1"} {
		all = append(all, Answer{Node: name, Document: text(t, machine(t, "package:1 numa:1 "+description))})
	}
	return collect(t, all)
}

func advised(t *testing.T, f *Fleet, yaml string, o AdviseOptions) *Plan {
	t.Helper()
	p, err := Advise(f, profile(t, yaml), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shares tells what each part has, in the order of the plan.
func shares(p *Plan) string {
	var out []string
	for _, part := range p.Parts {
		line := Fold(part.Nodes)
		if part.Plan != nil {
			line += fmt.Sprintf(" %dx%d", part.Plan.Workers.Processes, part.Plan.Workers.Threads)
		}
		if s := part.Share.Tasks; s != nil {
			line += fmt.Sprintf(" tasks %d", *s)
		}
		if s := part.Share.Downstream; s != nil {
			line += fmt.Sprintf(" down %d", *s)
		}
		if s := part.Share.ArrivalPerS; s != nil {
			line += fmt.Sprintf(" rate %g", math.Round(*s*100)/100)
		}
		out = append(out, line)
	}
	return strings.Join(out, ", ")
}

func TestAdvise(t *testing.T) {
	for name, test := range map[string]struct {
		yaml    string
		want    string
		binding advisor.Binder
		workers int
	}{
		"pure work": {"work: {kind: float}\nmodel: processes", "a[1-2] 16x1, b1 8x1, c1 4x1", advisor.ByCores, 44},
		// 44 tasks to 44 cores; 22 to half of each.
		"tasks":     {"work: {kind: float}\nmodel: processes\nload: {tasks: 22}", "a[1-2] 8x1 tasks 8, b1 4x1 tasks 4, c1 2x1 tasks 2", advisor.ByTasks, 22},
		"odd tasks": {"work: {kind: float}\nmodel: processes\nload: {tasks: 23}", "a1 9x1 tasks 9, a2 8x1 tasks 8, b1 4x1 tasks 4, c1 2x1 tasks 2", advisor.ByTasks, 23},
		"few tasks": {"work: {kind: float}\nmodel: processes\nload: {tasks: 1}", "a1 1x1 tasks 1, a2 tasks 0, b1 tasks 0, c1 tasks 0", advisor.ByTasks, 1},
		"many tasks": {"work: {kind: float}\nmodel: processes\nload: {tasks: 4400}", "a[1-2] 16x1 tasks 1600, b1 8x1 tasks 800, c1 4x1 tasks 400",
			advisor.ByCores, 44},
		"downstream": {"work: {kind: service, cpu_ms: 1, wait_ms: 99}\nlimits: {downstream_concurrency: 110}",
			"a[1-2] 1x40 down 40, b1 1x20 down 20, c1 1x10 down 10", advisor.ByDown, 4},
		"a rate": {"work: {kind: float, cpu_ms: 10}\nload: {arrival_per_s: 440, wait_target_ms: 50}\nobjective: latency\nmodel: processes",
			"a[1-2] 3x1 rate 160, b1 2x1 rate 80, c1 1x1 rate 40", advisor.ByTarget, 9},
	} {
		p := advised(t, uneven(t), test.yaml, AdviseOptions{})
		if name == "a rate" { // the counts are the advisor's; the shares are ours
			total := 0.0
			for _, part := range p.Parts {
				total += *part.Share.ArrivalPerS * float64(len(part.Nodes))
			}
			if math.Abs(total-440) > 1e-6 || p.Parts[0].Share.ArrivalPerS == nil || math.Abs(*p.Parts[0].Share.ArrivalPerS-160) > 1 {
				t.Errorf("%s: %s", name, shares(p))
			}
			continue
		}
		if got := shares(p); got != test.want || p.Binding.Name != test.binding || p.Workers != test.workers {
			t.Errorf("%s: %s, %d workers, bound by %s; want %s, %d, %s", name, got, p.Workers, p.Binding.Name, test.want, test.workers, test.binding)
		}
	}
}

// Equal shares end with the slowest: it is left out where that gains.
func TestStaticWork(t *testing.T) {
	f := uneven(t)
	const static = "work: {kind: float, cpu_ms: 10, partition: static}\nmodel: processes"
	p := advised(t, f, static, AdviseOptions{Speed: map[int]float64{3: 0.5}}) // c1: 4 cores at half the rate
	if got := shares(p); got != "a[1-2] 16x1, b1 8x1, c1" || !strings.Contains(p.Parts[2].Why, "50 %") || p.Nodes != 3 {
		t.Errorf("a slow node: %s (%+v)", got, p.Parts)
	}
	if p.ThroughputPS == nil || math.Abs(*p.ThroughputPS-4000) > 1 {
		t.Errorf("40 workers at 100 each do %v", p.ThroughputPS)
	}
	// At 0.95 of the rate it is worth having: 44 × 0.95 > 40.
	p = advised(t, f, static, AdviseOptions{Speed: map[int]float64{3: 0.95}})
	if p.Nodes != 4 || p.Binding.Name != BySlowest || math.Abs(*p.ThroughputPS-4180) > 5 {
		t.Errorf("%s by %s: %v", shares(p), p.Binding.Name, *p.ThroughputPS)
	}
	// Work that whoever is free takes leaves nobody out.
	p = advised(t, f, "work: {kind: float, cpu_ms: 10}\nmodel: processes", AdviseOptions{Speed: map[int]float64{3: 0.5}})
	if p.Nodes != 4 || math.Abs(*p.ThroughputPS-4200) > 1 {
		t.Errorf("%s: %v", shares(p), *p.ThroughputPS)
	}
}

// However a number is divided, it is all there, and nobody has more than one
// above the share of what it can do.
func TestDivisionIsWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		d := &division{fleet: &Fleet{}}
		for i := range 1 + random.IntN(5) {
			s := side{shape: &Shape{ID: i + 1, Nodes: make([]string, 1+random.IntN(40))}, can: 1 + 100*random.Float64()}
			if i > 0 && random.IntN(4) == 0 {
				s.out = "slow"
			}
			d.sides = append(d.sides, s)
			if s.out == "" {
				d.weight += float64(len(s.shape.Nodes)) * s.can
			}
		}
		all := random.Int64N(5000)
		var total int64
		for i, sum := range d.deal(&all, "tasks") {
			s := &d.sides[i]
			total += sum
			fair := float64(all) * s.can / d.weight * float64(s.nodes())
			if s.out != "" && sum != 0 || s.out == "" && (float64(sum) < fair-float64(s.nodes()) || float64(sum) > fair+float64(s.nodes())) {
				t.Fatalf("%d of %d to a shape with a share of %.2f", sum, all, fair)
			}
		}
		if total != all {
			t.Fatalf("%d of %d were dealt", total, all)
		}
	}
}

func TestAdviseRefuses(t *testing.T) {
	if _, err := Advise(&Fleet{}, profile(t, "work: {kind: float}"), AdviseOptions{}); err == nil {
		t.Error("a plan for nobody")
	}
	f := collect(t, answers{{Node: "n", Document: text(t, machine(t, server))}})
	wrong := func(string) *probe.Calibration { return &probe.Calibration{Fingerprint: "of another"} }
	if _, err := Advise(f, profile(t, "work: {kind: float}"), AdviseOptions{Calibration: wrong}); err == nil || !strings.Contains(err.Error(), "shape 1") {
		t.Errorf("%v", err)
	}
}
