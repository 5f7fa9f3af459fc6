package hwloc

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// Read reads an hwloc XML file. What makes no machine is an [*Error] with the
// line; what is odd and can be left out is a finding. Entities that the file
// itself defines are not known, and nothing outside of it is read.
func Read(data []byte) (*Machine, []finding.Finding, error) {
	doc, err := parse(data)
	if err != nil {
		return nil, nil, err
	}
	r := &reader{document: doc, machine: &Machine{}, taken: map[string][]int32{}, units: map[string]int{}}
	if err := r.read(); err != nil {
		return nil, nil, err
	}
	r.machine.Topology.Arrange()
	return r.machine, r.found.Report(), nil
}

type reader struct {
	*document
	machine *Machine
	found   finding.List
	taken   map[string][]int32 // of each sort of object, the line of the one that has a CPU
	units   map[string]int     // the index of the core that is a compute unit, by its CPUs
	nodes   []*object          // in the order of NUMANodes as read
}

func (r *reader) read() error {
	if err := r.cpus(); err != nil {
		return err
	}
	for i := range r.objects {
		if err := r.place(&r.objects[i]); err != nil {
			return err
		}
	}
	r.host()
	r.apart()
	r.memory()
	r.allowedNodes()
	for _, d := range r.distances {
		if err := r.distance(d); err != nil {
			return err
		}
	}
	if err := r.kindsOf(); err != nil {
		return err
	}
	r.devices()
	return nil
}

// cpus finds which CPUs there are: those of the PU objects.
func (r *reader) cpus() error {
	t := &r.machine.Topology
	top := &r.objects[0]
	if top.typ != "Machine" && top.typ != "System" {
		return &Error{top.line, fmt.Sprintf("the outermost object is a %s, where a Machine stands", short(top.typ))}
	}
	var numbers []cpuset.CPU
	for i := range r.objects {
		o := &r.objects[i]
		if o.typ != "PU" {
			continue
		}
		if o.id == nil || *o.id >= cpuset.Limit {
			return &Error{o.line, fmt.Sprintf("a PU without an os_index from 0 to %d", cpuset.Limit-1)}
		}
		c := cpuset.CPU(*o.id)
		if o.cpus != nil && !o.cpus.Equal(cpuset.Of(c)) {
			return &Error{o.line, fmt.Sprintf("PU %d has the cpuset %s", c, short(o.cpus.String()))}
		}
		numbers = append(numbers, c)
	}
	if t.Online = cpuset.Of(numbers...); t.Online.IsEmpty() {
		return &Error{top.line, "the topology holds no PU"}
	}
	if t.Online.Len() != len(numbers) {
		return &Error{top.line, "two PUs have one os_index"}
	}
	shown := t.Online
	if top.cpus != nil && !top.cpus.Equal(t.Online) {
		r.found.Add(finding.Contradiction, finding.Warning,
			[]string{"cpuset of the Machine: " + top.cpus.String(), "PUs: " + t.Online.String()},
			"The machine's set of CPUs is not that of its PUs; the PUs are believed.")
	}
	t.Allowed = t.Online
	if top.allowed != nil {
		t.Allowed = t.Online.Intersect(*top.allowed)
	}
	online, err := cpuInfo(top, infoOnline)
	if err != nil {
		return err
	}
	if hidden := online.Minus(shown); !hidden.IsEmpty() { // no PU, and where all are allowed so are they
		if t.Allowed.Equal(t.Online) {
			t.Allowed = t.Allowed.Union(hidden)
		}
		t.NoTopology, t.Online = &hidden, t.Online.Union(hidden)
	}
	if top.complete != nil {
		t.Offline = top.complete.Minus(t.Online)
	}
	offline, err := cpuInfo(top, infoOffline)
	if err != nil {
		return err
	}
	t.Offline = t.Offline.Union(offline.Minus(t.Online))
	if top.complete != nil {
		if gone := online.Union(offline).Minus(*top.complete).Minus(shown); !gone.IsEmpty() {
			t.NoFolder = &gone
		}
	}
	if !t.Offline.IsEmpty() && t.Allowed.Equal(t.Online) {
		r.found.Add("hwloc-left-out", finding.Info, []string{"complete_cpuset without cpuset: " + t.Offline.String()},
			"The file names CPUs that it does not describe: offline ones, or ones not allowed that lstopo leaves out without --disallowed; berth takes them to be offline.")
	}
	return nil
}

// cpuInfo is a set of CPUs that berth wrote as an info of the machine.
func cpuInfo(top *object, name string) (cpuset.Set, error) {
	set, err := cpuset.Parse(top.infos[name])
	if err != nil {
		return set, &Error{top.line, fmt.Sprintf("info %s: %v", name, err)}
	}
	return set, nil
}

