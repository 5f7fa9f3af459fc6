package measured_test

import (
	"encoding/json"
	"testing"

	"berth/affinity/measured"
	"berth/probe/difference"
	"berth/probe/difference/differencetest"
)

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Values belong together by what their members of a list say of themselves, not
// by their order.
func TestCompareDocuments(t *testing.T) {
	a := decoded(t, `{"runs": [
		{"mode": "smt", "kernel": "integer", "workers": 2, "throughput_per_s": {"median": 100, "low": 99, "high": 101, "runs": 9}},
		{"mode": "parallel", "kernel": "integer", "workers": 2, "throughput_per_s": {"median": 200, "low": 190, "high": 210, "runs": 9}},
		{"mode": "alone", "kernel": "float", "workers": 1, "throughput_per_s": {"median": 7, "low": 6, "high": 8, "runs": 3}}],
		"derived": {"smt_yield": {"integer": {"median": 0.2, "low": 0.1, "high": 0.3, "runs": 9}}},
		"noise": {"steal_pct": 3}}`)
	b := decoded(t, `{"runs": [
		{"mode": "parallel", "kernel": "integer", "workers": 2, "throughput_per_s": {"median": 205, "low": 195, "high": 215, "runs": 9}},
		{"mode": "smt", "kernel": "integer", "workers": 2, "throughput_per_s": {"median": 80, "low": 79, "high": 81, "runs": 9}},
		{"mode": "alone", "kernel": "float", "workers": 1, "throughput_per_s": {"median": 70, "low": 60, "high": 80, "runs": 9}}],
		"derived": {"smt_yield": {}}, "noise": {"steal_pct": 9}}`)
	r, back := difference.New(), difference.New()
	measured.CompareDocuments(r, a, b)
	measured.CompareDocuments(back, b, a)
	differencetest.Mirrored(t, "documents", r, back)
	for name, want := range map[string]difference.Verdict{
		"runs[smt,integer,2].throughput_per_s":      difference.Changed,
		"runs[parallel,integer,2].throughput_per_s": difference.NotSeen,
		"runs[alone,float,1].throughput_per_s":      difference.Unjudged, // three runs make no interval
	} {
		if row := r.Find(name); row == nil || row.Verdict != want {
			t.Errorf("%s: %+v, want %s", name, row, want)
		}
	}
	if len(r.Rows) != 3 || len(r.Unknown) != 1 || r.Unknown[0] != "derived.smt_yield.integer" {
		t.Errorf("%d rows, unknown %v", len(r.Rows), r.Unknown)
	}
	same := difference.New()
	measured.CompareDocuments(same, a, a)
	differencetest.Nothing(t, "a document", same)
}

// Members that say the same of themselves are told apart by their order.
func TestCompareTwins(t *testing.T) {
	const twins = `{"others": [{"x": {"median": 1, "low": 1, "high": 1, "runs": 9}}, {"x": {"median": 2, "low": 2, "high": 2, "runs": 9}}]}`
	r := difference.New()
	measured.CompareDocuments(r, decoded(t, twins), decoded(t, twins))
	if len(r.Same) != 2 || len(r.Rows) != 0 {
		t.Errorf("%+v", r)
	}
}
