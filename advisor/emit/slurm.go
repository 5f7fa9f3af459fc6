package emit

import (
	"math"
	"slices"
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
	"berth/profiles"
)

// slurm is a batch script for one node (sbatch(1), srun(1)).
type slurm struct{}

func (slurm) Name() string  { return "slurm" }
func (slurm) About() string { return "Slurm batch script for one node: tasks, CPUs, binding, memory" }

func (slurm) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	at := places(p)
	// sbatch reads its lines up to the first command.
	s.line("#!/bin/bash")
	s.line("#SBATCH --job-name=%s", plainName(p.Profile))
	s.line("#SBATCH --nodes=1")
	s.line("#SBATCH --ntasks=%d", p.Workers.Processes)
	each, all := running(p), int(math.Ceil(cpus(p)-1e-9))
	crowded := each*p.Workers.Processes > all
	if crowded { // then --cpus-per-task is for all of them together
		each = all
		s.line("#SBATCH --overcommit")
	}
	s.line("#SBATCH --cpus-per-task=%d", each)
	if at != nil {
		s.line("#SBATCH --exclusive")
	}
	if p.Placement.Pin == advisor.PerCPU && p.Workers.Processes > 1 {
		s.line("#SBATCH --hint=multithread") // for clusters with CR_ONE_TASK_PER_CORE
	}
	if p.MemoryMiB != nil {
		s.line("#SBATCH --mem=%dM", int64(math.Ceil(*p.MemoryMiB)))
	}
	s.title(p)
	s.comment("sbatch FILE PROGRAM [ARG …] starts the workers.")
	if q := quota(p); q > 0 {
		s.cannot("the quota of %g CPUs: Slurm gives whole ones", q)
	}
	if crowded {
		s.comment("The workers share these CPUs, of which there are fewer than threads.")
	} else if inner(p) > each {
		s.comment("Each task starts %d threads; %d of them can run at a time.", inner(p), each)
	}
	bind := "--cpu-bind=none"
	if at != nil {
		bind = "--cpu-bind=" + binding(at)
		s.comment("Seats by number need the whole node (--exclusive), and a node that has these CPUs. srun says nothing when its binding fails: read /proc/self/status in the task.")
		if p.Runtime != profiles.OpenMP {
			s.cannotSeatThreads(at)
		}
		if allMems(at) != "" {
			bind += " --mem-bind=local"
			s.comment("--mem-bind=local is strict: memory comes from the nodes of the task's CPUs or not at all.")
		}
	}
	s.line(`[ $# -gt 0 ] || { echo "usage: sbatch FILE PROGRAM [ARG ...]" >&2; exit 2; }`)
	s.exports(counts(p))
	s.exports(withinMask(p))
	s.line(`srun %s "$@"`, bind)
	return s.settings()
}

// binding lists a CPU for each task, or a mask where one has several.
func binding(at []place) string {
	kind, each := "map_cpu:", cpuset.Set.String
	if slices.ContainsFunc(at, func(a place) bool { return a.cpus.Len() > 1 }) {
		kind, each = "mask_cpu:", cpuset.Set.Mask
	}
	var list []string
	for _, a := range at {
		list = append(list, each(a.cpus))
	}
	return kind + strings.Join(list, ",")
}
