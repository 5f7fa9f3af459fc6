//go:build linux

package experiment

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe"
	"berth/probe/finding"
)

func liveMachine(t *testing.T) *probe.Machine {
	t.Helper()
	m, err := probe.Probe(t.Context(), probe.Live())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// simulated runs arms whose trials are functions of the trial's number; the
// CPUs watched are none, so that the real machine does not disturb.
func simulated(t *testing.T, limit time.Duration, trials map[string]func(n int) measurement) (*Report, map[string]*arm, error) {
	t.Helper()
	s := Settings{Machine: &probe.Machine{}, Limit: limit, Seed: 1}
	rep := s.newReport("simulated", cpusetOf(0))
	at := time.Now() // a clock that only trials move
	r := &rounds{settings: &s, report: &rep, window: time.Millisecond, clock: func() time.Time { return at }}
	arms := map[string]*arm{}
	for _, name := range sortedNames(trials) {
		n := 0
		a := &arm{name: name, trial: func(context.Context, time.Duration) (measurement, error) {
			n++
			at = at.Add(100 * time.Microsecond)
			return trials[name](n), nil
		}}
		arms[name] = a
		r.arms = append(r.arms, a)
	}
	return &rep, arms, r.run(t.Context())
}

func sortedNames[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func codes(found []finding.Finding) []string {
	var all []string
	for _, f := range found {
		all = append(all, f.Code)
	}
	return all
}

func TestValueOf(t *testing.T) {
	tests := []struct {
		xs   []float64
		want measured.Value
	}{
		{nil, measured.Value{}},
		{[]float64{3}, measured.Value{Median: 3, Low: 3, High: 3, Runs: 1}},
		{[]float64{1, 2, 3, 4, 100}, measured.Value{Median: 3, Low: 1, High: 100, Runs: 5}}, // too few for an interval: all that was seen
		{[]float64{1, 2, 3, 4, 5, 6}, measured.Value{Median: 3.5, Low: 1, High: 6, Runs: 6}},
		{[]float64{6, 5, 4, 3, 2, 1}, measured.Value{Median: 3.5, Low: 1, High: 6, Runs: 6}},
		// Binomial(9, 1/2): P(2 ≤ X ≤ 7) = 0.961, so the 2nd and the 8th.
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 1000}, measured.Value{Median: 5, Low: 2, High: 8, Runs: 9}},
	}
	for _, test := range tests {
		if got := measured.Of(test.xs); got != test.want {
			t.Errorf("measured.Of(%v) = %+v, want %+v", test.xs, got, test.want)
		}
	}
}

// TestInterval draws many samples from one distribution: the interval must hold
// its median at least as often as it says.
func TestInterval(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const samples = 2000
	for _, n := range [...]int{6, 8, 12, 25} {
		held := 0
		for range samples {
			xs := make([]float64, n)
			for i := range xs {
				xs[i] = random.ExpFloat64() // skewed; its median is ln 2
			}
			if v := measured.Of(xs); v.Low <= 0.6931 && 0.6931 <= v.High {
				held++
			}
		}
		if held < samples*94/100 {
			t.Errorf("%d of %d intervals of %d values hold the median", held, samples, n)
		}
	}
}

func TestScaled(t *testing.T) {
	if got := (measured.Value{Median: 2, Low: 1, High: 4, Runs: 6}).Plus(-1).Scaled(-100); got != (measured.Value{Median: -100, Low: -300, High: 0, Runs: 6}) {
		t.Errorf("%+v", got)
	}
}

func TestRoundsQuiet(t *testing.T) {
	rep, arms, err := simulated(t, time.Minute, map[string]func(int) measurement{
		"a": func(n int) measurement { return measurement{value: 100 + float64(n%3)} },
		"b": func(n int) measurement { return measurement{value: 200 + float64(n%5)} },
	})
	if err != nil || rep.Verdict != affinity.Measured || rep.Disturbed != 0 {
		t.Fatalf("%v, %+v", err, rep)
	}
	if n := len(arms["a"].round); n < enough || n > enough+4 {
		t.Errorf("it took %d rounds to know values that hardly differ", n)
	}
	if v := measured.Of(arms["b"].over(arms["a"])); v.Median < 1.9 || v.Median > 2.1 || v.Runs != len(arms["a"].round) {
		t.Errorf("ratio %+v", v)
	}
}

