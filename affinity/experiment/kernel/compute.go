//go:build linux

package kernel

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// chains are the states of the integer loop: four, as many independent
// calculations as a heavy integer program has in flight.
type chains [4]uint64

func newChains() *chains { return &chains{1, 2, 3, 4} }

// integerOperations is how many arithmetic operations a round of integer is.
const integerOperations = 16

// integer multiplies, adds, shifts and xors in each chain.
func integer(x *chains, rounds int) {
	const factor = 0x9e3779b97f4a7c15
	a, b, c, d := x[0], x[1], x[2], x[3]
	for range rounds {
		a = a*factor + 1
		b = b*factor + 3
		c = c*factor + 5
		d = d*factor + 7
		a ^= a >> 29
		b ^= b >> 31
		c ^= c >> 33
		d ^= d >> 35
	}
	x[0], x[1], x[2], x[3] = a, b, c, d
}

// Rounds measures how many rounds of service's work this CPU does in a time,
// when nothing disturbs it. It takes some milliseconds.
func Rounds(compute time.Duration) int {
	const (
		sample  = 8192 // rounds, some 20 µs
		enough  = 200  // samples since the least became less: by then the clock has risen
		atMost  = 2000
		notable = 0.995
	)
	x := newChains()
	least := math.Inf(1)
	for i, last := 0, 0; i < atMost && i-last < enough; i++ {
		start := time.Now()
		integer(x, sample)
		took := float64(max(time.Since(start), 1))
		if took < least*notable {
			last = i
		}
		least = min(least, took)
	}
	return max(1, int(float64(compute)/least*sample))
}

// accumulators are the operands of the multiply-adds: twelve vectors of the
// widest kind, enough to fill two ports of four cycles' latency.
type accumulators [96]float64

// The accumulators swing between two values, which fall together in 10^13
// rounds: never a constant, a denormal or an infinity.
const (
	fmaFactor = -(1 - 0x1p-42)
	fmaAddend = 1
)

func newAccumulators() *accumulators {
	acc := new(accumulators)
	for i := range acc {
		acc[i] = 1 + float64(i)/96
	}
	return acc
}

const fmaGoLanes = 8

// fmaGo sets x = x·factor + addend in the first fmaGoLanes accumulators, fused
// where the compiler can.
func fmaGo(acc *accumulators, factor, addend float64, rounds int) {
	a, b, c, d := acc[0], acc[1], acc[2], acc[3]
	e, f, g, h := acc[4], acc[5], acc[6], acc[7]
	for range rounds {
		a = a*factor + addend
		b = b*factor + addend
		c = c*factor + addend
		d = d*factor + addend
		e = e*factor + addend
		f = f*factor + addend
		g = g*factor + addend
		h = h*factor + addend
	}
	acc[0], acc[1], acc[2], acc[3] = a, b, c, d
	acc[4], acc[5], acc[6], acc[7] = e, f, g, h
}

const branchesPerRound = 32

// branchy takes branches by the bits of an xorshift generator (Marsaglia 2003),
// which x is the state of: half of them are guessed wrongly. Each has a store
// on one side, so that no compiler makes a conditional move of it.
func branchy(x uint64, rounds int) (next, sum uint64) {
	var count [64]uint64
	for range rounds {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		bits := x
		for range branchesPerRound {
			if bits&1 != 0 {
				count[bits>>2&63]++
			} else {
				sum += bits
			}
			bits >>= 2
		}
	}
	return x, sum + count[x&63]
}

// cheapCall is a system call without the Go scheduler's part.
func cheapCall() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }
