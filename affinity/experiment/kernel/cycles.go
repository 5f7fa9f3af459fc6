//go:build linux

package kernel

// Cycles makes n additions that each wait for the one before. An addition takes
// one cycle of the CPU's clock: the time that this takes shows the clock. Where
// it is plain Go (neither amd64 nor arm64) the compiler may add to that.
func Cycles(n uint64) {
	const most = 1 << 20 // at once; Go cannot preempt assembly
	for ; n > most; n -= most {
		additions(most)
	}
	additions(n)
}
