package advisor

import "math"

// closed is the mean speed at which a closed queue works: n customers think
// for the mean time think, then need service of the mean length service at
// speed 1; with k of them at service the total speed is speeds[k], and beyond
// the last entry that entry.
//
// It is the machine repairman of queueing theory with state-dependent service,
// a birth-death process: p(k) = p(k−1)·(n−k+1)·(service/think)/speeds[k]
// (Kleinrock, Queueing Systems vol. 1, 1975, section 3.8; with one speed for
// all k, M/M/1//N). Throughput is the result divided by service.
func closed(n int, think, service float64, speeds []float64) float64 {
	last := len(speeds) - 1
	if think == 0 {
		return speeds[min(n, last)]
	}
	r := service / think
	// So many customers keep all servers busy all the time: the number that think
	// is Poisson's, of mean busy, and never leaves so few at service.
	if busy := speeds[last] / r; float64(n-last) > busy+12*math.Sqrt(busy)+200 {
		return speeds[last]
	}
	p, sum, worked := 1.0, 1.0, 0.0
	for k := 1; k <= n; k++ {
		s := speeds[min(k, last)]
		step := float64(n-k+1) * r / s
		p *= step
		sum += p
		worked += p * s
		if step < 1 && p < sum*1e-17 {
			break // unimodal: all that follows is less
		}
		if sum > 1e280 {
			p, sum, worked = p*1e-280, sum*1e-280, worked*1e-280
		}
	}
	return worked / sum
}

// saturation is the smallest n up to most for which a measure that grows with n
// reaches a goal, and whether there is one. from is where to begin to look.
func saturation(from, most int, enough func(n int) bool) (n int, ok bool) {
	low, high := 0, min(max(from, 1), most) // low is not enough
	for step := max(1, int(math.Sqrt(float64(high)))); !enough(high); step *= 2 {
		if high == most {
			return most, false
		}
		low, high = high, min(high+step, most)
	}
	for high-low > 1 {
		if middle := low + (high-low)/2; enough(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high, true
}

// single is the one server of M/M/1//N.
var single = []float64{0, 1}

// waiting walks over numbers of servers, 1, 2, …, and tells for each what a
// task that arrives has to wait: M/M/c, and its generalisation to servers of
// different speed, of which the fastest are used first.
//
// With a = arrivals·service, R(c) = Σ p(k<c) / p(c) follows from R(c−1), and
// the chance to wait is Erlang's C = 1/(1 + R·(1−ρ)); the wait of those who do is
// exponential with the rate that is left over (Kleinrock, section 3.5; the
// recursion is the inverse of Erlang's B, ITU Teletraffic Engineering Handbook,
// 2005, section 7.3).
type waiting struct {
	offered float64 // arrivals per ms × service in ms
	service float64 // ms
	below   float64 // R
}

// add counts one more server and takes the speed of them all. It returns the
// wait in ms at a quantile; +Inf where they cannot keep up.
func (w *waiting) add(speed, quantile float64) float64 {
	w.below = (w.below + 1) * speed / w.offered
	spare := speed - w.offered
	if spare <= 0 {
		return math.Inf(1)
	}
	waits := 1 / (1 + w.below*spare/speed)
	if waits <= 1-quantile {
		return 0
	}
	return math.Log(waits/(1-quantile)) * w.service / spare
}
