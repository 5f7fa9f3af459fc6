// Package synthetic makes a machine's shape from a description in the words of
// hwloc(7), "Synthetic topologies": levels from the outside in, each with how
// many of it are in one of the level before.
//
//	package:2 numa:2 l3:4 core:8 pu:2
//
// is two packages with two NUMA nodes each, four L3 caches in a node, eight
// cores behind each and two CPUs in a core. A level may have attributes behind
// it: l3:4(size=32MiB), numa:2(memory=64GiB), pu:2(indexes=0,2,1,3). What the
// description does not give, as a cache's size, is not known of the machine.
package synthetic

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// Source is what the caches of such a machine name as their source.
const Source = "synthetic"

// Error points at the word of a description that cannot be used.
type Error struct {
	Description string
	Word        string
	Offset      int // of the word, in bytes
	Why         string
}

func (e *Error) Error() string {
	if e.Word == "" {
		return fmt.Sprintf("synthetic machine %q: %s", shorten(e.Description), e.Why)
	}
	return fmt.Sprintf("synthetic machine %q: at %q (character %d): %s", shorten(e.Description), shorten(e.Word), e.Offset+1, e.Why)
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "…"
	}
	return s
}

// kind is what a level is made of.
type kind int

const (
	machine kind = iota
	packages
	die
	node
	cluster
	cache
	core
	pu
)

// names holds hwloc's names and the usual others. A word matches if it is a
// prefix of at least the given length.
var names = [...]struct {
	name  string
	least int
	kind  kind
}{
	{"machine", 4, machine}, {"package", 4, packages}, {"socket", 4, packages}, {"die", 3, die},
	{"numanode", 4, node}, {"node", 4, node}, {"cluster", 4, cluster}, {"group", 5, cluster},
	{"core", 4, core}, {"pu", 2, pu}, {"thread", 6, pu},
}

type level struct {
	kind  kind
	count int // in one of the level before
	word  string
	at    int

	cacheLevel int
	cacheType  topology.CacheType
	size       *int64 // of a cache, or of a node's memory
	indexes    []cpuset.CPU
}

// Parse makes the shape. Every machine has at least one CPU and at most
// [cpuset.Limit]; without a level of cores each CPU is a core of its own.
func Parse(description string) (*topology.Topology, error) {
	levels, err := parseLevels(description)
	if err != nil {
		return nil, err
	}
	return build(description, levels)
}

func parseLevels(description string) ([]level, error) {
	fail := func(word string, at int, format string, args ...any) ([]level, error) {
		return nil, &Error{description, word, at, fmt.Sprintf(format, args...)}
	}
	var levels []level
	total := 1
	for at, word := range words(description) {
		body, attributes, hasAttributes := strings.Cut(word, "(")
		name, countText, ok := strings.Cut(body, ":")
		if !ok {
			return fail(word, at, "a level is type:count, as core:8")
		}
		l, ok := levelNamed(name)
		if !ok {
			return fail(word, at, "%q is no type; it is one of package, die, numa, cluster, l1 to l5 (l1d, l1i …), core and pu", name)
		}
		count, err := strconv.ParseUint(countText, 10, 31)
		if err != nil || count == 0 {
			return fail(word, at, "the count is %q, not a number from 1 to %d", countText, cpuset.Limit)
		}
		if total > cpuset.Limit/int(count) {
			return fail(word, at, "that makes more than %d CPUs, the most that berth knows", cpuset.Limit)
		}
		l.count, l.word, l.at = int(count), word, at
		total *= l.count
		for _, other := range levels {
			if why := misplaced(other, l); why != "" {
				return fail(word, at, "%s", why)
			}
		}
		if hasAttributes {
			inner, closed := strings.CutSuffix(attributes, ")")
			if !closed {
				return fail(word, at, "the parenthesis is not closed")
			}
			if err := l.attributes(inner); err != nil {
				return fail(word, at, "%s", err)
			}
		}
		levels = append(levels, l)
	}
	if len(levels) == 0 {
		return fail("", 0, "it is empty; try package:1 core:4 pu:2")
	}
	if last := levels[len(levels)-1]; last.kind != pu {
		return fail(last.word, last.at, "the innermost level is pu, the CPUs: add pu:1")
	}
	return levels, nil
}

// words splits at white space outside parentheses, with each word's offset.
func words(text string) func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		start, depth := -1, 0
		for i := 0; i <= len(text); i++ {
			switch {
			case i < len(text) && text[i] == '(':
				depth++
			case i < len(text) && text[i] == ')':
				depth = max(0, depth-1)
			}
			blank := i == len(text) || (depth == 0 && strings.IndexByte(" \t\r\n", text[i]) >= 0)
			if !blank && start < 0 {
				start = i
			}
			if blank && start >= 0 {
				if !yield(start, text[start:i]) {
					return
				}
				start = -1
			}
		}
	}
}

