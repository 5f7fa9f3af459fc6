//go:build linux

package kernel

import (
	"fmt"
	"testing"
)

// The memory of all arrays together is what `likwid-bench -w S0:1GB:1` takes,
// and GB are counted as there.
const benchBytes = 1_000_000_000

func eachBench(b *testing.B, pass func(v *vectors)) {
	for _, v := range implementations() {
		b.Run(v.name, func(b *testing.B) {
			b.SetBytes(benchBytes)
			for b.Loop() {
				pass(v)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	memory := pattern(benchBytes, 1)
	eachBench(b, func(v *vectors) { v.readAll(memory) })
}

func BenchmarkCopy(b *testing.B) {
	dst, src := pattern(benchBytes/2, 1), pattern(benchBytes/2, 2)
	eachBench(b, func(v *vectors) { v.copyAll(dst, src) })
}

func BenchmarkTriad(b *testing.B) {
	x, y, z, err := threeArrays(make([]byte, benchBytes))
	if err != nil {
		b.Fatal(err)
	}
	eachBench(b, func(v *vectors) { v.triadAll(x, y, z, 3) })
}

func BenchmarkFillChase(b *testing.B) {
	memory := pattern(256<<20, 1)
	b.SetBytes(256 << 20)
	for b.Loop() {
		FillChase(memory)
	}
}

func BenchmarkChase(b *testing.B) {
	for _, kib := range []int{16, 256, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			memory := pattern(kib<<10, 1)
			FillChase(memory)
			at := uint64(0)
			const loads = 1_000_000
			for b.Loop() {
				at = Chase(memory, at, loads)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/loads, "ns/access")
		})
	}
}

func BenchmarkCycles(b *testing.B) {
	const cycles = 10_000_000
	for b.Loop() {
		Cycles(cycles)
	}
	b.ReportMetric(float64(b.N)*cycles/float64(b.Elapsed().Nanoseconds()), "GHz")
}

func BenchmarkWork(b *testing.B) {
	c := Config{Chase: pattern(1<<30, 1), Stream: make([]byte, 768<<20)}
	FillChase(c.Chase)
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			work, err := New(name, c)
			if err != nil {
				b.Fatal(err)
			}
			var units float64
			for b.Loop() {
				units += work()
			}
			b.ReportMetric(units/b.Elapsed().Seconds(), Unit(name)+"/s")
		})
	}
}
