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
	return "shell environment: OMP_*, GOMAXPROCS, JAVA_TOOL_OPTIONS … of each worker"
}

// variable is one setting of a process's environment.
type variable struct{ name, value string }

// counts are the variables that every process of a plan shares.
func counts(p *advisor.Plan) []variable {
	out := []variable{
		{"BERTH_PROCESSES", strconv.Itoa(p.Workers.Processes)},
		{"BERTH_THREADS", strconv.Itoa(p.Workers.Each())},
	}
	if p.Workers.InFlight > 0 {
		out = append(out, variable{"BERTH_IN_FLIGHT", strconv.Itoa(p.InFlightEach(p.Workers.Processes))})
	}
	inside := p.Inside(p.Runtime)
	switch p.Runtime {
	case profiles.Go:
		out = append(out, variable{"GOMAXPROCS", strconv.Itoa(inside.Count(advisor.GoProcessor))})
	case profiles.Java:
		out = append(out, variable{javaOptions, fmt.Sprintf("-XX:ActiveProcessorCount=%d", inside.Count(advisor.JVMProcessor))})
	case profiles.Python, profiles.PythonFreeThreaded:
		out = append(out, variable{"OMP_NUM_THREADS", strconv.Itoa(inside.Count(advisor.BLASThread))})
	case profiles.Native, profiles.OpenMP:
		out = append(out, variable{"OMP_NUM_THREADS", strconv.Itoa(inside.Count(advisor.OpenMPThread))})
	}
	return out
}

const javaOptions = "JAVA_TOOL_OPTIONS"

// below is the number of threads for the libraries below workers that are not
// OpenMP's own, such as Python's: they would start one per CPU in each.
func below(p *advisor.Plan) int { return p.Inside(profiles.Python).Count(advisor.BLASThread) }

// starterCounts are those of a process that starts all others itself.
func starterCounts(p *advisor.Plan) []variable {
	out := counts(p)
	if (p.Runtime == profiles.Python || p.Runtime == profiles.PythonFreeThreaded) && p.Workers.Processes > 1 {
		out = append(out, variable{"PYTHON_CPU_COUNT", strconv.Itoa(p.Workers.Processes)})
	}
	return out
}

// readsOpenMP: programs of this runtime may take their seats from OpenMP's
// variables. Event loops are no team of OpenMP's, and those variables would put
// them all on its first place.
func readsOpenMP(p *advisor.Plan) bool { return compiled(p) && p.Workers.EventLoops == 0 }

// compiled programs start no threads but their own and OpenMP's.
func compiled(p *advisor.Plan) bool {
	return p.Runtime == profiles.OpenMP || p.Runtime == profiles.Native
}

// withinMask are the variables with which OpenMP's threads sit one on each CPU
// or core of a mask that something else sets for their process.
func withinMask(p *advisor.Plan) []variable {
	if !readsOpenMP(p) {
		return nil
	}
	at := places(p)
	if at == nil {
		return []variable{{"OMP_PROC_BIND", "false"}}
	}
	for _, a := range at {
		if a.cpus.Len() == 1 || a.cpus.Len() != p.Workers.Each() {
			return nil
		}
	}
	where := "cores" // for the mask may come with SMT siblings that the plan leaves idle
	if p.Placement.Pin == advisor.PerCPU {
		where = "threads"
	}
	return []variable{{"OMP_PROC_BIND", "close"}, {"OMP_PLACES", where}}
}

// seatVariables put thread n of an OpenMP process on the n-th place (OpenMP 5.2,
// sections 10.1.3 and 21.1.6).
func seatVariables(p *advisor.Plan, at place) []variable {
	var braces []string
	for _, cpus := range threadPlaces(p, at) {
		braces = append(braces, "{"+numbers(cpus, ",")+"}")
	}
	return []variable{{"OMP_PROC_BIND", "close"}, {"OMP_PLACES", strings.Join(braces, ",")}}
}

