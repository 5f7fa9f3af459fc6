package place_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/topology"
)

// TestAgainstModel holds expressions, made at random for machines made at
// random, against a model that walks the topology CPU by CPU.
func TestAgainstModel(t *testing.T) {
	meant := 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 5))
		machine, description := laptop(), "the laptop"
		if r.IntN(5) > 0 {
			description = randomMachine(r)
			machine = shape(t, description)
		}
		expr, want, ok := randomExpression(r, machine)
		got, err := place.Parse(expr, machine)
		if (err == nil) != ok || ok && list(got) != plain(want) {
			t.Fatalf("seed %d, %q on %s: %s, %v; the model says %s, %v", seed, expr, description, list(got), err, plain(want), ok)
		}
		if ok {
			meant++
		}
	}
	if meant < 1000 {
		t.Errorf("only %d of the expressions mean something", meant)
	}
}

func pick(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

func randomMachine(r *rand.Rand) string {
	packages, nodes, groups, cores, threads := 1+r.IntN(3), 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(3)
	s := fmt.Sprintf("package:%d numa:%d ", packages, nodes)
	if r.IntN(3) > 0 {
		s += fmt.Sprintf("l3:%d ", groups)
	} else {
		groups = 1
	}
	s += fmt.Sprintf("%score:%d pu:%d", pick(r, "", "l2:1 ", "die:1 ", "cluster:1 "), cores, threads)
	if r.IntN(2) == 0 { // firmware numbers CPUs as it likes
		var numbers []string
		for _, n := range r.Perm(packages * nodes * groups * cores * threads) {
			numbers = append(numbers, fmt.Sprint(n))
		}
		s += "(indexes=" + strings.Join(numbers, ",") + ")"
	}
	return s
}

// cpuMap is a set as a plain map.
type cpuMap map[cpuset.CPU]bool

func mapOf(s cpuset.Set) cpuMap {
	m := cpuMap{}
	for c := range s.All() {
		m[c] = true
	}
	return m
}

func (m cpuMap) keep(want func(cpuset.CPU) bool) cpuMap {
	out := cpuMap{}
	for c := range m {
		if want(c) {
			out[c] = true
		}
	}
	return out
}

func (m cpuMap) liesIn(other cpuMap) bool {
	return len(m.keep(func(c cpuset.CPU) bool { return other[c] })) == len(m)
}

func plain(places []cpuMap) string {
	var words []string
	for _, m := range places {
		var cpus []cpuset.CPU
		for c := range m {
			cpus = append(cpus, c)
		}
		words = append(words, cpuset.Of(cpus...).String())
	}
	return strings.Join(words, " ")
}

// ofType lists the objects of a type in the machine's order.
func ofType(t *topology.Topology, typ string) []cpuMap {
	var out []cpuMap
	add := func(s cpuset.Set) {
		out = append(out, mapOf(s).keep(t.Online.Contains))
	}
	switch typ {
	case "package":
		for _, o := range t.Packages {
			add(o.CPUs)
		}
	case "numa":
		for _, o := range t.NUMANodes {
			add(o.CPUs)
		}
	case "core":
		for _, o := range t.Cores {
			add(o.CPUs)
		}
	case "die":
		for _, o := range t.Dies {
			add(o.CPUs)
		}
	case "cluster":
		for _, o := range t.Clusters {
			add(o.CPUs)
		}
	case "l2", "l3":
		for _, o := range t.Caches {
			if o.Level == int(typ[1]-'0') && o.Type != topology.Instruction {
				add(o.CPUs)
			}
		}
	case "pu", "llc":
		var seen []cpuset.Set
		for _, core := range t.Cores {
			for c := range core.CPUs.All() {
				if typ == "pu" {
					add(cpuset.Of(c))
					continue
				}
				best := topology.Cache{}
				for _, o := range t.Caches {
					if o.Type != topology.Instruction && o.CPUs.Contains(c) && o.Level > best.Level {
						best = o
					}
				}
				if best.Level > 0 && !slices.ContainsFunc(seen, best.CPUs.Equal) {
					seen = append(seen, best.CPUs)
					add(best.CPUs)
				}
			}
		}
	}
	return out
}

// choose is an index in words, with the numbers that it means among n objects;
// reaches is the largest that must be there.
func choose(r *rand.Rand) (text string, of func(n int) []int, reaches func(widest int) bool) {
	a, b := r.IntN(3), r.IntN(3)
	among := func(from, to, step int) func(int) []int {
		return func(n int) (out []int) {
			for i := from; i < min(to, n); i += step {
				out = append(out, i)
			}
			return out
		}
	}
	const end = 1 << 20
	switch r.IntN(7) {
	case 0:
		return "all", among(0, end, 1), func(w int) bool { return w > 0 }
	case 1:
		return "odd", among(1, end, 2), func(w int) bool { return w > 1 }
	case 2:
		return "even", among(0, end, 2), func(w int) bool { return w > 0 }
	case 3:
		return fmt.Sprintf("%d-", a), among(a, end, 1), func(w int) bool { return a < w }
	case 4:
		return fmt.Sprintf("%d-%d", a, a+b), among(a, a+b+1, 1), func(w int) bool { return a+b < w }
	case 5:
		return fmt.Sprintf("%d:%d", a, b+1), func(n int) (out []int) {
			if a >= n {
				return nil
			}
			for i := range min(b+1, n) {
				out = append(out, (a+i)%n)
			}
			return out
		}, func(w int) bool { return a < w && b+1 <= w }
	}
	return fmt.Sprint(a), among(a, a+1, 1), func(w int) bool { return a < w }
}

// randomLocation is TYPE:INDEX, or more of them inside one another.
func randomLocation(r *rand.Rand, t *topology.Topology) (text string, places []cpuMap, ok bool) {
	online := mapOf(t.Online)
	places, ok = []cpuMap{online}, true
	var steps []string
	for range 1 + r.IntN(3) {
		typ := pick(r, "package", "numa", "core", "core", "pu", "pu", "llc", "l3", "l2", "die", "cluster")
		index, of, reaches := choose(r)
		steps = append(steps, typ+":"+index)
		all := ofType(t, typ)
		var found []cpuMap
		widest := 0
		for _, parent := range places {
			var here []cpuMap
			for _, o := range all {
				// The machine has its nodes without CPUs; nothing else does.
				if o.liesIn(parent) && (len(o) > 0 || len(parent) == len(online)) {
					here = append(here, o)
				}
			}
			widest = max(widest, len(here))
			for _, i := range of(len(here)) {
				if len(here[i]) > 0 {
					found = append(found, here[i])
				}
			}
		}
		ok = ok && reaches(widest) && len(found) > 0
		places = found
	}
	return strings.Join(steps, "."), places, ok
}

// randomExpression joins terms by operators.
func randomExpression(r *rand.Rand, t *topology.Topology) (text string, places []cpuMap, ok bool) {
	ok = true
	for i := range 1 + r.IntN(4) {
		var term []cpuMap
		var word string
		known := true
		if r.IntN(4) == 0 {
			lo := cpuset.CPU(r.IntN(int(t.Online.Last()) + 2))
			hi := lo + cpuset.CPU(r.IntN(4))
			word = fmt.Sprintf("%d-%d", lo, hi)
			m := cpuMap{}
			for c := lo; c <= hi; c++ {
				m[c] = true
				known = known && t.Online.Contains(c)
			}
			term = []cpuMap{m}
		} else {
			for range 4 { // most mean nothing
				if word, term, known = randomLocation(r, t); known {
					break
				}
			}
		}
		operator := pick(r, "", "", "~", "x", "^")
		text += pick(r, " ", "\t", "  ") + operator + word
		ok = ok && known && (i == 0 || len(places) > 0 || operator == "" || operator == "^") && (i > 0 || operator == "" || operator == "^")
		union, had := cpuMap{}, cpuMap{}
		for _, m := range term {
			for c := range m {
				union[c] = true
			}
		}
		for _, m := range places {
			for c := range m {
				had[c] = true
			}
		}
		cut := func(from []cpuMap, want func(cpuset.CPU) bool) (left []cpuMap) {
			for _, m := range from {
				if m = m.keep(want); len(m) > 0 {
					left = append(left, m)
				}
			}
			return left
		}
		switch operator {
		case "":
			places = append(slices.Clip(places), term...)
		case "~":
			places = cut(places, func(c cpuset.CPU) bool { return !union[c] })
		case "x":
			places = cut(places, func(c cpuset.CPU) bool { return union[c] })
		case "^":
			places = append(cut(places, func(c cpuset.CPU) bool { return !union[c] }), cut(term, func(c cpuset.CPU) bool { return !had[c] })...)
		}
	}
	return text, places, ok && len(places) > 0
}
