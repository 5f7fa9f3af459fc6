package cpuset_test

import (
	"math/rand/v2"
	"testing"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

func TestUnixFixed(t *testing.T) {
	var m unix.CPUSet
	m.Set(0)
	m.Set(1023)
	if got := cpuset.FromUnix(&m); got.String() != "0,1023" {
		t.Errorf("FromUnix: %q", got)
	}
}

// TestUnixAgrees asks the kernel's mask, in x/sys's own words, the same as a set.
func TestUnixAgrees(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		limit := 1 + r.IntN(300)
		a, model := random(r, limit)
		var fixed unix.CPUSet
		for c := range model {
			fixed.Set(int(c))
		}
		if got := cpuset.FromUnix(&fixed); !got.Equal(a) {
			t.Fatalf("FromUnix of %v is %q, not %q", fixed, got, a)
		}
		long := a.Unix()
		if n := long.Count(); n != a.Len() || n != fixed.Count() {
			t.Fatalf("%q has %d CPUs, its mask %d, x/sys's own %d", a, a.Len(), n, fixed.Count())
		}
		if got := cpuset.FromUnixDynamic(long); !got.Equal(a) {
			t.Fatalf("%q through its mask is %q", a, got)
		}
		for c := range limit {
			if long.IsSet(c) != fixed.IsSet(c) || fixed.IsSet(c) != a.Contains(cpuset.CPU(c)) {
				t.Fatalf("CPU %d of %q: %v in its mask, %v in x/sys's own", c, a, long.IsSet(c), fixed.IsSet(c))
			}
		}
	}
}

// FuzzUnix takes any words for a kernel's mask.
func FuzzUnix(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0x80, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		bytes = bytes[:min(len(bytes), 128)]
		var fixed unix.CPUSet
		words := unix.NewCPUSet(1024)
		for i, b := range bytes {
			for bit := range 8 {
				if b>>bit&1 != 0 {
					fixed.Set(i*8 + bit)
					words.Set(i*8 + bit)
				}
			}
		}
		s := cpuset.FromUnix(&fixed)
		if dynamic := cpuset.FromUnixDynamic(words); !dynamic.Equal(s) || s.Len() != fixed.Count() {
			t.Fatalf("%q by the fixed mask, %q by the other, and %d CPUs", s, dynamic, fixed.Count())
		}
		last := -1
		for c := range s.All() {
			if !fixed.IsSet(int(c)) || int(c) <= last {
				t.Fatalf("CPU %d of %q is not in the mask, or out of order", c, s)
			}
			last = int(c)
		}
		if again := cpuset.FromUnixDynamic(s.Unix()); !again.Equal(s) {
			t.Fatalf("%q through its mask is %q", s, again)
		}
	})
}
