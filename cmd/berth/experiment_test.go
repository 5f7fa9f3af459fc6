//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v3"

	"berth/affinity"
	"berth/affinity/experiment"
	"berth/affinity/experiment/handover"
	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

func value(median, half float64) measured.Value {
	return measured.Value{Median: median, Low: median - half, High: median + half, Runs: 9}
}

func valueAt(median, half float64) *measured.Value {
	v := value(median, half)
	return &v
}

// reportOf is a clean report; an inconclusive one was disturbed.
func reportOf(kind string, cpus cpuset.Set, clean bool) experiment.Report {
	little, much, none := 0.2, 23.4, 0.0
	r := experiment.Report{Schema: experiment.Schema, Kind: kind, Fingerprint: strings.Repeat("0", 32), MeasuredAt: time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC),
		Verdict: affinity.Measured, CPUSet: cpus, WallS: 42.3, Trials: 320, Findings: []finding.Finding{},
		Noise: affinity.Noise{OtherBusyPct: &little, StealPct: &none}}
	if clean {
		return r
	}
	r.Verdict, r.Disturbed, r.Noise.OtherBusyPct = affinity.Inconclusive, 201, &much
	r.Findings = []finding.Finding{{Code: experiment.FindNoisy, Severity: finding.Warning,
		Message:  "201 of 320 trials were disturbed and do not count; over all of them other programs took 23 % of the CPUs' time: measure again when the machine is quiet",
		Evidence: []string{"a: other programs took 40 % of the CPUs' time", "b: the host took 9 % of the CPUs' time", "c: a CPU quota stopped it", "d: others took 12 % of the workers' time", "e: others took 13 % of the workers' time"}}}
	return r
}

// shown is a report with its view.
type shown struct {
	report any
	view   func(*page)
}

func modesReport(clean, smt bool) *experiment.ModesReport {
	rep := &experiment.ModesReport{Report: reportOf("modes", cpuset.Range(0, 7), clean), Skipped: []experiment.Skipped{},
		Derived: experiment.ModesDerived{SMTYield: map[string]measured.Value{}, OversubscriptionCostPct: map[string]measured.Value{}}}
	for i, kernel := range experiment.DefaultKernels() {
		for _, carrier := range []experiment.Carrier{experiment.Processes, experiment.Threads} {
			verdict := affinity.Measured
			if !clean && i%2 == 1 {
				verdict = affinity.Inconclusive
			}
			run := experiment.ModeRun{Mode: experiment.Alone, Kernel: kernel, Carrier: carrier, Workers: 1, PerCPU: 1, CPUs: cpuset.Of(0), RanOn: cpuset.Of(0),
				Unit: "operations", Throughput: value(2.31e9/math.Pow(30, float64(i)), 1e4), Relative: value(1, 0), Switches: value(3, 1), LeastShare: value(1, 0),
				ClockGHz: valueAt(3.2, 0.01), Verdict: verdict}
			rep.Runs = append(rep.Runs, run)
			add := func(mode experiment.Mode, workers, per int, cpus cpuset.Set, relative float64) {
				r := run
				r.Mode, r.Workers, r.PerCPU, r.CPUs, r.RanOn = mode, workers, per, cpus, cpus
				r.Relative, r.Switches, r.LeastShare = value(relative, 0.02), value(float64(100*per), 20), value(0.97, 0.01)
				r.Throughput.Median *= relative
				rep.Runs = append(rep.Runs, r)
			}
			add(experiment.Parallel, 4, 1, cpuset.Of(0, 1, 2, 3), 3.96)
			if smt {
				add(experiment.SMT, 2, 1, cpuset.Of(0, 4), []float64{1.31, 1.01, 1.72, 1.9}[i])
			}
			add(experiment.Oversubscribed, 16, 4, cpuset.Of(0, 1, 2, 3), []float64{3.9, 3.95, 3.5, 15.2}[i])
			if !smt {
				rep.Skipped = append(rep.Skipped, experiment.Skipped{Mode: experiment.SMT, Carrier: carrier, Why: "SMT is switched off (/sys/devices/system/cpu/smt/control)"})
			}
		}
		if smt {
			rep.Derived.SMTYield[kernel] = value([]float64{0.31, 0.01, 0.72, 0.9}[i], 0.02)
		}
		rep.Derived.OversubscriptionCostPct[kernel] = value([]float64{1.5, 0.2, 11.6, -283}[i], 0.6)
	}
	return rep
}

