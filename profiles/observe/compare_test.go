//go:build linux

package observe

import (
	"testing"

	"berth/probe/difference"
	"berth/probe/difference/differencetest"
	"berth/profiles"
)

func TestCompare(t *testing.T) {
	alone := &Observation{Command: "serve", DurationS: 10, Class: profiles.IOBoundBlocking, Confidence: 0.9, Runtime: profiles.Python, Unit: "request",
		Shares: Shares{OnCPU: 0.25, Network: 0.75}, CPUMS: new(5.0), WaitMS: new(15.0), WOverC: new(3.0), Units: new(500.0), Threads: Threads{8, 4, 1.0}}
	crowded := *alone
	crowded.Class, crowded.Shares, crowded.CPUMS, crowded.Units = profiles.GILBound, Shares{OnCPU: 0.25, Lock: 0.75}, new(8.0), new(1000.0)
	crowded.GIL = GIL{Present: true, HeldPct: new(97.0)}
	r := Compare(alone, &crowded)
	differencetest.Mirrored(t, "observations", r, Compare(&crowded, alone))
	differencetest.Nothing(t, "an observation", Compare(alone, alone))
	for name, want := range map[string]difference.Verdict{"class": difference.Changed, "shares.lock": difference.Unjudged, "cpu_ms": difference.Unjudged, "units_per_s": difference.Unjudged} {
		if row := r.Find(name); row == nil || row.Verdict != want {
			t.Errorf("%s: %+v, want %s", name, row, want)
		}
	}
	if row := r.Find("units_per_s"); row != nil && (row.A != 50.0 || row.B != 100.0) {
		t.Errorf("%+v", row)
	}

	// A wakeup and a request cost different things.
	other := *alone
	other.Unit = "wakeup of a busy thread"
	if r := Compare(alone, &other); r.Find("cpu_ms") != nil || len(r.Unknown) != 0 || !r.Differ() {
		t.Errorf("%+v", r)
	}
}
