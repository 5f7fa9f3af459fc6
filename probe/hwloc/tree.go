package hwloc

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// node is an object in the tree that is written.
type node struct {
	typ      string
	cpus     cpuset.Set
	nodes    cpuset.Set // NUMA nodes in it, around it and at it
	rank     int        // among objects of one set, the least is outside
	attrs    []string   // name, value, name, value …
	infos    []string   // the same
	memory   []*node    // NUMA nodes
	children []*node
	devices  []*node
	parent   *node
}

// Ranks of objects with one set, from the outside in, as hwloc orders types.
const (
	rankPackage = iota + 1
	rankDie
	rankCache // and ten levels: two for each level of caches, the last level first
	rankCore  = rankCache + 10 + iota
	rankPU
	rankGroup
)

// tree makes the objects and nests them. left says which do not fit: those that
// share some CPUs with another and hold others besides.
func tree(m *Machine) (root *node, left []string) {
	t := &m.Topology
	root = &node{typ: "Machine", cpus: t.Online}
	objects := flat(t, !m.ArchGuessed)
	slices.SortStableFunc(objects, func(a, b *node) int {
		return cmp.Or(b.cpus.Len()-a.cpus.Len(), a.rank-b.rank, int(a.cpus.First()-b.cpus.First()))
	})
	in := make([]*node, int(t.Online.Last())+1) // of each CPU, the innermost object so far
	for c := range t.Online.All() {
		in[c] = root
	}
	for _, o := range objects {
		if o.cpus.IsEmpty() {
			continue
		}
		parent := in[o.cpus.First()]
		if (o.typ == "Group" || o.typ == "Die") && parent.cpus.Equal(o.cpus) {
			continue // hwloc merges such a group, and knows no die that is the whole package
		}
		fits := true
		for c := range o.cpus.All() {
			fits = fits && in[c] == parent
		}
		if !fits {
			left = append(left, fmt.Sprintf("%s %s", o.typ, o.cpus))
			continue
		}
		for c := range o.cpus.All() {
			in[c] = o
		}
		o.parent = parent
		parent.children = append(parent.children, o)
	}
	return root, left
}

// flat lists the objects that have CPUs, NUMA nodes apart. The CPUs of a compute
// unit are cores to hwloc where it knows the architecture to be x86: split says so.
func flat(t *topology.Topology, split bool) []*node {
	var out []*node
	add := func(typ string, rank int, id *int, cpus cpuset.Set, attrs ...string) *node {
		n := &node{typ: typ, rank: rank, cpus: cpus.Intersect(t.Online), attrs: attrs}
		if id != nil {
			n.attrs = append([]string{"os_index", strconv.Itoa(*id)}, attrs...)
		}
		out = append(out, n)
		return n
	}
	group := func(subtype string, kind, subkind int, of []topology.Group) {
		for _, g := range of {
			add("Group", rankGroup, g.ID, g.CPUs, "subtype", subtype, "kind", strconv.Itoa(kind), "subkind", strconv.Itoa(subkind))
		}
	}
	group("Drawer", kindBook, 1, t.Drawers)
	group("Book", kindBook, 0, t.Books)
	group("Cluster", kindCluster, 0, t.Clusters)
	for _, n := range t.NUMANodes {
		add("Group", rankGroup, nil, locality(&n), "kind", strconv.Itoa(kindMemory), "subkind", "0")
	}
	for _, p := range t.Packages {
		add("Package", rankPackage, p.ID, p.CPUs)
	}
	for _, d := range t.Dies {
		add("Die", rankDie, d.ID, d.CPUs)
	}
	for _, c := range t.Caches {
		typ, kind, rank := "L"+strconv.Itoa(c.Level)+"Cache", "0", rankCache+2*(5-c.Level)
		switch c.Type {
		case topology.Instruction:
			typ, kind, rank = "L"+strconv.Itoa(c.Level)+"iCache", "2", rank+1
		case topology.Data:
			kind = "1"
		}
		attrs := []string{"cache_size", "0"} // as hwloc writes what it does not know
		if c.Size != nil {
			attrs[1] = strconv.FormatInt(*c.Size, 10)
		}
		attrs = append(attrs, "depth", strconv.Itoa(c.Level), "cache_linesize", count(c.Line), "cache_associativity")
		ways, other := reckoned(&c)
		attrs = append(attrs, ways, "cache_type", kind)
		add(typ, rank, nil, c.CPUs, attrs...).infos = known(infoWays, other)
	}
	for _, c := range t.Cores {
		if unit := len(c.IDs) == c.CPUs.Len(); !unit || !split {
			core := add("Core", rankCore, c.ID, c.CPUs)
			if unit {
				core.infos = known(infoCores, strings.Trim(fmt.Sprint(c.IDs), "[]"))
			}
			continue
		}
		for i, cpu := range slices.Collect(c.CPUs.All()) {
			add("Core", rankCore, &c.IDs[i], cpuset.Of(cpu)).infos = known(infoCore, c.CPUs.String())
		}
	}
	for c := range t.Online.All() {
		number := int(c)
		add("PU", rankPU, &number, cpuset.Of(c))
	}
	return out
}

