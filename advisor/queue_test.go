package advisor

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// simulateClosed runs the closed queue itself, customer by customer: each
// thinks, then brings work that is served with speeds[k]/k while k are there.
// It returns the mean speed.
func simulateClosed(rng *rand.Rand, n int, think, service float64, speeds []float64, end float64) float64 {
	thinking := &times{}
	for range n {
		heap.Push(thinking, rng.ExpFloat64()*think)
	}
	left := &times{} // finish times on a clock that runs as each customer is served
	now, clock, worked := 0.0, 0.0, 0.0
	warm := end / 10
	for now < end {
		speed, next := 0.0, math.Inf(1)
		if k := left.Len(); k > 0 {
			speed = speeds[min(k, len(speeds)-1)] / float64(k)
			next = now + ((*left)[0]-clock)/speed
		}
		arrives := math.Inf(1)
		if thinking.Len() > 0 {
			arrives = (*thinking)[0]
		}
		event := math.Min(next, arrives)
		clock += (event - now) * speed
		if event > warm {
			worked += (event - math.Max(now, warm)) * speed * float64(left.Len())
		}
		now = event
		if next <= arrives {
			heap.Pop(left)
			heap.Push(thinking, now+rng.ExpFloat64()*think)
		} else {
			heap.Pop(thinking)
			heap.Push(left, clock+rng.ExpFloat64()*service)
		}
	}
	return worked / (now - warm)
}

type times []float64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(float64)) }
func (t *times) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

func TestClosedQueueIsWhatASimulationShows(t *testing.T) {
	smt := []float64{0, 1, 2, 3, 4, 4.25, 4.5, 4.75, 5}
	hybrid := []float64{0, 1, 2, 2.4, 2.8, 3.2}
	quota := []float64{0, 1, 2, 2.5}
	for _, c := range []struct {
		name           string
		n              int
		think, service float64
		speeds         []float64
	}{
		{"one server", 12, 18, 2, single},
		{"one server, crowded", 40, 18, 2, single},
		{"one server, little thought", 3, 1, 5, single},
		{"eight servers at saturation", 89, 90, 10, []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"eight servers by Goetz", 80, 90, 10, []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"fewer customers than servers", 3, 10, 10, []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"siblings", 50, 90, 10, smt},
		{"slow cores", 20, 30, 5, hybrid},
		{"a quota", 30, 90, 10, quota},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			want := simulateClosed(rng, c.n, c.think, c.service, c.speeds, 2e5*c.service/c.speeds[len(c.speeds)-1])
			if got := closed(c.n, c.think, c.service, c.speeds); math.Abs(got/want-1) > 0.02 {
				t.Errorf("the solver says %.4f, a simulation %.4f", got, want)
			}
		})
	}
}

// simulateWaits runs an open queue, first come first served, on c servers.
func simulateWaits(rng *rand.Rand, c int, arrivals, service, quantile float64, n int) float64 {
	free := make(times, c)
	waits := make([]float64, 0, n)
	now := 0.0
	for i := range n {
		now += rng.ExpFloat64() / arrivals
		start := math.Max(now, free[0])
		free[0] = start + rng.ExpFloat64()*service
		heap.Fix(&free, 0)
		if i > n/10 {
			waits = append(waits, start-now)
		}
	}
	slices.Sort(waits)
	return waits[int(quantile*float64(len(waits)))]
}

func TestErlangsWaitIsWhatASimulationShows(t *testing.T) {
	for _, c := range []struct {
		servers           int
		arrivals, service float64
		quantile          float64
	}{{1, 0.07, 8, 0.95}, {4, 0.3, 10, 0.99}, {10, 0.8, 8, 0.99}, {8, 0.8, 8, 0.99}, {64, 6, 8, 0.9}, {8, 0.1, 8, 0.9}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			queue := waiting{offered: c.arrivals * c.service, service: c.service}
			got := 0.0
			for k := 1; k <= c.servers; k++ {
				got = queue.add(float64(k), c.quantile)
			}
			want := simulateWaits(rand.New(rand.NewPCG(3, 4)), c.servers, c.arrivals, c.service, c.quantile, 4_000_000)
			if math.Abs(got-want) > 0.02*want+1e-9 {
				t.Errorf("the formula says %.4f ms, a simulation %.4f ms", got, want)
			}
		})
	}
}

func TestWaitOfAnOverloadHasNoEnd(t *testing.T) {
	queue := waiting{offered: 2, service: 1}
	for k := 1; k <= 3; k++ {
		if got := queue.add(float64(k), 0.99); math.IsInf(got, 1) != (k <= 2) {
			t.Errorf("%d servers: %v", k, got)
		}
	}
}

func TestClosedQueueAtItsEnds(t *testing.T) {
	two := []float64{0, 1, 2}
	for _, c := range []struct {
		n              int
		think, service float64
		want           float64
	}{
		{0, 10, 10, 0}, {0, 0, 10, 0}, {1, 0, 10, 1}, {9, 0, 10, 2}, {1, 10, 10, 0.5}, {1, 1e9, 1e-6, 1e-15},
		{1 << 22, 90, 10, 2},         // a crowd
		{1_000_000, 1e9, 1e3, 1},     // few of many at once
		{1_000_000, 1e9, 1e-6, 1e-9}, // hardly any
	} {
		if got := closed(c.n, c.think, c.service, two); math.Abs(got-c.want) > 0.03*c.want {
			t.Errorf("%+v gives %g", c, got)
		}
	}
}

func TestSaturationIsTheSmallest(t *testing.T) {
	for want := 1; want < 300; want += 7 {
		for _, from := range []int{1, want / 2, want, want + 1, 3 * want} {
			if got, ok := saturation(from, 1000, func(n int) bool { return n >= want }); got != want || !ok {
				t.Errorf("from %d: %d, %v instead of %d", from, got, ok, want)
			}
		}
	}
	if got, ok := saturation(5, 100, func(int) bool { return false }); got != 100 || ok {
		t.Errorf("what never saturates: %d, %v", got, ok)
	}
}
