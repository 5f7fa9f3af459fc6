package cpuid

import (
	"maps"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

func TestTopology(t *testing.T) {
	want := map[string]string{
		"two packages": `package 0: 0-2,6-8
package 1: 3-5,9-11
cores: 0,6 1,7 2,8 3,9 4,10 5,11
L1 data 32 KiB, 8 ways of 64: 0,6 1,7 2,8 3,9 4,10 5,11
L1 instruction 32 KiB, 8 ways of 64: 0,6 1,7 2,8 3,9 4,10 5,11
L2 unified 256 KiB, 8 ways of 64: 0,6 1,7 2,8 3,9 4,10 5,11
L3 unified 6144 KiB, 12 ways of 64: 0-2,6-8 3-5,9-11
`,
		"hyper-threads": `package 0: 0-1
package 1: 2-3
cores: 0-1 2-3
L1 data 8 KiB, 4 ways of 64: 0-1 2-3
L2 unified 512 KiB, 8 ways of 64: 0-1 2-3
`,
		"six threads": `package 0: 0-11
cores: 0-1 2-3 4-5 6-7 8-9 10-11
L1 data 32 KiB, 8 ways of 64: 0-1 2-3 4-5 6-7 8-9 10-11
L1 instruction 32 KiB, 8 ways of 64: 0-1 2-3 4-5 6-7 8-9 10-11
L2 unified 512 KiB, 8 ways of 64: 0-1 2-3 4-5 6-7 8-9 10-11
L3 unified 16384 KiB, 16 ways of 64: 0-5 6-11
`,
		"two nodes": `package 2: 0-11
cluster 16: 0-1
cluster 17: 2-3
cluster 18: 4-5
cluster 19: 6-7
cluster 20: 8-9
cluster 21: 10-11
cores: 0 1 2 3 4 5 6 7 8 9 10 11
L1 data 16 KiB, 4 ways of 64: 0 1 2 3 4 5 6 7 8 9 10 11
L1 instruction 64 KiB, 2 ways of 64: 0-1 2-3 4-5 6-7 8-9 10-11
L2 unified 2048 KiB, 16 ways of 64: 0-1 2-3 4-5 6-7 8-9 10-11
L3 unified 6144 KiB, 48 ways of 64: 0-5 6-11
`,
		"old nodes": `package 0: 0-3
cores: 0 1 2 3
L1 data 64 KiB, 2 ways of 64: 0 1 2 3
L1 instruction 64 KiB, 0 ways of 64: 0 1 2 3
L2 unified 512 KiB, 16 ways of 64: 0 1 2 3
L3 unified 5120 KiB, 48 ways of 64: 0-1 2-3
`,
		"old dual": `package 0: 0-1
package 1: 2-3
cores: 0 1 2 3
L1 data 64 KiB, 2 ways of 64: 0 1 2 3
L2 unified 1024 KiB, 16 ways of 64: 0 1 2 3
`,
		"emulated": `package 0: 0-1
package 1: 2-3
cores: 0 1 2 3
L1 data 64 KiB, 2 ways of 64: 0 1 2 3
L2 unified 1024 KiB, 16 ways of 64: 0 1 2 3
`,
		"hybrid": `package 0: 0-5
cluster 0: 3-4
cores: 0-1 2 3 4 5
L1 data 48 KiB, 12 ways of 64: 0-1 2
L1 data 32 KiB, 8 ways of 64: 3 4 5
L1 instruction 32 KiB, 8 ways of 64: 0-1 2 3 4 5
L2 unified 2048 KiB, 16 ways of 64: 0-1 2
L2 unified 4096 KiB, 16 ways of 64: 3-4 5
L3 unified 12288 KiB, 12 ways of 64: 0-4
performance: 0-2
efficiency: 3-4
low-power: 5
`,
		"dies": `package 0: 0-3
die 0 of 0: 0-1
die 1 of 0: 2-3
cores: 0 1 2 3
L1 data 48 KiB, 12 ways of 64: 0 1 2 3
`,
		"complexes": `package 0: 0-3
die 0 of 0: 0-1
die 1 of 0: 2-3
cores: 0 1 2 3
L1 data 48 KiB, 12 ways of 64: 0 1 2 3
L3 unified 16384 KiB, 16 ways of 64: 0-1
L3 unified 8192 KiB, 16 ways of 64: 2-3
performance: 0-1
efficiency: 2-3
`,
	}
	for name, b := range boards() {
		t.Run(name, func(t *testing.T) {
			d, _ := b.read(Everything)
			topo, found := d.Topology()
			if got := draw(topo); got != want[name] {
				t.Errorf("got\n%swant\n%s", got, want[name])
			}
			if len(found) > 0 {
				t.Errorf("findings: %v", found)
			}
			sound(t, d, topo)
		})
	}
}

// A core's id is unique only within its package; its index always.
func TestCoreIDs(t *testing.T) {
	d, _ := twoPackages().read(Everything)
	topo, _ := d.Topology()
	for i, want := range []int{0, 1, 4, 0, 1, 4} {
		if c := topo.Cores[i]; c.ID == nil || *c.ID != want || int(c.Index) != i || *c.Package != i/3 {
			t.Errorf("core %d: %+v", i, c)
		}
	}
	if topo.SMT == nil || !topo.SMT.Active || topo.SMT.Threads != 2 {
		t.Errorf("SMT: %+v", topo.SMT)
	}
}

func TestSameAPICID(t *testing.T) {
	b := twoPackages()
	b[7] = maps.Clone(b[1]) // as when a vCPU moves between two reads
	d, _ := b.read(Everything)
	topo, found := d.Topology()
	if codes(found) != "contradiction" {
		t.Errorf("findings: %v", found)
	}
	if got := draw(topo); got != "cores: \n" {
		t.Errorf("objects were built of contradictory ids:\n%s", got)
	}
	sound(t, d, topo)

	// Where leaf 1 tells the CPUs apart, its ids serve.
	b.each(leafVersion, 0, func(c uint32) Regs { return Regs{0x000306f2, c << 24, 0, 0} })
	d, _ = b.read(Everything)
	topo, found = d.Topology()
	if codes(found) != "contradiction" || len(topo.Cores) != 6 {
		t.Errorf("findings %v, %d cores", found, len(topo.Cores))
	}
}

func TestPartial(t *testing.T) {
	full, _ := twoPackages().read(Everything)
	without := func(leaves ...uint32) *Dump {
		d := &Dump{}
		for c := range full.CPUs().All() {
			var keep []Entry
			for _, e := range full.Entries(c) {
				drop := false
				for _, l := range leaves {
					drop = drop || e.Leaf == l
				}
				if !drop {
					keep = append(keep, e)
				}
			}
			d.add(c, keep)
		}
		return d
	}
	oneEmpty := without()
	oneEmpty.cpus[3].entries = nil
	cut := without()
	for i := range cut.cpus { // a tool that keeps one sub-leaf of each leaf
		var keep []Entry
		for _, e := range cut.cpus[i].entries {
			if e.Sub == 0 && e.Leaf != leafDescriptors {
				keep = append(keep, e)
			}
		}
		cut.cpus[i].entries = tidy(append(keep, Entry{Leaf: leafDescriptors, Regs: Regs{EAX: 0x00004501}}))
	}
	for _, c := range []struct {
		name    string
		d       *Dump
		codes   string
		cores   int
		placed  string
		nCaches int
	}{
		{"no caches", without(leafCaches), "missing", 6, "0-11", 0},
		{"no APIC ids", without(leafVersion, leafTopology), "missing", 0, "", 0},
		{"one CPU unread", oneEmpty, "missing", 6, "0-2,4-11", 20},
		{"nothing at all", &Dump{}, "", 0, "", 0},
		{"first sub-leaves only", cut, "missing", 6, "0-11", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			topo, found := c.d.Topology()
			if codes(found) != c.codes {
				t.Errorf("findings: %v", found)
			}
			var placed []cpuset.Set
			for _, p := range topo.Packages {
				placed = append(placed, p.CPUs)
			}
			if len(topo.Cores) != c.cores || cpuset.UnionAll(placed...).String() != c.placed || len(topo.Caches) != c.nCaches {
				t.Errorf("%d cores, packages of %s, %d caches:\n%s", len(topo.Cores), cpuset.UnionAll(placed...), len(topo.Caches), draw(topo))
			}
			sound(t, c.d, topo)
		})
	}
}