func latencyReport(clean bool, cpus, perCache, perPackage int) *experiment.LatencyReport {
	rep := &experiment.LatencyReport{Report: reportOf("latency", cpuset.Range(0, cpuset.CPU(cpus-1)), clean), Classes: []experiment.LatencyClass{}}
	n := cpus
	for c := range n {
		rep.CPUs = append(rep.CPUs, cpuset.CPU(c))
	}
	class := map[string]*experiment.LatencyClass{}
	for i := range n {
		ns, low, high := make([]*float64, n), make([]*float64, n), make([]*float64, n)
		for j := range n {
			if i == j {
				continue
			}
			shares, x := "machine", 231.4
			switch {
			case i/perCache == j/perCache:
				shares, x = "last-level cache", 38.7
			case i/perPackage == j/perPackage:
				shares, x = "node", 112
			}
			x += float64((i+j)%5) / 2
			l, h := x-1, x+1
			ns[j], low[j], high[j] = &x, &l, &h
			if i > j {
				rep.Pairs++
				if class[shares] == nil {
					class[shares] = &experiment.LatencyClass{Shares: shares, Median: x, Least: x, Most: x}
				}
				c := class[shares]
				c.Pairs++
				c.Least, c.Most = min(c.Least, x), max(c.Most, x)
			}
		}
		rep.NS, rep.Low, rep.High = append(rep.NS, ns), append(rep.Low, low), append(rep.High, high)
	}
	rep.Of = rep.Pairs
	for _, s := range []string{"last-level cache", "node", "machine"} {
		if class[s] != nil {
			rep.Classes = append(rep.Classes, *class[s])
		}
	}
	return rep
}

func switchReport(clean bool) *experiment.SwitchReport {
	rep := &experiment.SwitchReport{Report: reportOf("switch", cpuset.Range(0, 1), clean), Skipped: []experiment.Skipped{},
		Pinned: valueAt(1.21, 0.01), CrossCPU: valueAt(5.4, 0.3), Unpinned: valueAt(2.2, 0.4), ProcessPinned: valueAt(1.62, 0.02), ProcessCrossCPU: valueAt(5.9, 0.3), ProcessUnpinned: valueAt(2.6, 0.4)}
	for i, means := range []string{"futex", "pipe", "channel"} {
		for _, carrier := range []experiment.Carrier{experiment.Threads, experiment.Processes} {
			for j, seats := range []string{"pinned", "cross-cpu", "unpinned"} {
				if means == "channel" && carrier == experiment.Processes {
					continue
				}
				rep.HandOvers = append(rep.HandOvers, experiment.HandOver{Means: handover.Means(means), Carrier: carrier, Seats: seats, US: value(1.2+float64(i)+2*float64(j), 0.04)})
			}
		}
	}
	for i, size := range []int64{0, 24 << 10, 1536 << 10} {
		rep.TimeSlice = append(rep.TimeSlice, experiment.SliceCost{WorkingSet: size, US: value(0.4+5*float64(i*i), 0.1)})
	}
	return rep
}

