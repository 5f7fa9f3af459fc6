package hwloc

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/topology"
)

// Write writes a machine as XML of version 2.0, as lstopo would show it. What is
// not known is left out, but for the attributes of caches, where hwloc writes 0.
// It returns the objects that are left out: those that no tree can hold, as
// caches that reach over a part of two packages, and those that hwloc does not
// show, as the memory of GPUs on POWER.
func Write(to io.Writer, m *Machine) (left []string, err error) {
	all := &m.Topology
	m, left = look(m)
	root, odd := tree(m)
	left = append(left, odd...)
	attach(root, m)
	w := &writer{Writer: bufio.NewWriter(to), complete: all.Online.Union(all.Offline)}
	if all.NoFolder != nil {
		w.complete = w.complete.Minus(*all.NoFolder)
	}
	root.infos = append(machineInfos(m), cpuInfos(all, root.cpus, w.complete)...)
	walk(root, func(n *node) {
		if n.typ == "Package" {
			n.infos = packageInfos(&m.CPU)
		}
	})
	for _, d := range m.Devices {
		hang(root, d, &m.Topology)
	}
	w.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology version=\"2.0\">\n")
	root.attrs = append([]string{"os_index", "0"}, root.attrs...)
	w.object(root, 1, m)
	w.distances(all.NUMANodes, root.nodes)
	w.kinds(m.Topology.CoreKinds)
	w.WriteString("</topology>\n")
	return left, w.Flush()
}

type writer struct {
	*bufio.Writer
	complete cpuset.Set // the CPUs that hwloc knows of, shown or not
	objects  int        // so far; gp_index numbers them from 1
}

// cpuInfos keeps which CPUs are online and offline, where hwloc's sets do not.
func cpuInfos(all *topology.Topology, shown, complete cpuset.Set) []string {
	online, offline := "", ""
	if !all.Online.Equal(shown) {
		online = all.Online.String()
	}
	if !all.Offline.Equal(complete.Minus(all.Online)) {
		offline = all.Offline.String()
	}
	return known(infoOnline, online, infoOffline, offline)
}

func machineInfos(m *Machine) []string {
	os := m.OS
	if os == "linux" {
		os = "Linux"
	}
	arch := infoArch
	if m.ArchGuessed {
		arch = infoGuess
	}
	return known("Backend", "berth", infoCgroup, m.Cgroup, infoOS, os, infoKernel, m.Kernel, infoHost, m.Hostname, arch, m.Arch)
}

func packageInfos(c *topology.Identity) []string {
	text := func(n *int) string {
		if n == nil {
			return ""
		}
		return strconv.Itoa(*n)
	}
	return known(infoVendor, c.Vendor, infoFamily, text(c.Family), infoModel, text(c.Model), infoBrand, c.Brand, infoStepping, text(c.Stepping))
}

// known is the pairs whose value is known.
func known(pairs ...string) []string {
	var out []string
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			out = append(out, pair...)
		}
	}
	return out
}

// hang puts a device at its place. It is written without the PCI device that
// hwloc has around it, whose numbers of vendor and model berth does not know.
func hang(root *node, d Device, t *topology.Topology) {
	kinds := map[string]string{"nvme": osBlock, "block": osBlock, "gpu": osGPU, "nic": osNetwork, "infiniband": osOpenFabrics, "accelerator": osCoprocessor}
	kind, ok := kinds[d.Kind]
	if !ok {
		return
	}
	at := root
	if cpus := d.LocalCPUs.Intersect(t.Online); !cpus.IsEmpty() {
		at = covering(root, cpus)
		for at.parent != nil && at.parent.parent != nil && at.parent.cpus.Equal(at.cpus) {
			at = at.parent
		}
	}
	if d.NUMANode != nil && at == root { // the node says more
		walk(root, func(n *node) {
			if slices.ContainsFunc(n.memory, func(m *node) bool { return int(m.nodes.First()) == *d.NUMANode }) {
				at = n
			}
		})
	}
	at.devices = append(at.devices, &node{
		typ: "OSDev", attrs: []string{"name", d.Name, "osdev_type", kind}, infos: known(infoPCI, d.PCI, infoKind, d.Kind),
	})
}