func TestDisplayVersion(t *testing.T) {
	for _, c := range []struct {
		eax                     uint32
		vendor                  string
		family, model, stepping int
	}{
		{0x000906ea, intelVendor, 6, 158, 10},
		{0x00000f4a, intelVendor, 15, 4, 10},
		{0x00000b13, intelVendor, 11, 1, 3},
		{0x00a20f10, amdVendor, 25, 33, 0},
		{0x00000662, amdVendor, 6, 6, 2},
		{0x000106a0, amdVendor, 6, 10, 0}, // the extended model counts at 0xf only
		{0x00900f22, hygonVendor, 24, 2, 2},
		{0x000507b3, centaurVendor, 7, 91, 3},
		{0x000507b3, zhaoxinVendor, 7, 91, 3},
	} {
		id := ident{vendor: c.vendor}
		family, model, stepping := displayVersion(c.eax, id.amd(), id.centaur())
		if family != c.family || model != c.model || stepping != c.stepping {
			t.Errorf("%s %#x: family %d model %d stepping %d", c.vendor, c.eax, family, model, stepping)
		}
	}
}

func TestIdentity(t *testing.T) {
	b := twoPackages()
	text := []byte("  Fast \x00CPU")
	text = append(text, make([]byte, 48-len(text))...)
	for i := range uint32(3) {
		word := func(at uint32) uint32 {
			w := text[i*16+at:]
			return uint32(w[0]) | uint32(w[1])<<8 | uint32(w[2])<<16 | uint32(w[3])<<24
		}
		b.all(leafBrand+i, 0, Regs{word(0), word(4), word(8), word(12)})
	}
	d, _ := b.read(Needed)
	id := d.Identity()
	if id.Vendor != intelVendor || id.Brand != "Fast" || *id.Family != 6 || *id.Model != 63 || *id.Stepping != 2 {
		t.Errorf("%+v", id)
	}
	if id := (&Dump{}).Identity(); id.Vendor != "" || id.Family != nil {
		t.Errorf("an empty dump is %+v", id)
	}
}

