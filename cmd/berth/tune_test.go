//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/affinity/tune"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/profiles"
)

func tuneReport(placements ...string) *tune.Report {
	budget, none, regret := 8.0, 0.0, 2.13
	r := &tune.Report{Schema: tune.Schema, Command: []string{"xz", "-T{n}", "data"}, Metric: "wall", Unit: "runs/s", Better: "higher", MeasuredAt: time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC),
		Verdict: affinity.Measured, Stopped: tune.Settled, BudgetCPUs: &budget, WallS: 93.4, Runs: 71,
		USL:     &tune.Law{Lambda: 0.512, Sigma: 0.021, Kappa: 0.0049, R2: 0.994, Placement: placements[0]},
		Advised: &tune.Advice{N: 8, Placement: placements[0], RegretPct: &regret},
		Noise:   affinity.Noise{StealPct: &none, OtherBusyPct: &none}, Findings: []finding.Finding{}}
	for _, n := range []int{1, 2, 3, 6, 8, 11, 13, 20, 35, 64} {
		for i, name := range placements {
			x := r.USL.At(float64(n)) * (1 - 0.1*float64(i))
			wall := 1 / x
			p := tune.Point{N: n, Placement: name, CPUs: cpuset.Range(0, cpuset.CPU(min(n, 8)-1)), Value: &measured.Value{Median: x, Low: 0.98 * x, High: 1.01 * x, Runs: 6}, WallS: &wall, Dropped: n < 6 || n > 20}
			if n == 64 {
				p.Value, p.WallS, p.Dropped = nil, nil, false
				p.Failed = &tune.Failure{Status: 1, Why: "it ended with status 1", Output: []string{"xz: cannot allocate memory"}}
			}
			if n == 1 && i == 1 {
				cut := 9.0
				p.Value, p.WallS, p.CutS = nil, nil, &cut
			}
			r.Points = append(r.Points, p)
		}
	}
	r.Best, r.Fewest, r.Knee = &tune.Choice{N: 13, Placement: placements[0]}, &tune.Choice{N: 11, Placement: placements[0]}, &tune.Choice{N: 8, Placement: placements[0]}
	r.Tied = []tune.Choice{*r.Fewest}
	r.Findings = append(r.Findings, finding.Finding{Code: tune.FindFailed, Severity: finding.Warning, Message: "the command failed at 1 of the points tried",
		Evidence: []string{"64 on none: it ended with status 1: xz: cannot allocate memory"}})
	return r
}

func tuneReports() map[string]*tune.Report {
	few := tuneReport("none")
	few.Verdict, few.Stopped, few.USL, few.Advised, few.Fewest, few.Tied = affinity.Inconclusive, tune.Interrupted, nil, nil, nil, nil
	few.Points = few.Points[:2]
	few.Best, few.Knee = &tune.Choice{N: 2, Placement: "none"}, &tune.Choice{N: 2, Placement: "none"}
	few.Findings = []finding.Finding{{Code: tune.FindFew, Severity: finding.Warning, Message: "the best has 2 runs, and an interval takes 6: give it more time by --time, or a smaller piece of work"}}
	printed := tuneReport("none")
	printed.Metric, printed.Unit, printed.Better = `latency (\S+) us`, "", "lower"
	for _, p := range printed.Points {
		if p.Value != nil {
			*p.Value = measured.Value{Median: 1e7 / p.Value.Median, Low: 1e7 / p.Value.High, High: 1e7 / p.Value.Low, Runs: 6}
		}
	}
	return map[string]*tune.Report{"one": tuneReport("none"), "places": tuneReport("spread", "compact", "core:0-3.pu:0"), "few": few, "printed": printed}
}

func TestTuneView(t *testing.T) {
	schemas := compiledSchemas(t)
	for name, rep := range tuneReports() {
		for _, width := range []int{40, 80, 120} {
			var b bytes.Buffer
			w := bufio.NewWriter(&b)
			tuneView(&page{w: w, screen: screen{width: width}}, rep)
			w.Flush()
			for line := range strings.Lines(b.String()) {
				if runes(line)-1 > width && width > 40 {
					t.Errorf("%s: %d columns at %d: %s", name, runes(line)-1, width, line)
				}
			}
			if width > 40 {
				golden(t, fmt.Sprintf("tune-%s.%d.txt", name, width), b.String())
			}
		}
		var b bytes.Buffer
		if err := writeJSON(&b, rep); err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas[tune.Schema].Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.Reset()
		if err := tuneCSV(&b, rep); err != nil || strings.Count(b.String(), "\n") != len(rep.Points)+1 {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
}

func TestSplitPlaces(t *testing.T) {
	for _, c := range []struct{ values, want []string }{
		{[]string{"spread,compact"}, []string{"spread", "compact"}},
		{[]string{"none, core:0-3"}, []string{"none", "core:0-3"}},
		{[]string{"0-3,8"}, []string{"0-3,8"}},
		{[]string{"core:0,0-3", "none"}, []string{"core:0,0-3", "none"}},
		{[]string{"llc:0 ~core:0"}, []string{"llc:0 ~core:0"}},
	} {
		if diff := cmp.Diff(c.want, splitPlaces(c.values)); diff != "" {
			t.Errorf("%q\n%s", c.values, diff)
		}
	}
}

func TestTuneSaves(t *testing.T) {
	known, err := profiles.Parse([]byte("schema: berth.profile/v1\nname: known\nwork: {cpu_ms: 5, serial_fraction: 0.1}\n"), "known.yaml")
	if err != nil {
		t.Fatal(err)
	}
	law := tuneReport("none").USL
	for _, from := range []*profiles.Profile{nil, known} {
		o := &tuneOptions{save: filepath.Join(t.TempDir(), "tuned.yaml"), command: []string{"/usr/bin/My Program"}, known: from}
		cmd := newTuneCmd()
		var said bytes.Buffer
		cmd.SetErr(&said)
		if err := o.saveLaw(cmd, tuneReport("none")); err != nil {
			t.Fatal(err)
		}
		got, err := profiles.ReadFile(o.save)
		if err != nil {
			t.Fatal(err)
		}
		name := "my program"
		if from != nil {
			name = "known"
		}
		if got.Name != name || got.Scaling == nil || got.Scaling.Sigma != law.Sigma || got.Scaling.Kappa != law.Kappa || (from != nil && *got.Work.CPUMS != 5) ||
			!strings.HasPrefix(said.String(), "berth: saved the scaling to ") {
			t.Errorf("%+v; %s", got, said.String())
		}
	}
	refused := map[string]func(*tune.Report){
		"it was ended early":            func(r *tune.Report) { r.Stopped = tune.Interrupted },
		"the result is inconclusive":    func(r *tune.Report) { r.Verdict = affinity.Inconclusive },
		"no scalability law was fitted": func(r *tune.Report) { r.USL = nil },
		"a profile holds none above 1":  func(r *tune.Report) { r.USL.Sigma = 1.2 },
	}
	for why, change := range refused {
		o := &tuneOptions{save: filepath.Join(t.TempDir(), "tuned.yaml"), command: []string{"x"}}
		cmd := newTuneCmd()
		var said bytes.Buffer
		cmd.SetErr(&said)
		rep := tuneReport("none")
		change(rep)
		if err := o.saveLaw(cmd, rep); err != nil || !strings.Contains(said.String(), why) {
			t.Errorf("%s: %v, %s", why, err, said.String())
		}
		if _, err := os.Stat(o.save); err == nil {
			t.Errorf("%s: a file is written", why)
		}
	}
}
