// Package cpuset holds sets of Linux CPU numbers, the text forms the kernel
// and its tools write them in, and the algebra on them.
//
// A [Set] is a value: no method changes its receiver, and the zero value is
// the empty set. It is kept as ordered ranges, so a set costs what its text
// form costs and not what the highest number in it would.
package cpuset

import (
	"fmt"
	"iter"
	"slices"
	"sort"
)

// CPU is a Linux CPU number, as in /sys/devices/system/cpu/cpuN. It names one
// logical processor and is never a core's number.
type CPU int

// Limit is the number of CPUs berth knows: CPU numbers run from 0 to Limit-1.
const Limit = 65536

type span struct{ lo, hi CPU } // both inclusive

// Set is an immutable set of CPU numbers.
type Set struct{ spans []span } // ascending, disjoint, never adjacent

// Of returns the set of the given CPUs. Numbers outside [0, Limit) panic, as
// an index out of range would: text from outside belongs to [Parse].
func Of(cpus ...CPU) Set {
	spans := make([]span, len(cpus))
	for i, c := range cpus {
		check(c)
		spans[i] = span{c, c}
	}
	return normalise(spans)
}

// Range returns the set lo … hi, both included; hi < lo gives the empty set.
func Range(lo, hi CPU) Set {
	if hi < lo {
		return Set{}
	}
	check(lo)
	check(hi)
	return Set{[]span{{lo, hi}}}
}

func check(c CPU) {
	if c < 0 || c >= Limit {
		panic(fmt.Sprintf("cpuset: CPU %d is outside 0-%d", c, Limit-1))
	}
}

// normalise sorts and joins spans; it takes over the slice.
func normalise(spans []span) Set {
	if len(spans) == 0 {
		return Set{}
	}
	byLow := func(a, b span) int { return int(a.lo - b.lo) }
	if !slices.IsSortedFunc(spans, byLow) {
		slices.SortFunc(spans, byLow)
	}
	out := spans[:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if s.lo <= last.hi+1 {
			last.hi = max(last.hi, s.hi)
		} else {
			out = append(out, s)
		}
	}
	return Set{out}
}

// IsEmpty reports whether the set holds no CPU.
func (s Set) IsEmpty() bool { return len(s.spans) == 0 }

// Len is the number of CPUs in the set.
func (s Set) Len() int {
	n := 0
	for _, r := range s.spans {
		n += int(r.hi-r.lo) + 1
	}
	return n
}

// First is the lowest CPU of the set, or -1 if it is empty.
func (s Set) First() CPU {
	if s.IsEmpty() {
		return -1
	}
	return s.spans[0].lo
}

// Last is the highest CPU of the set, or -1 if it is empty.
func (s Set) Last() CPU {
	if s.IsEmpty() {
		return -1
	}
	return s.spans[len(s.spans)-1].hi
}

// All iterates over the CPUs in ascending order.
func (s Set) All() iter.Seq[CPU] {
	return func(yield func(CPU) bool) {
		for _, r := range s.spans {
			for c := r.lo; c <= r.hi; c++ {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// Contains reports whether c is in the set.
func (s Set) Contains(c CPU) bool {
	i := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].hi >= c })
	return i < len(s.spans) && s.spans[i].lo <= c
}

// Equal reports whether both sets hold the same CPUs.
func (s Set) Equal(t Set) bool { return slices.Equal(s.spans, t.spans) }

// SubsetOf reports whether every CPU of s is in t.
func (s Set) SubsetOf(t Set) bool {
	j := 0
	for _, r := range s.spans {
		for j < len(t.spans) && t.spans[j].hi < r.lo {
			j++
		}
		if j == len(t.spans) || t.spans[j].lo > r.lo || t.spans[j].hi < r.hi {
			return false
		}
	}
	return true
}

// Overlaps reports whether the sets share a CPU.
func (s Set) Overlaps(t Set) bool {
	for i, j := 0, 0; i < len(s.spans) && j < len(t.spans); {
		switch a, b := s.spans[i], t.spans[j]; {
		case a.hi < b.lo:
			i++
		case b.hi < a.lo:
			j++
		default:
			return true
		}
	}
	return false
}

// Union is the set of CPUs in s, in t or in both.
func (s Set) Union(t Set) Set {
	if s.IsEmpty() {
		return t
	}
	if t.IsEmpty() {
		return s
	}
	return normalise(slices.Concat(s.spans, t.spans))
}

// UnionAll is the union of all the given sets, in one pass.
func UnionAll(sets ...Set) Set {
	var spans []span
	for _, s := range sets {
		spans = append(spans, s.spans...)
	}
	return normalise(spans)
}

// Intersect is the set of CPUs in both s and t.
func (s Set) Intersect(t Set) Set {
	var out []span
	for i, j := 0, 0; i < len(s.spans) && j < len(t.spans); {
		a, b := s.spans[i], t.spans[j]
		if lo, hi := max(a.lo, b.lo), min(a.hi, b.hi); lo <= hi {
			out = append(out, span{lo, hi})
		}
		if a.hi < b.hi {
			i++
		} else {
			j++
		}
	}
	return Set{out}
}

// Minus is the set of CPUs in s but not in t.
func (s Set) Minus(t Set) Set {
	var out []span
	j := 0
	for _, r := range s.spans {
		for j < len(t.spans) && t.spans[j].hi < r.lo {
			j++
		}
		lo := r.lo
		for k := j; k < len(t.spans) && t.spans[k].lo <= r.hi; k++ {
			if t.spans[k].lo > lo {
				out = append(out, span{lo, t.spans[k].lo - 1})
			}
			lo = t.spans[k].hi + 1
		}
		if lo <= r.hi {
			out = append(out, span{lo, r.hi})
		}
	}
	return Set{out}
}

// Compare orders sets by their first CPU, then their size, then their text,
// so that sorting objects by it gives the machine's own order.
func (s Set) Compare(t Set) int {
	if d := s.First() - t.First(); d != 0 {
		return int(d)
	}
	if d := s.Len() - t.Len(); d != 0 {
		return d
	}
	return slices.CompareFunc(s.spans, t.spans, func(a, b span) int {
		if a.lo != b.lo {
			return int(a.lo - b.lo)
		}
		return int(a.hi - b.hi)
	})
}
