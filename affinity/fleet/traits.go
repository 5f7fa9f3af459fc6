//go:build linux

package fleet

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/probe"
	"berth/probe/topology"
)

// traits is what is held of each node's machine: what makes its shape, and what
// nodes of one hardware should have in common. Nodes that are alike share one.
type traits struct {
	fingerprint string
	layout      string // a hash of which CPUs make which cores, groups and nodes
	allowed     string
	quota       float64 // CPUs; 0: none

	packages, cores, online, threads, nodes int
	isolated, offline                       string
	smt                                     string // on, off …; empty: unknown
	kernel, microcode, hypervisor           string
	container, devices, limits              string
}

// memories are a node's own: no two kernels leave the same number of bytes.
// Zero is unknown.
type memories struct {
	usable int64 // the machine's, or the limit if that is less
	host   int64
}

func traitsOf(m *probe.Machine) (traits, memories) {
	t := &m.Topology
	x := traits{
		fingerprint: m.Fingerprint, layout: layout(t), allowed: t.Allowed.String(),
		packages: len(t.Packages), cores: len(t.Cores), online: t.Online.Len(), nodes: len(t.NUMANodes),
		offline: t.Offline.String(), kernel: m.Host.Kernel, microcode: m.CPU.Microcode,
		hypervisor: m.Host.Hypervisor, container: m.Host.Container, devices: devices(m.Devices),
	}
	if q := m.Limits.QuotaCPUs; q != nil && *q < float64(t.Allowed.Len()) {
		x.quota = *q
	}
	if t.Isolated != nil {
		x.isolated = t.Isolated.String()
	}
	if s := t.SMT; s != nil {
		x.threads = s.Threads
		switch {
		case s.Active:
			x.smt = "on"
		case s.Control != "notsupported" && s.Control != "notimplemented":
			x.smt = "off"
		}
	}
	y := memories{}
	if b := m.Host.MemoryBytes; b != nil {
		y.host = *b
	} else {
		for _, n := range t.NUMANodes {
			if n.MemoryBytes != nil {
				y.host += *n.MemoryBytes
			}
		}
	}
	y.usable = y.host
	if b := m.Limits.MemoryBytes; b != nil && (y.host == 0 || *b < y.host) {
		y.usable = *b
		x.limits = gibibytes(*b)
	}
	return x, y
}

// layout is a hash of what a plan's CPU numbers rest on.
func layout(t *topology.Topology) string {
	h := fnv.New128a()
	for _, c := range t.Cores {
		fmt.Fprintf(h, "c%s %s;", c.CPUs, c.Kind)
	}
	for _, n := range t.NUMANodes {
		fmt.Fprintf(h, "n%d %s;", n.ID, n.CPUs)
	}
	for _, c := range t.LastLevel() {
		fmt.Fprintf(h, "l%s;", c.CPUs)
	}
	fmt.Fprintf(h, "o%s", t.Online)
	if t.Isolated != nil {
		fmt.Fprintf(h, "i%s", t.Isolated)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// devices counts them by kind: their names differ from node to node.
func devices(all []probe.Device) string {
	count := map[string]int{}
	var kinds []string
	for _, d := range all {
		if count[d.Kind]++; count[d.Kind] == 1 {
			kinds = append(kinds, d.Kind)
		}
	}
	slices.Sort(kinds)
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", count[kind], kind)
	}
	return strings.Join(kinds, ", ")
}

// alike is how much memory may differ, as a ratio, between nodes of one shape:
// less than one DIMM of 32.
const alike = 1.03

// differences are those of a node from what is usual for its hardware.
func differences(has, usual *traits, mem, usualMem memories) []Difference {
	var out []Difference
	add := func(code, has, usual, format string, args ...any) {
		if has == usual {
			return
		}
		if len(args) == 0 {
			format, args = format+" %s instead of %s", []any{orNone(has), orNone(usual)}
		}
		out = append(out, Difference{Code: code, Has: has, Usual: usual, Text: fmt.Sprintf(format, args...)})
	}
	if has.smt != usual.smt {
		add("smt", has.smt, usual.smt, "SMT %s: %d CPUs instead of %d", cmp.Or(has.smt, "unknown"), has.online, usual.online)
	} else if has.online != usual.online {
		add("cpus", strconv.Itoa(has.online), strconv.Itoa(usual.online), "%d CPUs online instead of %d (offline: %s)", has.online, usual.online, orNone(has.offline))
	}
	add("numa", strconv.Itoa(has.nodes), strconv.Itoa(usual.nodes), "%d NUMA nodes instead of %d", has.nodes, usual.nodes)
	add("isolated", has.isolated, usual.isolated, "isolated CPUs")
	if has.layout != usual.layout && len(out) == 0 {
		add("numbering", has.layout, usual.layout, "the CPUs are numbered or grouped in another way")
	}
	if has.online == usual.online {
		add("allowed", has.allowed, usual.allowed, "allowed CPUs")
	}
	add("quota", quotaText(has.quota), quotaText(usual.quota), "a quota of")
	if !alikeMemory(mem.host, usualMem.host) {
		add("memory", gibibytes(mem.host), gibibytes(usualMem.host), "memory of")
	}
	add("memory-limit", has.limits, usual.limits, "a memory limit of")
	add("devices", has.devices, usual.devices, "devices:")
	add("kernel", has.kernel, usual.kernel, "kernel %s, %s than the usual %s", orNone(has.kernel), age(has.kernel, usual.kernel), orNone(usual.kernel))
	add("microcode", has.microcode, usual.microcode, "microcode")
	add("hypervisor", has.hypervisor, usual.hypervisor, "hypervisor:")
	add("container", has.container, usual.container, "container:")
	return out
}

func orNone(s string) string { return cmp.Or(s, "none") }

func age(has, usual string) string {
	if Compare(has, usual) < 0 {
		return "older"
	}
	return "newer"
}

func quotaText(q float64) string {
	if q == 0 {
		return ""
	}
	return strconv.FormatFloat(q, 'g', 6, 64) + " CPUs"
}

func gibibytes(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return strconv.FormatFloat(math.Round(float64(bytes)/(1<<30)*10)/10, 'f', -1, 64) + " GiB"
}

func alikeMemory(a, b int64) bool {
	a, b = min(a, b), max(a, b)
	return a == b || a > 0 && float64(b) <= float64(a)*alike
}
