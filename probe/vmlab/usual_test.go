//go:build lab

package vmlab

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
)

// look prints the guest's files and berth's machine.
const look = "facts\nrun machine /berth inspect -o json\n"

// usual are the steps that every guest of the matrix takes: a program run on a
// seat, running ones seated, looked at and given back, an experiment among some
// CPUs (empty: none), a snapshot.
func usual(seat, others, experiment string) string {
	steps := look +
		"run run /berth run -c " + seat + " --receipt=- -- /init busy 2s\n" +
		"start busy /init busy 10m\n" +
		"run pin /berth pin --match ^/init.busy -c " + others + " --undo-file /undo --receipt=-\n" +
		"run pinned /berth ps --match ^/init.busy -i 500ms -o json\n" +
		"run undo /berth pin --undo /undo\n" +
		"run unpinned /berth ps --match ^/init.busy -i 100ms -o json\n" +
		"stop busy\n"
	if experiment != "" {
		steps += "run modes /berth experiment modes --quick --kernels integer --carrier processes,threads --cpus " + experiment + " -o json\n"
	}
	return steps + "run save /berth snapshot /s.tar.xz\nrun replay /berth inspect -o json --sysroot /s.tar.xz\nsend snapshot /s.tar.xz\n"
}

// checkUsual holds what those steps said against what was asked for.
func checkUsual(t *testing.T, steps map[string]string, seat, others, experiment string) {
	t.Helper()
	checkReceipt(t, steps, "run", seat)
	checkReceipt(t, steps, "pin", others)
	allowed := machineOf(t, steps, "machine").Topology.Allowed.String()
	checkThreads(t, steps, "pinned", others)
	checkThreads(t, steps, "unpinned", allowed)
	if experiment != "" {
		checkModes(t, steps, experiment)
	}
	checkReplay(t, steps)
}

// checkReceipt checks that threads got the seat and were seen nowhere else.
func checkReceipt(t *testing.T, steps map[string]string, name, seat string) {
	t.Helper()
	var r affinity.Receipt
	document(t, steps, name, &r)
	threads := 0
	for _, w := range r.Workers {
		for _, th := range w.Threads {
			if th.Set.IsEmpty() { // it ended before it could be read
				continue
			}
			threads++
			if th.Set.String() != seat || name == "run" && !th.RanOn.SubsetOf(mustParse(t, seat)) {
				t.Errorf("%s on %s: thread %s has %s and ran on %s", name, seat, th.Name, th.Set, th.RanOn)
			}
		}
	}
	if threads == 0 {
		t.Errorf("%s: no thread in the receipt:\n%s", name, steps[name])
	}
	for _, b := range r.Broken {
		if b.Code != affinity.SqueezedOut { // that is of time
			t.Errorf("%s: %s", name, b.Message)
		}
	}
}

// checkThreads checks on which CPUs ps says that threads may run.
func checkThreads(t *testing.T, steps map[string]string, name, allowed string) {
	t.Helper()
	var doc struct {
		Threads []struct {
			Name    string
			Allowed cpuset.Set
			CPU     *cpuset.CPU
			Busy    bool
		}
	}
	document(t, steps, name, &doc)
	if len(doc.Threads) == 0 {
		t.Errorf("%s: ps shows no thread:\n%s", name, steps[name])
	}
	for _, th := range doc.Threads {
		if th.Allowed.String() != allowed {
			t.Errorf("%s: thread %s may run on %s, not %s", name, th.Name, th.Allowed, allowed)
		}
		if th.Busy && (th.CPU == nil || !th.Allowed.Contains(*th.CPU)) {
			t.Errorf("%s: thread %s is on %v, and may run on %s", name, th.Name, th.CPU, th.Allowed)
		}
	}
}

// checkModes checks that the seats of experiment modes are what the guest's own
// files call siblings and cores. Of times nothing is asked: those of an emulator
// say nothing.
func checkModes(t *testing.T, steps map[string]string, among string) {
	t.Helper()
	var rep struct {
		Runs []struct {
			Mode, Carrier string
			Workers       int
			CPUs          cpuset.Set
			RanOn         cpuset.Set `json:"ran_on"`
		}
		Skipped []struct{ Mode, Why string }
	}
	document(t, steps, "modes", &rep)
	var cores []cpuset.Set
	siblings := false
	for _, list := range factsOf(steps).lists(t, "cpu/cpu*/topology/core_cpus_list") {
		if set := mustParse(t, list).Intersect(mustParse(t, among)); !set.IsEmpty() {
			cores = append(cores, set)
			siblings = siblings || set.Len() > 1
		}
	}
	want := []string{"alone", "oversubscribed"}
	if len(cores) > 1 {
		want = append(want, "parallel")
	}
	if siblings {
		want = append(want, "smt")
	}
	slices.Sort(want)
	for _, carrier := range [...]string{"processes", "threads"} {
		seen := map[string]bool{}
		for _, r := range rep.Runs {
			if r.Carrier != carrier {
				continue
			}
			seen[r.Mode] = true
			// In so short a time not every worker is seen at work.
			if r.RanOn.IsEmpty() || !r.RanOn.SubsetOf(r.CPUs) {
				t.Errorf("%s, %s: seats %s, seen on %s", r.Mode, carrier, r.CPUs, r.RanOn)
			}
			shared := 0 // seats beyond the first of their core
			for _, core := range cores {
				shared += max(core.Intersect(r.CPUs).Len()-1, 0)
			}
			switch r.Mode {
			case "smt":
				if !slices.ContainsFunc(cores, r.CPUs.Equal) || r.Workers != 2 {
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
		// Nor does each mode have its turn.
		got := slices.Sorted(maps.Keys(seen))
		if len(got) == 0 || slices.ContainsFunc(got, func(mode string) bool { return !slices.Contains(want, mode) }) {
			t.Errorf("%s: modes %v, of %v; skipped %v", carrier, got, want, rep.Skipped)
		}
		if !slices.Equal(got, want) {
			t.Logf("%s: of the modes %v there was time for %v", carrier, want, got)
		}
	}
}

// checkReplay checks that a snapshot says outside what it says inside, and of
// the hardware what the live machine did.
func checkReplay(t *testing.T, steps map[string]string) {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(steps["snapshot"]))
	if err != nil || len(data) == 0 {
		t.Errorf("the snapshot: %v\n%s", err, steps["save"])
		return
	}
	file := filepath.Join(t.TempDir(), "s.tar.xz")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := probe.Sysroot(file)
	if err != nil {
		t.Error(err)
		return
	}
	defer source.Close()
	outside, err := probe.Probe(t.Context(), source)
	if err != nil {
		t.Error(err)
		return
	}
	live, inside := machineOf(t, steps, "machine"), machineOf(t, steps, "replay")
	if a, b := asJSON(t, outside), asJSON(t, inside); !bytes.Equal(a, b) {
		t.Errorf("the snapshot says outside\n%s\nand inside\n%s", a, b)
	}
	if a, b := asJSON(t, outside.Topology), asJSON(t, live.Topology); !bytes.Equal(a, b) {
		t.Errorf("the snapshot says\n%s\nand the live machine\n%s", a, b)
	}
	if outside.Fingerprint != live.Fingerprint || outside.Limits.EffectiveCPUs != live.Limits.EffectiveCPUs {
		t.Errorf("the snapshot has fingerprint %s and budget %v, the live machine %s and %v",
			outside.Fingerprint, outside.Limits.EffectiveCPUs, live.Fingerprint, live.Limits.EffectiveCPUs)
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
