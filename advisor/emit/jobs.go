package emit

import (
	"strconv"
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
)

// jobs starts a build tool with as many jobs as are planned, on the CPUs of all
// of them.
type jobs struct{ tool string }

var makeJobs, ninjaJobs = jobs{"make"}, jobs{"ninja"}

func (j jobs) Name() string { return j.tool }
func (j jobs) About() string {
	return "sh script that starts " + j.tool + " with its number of jobs, on the CPUs of the plan"
}

func (j jobs) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.jobs(p, "[ARG …]")
	at := places(p)
	if len(at) > 1 || hasThreadSeats(at) {
		s.cannot("which job sits on which of these CPUs: all have one mask; --emit parallel seats each")
	}
	prefix := ""
	if at != nil {
		prefix = "taskset -c " + p.Placement.CPUs.String() + " "
	}
	s.line(`exec %s%s -j %d "$@"`, prefix, j.tool, p.AtOnce())
	return s.settings()
}

// jobs is the head of a script for a tool that starts a process for each task.
func (s *sheet) jobs(p *advisor.Plan, arguments string) {
	s.line("#!/bin/sh")
	s.title(p)
	s.comment("sh FILE %s: a job is a task of the plan, %d at a time.", arguments, p.AtOnce())
	s.cannotBindMemory(places(p))
	s.cannotLimit(p, "set it on the service or container")
	if p.MemoryMiB != nil {
		s.comment("The number of jobs allows for their memory, %.0f MiB in all; nothing holds them to it.", *p.MemoryMiB)
	}
	s.exports([]variable{{"OMP_NUM_THREADS", strconv.Itoa(below(p))}})
}

// parallel starts jobs by GNU parallel(1), each on the seat of its slot.
type parallel struct{}

func (parallel) Name() string { return "parallel" }
func (parallel) About() string {
	return "sh script that starts jobs by GNU parallel, each on the seat of its slot"
}

func (parallel) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.jobs(p, "COMMAND [ARG …] ::: ITEM …")
	s.line(`[ $# -gt 0 ] || { echo "usage: sh $0 COMMAND [ARG ...] ::: ITEM ..." >&2; exit 2; }`)
	at := places(p)
	if at == nil {
		s.line(`exec parallel --jobs %d "$@"`, p.AtOnce())
		return s.settings()
	}
	if p.Workers.InFlight > p.Workers.Processes*p.Workers.Threads {
		s.comment("Jobs of more slots than there are seats take turns on these.")
	}
	var seats []string
	for _, a := range at {
		threads := a.threads
		if len(threads) != p.Workers.Threads { // not named, or those within a task too
			threads = []cpuset.Set{a.cpus}
		}
		for i := range p.Workers.Threads {
			seats = append(seats, threads[i%len(threads)].String())
		}
	}
	s.line("export BERTH_SEATS=%s", shellQuote(strings.Join(seats, " ")))
	s.line("export PARALLEL_SHELL=/bin/sh")
	s.line(`exec parallel --jobs %d 'set -- $BERTH_SEATS; shift $(((PARALLEL_JOBSLOT - 1) %% $#)); taskset -c "$1"' "$@"`, p.AtOnce())
	return s.settings()
}
