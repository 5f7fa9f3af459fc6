package place

import (
	"fmt"
	"strings"

	"berth/probe/cpuset"
)

// Hwloc writes a set as hwloc's tools do, "0x00000001,,0x0000ffff": words of 32
// bits, the highest first, of which those that are zero stay empty but for the
// last (hwloc_bitmap_snprintf(3)).
func Hwloc(set cpuset.Set) string {
	words := make([]uint32, max(0, int(set.Last()))/32+1)
	for c := range set.All() {
		words[c/32] |= 1 << (c % 32)
	}
	var b strings.Builder
	for i := len(words) - 1; i >= 0; i-- {
		switch {
		case words[i] != 0:
			fmt.Fprintf(&b, "0x%08x", words[i])
		case i == 0:
			b.WriteString("0x0")
		}
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}

// OMP writes places as a value of OMP_PLACES: "{0:2},{4}".
func (p Places) OMP() string {
	var b strings.Builder
	for i, set := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		first, last := cpuset.CPU(-1), cpuset.CPU(-1)
		flush := func() {
			if first >= 0 {
				if b.String()[b.Len()-1] != '{' {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, "%d", first)
				if n := last - first + 1; n > 1 {
					fmt.Fprintf(&b, ":%d", n)
				}
			}
		}
		for c := range set.All() {
			if first < 0 || c != last+1 {
				flush()
				first = c
			}
			last = c
		}
		flush()
		b.WriteByte('}')
	}
	return b.String()
}
