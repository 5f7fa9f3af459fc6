package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

func cacheName(level int, kind topology.CacheType) string {
	name := "L" + strconv.Itoa(level)
	switch kind {
	case topology.Data:
		return name + "d"
	case topology.Instruction:
		return name + "i"
	}
	return name
}

// cacheSort is caches that are alike: of one make, for as many CPUs and cores.
type cacheSort struct {
	level       int
	kind        topology.CacheType
	size        int64 // -1 where it is not known, as the next two
	ways, line  int
	cpus, cores int
	coreKind    string
}

// cachesView prints a row per sort of cache.
func cachesView(w io.Writer, t *topology.Topology) error {
	coreOf := topology.Owners(int(t.Online.Last())+1, t.Cores, func(c topology.Core) cpuset.Set { return c.CPUs })
	instances := map[cacheSort]int{}
	var sorts []cacheSort
	for _, c := range t.Caches {
		s := cacheSort{level: c.Level, kind: c.Type, size: orLess(c.Size), ways: orLess(c.Ways), line: orLess(c.Line), cpus: c.CPUs.Len()}
		s.cores, s.coreKind = coresUnder(t, coreOf, c.CPUs)
		if instances[s]++; instances[s] == 1 {
			sorts = append(sorts, s)
		}
	}
	slices.SortStableFunc(sorts, func(a, b cacheSort) int { return cmp.Compare(a.level, b.level) })
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tONE-SIZE\tALL-SIZE\tWAYS\tTYPE\tLEVEL\tLINE\tINSTANCES\tSHARED-BY")
	for _, s := range sorts {
		n := instances[s]
		one, all, ways, line := "-", "-", "-", "-"
		if s.size >= 0 {
			one, all = cacheSize(s.size), cacheSize(s.size*int64(n))
		}
		switch {
		case s.ways == 0:
			ways = "full"
		case s.ways > 0:
			ways = strconv.Itoa(s.ways)
		}
		if s.line >= 0 {
			line = strconv.Itoa(s.line)
		}
		shared := count(s.cpus, "CPU")
		if s.cores > 0 {
			kind := "core"
			if s.coreKind != "" {
				kind = s.coreKind + " core"
			}
			shared += ", " + count(s.cores, kind)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", cacheName(s.level, s.kind), one, all, ways, s.kind, s.level, line, n, shared)
	}
	return tw.Flush()
}

// coresUnder counts the cores with a CPU in the set, and names their kind if
// they are all of one.
func coresUnder(t *topology.Topology, coreOf []int32, set cpuset.Set) (n int, kind string) {
	last := int32(-1)
	seen := map[int32]bool{}
	for c := range set.All() {
		i := int32(-1)
		if int(c) < len(coreOf) {
			i = coreOf[c]
		}
		if i < 0 || i == last || seen[i] {
			continue
		}
		last = i
		seen[i] = true
		if n++; n == 1 {
			kind = t.Cores[i].Kind
		} else if kind != t.Cores[i].Kind {
			kind = ""
		}
	}
	return n, kind
}

// allowedCores counts the cores with a CPU that the process may run on.
func allowedCores(t *topology.Topology) int {
	n := 0
	for _, c := range t.Cores {
		if c.CPUs.Overlaps(t.Allowed) {
			n++
		}
	}
	return n
}

func orLess[N int | int64](n *N) N {
	if n == nil {
		return -1
	}
	return *n
}
