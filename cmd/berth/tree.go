package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/topology"
)

// facet is one thing that an object of the tree is. Things with the very same
// CPUs are one object: "package 0 · node 0 · L3 32 MiB".
type facet struct {
	rank int    // the order of facets in an object, and of objects in each other
	name string // package, node, L3, performance core …
	size *int64 // of a cache
	id   *int   // shown where it means something to other tools
	core int    // the core's index, if it is one
}

const (
	drawerRank = iota
	bookRank
	packageRank
	nodeRank
	dieRank
	l5Rank      // L5, L4, L3
	clusterRank = l5Rank + 3
	l2Rank      = clusterRank + 1
	coreRank    = l2Rank + 1
	l1Rank      = coreRank + 1 // L1, L1d, L1i
)

// object is a set of CPUs that means something, and what it holds.
type object struct {
	cpus     cpuset.Set
	facets   []facet
	children []*object
	shape    int // equal for objects that look alike, all the way down
}

// tree is the machine as objects inside objects.
type tree struct {
	tops []*object
	// across holds the NUMA nodes that lie across other objects and so have no
	// place in the tree.
	across map[int]bool
}

func newTree(t *topology.Topology) *tree {
	type item struct {
		cpus  cpuset.Set
		facet facet
		size  int
	}
	var items []item
	add := func(cpus cpuset.Set, f facet) {
		if !cpus.IsEmpty() {
			items = append(items, item{cpus, f, cpus.Len()})
		}
	}
	for _, d := range t.Drawers {
		add(d.CPUs, facet{rank: drawerRank, name: "drawer", id: d.ID})
	}
	for _, b := range t.Books {
		add(b.CPUs, facet{rank: bookRank, name: "book", id: b.ID})
	}
	for _, p := range t.Packages {
		add(p.CPUs, facet{rank: packageRank, name: "package", id: p.ID})
	}
	if len(t.NUMANodes) > 1 {
		for _, n := range t.NUMANodes {
			add(n.CPUs, facet{rank: nodeRank, name: "node", id: &n.ID})
		}
	}
	for _, d := range t.Dies {
		add(d.CPUs, facet{rank: dieRank, name: "die", id: d.ID})
	}
	for _, c := range t.Clusters {
		add(c.CPUs, facet{rank: clusterRank, name: "cluster"})
	}
	for _, c := range t.Caches {
		f := facet{name: cacheName(c.Level, c.Type), size: c.Size}
		switch {
		case c.Level == 1:
			f.rank = l1Rank
		case c.Level == 2:
			f.rank = l2Rank
		default:
			f.rank = l5Rank + max(0, 5-c.Level)
		}
		add(c.CPUs, f)
	}
	for _, c := range t.Cores {
		name := "core"
		if c.Kind != "" {
			name = c.Kind + " core"
		}
		add(c.CPUs, facet{rank: coreRank, name: name, core: int(c.Index)})
	}
	out := &tree{across: map[int]bool{}}
	items = slices.DeleteFunc(items, func(it item) bool {
		if it.facet.rank <= packageRank || !splits(t.Packages, it.cpus) {
			return false
		}
		if it.facet.rank == nodeRank {
			out.across[*it.facet.id] = true
		}
		return true
	})
	slices.SortStableFunc(items, func(a, b item) int {
		if a.size != b.size {
			return b.size - a.size
		}
		return a.facet.rank - b.facet.rank
	})

	// Larger sets come first, so the last object seen on a CPU is the innermost
	// that can hold the next one there.
	all := t.Online
	inner := make([]*object, max(int(all.Last()), 0)+1)
	for _, it := range items {
		first := it.cpus.First()
		if int(first) >= len(inner) {
			continue
		}
		parent := inner[first]
		if parent != nil && parent.cpus.Equal(it.cpus) {
			parent.facets = append(parent.facets, it.facet)
			continue
		}
		if !fits(inner, it.cpus, parent) {
			if it.facet.rank == nodeRank {
				out.across[*it.facet.id] = true
			}
			continue
		}
		o := &object{cpus: it.cpus, facets: []facet{it.facet}}
		if parent == nil {
			out.tops = append(out.tops, o)
		} else {
			parent.children = append(parent.children, o)
		}
		for c := range it.cpus.All() {
			inner[c] = o
		}
	}
	out.tops = out.prune(out.tops)
	return out
}

