//go:build linux

package tune

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// Law is the Universal Scalability Law (Gunther, Guerrilla Capacity Planning,
// 2007), X(n) = λn / (1 + σ(n−1) + κn(n−1)), fitted to the points of one
// placement; neither σ nor κ is negative.
type Law struct {
	Lambda float64 `json:"lambda" yaml:"lambda"` // what one worker does, in the unit of the metric
	Sigma  float64 `json:"sigma" yaml:"sigma"`   // contention
	Kappa  float64 `json:"kappa" yaml:"kappa"`   // coherence; 0: no peak
	// R2 is the share of the variance of the points that the law explains.
	R2        float64 `json:"r2" yaml:"r2"`
	Placement string  `json:"placement,omitempty" yaml:"placement,omitempty"`
}

// At is what the law gives for n workers.
func (l *Law) At(n float64) float64 {
	return l.Lambda * n / (1 + l.Sigma*(n-1) + l.Kappa*n*(n-1))
}

// Peak is the count from which it gets worse; +Inf where there is none.
func (l *Law) Peak() float64 {
	switch {
	case l.Kappa == 0:
		return math.Inf(1)
	case l.Sigma >= 1:
		return 1
	}
	return max(1, math.Sqrt((1-l.Sigma)/l.Kappa))
}

// measuredAt is a point of the law: the median for n workers, above 0.
type measuredAt struct{ n, x float64 }

// leastCounts is how many the law needs: as many as it has coefficients.
const leastCounts = 3

// fit finds the law that has the least squares of relative errors in n/X, which
// is linear: n/X = 1/λ + σ/λ·(n−1) + κ/λ·n(n−1). Of the ways to hold σ and κ at
// their bound 0 the best is taken, which is exact for so few coefficients.
func fit(points []measuredAt) (*Law, bool) {
	counts := map[float64]bool{}
	for _, p := range points {
		counts[p.n] = true
	}
	if len(counts) < leastCounts {
		return nil, false
	}
	var best *Law
	least := math.Inf(1)
	for free := range 4 { // bit 0: σ is free; bit 1: κ
		l, off, ok := fitFree(points, free&1 != 0, free&2 != 0)
		// A freer fit that gains nothing but rounding is no better.
		if ok && off < least*(1-1e-9) {
			best, least = l, off
		}
	}
	if best == nil {
		return nil, false
	}
	mean := 0.0
	for _, p := range points {
		mean += p.x / float64(len(points))
	}
	var off, all float64
	for _, p := range points {
		off += (p.x - best.At(p.n)) * (p.x - best.At(p.n))
		all += (p.x - mean) * (p.x - mean)
	}
	if all > 0 {
		best.R2 = 1 - off/all
	}
	return best, true
}

// fitFree solves for λ and the coefficients that are free; off is the sum of
// squares that is left.
func fitFree(points []measuredAt, sigma, kappa bool) (l *Law, off float64, ok bool) {
	columns := []func(n float64) float64{func(float64) float64 { return 1 }}
	if sigma {
		columns = append(columns, func(n float64) float64 { return n - 1 })
	}
	if kappa {
		columns = append(columns, func(n float64) float64 { return n * (n - 1) })
	}
	m, k := len(points), len(columns)
	a := blas64.General{Rows: m, Cols: k, Stride: k, Data: make([]float64, m*k)}
	b := blas64.General{Rows: m, Cols: 1, Stride: 1, Data: make([]float64, m)}
	// Columns of like size: the counts can be thousands.
	scale := make([]float64, k)
	for i, p := range points {
		for j, c := range columns {
			a.Data[i*k+j] = c(p.n) * p.x / p.n
			scale[j] = max(scale[j], math.Abs(a.Data[i*k+j]))
		}
		b.Data[i] = 1
	}
	for j, s := range scale {
		if s == 0 {
			return nil, 0, false
		}
		for i := range points {
			a.Data[i*k+j] /= s
		}
	}
	work := make([]float64, 1)
	lapack64.Gels(blas.NoTrans, a, b, work, -1)
	work = make([]float64, int(work[0]))
	if !lapack64.Gels(blas.NoTrans, a, b, work, len(work)) {
		return nil, 0, false
	}
	for j := range columns {
		b.Data[j] /= scale[j]
	}
	inverse, j := b.Data[0], 1 // 1/λ
	l = &Law{Lambda: 1 / inverse}
	if sigma {
		l.Sigma = b.Data[j] / inverse
		j++
	}
	if kappa {
		l.Kappa = b.Data[j] / inverse
	}
	if !(inverse > 0) || l.Sigma < 0 || l.Kappa < 0 || math.IsInf(l.Lambda, 0) {
		return nil, 0, false
	}
	for _, p := range points {
		r := 1 - p.x/l.At(p.n)
		off += r * r
	}
	return l, off, true
}

// breaks reports whether the law up to some number of workers is another than
// the one over all, and how far it is off beyond, as a share.
func breaks(points []measuredAt, upTo float64, over *Law) (inner *Law, off float64, ok bool) {
	var in, out []measuredAt
	for _, p := range points {
		if p.n <= upTo {
			in = append(in, p)
		} else {
			out = append(out, p)
		}
	}
	inner, ok = fit(in)
	if !ok || len(out) == 0 {
		return nil, 0, false
	}
	var whole float64
	for _, p := range in {
		whole = max(whole, math.Abs(over.At(p.n)/p.x-1))
	}
	for _, p := range out {
		if d := inner.At(p.n)/p.x - 1; math.Abs(d) > math.Abs(off) {
			off = d
		}
	}
	const much = 0.1
	return inner, off, math.Abs(off) > much && whole > much/2
}
