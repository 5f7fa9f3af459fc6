package emit

import (
	"berth/advisor"
	"berth/profiles"
)

// launcher writes an sh script that starts each process of a plan behind a
// prefix of its own: sh plan.sh PROGRAM [ARG …]. The notes are comments for its
// head.
func (s *sheet) launcher(p *advisor.Plan, prefix func(place) string, notes func([]place)) {
	s.line("#!/bin/sh")
	s.title(p)
	at := places(p)
	one := p.Workers.Processes == 1
	if one {
		s.comment("sh FILE PROGRAM [ARG …] becomes the worker.")
	} else {
		s.comment("sh FILE PROGRAM [ARG …] starts the workers, hands SIGTERM, SIGINT and SIGHUP on to them as SIGTERM, waits for all, and ends with the status of the last that failed.")
	}
	if p.Runtime != profiles.OpenMP {
		s.cannotSeatThreads(at)
	}
	notes(at)
	s.line(`[ $# -gt 0 ] || { echo "usage: sh $0 PROGRAM [ARG ...]" >&2; exit 2; }`)
	s.exports(counts(p))
	s.exports(withinMask(p))
	command := func(worker int) string {
		if at == nil {
			return `"$@"`
		}
		return prefix(at[worker]) + ` "$@"`
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
	s.line("status=0")
	s.line(`for pid in $pids; do wait "$pid" || status=$?; done`)
	s.line("wait # for those whose turn a signal cut short")
	s.line(`exit "$status"`)
}