// splits reports whether a set holds a part of one package and something else:
// there is no place for it in a tree of packages.
func splits(packages []topology.Package, cpus cpuset.Set) bool {
	for _, p := range packages {
		if cpus.Overlaps(p.CPUs) {
			if cpus.SubsetOf(p.CPUs) {
				return false
			}
			if !p.CPUs.SubsetOf(cpus) {
				return true
			}
		}
	}
	return false
}

// fits reports whether all the CPUs lie in one and the same object so far.
func fits(inner []*object, cpus cpuset.Set, parent *object) bool {
	for c := range cpus.All() {
		if int(c) >= len(inner) || inner[c] != parent {
			return false
		}
	}
	return true
}

// prune puts objects in the order of their CPUs and drops what says nothing: a
// die that is its whole package, a cluster that is a core or shares a cache.
func (t *tree) prune(objects []*object) []*object {
	out := objects[:0]
	for _, o := range objects {
		o.children = t.prune(o.children)
		if len(o.facets) > 1 {
			coreBeforeCaches(o.facets)
			has := func(rank int) bool {
				return slices.ContainsFunc(o.facets, func(f facet) bool { return f.rank == rank })
			}
			o.facets = slices.DeleteFunc(o.facets, func(f facet) bool {
				switch f.rank {
				case dieRank:
					return has(packageRank)
				case clusterRank:
					return true
				case drawerRank:
					return has(bookRank)
				case bookRank:
					return has(packageRank)
				}
				return false
			})
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b *object) int { return a.cpus.Compare(b.cpus) })
	return out
}

// coreBeforeCaches makes an object that is a core begin with that word.
func coreBeforeCaches(facets []facet) {
	i := slices.IndexFunc(facets, func(f facet) bool { return f.rank == coreRank })
	to := slices.IndexFunc(facets, func(f facet) bool { return f.rank >= l5Rank })
	if i > to {
		core := facets[i]
		copy(facets[to+1:i+1], facets[to:i])
		facets[to] = core
	}
}

// treeView prints objects line by line: what they are, their CPUs, and whose.
type treeView struct {
	screen
	machine       *probe.Machine
	full, logical bool
	// says replaces what is said of an object's CPUs; nil: whose they are.
	says   func(cpuset.Set) string
	order  []int32
	shapes map[string]int
	lines  []treeLine
}

type treeLine struct {
	depth int
	label string
	cpus  []string // one for each object that the line stands for
	mark  string
	yours int // CPUs of the line that are allowed
}

func (v *treeView) print(p *page, t *tree) {
	v.shapes = map[string]int{}
	if v.logical {
		v.order = logicalNumbers(&v.machine.Topology, int(v.machine.Topology.Online.Last())+1)
	}
	for _, o := range t.tops {
		v.shape(o)
	}
	if v.full {
		v.unfolded(0, t.tops)
	} else {
		v.folded(0, [][]*object{t.tops})
	}
	v.layOut(p)
}

