package difference_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/probe/cpuset"
	"berth/probe/difference"
	"berth/probe/difference/differencetest"
)

func x(v float64) *float64 { return &v }

func set(t *testing.T, list string) *cpuset.Set {
	t.Helper()
	s, err := cpuset.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestRows(t *testing.T) {
	type report = difference.Report
	changed := func(row difference.Row) *report {
		row.Verdict = difference.Changed
		return &report{Rows: []difference.Row{row}, Same: []string{}, Unknown: []string{}}
	}
	same := &report{Rows: []difference.Row{}, Same: []string{"n"}, Unknown: []string{}}
	unknown := &report{Rows: []difference.Row{}, Same: []string{}, Unknown: []string{"n"}}
	nothing := difference.New()
	for _, c := range []struct {
		name string
		ab   func(r *report)
		ba   func(r *report)
		want *report
	}{
		{"a word", func(r *report) { r.Word("n", "a", "b") }, func(r *report) { r.Word("n", "b", "a") }, changed(difference.Row{Name: "n", A: "a", B: "b"})},
		{"the same word", func(r *report) { r.Word("n", "a", "a") }, nil, same},
		{"a word that one does not know", func(r *report) { r.Word("n", "", "b") }, func(r *report) { r.Word("n", "b", "") }, unknown},
		{"a word that neither knows", func(r *report) { r.Word("n", "", "") }, nil, nothing},
		{"a name that is gone", func(r *report) { r.Name("n", "a", "") }, func(r *report) { r.Name("n", "", "a") }, changed(difference.Row{Name: "n", A: "a"})},
		{"no name", func(r *report) { r.Name("n", "", "") }, nil, nothing},
		{"a count", func(r *report) { r.Count("n", "", 8, 32) }, func(r *report) { r.Count("n", "", 32, 8) },
			changed(difference.Row{Name: "n", A: 8, B: 32, Ratio: x(4), Difference: x(24)})},
		{"from none: no ratio", func(r *report) { r.Count("n", "", 0, 2) }, func(r *report) { r.Count("n", "", 2, 0) },
			changed(difference.Row{Name: "n", A: 0, B: 2, Difference: x(2)})},
		{"figures within rounding", func(r *report) { r.Figure("n", "", x(0.3), x(0.1+0.2)) }, nil, same},
		{"a figure of one", func(r *report) { r.Figure("n", "", x(1), nil) }, func(r *report) { r.Figure("n", "", nil, x(1)) }, unknown},
		{"a limit that is new", func(r *report) { r.Limit("n", "cpus", nil, x(2.5)) }, func(r *report) { r.Limit("n", "cpus", x(2.5), nil) },
			changed(difference.Row{Name: "n", Unit: "cpus", B: 2.5})},
		{"no limit", func(r *report) { r.Limit("n", "cpus", nil, nil) }, nil, nothing},
		{"sets", func(r *report) { r.CPUs("n", set(t, "0-3"), set(t, "2-5")) }, func(r *report) { r.CPUs("n", set(t, "2-5"), set(t, "0-3")) },
			changed(difference.Row{Name: "n", A: "0-3", B: "2-5", Added: []string{"4-5"}, Removed: []string{"0-1"}})},
		{"members, as often as they are there", func(r *report) { r.Members("n", []string{"a", "b", "a"}, []string{"b", "c", "a"}) },
			func(r *report) { r.Members("n", []string{"b", "c", "a"}, []string{"a", "b", "a"}) },
			changed(difference.Row{Name: "n", A: 3, B: 3, Ratio: x(1), Difference: x(0), Added: []string{"c"}, Removed: []string{"a"}})},
		{"members in another order", func(r *report) { r.Members("n", []string{"a", "b"}, []string{"b", "a"}) }, nil, same},
	} {
		r := difference.New()
		c.ab(r)
		if diff := cmp.Diff(c.want, r); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
		back := difference.New()
		if c.ba != nil {
			c.ba(back)
		} else {
			c.ab(back)
		}
		differencetest.Mirrored(t, c.name, r, back)
	}
}

// Measured values differ where their intervals do not overlap, and touching is
// overlapping.
func TestMeasured(t *testing.T) {
	for _, c := range []struct {
		a, b difference.Interval
		few  bool
		want difference.Verdict
	}{
		{difference.Interval{Median: 10, Low: 9, High: 11}, difference.Interval{Median: 12, Low: 11.5, High: 13}, false, difference.Changed},
		{difference.Interval{Median: 10, Low: 9, High: 11}, difference.Interval{Median: 12, Low: 11, High: 13}, false, difference.NotSeen},
		{difference.Interval{Median: 10, Low: 5, High: 20}, difference.Interval{Median: 12, Low: 11, High: 13}, false, difference.NotSeen},
		{difference.Interval{Median: 10, Low: 9, High: 11}, difference.Interval{Median: 8, Low: 7, High: 8.9}, false, difference.Changed},
		{difference.Interval{Median: 10, Low: 9, High: 11}, difference.Interval{Median: 30, Low: 29, High: 31}, true, difference.Unjudged},
	} {
		r, back := difference.New(), difference.New()
		r.Measured("n", "ms", c.a.Median, c.b.Median, c.a, c.b, c.few)
		back.Measured("n", "ms", c.b.Median, c.a.Median, c.b, c.a, c.few)
		if row := r.Find("n"); row == nil || row.Verdict != c.want {
			t.Errorf("%v and %v: %+v, want %s", c.a, c.b, row, c.want)
		}
		if r.Differ() != (c.want == difference.Changed) {
			t.Errorf("%v and %v: differ is %v", c.a, c.b, r.Differ())
		}
		differencetest.Mirrored(t, "measured", r, back)
	}
}
