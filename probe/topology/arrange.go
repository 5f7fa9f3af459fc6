package topology

import (
	"slices"

	"berth/probe/cpuset"
)

// Arrange puts the objects in the machine's order, numbers the cores and says
// of each core which package, die, cluster and NUMA node holds it. Whoever
// fills a Topology calls it once at the end.
func (t *Topology) Arrange() {
	byCPUs(t.Drawers, func(g Group) cpuset.Set { return g.CPUs })
	byCPUs(t.Books, func(g Group) cpuset.Set { return g.CPUs })
	byCPUs(t.Packages, func(p Package) cpuset.Set { return p.CPUs })
	byCPUs(t.Dies, func(d Die) cpuset.Set { return d.CPUs })
	byCPUs(t.Clusters, func(g Group) cpuset.Set { return g.CPUs })
	slices.SortFunc(t.NUMANodes, func(a, b NUMA) int { return a.ID - b.ID })
	slices.SortStableFunc(t.Caches, func(a, b Cache) int {
		if a.Level != b.Level {
			return a.Level - b.Level
		}
		if a.Type != b.Type {
			return slices.Index(cacheOrder[:], a.Type) - slices.Index(cacheOrder[:], b.Type)
		}
		return a.CPUs.Compare(b.CPUs)
	})

	size := int(t.Online.Last()) + 1
	packageOf := Owners(size, t.Packages, func(p Package) cpuset.Set { return p.CPUs })
	dieOf := Owners(size, t.Dies, func(d Die) cpuset.Set { return d.CPUs })
	clusterOf := Owners(size, t.Clusters, func(g Group) cpuset.Set { return g.CPUs })
	nodeOf := Owners(size, t.NUMANodes, func(n NUMA) cpuset.Set { return n.CPUs })

	for i := range t.Dies {
		if p := packageOf[t.Dies[i].CPUs.First()]; p >= 0 {
			t.Dies[i].Package = t.Packages[p].ID
		}
	}
	// An object's place is that of its first CPU; a core outside all objects of
	// a level stands for itself.
	places := [][]cpuset.CPU{
		firsts(packageOf, t.Packages, func(p Package) cpuset.Set { return p.CPUs }),
		firsts(dieOf, t.Dies, func(d Die) cpuset.Set { return d.CPUs }),
		firsts(clusterOf, t.Clusters, func(g Group) cpuset.Set { return g.CPUs }),
	}
	slices.SortStableFunc(t.Cores, func(a, b Core) int {
		x, y := a.CPUs.First(), b.CPUs.First()
		for _, place := range places {
			if place[x] != place[y] {
				return int(place[x] - place[y])
			}
		}
		return int(x - y)
	})
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

func byCPUs[T any](objects []T, cpus func(T) cpuset.Set) {
	slices.SortStableFunc(objects, func(a, b T) int { return cpus(a).Compare(cpus(b)) })
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

// firsts tells for each CPU the first CPU of the object that holds it.
func firsts[T any](of []int32, objects []T, cpus func(T) cpuset.Set) []cpuset.CPU {
	out := make([]cpuset.CPU, len(of))
	for c, i := range of {
		if out[c] = cpuset.CPU(c); i >= 0 {
			out[c] = cpus(objects[i]).First()
		}
	}
	return out
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
