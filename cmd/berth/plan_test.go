//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"berth/advisor"
	"berth/probe"
	"berth/profiles"
)

// plans are what the views of a plan are tested on: a profile for each rule,
// each on a machine that makes it show.
func plans(t *testing.T) map[string]struct {
	machine *probe.Machine
	profile *profiles.Profile
	plan    *advisor.Plan
} {
	t.Helper()
	type planned = struct {
		machine *probe.Machine
		profile *profiles.Profile
		plan    *advisor.Plan
	}
	out := map[string]planned{}
	for name, c := range map[string]struct {
		machine *probe.Machine
		profile string
	}{
		"pure":       {epyc(t), "work: {kind: float, cpu_ms: 20}"},
		"siblings":   {described(t, "Test CPU", "package:1 l3:2 core:4 pu:2"), "work: {kind: integer}"},
		"blocking":   {described(t, "Test CPU", "package:1 l3:2 core:4 pu:2"), "work: {kind: service, cpu_ms: 5, wait_ms: 45}\nlimits: {memory_per_worker_mib: 8}"},
		"quota":      {pod(t), "runtime: go\nwork: {kind: integer, cpu_ms: 4}"},
		"jvm":        {pod(t), "runtime: java\nwork: {kind: service, cpu_ms: 1, wait_ms: 20, blocking: false}\nload: {arrival_per_s: 800}"},
		"gil":        {laptop(), "runtime: python\nwork: {kind: service, cpu_ms: 8, native_ms: 2, wait_ms: 30}"},
		"async":      {epyc(t), "runtime: python\nwork: {kind: service, cpu_ms: 1, wait_ms: 60, blocking: false}\nload: {arrival_per_s: 9000}"},
		"infeasible": {described(t, "Test CPU", "package:1 l3:1 core:4 pu:1"), "objective: latency\nwork: {kind: service, cpu_ms: 8}\nload: {arrival_per_s: 600, wait_target_ms: 2}"},
		"ranks":      {described(t, "Test CPU", "package:2 numa:2 l3:2 core:4 pu:2"), "runtime: openmp\nwork: {kind: float, partition: static}\nload: {ranks_per: node}"},
	} {
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: "+name+"\n"+c.profile), name)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := advisor.Advise(c.machine, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = planned{c.machine, p, plan}
	}
	return out
}

func TestPlanView(t *testing.T) {
	for name, c := range plans(t) {
		for _, width := range []int{60, 100} {
			var b bytes.Buffer
			o := planOptions{title: tidyTitle(c.machine.CPU.Brand), screen: screen{width: width}}
			if width == 100 {
				around, err := advisor.Around(c.machine, c.profile, nil, c.plan)
				if err != nil {
					t.Fatal(err)
				}
				o.around = around
			}
			if err := planView(bufio.NewWriter(&b), c.plan, c.machine, o); err != nil {
				t.Fatal(err)
			}
			golden(t, fmt.Sprintf("plan-%s.%d.txt", name, width), b.String())
			for _, l := range strings.Split(b.String(), "\n") {
				if runes(l) > width {
					t.Errorf("%s: %d columns wide: %q", name, runes(l), l)
				}
			}
		}
	}
}

// A plan keeps to its schema, and YAML says what JSON says.
func TestPlanJSON(t *testing.T) {
	schema := compiledSchemas(t)[advisor.Schema]
	for name, c := range plans(t) {
		var b bytes.Buffer
		if err := writeJSON(&b, c.plan); err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %#v", name, err)
		}
		var back advisor.Plan
		if err := json.Unmarshal(b.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.plan, &back); diff != "" {
			t.Errorf("%s: reading the JSON back (-written +read)\n%s", name, diff)
		}
		b.Reset()
		if err := writeYAML(&b, c.plan); err != nil {
			t.Fatal(err)
		}
		var again advisor.Plan
		if err := yaml.Unmarshal(b.Bytes(), &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.plan, &again); diff != "" {
			t.Errorf("%s: reading the YAML back (-written +read)\n%s", name, diff)
		}
	}
}