// shape numbers objects so that those which look alike, with all they hold and
// whatever may be used of it, get one number.
func (v *treeView) shape(o *object) {
	var b strings.Builder
	for _, f := range o.facets {
		b.WriteString(f.name)
		if f.size != nil {
			b.WriteByte('=')
			b.WriteString(strconv.FormatInt(*f.size, 10))
		}
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%d %s", o.cpus.Len(), v.mark(o.cpus))
	for _, c := range o.children {
		v.shape(c)
		b.WriteByte(' ')
		b.WriteString(strconv.Itoa(c.shape))
	}
	key := b.String()
	n, ok := v.shapes[key]
	if !ok {
		n = len(v.shapes)
		v.shapes[key] = n
	}
	o.shape = n
}

// folded prints the members of one object, or of several that look alike, with
// a line for each shape.
func (v *treeView) folded(depth int, families [][]*object) {
	var shapes []int
	members := map[int][][]*object{} // by shape, family by family
	for _, family := range families {
		here := map[int][]*object{}
		for _, o := range family {
			if _, ok := members[o.shape]; !ok {
				members[o.shape] = nil
				shapes = append(shapes, o.shape)
			}
			here[o.shape] = append(here[o.shape], o)
		}
		for shape, objects := range here {
			members[shape] = append(members[shape], objects)
		}
	}
	for _, shape := range shapes {
		groups := members[shape]
		all := slices.Concat(groups...)
		v.add(depth, len(groups[0]), all)
		var next [][]*object
		for _, o := range all {
			if len(o.children) > 0 {
				next = append(next, o.children)
			}
		}
		if next != nil {
			v.folded(depth+1, next)
		}
	}
}

func (v *treeView) unfolded(depth int, objects []*object) {
	for _, o := range objects {
		v.add(depth, 1, []*object{o})
		v.unfolded(depth+1, o.children)
	}
}

// add makes the line for objects of one shape, of which each parent has n.
func (v *treeView) add(depth, n int, objects []*object) {
	line := treeLine{depth: depth, label: v.label(n, objects), mark: v.mark(objects[0].cpus)}
	sets := make([]cpuset.Set, len(objects))
	for i, o := range objects {
		sets[i] = o.cpus
		if v.logical {
			sets[i] = v.toLogical(o.cpus)
		}
		line.yours += o.cpus.Intersect(v.machine.Topology.Allowed).Len()
	}
	isCore := slices.ContainsFunc(objects[0].facets, func(f facet) bool { return f.rank == coreRank })
	if line.cpus = nil; isCore {
		line.cpus = bySibling(sets)
	}
	if line.cpus == nil {
		for _, s := range sets {
			line.cpus = append(line.cpus, cpuList(s))
		}
	}
	v.lines = append(v.lines, line)
}

func (v *treeView) toLogical(cpus cpuset.Set) cpuset.Set {
	var list []cpuset.CPU
	for c := range cpus.All() {
		if int(c) < len(v.order) && v.order[c] >= 0 {
			list = append(list, cpuset.CPU(v.order[c]))
		}
	}
	return cpuset.Of(list...)
}

func (v *treeView) label(n int, objects []*object) string {
	var parts []string
	facets := objects[0].facets
	for i := 0; i < len(facets); i++ {
		f := facets[i]
		part := f.name
		switch {
		case !v.full && f.name == "L1d" && f.size != nil && i+1 < len(facets) && facets[i+1].name == "L1i" && facets[i+1].size != nil:
			part = "L1 " + twoSizes(*f.size, *facets[i+1].size)
			i++
		case f.size != nil:
			part += " " + cacheSize(*f.size)
		case f.rank == coreRank && v.logical:
			var ids []int
			for _, o := range objects {
				ids = append(ids, o.facets[i].core)
			}
			part += " L#" + v.short(numbers(ids))
		case f.id != nil:
			var ids []int
			for _, o := range objects {
				if id := o.facets[i].id; id != nil {
					ids = append(ids, *id)
				}
			}
			part += " " + v.short(numbers(ids))
		}
		parts = append(parts, part)
	}
	label := strings.Join(parts, " · ")
	if n > 1 {
		return fmt.Sprintf("%d × %s", n, label)
	}
	return label
}

// twoSizes is what an L1 has for data and for instructions: "48+32 KiB".
func twoSizes(data, instructions int64) string {
	d, i := cacheSize(data), cacheSize(instructions)
	if dn, unit, ok := strings.Cut(d, " "); ok && strings.HasSuffix(i, " "+unit) {
		return dn + "+" + i
	}
	return d + "+" + i
}

// short leaves out the middle of a long list of object numbers.
func (v *treeView) short(list string) string {
	if v.full || len(list) <= 20 {
		return list
	}
	return spread(strings.Split(list, ","), ",", 20)
}

// bySibling writes the CPUs of cores as "0-31, siblings 64-95" where the first
// CPU of each core, the second and so on are ranges of their own; else nil.
func bySibling(cores []cpuset.Set) []string {
	if len(cores) < 2 || cores[0].IsEmpty() {
		return nil
	}
	width := cores[0].Len()
	threads := make([][]cpuset.CPU, width)
	for _, c := range cores {
		i := 0
		for cpu := range c.All() {
			if i >= width {
				return nil
			}
			threads[i] = append(threads[i], cpu)
			i++
		}
	}
	var parts []string
	for _, list := range threads {
		set := cpuset.Of(list...)
		text := cpuList(set)
		if width > 1 && strings.ContainsAny(text, ",:") {
			return nil
		}
		parts = append(parts, text)
	}
	if width == 1 {
		return parts
	}
	return []string{parts[0] + ", siblings " + strings.Join(parts[1:], ", ")}
}

// mark says what of the CPUs is the reader's, where that is not all, and what
// of them is isolated.
func (v *treeView) mark(cpus cpuset.Set) string {
	if v.says != nil {
		return v.says(cpus)
	}
	t := &v.machine.Topology
	n := cpus.Len()
	var marks []string
	if !t.Online.SubsetOf(t.Allowed) {
		switch k := cpus.Intersect(t.Allowed).Len(); k {
		case 0:
		case n:
			marks = append(marks, "yours")
		default:
			marks = append(marks, fmt.Sprintf("%d of %d yours", k, n))
		}
	}
	if t.Isolated != nil {
		switch k := cpus.Intersect(*t.Isolated).Len(); k {
		case 0:
		case n:
			marks = append(marks, "isolated")
		default:
			marks = append(marks, fmt.Sprintf("%d isolated", k))
		}
	}
	return strings.Join(marks, ", ")
}

// layOut prints the lines in columns: what, whose, which CPUs.
func (v *treeView) layOut(p *page) {
	labels, cells, marks := 0, 0, 0
	for _, l := range v.lines {
		labels = max(labels, 2*l.depth+runes(l.label))
		cells = max(cells, runes(strings.Join(l.cpus, " | ")))
		marks = max(marks, runes(l.mark))
	}
	if marks > 0 {
		marks += 2 // the gap before them
	}
	labels = min(labels, max(v.width*2/3-marks/2, v.width-cells-marks-2))
	room := max(v.width-labels-marks-2, 12)
	prefix := ""
	if v.logical {
		prefix = "L#"
	}
	restricted := !v.machine.Topology.Online.SubsetOf(v.machine.Topology.Allowed)
	for _, l := range v.lines {
		indent := strings.Repeat("  ", l.depth)
		label := wrap(l.label, " · ", labels-len(indent))
		for i := 1; i < len(label); i++ {
			label[i] = "    " + label[i]
		}
		last := len(label) - 1
		for _, part := range label[:last] {
			p.line(v.tint(l, restricted, indent+part))
		}
		for i, part := range v.cell(l.cpus, prefix, room) {
			start, mark := "", ""
			if i == 0 {
				start = indent + label[last]
				mark = l.mark
			}
			text := pad(start, labels)
			if marks > 0 {
				text += pad("  "+mark, marks)
			}
			p.line(v.tint(l, restricted, text+"  "+part))
		}
	}
}

// tint brings out what is the reader's, where that is not all.
func (v *treeView) tint(l treeLine, restricted bool, text string) string {
	switch {
	case restricted && l.yours == 0:
		return v.paint(dim, text)
	case restricted && strings.HasPrefix(l.mark, "yours"):
		return v.paint(green, text)
	}
	return text
}

// cell fits CPU lists into a width: those of folded objects lose their middle,
// the list of one object goes on in the next line, for three lines at most.
func (v *treeView) cell(lists []string, prefix string, room int) []string {
	room -= len(prefix)
	if !v.full && len(lists) > 1 {
		return []string{prefix + spread(lists, " | ", room)}
	}
	lines := wrap(strings.Join(lists, " | "), ",", room)
	if most := 3; !v.full && len(lines) > most {
		lines = lines[:most]
		lines[most-1] = strings.TrimSuffix(lines[most-1], ",") + " …"
	}
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], " ")
	}
	lines[0] = prefix + lines[0]
	return lines
}
