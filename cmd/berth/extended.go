package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// column is one column of the table of CPUs.
type column struct {
	name, about string
	usual       bool   // shown unless asked otherwise …
	dull        string // … and unless every row says this
	value       func(*cpuTable, cpuset.CPU) string
}

func allColumns() []column {
	return []column{
		{"CPU", "Linux number of the CPU", true, "", func(_ *cpuTable, c cpuset.CPU) string { return strconv.Itoa(int(c)) }},
		{"L#CPU", "number of the CPU in the machine's order (logical)", true, "-", func(t *cpuTable, c cpuset.CPU) string { return at(t.order, c) }},
		{"L#CORE", "number of its core in the machine's order (logical)", true, "-", func(t *cpuTable, c cpuset.CPU) string { return at(t.core, c) }},
		{"COREID", "the kernel's number of the core, unique only in its package or die", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			return t.ofCore(c, func(k *topology.Core) *int { return k.ID })
		}},
		{"KIND", "kind of the core: performance, efficiency …", true, "-", func(t *cpuTable, c cpuset.CPU) string {
			if i := t.kind[c]; i >= 0 {
				return t.CoreKinds[i].Name
			}
			return "-"
		}},
		{"PACKAGE", "the kernel's number of the package (socket)", true, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.pkg, c, func(i int32) *int { return t.Packages[i].ID })
		}},
		{"DIE", "the kernel's number of the die, unique only in its package", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.die, c, func(i int32) *int { return t.Dies[i].ID })
		}},
		{"CLUSTER", "the kernel's number of the cluster of cores", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.cluster, c, func(i int32) *int { return t.Clusters[i].ID })
		}},
		{"BOOK", "number of the book (s390x)", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.book, c, func(i int32) *int { return t.Books[i].ID })
		}},
		{"DRAWER", "number of the drawer (s390x)", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.drawer, c, func(i int32) *int { return t.Drawers[i].ID })
		}},
		{"NODE", "NUMA node", true, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.node, c, func(i int32) *int { return &t.NUMANodes[i].ID })
		}},
		{"L1D", "which L1 data cache; CPUs with one number share it", false, "-", func(t *cpuTable, c cpuset.CPU) string { return t.cache(1, topology.Data, c) }},
		{"L1I", "which L1 instruction cache", false, "-", func(t *cpuTable, c cpuset.CPU) string { return t.cache(1, topology.Instruction, c) }},
		{"L2", "which L2 cache", true, "-", func(t *cpuTable, c cpuset.CPU) string { return t.cache(2, topology.Unified, c) }},
		{"L3", "which L3 cache", true, "-", func(t *cpuTable, c cpuset.CPU) string { return t.cache(3, topology.Unified, c) }},
		{"L4", "which L4 cache", true, "-", func(t *cpuTable, c cpuset.CPU) string { return t.cache(4, topology.Unified, c) }},
		{"LLC", "which last-level cache, whatever its level", false, "-", func(t *cpuTable, c cpuset.CPU) string { return t.lastLevel(c) }},
		{"SIBLINGS", "the CPUs of its core, itself included", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			if i := t.core[c]; i >= 0 {
				return t.Cores[i].CPUs.String()
			}
			return "-"
		}},
		{"ALLOWED", "may this process run on it?", true, "", func(t *cpuTable, c cpuset.CPU) string { return yes(t.Allowed.Contains(c)) }},
		{"ONLINE", "is it online?", true, "yes", func(t *cpuTable, c cpuset.CPU) string { return yes(t.Online.Contains(c)) }},
		{"ISOLATED", "is it kept out of the scheduler's balancing?", true, "no", func(t *cpuTable, c cpuset.CPU) string { return inSet(t.Isolated, c) }},
		{"NOHZ", "does it run without the timer tick (nohz_full)?", true, "no", func(t *cpuTable, c cpuset.CPU) string { return inSet(t.NohzFull, c) }},
		{"CAPACITY", "speed of its kind of core, the fastest being 1024", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			return idOf(t.kind, c, func(i int32) *int { return t.CoreKinds[i].Capacity })
		}},
		{"MAXMHZ", "highest frequency of its kind of core", false, "-", func(t *cpuTable, c cpuset.CPU) string {
			if i := t.kind[c]; i >= 0 && t.CoreKinds[i].MaxKHz != nil {
				return decimal(float64(*t.CoreKinds[i].MaxKHz)/1000, 0)
			}
			return "-"
		}},
	}
}

// columnChoice is what the user asked to see.
type columnChoice struct {
	columns []column
	from    int // columns from here on were asked for by name
}

// parseColumns reads the value of --extended: "A,B" or "+A,B"; alone it is the
// usual ones.
func parseColumns(text string) (columnChoice, error) {
	all := allColumns()
	if text == alone {
		text = "+"
	}
	names, adds := strings.CutPrefix(text, "+")
	var choice columnChoice
	if adds {
		for _, c := range all {
			if c.usual {
				choice.columns = append(choice.columns, c)
			}
		}
		choice.from = len(choice.columns)
	}
	if names == "" {
		return choice, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(c column) bool { return strings.EqualFold(c.name, strings.TrimSpace(name)) })
		if i < 0 {
			return choice, usage("`berth inspect --columns` lists them", "--extended: there is no column %q", name)
		}
		choice.columns = append(choice.columns, all[i])
	}
	return choice, nil
}

