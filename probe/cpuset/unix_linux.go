package cpuset

import (
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FromUnix converts the kernel's fixed mask of 1024 CPUs.
func FromUnix(m *unix.CPUSet) Set { return FromUnixDynamic(m[:]) }

// FromUnixDynamic converts a kernel mask of any length; CPUs at and above
// [Limit] are left out.
func FromUnixDynamic[Word ~uint64 | ~uint32 | ~uintptr](m []Word) Set {
	var spans []span
	width := int(unsafe.Sizeof(Word(0))) * 8
	for i, word := range m {
		for w := uint64(word); w != 0; w &= w - 1 {
			c := CPU(i*width + bits.TrailingZeros64(w))
			if c >= Limit {
				break
			}
			if n := len(spans); n > 0 && spans[n-1].hi == c-1 {
				spans[n-1].hi = c
			} else {
				spans = append(spans, span{c, c})
			}
		}
	}
	return Set{spans}
}

// Unix converts to a kernel mask that is just long enough for the set.
func (s Set) Unix() unix.CPUSetDynamic {
	m := unix.NewCPUSet(max(int(s.Last())+1, 1))
	for c := range s.All() {
		m.Set(int(c))
	}
	return m
}
