//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// vectors is one way to do the loops that want wide registers. Those over
// memory get whole lines, dst and a at the start of one.
type vectors struct {
	name  string
	read  func(b []byte) uint64
	copy  func(dst, src []byte)
	triad func(a, b, c []float64, s float64)
	fma   func(acc *accumulators, factor, addend float64, rounds int)
	lanes int // accumulators that fma works on
}

var portable = vectors{"portable", readGo, copyGo, triadGo, fmaGo, fmaGoLanes}

// piece is how many bytes of an array assembly gets at once: Go cannot preempt
// it, and three arrays are to take less than a millisecond, on a slow machine too.
const piece = 512 << 10

// Vectors names the instructions that Read, Copy, Triad and the kernels float
// and memory-bandwidth use on this CPU: "avx512", "avx2" or "portable".
func Vectors() string { return best().name }

// Read loads all of b, and returns the exclusive or of its 64-bit little-endian
// words, the last one filled up with zeros: a value that wants each load.
//
// Memory that was never written is one page of zeros in the cache: write it
// before a measurement.
func Read(b []byte) uint64 { return best().readAll(b) }

// Copy copies from src to dst, which must not overlap, as many bytes as the
// shorter has. With vectors, it stores past the caches: a byte copied is two
// moved, one read and one written, where an ordinary store would read its
// line first.
//
// What is not a whole line of dst, at its start and end, is left to plain code.
func Copy(dst, src []byte) { best().copyAll(dst, src) }

// Triad sets a[i] = b[i] + s·c[i], as far as the shortest reaches; a must not
// overlap the others. With vectors, it stores past the caches: a point is 24
// bytes moved, two numbers read and one written. Ordinary stores, those of the
// portable code, read the line of a first, which makes 32; count 24 there too.
//
// Products are rounded before the addition, so that all code has the same
// results. What is not a whole line of a, at its start and end, is left to
// plain code; all is, if a does not start at a multiple of eight bytes.
func Triad(a, b, c []float64, s float64) { best().triadAll(a, b, c, s) }

func best() *vectors { return implementations()[0] }

func (v *vectors) readAll(b []byte) uint64 {
	var sum uint64
	for len(b) >= line {
		n := min(len(b), piece) &^ (line - 1)
		sum ^= v.read(b[:n])
		b = b[n:]
	}
	return sum ^ readGo(b)
}

func (v *vectors) copyAll(dst, src []byte) {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	head := min(toLine(unsafe.Pointer(unsafe.SliceData(dst))), n)
	copyGo(dst[:head], src)
	dst, src = dst[head:], src[head:]
	for len(dst) >= line {
		n := min(len(dst), piece) &^ (line - 1)
		v.copy(dst[:n], src[:n])
		dst, src = dst[n:], src[n:]
	}
	copyGo(dst, src)
}

func (v *vectors) triadAll(a, b, c []float64, s float64) {
	n := min(len(a), len(b), len(c))
	a, b, c = a[:n], b[:n], c[:n]
	bytes := toLine(unsafe.Pointer(unsafe.SliceData(a)))
	head := min(bytes/8, n)
	if bytes%8 != 0 {
		head = n
	}
	triadGo(a[:head], b, c, s)
	a, b, c = a[head:], b[head:], c[head:]
	for len(a) >= lineWords {
		n := min(len(a), piece/8) &^ (lineWords - 1)
		v.triad(a[:n], b[:n], c[:n], s)
		a, b, c = a[n:], b[n:], c[n:]
	}
	triadGo(a, b, c, s)
}

// toLine is the distance to the next start of a line, in bytes.
func toLine(p unsafe.Pointer) int { return int(-uintptr(p) % line) }

func readGo(b []byte) uint64 {
	var s, t, u, v uint64
	for ; len(b) >= line; b = b[line:] {
		w := (*[line]byte)(b)
		s ^= binary.LittleEndian.Uint64(w[0:]) ^ binary.LittleEndian.Uint64(w[8:])
		t ^= binary.LittleEndian.Uint64(w[16:]) ^ binary.LittleEndian.Uint64(w[24:])
		u ^= binary.LittleEndian.Uint64(w[32:]) ^ binary.LittleEndian.Uint64(w[40:])
		v ^= binary.LittleEndian.Uint64(w[48:]) ^ binary.LittleEndian.Uint64(w[56:])
	}
	for ; len(b) >= 8; b = b[8:] {
		s ^= binary.LittleEndian.Uint64(b)
	}
	var rest [8]byte
	copy(rest[:], b)
	return s ^ t ^ u ^ v ^ binary.LittleEndian.Uint64(rest[:])
}

func copyGo(dst, src []byte) { copy(dst, src) }

func triadGo(a, b, c []float64, s float64) {
	b, c = b[:len(a)], c[:len(a)]
	for i := range a {
		a[i] = b[i] + float64(s*c[i]) // the conversion forbids fusing
	}
}

// threeArrays splits memory for a triad, at starts of lines, and fills it: the
// arrays have the lines that a third has.
func threeArrays(b []byte) (x, y, z []float64, err error) {
	head := min(toLine(unsafe.Pointer(unsafe.SliceData(b))), len(b))
	n := (len(b) - head) / 3 &^ (line - 1)
	if n == 0 {
		return nil, nil, nil, fmt.Errorf("its memory has %d bytes: give four lines of %d at least", len(b), line)
	}
	array := func(i int) []float64 {
		start := (*float64)(unsafe.Pointer(&b[head+i*n]))
		a := unsafe.Slice(start, n/8)
		for j := range a {
			a[j] = float64(i)
		}
		return a
	}
	return array(0), array(1), array(2), nil
}