func completeColumns(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	before := ""
	if i := strings.LastIndexAny(begun, ",+"); i >= 0 {
		before = begun[:i+1]
	}
	var out []string
	for _, c := range allColumns() {
		out = append(out, before+c.name+"\t"+c.about)
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func listColumns(w io.Writer) {
	for _, c := range allColumns() {
		mark := " "
		if c.usual {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %-9s %s\n", mark, c.name, c.about)
	}
	fmt.Fprintln(w, "\n* shown by -e where it says something; -e=A,B shows just A and B, -e=+A adds A")
}

// cpuTable finds the objects that hold a CPU.
type cpuTable struct {
	*topology.Topology
	order                                             []int32 // of each CPU, its logical number
	core, pkg, die, cluster, book, drawer, node, kind []int32
	caches                                            map[cacheLevel][]int32
}

type cacheLevel struct {
	level int
	kind  topology.CacheType
}

func newCPUTable(t *topology.Topology, all cpuset.Set) *cpuTable {
	size := int(all.Last()) + 1
	x := &cpuTable{Topology: t, caches: map[cacheLevel][]int32{}}
	x.order = logicalNumbers(t, size)
	x.core = topology.Owners(size, t.Cores, func(o topology.Core) cpuset.Set { return o.CPUs })
	x.pkg = topology.Owners(size, t.Packages, func(o topology.Package) cpuset.Set { return o.CPUs })
	x.die = topology.Owners(size, t.Dies, func(o topology.Die) cpuset.Set { return o.CPUs })
	x.cluster = topology.Owners(size, t.Clusters, func(o topology.Group) cpuset.Set { return o.CPUs })
	x.book = topology.Owners(size, t.Books, func(o topology.Group) cpuset.Set { return o.CPUs })
	x.drawer = topology.Owners(size, t.Drawers, func(o topology.Group) cpuset.Set { return o.CPUs })
	x.node = topology.Owners(size, t.NUMANodes, func(o topology.NUMA) cpuset.Set { return o.CPUs })
	x.kind = topology.Owners(size, t.CoreKinds, func(o topology.Kind) cpuset.Set { return o.CPUs })
	sorted := map[cacheLevel][]topology.Cache{}
	for _, c := range t.Caches {
		key := cacheLevel{c.Level, c.Type}
		sorted[key] = append(sorted[key], c)
	}
	for key, caches := range sorted {
		x.caches[key] = topology.Owners(size, caches, func(o topology.Cache) cpuset.Set { return o.CPUs })
	}
	return x
}

// logicalNumbers are the L# of CPUs; -1 for those that are not online.
func logicalNumbers(t *topology.Topology, size int) []int32 {
	numbers := make([]int32, size)
	for i := range numbers {
		numbers[i] = -1
	}
	for i, c := range t.LogicalOrder() {
		numbers[c] = int32(i)
	}
	return numbers
}

func (t *cpuTable) ofCore(c cpuset.CPU, id func(*topology.Core) *int) string {
	return idOf(t.core, c, func(i int32) *int { return id(&t.Cores[i]) })
}

func (t *cpuTable) cache(level int, kind topology.CacheType, c cpuset.CPU) string {
	of, ok := t.caches[cacheLevel{level, kind}]
	if !ok && level > 1 && kind == topology.Unified {
		of, ok = t.caches[cacheLevel{level, topology.Data}] // some machines split the L2
	}
	if !ok {
		return "-"
	}
	return at(of, c)
}

func (t *cpuTable) lastLevel(c cpuset.CPU) string {
	for level := 5; level > 0; level-- {
		for _, kind := range [...]topology.CacheType{topology.Unified, topology.Data} {
			if of, ok := t.caches[cacheLevel{level, kind}]; ok && of[c] >= 0 {
				return fmt.Sprintf("L%d:%d", level, of[c])
			}
		}
	}
	return "-"
}

func at(of []int32, c cpuset.CPU) string {
	if of[c] < 0 {
		return "-"
	}
	return strconv.Itoa(int(of[c]))
}

func idOf(of []int32, c cpuset.CPU, id func(int32) *int) string {
	if of[c] >= 0 {
		if n := id(of[c]); n != nil {
			return strconv.Itoa(*n)
		}
	}
	return "-"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func inSet(set *cpuset.Set, c cpuset.CPU) string { return yes(set != nil && set.Contains(c)) }

// rows is the CPUs by number or in the machine's order, offline ones last.
func (t *cpuTable) rows(all cpuset.Set, logical bool) []cpuset.CPU {
	cpus := slices.Collect(all.All())
	if logical {
		slices.SortStableFunc(cpus, func(a, b cpuset.CPU) int { return int(uint32(t.order[a])) - int(uint32(t.order[b])) })
	}
	return cpus
}

// extendedView prints a row per CPU, the offline ones included.
func extendedView(w io.Writer, t *topology.Topology, choice columnChoice, logical bool) error {
	all := t.Online.Union(t.Offline)
	table := newCPUTable(t, all)
	cpus := table.rows(all, logical)
	if logical {
		i := slices.IndexFunc(choice.columns, func(c column) bool { return c.name == "L#CPU" })
		if i > 0 && i < choice.from {
			c := choice.columns[i]
			choice.columns = slices.Insert(slices.Delete(choice.columns, i, i+1), 0, c)
		}
	}
	var columns [][]string
	for i, c := range choice.columns {
		cells := make([]string, 0, len(cpus)+1)
		cells = append(cells, c.name)
		dull := i < choice.from && c.dull != ""
		for _, cpu := range cpus {
			cell := c.value(table, cpu)
			dull = dull && cell == c.dull
			cells = append(cells, cell)
		}
		if !dull {
			columns = append(columns, cells)
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for row := range len(cpus) + 1 {
		for i, cells := range columns {
			if i > 0 {
				io.WriteString(tw, "\t")
			}
			io.WriteString(tw, cells[row])
		}
		io.WriteString(tw, "\n")
	}
	return tw.Flush()
}
