package emit

import (
	"strings"

	"berth/advisor"
)

// likwidPin starts the workers by likwid-pin(1), which gives each thread that
// pthread_create makes the next CPU of a list.
type likwidPin struct{}

func (likwidPin) Name() string { return "likwid-pin" }
func (likwidPin) About() string {
	return "sh script that starts the workers by likwid-pin, each thread on its seat"
}

func (likwidPin) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	seated := true
	for _, a := range places(p) {
		if _, ok := likwidList(p, a); !ok {
			seated = false
			break
		}
	}
	several := strings.Contains(allMems(places(p)), ",")
	s.launcher(p, launch{prefix: func(at place) string {
		if !seated {
			return ""
		}
		list, _ := likwidList(p, at)
		if several {
			list += " -m" // which on a machine of one node is refused, on stdout
		}
		return "likwid-pin -q -c " + list
	}, seatsThreads: true, variables: func(*advisor.Plan) []variable {
		if places(p) == nil {
			return withinMask(p)
		}
		return []variable{{"OMP_PROC_BIND", "false"}} // or the runtime would bind threads within the first one's CPU
	}, notes: func(at []place) {
		if at == nil {
			return
		}
		if !several {
			s.cannotBindMemory(at)
		}
		if !seated {
			s.cannot("seats on CPUs %s: likwid-pin gives each thread one CPU, and those that it does not see made, as Go's, the first one; --emit taskset or hwloc-bind sets a mask", p.Placement.CPUs)
			return
		}
		s.comment("Threads take the seats in the order in which they are made, the first thread first. In a cpuset cgroup likwid-pin counts the CPUs of that from 0; the list has Linux numbers. It takes arguments apart at spaces: put a command that has some into a script.")
	}})
	return s.settings()
}

// likwidList are the CPUs of a process's threads, in their order. It is not ok
// where a thread has several, or where the runtime makes threads of its own
// among them.
func likwidList(p *advisor.Plan, at place) (list string, ok bool) {
	if at.cpus.Len() == 1 {
		return at.cpus.String(), true
	}
	threads := threadPlaces(p, at)
	if !compiled(p) || len(threads) != p.Workers.Each() {
		return "", false
	}
	for i, t := range threads {
		if t.Len() != 1 {
			return "", false
		}
		if i > 0 {
			list += ","
		}
		list += t.String()
	}
	return list, true
}
