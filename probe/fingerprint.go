package probe

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// fingerprint is a hash of the hardware that stays the same across reboots,
// SMT switches and CPUs taken offline, and holds nothing that tells one
// machine from another of the same make: architecture, vendor, family and
// model, the number of packages and present CPUs, the kinds of cores, and each
// sort of cache with what it is shared by. Counts that shrink with an offline
// CPU (cores, CPUs of a cache) are left out; who shares a cache is told by the
// object that has the same CPUs.
//
// What only CPUID can say is left out as well, so that a snapshot of a machine
// has the machine's fingerprint.
func (m *Machine) fingerprint() string {
	t := &m.Topology
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%s|%s|%s|%d packages", m.Host.Arch, m.CPU.Vendor, number(m.CPU.Family), number(m.CPU.Model), len(t.Packages))
	if t.Present != nil {
		fmt.Fprintf(&b, "|%d CPUs", t.Present.Len())
	} else {
		fmt.Fprintf(&b, "|%d CPUs", t.Online.Len()+t.Offline.Len())
	}
	for _, k := range t.CoreKinds {
		if k.Source != cpuidSource {
			fmt.Fprintf(&b, "|kind %s %s", k.Name, k.Model)
		}
	}
	var caches []string
	scope := t.Scopes()
	for _, c := range t.Caches {
		if c.Source == cpuidSource {
			continue
		}
		size := int64(0)
		if c.Size != nil {
			size = *c.Size
		}
		caches = append(caches, fmt.Sprintf("|L%d %s %d %s by %s", c.Level, c.Type, size, number(c.Ways), scope(c.CPUs)))
	}
	slices.Sort(caches)
	for _, c := range slices.Compact(caches) {
		b.WriteString(c)
	}
	h := fnv.New128a()
	h.Write([]byte(b.String()))
	return hex.EncodeToString(h.Sum(nil))
}

func number(n *int) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}