// place puts an object among its like.
func (r *reader) place(o *object) error {
	t := &r.machine.Topology
	switch o.typ {
	case "Package", "Socket":
		cpus, err := r.own(o, "package")
		if !cpus.IsEmpty() {
			t.Packages = append(t.Packages, topology.Package{ID: o.id, CPUs: cpus})
		}
		return err
	case "Die":
		cpus, err := r.own(o, "die")
		if !cpus.IsEmpty() {
			t.Dies = append(t.Dies, topology.Die{ID: o.id, CPUs: cpus})
		}
		return err
	case "Core":
		cpus, err := r.own(o, "core")
		if err == nil && cpus.Len() == 1 && r.sibling(o, cpus) {
			return nil
		}
		if !cpus.IsEmpty() {
			t.Cores = append(t.Cores, topology.Core{ID: o.id, CPUs: cpus, IDs: unit(o.infos[infoCores], cpus)})
		}
		return err
	case "Group":
		return r.group(o)
	case "NUMANode":
		return r.node(o)
	}
	if strings.HasSuffix(o.typ, "Cache") && o.typ != "MemCache" { // L1Cache, L1iCache; Cache in version 1
		return r.cache(o)
	}
	return nil
}

// unit reads the kernel's number of each CPU of a compute unit; nil where there is
// not one for each.
func unit(text string, cpus cpuset.Set) []int {
	var ids []int
	for field := range strings.FieldsSeq(text) {
		id, err := strconv.Atoi(field)
		if err != nil || id < 0 {
			return nil
		}
		ids = append(ids, id)
	}
	if len(ids) != cpus.Len() {
		return nil
	}
	return ids
}

// sibling joins a core of one CPU to the unit that it is a part of, if berth wrote
// so and the CPUs before it in the unit are there already.
func (r *reader) sibling(o *object, cpus cpuset.Set) bool {
	unit, err := cpuset.Parse(o.infos[infoCore])
	if err != nil || o.id == nil || unit.Len() < 2 || !cpus.SubsetOf(unit) {
		return false
	}
	cores := r.machine.Topology.Cores
	if cpus.First() == unit.First() {
		r.units[unit.String()] = len(cores)
		r.machine.Topology.Cores = append(cores, topology.Core{ID: o.id, CPUs: cpus, IDs: []int{*o.id}})
		return true
	}
	i, ok := r.units[unit.String()]
	if !ok || !cores[i].CPUs.Equal(unit.Intersect(cpuset.Range(0, cpus.First()-1))) {
		return false
	}
	cores[i].CPUs, cores[i].IDs = cores[i].CPUs.Union(cpus), append(cores[i].IDs, *o.id)
	return true
}

// own is the object's CPUs that are online. No two objects of a sort have one
// CPU in common.
func (r *reader) own(o *object, sort string) (cpuset.Set, error) {
	t := &r.machine.Topology
	if o.cpus == nil {
		return cpuset.Set{}, &Error{o.line, o.typ + " without a cpuset"}
	}
	cpus := o.cpus.Intersect(t.Online)
	if !cpus.Equal(*o.cpus) {
		r.found.Add(finding.Malformed, finding.Warning,
			[]string{fmt.Sprintf("line %d: %s %s", o.line, short(o.typ), short(o.cpus.Minus(t.Online).String()))},
			"Objects hold CPUs that are no PU; those are left out.")
	}
	taken := r.taken[sort]
	if taken == nil {
		taken = make([]int32, int(t.Online.Last())+1)
		r.taken[sort] = taken
	}
	for c := range cpus.All() {
		if taken[c] != 0 {
			return cpuset.Set{}, &Error{o.line, fmt.Sprintf("CPU %d is already in the %s of line %d", c, sort, taken[c])}
		}
		taken[c] = int32(o.line)
	}
	return cpus, nil
}

// group takes the groups that the kernel names; the others hwloc made up to
// hold memory or what is near by its distances.
func (r *reader) group(o *object) error {
	t := &r.machine.Topology
	list, sort := (*[]topology.Group)(nil), ""
	switch {
	case o.subtype == "Drawer", o.kind == kindBook && o.subkind == 1:
		list, sort = &t.Drawers, "drawer"
	case o.subtype == "Book", o.kind == kindBook:
		list, sort = &t.Books, "book"
	case o.subtype == "Cluster", o.kind == kindCluster, o.kind == kindModule:
		list, sort = &t.Clusters, "cluster"
	default:
		return nil
	}
	cpus, err := r.own(o, sort)
	if err == nil && !cpus.IsEmpty() {
		*list = append(*list, topology.Group{ID: o.id, CPUs: cpus})
	}
	return err
}