func TestHypervisor(t *testing.T) {
	sign := func(name string) Regs {
		b := newBoard(1)
		b.vendor(name+"\x00\x00\x00", 0, 0, 0)
		r := b[0][[2]uint32{0, 0}]
		return Regs{EBX: r.EBX, ECX: r.EDX, EDX: r.ECX} // leaf 0 has another order
	}
	for _, c := range []struct {
		name string
		set  func(board)
		want Hypervisor
	}{
		{"bare metal", func(b board) {}, Hypervisor{Known: true}},
		{"KVM", func(b board) { b.all(leafHypervisor, 0, sign("KVMKVMKVM")) },
			Hypervisor{Known: true, Present: true, Vendor: "KVMKVMKVM"}},
		{"dedicated", func(b board) {
			b.all(leafHypervisor, 0, sign("KVMKVMKVM"))
			b.all(leafHypervisor+1, 0, Regs{EDX: 1})
		}, Hypervisor{Known: true, Present: true, Vendor: "KVMKVMKVM", Dedicated: true}},
		{"KVM behind Hyper-V", func(b board) {
			b.all(leafHypervisor, 0, sign("Microsoft Hv"))
			b.all(kvmBehindHyperV, 0, sign("KVMKVMKVM"))
			b.all(kvmBehindHyperV+1, 0, Regs{EDX: 1})
		}, Hypervisor{Known: true, Present: true, Vendor: "KVMKVMKVM", Dedicated: true}},
		{"Hyper-V", func(b board) { b.all(leafHypervisor, 0, sign("Microsoft Hv")) },
			Hypervisor{Known: true, Present: true, Vendor: "Microsoft Hv"}},
	} {
		b := twoPackages()
		if c.want.Present {
			b.all(leafVersion, 0, Regs{EAX: 0x000306f2, ECX: 1 << 31})
		}
		c.set(b)
		if d, _ := b.read(Needed); d.Hypervisor() != c.want {
			t.Errorf("%s: %+v", c.name, d.Hypervisor())
		}
	}
	if h := (&Dump{}).Hypervisor(); h.Known {
		t.Error("an empty dump knows of its hypervisor")
	}
}

func TestDescriptorsSorted(t *testing.T) {
	for i := 1; i < len(descriptors); i++ {
		if descriptors[i-1].code >= descriptors[i].code {
			t.Errorf("code %#x after %#x", descriptors[i].code, descriptors[i-1].code)
		}
	}
}

// 0x49 is an L3 on one model and an L2 on the others.
func TestDescriptor49(t *testing.T) {
	for version, level := range map[uint32]int{0x00000f68: 3, 0x000006fb: 2} {
		b := newBoard(1)
		b.vendor(intelVendor, 2, 0, version)
		b.all(leafDescriptors, 0, Regs{0x00004901, 0x80000041, 0, 0})
		d, _ := b.read(Needed)
		topo, _ := d.Topology()
		if len(topo.Caches) != 1 || topo.Caches[0].Level != level || topo.Caches[0].Type != topology.Unified {
			t.Errorf("version %#x: %+v", version, topo.Caches)
		}
	}
}
