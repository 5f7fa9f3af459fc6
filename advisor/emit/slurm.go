package emit

import (
	"math"
	"strings"

	"berth/advisor"
)

// slurm is a batch script for one node (sbatch(1), srun(1)).
type slurm struct{}

func (slurm) Name() string  { return "slurm" }
func (slurm) About() string { return "Slurm batch script for one node: tasks, CPUs, binding, memory" }

func (slurm) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	at := places(p)
	s.line("#!/bin/bash")
	s.line("#SBATCH --job-name=%s", plainName(p.Profile))
	s.line("#SBATCH --nodes=1")
	s.line("#SBATCH --ntasks=%d", p.Workers.Processes)
	s.line("#SBATCH --cpus-per-task=%d", running(p))
	if at != nil {
		s.line("#SBATCH --exclusive")
	}
	switch p.Placement.Pin {
	case advisor.PerCPU:
		s.line("#SBATCH --hint=multithread")
	case advisor.PerCore:
		s.line("#SBATCH --hint=nomultithread")
	}
	if p.MemoryMiB != nil {
		s.line("#SBATCH --mem=%dM", int64(math.Ceil(*p.MemoryMiB)))
	}
	s.title(p)
	if q := quota(p); q > 0 {
		s.cannot("the quota of %g CPUs: Slurm gives whole ones", q)
	}
	if inner(p) > running(p) {
		s.comment("Each task starts %d threads; %d of them can run at a time.", inner(p), running(p))
	}
	for _, v := range counts(p) {
		s.line("export %s=%s", v.name, shellQuote(v.value))
	}
	bind := "--cpu-bind=none"
	if at != nil {
		s.comment("Seats by number need the whole node (--exclusive), and a node that has these CPUs. srun says nothing when its binding fails: read /proc/self/status in the task.")
		bind = "--cpu-bind=" + binding(at)
		if hasThreadSeats(at) {
			s.cannot("a seat for each thread: each task has the CPUs of all its threads")
		}
	}
	s.line(`srun %s "$@"`, bind)
	return s.settings()
}

// binding lists a CPU for each task, or a mask where one has several.
func binding(at []place) string {
	var list, masks []string
	for _, a := range at {
		list = append(list, numbers(a.cpus, ","))
		masks = append(masks, a.cpus.Mask())
	}
	for _, a := range at {
		if a.cpus.Len() > 1 {
			return "mask_cpu:" + strings.Join(masks, ",")
		}
	}
	return "map_cpu:" + strings.Join(list, ",")
}
