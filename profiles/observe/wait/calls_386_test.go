//go:build linux

package wait

import "testing"

// The numbers that golang.org/x/sys has are those of the table.
func TestI386(t *testing.T) {
	for number, want := range common {
		if got := i386.op(number); want != opNone && got != want {
			t.Errorf("call %d: the table has %d, and x/sys %d", number, got, want)
		}
	}
}
