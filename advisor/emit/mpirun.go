package emit

import (
	"berth/advisor"
	"berth/profiles"
)

// mpirun starts ranks by Open MPI's mpirun(1) with a rankfile.
type mpirun struct{}

func (mpirun) Name() string { return "mpirun" }
func (mpirun) About() string {
	return "sh script for Open MPI: mpirun with a rankfile of physical CPUs"
}

func (mpirun) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.title(p)
	s.comment("sh FILE PROGRAM [ARG …] starts the ranks on this machine, by Open MPI 3 or 4: the numbers of version 5's rankfiles are logical.")
	at := places(p)
	if p.Runtime != profiles.OpenMP {
		s.cannotSeatThreads(at)
	}
	if len(allMems(at)) > 0 {
		s.comment("Memory comes from the node of a rank's CPUs while it has any.")
	}
	s.cannotLimit(p, "mpirun knows whole CPUs")
	if p.MemoryMiB != nil {
		s.cannot("memory of %.0f MiB: mpirun sets no limit; --emit slurm does", *p.MemoryMiB)
	}
	s.line(`[ $# -gt 0 ] || { echo "usage: sh $0 PROGRAM [ARG ...]" >&2; exit 2; }`)
	environment := append(counts(p), withinMask(p)...)
	s.exports(environment)
	command := "mpirun"
	for _, v := range environment {
		command += " -x " + v.name
	}
	if at == nil {
		s.line(`exec %s -n %d --oversubscribe --bind-to none "$@"`, command, p.Workers.Processes)
		return s.settings()
	}
	s.lines("ranks=$(mktemp) || exit\ncat >\"$ranks\" <<'END'\n")
	for i, a := range at {
		s.line("rank %d=localhost slot=%s", i, a.cpus)
	}
	s.lines("END\nexec 3<\"$ranks\" # mpirun reads it twice, so a pipe would not do\nrm -f \"$ranks\"\n")
	s.line(`exec %s -n %d --mca rmaps_rank_file_physical 1 --rankfile /dev/fd/3 --report-bindings "$@"`, command, p.Workers.Processes)
	return s.settings()
}
