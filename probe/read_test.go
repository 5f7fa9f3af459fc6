package probe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/probe"
)

// described is a made-up machine as `berth inspect -o json` prints it.
func described(t testing.TB, description string) []byte {
	t.Helper()
	source, err := probe.Synthetic(description)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	return document(t, m)
}

func document(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzRead takes any bytes for a berth.inspect/v1 document. What is read holds
// together, and reads the same again.
func FuzzRead(f *testing.F) {
	f.Add(described(f, "package:2 numa:1(memory=4GiB) l3:2(size=8MiB) core:2 pu:2"))
	const head = `{"schema":"berth.inspect/v1",`
	for _, text := range []string{
		`"topology":{"online":"0-3","allowed":"0,2","cores":[{"cpus":"0-1"},{"cpus":"2-3"}],"numa_nodes":[{"id":-1,"cpus":"9"}]},"limits":{"quota_cpus":1e-300}}`,
		`"topology":{"online":"65535","allowed":"65535","caches":[{"level":-4,"type":"x","cpus":"7"}],"core_kinds":[{"name":"","cpus":"","capacity":-1}]}}`,
		`"topology":{"online":"0","allowed":"0","smt":{"threads_per_core":-1},"isolated":"5"},"limits":{"chain":[{}],"memory_bytes":0},"devices":[{}],"findings":[{}]}`,
	} {
		f.Add([]byte(head + text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := probe.Read(bytes.NewReader(text), "f.json")
		if err != nil {
			if m != nil || !strings.HasPrefix(err.Error(), "f.json") {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		top := &m.Topology
		if top.Allowed.IsEmpty() || !top.Allowed.SubsetOf(top.Online) {
			t.Fatalf("online %s, allowed %s", top.Online, top.Allowed)
		}
		if b := m.Limits.EffectiveCPUs; !(b > 0 && b <= float64(top.Allowed.Len())) {
			t.Fatalf("budget %v", b)
		}
		again, err := probe.Read(bytes.NewReader(document(t, m)), "again")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(document(t, m), document(t, again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzReadCalibration takes any bytes for a berth.calibration/v1 document.
func FuzzReadCalibration(f *testing.F) {
	const head = `{"schema":"berth.calibration/v1",`
	for _, text := range []string{
		`"smt_yield":{"integer":0.2,"float":-0.1},"memory_bandwidth_gbs":{"0":112,"1":90.5},"switch_us":2.5,"core_to_core_ns":[[null,60],[61,null]],"machine_fingerprint":"a"}`,
		`"smt_yield":{"":16},"memory_bandwidth_gbs":{"+0":1e308},"measured_at":{"switch_us":"2026-01-02T03:04:05.6Z"}}`,
		`"switch_us":-1,"core_to_core_ns":[[],[1,2,3]]}`,
	} {
		f.Add([]byte(head + text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := probe.ReadCalibration(bytes.NewReader(text), "f.json")
		if err != nil {
			if c != nil || !strings.HasPrefix(err.Error(), "f.json") {
				t.Fatalf("%v, %v", c, err)
			}
			return
		}
		for kind, y := range c.SMTYield {
			if !(y > -1 && y <= 16) {
				t.Fatalf("the yield of %q is %v", kind, y)
			}
		}
		for node, b := range c.MemoryBandwidthGBS {
			if !(b > 0) {
				t.Fatalf("the bandwidth of node %q is %v", node, b)
			}
		}
		again, err := probe.ReadCalibration(bytes.NewReader(document(t, c)), "again")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestMadeUpMachinesSurvive takes machines made at random through their JSON.
func TestMadeUpMachinesSurvive(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 9))
		description := randomDescription(r)
		first := described(t, description)
		m, err := probe.Read(bytes.NewReader(first), "machine")
		if err != nil {
			t.Fatalf("%s: %v", description, err)
		}
		checkMachine(t, m)
		if diff := cmp.Diff(string(first), string(document(t, m))); diff != "" {
			t.Fatalf("%s changes on its way (-printed +read)\n%s", description, diff)
		}
	}
}

// randomDescription has some of the levels that there are, with some attributes.
func randomDescription(r *rand.Rand) string {
	var levels []string
	level := func(chance float64, name string, most int, attribute string) {
		if r.Float64() >= chance {
			return
		}
		word := fmt.Sprintf("%s:%d", name, 1+r.IntN(most))
		if attribute != "" && r.IntN(2) == 0 {
			word += "(" + attribute + ")"
		}
		levels = append(levels, word)
	}
	level(0.9, "package", 4, "")
	level(0.2, "die", 2, "")
	level(0.5, "numa", 3, fmt.Sprintf("memory=%dMiB", 1+r.IntN(1<<20)))
	level(0.6, "l3", 3, "size=32MiB")
	level(0.2, "cluster", 2, "")
	level(0.4, "l2", 2, "size=1MiB")
	level(0.9, "core", 6, "")
	level(0.3, "l1d", 1, "size=32KiB")
	level(1, "pu", 4, "")
	return strings.Join(levels, " ")
}