// reckoned is the associativity as hwloc has it, which reckons it from the size, the
// line and the sets; other is what the kernel says, if that is not the same. A
// cache of several slices has the sets of one of them, and so more ways in hwloc.
func reckoned(c *topology.Cache) (ways, other string) {
	said := count(c.Ways)
	if c.Ways != nil && *c.Ways == 0 {
		return "-1", "" // fully associative
	}
	if c.Size == nil || c.Line == nil || c.Sets == nil || c.Ways == nil || *c.Line <= 0 || *c.Sets <= 1 {
		return said, ""
	}
	n := *c.Size / int64(*c.Line) / int64(*c.Sets)
	if n == 0 || n == int64(*c.Ways) {
		return said, ""
	}
	return strconv.FormatInt(n, 10), said
}

// count is a number, or 0 as hwloc writes one that is not known.
func count(n *int) string {
	if n == nil {
		return "0"
	}
	return strconv.Itoa(*n)
}

// attach hangs the NUMA nodes on their objects and fills the sets of nodes.
// hwloc wants one node at least: a machine of which none is known gets one with
// all CPUs, as hwloc gives it.
func attach(root *node, m *Machine) {
	nodes := m.Topology.NUMANodes
	if len(nodes) == 0 {
		nodes = []topology.NUMA{{ID: 0, CPUs: m.Topology.Online, MemoryBytes: m.MemoryBytes}}
	}
	outermost := map[string]*node{} // of each set
	walk(root, func(n *node) {
		if key := n.cpus.String(); outermost[key] == nil && n != root && n.typ != "PU" {
			outermost[key] = n
		}
	})
	// hwloc lists nodes without CPUs last.
	empty := func(n topology.NUMA) bool { return n.CPUs.IsEmpty() }
	for _, n := range append(slices.DeleteFunc(slices.Clone(nodes), empty), slices.DeleteFunc(slices.Clone(nodes), func(n topology.NUMA) bool { return !empty(n) })...) {
		cpus := locality(&n).Intersect(m.Topology.Online)
		memory := &node{typ: "NUMANode", cpus: cpus, nodes: cpuset.Of(cpuset.CPU(n.ID)), attrs: []string{"os_index", strconv.Itoa(n.ID)}}
		if n.MemoryBytes != nil {
			memory.attrs = append(memory.attrs, "local_memory", strconv.FormatInt(*n.MemoryBytes, 10))
		}
		if n.GPU != "" {
			memory.attrs = append(memory.attrs, "subtype", subtypeGPU)
			memory.infos = known(infoPCI, n.GPU)
		}
		at := outermost[cpus.String()]
		switch {
		case at != nil:
		case cpus.IsEmpty(): // a group of its own beside the others, as hwloc makes it
			at = &node{typ: "Group", parent: root, attrs: []string{"kind", strconv.Itoa(kindMemory), "subkind", "0"}}
			root.children = append(root.children, at)
		default:
			at = covering(root, cpus)
		}
		at.memory = append(at.memory, memory)
		for up := at; up != nil; up = up.parent {
			up.nodes = up.nodes.Union(memory.nodes)
		}
	}
	inherit(root, cpuset.Set{})
}

// locality are the CPUs of a node, or those nearest to it.
func locality(n *topology.NUMA) cpuset.Set {
	if n.CPUs.IsEmpty() && n.Near != nil {
		return *n.Near
	}
	return n.CPUs
}

// inherit adds to the nodes of each object those that hang around it.
func inherit(n *node, around cpuset.Set) {
	n.nodes = n.nodes.Union(around)
	for _, memory := range n.memory {
		around = around.Union(memory.nodes)
	}
	for _, child := range n.children {
		inherit(child, around)
	}
}

// covering is the innermost object, down to the cores, that holds the CPUs.
func covering(n *node, cpus cpuset.Set) *node {
	for {
		i := slices.IndexFunc(n.children, func(c *node) bool { return c.typ != "PU" && cpus.SubsetOf(c.cpus) && !cpus.IsEmpty() })
		if i < 0 {
			return n
		}
		n = n.children[i]
	}
}

func walk(n *node, visit func(*node)) {
	visit(n)
	for _, c := range n.children {
		walk(c, visit)
	}
}
