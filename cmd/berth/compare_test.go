//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"berth/advisor"
	"berth/affinity"
	"berth/affinity/measured"
	"berth/affinity/tune"
	"berth/probe"
	"berth/profiles"
)

// comparisons are what the view is tested on.
func comparisons(t *testing.T) map[string]*comparison {
	t.Helper()
	profile := func(text string) *profiles.Profile {
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: service\n"+text), "service")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	planFor := func(m *probe.Machine, p *profiles.Profile) advisor.Case {
		plan, err := advisor.Advise(m, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		return advisor.Case{Plan: plan, Machine: m, Profile: p}
	}
	begin := func(kind, a, b string) *comparison {
		return &comparison{Schema: comparisonSchema, Kind: kind, A: side{Name: a, Title: "the one"}, B: side{Name: b, Title: "the other"}}
	}
	machinesOf := func(a, b *probe.Machine, p *profiles.Profile) *comparison {
		c := begin("machine", "a.json", "b.json")
		c.A.Title, c.B.Title = machineTitle(a), machineTitle(b)
		report := probe.Compare(a, b)
		c.Parts, c.Answer = []comparedOne{{"machine", report}}, machineAnswer(report)
		if p != nil {
			c.addPlans(planFor(a, p), planFor(b, p))
		}
		return c
	}
	plansOf := func(a, b advisor.Case) *comparison {
		c := begin("profile", "a.yaml", "b.yaml")
		c.A.Title, c.B.Title = planHeadline(a.Plan), planHeadline(b.Plan)
		c.addPlans(a, b)
		return c
	}
	service := profile("work: {kind: service, cpu_ms: 5, wait_ms: 45}\nlimits: {memory_per_worker_mib: 64}")
	box := described(t, "Test CPU", "package:1 l3:2 core:4 pu:2")
	tight := described(t, "Test CPU", "package:1 l3:2 core:4 pu:2")
	tight.Limits.QuotaCPUs, tight.Limits.EffectiveCPUs = ref(2.5), 2.5
	loose := described(t, "Test CPU", "package:1 l3:2 core:4 pu:2")
	loose.Limits.QuotaCPUs, loose.Limits.EffectiveCPUs = ref(4.0), 4.0

	v := func(median float64) *measured.Value {
		return &measured.Value{Median: median, Low: median - 1, High: median + 1, Runs: 9}
	}
	search := func(best int, eight, sixteen float64) *tune.Report {
		return &tune.Report{Schema: tune.Schema, Command: []string{"./work", "{n}"}, Metric: "throughput", Unit: "units/s", Better: "higher", Verdict: affinity.Measured,
			Best: &tune.Choice{N: best, Placement: "cores"}, Points: []tune.Point{{N: 8, Placement: "cores", Value: v(eight)}, {N: 16, Placement: "cores", Value: v(sixteen)}}}
	}
	tuned := begin("tune", "a.json", "b.json")
	report, err := tune.Compare(search(8, 100, 90), search(16, 100.5, 140))
	if err != nil {
		t.Fatal(err)
	}
	tuned.Parts, tuned.Answer = []comparedOne{{"tune", report}}, resultAnswer(report)
	tuned.doubt(affinity.Measured, affinity.Inconclusive)

	return map[string]*comparison{
		"machines": machinesOf(laptop(), epyc(t), nil),
		"pod":      machinesOf(epyc(t), pod(t), profile("runtime: go\nwork: {kind: integer, cpu_ms: 4}")),
		"quota":    machinesOf(loose, tight, service),
		"same":     machinesOf(box, box, service),
		"plans":    plansOf(planFor(box, profile("model: processes\nwork: {kind: integer}")), planFor(box, profile("model: processes\nwork: {kind: integer}\nlimits: {avoid_cpus: '0-3'}"))),
		"profiles": plansOf(planFor(box, service), planFor(box, profile("runtime: python\nwork: {kind: service, cpu_ms: 5, wait_ms: 95, blocking: false}"))),
		"tune":     tuned,
	}
}

func TestComparisonView(t *testing.T) {
	for name, c := range comparisons(t) {
		for _, width := range []int{60, 100} {
			var b bytes.Buffer
			p := &page{w: bufio.NewWriter(&b), screen: screen{width: width}}
			comparisonView(p, c, false)
			if err := p.w.Flush(); err != nil {
				t.Fatal(err)
			}
			golden(t, fmt.Sprintf("compare-%s.%d.txt", name, width), b.String())
			for _, l := range strings.Split(b.String(), "\n") {
				if runes(l) > width {
					t.Errorf("%s: %d columns wide: %q", name, runes(l), l)
				}
			}
		}
	}
}

func TestComparisonJSON(t *testing.T) {
	schema := compiledSchemas(t)[comparisonSchema]
	if schema == nil {
		t.Fatal("there is no schema of that name")
	}
	for name, c := range comparisons(t) {
		var b bytes.Buffer
		if err := writeJSON(&b, c); err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %#v", name, err)
		}
	}
}
