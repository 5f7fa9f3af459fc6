//go:build linux

package doctor

import (
	"slices"
	"testing"

	"berth/probe/difference/differencetest"
)

func TestCompare(t *testing.T) {
	before := []Finding{
		{Code: Throttled, Severity: Warning, Subject: Subject{PID: 10, Process: "api"}},
		{Code: FloatingVCPU, Severity: Info},
	}
	after := []Finding{
		{Code: FloatingVCPU, Severity: Info},
		{Code: Throttled, Severity: Warning, Subject: Subject{PID: 77, Process: "api"}},
		{Code: Throttled, Severity: Warning, Subject: Subject{PID: 78, Process: "batch"}},
	}
	r := Compare(before, after)
	differencetest.Mirrored(t, "findings", r, Compare(after, before))
	differencetest.Nothing(t, "findings", Compare(after, after))
	if row := r.Find(string(Warning)); row == nil || !slices.Equal(row.Added, []string{Throttled + " of batch"}) || row.Removed != nil || len(r.Rows) != 1 {
		t.Errorf("%+v", r.Rows)
	}
}
