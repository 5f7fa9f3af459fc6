//go:build linux

package affinity

import (
	"testing"

	"berth/probe/cpuset"
	"berth/probe/difference"
	"berth/probe/difference/differencetest"
)

func TestCompareReceipts(t *testing.T) {
	receipt := func(tid int, seat cpuset.Set, delay float64) *Receipt {
		return &Receipt{Schema: ReceiptSchema, Command: []string{"./work"}, WallS: 2, Kept: true, Verdict: Measured, Workers: []WorkerReceipt{{
			Index: 0, PID: tid, Asked: seat,
			Threads: []ThreadReceipt{{PID: tid, TID: tid, Asked: seat, Set: seat, RanOn: seat, OnCPUMS: new(1900.0), RunDelayMS: &delay}},
		}}}
	}
	a, b := receipt(100, cpuset.Range(0, 0), 3), receipt(200, cpuset.Range(1, 1), 700)
	b.Kept = false
	b.Broken = []Violation{{Worker: 0, TID: 200, Code: SqueezedOut, Message: "thread 200"}}
	r := CompareReceipts(a, b)
	differencetest.Mirrored(t, "receipts", r, CompareReceipts(b, a))
	for name, want := range map[string]difference.Verdict{
		"kept": difference.Changed, "violations": difference.Changed, "seats": difference.Changed, "run_delay_ms": difference.Unjudged,
	} {
		if row := r.Find(name); row == nil || row.Verdict != want {
			t.Errorf("%s: %+v, want %s", name, row, want)
		}
	}
	if r.Find("on_cpu_ms") != nil || r.Find("migrations") != nil {
		t.Errorf("what is the same, or known of neither, is a row: %+v", r.Rows)
	}
	differencetest.Nothing(t, "a receipt", CompareReceipts(a, a))

	// Another run of the same has other numbers, and nothing that is known to differ.
	if again := CompareReceipts(a, receipt(300, cpuset.Range(0, 0), 9)); again.Differ() {
		t.Errorf("another run of the same: %+v", again.Rows)
	}
}