// threadPlaces are the CPUs of each thread of a process, or once those that all
// its threads share.
func threadPlaces(p *advisor.Plan, at place) []cpuset.Set {
	if at.threads != nil {
		return at.threads
	}
	if at.cpus.Len() != p.Workers.Each() {
		return []cpuset.Set{at.cpus}
	}
	var out []cpuset.Set
	for c := range at.cpus.All() {
		out = append(out, cpuset.Range(c, c))
	}
	return out
}

// numbers lists every CPU of a set by itself.
func numbers(s cpuset.Set, separator string) string {
	var out []string
	for c := range s.All() {
		out = append(out, strconv.Itoa(int(c)))
	}
	return strings.Join(out, separator)
}

// Environment is what one process of a plan, counted from 0, needs in its
// environment for its runtime to agree with the plan, as NAME=VALUE: counts, and
// for OpenMP the places of its threads. It is what the target env makes a shell
// export.
func Environment(p *advisor.Plan, worker int) []string {
	set := counts(p)
	if at := places(p); at != nil && readsOpenMP(p) {
		set = append(set, seatVariables(p, at[worker])...)
	} else {
		set = append(set, withinMask(p)...)
	}
	out := make([]string, len(set))
	for i, v := range set {
		out[i] = v.name + "=" + v.value
	}
	return out
}

// workerNumber is an sh word for the number that a launcher gives a worker.
const workerNumber = `"${BERTH_WORKER:-${SLURM_LOCALID:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-}}}}"`

func (env) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("For sh: eval it, or source it.")
	s.exports(starterCounts(p))
	switch p.Runtime {
	case profiles.Node:
		s.cannot("the number of processes: Node reads none from its environment; let your cluster code fork BERTH_PROCESSES of them")
	case profiles.Python, profiles.PythonFreeThreaded:
		if p.Workers.Processes > 1 {
			s.comment("PYTHON_CPU_COUNT is what multiprocessing starts by default, from CPython 3.13 on.")
		}
	}
	at := places(p)
	switch {
	case at == nil && readsOpenMP(p):
		s.exports(withinMask(p))
	case at == nil:
	case !readsOpenMP(p):
		s.cannot("seats on CPUs %s: %s takes none from its environment; --emit taskset or numactl starts it on them", p.Placement.CPUs, p.Runtime)
	case len(at) == 1:
		s.exports(seatVariables(p, at[0]))
		if threads := threadPlaces(p, at[0]); len(threads) == p.Workers.Each() {
			// Not beside OMP_PLACES: LLVM's runtime would warn and ignore that.
			var cpus []string
			for _, t := range threads {
				cpus = append(cpus, t.String())
			}
			s.line("# GCC before 4.9 takes this instead: export GOMP_CPU_AFFINITY='%s'", strings.Join(cpus, " "))
		}
	default:
		s.comment("Each worker takes its seat by the number that its launcher gives it: berth, Slurm, Open MPI or MPICH.")
		s.line("case %s in", workerNumber)
		for i, a := range at {
			var set []string
			for _, v := range seatVariables(p, a) {
				set = append(set, fmt.Sprintf("%s=%s", v.name, shellQuote(v.value)))
			}
			s.line("%d) export %s ;;", i, strings.Join(set, " "))
		}
		s.line("*) echo 'berth: no seat taken: set BERTH_WORKER to the number of this worker, from 0 to %d' >&2 ;;", len(at)-1)
		s.line("esac")
	}
	if readsOpenMP(p) {
		s.cannotBindMemory(at)
	}
	return s.settings()
}

// exports sets variables in sh.
func (s *sheet) exports(set []variable) {
	for _, v := range set {
		value := shellQuote(v.value)
		if v.name == javaOptions { // others may be there already
			value = `"${JAVA_TOOL_OPTIONS:+$JAVA_TOOL_OPTIONS }` + v.value + `"`
		}
		s.line("export %s=%s", v.name, value)
	}
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
