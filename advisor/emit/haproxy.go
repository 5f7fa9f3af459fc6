package emit

import (
	"slices"

	"berth/advisor"
	"berth/probe/cpuset"
)

// haproxy is the global section of an haproxy.cfg (HAProxy configuration
// manual, section 3.1).
type haproxy struct{}

func (haproxy) Name() string { return "haproxy" }
func (haproxy) About() string {
	return "global section of haproxy.cfg: nbthread, cpu-map, and cpu-policy where there is one"
}

// haproxyGroup is how many threads a thread group holds.
const haproxyGroup = 64

func (haproxy) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	at, n := singles(p)
	if p.Workers.Processes > 1 {
		s.comment("HAProxy is one process: the workers of the plan are its threads.")
	}
	s.cannotBindMemory(at)
	s.cannotLimit(p, "set it on the service (--emit systemd)")
	if n := p.Workers.InFlight; n > 0 {
		s.cannot("%d tasks in flight: maxconn of a server line bounds what is passed on to it, and queues the rest", n)
	}
	groups := (n + haproxyGroup - 1) / haproxyGroup
	if groups > 16 {
		s.cannot("%d threads: HAProxy has at most 16 groups of %d", n, haproxyGroup)
		groups, n = 16, 16*haproxyGroup
	}
	if groups > 1 {
		s.comment("More than %d threads need HAProxy 2.7 or later.", haproxyGroup)
	}
	s.lines("global\n")
	if groups > 1 {
		s.line("    thread-groups %d", groups)
	}
	s.line("    nbthread %d", n)
	if oneEach(at) { // nobody tells its threads apart, so they may take the CPUs in order
		slices.SortFunc(at, func(a, b place) int { return a.cpus.Compare(b.cpus) })
	}
	for group := range groups {
		from, to := group*n/groups, (group+1)*n/groups
		if at != nil {
			s.cpuMap(group+1, at[from:to])
		}
	}
	if at != nil {
		s.comment("HAProxy 3.2 and later can choose threads itself, without nbthread and cpu-map:")
		s.lines("#     cpu-set only-cpu " + p.Placement.CPUs.String() + "\n#     cpu-policy performance\n")
	}
	return s.settings()
}

// cpuMap seats the threads of a group: by one line where each has a CPU, for
// version 2.6 leaves lines of single threads undone; else by one for those that
// share CPUs.
func (s *sheet) cpuMap(group int, at []place) {
	if oneEach(at) {
		s.line("    cpu-map auto:%d/1-%d %s", group, len(at), cpuset.UnionAll(cpusOf(at)...))
		return
	}
	slices.SortStableFunc(at, func(a, b place) int { return a.cpus.Compare(b.cpus) })
	for from := 0; from < len(at); {
		to := from + 1
		for to < len(at) && at[to].cpus.Equal(at[from].cpus) {
			to++
		}
		if to == from+1 {
			s.comment("HAProxy 2.6 may leave a thread that shares its CPUs with no other where it is.")
		}
		s.line("    cpu-map %d/%d-%d %s", group, from+1, to, at[from].cpus)
		from = to
	}
}
