//go:build linux && !amd64 && !arm64

package kernel

func additions(n uint64) { sumOf(n, 1) }

// sumOf is a call, so that the sum is wanted.
//
//go:noinline
func sumOf(n, step uint64) (sum uint64) {
	for range n {
		sum += step
	}
	return sum
}
