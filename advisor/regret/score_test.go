package regret

import (
	"maps"
	"math"
	"slices"
	"testing"

	"golang.org/x/perf/benchmath"
)

// looks are units per second by count, in the order in which they were seen.
type looks map[int][]float64

// interval is a middle and where it lies with 95 % confidence: the median and
// order statistics, or for too few values the mean and Student's t.
type interval struct{ middle, low, high float64 }

// fewest values give an interval by order statistics: 1 − 2·(1/2)^n ≥ 0.95.
const fewest = 6

// few are the looks at each count at least, unless it is far from the best: two
// to choose the best by, and two to read it in.
const few = 4

func intervalOf(xs []float64) interval {
	if len(xs) < 2 {
		middle := math.NaN()
		if len(xs) == 1 {
			middle = xs[0]
		}
		return interval{middle, math.Inf(-1), math.Inf(1)}
	}
	var assume benchmath.Assumption = benchmath.AssumeNothing
	if len(xs) < fewest {
		assume = benchmath.AssumeNormal
	}
	s := assume.Summary(benchmath.NewSample(slices.Clone(xs), &benchmath.DefaultThresholds), 0.95)
	return interval{s.Center, s.Lo, s.Hi}
}

// width is how far the farther end is from the middle, as a share of it.
func (i interval) width() float64 {
	return max(i.high-i.middle, i.middle-i.low) / math.Abs(i.middle)
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// half are every second value, from the first or from the second on.
func half(xs []float64, from int) []float64 {
	var out []float64
	for i := from; i < len(xs); i += 2 {
		out = append(out, xs[i])
	}
	return out
}

// best is the count with the highest median; of equals the least.
func (l looks) best(of func([]float64) []float64) (n int) {
	most := math.Inf(-1)
	for _, k := range slices.Sorted(maps.Keys(l)) {
		if x := median(of(l[k])); x > most {
			n, most = k, x
		}
	}
	return n
}

// regret is the share of speed lost at a count. It can be below zero, as the
// best is not chosen by the looks that it is read from.
func (l looks) regret(n int) float64 {
	sum := 0.0
	for from := range 2 {
		b := l.best(func(xs []float64) []float64 { return half(xs, from) })
		sum += 1 - median(half(l[n], 1-from))/median(half(l[b], 1-from))
	}
	return sum / 2
}

// settled reports whether a count needs no more looks: it is known well, or is
// far from the best.
func (l looks) settled(n, repeats int) bool {
	xs := l[n]
	if len(xs) < min(3, repeats) {
		return false
	}
	i := intervalOf(xs)
	b := intervalOf(l[l.best(func(xs []float64) []float64 { return xs })])
	return len(xs) >= repeats || len(xs) >= few && i.width() <= 0.03 || i.high < 0.6*b.middle
}

func TestRegretOfLooks(t *testing.T) {
	flat := func(x float64) []float64 { return slices.Repeat([]float64{x}, 6) }
	for _, test := range []struct {
		name string
		l    looks
		n    int
		want float64
	}{
		{"the best", looks{1: flat(50), 2: flat(100)}, 2, 0},
		{"half as fast", looks{1: flat(50), 2: flat(100)}, 1, 0.5},
		// 2 is chosen in one half by luck, and read in the other.
		{"luck is not the best", looks{1: flat(100), 2: {140, 90, 140, 90, 140, 90}}, 1, ((1 - 100./90) + 0) / 2},
	} {
		if got := test.l.regret(test.n); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%s: %g, not %g", test.name, got, test.want)
		}
	}
}

func TestSettled(t *testing.T) {
	l := looks{
		1: {10, 11, 10},
		2: {100, 101, 100},
		3: {100, 101, 100, 101},
		4: {80, 130, 100, 90},
		5: {80, 130, 100, 90, 80, 130, 100, 90, 80, 130},
	}
	for n, want := range map[int]bool{1: true, 2: false, 3: true, 4: false, 5: true} {
		if got := l.settled(n, 10); got != want {
			t.Errorf("%d: settled is %t", n, got)
		}
	}
	if !l.settled(2, 3) {
		t.Error("as many looks as wanted are not enough")
	}
}
