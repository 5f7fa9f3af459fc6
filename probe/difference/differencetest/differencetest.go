// Package differencetest holds the laws that every comparison keeps, for tests.
package differencetest

import (
	"cmp"
	"math"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"berth/probe/difference"
)

// Nothing fails unless a report says that there is no difference at all.
func Nothing(t *testing.T, what string, r *difference.Report) {
	t.Helper()
	if len(r.Rows)+len(r.Unknown) > 0 || r.Differ() {
		t.Errorf("%s compared with itself: %+v, unknown %v", what, r.Rows, r.Unknown)
	}
	if len(r.Same) == 0 {
		t.Errorf("%s compared with itself: nothing was compared", what)
	}
}

// Mirrored fails unless the comparison of B with A is that of A with B seen from
// the other side. Causes need not have the same words.
func Mirrored(t *testing.T, what string, ab, ba *difference.Report) {
	t.Helper()
	if diff := gocmp.Diff(sorted(ab.Same), sorted(ba.Same)); diff != "" {
		t.Errorf("%s: the same (-A,B +B,A)\n%s", what, diff)
	}
	if diff := gocmp.Diff(sorted(ab.Unknown), sorted(ba.Unknown)); diff != "" {
		t.Errorf("%s: unknown (-A,B +B,A)\n%s", what, diff)
	}
	if len(ab.Rows) != len(ba.Rows) {
		t.Errorf("%s: %d rows, and %d the other way round", what, len(ab.Rows), len(ba.Rows))
		return
	}
	for _, x := range ab.Rows {
		y := ba.Find(x.Name)
		if y == nil {
			t.Errorf("%s: %s differs one way only", what, x.Name)
			continue
		}
		got := []any{y.B, y.A, y.Unit, y.Verdict, sorted(y.Removed), sorted(y.Added), len(y.Moved), y.Why != ""}
		want := []any{x.A, x.B, x.Unit, x.Verdict, sorted(x.Added), sorted(x.Removed), len(x.Moved), x.Why != ""}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s (-A,B +B,A)\n%s", what, x.Name, diff)
		}
		if !opposite(x.Difference, y.Difference, func(d float64) float64 { return -d }) || !opposite(x.Ratio, y.Ratio, func(q float64) float64 { return 1 / q }) {
			t.Errorf("%s: %s: %+v is not %+v from the other side", what, x.Name, x, y)
		}
	}
}

func opposite(x, y *float64, turn func(float64) float64) bool {
	if x == nil || y == nil {
		return x == y
	}
	return math.Abs(turn(*x)-*y) <= 1e-6*math.Max(1, math.Abs(*y))
}

func sorted[T cmp.Ordered](list []T) []T { return slices.Sorted(slices.Values(list)) }
