//go:build linux

package experiment

import (
	"encoding/json"
	"strings"
	"testing"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/difference"
	"berth/probe/difference/differencetest"
)

func document(t *testing.T, report any) []byte {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// compared compares both ways, and each with itself.
func compared(t *testing.T, a, b []byte) *difference.Report {
	t.Helper()
	var out [4]*difference.Report
	for i, pair := range [...][2][]byte{{a, b}, {b, a}, {a, a}, {b, b}} {
		var err error
		if out[i], err = Compare(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	differencetest.Mirrored(t, "the reports", out[0], out[1])
	for _, r := range out[2:] {
		if r.Differ() || len(r.Unknown) > 0 {
			t.Errorf("a report differs from itself: %+v", r)
		}
	}
	return out[0]
}

func TestCompareReports(t *testing.T) {
	head := func(kind string) Report {
		return Report{Schema: Schema, Kind: kind, Verdict: affinity.Measured, CPUSet: cpuset.Range(0, 1)}
	}
	us := func(median float64) *measured.Value {
		return &measured.Value{Median: median, Low: median - 0.1, High: median + 0.1, Runs: 9}
	}
	a := &SwitchReport{Report: head("switch"), Pinned: us(1), CrossCPU: us(5), Unpinned: us(2)}
	b := &SwitchReport{Report: head("switch"), Pinned: us(2), CrossCPU: us(5.1)}
	r := compared(t, document(t, a), document(t, b))
	if row := r.Find("pinned_us"); row == nil || row.Verdict != difference.Changed || row.Ratio == nil || *row.Ratio != 2 {
		t.Errorf("pinned: %+v", row)
	}
	if row := r.Find("cross_cpu_us"); row == nil || row.Verdict != difference.NotSeen {
		t.Errorf("cross CPU: %+v", row)
	}
	if len(r.Unknown) != 1 || r.Unknown[0] != "unpinned_us" {
		t.Errorf("unknown: %v", r.Unknown)
	}

	study := &StudyReport{Report: head("study"), Claims: []Claim{{ID: "c1", Verdict: "holds"}, {ID: "c2", Verdict: "holds"}}}
	later := &StudyReport{Report: head("study"), Claims: []Claim{{ID: "c1", Verdict: "fails"}, {ID: "c2", Verdict: "holds"}}}
	r = compared(t, document(t, study), document(t, later))
	if row := r.Find("claims[c1]"); row == nil || row.A != "holds" || row.B != "fails" || r.Find("claims[c2]") != nil {
		t.Errorf("claims: %+v", r.Rows)
	}
	if _, err := Compare(document(t, a), document(t, study)); err == nil || !strings.Contains(err.Error(), `"switch"`) {
		t.Errorf("two kinds: %v", err)
	}
}

// Of many pairs of CPUs a few change by chance.
func TestComparePairs(t *testing.T) {
	matrix := func(cpus int, ns func(i, j int) float64) []byte {
		r := &LatencyReport{Report: Report{Schema: Schema, Kind: "latency", Verdict: affinity.Measured}}
		for i := range cpus {
			r.CPUs = append(r.CPUs, cpuset.CPU(i))
			var row, low, high []*float64
			for j := range cpus {
				if i == j {
					row, low, high = append(row, nil), append(low, nil), append(high, nil)
					continue
				}
				x := ns(i, j)
				row, low, high = append(row, &x), append(low, new(x-1)), append(high, new(x+1))
			}
			r.NS, r.Low, r.High = append(r.NS, row), append(r.Low, low), append(r.High, high)
		}
		return document(t, r)
	}
	flat := func(int, int) float64 { return 100 }
	for _, c := range []struct {
		name string
		ns   func(i, j int) float64
		want difference.Verdict
	}{
		{"one pair of ninety", func(i, j int) float64 {
			if i == 0 && j == 1 {
				return 150
			}
			return 100
		}, difference.NotSeen},
		{"all that one CPU takes part in", func(i, j int) float64 {
			if i == 0 || j == 0 {
				return 150
			}
			return 100.5
		}, difference.Changed},
	} {
		r := compared(t, matrix(10, flat), matrix(10, c.ns))
		if row := r.Find("core_to_core_ns"); row == nil || row.Verdict != c.want {
			t.Errorf("%s: %+v, want %s", c.name, row, c.want)
		}
	}
}

// Whatever documents hold, a comparison ends with a report or an error, and says
// the same from the other side.
func FuzzCompare(f *testing.F) {
	f.Add([]byte(`{"kind": "latency", "cpus": [0, 1], "ns": [[null, 1], [2]], "low": [[null, 1]], "high": []}`), []byte(`{"kind": "latency", "cpus": [0], "ns": [[1]]}`))
	f.Add([]byte(`{"kind": "modes", "runs": [{"mode": "smt", "x": {"median": 1, "low": 1, "high": 1, "runs": 9}}]}`), []byte(`{"kind": "modes", "runs": {"median": 1}}`))
	f.Add([]byte(`{"kind": "study", "claims": [{"id": "a", "verdict": "holds"}]}`), []byte(`{"kind": "study", "claims": null}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r, err := Compare(a, b)
		back, backErr := Compare(b, a)
		if (err == nil) != (backErr == nil) {
			t.Fatalf("%v, and the other way round %v", err, backErr)
		}
		if err == nil && (len(r.Rows) != len(back.Rows) || len(r.Unknown) != len(back.Unknown)) {
			t.Fatalf("%+v, and the other way round %+v", r, back)
		}
	})
}