func memoryReport(clean bool, nodes int) *experiment.MemoryReport {
	rep := &experiment.MemoryReport{Report: reportOf("memory", cpuset.Range(0, 7), clean), Skipped: []experiment.Skipped{}, Vectors: "avx2"}
	for i := range 15 {
		size := int64(4<<10) << i
		row := experiment.MemoryLatency{Size: size, Fits: "memory", NS: value(95, 2)}
		switch {
		case size <= 32<<10:
			row.Fits, row.NS = "L1", value(1.3, 0.01)
		case size <= 1<<20:
			row.Fits, row.NS = "L2", value(4.4, 0.1)
		case size <= 32<<20:
			row.Fits, row.NS = "L3", value(22, 1)
		}
		if size >= 2<<20 {
			huge := size
			row.HugeBytes = &huge
		}
		rep.Latency = append(rep.Latency, row)
	}
	for node := range nodes {
		for _, threads := range []int{1, 2, 4} {
			for i, kernel := range []string{experiment.Read, experiment.Copy, experiment.Triad} {
				rep.Bandwidth = append(rep.Bandwidth, experiment.MemoryBandwidth{Kernel: kernel, Threads: threads, CPUs: cpuset.Range(0, cpuset.CPU(threads-1)),
					GBs: value((11+2*float64(i))*math.Sqrt(float64(threads))/float64(node+1), 0.3), Node: node, Local: node == 0})
			}
		}
	}
	return rep
}

func gilReport(clean, several bool) *experiment.GILReport {
	one := func(version string, free bool, clean bool) experiment.GILReport {
		rep := experiment.GILReport{Report: reportOf("gil", cpuset.Range(0, 3), clean), Python: "/usr/bin/python3", Implementation: "cpython", Version: version,
			FreeThreaded: free, SwitchIntervalMS: 5, Skipped: []experiment.SkippedWork{{Work: "native", Carrier: "processes", Why: "the time is too short for it"}}}
		add := func(work, carrier string, workers int, relative, interval, memory float64) {
			r := experiment.GILRun{Work: work, Carrier: carrier, Workers: workers, SwitchIntervalMS: interval, PerSecond: value(1e4*relative, 10), Relative: value(relative, 0.02*relative), Verdict: affinity.Measured}
			if !free {
				r.GILHeldPct = valueAt(97, 1)
			}
			if memory > 0 {
				r.MemoryPerWorker = valueAt(memory, 1000)
			}
			if !clean && workers > 4 {
				r.Verdict = affinity.Inconclusive
			}
			rep.Runs = append(rep.Runs, r)
		}
		parallel := 0.98
		if free {
			parallel = 3.7
		}
		add("cpu", "threads", 1, 1, 5, 0)
		add("cpu", "threads", 4, parallel, 5, 90e3)
		add("cpu", "threads", 4, parallel-0.1, 0.1, 90e3)
		add("cpu", "processes", 4, 3.93, 5, 11e6)
		add("native", "threads", 1, 1, 5, 0)
		add("native", "threads", 4, 3.8, 5, 80e3)
		add("blocking-io", "threads", 1, 1, 5, 0)
		add("blocking-io", "threads", 32, 31.2, 5, 80e3)
		add("async-io", "async", 1, 1, 5, 0)
		add("async-io", "async", 2000, 610, 5, 12e3)
		return rep
	}
	rep := one("3.12.3", false, clean)
	if several {
		rep.Others = []experiment.GILReport{one("3.13.1", true, clean)}
	}
	return &rep
}

func studyReport(clean bool) *experiment.StudyReport {
	rep := &experiment.StudyReport{Report: reportOf("study", cpuset.Range(0, 1), clean)}
	for _, c := range []experiment.Claim{
		{ID: "separate-cores", Claim: "Separate cores multiply the throughput of CPU-bound work: 8 cores do about 8 times as much", Expected: "2 cores do about 2 times the work of one", Measured: "1.98 [1.96, 1.99] times with 2 processes of integer work", Verdict: experiment.Holds, Why: "each worker had a core to itself, and integer work needs nothing else that the cores share"},
		{ID: "threads-not-parallel", Claim: "Threads use logical cores and run concurrently, not in parallel; only processes run in parallel", Expected: "threads on separate cores do no more than one thread", Measured: "1.97 [1.95, 1.99] times with 2 threads of one process", Verdict: experiment.Fails, Why: "the kernel seats threads and processes alike"},
		{ID: "smt-no-gain", Claim: "Two heavy CPU tasks on the siblings of one core gain nothing, or even lose", Expected: "two siblings do at most what one does", Measured: "nothing", Verdict: experiment.Untestable, Why: "no core here has more than one CPU"},
		{ID: "oversubscription-costs", Claim: "More runnable threads than CPUs cost much throughput", Expected: "less", Measured: "nothing", Verdict: experiment.Inconclusive, Why: "too few trials were undisturbed"},
	} {
		if c.Verdict == experiment.Inconclusive && clean {
			continue
		}
		rep.Claims = append(rep.Claims, c)
	}
	return rep
}

