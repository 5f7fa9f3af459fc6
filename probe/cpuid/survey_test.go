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

// A vCPU that moves on its host while it is read answers as another CPU.
func TestMoved(t *testing.T) {
	b := hyperThreads()
	c, asked := collector{}, 0
	c.read(0, func(leaf, sub uint32) Regs {
		asked++
		return b[min(asked/4, 1)][[2]uint32{leaf, sub}]
	})
	if codes(c.findings()) != "vcpu-floats" {
		t.Errorf("findings: %v", c.findings())
	}
}

// The caches of which a leaf that is hidden would tell the sharers.
func TestUnstatedSharers(t *testing.T) {
	for name, b := range map[string]board{"six threads": sixThreads(), "two nodes": twoNodes()} {
		b.all(leafExtVersion, 0, Regs{})
		b.all(leafAMDL1, 0, Regs{ECX: 16<<24 | 4<<16 | 64, EDX: 64<<24 | 2<<16 | 64})
		b.all(leafAMDL2L3, 0, Regs{ECX: 2048<<16 | 8<<12 | 64, EDX: 24<<18 | 0xb<<12 | 64})
		d, _ := b.read(Everything)
		topo, found := d.Topology()
		if codes(found) != "missing" {
			t.Errorf("%s: %v", name, found)
		}
		for _, cache := range topo.Caches {
			if name == "six threads" && cache.Level == 3 || name == "two nodes" && (cache.Level == 2 || cache.Type == "instruction") {
				t.Errorf("%s: L%d %s for %s was invented", name, cache.Level, cache.Type, cache.CPUs)
			}
		}
	}
}
