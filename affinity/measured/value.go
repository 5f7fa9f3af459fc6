// Package measured holds the form that measured figures have everywhere in
// berth: a median and the interval that it lies in.
package measured

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Value is the median of some trials, and the interval in which the median lies
// with 95 % confidence, by order statistics; of fewer than [Fewest], all that was
// seen.
type Value struct {
	Median float64 `json:"median" yaml:"median"`
	Low    float64 `json:"low" yaml:"low"`
	High   float64 `json:"high" yaml:"high"`
	Runs   int     `json:"runs" yaml:"runs"`
}

// Fewest is the number of trials from which order statistics give an interval of
// the median with 95 % confidence: 1 - 2·(1/2)^n ≥ 0.95.
const Fewest = 6

// Of is the value of some trials; of none, zero.
func Of(xs []float64) Value {
	if len(xs) == 0 {
		return Value{}
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(xs), &benchmath.DefaultThresholds), 0.95)
	v := Value{Median: s.Center, Low: s.Lo, High: s.Hi, Runs: len(xs)}
	if len(xs) < Fewest { // no interval of so few has the confidence
		v.Low, v.High = slices.Min(xs), slices.Max(xs)
	}
	return v
}

// String is as 1.98 [1.96, 1.99], to three digits or so.
func (v Value) String() string {
	digits := 2
	switch m := math.Abs(v.Median); {
	case m >= 100:
		digits = 0
	case m >= 10:
		digits = 1
	}
	return fmt.Sprintf("%.*f [%.*f, %.*f]", digits, v.Median, digits, v.Low, digits, v.High)
}

// Width is how far the farther end is from the median, as a share of it.
func (v Value) Width() float64 {
	if v.Median == 0 {
		return max(v.High, -v.Low)
	}
	return max(v.High-v.Median, v.Median-v.Low) / max(v.Median, -v.Median)
}

// Scaled is the value in another unit.
func (v Value) Scaled(by float64) Value {
	v.Median, v.Low, v.High = v.Median*by, v.Low*by, v.High*by
	if by < 0 {
		v.Low, v.High = v.High, v.Low
	}
	return v
}

// Plus is the value moved by a constant.
func (v Value) Plus(d float64) Value {
	v.Median, v.Low, v.High = v.Median+d, v.Low+d, v.High+d
	return v
}

// Inverse is the value of 1/x, where x is above 0.
func (v Value) Inverse() Value {
	return Value{1 / v.Median, 1 / v.High, 1 / v.Low, v.Runs}
}