func reportsShown() map[string]shown {
	all := map[string]shown{}
	for _, clean := range []bool{true, false} {
		suffix := ""
		if !clean {
			suffix = "-noisy"
		}
		modes, lat, sw, mem, gil, study := modesReport(clean, clean), latencyReport(clean, 8, 4, 8), switchReport(clean), memoryReport(clean, 1), gilReport(clean, !clean), studyReport(clean)
		all["modes"+suffix] = shown{modes, func(p *page) { modesView(p, modes) }}
		all["latency"+suffix] = shown{lat, func(p *page) { latencyView(p, lat) }}
		all["switch"+suffix] = shown{sw, func(p *page) { switchView(p, sw) }}
		all["memory"+suffix] = shown{mem, func(p *page) { memoryView(p, mem) }}
		all["gil"+suffix] = shown{gil, func(p *page) { gilView(p, gil) }}
		all["study"+suffix] = shown{study, func(p *page) { studyView(p, study) }}
	}
	far, wide := memoryReport(true, 2), latencyReport(true, 128, 16, 64)
	all["memory-nodes"] = shown{far, func(p *page) { memoryView(p, far) }}
	all["latency-wide"] = shown{wide, func(p *page) { latencyView(p, wide) }}
	several := gilReport(true, true)
	all["gil-several"] = shown{several, func(p *page) { gilView(p, several) }}
	none := &experiment.GILReport{Report: reportOf("gil", cpuset.Of(0), true), Runs: []experiment.GILRun{}, Skipped: []experiment.SkippedWork{{Work: "all", Why: "no python3 was found on PATH; name one with --python"}}}
	none.Trials, none.WallS = 0, 0
	all["gil-none"] = shown{none, func(p *page) { gilView(p, none) }}
	return all
}

func (s *shown) text(on screen) string {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	s.view(&page{w: w, screen: on})
	_ = w.Flush()
	return b.String()
}

var colours = regexp.MustCompile(`\x1b\[[0-9]+m`)

func TestExperimentViews(t *testing.T) {
	for name, s := range reportsShown() {
		for _, width := range []int{100, 60} {
			t.Run(fmt.Sprint(name, width), func(t *testing.T) {
				got := s.text(screen{width: width})
				golden(t, fmt.Sprintf("experiment-%s.%d.txt", name, width), got)
				for _, l := range strings.Split(got, "\n") {
					if runes(l) > width {
						t.Errorf("%d columns wide: %q", runes(l), l)
					}
				}
				if strings.HasSuffix(name, "-noisy") != strings.HasPrefix(got, "INCONCLUSIVE") {
					t.Errorf("the first line does not say whether this is a result: %.80q", got)
				}
				coloured := s.text(screen{width: width, colour: true})
				if coloured == got {
					t.Error("no colour")
				}
				if diff := cmp.Diff(got, colours.ReplaceAllString(coloured, "")); diff != "" {
					t.Errorf("colour changes more than colour (-plain +coloured)\n%s", diff)
				}
			})
		}
	}
}

