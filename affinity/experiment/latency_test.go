//go:build linux

package experiment

import (
	"slices"
	"testing"
	"time"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// TestSampleCPUs looks at which CPUs stand for a large machine's.
func TestSampleCPUs(t *testing.T) {
	tests := []struct {
		machine string
		all     bool
		cpus    int // in the sample; 0: fewer than there are
	}{
		{"core:2 pu:1", false, 2},
		{"package:1 l3:2 core:8 pu:2", false, 32},
		{"package:2 l3:12 core:12 pu:2", false, 0}, // 576 CPUs
		{"package:2 l3:12 core:12 pu:2", true, 576},
		{"package:8 l3:1 core:64 pu:1", false, 0},
		{"package:1 core:128 pu:2", false, 0},
	}
	for _, test := range tests {
		top := &synthetic(t, test.machine).Topology
		sample := sampleCPUs(top, top.Allowed, test.all)
		set := cpuset.Of(sample...)
		if set.Len() != len(sample) || !set.SubsetOf(top.Allowed) {
			t.Fatalf("%s: %v", test.machine, sample)
		}
		if test.cpus > 0 {
			if len(sample) != test.cpus {
				t.Errorf("%s: %d CPUs, want %d", test.machine, len(sample), test.cpus)
			}
			continue
		}
		if n := len(sample); n*(n-1)/2 > pairLimit || n*(n-1)/2 < pairLimit/8 {
			t.Errorf("%s: %d CPUs make %d pairs; %d are the most", test.machine, n, n*(n-1)/2, pairLimit)
		}
		classes := map[string]bool{}
		for i, a := range sample {
			for _, b := range sample[:i] {
				classes[shares(top, a, b)] = true
			}
		}
		for i, c := range top.LastLevel() {
			if !c.CPUs.Overlaps(set) {
				t.Errorf("%s: L3 %d has no CPU in the sample", test.machine, i)
			}
		}
		if smt := top.Cores[0].CPUs.Len() > 1; classes[sharesCore] != smt {
			t.Errorf("%s: siblings in the sample: %v", test.machine, classes[sharesCore])
		}
	}
}

func TestBounces(t *testing.T) {
	if n := bounces(time.Minute, 1); n != 300_000 {
		t.Errorf("one pair: %d", n)
	}
	for _, pairs := range [...]int{100, 1200, 160_000} {
		n := bounces(time.Minute, pairs)
		if took := time.Duration(n) * 200 * time.Nanosecond * time.Duration(pairs) * 12; n > 1000 && took > 40*time.Second {
			t.Errorf("%d pairs: %d bounces each take %v for a dozen rounds", pairs, n, took)
		}
	}
}

func TestLatencyFill(t *testing.T) {
	top := &synthetic(t, "package:2 l3:1 core:2 pu:2").Topology
	rep := &LatencyReport{CPUs: []cpuset.CPU{0, 1, 2, 4}}
	arms := []*pairArm{
		{i: 0, j: 1, arm: arm{round: map[int]measurement{1: {value: 10}, 2: {value: 12}}}},
		{i: 0, j: 2, arm: arm{round: map[int]measurement{1: {value: 50}}}},
		{i: 0, j: 3, arm: arm{round: map[int]measurement{1: {value: 200}}}},
		{i: 1, j: 2, arm: arm{}}, // every trial was disturbed
	}
	rep.fill(top, arms)
	if rep.Pairs != 3 || *rep.NS[1][0] != 11 || *rep.NS[3][0] != 200 || rep.NS[1][2] != nil || rep.NS[2][2] != nil {
		t.Errorf("%d pairs, %v", rep.Pairs, rep.NS)
	}
	var got []string
	for _, c := range rep.Classes {
		got = append(got, c.Shares)
	}
	if want := []string{sharesCore, sharesCache, sharesNothing}; !slices.Equal(got, want) {
		t.Errorf("classes %v, want %v", got, want)
	}
}

func TestFlows(t *testing.T) {
	s := Settings{Machine: synthetic(t, "package:2 numa:1 l3:1 core:4 pu:2")}
	cores, _ := s.cores(s.Machine.Topology.Allowed)
	type flow struct {
		threads, node int
		cpus          string
		local         bool
	}
	var got []flow
	for _, f := range s.flows(cores) {
		got = append(got, flow{f.Threads, f.Node, f.CPUs.String(), f.Local})
	}
	want := []flow{{1, 0, "0", true}, {2, 0, "0,2", true}, {4, 0, "0,2,4,6", true}, {4, 1, "8,10,12,14", true}}
	for _, n := range s.Machine.Topology.NUMANodes[1:] {
		if n.MemoryBytes != nil {
			want = append(want, flow{4, n.ID, "0,2,4,6", false})
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("flows %v, want %v", got, want)
	}
}

func TestHolder(t *testing.T) {
	size := func(n int64) *int64 { return &n }
	top := &topology.Topology{Caches: []topology.Cache{
		{Level: 1, Type: topology.Data, Size: size(32 << 10), CPUs: cpuset.Of(0)},
		{Level: 1, Type: topology.Instruction, Size: size(64 << 10), CPUs: cpuset.Of(0)},
		{Level: 2, Type: "unified", Size: size(1 << 20), CPUs: cpuset.Of(0)},
		{Level: 3, Type: "unified", Size: size(8 << 20), CPUs: cpuset.Of(0, 1)},
	}}
	for bytes, want := range map[int64]string{4 << 10: "L1", 32 << 10: "L1", 64 << 10: "L2", 2 << 20: "L3", 16 << 20: "memory"} {
		if got := holder(top, 0, bytes); got != want {
			t.Errorf("%d bytes fit %s, want %s", bytes, got, want)
		}
	}
	if got := holder(top, 1, 4<<10); got != "L3" {
		t.Errorf("CPU 1: %s", got)
	}
}
