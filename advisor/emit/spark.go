package emit

import (
	"math"

	"berth/advisor"
	"berth/profiles"
)

// spark is a spark-defaults.conf (spark.apache.org, "Spark Configuration"): an
// executor for each process, and in it a slot for each thread.
type spark struct{}

func (spark) Name() string { return "spark" }
func (spark) About() string {
	return "spark-defaults.conf: executors, cores, CPUs to a task, memory"
}

const (
	sparkLeast    = 450 // MiB of heap below which an executor does not start
	sparkOverhead = 384 // MiB beside the heap, at least; or a tenth of it
)

func (spark) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("For spark-defaults.conf: an executor for each process of the plan, a slot in it for each thread.")
	s.cannotSeat(p, "an executor takes none; --emit taskset starts the worker daemon, and its executors with it, on them")
	s.cannotBindMemory(places(p))
	s.cannotLimit(p, "a core is a slot for tasks, and Spark limits no CPU time")
	s.notAwaitedBy(p, "Spark")
	threads := below(p) // of a task
	set := func(name, format string, args ...any) {
		s.line("%-42s "+format, append([]any{name}, args...)...)
	}
	set("spark.executor.instances", "%d", p.Workers.Processes)
	set("spark.executor.cores", "%d", p.Workers.Each())
	set("spark.cores.max", "%d", p.Workers.Total())
	set("spark.task.cpus", "%d", threads)
	set("spark.executorEnv.OMP_NUM_THREADS", "%d", threads)
	set("spark.executor.extraJavaOptions", "-XX:ActiveProcessorCount=%d", p.Inside(profiles.Java).Count(advisor.JVMProcessor))
	set("spark.dynamicAllocation.enabled", "false")
	if p.MemoryMiB == nil {
		s.cannot("memory: the profile does not say how much a worker needs (limits.memory_per_worker_mib), and an executor gets 1 GiB unless told")
		return s.settings()
	}
	each := *p.MemoryMiB / float64(p.Workers.Processes)
	heap := math.Floor(math.Min(each-sparkOverhead, each/1.1))
	if heap < sparkLeast {
		s.cannot("memory of %.0f MiB in each process: an executor needs %d, a heap of %d and %d beside it", each, sparkLeast+sparkOverhead, sparkLeast, sparkOverhead)
		return s.settings()
	}
	set("spark.executor.memory", "%.0fm", heap)
	set("spark.executor.memoryOverhead", "%.0fm", math.Floor(each-heap))
	return s.settings()
}

// notAwaitedBy says that tasks which could be awaited hold a thread each.
func (s *sheet) notAwaitedBy(p *advisor.Plan, tool string) {
	if n := p.Workers.InFlight; n > 0 {
		s.cannot("%d tasks in flight: %s gives each task a thread", n, tool)
	}
}
