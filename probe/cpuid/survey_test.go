package cpuid

import "testing"

// What frugal reading leaves out must not change what is decoded.
func TestNeededTellsAll(t *testing.T) {
	for name, b := range boards() {
		all, _ := b.read(Everything)
		some, asked := b.read(Needed)
		want, _ := all.Topology()
		got, found := some.Topology()
		if draw(got) != draw(want) {
			t.Errorf("%s: needed\n%severything\n%s", name, draw(got), draw(want))
		}
		if len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
		if asked[0] > 30 {
			t.Errorf("%s: %d questions to the first CPU", name, asked[0])
		}
	}
}

// On a homogeneous machine a further CPU is asked for its APIC id only.
func TestQuestions(t *testing.T) {
	for name, limit := range map[string]int{"two packages": 1, "hyper-threads": 1, "six threads": 3, "old dual": 1, "complexes": 3, "dies": 1} {
		_, asked := boards()[name].read(Needed)
		for c, n := range asked[1:] {
			if n > limit {
				t.Errorf("%s: %d questions to CPU %d", name, n, c+1)
			}
		}
	}
}
