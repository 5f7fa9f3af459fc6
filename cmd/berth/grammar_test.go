package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/advisor"
	"berth/probe"
	"berth/probe/place"
	"berth/profiles"
)

// isUsage says that an error is the user's to mend, with a word on how.
func isUsage(t *testing.T, err error) {
	t.Helper()
	var u *usageError
	if !errors.As(err, &u) || u.hint == "" {
		t.Fatalf("%v has no hint", err)
	}
}

func FuzzColumns(f *testing.F) {
	for _, text := range []string{"", "true", "+", "+SIBLINGS", "CPU,L#CORE,NODE", "cpu, cpu,", "+,", "++CPU", "L2"} {
		f.Add(text, uint8(3))
	}
	source, err := probe.Synthetic("package:1 l3:2 core:2 pu:2")
	if err != nil {
		f.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, how uint8) {
		choice, err := parseColumns(text)
		if err != nil {
			isUsage(t, err)
			return
		}
		var b bytes.Buffer
		if err := extendedView(&b, &m.Topology, choice, how&1 != 0); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "\n"); n != 9 {
			t.Fatalf("%q: %d lines for 8 CPUs\n%s", text, n, b.String())
		}
		b.Reset()
		if err := extendedJSON(&b, &m.Topology, choice, how&2 != 0); err != nil || !json.Valid(b.Bytes()) {
			t.Fatalf("%q: %v\n%s", text, err, b.String())
		}
	})
}

func FuzzSweep(f *testing.F) {
	for _, text := range []string{"work.wait_ms=0:200:10", "quota=0.5:8:0.5", "x=1:0:-0.1", "=0:0:1", "a=1e308:-1e308:-1e304", "a=1e305:1e305:1", "a=0:1:5e-324", "a=nan:1:1", "a=b=0:1:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSweep(text)
		if err != nil {
			isUsage(t, err)
			return
		}
		if s.points < 1 || s.points > mostPoints {
			t.Fatalf("%q: %d points", text, s.points)
		}
		first, last := s.at(0), s.at(s.points-1)
		for _, at := range []string{first, last} {
			if x, err := strconv.ParseFloat(at, 64); err != nil || math.IsInf(x, 0) {
				t.Fatalf("%q has a point %s", text, at)
			}
		}
	})
}

// FuzzJSONLayout: the layout changes white space between tokens and how characters
// are written that do not print, and nothing else.
func FuzzJSONLayout(f *testing.F) {
	for _, text := range []string{`{}`, `[]`, `{"a":[{"b":[{"c":{"d":[]}}]},1],"e":"\"{[,:]}\\"}`, `[[[]],[{}],"",null]`, `"é\u2028"`, ` {"a" : 1e5} `, "\"\x7f\xff\u202e\""} {
		f.Add(text)
	}
	tokens := func(text []byte) (all []json.Token, err error) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		for {
			t, err := d.Token()
			if err == io.EOF {
				return all, nil
			}
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		var out bytes.Buffer
		if err := writeJSON(&out, json.RawMessage(text)); err != nil {
			t.Fatal(err)
		}
		want, wrong := tokens([]byte(text))
		got, err := tokens(out.Bytes())
		if err := errors.Join(wrong, err); err != nil || !slices.Equal(want, got) {
			t.Fatalf("%v: %s was laid out as\n%s", err, text, out.String())
		}
		if strings.HasSuffix(strings.TrimSuffix(out.String(), "\n"), " ") || strings.Contains(out.String(), " \n") {
			t.Errorf("white space at the end of a line:\n%q", out.String())
		}
	})
}

// changed is a JSON value with about one in so many of its parts other than it was.
func changed(v any, rng *rand.Rand, oneIn int) any {
	if rng.IntN(oneIn) == 0 {
		odd := [...]any{nil, "", "0", "0-3", "1,3", "63", "0-70", "x", -1.0, 0.0, 1.0, 7.0, 1e18, 0.5, []any{}, map[string]any{}}
		return odd[rng.IntN(len(odd))]
	}
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = changed(v[i], rng, oneIn)
		}
		if len(v) > 0 && rng.IntN(oneIn) == 0 {
			v = append(v[:rng.IntN(len(v))], v[rng.IntN(len(v)):]...)
		}
		return v
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key != "schema" {
				v[key] = changed(v[key], rng, oneIn)
			}
		}
	}
	return v
}