// A report about which nothing is known yet still has a view.
func TestEmptyViews(t *testing.T) {
	for name, view := range map[string]func(*page, *experiment.Report){
		"modes":   func(p *page, r *experiment.Report) { modesView(p, &experiment.ModesReport{Report: *r}) },
		"latency": func(p *page, r *experiment.Report) { latencyView(p, &experiment.LatencyReport{Report: *r}) },
		"switch":  func(p *page, r *experiment.Report) { switchView(p, &experiment.SwitchReport{Report: *r}) },
		"memory":  func(p *page, r *experiment.Report) { memoryView(p, &experiment.MemoryReport{Report: *r}) },
		"gil":     func(p *page, r *experiment.Report) { gilView(p, &experiment.GILReport{Report: *r}) },
		"study":   func(p *page, r *experiment.Report) { studyView(p, &experiment.StudyReport{Report: *r}) },
	} {
		for _, clean := range []bool{true, false} {
			r := reportOf(name, cpuset.Of(0), clean)
			s := shown{view: func(p *page) { view(p, &r) }}
			if got := s.text(screen{width: 80}); len(got) < 40 {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

func TestExperimentDocuments(t *testing.T) {
	schema := compiledSchemas(t)[experiment.Schema]
	if schema == nil {
		t.Fatal("experiment has no schema")
	}
	for name, s := range reportsShown() {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeJSON(&b, s.report); err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%v", err)
			}
			var want, got any
			if err := json.Unmarshal(b.Bytes(), &want); err != nil {
				t.Fatal(err)
			}
			b.Reset()
			if err := writeYAML(&b, s.report); err != nil {
				t.Fatal(err)
			}
			var fromYAML any
			if err := yaml.Unmarshal(b.Bytes(), &fromYAML); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(fromYAML)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(again, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("YAML differs from JSON (-json +yaml)\n%s", diff)
			}
		})
	}
}

// Every report that can be kept makes a calibration that keeps to its schema.
func TestCalibrations(t *testing.T) {
	schema := compiledSchemas(t)[probe.CalibrationSchema]
	c := &probe.Calibration{}
	var keys []string
	for _, r := range []interface {
		Calibrate(*probe.Calibration) []string
	}{modesReport(true, true), latencyReport(true, 4, 4, 4), switchReport(true), memoryReport(true, 1)} {
		keys = append(keys, r.Calibrate(c)...)
	}
	if diff := cmp.Diff([]string{"smt_yield", "core_to_core_ns", "switch_us", "memory_bandwidth_gbs"}, keys); diff != "" {
		t.Error(diff)
	}
	var b bytes.Buffer
	if err := writeJSON(&b, c); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%v", err)
	}
}

// saved TEMPLATE: the calibration of this machine, where berth advise looks for
// it. FINGERPRINT in the template becomes the machine's.
func saved(ts *testscript.TestScript, not bool, args []string) {
	if not || len(args) != 1 {
		ts.Fatalf("usage: saved template")
	}
	ts.Check(ts.Exec("berth", "inspect", "-o", "json"))
	var m struct{ Fingerprint string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &m))
	dir := filepath.Join(ts.Getenv("XDG_STATE_HOME"), "berth", "calibration")
	ts.Check(os.MkdirAll(dir, 0o700))
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "FINGERPRINT", m.Fingerprint)
	ts.Check(os.WriteFile(filepath.Join(dir, m.Fingerprint+".json"), []byte(text), 0o600))
}

// perform runs a made-up experiment as the command line would.
func perform(t *testing.T, o *experimentOptions, measure func(context.Context, experiment.Settings) (*result, error)) (stdout, stderr string, err error) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	cmd.SetContext(t.Context())
	if o.width == 0 {
		o.width = 3
	}
	if o.format.value == "" {
		o.format.value = "text"
	}
	err = o.perform(cmd, time.Second, measure)
	return out.String(), diagnostics.String(), err
}

func resultOf(rep *experiment.ModesReport) *result {
	return &result{&rep.Report, rep, func(p *page) { modesView(p, rep) }}
}

