package measured

import (
	"math"
	"testing"
)

func TestOf(t *testing.T) {
	tests := []struct {
		xs   []float64
		want Value
	}{
		{nil, Value{}},
		{[]float64{3}, Value{3, 3, 3, 1}},
		{[]float64{5, 1, 3}, Value{3, 1, 5, 3}},
		{[]float64{1, 2, 3, 4, 5, 6}, Value{3.5, 1, 6, 6}}, // order statistics of six: all of them
	}
	for _, test := range tests {
		if got := Of(test.xs); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.xs, got, test.want)
		}
	}
	var many []float64
	for i := range 100 {
		many = append(many, float64(i))
	}
	// The 40th and the 61st of a hundred enclose the median with 95 %.
	if v := Of(many); v.Median != 49.5 || v.Low < 38 || v.High > 61 || v.Runs != 100 {
		t.Errorf("%+v", v)
	}
}

func TestArithmetic(t *testing.T) {
	v := Value{2, 1, 4, 9}
	if got := v.Width(); got != 1 {
		t.Errorf("width %v", got)
	}
	if got := (Value{0, -1, 2, 9}).Width(); got != 2 {
		t.Errorf("width around nothing %v", got)
	}
	if got := v.Scaled(-2); got != (Value{-4, -8, -2, 9}) {
		t.Errorf("scaled %+v", got)
	}
	if got := v.Plus(1); got != (Value{3, 2, 5, 9}) {
		t.Errorf("plus %+v", got)
	}
	if got := v.Inverse(); got != (Value{0.5, 0.25, 1, 9}) || math.IsNaN(got.Low) {
		t.Errorf("inverse %+v", got)
	}
	if got := v.String(); got != "2.00 [1.00, 4.00]" {
		t.Error(got)
	}
}
