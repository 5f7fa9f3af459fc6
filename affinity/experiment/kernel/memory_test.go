//go:build linux

package kernel

import (
	"bytes"
	"math"
	"testing"
	"unsafe"
)

// lengths are all short ones, and some about the ends of rounds and pieces.
func lengths(piece int) []int {
	var all []int
	for n := range 301 {
		all = append(all, n)
	}
	for _, at := range []int{512, 576, 1024, 1088, 4096, piece, 2 * piece} {
		all = append(all, at-1, at, at+1)
	}
	return all
}

// pattern is memory at the start of a line, no two words of it alike.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n+line)
	b = b[toLine(unsafe.Pointer(&b[0])):][:n]
	for i := range b {
		seed = seed*chaseMultiplier + chaseIncrement
		b[i] = byte(seed >> 56)
	}
	return b
}

func numbers(n int, seed uint64) []float64 {
	b := pattern(8*n, seed)
	f := unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(b))), n)
	for i := range f {
		f[i] = 1 + float64(b[8*i])/256 + float64(b[8*i+1])*0x1p-52
	}
	return f
}

func eachVariant(t *testing.T, test func(t *testing.T, v *vectors)) {
	can := implementations()
	for _, v := range byWidth[:len(byWidth)-len(can)] {
		t.Run(v.name, func(t *testing.T) { t.Skip("this CPU has no such vectors") })
	}
	for _, v := range can {
		t.Run(v.name, func(t *testing.T) { test(t, v) })
	}
}

func TestRead(t *testing.T) {
	memory := pattern(2*piece+2*line, 1)
	eachVariant(t, func(t *testing.T, v *vectors) {
		for _, n := range lengths(piece) {
			for offset := range line {
				if n > 5000 && offset > 2 {
					break
				}
				b := memory[offset:][:n]
				var word [8]byte
				for i, c := range b {
					word[i%8] ^= c
				}
				var want uint64
				for i, c := range word {
					want |= uint64(c) << (8 * i)
				}
				if got := v.readAll(b); got != want {
					t.Fatalf("%d bytes at offset %d: got %#x, want %#x", n, offset, got, want)
				}
			}
		}
	})
}

func TestCopy(t *testing.T) {
	src := pattern(2*piece+4*line, 2)
	before := pattern(2*piece+4*line, 3)
	dst := pattern(2*piece+4*line, 3)
	eachVariant(t, func(t *testing.T, v *vectors) {
		for _, n := range lengths(piece) {
			for to := range line {
				for _, from := range []int{0, 1, 8, 31, 32, to} {
					if n > 5000 && to > 2 {
						break
					}
					end := to + n
					v.copyAll(dst[to:end], src[from:from+n])
					if !bytes.Equal(dst[to:end], src[from:from+n]) {
						t.Fatalf("%d bytes from offset %d to %d: they differ", n, from, to)
					}
					if !bytes.Equal(dst[:to], before[:to]) || !bytes.Equal(dst[end:end+line], before[end:end+line]) {
						t.Fatalf("%d bytes from offset %d to %d: wrote beside them", n, from, to)
					}
					copy(dst[to:end], before[to:end])
				}
			}
		}
	})
}

func TestCopyTakesTheShorter(t *testing.T) {
	dst, src := make([]byte, 200), pattern(300, 4)
	Copy(dst, src)
	if !bytes.Equal(dst, src[:200]) {
		t.Error("300 bytes to 200: they differ")
	}
	dst = make([]byte, 300)
	Copy(dst, src[:200])
	if !bytes.Equal(dst, append(src[:200:200], make([]byte, 100)...)) {
		t.Error("200 bytes to 300: they differ")
	}
}

func TestTriad(t *testing.T) {
	const most = 2*piece/8 + 4*lineWords
	b, c := numbers(most, 5), numbers(most, 6)
	memory := numbers(most, 7)
	const s = 1.1
	eachVariant(t, func(t *testing.T, v *vectors) {
		for _, n := range lengths(piece / 8) {
			for at := range lineWords {
				for _, shift := range []int{0, 1, 5} {
					if n > 600 && at > 1 {
						break
					}
					before, after := memory[at], memory[at+n+1]
					a, x, y := memory[at+1:at+1+n], b[shift:], c[2*shift:]
					v.triadAll(a, x, y, s)
					for i, got := range a {
						if want := x[i] + float64(s*y[i]); got != want {
							t.Fatalf("%d points at %d, others at %d: got a[%d] = %v, want %v", n, at+1, shift, i, got, want)
						}
						a[i] = 0
					}
					if memory[at] != before || memory[at+n+1] != after {
						t.Fatalf("%d points at %d: wrote beside them", n, at+1)
					}
				}
			}
		}
	})
}

func TestTriadOffEightBytes(t *testing.T) {
	memory := make([]byte, 8*100+line)
	b, c := numbers(100, 8), numbers(100, 9)
	for offset := range line {
		a := unsafe.Slice((*float64)(unsafe.Pointer(&memory[offset])), 100)
		Triad(a, b, c, 2)
		for i, got := range a {
			if want := b[i] + 2*c[i]; got != want {
				t.Fatalf("offset %d: got a[%d] = %v, want %v", offset, i, got, want)
			}
		}
		clear(memory)
	}
}

func TestFMA(t *testing.T) {
	for _, rounds := range []int{0, 1, 2, 1000} {
		eachVariant(t, func(t *testing.T, v *vectors) {
			acc, start := newAccumulators(), *newAccumulators()
			v.fma(acc, fmaFactor, fmaAddend, rounds)
			for i, want := range start {
				if i < v.lanes {
					for range rounds {
						want = math.FMA(want, fmaFactor, fmaAddend)
					}
				}
				// Plain Go may round the product.
				if off := math.Abs(acc[i] - want); off > 1e-12 || off > 0 && v != &portable {
					t.Fatalf("%d rounds: got lane %d = %v, want %v", rounds, i, acc[i], want)
				}
			}
		})
	}
}

func TestVectors(t *testing.T) {
	got := Vectors()
	t.Logf("this CPU runs %s", got)
	for _, v := range byWidth {
		if v.name == got {
			return
		}
	}
	t.Errorf("got %q, which is none", got)
}

func TestCycles(t *testing.T) {
	for _, n := range []uint64{0, 1, 15, 16, 17, 1<<20 - 1, 1 << 20, 3<<20 + 5} {
		Cycles(n) // that it ends is all there is to see
	}
}
