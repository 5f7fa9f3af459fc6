package emit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// fleets are nodes that do not all follow one plan.
func fleets() map[string][]struct {
	names, folded string
	plan          testPlan
} {
	type part = struct {
		names, folded string
		plan          testPlan
	}
	const wide, narrow = "package:2 numa:1 core:4 pu:2", "package:1 numa:1 core:4 pu:1"
	return map[string][]part{
		"ranks": {
			{"n1 n2", "n[1-2]", testPlan{name: "ranks", machine: wide, profile: "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}\nlimits: {memory_per_worker_mib: 2000}"}},
			{"m1", "m1", testPlan{name: "ranks", machine: narrow, profile: "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}\nlimits: {memory_per_worker_mib: 2000}"}},
		},
		"processes": {
			{"n1 n2", "n[1-2]", testPlan{name: "processes", machine: wide, profile: "model: processes\nwork: {kind: float}"}},
			{"m1.example.org", "m1.example.org", testPlan{name: "processes", machine: narrow, profile: "model: processes\nwork: {kind: float}"}},
		},
		"loose": {
			{"n1", "n1", testPlan{name: "loose", machine: wide, profile: "runtime: python\nwork: {kind: service, cpu_ms: 10, wait_ms: 40}"}},
			{"m1", "m1", testPlan{name: "loose", machine: narrow, profile: "model: processes\nwork: {kind: float}"}},
		},
	}
}

func TestFleetGolden(t *testing.T) {
	for _, target := range FleetTargets() {
		if found, ok := FindFleet(target.Name()); !ok || found != target || target.About() == "" {
			t.Errorf("%s is not found", target.Name())
		}
		var got txtar.Archive
		for _, name := range []string{"loose", "processes", "ranks"} {
			var parts []Nodes
			for _, p := range fleets()[name] {
				parts = append(parts, Nodes{Names: strings.Fields(p.names), Folded: p.folded, Plan: p.plan.advise(t)})
			}
			text := target.EmitFleet(parts).Text
			if target.Name() != "spark" && target.Name() != "kubernetes" {
				c := exec.Command("sh", "-n")
				c.Stdin = strings.NewReader(text)
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("%s, %s: sh refuses it: %v\n%s\n%s", target.Name(), name, err, out, text)
				}
			}
			got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
		}
		path := filepath.Join("testdata", "golden", "fleet-"+target.Name()+".txtar")
		if *update {
			if err := os.WriteFile(path, txtar.Format(&got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; -update writes it", err)
		}
		if diff := cmp.Diff(string(want), string(txtar.Format(&got))); diff != "" {
			t.Errorf("%s (-want +got); -update accepts it\n%s", path, diff)
		}
	}
}
