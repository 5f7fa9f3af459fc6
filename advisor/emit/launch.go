package emit

import (
	"strings"

	"berth/advisor"
	"berth/profiles"
)

// launch is how an sh script starts each process of a plan.
type launch struct {
	takes string // the script's arguments; empty: PROGRAM [ARG ...]
	// prefix is what stands before the arguments, for a worker that has a seat.
	prefix func(place) string
	// free is the same without a seat.
	free string
	// together: without seats the tool starts the one process that holds all
	// workers, or all of them itself.
	together     bool
	seatsThreads bool                           // and not only processes
	variables    func(*advisor.Plan) []variable // nil: withinMask
	notes        func(at []place)               // comments for the head
}

// launcher writes an sh script that starts each process of a plan behind a
// prefix of its own: sh plan.sh PROGRAM [ARG …].
func (s *sheet) launcher(p *advisor.Plan, l launch) {
	s.line("#!/bin/sh")
	s.title(p)
	at := places(p)
	together := l.together && at == nil
	one := p.Workers.Processes == 1 || together
	if l.takes == "" {
		l.takes = "PROGRAM [ARG ...]"
	}
	shown := strings.ReplaceAll(l.takes, "...", "…")
	if one {
		s.comment("sh FILE %s becomes the worker.", shown)
	} else {
		s.comment("sh FILE %s starts the workers, hands SIGTERM, SIGINT and SIGHUP on to them as SIGTERM, waits for all, and ends with the status of the last that failed.", shown)
	}
	if p.Runtime != profiles.OpenMP && !l.seatsThreads {
		s.cannotSeatThreads(at)
	}
	if l.notes != nil {
		l.notes(at)
	}
	s.line(`[ $# -gt 0 ] || { echo "usage: sh $0 %s" >&2; exit 2; }`, l.takes)
	if together {
		s.exports(starterCounts(p))
	} else {
		s.exports(counts(p))
	}
	if l.variables == nil {
		l.variables = withinMask
	}
	s.exports(l.variables(p))
	command := func(worker int) string {
		prefix := l.free
		if at != nil {
			prefix = l.prefix(at[worker])
		}
		return strings.TrimPrefix(prefix+` "$@"`, " ")
	}
	if one {
		s.line("export BERTH_WORKER=0")
		s.line("exec %s", command(0))
		return
	}
	s.line("pids=")
	s.line(`trap 'kill $pids 2>/dev/null' HUP INT TERM`)
	for worker := range p.Workers.Processes {
		s.line(`BERTH_WORKER=%d %s & pids="$pids $!"`, worker, command(worker))
	}
	s.waitForAll()
}

// waitForAll ends a script with the status of the last of its programs that failed.
func (s *sheet) waitForAll() {
	s.line("status=0")
	s.line(`for pid in $pids; do wait "$pid" || status=$?; done`)
	s.line("wait # for those whose turn a signal cut short")
	s.line(`exit "$status"`)
}
