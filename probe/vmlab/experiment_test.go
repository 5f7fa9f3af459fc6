//go:build lab

package vmlab

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"berth/probe/cpuset"
)

// TestExperimentSeats lets experiment modes run where cores have siblings: its
// seats must be what the guest's own files call siblings and cores. Of times
// nothing is asked: those of an emulator say nothing.
func TestExperimentSeats(t *testing.T) {
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu Skylake-Server,+x2apic -smp 8,sockets=2,dies=1,cores=2,threads=2",
		steps: "facts\nrun modes /berth experiment modes --time 5s --kernels integer --carrier processes,threads -o json\n"})
	var rep struct {
		Runs []struct {
			Mode, Carrier string
			Workers       int
			CPUs          cpuset.Set
			RanOn         cpuset.Set `json:"ran_on"`
		}
		Skipped []any
	}
	if err := json.Unmarshal([]byte(steps["modes"]), &rep); err != nil {
		t.Fatalf("%v\n%s", err, steps["modes"])
	}
	cores := lists(t, factsOf(steps), "cpu/cpu*/topology/core_cpus_list")
	for _, carrier := range [...]string{"processes", "threads"} {
		seen := map[string]bool{}
		for _, r := range rep.Runs {
			if r.Carrier != carrier {
				continue
			}
			seen[r.Mode] = true
			if !r.RanOn.Equal(r.CPUs) {
				t.Errorf("%s, %s: seats %s, seen on %s", r.Mode, carrier, r.CPUs, r.RanOn)
			}
			shared := 0 // seats beyond the first of their core
			for _, core := range cores {
				set := mustParse(t, core).Intersect(r.CPUs)
				shared += max(set.Len()-1, 0)
			}
			switch r.Mode {
			case "smt":
				if !slices.Contains(cores, r.CPUs.String()) || r.Workers != 2 {
					t.Errorf("smt: %d workers on %s; the cores are %v", r.Workers, r.CPUs, cores)
				}
			case "parallel":
				if shared > 0 || r.Workers != len(cores) {
					t.Errorf("parallel: %d workers on %s; the cores are %v", r.Workers, r.CPUs, cores)
				}
			case "oversubscribed":
				if shared > 0 || r.Workers != 4*len(cores) {
					t.Errorf("oversubscribed: %d workers on %s", r.Workers, r.CPUs)
				}
			}
		}
		if len(seen) != 4 {
			t.Errorf("%s: modes %v, skipped %v", carrier, slices.Sorted(maps.Keys(seen)), rep.Skipped)
		}
	}
}
