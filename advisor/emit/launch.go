package emit

import "berth/advisor"

// launcher writes an sh script that starts each process of a plan behind a
// prefix of its own: sh plan.sh PROGRAM [ARG …].
func (s *sheet) launcher(p *advisor.Plan, prefix func(place) string) {
	s.line("#!/bin/sh")
	s.title(p)
	s.comment("sh FILE PROGRAM [ARG …] starts the workers, waits for all, and ends with the status of the last that failed.")
	for _, v := range counts(p) {
		s.line("export %s=%s", v.name, shellQuote(v.value))
	}
	at := places(p)
	if hasThreadSeats(at) {
		s.cannot("a seat for each thread: each process has the CPUs of all its threads")
	}
	switch {
	case at == nil && p.Workers.Processes == 1:
		s.line(`exec "$@"`)
	case len(at) == 1:
		s.line(`exec %s "$@"`, prefix(at[0]))
	default:
		s.line("pids=")
		for i := range p.Workers.Processes {
			command := ""
			if at != nil {
				command = prefix(at[i]) + " "
			}
			s.line(`BERTH_WORKER=%d %s"$@" & pids="$pids $!"`, i, command)
		}
		s.line("status=0")
		s.line(`for pid in $pids; do wait "$pid" || status=$?; done`)
		s.line(`exit "$status"`)
	}
}
