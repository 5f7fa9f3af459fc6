//go:build linux

package fleet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/probe/difference"
	"berth/probe/difference/differencetest"
)

func TestCompareFleets(t *testing.T) {
	shapes := func(budgets ...float64) (all []Shape) {
		for i, b := range budgets {
			all = append(all, Shape{ID: i + 1, Fingerprint: "0123456789abcdef", BudgetCPUs: b})
		}
		return all
	}
	before := &Fleet{Shapes: shapes(8), Nodes: []Node{{Name: "a", Shape: 1}, {Name: "b", Shape: 1}, {Name: "c", Shape: 1}, {Name: "d", Trouble: Down}},
		Totals: Totals{Nodes: 4, Answered: 3, BudgetCPUs: 24}}
	after := &Fleet{Shapes: shapes(4, 8), Nodes: []Node{{Name: "a", Shape: 2}, {Name: "b", Shape: 1}, {Name: "c", Trouble: TimedOut}, {Name: "d", Shape: 1}, {Name: "e", Shape: 2}},
		Totals: Totals{Nodes: 5, Answered: 4, BudgetCPUs: 24, MemoryBytes: 1 << 30}}
	r := CompareFleets(before, after)
	differencetest.Mirrored(t, "fleets", r, CompareFleets(after, before))
	differencetest.Nothing(t, "a fleet", CompareFleets(after, after))
	changes := func(name string) [3][]string {
		row := r.Find(name)
		if row == nil {
			return [3][]string{}
		}
		return [3][]string{row.Added, row.Removed, row.Moved}
	}
	// a has another number of shape, and is as it was; c and d were seen once.
	for name, want := range map[string][3][]string{
		"nodes":    {{"e"}, nil, nil},
		"silent":   {{"c: timeout"}, {"d: down"}, nil},
		"shapes":   {{"01234567 with the time of 4 CPUs"}, nil, nil},
		"reshaped": {nil, nil, {"b from 01234567 with the time of 8 CPUs to 01234567 with the time of 4 CPUs"}},
	} {
		if diff := cmp.Diff(want, changes(name)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{"memory_bytes"}, r.Unknown); diff != "" {
		t.Errorf("unknown: -want +got\n%s", diff)
	}
	if row := r.Find("reshaped"); row != nil && row.Verdict != difference.Changed {
		t.Errorf("%+v", row)
	}
}