// FuzzMachine takes any machine that --machine would, made of bytes or of another
// machine by changes: it can be shown, planned for and asked for places.
func FuzzMachine(f *testing.F) {
	for _, description := range []string{"package:2 numa:1(memory=4GiB) l3:2(size=8MiB) core:2 pu:2", "pu:3"} {
		source, err := probe.Synthetic(description)
		if err != nil {
			f.Fatal(err)
		}
		m, err := probe.Probe(context.Background(), source)
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for seed := range uint64(100) {
			f.Add(text, uint8(seed), seed)
		}
	}
	for _, text := range []string{
		`{"schema":"berth.inspect/v1","topology":{"online":"0-3","allowed":"0,2","cores":[{"cpus":"0-1"},{"cpus":"2-3"}],"numa_nodes":[{"id":-1,"cpus":"9"}],"packages":[{"cpus":""}]},"limits":{"quota_cpus":1e-300}}`,
		`{"schema":"berth.inspect/v1","topology":{"online":"7,65535","allowed":"65535","caches":[{"level":9,"type":"x","cpus":"7","size_bytes":-1}],"core_kinds":[{"name":"","cpus":"","capacity":-1},{"name":"a","cpus":"0-9","capacity":0}]}}`,
		`{"schema":"berth.inspect/v1","topology":{"online":"0","allowed":"0","smt":{"threads_per_core":-1},"isolated":"5"},"limits":{"chain":[{}],"memory_bytes":0},"devices":[{}],"findings":[{}]}`,
	} {
		f.Add([]byte(text), uint8(1), uint64(0))
	}
	var workloads []*profiles.Profile
	for _, work := range []string{
		"work: {cpu_ms: 2, wait_ms: 30}\nlimits: {memory_per_worker_mib: 50}", "work: {kind: memory-bandwidth}", "runtime: python\nwork: {cpu_ms: 5, native_ms: 2, wait_ms: 2}",
		"objective: latency\nwork: {cpu_ms: 5}\nload: {arrival_per_s: 90, wait_target_ms: 2}", "runtime: openmp\nload: {ranks_per: llc}", "objective: efficiency\nwork: {communicates: true}",
	} {
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: w\n"+work+"\n"), "w")
		if err != nil {
			f.Fatal(err)
		}
		workloads = append(workloads, p)
	}
	f.Fuzz(func(t *testing.T, text []byte, which uint8, changes uint64) {
		var v any
		if changes > 0 && json.Unmarshal(text, &v) == nil {
			rng := rand.New(rand.NewPCG(changes, 1))
			text, _ = json.Marshal(changed(v, rng, 8<<rng.IntN(6))) // of what JSON made, so that it can
		}
		m, err := probe.Read(bytes.NewReader(text), "f.json")
		if err != nil || m.Topology.Online.Len() > 512 { // more only takes longer
			return
		}
		out := bufio.NewWriter(io.Discard)
		s := screen{width: 100}
		if err := textView(out, m, textOptions{title: (&machineFlags{}).title(m), screen: s}); err != nil {
			t.Fatal(err)
		}
		columns, err := parseColumns("+SIBLINGS,LLC")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(extendedView(out, &m.Topology, columns, true), cachesView(out, &m.Topology)); err != nil {
			t.Fatal(err)
		}
		for _, expr := range []string{"llc:all", "core:all.pu:0", "numa:all.core:0", "likwid:M:scatter", "omp:cores"} {
			places, err := place.Parse(expr, &m.Topology)
			if err != nil {
				continue
			}
			if !places.Union().SubsetOf(m.Topology.Online) {
				t.Fatalf("%s is %v, of %s", expr, places, m.Topology.Online)
			}
			placeView(out, describePlaces(expr, places, &m.Topology), &m.Topology, s)
		}
		plan, err := advisor.Advise(m, workloads[int(which)%len(workloads)], nil)
		if err != nil {
			t.Fatal(err)
		}
		if !plan.Placement.CPUs.SubsetOf(m.Topology.Allowed) || plan.Workers.Total() < 1 {
			t.Fatalf("%+v of %s", plan, m.Topology.Allowed)
		}
		if err := planView(out, plan, m, planOptions{title: "a machine", screen: s}); err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(io.Discard, plan); err != nil { // has no NaN
			t.Fatal(err)
		}
	})
}
