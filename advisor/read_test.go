package advisor

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
	"berth/probe/cpuset"
	"berth/probe/topology"
	"berth/profiles"
)

func document(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzRead takes any bytes for a berth.plan/v1 document. A launcher can rely on
// what is read, and it reads the same again.
func FuzzRead(f *testing.F) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := randomShape(rng)
		p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: seed\nwork: {cpu_ms: 2, wait_ms: 3}\n"), "seed")
		if err != nil {
			f.Fatal(err)
		}
		plan, err := Advise(s.machine(), p, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(document(f, plan))
	}
	const head = `{"schema":"berth.plan/v1","workers":{"model":"threads",`
	for _, text := range []string{
		`"processes":1,"threads_per_process":2000000000,"inner_threads":2000000000},"placement":{"pin":"per_cpu","seats":[{"worker":0,"thread":1999999999,"cpus":"0"}]}}`,
		`"processes":4194304,"threads_per_process":1},"placement":{"pin":"?","cpus":"","seats":[{"worker":3,"cpus":"0-3","mems":"x"}]}}`,
		`"processes":1,"threads_per_process":9223372036854775807,"inner_threads":9223372036854775807},"placement":{"seats":[{"worker":0,"thread":0,"cpus":"9"}]}}`,
		`"processes":2,"threads_per_process":2,"in_flight":-1,"event_loops":-5},"budget_cpus":-1,"predicted":{"knee_95":-1},"memory_mib":-1e308}`,
	} {
		f.Add([]byte(head + text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Read(bytes.NewReader(text), "f.json")
		if err != nil {
			if p != nil || !strings.HasPrefix(err.Error(), "f.json") {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		w := p.Workers
		if w.Processes < 1 || w.Threads < 1 || w.Inner < 0 || w.Total() < 1 || w.Total() > mostThreads {
			t.Fatalf("%+v are %d threads", w, w.Total())
		}
		seated := map[int]bool{}
		for _, s := range p.Placement.Seats {
			seated[s.Worker] = true
			if s.Worker < 0 || s.Worker >= w.Processes || s.CPUs.IsEmpty() || s.Thread != nil && (*s.Thread < 0 || *s.Thread >= w.Total()) {
				t.Fatalf("seat %+v of %+v", s, w)
			}
			if _, err := cpuset.Parse(s.Mems); err != nil {
				t.Fatalf("seat %+v: %v", s, err)
			}
		}
		if len(seated) > 0 && len(seated) != w.Processes {
			t.Fatalf("%d of %d workers have seats", len(seated), w.Processes)
		}
		again, err := Read(bytes.NewReader(document(t, p)), "again")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(document(t, p), document(t, again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestFromDescriptionToSeats goes the whole way, as a user does who carries the
// machine and the plan about in files: description, JSON, plan, JSON, seats.
func TestFromDescriptionToSeats(t *testing.T) {
	for seed := range cases() / 3 {
		rng := rand.New(rand.NewPCG(seed, 13))
		description := fmt.Sprintf("package:%d %snuma:%d l3:%d core:%d pu:%d", 1+rng.IntN(3), pick(rng, "", "die:2 "), 1+rng.IntN(2), 1+rng.IntN(3), 1+rng.IntN(5), 1+rng.IntN(3))
		source, err := probe.Synthetic(description)
		if err != nil {
			t.Fatal(err)
		}
		made, err := probe.Probe(context.Background(), source)
		if err != nil {
			t.Fatal(err)
		}
		made.Topology.Allowed = someOf(rng, made.Topology.Online)
		m, err := probe.Read(bytes.NewReader(document(t, made)), "machine")
		if err != nil {
			t.Fatal(err)
		}
		profile := randomProfile(t, rng)
		plan, err := Advise(m, profile, nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Read(bytes.NewReader(document(t, plan)), "plan")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(document(t, plan)), string(document(t, back))); diff != "" {
			t.Errorf("the plan changes on its way (-made +read)\n%s", diff)
		}
		direct, err := Advise(made, profile, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(direct, plan); diff != "" {
			t.Errorf("the machine from a file has another plan (-direct +file)\n%s", diff)
		}
		checkSeats(t, m, back)
		if t.Failed() {
			t.Fatalf("seed %d, %s, allowed %s\nprofile %s\nplan %s", seed, description, m.Topology.Allowed, document(t, profile), document(t, plan))
		}
	}
}

// checkSeats holds a plan's seats against its machine.
func checkSeats(t *testing.T, m *probe.Machine, p *Plan) {
	t.Helper()
	place := &p.Placement
	perWorker := map[int]int{}
	nodes := cpuset.Set{}
	for _, n := range m.Topology.NUMANodes {
		nodes = nodes.Union(cpuset.Of(cpuset.CPU(n.ID)))
	}
	for _, s := range place.Seats {
		perWorker[s.Worker]++
		if !s.CPUs.SubsetOf(place.CPUs) || !s.CPUs.SubsetOf(m.Topology.Allowed) {
			t.Errorf("seat %+v is outside of %s", s, place.CPUs)
		}
		mems, err := cpuset.Parse(s.Mems)
		if err != nil || !mems.SubsetOf(nodes) {
			t.Errorf("seat %+v: memory of nodes that are not there", s)
		}
		switch place.Pin {
		case PerCPU:
			if s.CPUs.Len() != 1 {
				t.Errorf("per CPU, and seat %+v", s)
			}
		case PerCore:
			core := coreOf(m, s.CPUs.First())
			if s.CPUs.Len() != 1 || core == nil || core.CPUs.Intersect(place.CPUs).Len() != 1 {
				t.Errorf("one per core, and seat %+v on core %+v of %s", s, core, place.CPUs)
			}
		}
	}
	if len(place.Seats) == 0 {
		return
	}
	// Every worker has a seat, or one for each of its threads.
	if len(perWorker) != p.Workers.Processes {
		t.Errorf("%d of %d workers have seats", len(perWorker), p.Workers.Processes)
	}
	threads := p.Workers.Threads * max(1, p.Workers.Inner)
	for w, n := range perWorker {
		if n != 1 && n != threads {
			t.Errorf("worker %d of %d threads has %d seats", w, threads, n)
		}
	}
}

func coreOf(m *probe.Machine, c cpuset.CPU) *topology.Core {
	for i := range m.Topology.Cores {
		if m.Topology.Cores[i].CPUs.Contains(c) {
			return &m.Topology.Cores[i]
		}
	}
	return nil
}

// FuzzCalibrated plans by any calibration that can be read: all figures of the
// plan are finite, whatever the measurements were.
func FuzzCalibrated(f *testing.F) {
	const head = `{"schema":"berth.calibration/v1",`
	f.Add([]byte(head+`"smt_yield":{"integer":0.2,"memory-bandwidth":-0.99},"memory_bandwidth_gbs":{"0":112,"1":1e-300}}`), uint64(1))
	f.Add([]byte(head+`"memory_bandwidth_gbs":{"0":1e308,"1":1e308},"smt_yield":{"service":16}}`), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		c, err := probe.ReadCalibration(bytes.NewReader(text), "f.json")
		if err != nil {
			return
		}
		c.Fingerprint = "" // the machine has none
		rng := rand.New(rand.NewPCG(seed, 17))
		s := randomShape(rng)
		plan, err := Advise(s.machine(), randomProfile(t, rng), c)
		if err != nil {
			t.Fatal(err)
		}
		finite(t, plan)
		if plan.Workers.Total() < 1 || !plan.Placement.CPUs.SubsetOf(s.machine().Topology.Online) {
			t.Fatalf("%+v", plan)
		}
	})
}
