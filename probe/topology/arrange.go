package topology

import (
	"cmp"
	"slices"

	"berth/probe/cpuset"
)

// Arrange puts the objects in the machine's order, that of hwloc, numbers the cores and says
// of each core which package, die, cluster and NUMA node holds it. Whoever
// fills a Topology calls it once at the end.
func (t *Topology) Arrange() {
	slices.SortFunc(t.NUMANodes, func(a, b NUMA) int { return a.ID - b.ID })
	size := int(t.Online.Last()) + 1
	t.orderCores(size)
	t.orderObjects(size)
	packageOf := Owners(size, t.Packages, func(p Package) cpuset.Set { return p.CPUs })
	dieOf := Owners(size, t.Dies, func(d Die) cpuset.Set { return d.CPUs })
	clusterOf := Owners(size, t.Clusters, func(g Group) cpuset.Set { return g.CPUs })
	nodeOf := Owners(size, t.NUMANodes, func(n NUMA) cpuset.Set { return n.CPUs })

	for i := range t.Dies {
		if p := packageOf[t.Dies[i].CPUs.First()]; p >= 0 {
			t.Dies[i].Package = t.Packages[p].ID
		}
	}
	for i := range t.Cores {
		c := &t.Cores[i]
		c.Index = CoreIndex(i)
		first := c.CPUs.First()
		c.Package, c.Die, c.Cluster, c.NUMANode = nil, nil, nil, nil
		if p := packageOf[first]; p >= 0 {
			c.Package = t.Packages[p].ID
		}
		if d := dieOf[first]; d >= 0 {
			c.Die = t.Dies[d].ID
		}
		if g := clusterOf[first]; g >= 0 {
			c.Cluster = t.Clusters[g].ID
		}
		if n := nodeOf[first]; n >= 0 {
			c.NUMANode = &t.NUMANodes[n].ID
		}
	}
	t.nameKinds()
	t.countThreads()
}

var cacheOrder = [...]CacheType{Data, Instruction, Unified}

// orderCores puts the cores in the order of the tree that they are the leaves
// of: what is inside one object stands together, larger objects first, and
// beside each other they stand by their first CPU, as in hwloc.
func (t *Topology) orderCores(size int) {
	around := [][]cpuset.Set{
		setsOf(t.Drawers, func(g Group) cpuset.Set { return g.CPUs }),
		setsOf(t.Books, func(g Group) cpuset.Set { return g.CPUs }),
		setsOf(t.Packages, func(p Package) cpuset.Set { return p.CPUs }),
		setsOf(t.NUMANodes, func(n NUMA) cpuset.Set { return n.CPUs }),
		setsOf(t.Dies, func(d Die) cpuset.Set { return d.CPUs }),
		setsOf(t.Clusters, func(g Group) cpuset.Set { return g.CPUs }),
	}
	for level := 5; level > 0; level-- {
		var sets []cpuset.Set
		for _, c := range t.Caches {
			if c.Level == level && c.Type != Instruction {
				sets = append(sets, c.CPUs)
			}
		}
		around = append(around, sets)
	}
	around = append(around, setsOf(t.Cores, func(c Core) cpuset.Set { return c.CPUs }))
	type object struct {
		size  int
		first cpuset.CPU
	}
	paths := make([][]object, size) // what a CPU is in, the largest first
	room := make([]object, size*len(around))
	for c := range paths {
		paths[c] = room[:0:len(around)]
		room = room[len(around):]
	}
	for _, sets := range around {
		for _, set := range sets {
			o := object{set.Len(), set.First()}
			for c := range set.All() {
				if int(c) < size {
					paths[c] = append(paths[c], o)
				}
			}
		}
	}
	for _, path := range paths {
		slices.SortStableFunc(path, func(a, b object) int { return b.size - a.size })
	}
	slices.SortStableFunc(t.Cores, func(a, b Core) int {
		x, y := a.CPUs.First(), b.CPUs.First()
		return cmp.Or(slices.CompareFunc(paths[x], paths[y], func(a, b object) int { return int(a.first - b.first) }), int(x-y))
	})
}

// orderObjects puts the other objects in the order of their first cores.
func (t *Topology) orderObjects(size int) {
	place := make([]int, size) // of each CPU in the machine's order
	for i := range place {
		place[i] = size + i
	}
	for i, core := range t.Cores {
		for c := range core.CPUs.All() {
			if int(c) < size {
				place[c] = i
			}
		}
	}
	first := func(set cpuset.Set) int {
		least := 2 * size
		for c := range set.All() {
			if int(c) < size {
				least = min(least, place[c])
			}
		}
		return least
	}
	inOrder(t.Drawers, first, func(g Group) cpuset.Set { return g.CPUs })
	inOrder(t.Books, first, func(g Group) cpuset.Set { return g.CPUs })
	inOrder(t.Packages, first, func(p Package) cpuset.Set { return p.CPUs })
	inOrder(t.Dies, first, func(d Die) cpuset.Set { return d.CPUs })
	inOrder(t.Clusters, first, func(g Group) cpuset.Set { return g.CPUs })
	inOrder(t.Caches, first, func(c Cache) cpuset.Set { return c.CPUs })
	slices.SortStableFunc(t.Caches, func(a, b Cache) int {
		return cmp.Or(a.Level-b.Level, slices.Index(cacheOrder[:], a.Type)-slices.Index(cacheOrder[:], b.Type))
	})
}

func inOrder[T any](objects []T, first func(cpuset.Set) int, cpus func(T) cpuset.Set) {
	type keyed struct {
		key int
		o   T
	}
	list := make([]keyed, len(objects))
	for i, o := range objects {
		list[i] = keyed{first(cpus(o)), o}
	}
	slices.SortStableFunc(list, func(a, b keyed) int { return cmp.Or(a.key-b.key, cpus(a.o).Compare(cpus(b.o))) })
	for i, k := range list {
		objects[i] = k.o
	}
}

func setsOf[T any](objects []T, cpus func(T) cpuset.Set) []cpuset.Set {
	sets := make([]cpuset.Set, len(objects))
	for i, o := range objects {
		sets[i] = cpus(o)
	}
	return sets
}

// Owners tells for each CPU below size the index of the first object that holds
// it, or -1.
func Owners[T any](size int, objects []T, cpus func(T) cpuset.Set) []int32 {
	of := make([]int32, size)
	for i := range of {
		of[i] = -1
	}
	for i, o := range objects {
		for c := range cpus(o).All() {
			if int(c) < size && of[c] < 0 {
				of[c] = int32(i)
			}
		}
	}
	return of
}

// nameKinds writes each kind's name on its cores.
func (t *Topology) nameKinds() {
	for i := range t.Cores {
		t.Cores[i].Kind = ""
	}
	for k := range t.CoreKinds {
		kind := &t.CoreKinds[k]
		kind.Threads = 0
		for i := range t.Cores {
			if kind.CPUs.Contains(t.Cores[i].CPUs.First()) {
				t.Cores[i].Kind = kind.Name
				kind.Threads = max(kind.Threads, t.Cores[i].CPUs.Len())
			}
		}
	}
}

// countThreads fills what the cores themselves say of SMT.
func (t *Topology) countThreads() {
	if len(t.Cores) == 0 {
		return
	}
	if t.SMT == nil {
		t.SMT = &SMT{}
	}
	t.SMT.Threads = 0
	for _, c := range t.Cores {
		t.SMT.Threads = max(t.SMT.Threads, c.CPUs.Len())
	}
	t.SMT.Active = t.SMT.Threads > 1
}
