package emit

import (
	"fmt"
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
	// sbatch reads its lines up to the first command.
	s.line("#!/bin/bash")
	s.line("#SBATCH --job-name=%s", plainName(p.Profile))
	j := jobOf(p, 1)
	for _, option := range j.options {
		s.line("#SBATCH %s", option)
	}
	s.title(p)
	s.comment("sbatch FILE PROGRAM [ARG …] starts the workers.")
	s.steps(p, j, "sbatch FILE PROGRAM [ARG ...]", "srun")
	return s.settings()
}

// srun is the same as a job step, for an allocation that there is already.
type srun struct{}

func (srun) Name() string { return "srun" }
func (srun) About() string {
	return "Slurm job step for salloc: an srun line with tasks, CPUs, binding, memory"
}

func (srun) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.line("#!/bin/sh")
	s.title(p)
	s.comment("sh FILE PROGRAM [ARG …] starts the workers, in an allocation of a whole node (salloc --exclusive --nodes=1) or as a job of its own.")
	j := jobOf(p, 1)
	s.steps(p, j, "sh $0 PROGRAM [ARG ...]", "exec srun "+strings.Join(j.options, " "))
	return s.settings()
}

// job is what a plan asks Slurm for, on as many nodes as do the same.
type job struct {
	options []string
	each    int  // CPUs of a task
	crowded bool // each is for all of them together
}

func jobOf(p *advisor.Plan, nodes int) job {
	at := places(p)
	out := job{each: p.Running()}
	ask := func(format string, args ...any) { out.options = append(out.options, fmt.Sprintf(format, args...)) }
	ask("--nodes=%d", nodes)
	ask("--ntasks=%d", nodes*p.Workers.Processes)
	if nodes > 1 {
		ask("--ntasks-per-node=%d", p.Workers.Processes)
	}
	all := int(math.Ceil(cpus(p) - 1e-9))
	if out.crowded = out.each*p.Workers.Processes > all; out.crowded {
		out.each = all
		ask("--overcommit")
	}
	ask("--cpus-per-task=%d", out.each)
	if at != nil {
		ask("--exclusive")
	}
	if p.Placement.Pin == advisor.PerCPU && p.Workers.Processes > 1 {
		ask("--hint=multithread") // for clusters with CR_ONE_TASK_PER_CORE
	}
	if p.MemoryMiB != nil {
		ask("--mem=%dM", int64(math.Ceil(*p.MemoryMiB)))
	}
	return out
}

// steps says what Slurm loses of a plan, and starts its tasks.
func (s *sheet) steps(p *advisor.Plan, j job, use, srun string) {
	bind := s.bound(p, j)
	s.line(`[ $# -gt 0 ] || { echo "usage: %s" >&2; exit 2; }`, use)
	s.exports(counts(p))
	s.exports(withinMask(p))
	s.line(`%s %s "$@"`, srun, bind)
}

// bound is how srun binds a plan's tasks, of which it says what is lost.
func (s *sheet) bound(p *advisor.Plan, j job) string {
	at := places(p)
	s.cannotLimit(p, "Slurm gives whole ones")
	if j.crowded {
		s.comment("The workers share these CPUs, of which there are fewer than threads.")
	} else if p.Workers.Each() > j.each {
		s.comment("Each task starts %d threads; %d of them can run at a time.", p.Workers.Each(), j.each)
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
	return bind
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
