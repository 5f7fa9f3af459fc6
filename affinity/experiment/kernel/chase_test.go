//go:build linux

package kernel

import (
	"strings"
	"testing"
)

var chaseSizes = []struct {
	bytes int
	lines uint64
}{
	{64, 1},
	{128, 2},
	{191, 2},
	{256, 4},
	{1000, 8},
	{4096, 64},
	{48 << 10, 512},
	{100_000, 1024},
	{1 << 20, 1 << 14},
	{3<<20 + 64, 1 << 15},
	{1<<23 - 1, 1 << 16},
}

func TestChaseIsOneCycle(t *testing.T) {
	for _, size := range chaseSizes {
		b := pattern(size.bytes, 1)
		FillChase(b)
		seen := make([]bool, size.lines)
		at := uint64(0)
		for range size.lines {
			if seen[at] {
				t.Fatalf("%d bytes: line %d comes twice", size.bytes, at)
			}
			seen[at] = true
			at = Chase(b, at, 1)
		}
		if at != 0 {
			t.Errorf("%d bytes: line %d after a round of all %d, not the first", size.bytes, at, size.lines)
		}
		if got := Chase(b, 3+size.lines, int(size.lines)); got != 3%size.lines {
			t.Errorf("%d bytes: got line %d after a round from line 3", size.bytes, got)
		}
	}
}

func TestChaseCounts(t *testing.T) {
	b := pattern(4096, 1)
	FillChase(b)
	want := uint64(5)
	for n := range 20 {
		if got := Chase(b, 5, n); got != want {
			t.Errorf("%d steps from 5: got line %d, want %d", n, got, want)
		}
		want = Chase(b, want, 1)
	}
}

// A prefetcher follows steps that repeat, or that stay near.
func TestChaseHasNoStride(t *testing.T) {
	for _, size := range chaseSizes {
		if size.lines < 512 {
			continue
		}
		b := pattern(size.bytes, 1)
		FillChase(b)
		var near int
		steps := map[uint64]int{}
		at := uint64(0)
		for range size.lines {
			next := Chase(b, at, 1)
			step := (next - at) & (size.lines - 1)
			steps[step]++
			if step < 4 || step > size.lines-4 {
				near++
			}
			at = next
		}
		for step, n := range steps {
			if n > 4 {
				t.Errorf("%d bytes: a step of %d lines comes %d times", size.bytes, step, n)
			}
		}
		// By chance 7 of all lines are so near.
		if near > 28 {
			t.Errorf("%d bytes: %d steps of less than four lines", size.bytes, near)
		}
	}
}

func TestChaseStartsStayApart(t *testing.T) {
	b := pattern(1<<20, 1)
	FillChase(b)
	const lines, workers = 1 << 14, 8
	at := uint64(0)
	for step := range lines {
		if at%(lines/workers) == 0 && step%(lines/workers) != 0 {
			t.Fatalf("line %d comes after %d steps", at, step)
		}
		at = Chase(b, at, 1)
	}
}

func TestChaseOfTooLittle(t *testing.T) {
	for _, n := range []int{0, 1, 63} {
		b := make([]byte, n)
		FillChase(b)
		if got := Chase(b, 7, 5); got != 0 {
			t.Errorf("%d bytes: got line %d", n, got)
		}
	}
}

func TestCheckChase(t *testing.T) {
	filled := pattern(10_000, 1)
	FillChase(filled)
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"filled", filled, ""},
		{"empty", nil, "0 bytes"},
		{"one line", filled[:64], "64 bytes"},
		{"zeros", make([]byte, 10_000), "not filled"},
		{"half", filled[:4096], "not filled"},
		{"shifted", filled[64:], "not filled"},
	} {
		err := checkChase(c.b)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
