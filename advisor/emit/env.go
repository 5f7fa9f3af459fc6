package emit

import (
	"fmt"
	"strconv"
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
	"berth/profiles"
)

// env is the environment that makes a runtime agree with the plan.
type env struct{}

func (env) Name() string { return "env" }
func (env) About() string {
	return "shell environment: OMP_*, GOMP_CPU_AFFINITY, GOMAXPROCS … of each worker"
}

// variable is one setting of a process's environment.
type variable struct{ name, value string }

// counts are the variables that every process of a plan shares.
func counts(p *advisor.Plan) []variable {
	out := []variable{
		{"BERTH_PROCESSES", strconv.Itoa(p.Workers.Processes)},
		{"BERTH_THREADS", strconv.Itoa(inner(p))},
	}
	if p.Workers.InFlight > 0 {
		out = append(out, variable{"BERTH_IN_FLIGHT", strconv.Itoa(perProcess(p.Workers.InFlight, p))})
	}
	return append(out, runtimeCounts(p)...)
}

// perProcess shares a number out, rounded up.
func perProcess(n int, p *advisor.Plan) int {
	return (n + p.Workers.Processes - 1) / p.Workers.Processes
}

// runtimeCounts are the variables that a runtime itself reads.
func runtimeCounts(p *advisor.Plan) []variable {
	n := strconv.Itoa(running(p))
	switch p.Runtime {
	case profiles.Go:
		return []variable{{"GOMAXPROCS", n}}
	case profiles.Java:
		return []variable{{"JAVA_TOOL_OPTIONS", "-XX:ActiveProcessorCount=" + n}}
	case profiles.Python, profiles.PythonFreeThreaded:
		// Libraries below Python would start a thread per CPU in every worker.
		out := []variable{{"OMP_NUM_THREADS", strconv.Itoa(max(1, p.Workers.Inner))}}
		if p.Workers.Processes > 1 {
			out = append(out, variable{"PYTHON_CPU_COUNT", strconv.Itoa(p.Workers.Processes)})
		}
		return out
	case profiles.Node:
		return nil
	}
	return []variable{{"OMP_NUM_THREADS", strconv.Itoa(inner(p))}}
}

// seatVariables pin the threads of an OpenMP process: OMP_PLACES for every
// runtime (OpenMP 5.2, section 21.1.6), GOMP_CPU_AFFINITY for libgomp before it.
func seatVariables(p *advisor.Plan, at place) []variable {
	if p.Runtime != profiles.OpenMP && p.Runtime != profiles.Native {
		return nil
	}
	threads := at.threads
	if threads == nil {
		for c := range at.cpus.All() {
			threads = append(threads, cpuset.Range(c, c))
		}
	}
	var braces, plain []string
	for _, t := range threads {
		braces = append(braces, "{"+strings.ReplaceAll(numbers(t, ","), " ", "")+"}")
		plain = append(plain, numbers(t, " "))
	}
	return []variable{
		{"OMP_PROC_BIND", "true"},
		{"OMP_PLACES", strings.Join(braces, ",")},
		{"GOMP_CPU_AFFINITY", strings.Join(plain, " ")},
	}
}

// numbers lists every CPU of a set by itself.
func numbers(s cpuset.Set, separator string) string {
	var out []string
	for c := range s.All() {
		out = append(out, strconv.Itoa(int(c)))
	}
	return strings.Join(out, separator)
}

func (env) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("For sh: eval it, or source it.")
	for _, v := range counts(p) {
		s.line("export %s=%s", v.name, shellQuote(v.value))
	}
	switch p.Runtime {
	case profiles.Node:
		s.cannot("Node reads no number of processes from its environment: let your cluster code fork BERTH_PROCESSES of them")
	case profiles.Python, profiles.PythonFreeThreaded:
		if p.Workers.Processes > 1 {
			s.comment("PYTHON_CPU_COUNT is what multiprocessing starts by default, from CPython 3.13 on.")
		}
	}
	at := places(p)
	switch {
	case at == nil:
		if p.Runtime == profiles.OpenMP || p.Runtime == profiles.Native {
			s.line("export OMP_PROC_BIND=false")
		}
	case seatVariables(p, at[0]) == nil:
		s.cannot("seats on CPUs %s: %s takes none from its environment; --emit taskset or numactl starts it on them", p.Placement.CPUs, p.Runtime)
	case len(at) == 1:
		for _, v := range seatVariables(p, at[0]) {
			s.line("export %s=%s", v.name, shellQuote(v.value))
		}
	default:
		s.comment("The launcher says which worker this is: berth, Slurm, Open MPI, or MPICH.")
		s.line(`case "${BERTH_WORKER:-${SLURM_LOCALID:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}}}" in`)
		for i, a := range at {
			var set []string
			for _, v := range seatVariables(p, a) {
				set = append(set, fmt.Sprintf("%s=%s", v.name, shellQuote(v.value)))
			}
			s.line("%d) export %s ;;", i, strings.Join(set, " "))
		}
		s.line("*) echo 'berth: the plan has no seat for this worker' >&2 ;;")
		s.line("esac")
	}
	return s.settings()
}

// shellQuote writes a word that sh takes as it is (POSIX.1-2017, shell command
// language, section 2.2).
func shellQuote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+=.,:/@%", r))
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