func levelNamed(name string) (level, bool) {
	name = strings.ToLower(name)
	for _, n := range names {
		if len(name) >= n.least && strings.HasPrefix(n.name, name) {
			return level{kind: n.kind}, true
		}
	}
	name = strings.TrimSuffix(name, "cache")
	if len(name) < 2 || name[0] != 'l' || name[1] < '1' || name[1] > '5' {
		return level{}, false
	}
	l := level{kind: cache, cacheLevel: int(name[1] - '0')}
	switch name[2:] {
	case "d":
		l.cacheType = topology.Data
	case "i":
		l.cacheType = topology.Instruction
	case "u":
		l.cacheType = topology.Unified
	case "":
		if l.cacheType = topology.Unified; l.cacheLevel == 1 {
			l.cacheType = topology.Data // as hwloc reads l1
		}
	default:
		return level{}, false
	}
	return l, true
}

// misplaced says why inner cannot stand inside outer, or "".
func misplaced(outer, inner level) string {
	switch {
	case outer.kind == pu:
		return "nothing is inside a CPU: pu comes last"
	case outer.kind == core && inner.kind != pu && inner.kind != cache:
		return "a core holds caches and CPUs only"
	case inner.kind == outer.kind && inner.kind != cache && inner.kind != cluster:
		return "this level is there already"
	case inner.kind == cache && outer.kind == cache && inner.cacheType == outer.cacheType && inner.cacheLevel >= outer.cacheLevel:
		return fmt.Sprintf("an L%d is never inside an L%d", inner.cacheLevel, outer.cacheLevel)
	case inner.kind == packages && outer.kind == die:
		return "a die is inside a package"
	}
	return ""
}

func (l *level) attributes(text string) error {
	for field := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(field, "=")
		switch {
		case key == "size" && l.kind == cache, key == "memory" && l.kind == node:
			n, err := parseBytes(value)
			if err != nil {
				return err
			}
			l.size = &n
		case key == "indexes" && l.kind == pu:
			for item := range strings.SplitSeq(value, ",") {
				n, err := strconv.ParseUint(item, 10, 31)
				if err != nil || n >= cpuset.Limit {
					return fmt.Errorf("%q is not a CPU number below %d", item, cpuset.Limit)
				}
				l.indexes = append(l.indexes, cpuset.CPU(n))
			}
		default:
			return fmt.Errorf("%q is no attribute of this level: caches have size, numa has memory, pu has indexes", key)
		}
	}
	return nil
}

// parseBytes reads 32MiB, 32MB or bytes. As in hwloc, MB is 2^20 bytes too.
func parseBytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTiBkb")
	shift, ok := map[string]int{"": 0, "b": 0, "kb": 10, "kib": 10, "k": 10, "mb": 20, "mib": 20, "m": 20,
		"gb": 30, "gib": 30, "g": 30, "tb": 40, "tib": 40, "t": 40}[strings.ToLower(text[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is not a size such as 32MiB", text)
	}
	return n << shift, nil
}

func build(description string, levels []level) (*topology.Topology, error) {
	t := &topology.Topology{}
	width := 1 // CPUs in one object of the level
	for _, l := range levels {
		width *= l.count
	}
	total := width
	last := levels[len(levels)-1]
	number := func(first, n int) cpuset.Set { return cpuset.Range(cpuset.CPU(first), cpuset.CPU(first+n-1)) }
	if last.indexes != nil {
		if len(last.indexes) != total || cpuset.Of(last.indexes...).Len() != total {
			return nil, &Error{description, last.word, last.at,
				fmt.Sprintf("indexes names %d different CPUs, and the machine has %d", cpuset.Of(last.indexes...).Len(), total)}
		}
		number = func(first, n int) cpuset.Set { return cpuset.Of(last.indexes[first : first+n]...) }
	}
	online := number(0, total)
	none := cpuset.Set{}
	t.Online, t.Present, t.Possible, t.Isolated, t.NohzFull = online, &online, &online, &none, &none

	hasCores := slices.ContainsFunc(levels, func(l level) bool { return l.kind == core })
	for _, l := range levels {
		width /= l.count
		inPackage := 0 // objects of this level in a package, to number dies and cores
		for i := 0; i*width < total; i++ {
			cpus := number(i*width, width)
			id := i
			switch l.kind {
			case packages:
				t.Packages = append(t.Packages, topology.Package{ID: &id, CPUs: cpus})
			case die, core:
				if n := len(t.Packages); n > 0 {
					inPackage = total / n / width
					id = i % inPackage
				}
				if l.kind == die {
					t.Dies = append(t.Dies, topology.Die{ID: &id, CPUs: cpus})
				} else {
					t.Cores = append(t.Cores, topology.Core{ID: &id, CPUs: cpus})
				}
			case cluster:
				t.Clusters = append(t.Clusters, topology.Group{ID: &id, CPUs: cpus})
			case node:
				t.NUMANodes = append(t.NUMANodes, topology.NUMA{ID: i, CPUs: cpus, MemoryBytes: l.size})
			case cache:
				t.Caches = append(t.Caches, topology.Cache{Level: l.cacheLevel, Type: l.cacheType, Size: l.size, CPUs: cpus, Source: Source})
			case pu:
				if !hasCores {
					t.Cores = append(t.Cores, topology.Core{ID: &id, CPUs: cpus})
				}
			}
		}
	}
	t.Arrange()
	return t, nil
}
