//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"math/bits"
	"unsafe"
)

const (
	line      = 64 // bytes, of a cache line
	lineWords = line / 8
)

// The order of the lines is a linear congruential generator modulo their
// number, a power of two. By Hull and Dobell (1962) it visits each once when
// the increment is odd and the multiplier 1 modulo 4. Both are Knuth's for
// MMIX.
const (
	chaseMultiplier = 6364136223846793005
	chaseIncrement  = 1442695040888963407
)

// FillChase writes a pointer into the first word of each line of 64 bytes, in
// the order of the lines. The pointers are one cycle through all of them
// without a stride that a prefetcher could follow. Lines are those of the
// largest power of two that fits; what is behind stays as it was, less than
// half. Let b start at a line of the cache.
//
// Workers that share b should start far apart along the cycle: the lines
// i·lines/2^m, for each i below 2^m, are lines/2^m steps or more from each other.
//
// With pages of 4 KiB nearly each access misses the TLB too: map b with huge
// pages to see the memory's latency alone.
func FillChase(b []byte) {
	lines := chaseLines(len(b))
	if lines == 0 {
		return
	}
	words := wordsOf(b)
	next := uint64(chaseIncrement)
	for i := range lines {
		words[i*lineWords] = next & (lines - 1) * lineWords
		next += chaseMultiplier
	}
}

// Chase makes n loads from b, which FillChase filled, each from where the last
// pointed to; the first is of the given line, modulo the lines. It returns the
// line that it reached, or 0 if b has no line.
func Chase(b []byte, line uint64, n int) uint64 {
	lines := chaseLines(len(b))
	if lines == 0 {
		return 0
	}
	words := wordsOf(b)
	// An index of words costs the load no instruction that it would wait for;
	// the check of its bounds runs aside.
	at := line & (lines - 1) * lineWords
	for ; n >= 4; n -= 4 {
		at = words[at]
		at = words[at]
		at = words[at]
		at = words[at]
	}
	for range n {
		at = words[at]
	}
	return at / lineWords
}

// chaseLines is the largest power of two of lines in so many bytes, or 0.
func chaseLines(bytes int) uint64 {
	if bytes < line {
		return 0
	}
	return 1 << (bits.Len(uint(bytes/line)) - 1)
}

// checkChase looks at some lines, those of the powers of two.
func checkChase(b []byte) error {
	lines := chaseLines(len(b))
	if lines < 2 {
		return fmt.Errorf("its memory has %d bytes: give two lines of %d at least", len(b), line)
	}
	words := wordsOf(b)
	for i := uint64(1); i < lines; i <<= 1 {
		if words[i*lineWords] != (i*chaseMultiplier+chaseIncrement)&(lines-1)*lineWords {
			return errors.New("its memory is not filled: give it to FillChase, whole")
		}
	}
	return nil
}

func wordsOf(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}
