//go:build linux

package tune

import (
	"strings"
	"testing"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe/difference"
	"berth/probe/difference/differencetest"
)

// found is a report of a search whose best is n workers.
func found(n int, ties []int, values map[int]measured.Value) *Report {
	r := &Report{Schema: Schema, Command: []string{"./work", "{n}"}, Metric: "throughput", Unit: "units/s", Better: "higher", Verdict: affinity.Measured,
		Best: &Choice{N: n, Placement: "cores"}, Knee: &Choice{N: n, Placement: "cores"}}
	for _, k := range ties {
		r.Tied = append(r.Tied, Choice{N: k, Placement: "cores"})
	}
	for k := range 64 {
		if v, ok := values[k]; ok {
			r.Points = append(r.Points, Point{N: k, Placement: "cores", Value: &v})
		}
	}
	return r
}

func TestCompare(t *testing.T) {
	v := func(median float64, runs int) measured.Value {
		return measured.Value{Median: median, Low: median - 1, High: median + 1, Runs: runs}
	}
	before := found(8, []int{6}, map[int]measured.Value{6: v(99, 9), 8: v(100, 9), 16: v(50, 9)})
	for _, c := range []struct {
		name   string
		after  *Report
		best   difference.Verdict // empty: the same
		points map[string]difference.Verdict
	}{
		{"slower", found(8, nil, map[int]measured.Value{6: v(99.5, 9), 8: v(80, 9), 12: v(1, 9)}), "",
			map[string]difference.Verdict{"points[6,cores]": difference.NotSeen, "points[8,cores]": difference.Changed}},
		{"a best that was a tie", found(6, nil, map[int]measured.Value{8: v(200, 3)}), difference.NotSeen,
			map[string]difference.Verdict{"points[8,cores]": difference.Unjudged}},
		{"another best", found(16, nil, map[int]measured.Value{16: v(150, 9)}), difference.Changed, map[string]difference.Verdict{"points[16,cores]": difference.Changed}},
	} {
		r, err := Compare(before, c.after)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Compare(c.after, before)
		if err != nil {
			t.Fatal(err)
		}
		differencetest.Mirrored(t, c.name, r, back)
		got := difference.Verdict("")
		if row := r.Find("best"); row != nil {
			got = row.Verdict
		}
		if got != c.best {
			t.Errorf("%s: the best is %q, want %q", c.name, got, c.best)
		}
		for name, want := range c.points {
			if row := r.Find(name); row == nil || row.Verdict != want {
				t.Errorf("%s: %s is %+v, want %s", c.name, name, row, want)
			}
		}
	}
	same, err := Compare(before, before)
	if err != nil {
		t.Fatal(err)
	}
	differencetest.Nothing(t, "a search", same)

	other := found(8, nil, nil)
	other.Metric, other.Better, other.Unit = "wall", "lower", ""
	if _, err := Compare(before, other); err == nil || !strings.Contains(err.Error(), "throughput in units/s (higher is better)") || !strings.Contains(err.Error(), "wall (lower is better)") {
		t.Errorf("two metrics: %v", err)
	}
}