func (r *reader) cache(o *object) error {
	if o.depth < 1 || o.depth > 5 {
		return &Error{o.line, fmt.Sprintf("%s of depth %d, where caches have 1 to 5", short(o.typ), o.depth)}
	}
	if o.cache == "" {
		return &Error{o.line, short(o.typ) + " without a cache_type"}
	}
	var sets *int
	if n, err := strconv.Atoi(o.infos[infoWays]); err == nil && n > 0 {
		if o.size != nil && o.cacheLine != nil && o.ways != nil && *o.ways > 0 {
			sets = new(int)
			*sets = int(*o.size / int64(*o.cacheLine) / int64(*o.ways))
		}
		o.ways = &n
	}
	cpus, err := r.own(o, fmt.Sprintf("L%d %s cache", o.depth, o.cache))
	if err == nil && !cpus.IsEmpty() {
		r.machine.Topology.Caches = append(r.machine.Topology.Caches, topology.Cache{
			Level: o.depth, Type: o.cache, Size: o.size, Line: o.cacheLine, Ways: o.ways, Sets: sets, CPUs: cpus, Source: "hwloc",
		})
	}
	return err
}

func (r *reader) node(o *object) error {
	t := &r.machine.Topology
	if o.id == nil {
		if len(r.nodes) == 0 && r.version == 1 {
			return nil // hwloc 1 on a machine that is not NUMA
		}
		return &Error{o.line, "a NUMANode without an os_index"}
	}
	if len(t.NUMANodes) == maxNodes {
		return &Error{o.line, fmt.Sprintf("more than %d NUMA nodes", maxNodes)}
	}
	for i, n := range t.NUMANodes {
		if n.ID == *o.id {
			return &Error{o.line, fmt.Sprintf("NUMA node %d is already in line %d", n.ID, r.nodes[i].line)}
		}
	}
	at := o
	for at.cpus == nil && at.parent >= 0 {
		at = &r.objects[at.parent]
	}
	node := topology.NUMA{ID: *o.id, MemoryBytes: o.memory}
	if o.subtype == subtypeGPU {
		node.GPU = o.infos[infoPCI]
	}
	if at.cpus != nil {
		node.CPUs = at.cpus.Intersect(t.Online)
	}
	t.NUMANodes = append(t.NUMANodes, node)
	r.nodes = append(r.nodes, o)
	return nil
}

// apart takes the CPUs away from nodes that have none of their own: to hwloc such
// a node has those nearest to it, which are other nodes'. The kernel gives each
// CPU to one node; hwloc lists that first, and what is near to several around them.
func (r *reader) apart() {
	nodes := r.machine.Topology.NUMANodes
	order := make([]int, len(nodes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return nodes[a].CPUs.Len() - nodes[b].CPUs.Len() })
	var taken cpuset.Set
	for _, i := range order {
		n := &nodes[i]
		if near := n.CPUs; !near.IsEmpty() && near.SubsetOf(taken) {
			n.Near, n.CPUs = &near, cpuset.Set{}
		}
		taken = taken.Union(n.CPUs)
	}
}

// allowedNodes takes the nodes that the process may use, if they are not all.
func (r *reader) allowedNodes() {
	allowed := r.objects[0].allowedNodes
	if allowed == nil || len(r.nodes) == 0 {
		return
	}
	for _, n := range r.nodes {
		if !allowed.Contains(cpuset.CPU(*n.id)) {
			r.machine.AllowedNodes = allowed
		}
	}
}

// memory adds the nodes up.
func (r *reader) memory() {
	var sum int64
	for _, n := range r.machine.Topology.NUMANodes {
		if n.MemoryBytes == nil || *n.MemoryBytes > 1<<62-sum {
			return
		}
		sum += *n.MemoryBytes
	}
	if len(r.machine.Topology.NUMANodes) > 0 {
		r.machine.MemoryBytes = &sum
	} else {
		r.machine.MemoryBytes = r.objects[0].memory // version 1
	}
}

