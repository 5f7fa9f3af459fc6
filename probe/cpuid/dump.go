// Package cpuid reads a machine's topology, caches and identity out of the
// CPUID instruction alone: from the processor it runs on ([Live]), from a
// directory of per-CPU files ([ReadDir]) or from one InstLatX64 text file
// ([ParseText]).
//
// A [Dump] is what CPUID answered, CPU by CPU; [Dump.Topology] is what that
// means. The meaning follows the manuals: Intel SDM volume 2A, CPUID, table
// 3-8; AMD APM volume 3, appendix E. A machine can be partly readable: then
// the topology is partial and the findings name what is missing.
package cpuid

import (
	"cmp"
	"slices"
	"sort"

	"berth/probe/cpuset"
)

// Regs are the four registers that CPUID fills.
type Regs struct{ EAX, EBX, ECX, EDX uint32 }

// Entry is one answer: the question in EAX and ECX, and the registers.
type Entry struct {
	Leaf    uint32
	Sub     uint32
	Indexed bool // the answer depends on Sub
	Regs    Regs
}

func (e Entry) compare(f Entry) int {
	return cmp.Or(cmp.Compare(e.Leaf, f.Leaf), cmp.Compare(e.Sub, f.Sub))
}

// Dump is what CPUID answered on each CPU of a machine.
type Dump struct {
	cpus []answers // ascending by CPU
	// common holds what was read on one CPU on behalf of all; a CPU's own
	// answers go before it.
	common []Entry
}

type answers struct {
	cpu     cpuset.CPU
	entries []Entry // ascending by leaf and sub-leaf, no question twice
}

// add takes over the entries, in any order; of two answers to one question the
// first holds. A CPU that is there already keeps its own.
func (d *Dump) add(c cpuset.CPU, entries []Entry) {
	i, found := d.find(c)
	if found {
		return
	}
	d.cpus = slices.Insert(d.cpus, i, answers{c, tidy(entries)})
}

func tidy(entries []Entry) []Entry {
	slices.SortStableFunc(entries, Entry.compare)
	return slices.CompactFunc(entries, func(a, b Entry) bool { return a.compare(b) == 0 })
}

func (d *Dump) find(c cpuset.CPU) (int, bool) {
	return slices.BinarySearchFunc(d.cpus, c, func(a answers, c cpuset.CPU) int { return int(a.cpu - c) })
}

// CPUs is the set of CPUs that the dump has a place for.
func (d *Dump) CPUs() cpuset.Set {
	all := make([]cpuset.CPU, len(d.cpus))
	for i, a := range d.cpus {
		all[i] = a.cpu
	}
	return cpuset.Of(all...)
}

// Get returns what CPUID answered on a CPU. A leaf that does not depend on its
// sub-leaf answers to any.
func (d *Dump) Get(c cpuset.CPU, leaf, sub uint32) (Regs, bool) {
	if i, found := d.find(c); found {
		return d.get(d.cpus[i].entries, leaf, sub)
	}
	return Regs{}, false
}

func (d *Dump) get(own []Entry, leaf, sub uint32) (Regs, bool) {
	if r, ok := lookup(own, leaf, sub); ok {
		return r, true
	}
	return lookup(d.common, leaf, sub)
}

func lookup(entries []Entry, leaf, sub uint32) (Regs, bool) {
	i := sort.Search(len(entries), func(i int) bool {
		e := &entries[i]
		return e.Leaf > leaf || e.Leaf == leaf && e.Sub >= sub
	})
	if i < len(entries) && entries[i].Leaf == leaf && entries[i].Sub == sub {
		return entries[i].Regs, true
	}
	for ; i > 0 && entries[i-1].Leaf == leaf; i-- {
		if !entries[i-1].Indexed {
			return entries[i-1].Regs, true
		}
	}
	return Regs{}, false
}

// Entries lists a CPU's answers, ascending by leaf and sub-leaf, those read
// once for all CPUs included.
func (d *Dump) Entries(c cpuset.CPU) []Entry {
	i, found := d.find(c)
	if !found {
		return nil
	}
	return tidy(slices.Concat(d.cpus[i].entries, d.common))
}

// A processor is one CPU's side of a dump while it is decoded: a leaf that is
// missing reads as zero, as the instruction itself would give.
type processor struct {
	d *Dump
	a *answers
}

func (p processor) at(leaf, sub uint32) Regs {
	r, _ := p.d.get(p.a.entries, leaf, sub)
	return r
}

func (p processor) has(leaf, sub uint32) bool {
	_, ok := p.d.get(p.a.entries, leaf, sub)
	return ok
}

func (d *Dump) processors() []processor {
	all := make([]processor, len(d.cpus))
	for i := range d.cpus {
		all[i] = processor{d, &d.cpus[i]}
	}
	return all
}
