package emit

import (
	"fmt"
	"strings"

	"berth/advisor"
	"berth/profiles"
)

// blas is the environment of the numerical libraries and of Intel's and LLVM's
// OpenMP, whose affinity has a syntax of its own.
type blas struct{}

func (blas) Name() string { return "blas" }
func (blas) About() string {
	return "shell environment of OpenBLAS, MKL, BLIS, NumExpr and KMP_AFFINITY: who gets the threads"
}

func (blas) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("For sh: eval it, or source it.")
	n := below(p)
	if p.Runtime == profiles.OpenMP {
		n = p.Inside(profiles.OpenMP).Count(advisor.BLASThread)
	} else if p.Workers.Total() > 1 && n == 1 {
		s.comment("The workers have the CPUs, so a library call gets one thread.")
	}
	for _, name := range []string{"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS"} {
		s.line("export %s=%d", name, n)
	}
	s.line("export MKL_DYNAMIC=FALSE")
	at := places(p)
	switch {
	case at == nil:
		s.line("export KMP_AFFINITY=disabled")
	case !readsOpenMP(p) || n != p.Workers.Each():
		s.cannotSeat(p, "these libraries seat their own threads only; --emit taskset or numactl starts the workers there")
	case len(at) == 1:
		s.line("export KMP_AFFINITY=%s", shellQuote(kmpAffinity(p, at[0])))
	default:
		s.comment("Each worker takes its seat by the number that its launcher gives it: berth, Slurm, Open MPI or MPICH.")
		s.line(`case %s in`, workerNumber)
		for i, a := range at {
			s.line("%d) export KMP_AFFINITY=%s ;;", i, shellQuote(kmpAffinity(p, a)))
		}
		s.line("*) echo 'berth: no seat taken: set BERTH_WORKER to the number of this worker, from 0 to %d' >&2 ;;", len(at)-1)
		s.line("esac")
	}
	if at != nil && readsOpenMP(p) && n == p.Workers.Each() {
		s.comment("OMP_PROC_BIND and OMP_PLACES are ignored beside KMP_AFFINITY; GCC's OpenMP knows only those (--emit env).")
		s.cannotBindMemory(at)
	}
	return s.settings()
}

// kmpAffinity puts thread n on the n-th CPU or set of CPUs (Intel C++ compiler
// guide, "Thread Affinity Interface").
func kmpAffinity(p *advisor.Plan, at place) string {
	var list []string
	for _, cpus := range threadPlaces(p, at) {
		if cpus.Len() == 1 {
			list = append(list, cpus.String())
		} else {
			list = append(list, fmt.Sprintf("{%s}", numbers(cpus, ",")))
		}
	}
	return "granularity=fine,proclist=[" + strings.Join(list, ",") + "],explicit"
}