// distance puts a matrix into the nodes. Distances are as the kernel gives them,
// 10 for the node itself; version 1 has them divided by a base of 10.
func (r *reader) distance(d *distances) error {
	t := &r.machine.Topology
	wrong := func(format string, args ...any) error {
		return &Error{d.line, "distances: " + fmt.Sprintf(format, args...)}
	}
	if r.version == 1 && d.text[0].Len() == 0 {
		return r.oldDistance(d)
	}
	if d.count != len(t.NUMANodes) {
		r.found.Add(finding.Malformed, finding.Warning, []string{fmt.Sprintf("line %d: of %d nodes", d.line, d.count)},
			"The distances are not those of all NUMA nodes and are left out.")
		return nil
	}
	indexes, values := strings.Fields(d.text[0].String()), strings.Fields(d.text[1].String())
	if len(indexes) != d.count || len(values) != d.count*d.count {
		return wrong("%d nodes need as many indexes and %d values; there are %d and %d", d.count, d.count*d.count, len(indexes), len(values))
	}
	key := map[string]int{} // the place of each node among NUMANodes
	for i, o := range r.nodes {
		switch {
		case !d.byGP:
			key[strconv.Itoa(*o.id)] = i
		case o.gp != nil:
			key[strconv.FormatInt(*o.gp, 10)] = i
		}
	}
	order := make([]int, d.count) // row i of the matrix is the node order[i]
	seen := make([]bool, d.count)
	for i, index := range indexes {
		at, ok := key[index]
		if !ok || seen[at] {
			return wrong("index %q is not that of one NUMA node", short(index))
		}
		order[i], seen[at] = at, true
	}
	return r.setDistances(d, order, func(i int) (int, bool) {
		n, err := strconv.Atoi(values[i])
		return n, err == nil && 0 <= n && n <= 1<<20
	})
}

// oldDistance reads a matrix of version 1, of the nodes in their logical order.
func (r *reader) oldDistance(d *distances) error {
	if d.count != len(r.machine.Topology.NUMANodes) || len(d.values) != d.count*d.count {
		return nil // of other objects
	}
	order := make([]int, d.count)
	for i := range order {
		order[i] = i
	}
	least := slices.Min(d.values)
	return r.setDistances(d, order, func(i int) (int, bool) {
		n := d.values[i]/least*10 + 0.5
		return int(n), least > 0 && n <= 1<<20
	})
}

func (r *reader) setDistances(d *distances, order []int, value func(int) (int, bool)) error {
	nodes := r.machine.Topology.NUMANodes
	byID := slices.Clone(order) // a node's distances stand in the order of ids
	slices.SortFunc(byID, func(a, b int) int { return cmp.Compare(nodes[a].ID, nodes[b].ID) })
	rank := make([]int, len(order))
	for i, at := range byID {
		rank[at] = i
	}
	for i, from := range order {
		row := make([]int, len(order))
		for j, to := range order {
			n, ok := value(i*len(order) + j)
			if !ok {
				return &Error{d.line, fmt.Sprintf("distances: value %d is no distance", i*len(order)+j+1)}
			}
			row[rank[to]] = n
		}
		nodes[from].Distances = row
	}
	return nil
}

// host takes the infos of the machine and of the first package.
func (r *reader) host() {
	m := r.machine
	info := r.objects[0].infos
	m.Hostname, m.Kernel, m.Arch, m.Cgroup = info[infoHost], info[infoKernel], info[infoArch], info[infoCgroup]
	if guess := info[infoGuess]; m.Arch == "" && guess != "" {
		m.Arch, m.ArchGuessed = guess, true
	}
	m.OS = strings.ToLower(info[infoOS])
	i := slices.IndexFunc(r.objects, func(o object) bool { return (o.typ == "Package" || o.typ == "Socket") && o.infos[infoBrand] != "" })
	if i >= 0 {
		info = r.objects[i].infos
	}
	m.CPU.Vendor, m.CPU.Brand = info[infoVendor], info[infoBrand]
	for name, to := range map[string]**int{infoFamily: &m.CPU.Family, infoModel: &m.CPU.Model, infoStepping: &m.CPU.Stepping} {
		if n, err := strconv.Atoi(info[name]); err == nil && n >= 0 {
			*to = &n
		}
	}
}

func (r *reader) kindsOf() error {
	for i, info := range r.kinds {
		cpus, err := parseMask(info[""])
		if err != nil {
			return &Error{r.kindLines[i], "cpukind: " + err.Error()}
		}
		if cpus = cpus.Intersect(r.machine.Topology.Online); cpus.IsEmpty() {
			continue
		}
		k := Kind{CPUs: cpus, CoreType: info[infoCoreType], Name: info[infoKind], Model: info[infoDesign], Source: info[infoSource]}
		if n, err := strconv.Atoi(info[infoCapacity]); err == nil && n > 0 {
			k.Capacity = &n
		}
		if mhz, err := strconv.ParseInt(info[infoMaxMHz], 10, 32); err == nil && mhz > 0 {
			khz := mhz * 1000
			k.MaxKHz = &khz
		}
		for _, old := range r.machine.Kinds {
			if old.CPUs.Overlaps(cpus) {
				return &Error{r.kindLines[i], "cpukind: its CPUs are in another kind already"}
			}
		}
		r.machine.Kinds = append(r.machine.Kinds, k)
		if len(r.machine.Kinds) > maxNodes {
			return &Error{r.kindLines[i], fmt.Sprintf("more than %d kinds of CPUs", maxNodes)}
		}
	}
	return nil
}
