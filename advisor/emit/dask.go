package emit

import (
	"fmt"
	"math"
	"strconv"

	"berth/advisor"
)

// dask starts the workers of a Dask cluster on one machine (distributed.dask.org,
// "Workers").
type dask struct{}

func (dask) Name() string { return "dask" }
func (dask) About() string {
	return "sh script that starts Dask workers: processes on their seats, threads, memory limit"
}

func (dask) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	worker := "dask worker --nthreads " + strconv.Itoa(p.Workers.Threads)
	if p.MemoryMiB != nil {
		each := int64(math.Ceil(*p.MemoryMiB / float64(p.Workers.Processes)))
		worker += fmt.Sprintf(" --memory-limit %dMiB", each)
	}
	s.launcher(p, launch{
		takes: "SCHEDULER [OPTION ...]", together: true,
		prefix: func(at place) string { return tasksetOn(at) + " " + worker + " --nworkers 1" },
		free:   worker + " --nworkers " + strconv.Itoa(p.Workers.Processes),
		variables: func(p *advisor.Plan) []variable {
			n := strconv.Itoa(below(p))
			// A nanny gives its worker these, whatever it has itself.
			const nanny = "DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON__"
			return []variable{{nanny + "OMP_NUM_THREADS", n}, {nanny + "OPENBLAS_NUM_THREADS", n}, {nanny + "MKL_NUM_THREADS", n}}
		},
		notes: func(at []place) {
			s.notPython(p)
			s.notAwaited(p)
			s.cannotBindMemory(at)
			s.cannotLimit(p, "set it on the service or container")
			if p.MemoryMiB == nil {
				s.cannot("memory: the profile does not say how much a worker needs (limits.memory_per_worker_mib), and Dask divides the machine's by CPUs")
			}
		},
	})
	return s.settings()
}
