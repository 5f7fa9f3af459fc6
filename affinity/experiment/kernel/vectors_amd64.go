//go:build linux

package kernel

import "golang.org/x/sys/cpu"

//go:noescape
func readAVX512(b []byte) uint64

//go:noescape
func readAVX2(b []byte) uint64

//go:noescape
func copyAVX512(dst, src []byte)

//go:noescape
func copyAVX2(dst, src []byte)

//go:noescape
func triadAVX512(a, b, c []float64, s float64)

//go:noescape
func triadAVX2(a, b, c []float64, s float64)

//go:noescape
func fmaAVX512(acc *accumulators, factor, addend float64, rounds int)

//go:noescape
func fmaAVX2(acc *accumulators, factor, addend float64, rounds int)

var (
	avx512 = vectors{"avx512", readAVX512, copyAVX512, triadAVX512, fmaAVX512, 96}
	avx2   = vectors{"avx2", readAVX2, copyAVX2, triadAVX2, fmaAVX2, 48}

	byWidth = [...]*vectors{&avx512, &avx2, &portable}
)

// implementations are those that this CPU can run and its system keeps the
// registers of, widest first.
func implementations() []*vectors {
	switch {
	case !cpu.X86.HasAVX2 || !cpu.X86.HasFMA:
		return byWidth[2:]
	case !cpu.X86.HasAVX512F:
		return byWidth[1:]
	}
	return byWidth[:]
}