// TestRoundsDrift has a machine that becomes slower all the time: a ratio of the
// same round does not notice.
func TestRoundsDrift(t *testing.T) {
	_, arms, err := simulated(t, 50*time.Millisecond, map[string]func(int) measurement{
		"a": func(n int) measurement { return measurement{value: 1000 / float64(10+n)} },
		"b": func(n int) measurement { return measurement{value: 3000 / float64(10+n)} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := measured.Of(arms["b"].over(arms["a"])); v.Low < 2.9 || v.High > 3.3 { // a warmed up, and so is a few trials ahead
		t.Errorf("ratio %+v", v)
	}
	if v := measured.Of(arms["a"].values("")); v.Width() < 0.03 {
		t.Errorf("the drift does not show in %+v", v)
	}
}

func TestRoundsNoise(t *testing.T) {
	steady := func(int) measurement { return measurement{value: 100} }
	tests := []struct {
		name      string
		noisy     func(n int) measurement
		verdict   affinity.Verdict
		code      string
		disturbed bool
	}{
		{"all of one arm", func(int) measurement { return measurement{value: 50, lost: 0.5} }, affinity.Inconclusive, FindNoisy, true},
		{"now and then", func(n int) measurement {
			if n%4 == 0 {
				return measurement{value: 50, lost: 0.5}
			}
			return measurement{value: 100}
		}, affinity.Measured, FindNoisy, true},
		{"off its seat", func(int) measurement { return measurement{value: 100, off: "worker 0 of seat 1 was seen on 0"} }, affinity.Inconclusive, FindNoisy, true},
		{"too little to matter", func(int) measurement { return measurement{value: 100, lost: 0.01} }, affinity.Measured, "", false},
		{"all over the place", func(n int) measurement { return measurement{value: float64(int(1) << (n * 5 % 13))} }, affinity.Inconclusive, FindWide, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rep, arms, err := simulated(t, 60*time.Millisecond, map[string]func(int) measurement{"noisy": test.noisy, "steady": steady})
			if err != nil {
				t.Fatal(err)
			}
			if rep.Verdict != test.verdict || (rep.Disturbed > 0) != test.disturbed {
				t.Errorf("verdict %s with %d of %d disturbed, want %s", rep.Verdict, rep.Disturbed, rep.Trials, test.verdict)
			}
			if found := codes(rep.Findings); test.code == "" && len(found) > 0 || test.code != "" && !slices.Contains(found, test.code) {
				t.Errorf("findings %v, want %q", found, test.code)
			}
			for _, x := range arms["noisy"].values("") {
				if x == 50 {
					t.Error("a disturbed trial counts")
				}
			}
			if arms["steady"].noisy > 0 {
				t.Error("a quiet arm has disturbed trials")
			}
		})
	}
}

func TestRoundsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := Settings{Machine: &probe.Machine{}, Limit: time.Minute}
	rep := s.newReport("simulated", cpusetOf(0))
	n := 0
	a := &arm{name: "a", trial: func(ctx context.Context, _ time.Duration) (measurement, error) {
		if n++; n == 6 { // two warm up, and the first round does
			cancel()
			return measurement{}, ctx.Err()
		}
		return measurement{value: 1}, nil
	}}
	if err := (&rounds{settings: &s, report: &rep, arms: []*arm{a}}).run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(a.round) != 2 || rep.Verdict != affinity.Inconclusive || !slices.Contains(codes(rep.Findings), FindInterrupted) {
		t.Errorf("%d rounds, %+v", len(a.round), rep)
	}
}

func TestRoundsError(t *testing.T) {
	broken := errors.New("broken")
	for _, optional := range [...]bool{false, true} {
		s := Settings{Machine: &probe.Machine{}, Limit: time.Minute}
		rep := s.newReport("simulated", cpusetOf(0))
		bad := &arm{name: "bad", optional: optional, trial: func(context.Context, time.Duration) (measurement, error) { return measurement{}, broken }}
		good := &arm{name: "good", trial: func(context.Context, time.Duration) (measurement, error) { return measurement{value: 1}, nil }}
		err := (&rounds{settings: &s, report: &rep, arms: []*arm{bad, good}}).run(t.Context())
		if optional && (err != nil || bad.err != broken || len(good.round) < enough || rep.Verdict != affinity.Measured) {
			t.Errorf("optional: %v, %v, %d rounds, %s", err, bad.err, len(good.round), rep.Verdict)
		}
		if !optional && err != broken {
			t.Errorf("error %v", err)
		}
	}
}

func TestJudgeAddsNothingTwice(t *testing.T) {
	rep, _, err := simulated(t, 30*time.Millisecond, map[string]func(int) measurement{
		"a": func(int) measurement { return measurement{value: 1, lost: 1} },
	})
	if err != nil {
		t.Fatal(err)
	}
	noisy := slices.DeleteFunc(slices.Clone(rep.Findings), func(f finding.Finding) bool { return f.Code != FindNoisy })
	if len(noisy) != 1 || !strings.Contains(strings.Join(noisy[0].Evidence, " "), "others took part of the workers' time, up to 100 %") {
		t.Errorf("%+v", rep.Findings)
	}
}

func TestWarmUp(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   int // trials
	}{
		{[]float64{100, 101}, 2},
		{[]float64{50, 80, 95, 97}, 4},
		{[]float64{1, 2, 4, 8, 16, 32, 64, 128, 256}, 8}, // never alike: it has an end
	} {
		n := 0
		a := &arm{trial: func(context.Context, time.Duration) (measurement, error) {
			n++
			return measurement{value: test.values[n-1]}, nil
		}}
		if err := (&rounds{arms: []*arm{a}}).warmUp(t.Context()); err != nil || n != test.want {
			t.Errorf("%v: %d trials, %v; want %d", test.values, n, err, test.want)
		}
	}
}
