package check

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
)

// readPostgres reads a postgresql.conf, where the last line of a name counts
// (PostgreSQL manual, section "Parameter Interaction via the Configuration
// File").
func readPostgres(text string) ([]fact, error) {
	var out []fact
	for n, line := range numbered(text) {
		line, _, _ = strings.Cut(line, "#") // none of the settings below can hold one
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		end := strings.IndexAny(line, "= \t")
		if end <= 0 {
			return nil, &Error{Line: n, Err: fmt.Errorf("%q is no setting: a name and a value are", line)}
		}
		name := strings.ToLower(line[:end])
		value := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
		switch name {
		case "max_connections", "superuser_reserved_connections", "max_worker_processes",
			"max_parallel_workers", "max_parallel_workers_per_gather", "max_parallel_maintenance_workers":
			if value == "" {
				return nil, &Error{Line: n, Err: fmt.Errorf("%s has no value", name)}
			}
			out = slices.DeleteFunc(out, func(f fact) bool { return f.setting == name })
			out = append(out, fact{n, name, value, number(unquoted(value))})
		}
	}
	slices.SortStableFunc(out, func(a, b fact) int { return a.line - b.line })
	return out, nil
}

// numbered are the lines of a text by their number, from 1.
func numbered(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(text) {
			n++
			if !yield(n, strings.TrimRight(line, "\r\n")) {
				return
			}
		}
	}
}

// haproxyThreads is the most that a group of HAProxy's threads holds.
const haproxyThreads = 64

// cpuMap is a line of that name, for some threads of a group.
type cpuMap struct {
	line           int
	text           string
	group          int
	from, to, step int // threads, from 1
	auto           bool
	cpus           cpuset.Set
}

// readHAProxy reads the sections "global" of an haproxy.cfg (HAProxy
// configuration manual, section 3.1). All lines cpu-map are one setting: the
// CPUs of the threads, which nobody tells apart.
func readHAProxy(text string) ([]fact, error) {
	var out []fact
	var maps []cpuMap
	global, known := false, true
	threads, groups := 0, 1
	for n, line := range numbered(text) {
		line, _, _ = strings.Cut(line, "#")
		w := words(line)
		if len(w) == 0 {
			continue
		}
		if slices.Contains([]string{"global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "program", "cache", "mailers", "ring", "http-errors", "fcgi-app"}, w[0]) {
			global = w[0] == "global"
			continue
		}
		if !global {
			continue
		}
		f := fact{line: n, setting: w[0], found: strings.Join(w[1:], " ")}
		switch w[0] {
		case "nbthread", "thread-groups":
			if len(w) != 2 {
				return nil, &Error{Line: n, Err: fmt.Errorf("%s takes a number", w[0])}
			}
			f.value = number(w[1])
			count, _ := strconv.Atoi(f.value)
			if w[0] == "nbthread" {
				threads = count
			} else {
				groups = count
			}
			out = slices.DeleteFunc(out, func(o fact) bool { return o.setting == f.setting })
			out = append(out, f)
		case "cpu-map":
			m, ok := parseMap(w[1:])
			m.line, m.text = n, f.found
			known = known && ok
			maps = append(maps, m)
		}
	}
	if maps == nil {
		return out, nil
	}
	f := fact{line: maps[0].line, setting: "cpu-map"}
	var texts []string
	for _, m := range maps {
		texts = append(texts, m.text)
	}
	f.found = strings.Join(texts, "; ")
	if known {
		f.value = threadSets(maps, threads, groups)
	}
	out = append(out, f)
	slices.SortStableFunc(out, func(a, b fact) int { return a.line - b.line })
	return out, nil
}

// parseMap reads what follows cpu-map: [auto:]GROUP[/THREADS] CPUS.
func parseMap(w []string) (cpuMap, bool) {
	if len(w) < 2 {
		return cpuMap{}, false
	}
	m := cpuMap{group: 1, from: 1, to: haproxyThreads, step: 1}
	rest, auto := strings.CutPrefix(w[0], "auto:")
	m.auto = auto
	group, threads, some := strings.Cut(rest, "/")
	var err error
	if m.group, err = strconv.Atoi(group); err != nil || m.group < 1 || m.group > 16 {
		return m, false
	}
	if some {
		first, last, isRange := strings.Cut(threads, "-")
		switch {
		case threads == "all":
		case threads == "odd" || threads == "even":
			m.step = 2
			if threads == "even" {
				m.from = 2
			}
		default:
			m.from, err = strconv.Atoi(first)
			m.to = m.from
			if isRange && err == nil {
				m.to, err = strconv.Atoi(last)
			}
			if err != nil || m.from < 1 || m.to < m.from || m.to > haproxyThreads {
				return m, false
			}
		}
	}
	m.cpus, err = cpuset.Parse(strings.Join(w[1:], ","))
	return m, err == nil && !m.cpus.IsEmpty()
}

// threadSets are the CPUs of each thread, in ascending order. Threads without
// a line of their own have those of the process, which the file does not say;
// so the file has to say how many threads there are.
func threadSets(maps []cpuMap, threads, groups int) string {
	if threads < 1 || threads > 16*haproxyThreads || groups < 1 || groups > 16 {
		return ""
	}
	var sets []cpuset.Set
	for group := range groups {
		n := (group+1)*threads/groups - group*threads/groups
		of := make([]cpuset.Set, min(n, haproxyThreads))
		for _, m := range maps {
			if m.group != group+1 {
				continue
			}
			next, stop := iter.Pull(m.cpus.All())
			for thread := m.from; thread <= min(m.to, len(of)); thread += m.step {
				of[thread-1] = m.cpus
				if c, ok := next(); m.auto {
					of[thread-1] = cpuset.Set{}
					if ok {
						of[thread-1] = cpuset.Of(c)
					}
				}
			}
			stop()
		}
		sets = append(sets, of...)
	}
	slices.SortFunc(sets, cpuset.Set.Compare)
	var out []string
	for _, s := range sets {
		if s.IsEmpty() {
			out = append(out, "unseated")
			continue
		}
		out = append(out, s.String())
	}
	return strings.Join(out, " ")
}