func (w *writer) object(n *node, depth int, m *Machine) {
	indent := strings.Repeat("  ", depth)
	w.objects++
	w.WriteString(indent + "<object")
	w.attr("type", n.typ)
	if len(n.attrs) > 0 && n.attrs[0] == "os_index" {
		w.attr(n.attrs[0], n.attrs[1])
		n.attrs = n.attrs[2:]
	}
	if n.typ != "OSDev" {
		cpus, nodes := place.Hwloc(n.cpus), place.Hwloc(n.nodes)
		w.attr("cpuset", cpus)
		if n.parent == nil && n.typ == "Machine" {
			w.attr("complete_cpuset", place.Hwloc(w.complete))
			w.attr("allowed_cpuset", place.Hwloc(m.Topology.Allowed))
		} else {
			w.attr("complete_cpuset", cpus)
		}
		w.attr("nodeset", nodes)
		w.attr("complete_nodeset", nodes)
		if n.typ == "Machine" {
			allowed := n.nodes
			if m.AllowedNodes != nil {
				allowed = allowed.Intersect(*m.AllowedNodes)
			}
			w.attr("allowed_nodeset", place.Hwloc(allowed))
		}
	}
	w.attr("gp_index", strconv.Itoa(w.objects))
	for pair := range slices.Chunk(n.attrs, 2) {
		w.attr(pair[0], pair[1])
	}
	inside := [...][]*node{n.memory, n.children, n.devices}
	if len(n.infos)+len(n.memory)+len(n.children)+len(n.devices) == 0 {
		w.WriteString("/>\n")
		return
	}
	w.WriteString(">\n")
	w.infos(n.infos, indent+"  ")
	// By the first CPU, what has none last.
	slices.SortStableFunc(n.children, func(a, b *node) int { return int(uint32(a.cpus.First())) - int(uint32(b.cpus.First())) })
	for _, list := range inside {
		for _, o := range list {
			w.object(o, depth+1, m)
		}
	}
	w.WriteString(indent + "</object>\n")
}

func (w *writer) infos(pairs []string, indent string) {
	for pair := range slices.Chunk(pairs, 2) {
		w.WriteString(indent + "<info")
		w.attr("name", pair[0])
		w.attr("value", pair[1])
		w.WriteString("/>\n")
	}
}

// escapes are those that hwloc's own parser knows.
var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\n", "&#10;", "\r", "&#13;", "\t", "&#9;")

func (w *writer) attr(name, value string) {
	value = strings.Map(func(r rune) rune { // XML 1.0, Char
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, strings.ToValidUTF8(value, "\ufffd"))
	w.WriteString(" " + name + `="`)
	escapes.WriteString(w, value)
	w.WriteString(`"`)
}

// distances writes the matrix of those nodes that are written, where each of
// several has its row. kind is hwloc's "from the operating system" (1) and "a
// latency" (4).
func (w *writer) distances(all []topology.NUMA, written cpuset.Set) {
	if slices.ContainsFunc(all, func(n topology.NUMA) bool { return len(n.Distances) != len(all) }) {
		return
	}
	has := func(n topology.NUMA) bool { return written.Contains(cpuset.CPU(n.ID)) }
	var nodes []topology.NUMA
	for _, n := range all {
		if !has(n) {
			continue
		}
		row := []int{}
		for i, distance := range n.Distances {
			if has(all[i]) {
				row = append(row, distance)
			}
		}
		n.Distances = row
		nodes = append(nodes, n)
	}
	if len(nodes) < 2 {
		return
	}
	fmt.Fprintf(w, "  <distances2 type=\"NUMANode\" nbobjs=\"%d\" kind=\"5\" name=\"NUMALatency\" indexing=\"os\">\n", len(nodes))
	var ids, values []int
	for _, n := range nodes {
		ids = append(ids, n.ID)
		values = append(values, n.Distances...)
	}
	w.numbers("indexes", ids)
	w.numbers("u64values", values)
	w.WriteString("  </distances2>\n")
}

// numbers writes ten to an element, as hwloc does, with the length of the text.
func (w *writer) numbers(name string, list []int) {
	for ten := range slices.Chunk(list, 10) {
		text := ""
		for _, n := range ten {
			text += strconv.Itoa(n) + " "
		}
		fmt.Fprintf(w, "    <%s length=\"%d\">%s</%s>\n", name, len(text), text, name)
	}
}

// kinds writes the kinds of cores, the slowest first. Their rank is given where
// berth knows it, which is where a name or a capacity says so.
func (w *writer) kinds(kinds []topology.Kind) {
	ranked := !slices.ContainsFunc(kinds, func(k topology.Kind) bool { return k.Capacity == nil && (k.Name == "" || k.Name == k.Model) })
	for i := range kinds {
		k := kinds[len(kinds)-1-i]
		w.WriteString("  <cpukind")
		w.attr("cpuset", place.Hwloc(k.CPUs))
		if ranked {
			w.attr("forced_efficiency", strconv.Itoa(i))
		}
		w.WriteString(">\n")
		capacity, mhz := "", ""
		if k.Capacity != nil {
			capacity = strconv.Itoa(*k.Capacity)
		}
		if k.MaxKHz != nil {
			mhz = strconv.FormatInt(*k.MaxKHz/1000, 10)
		}
		w.infos(known(infoCoreType, coreType(k), infoMaxMHz, mhz, infoCapacity, capacity,
			infoKind, k.Name, infoDesign, k.Model, infoSource, k.Source), "    ")
		w.WriteString("  </cpukind>\n")
	}
}

// coreType is hwloc's word for a kind of the hybrid parts of Intel, which the
// kernel lists as devices that count events.
func coreType(k topology.Kind) string {
	switch {
	case strings.HasPrefix(k.Source, "/sys/devices/cpu_core"):
		return "IntelCore"
	case strings.HasPrefix(k.Source, "/sys/devices/cpu_atom"), strings.HasPrefix(k.Source, "/sys/devices/cpu_lowpower"):
		return "IntelAtom"
	}
	return ""
}
