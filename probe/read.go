package probe

import (
	"fmt"
	"io"
	"math"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// Read reads a machine from a berth.inspect/v1 document, as `berth inspect -o
// json` prints it; errors call it name. Objects keep the order of the document,
// cores without an index are numbered by it, and the budget is computed anew.
func Read(r io.Reader, name string) (*Machine, error) {
	m := &Machine{}
	if err := ReadDocument(r, name, Schema, m); err != nil {
		return nil, err
	}
	if err := m.Check(name); err != nil {
		return nil, err
	}
	return m, nil
}

// Check is what [Read] does to a machine that was decoded as a part of another
// document: it refuses what contradicts itself, which errors say of name, and
// numbers cores and computes the budget anew.
func (m *Machine) Check(name string) error {
	t := &m.Topology
	switch {
	case t.Allowed.IsEmpty():
		return fmt.Errorf("%s: topology.allowed is empty: the process of this machine may use no CPU", name)
	case !t.Allowed.SubsetOf(t.Online):
		return fmt.Errorf("%s: topology.allowed holds %s, which topology.online does not", name, t.Allowed.Minus(t.Online))
	}
	var seen cpuset.Set
	for i := range t.Cores {
		c := &t.Cores[i]
		c.Index = topology.CoreIndex(i)
		switch {
		case c.CPUs.IsEmpty():
			return fmt.Errorf("%s: topology.cores[%d] has no CPU", name, i)
		case c.CPUs.Overlaps(seen):
			return fmt.Errorf("%s: topology.cores[%d] shares CPU %s with another core", name, i, c.CPUs.Intersect(seen))
		}
		seen = seen.Union(c.CPUs)
	}
	if rest := t.Allowed.Minus(seen); len(t.Cores) > 0 && !rest.IsEmpty() {
		return fmt.Errorf("%s: topology.cores say nothing of the allowed CPUs %s", name, rest)
	}
	for i, n := range t.NUMANodes {
		if n.MemoryBytes != nil && *n.MemoryBytes < 0 {
			return fmt.Errorf("%s: topology.numa_nodes[%d].memory_bytes is negative", name, i)
		}
	}
	l := &m.Limits
	if q := l.QuotaCPUs; q != nil && !(*q > 0) {
		return fmt.Errorf("%s: limits.quota_cpus is %g; it is above 0, or absent where there is none", name, *q)
	}
	if b := l.MemoryBytes; b != nil && *b < 0 {
		return fmt.Errorf("%s: limits.memory_bytes is negative", name)
	}
	l.EffectiveCPUs = float64(t.Allowed.Len())
	if l.QuotaCPUs != nil {
		l.EffectiveCPUs = math.Min(l.EffectiveCPUs, *l.QuotaCPUs)
	}
	return nil
}