func TestSaving(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	name := filepath.Join(t.TempDir(), "c.json")
	us := 1.5
	fingerprint := ""
	if err := writeCalibration(name, &probe.Calibration{Schema: probe.CalibrationSchema, SwitchUS: &us, SMTYield: map[string]float64{"branchy": 0.5}}); err != nil {
		t.Fatal(err)
	}
	measure := func(clean bool) func(context.Context, experiment.Settings) (*result, error) {
		return func(_ context.Context, s experiment.Settings) (*result, error) {
			rep := modesReport(clean, true)
			fingerprint, rep.Fingerprint = s.Machine.Fingerprint, s.Machine.Fingerprint
			return resultOf(rep), nil
		}
	}
	// Inconclusive: nothing is written.
	before, _ := os.ReadFile(name)
	_, said, err := perform(t, &experimentOptions{save: optional{value: name}}, measure(false))
	after, _ := os.ReadFile(name)
	if err != nil || !strings.Contains(said, "nothing was saved: the result is inconclusive") || !bytes.Equal(before, after) {
		t.Errorf("inconclusive: %v, %q, %s", err, said, after)
	}
	// Measured: the new keys come beside the old ones.
	_, said, err = perform(t, &experimentOptions{save: optional{value: name}}, measure(true))
	if err != nil || !strings.Contains(said, "saved smt_yield to "+name+"; use it by `berth advise --calibration "+name) {
		t.Errorf("measured: %v, %q", err, said)
	}
	c, err := readCalibration(name)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"branchy": 0.5, "integer": 0.31, "float": 0.01, "memory-latency": 0.72, "service": 0.9}
	if c.SwitchUS == nil || *c.SwitchUS != us || c.Fingerprint != fingerprint || cmp.Diff(want, c.SMTYield) != "" {
		t.Errorf("%+v", c)
	}
	// Nothing that a calibration holds.
	_, said, err = perform(t, &experimentOptions{save: optional{value: name}}, func(_ context.Context, s experiment.Settings) (*result, error) {
		return resultOf(modesReport(true, false)), nil
	})
	if err != nil || !strings.Contains(said, "nothing was saved: the report has nothing that a calibration holds") {
		t.Errorf("no siblings: %v, %q", err, said)
	}
	// The usual place.
	_, said, err = perform(t, &experimentOptions{save: optional{value: alone}}, measure(true))
	if err != nil || !strings.Contains(said, filepath.Join("berth", "calibration", fingerprint+".json")+"; `berth advise` uses it") {
		t.Errorf("the usual place: %v, %q", err, said)
	}
	// What cannot be merged with is refused before anything is measured.
	for text, why := range map[string]string{
		"{": "c.json:1:1",
		`{"schema": "berth.calibration/v1", "machine_fingerprint": "` + strings.Repeat("f", 32) + `"}`: "holds the calibration of machine f",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err = perform(t, &experimentOptions{save: optional{value: name}}, func(context.Context, experiment.Settings) (*result, error) {
			t.Error("measured all the same")
			return nil, errors.ErrUnsupported
		})
		var mistake *usageError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, _, err = perform(t, &experimentOptions{save: optional{value: filepath.Join(name, "nowhere", "c.json")}}, measure(true))
	if err == nil {
		t.Error("a place that cannot be was found")
	}
}

// A signal ends an experiment with what is known, and with the signal's status.
func TestInterrupted(t *testing.T) {
	for _, known := range []bool{true, false} {
		out, said, err := perform(t, &experimentOptions{save: optional{value: filepath.Join(t.TempDir(), "c.json")}}, func(ctx context.Context, s experiment.Settings) (*result, error) {
			if err := unix.Kill(os.Getpid(), unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-ctx.Done()
			if !known {
				return nil, ctx.Err()
			}
			return resultOf(modesReport(true, true)), nil
		})
		var status *statusError
		if !errors.As(err, &status) || status.status != 128+int(unix.SIGTERM) || status.err.Error() != "ended by SIGTERM" {
			t.Errorf("known %v: %v", known, err)
		}
		if known != strings.HasPrefix(out, "Four cores do") || known != strings.Contains(said, "nothing was saved: the experiment was ended early") {
			t.Errorf("known %v: %q, %q", known, out, said)
		}
	}
}

func TestNotAllowed(t *testing.T) {
	_, _, err := perform(t, &experimentOptions{}, func(context.Context, experiment.Settings) (*result, error) {
		return nil, &experiment.NotAllowed{Asked: cpuset.Range(0, 7), Out: cpuset.Of(7), Allowed: cpuset.Range(0, 6)}
	})
	var mistake *usageError
	if !errors.As(err, &mistake) || mistake.hint != "the CPUs that may be used are 0-6" {
		t.Errorf("%v", err)
	}
}
