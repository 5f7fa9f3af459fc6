//go:build linux

package experiment

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/affinity/experiment/kernel"
	"berth/probe"
	"berth/probe/cpuset"
)

func TestMain(m *testing.M) {
	Worker()
	os.Exit(m.Run())
}

func cpusetOf(cpus ...cpuset.CPU) cpuset.Set { return cpuset.Of(cpus...) }

func synthetic(t *testing.T, text string) *probe.Machine {
	t.Helper()
	source, err := probe.Synthetic(text)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestModeArms looks at the seats of machines that are not here.
func TestModeArms(t *testing.T) {
	tests := []struct {
		machine string
		cpus    string
		options ModesOptions
		want    string // mode: seats of each arm of the first carrier and kernel
		skipped string
	}{
		{"package:1 core:4 pu:2", "", ModesOptions{}, "alone: 0; parallel: 0,2,4,6; smt: 0,1; oversubscribed: 0,2,4,6,0,2,4,6,0,2,4,6,0,2,4,6", ""},
		{"package:1 core:4 pu:2", "2-3", ModesOptions{}, "alone: 2; smt: 2,3; oversubscribed: 2,2,2,2", "parallel: only one core is there to measure on: CPUs 2-3"},
		{"package:1 core:4 pu:2", "0,2", ModesOptions{Over: []int{2}}, "alone: 0; parallel: 0,2; oversubscribed: 0,2,0,2", "smt: no core has two of the CPUs 0,2"},
		{"package:1 core:4 pu:2", "", ModesOptions{Workers: 2, Over: []int{2, 4}}, "alone: 0; parallel: 0,2; smt: 0,1; oversubscribed: 0,2,0,2; oversubscribed: 0,2,0,2,0,2,0,2", ""},
		{"core:2 pu:1", "", ModesOptions{}, "alone: 0; parallel: 0,1; oversubscribed: 0,1,0,1,0,1,0,1", "smt: no core here has more than one CPU"},
		{"core:1 pu:1", "", ModesOptions{}, "alone: 0; oversubscribed: 0,0,0,0", "parallel: only one core is there to measure on: CPUs 0; smt: no core here has more than one CPU"},
		{"core:2 pu:2", "", ModesOptions{Carriers: []Carrier{Async}}, "alone: 0; oversubscribed: 0,0,0,0", "parallel: one thread runs its tasks on one CPU; smt: one thread runs its tasks on one CPU"},
	}
	for _, test := range tests {
		s := Settings{Machine: synthetic(t, test.machine)}
		cpus := s.Machine.Topology.Allowed
		if test.cpus != "" {
			var err error
			if cpus, err = cpuset.Parse(test.cpus); err != nil {
				t.Fatal(err)
			}
		}
		o := test.options
		o.Kernels = []string{"integer"}
		if o.Carriers == nil {
			o.Carriers = []Carrier{Processes}
		}
		if o.Over == nil {
			o.Over = []int{4}
		}
		rep := &ModesReport{Report: s.newReport("modes", cpus)}
		var got, skipped []string
		for _, a := range s.modeArms(rep, cpus, &o) {
			got = append(got, fmt.Sprintf("%s: %s", a.run.Mode, strings.Trim(strings.ReplaceAll(fmt.Sprint(a.seats), " ", ","), "[]")))
		}
		for _, x := range rep.Skipped {
			skipped = append(skipped, fmt.Sprintf("%s: %s", x.Mode, x.Why))
		}
		if g := strings.Join(got, "; "); g != test.want {
			t.Errorf("%s on %s:\n got %s\nwant %s", test.machine, cpus, g, test.want)
		}
		if g := strings.Join(skipped, "; "); g != test.skipped {
			t.Errorf("%s on %s: skipped\n got %s\nwant %s", test.machine, cpus, g, test.skipped)
		}
	}
}

func TestNotAllowed(t *testing.T) {
	m := liveMachine(t)
	_, err := Modes(t.Context(), Settings{Machine: m, CPUs: cpuset.Of(4095), Limit: time.Second}, ModesOptions{})
	if n, ok := err.(*NotAllowed); !ok || !n.Out.Equal(cpuset.Of(4095)) {
		t.Errorf("error %v", err)
	}
}

// TestModes measures for real: what was seen of seats, workers and units must be
// right, however disturbed the machine is.
func TestModes(t *testing.T) {
	before, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	m := liveMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	trials := 0
	enough := func(float64, string) {
		if trials++; trials == 60 { // each arm twice at least
			cancel()
		}
	}
	rep, err := Modes(ctx, Settings{Machine: m, Limit: time.Minute, Window: 10 * time.Millisecond, Progress: enough},
		ModesOptions{Kernels: []string{"integer", "service", "syscall"}, Carriers: Carriers(), Over: []int{2}, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Trials == 0 {
		t.Fatal("no trial was made")
	}
	for _, r := range rep.Runs {
		if r.Workers != r.CPUs.Len()*r.PerCPU || !r.RanOn.SubsetOf(r.CPUs) || r.RanOn.IsEmpty() {
			t.Errorf("%s %s %s: %d workers on %s, %d each, ran on %s", r.Mode, r.Kernel, r.Carrier, r.Workers, r.CPUs, r.PerCPU, r.RanOn)
		}
		if r.Unit != kernel.Unit(r.Kernel) || r.Throughput.Runs > 0 && (r.Throughput.Median < 0 || r.Throughput.Low > r.Throughput.High) {
			t.Errorf("%+v", r)
		}
		if r.Mode == Alone && (r.Relative.Runs > 0 && r.Relative.Median != 1 || r.Workers != 1) {
			t.Errorf("alone: %+v", r)
		}
	}
	after, err := probe.Affinity(0)
	if err != nil || !after.Equal(before) {
		t.Errorf("this thread may run on %s (%v), before on %s", after, err, before)
	}
	noChildren(t)
}

// noChildren fails if a worker is left.
func noChildren(t *testing.T) {
	t.Helper()
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}

func TestWorkerKilled(t *testing.T) {
	s := Settings{Machine: liveMachine(t)}
	crew, err := s.newCrew()
	if err != nil {
		t.Fatal(err)
	}
	w, err := crew.hire(cpuset.Set{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		w.cmd.Process.Kill()
	}()
	var results []seatResult
	seat := s.Machine.Topology.Allowed
	err = together(t.Context(), []job{{w, "kernel", kernelArgs{Kernel: "integer", Seats: []cpuset.Set{seat}}, &results}}, 0, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("error %v", err)
	}
	crew.close()
	noChildren(t)
}

func TestInterruptEndsWorkers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	rep, err := Modes(ctx, Settings{Machine: liveMachine(t), Limit: time.Minute, Window: 20 * time.Millisecond},
		ModesOptions{Kernels: []string{"integer"}, Carriers: []Carrier{Processes}, Workers: 1})
	if err != nil || rep.Verdict != affinity.Inconclusive || !slices.Contains(codes(rep.Findings), FindInterrupted) {
		t.Errorf("%v, %+v", err, rep)
	}
	noChildren(t)
}

func TestUnknownTask(t *testing.T) {
	s := Settings{Machine: liveMachine(t)}
	crew, err := s.newCrew()
	if err != nil {
		t.Fatal(err)
	}
	defer crew.close()
	w, err := crew.hire(cpuset.Set{})
	if err != nil {
		t.Fatal(err)
	}
	if err := alone(t.Context(), job{w, "juggle", nil, nil}, 0); err == nil || !strings.Contains(err.Error(), "juggle") {
		t.Errorf("error %v", err)
	}
	// It lives on, and takes the next order.
	var results []seatResult
	order := job{w, "kernel", kernelArgs{Kernel: "integer", Seats: []cpuset.Set{s.Machine.Topology.Allowed}}, &results}
	if err := together(t.Context(), []job{order}, 0, 50*time.Millisecond); err != nil || len(results) != 1 || results[0].Units <= 0 {
		t.Errorf("%v, %+v", err, results)
	}
}
