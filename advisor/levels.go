package advisor

import (
	"fmt"
	"math"

	"berth/profiles"
)

// Level is one kind of thread inside a worker, or of what runs on threads there:
// how many, and what sets their number.
type Level struct {
	Name  LevelName `json:"name" yaml:"name"`
	Count int       `json:"count" yaml:"count"`
	Per   Per       `json:"per" yaml:"per"`
	Use   Use       `json:"use" yaml:"use"`
	// Setting fixes the count, as OMP_NUM_THREADS=4; empty where it follows from
	// another level's, or is the program's own.
	Setting string `json:"setting,omitempty" yaml:"setting,omitempty"`
	Why     string `json:"why" yaml:"why"` // a sentence, with the arithmetic
}

// LevelName is what the runtime's own manual calls a level.
type LevelName string

const (
	OpenMPThread   LevelName = "OpenMP thread"
	BLASThread     LevelName = "BLAS thread"
	GoProcessor    LevelName = "P of Go's scheduler"
	Goroutine      LevelName = "goroutine"
	GoMarkWorker   LevelName = "GC worker"
	JVMProcessor   LevelName = "processor that the JVM counts"
	PlatformThread LevelName = "platform thread"
	CarrierThread  LevelName = "carrier thread of virtual threads"
	VirtualThread  LevelName = "virtual thread"
	CommonPool     LevelName = "common pool thread"
	GCThread       LevelName = "GC thread"
	ConcGCThread   LevelName = "concurrent GC thread"
	CompilerThread LevelName = "JIT compiler thread"
	EventLoop      LevelName = "event loop"
	TaskInFlight   LevelName = "task in flight"
	NodeThread     LevelName = "worker thread"
	UVThread       LevelName = "libuv pool thread"
	V8Thread       LevelName = "V8 helper thread"
	PythonThread   LevelName = "Python thread"
)

// Per is what has a level's count.
type Per string

const (
	EachProcess Per = "process"
	EachThread  Per = "thread" // of those that the plan gives a process
)

// Use is what a level does with the CPUs.
type Use string

const (
	Works    Use = "works"    // it runs the tasks: these are the plan's own threads
	Competes Use = "competes" // it takes CPU time from those, while it has work
	Waits    Use = "waits"    // there are more of them than can run: most wait
)

// Levels are those of a plan's workers, from the outside in.
type Levels []Level

// Count is that of a level; 0 where there is no such level.
func (l Levels) Count(name LevelName) int {
	for i := range l {
		if l[i].Name == name {
			return l[i].Count
		}
	}
	return 0
}

// Total is how many there are in all workers together.
func (l Level) Total(w Workers) int {
	if l.Per == EachThread {
		return l.Count * w.Processes * w.Threads
	}
	return l.Count * w.Processes
}

// Inside lists what runs inside each worker, if it is one of a runtime: the
// plan's own, or another that its counts are handed to.
func (p *Plan) Inside(r profiles.Runtime) Levels {
	if r == p.Runtime && p.Levels != nil {
		return p.Levels
	}
	h := &hierarchy{plan: p, w: p.Workers, each: p.Workers.Each(), running: p.Running(), mask: p.mask(), quota: math.Inf(1)}
	if q := p.Quota(); q > 0 {
		h.quota = q
	}
	switch r {
	case profiles.Go:
		h.golang()
	case profiles.Java:
		h.jvm()
	case profiles.Node:
		h.node()
	case profiles.Python, profiles.PythonFreeThreaded:
		h.python(r)
	default:
		h.openMP(r)
	}
	return h.out
}

// hierarchy is a plan whose levels are being listed.
type hierarchy struct {
	plan          *Plan
	w             Workers
	each, running int     // threads of a process, and how many of them run at a time
	mask          int     // CPUs that a process may use
	quota         float64 // CPUs; +Inf: none
	out           Levels
}

func (h *hierarchy) add(l Level) {
	if all := l.Total(h.w); l.Use == Competes && all > h.w.Total() {
		l.Why += fmt.Sprintf("; in all %d, more than the plan's %s: they take turns", all, plural(h.w.Total(), "thread", "threads"))
	}
	h.out = append(h.out, l)
}

// use is that of a pool of n threads in each process.
func (h *hierarchy) use(n int) Use {
	if n > h.running {
		return Waits
	}
	return Works
}

// atATime says how many threads of a process can run at a time, and why.
func (h *hierarchy) atATime() string {
	switch {
	case h.each == 1:
		return "each process has one thread"
	case h.running == h.each:
		return fmt.Sprintf("the %d threads of a process can all run at a time", h.each)
	}
	share := fmt.Sprintf("the time of %s CPUs", number(h.plan.BudgetCPUs))
	switch {
	case h.plan.widestSeat() == h.running:
		share = fmt.Sprintf("a seat of %s", plural(h.running, "CPU", "CPUs"))
	case h.w.Processes > 1:
		share += fmt.Sprintf(" for %d processes", h.w.Processes)
	}
	return fmt.Sprintf("%d of the %d threads of a process can run at a time, for there is %s", h.running, h.each, share)
}

// ofQuota says what a runtime makes of the CPUs and the quota by itself.
func (h *hierarchy) ofQuota(least string, own int) string {
	if math.IsInf(h.quota, 1) {
		return fmt.Sprintf("takes the %s of its mask", plural(h.mask, "CPU", "CPUs"))
	}
	return fmt.Sprintf("takes min(%s of its mask, ⌈quota of %s⌉%s) = %d", plural(h.mask, "CPU", "CPUs"), number(h.quota), least, own)
}

// waitsInside says why there are more threads than can run.
func (h *hierarchy) waitsInside(n int) string {
	if n > h.running {
		return fmt.Sprintf("%d, of which %d run at a time and the others wait", n, h.running)
	}
	return fmt.Sprintf("%d, and all can run", n)
}

// inFlight is the level of tasks that are awaited, where there are any; variable
// is that of the environment in which berth hands their number over, or empty.
func (h *hierarchy) inFlight(name LevelName, variable string) {
	n := h.plan.InFlightEach(h.w.Processes)
	if n == 0 {
		return
	}
	setting := ""
	if variable != "" {
		setting = fmt.Sprintf("%s=%d", variable, n)
	}
	part := fmt.Sprintf("⌈%d ÷ %d processes⌉ = %d", h.w.InFlight, h.w.Processes, n)
	switch {
	case h.w.Processes == 1:
		part = fmt.Sprintf("all %d of the plan", n)
	case h.plan.Binding.Name == ByDown:
		part = fmt.Sprintf("⌊%d ÷ %d processes⌋ = %d, for what they wait for takes no more", h.w.InFlight, h.w.Processes, n)
	}
	h.add(Level{Name: name, Count: n, Per: EachProcess, Use: Waits, Setting: setting,
		Why: part + "; a semaphore of that size bounds them, and whoever comes beyond it waits"})
}

// eventLoop is the level of loops, where there are any.
func (h *hierarchy) eventLoop(setting, why string) {
	if h.w.EventLoops == 0 {
		return
	}
	n := max(1, h.w.EventLoops/h.w.Processes)
	h.add(Level{Name: EventLoop, Count: n, Per: EachProcess, Use: Works, Setting: setting,
		Why: fmt.Sprintf("%s in %s; %s", plural(h.w.EventLoops, "loop", "loops"), plural(h.w.Processes, "process", "processes"), why)})
}

// openMP is for programs whose threads are OpenMP's, MPI ranks among them, and
// for native ones, which may have theirs from it. The teams are those of
// OMP_NUM_THREADS (OpenMP 5.2, section 21.1.2); a team inside another is one
// thread unless OMP_MAX_ACTIVE_LEVELS allows more (section 21.1.4).
func (h *hierarchy) openMP(r profiles.Runtime) {
	h.eventLoop("", "what a loop calls must not start a team of its own")
	h.inFlight(TaskInFlight, "BERTH_IN_FLIGHT")
	team, per := h.each, EachProcess
	why := h.waitsInside(team)
	switch {
	case h.w.EventLoops > 0:
		team, per = 1, EachThread
		why = "the loops have the CPUs, so what they call gets one thread"
	case h.w.Inner > 1:
		why = fmt.Sprintf("%d threads ÷ %s = %d inside each", h.w.Total(), plural(h.w.Processes, "process", "processes"), h.w.Inner)
	case h.w.Processes > 1:
		why = fmt.Sprintf("the %d processes have the CPUs; by default each starts one for each CPU that it may use", h.w.Processes)
	}
	if r != profiles.OpenMP && h.w.EventLoops == 0 && h.each > 1 {
		why += "; if the program's threads are OpenMP's"
	}
	use := Works
	if per == EachProcess {
		use = h.use(team)
	}
	h.add(Level{Name: OpenMPThread, Count: team, Per: per, Use: use, Setting: fmt.Sprintf("OMP_NUM_THREADS=%d", team), Why: why})
	if r == profiles.OpenMP && h.w.EventLoops == 0 && h.each > 1 {
		h.add(Level{Name: BLASThread, Count: team, Per: EachProcess, Use: use, Setting: fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", team),
			Why: "the same threads: a call outside of parallel regions may have them all, and one inside gets one unless OMP_MAX_ACTIVE_LEVELS allows more"})
		return
	}
	h.blas("OPENBLAS_NUM_THREADS")
}

// blas is the level of libraries that start threads below the workers.
func (h *hierarchy) blas(variable string) {
	n, per := max(1, h.w.Inner), EachThread
	if h.w.Threads == 1 {
		per = EachProcess
	}
	why := fmt.Sprintf("the task's own %d threads are the library's, in each of %s", n, plural(h.w.Processes, "process", "processes"))
	if n == 1 {
		callers, cpus := h.w.Processes*h.w.Threads, h.plan.Placement.CPUs.Len()
		why = fmt.Sprintf("the workers have the CPUs, so a call gets one thread; by default it starts one for each CPU that it may use, without seats %d × %d = %d",
			callers, cpus, callers*cpus)
	}
	h.add(Level{Name: BLASThread, Count: n, Per: per, Use: Works, Setting: fmt.Sprintf("%s=%d", variable, n), Why: why})
}

// golang is for Go: the scheduler's Ps, the goroutines on them, and the workers
// that mark garbage.
func (h *hierarchy) golang() {
	own := goMaxProcs(h.mask, h.quota)
	why := fmt.Sprintf("%s; left to itself Go 1.25 and later %s", h.atATime(), h.ofQuota(", at least 2", own))
	if !math.IsInf(h.quota, 1) {
		why += fmt.Sprintf(", if that quota is its own control group's: it reads none above, and under one of those would take %d", h.mask)
	}
	h.add(Level{Name: GoProcessor, Count: h.running, Per: EachProcess, Use: Works, Setting: fmt.Sprintf("GOMAXPROCS=%d", h.running), Why: why})
	if h.w.InFlight > 0 {
		h.inFlight(Goroutine, "")
	} else {
		h.add(Level{Name: Goroutine, Count: h.each, Per: EachProcess, Use: h.use(h.each), Why: "a pool of " + h.waitsInside(h.each)})
	}
	workers, part := goMarkers(h.running)
	goal := 0.25 * float64(h.running)
	how := plural(workers, "worker", "workers")
	switch {
	case workers == 0:
		how = fmt.Sprintf("a worker for %s of a P", number(part))
	case part > 0:
		how += fmt.Sprintf(" all the time and another for %s of a P", number(part))
	}
	h.add(Level{Name: GoMarkWorker, Count: max(1, workers), Per: EachProcess, Use: Competes,
		Why: fmt.Sprintf("a quarter of GOMAXPROCS marks while a collection runs, 0.25 × %d = %s: %s; that leaves the program %s of %d, and less if it allocates faster than they mark; GOGC and GOMEMLIMIT say how often",
			h.running, number(goal), how, number(float64(h.running)-float64(workers)-part), h.running)})
}

// goMaxProcs is what Go 1.25 and later take for GOMAXPROCS by themselves: the
// CPUs of the mask, or the quota of their control group if that is less, rounded
// up and at least 2 (Go 1.26, runtime/cgroup_linux.go).
func goMaxProcs(cpus int, quota float64) int {
	if math.IsInf(quota, 1) {
		return cpus
	}
	return min(cpus, max(2, ceil(quota)))
}

// goMarkers is how many Ps of Go do nothing but mark while a collection runs,
// and the part of one more, in Ps: a quarter in all. Where whole ones are more
// than 30 % off that, a fractional worker makes up for it (Go 1.26,
// runtime/mgcpacer.go, startCycle).
func goMarkers(procs int) (workers int, part float64) {
	goal := 0.25 * float64(procs)
	workers = int(goal + 0.5)
	if off := float64(workers)/goal - 1; math.Abs(off) <= 0.3 {
		return workers, 0
	}
	if float64(workers) > goal {
		workers--
	}
	return workers, goal - float64(workers)
}

// jvm is for HotSpot: what it counts, and the threads that it derives from that.
func (h *hierarchy) jvm() {
	n := h.running
	why := fmt.Sprintf("%s; left to itself HotSpot %s", h.atATime(), h.ofQuota("", jvmProcessors(h.mask, h.quota)))
	if !math.IsInf(h.quota, 1) {
		why += "; JDK 24 and later read the quotas of the control groups above their own too, earlier ones only their own"
	}
	h.add(Level{Name: JVMProcessor, Count: n, Per: EachProcess, Use: Works, Setting: fmt.Sprintf("-XX:ActiveProcessorCount=%d", n), Why: why})
	if h.w.EventLoops > 0 {
		h.add(Level{Name: CarrierThread, Count: n, Per: EachProcess, Use: Works, Setting: fmt.Sprintf("-Djdk.virtualThreadScheduler.parallelism=%d", n),
			Why: "as many as processors, the default: the waits unmount a virtual thread from its carrier"})
		h.inFlight(VirtualThread, "")
	} else {
		h.add(Level{Name: PlatformThread, Count: h.each, Per: EachProcess, Use: h.use(h.each), Why: "the program's pool: " + h.waitsInside(h.each)})
	}
	pool := max(1, n-1)
	h.add(Level{Name: CommonPool, Count: pool, Per: EachProcess, Use: Competes, Setting: fmt.Sprintf("-Djava.util.concurrent.ForkJoinPool.common.parallelism=%d", pool),
		Why: "one less than processors, at least 1, the default: the thread that waits for the pool works too"})
	gc := hotSpotGC(n)
	why = fmt.Sprintf("as many as processors, up to 8: %d", gc)
	if n > 8 {
		why = fmt.Sprintf("8, and five for every eight processors above: 8 + ⌊(%d − 8) × 5 ÷ 8⌋ = %d", n, gc)
	}
	why += "; the tasks stand still meanwhile"
	if n == 1 {
		why += "; with one processor HotSpot takes the serial collector unless told otherwise, and this says nothing"
	}
	h.add(Level{Name: GCThread, Count: gc, Per: EachProcess, Use: Competes, Setting: fmt.Sprintf("-XX:ParallelGCThreads=%d", gc), Why: why})
	mark := hotSpotMarkers(gc)
	h.add(Level{Name: ConcGCThread, Count: mark, Per: EachProcess, Use: Competes, Setting: fmt.Sprintf("-XX:ConcGCThreads=%d", mark),
		Why: fmt.Sprintf("G1's rule, ⌊(%d + 2) ÷ 4⌋, at least 1, is %d: they mark while the tasks run", gc, mark)})
	compilers := hotSpotCompilers(n)
	h.add(Level{Name: CompilerThread, Count: compilers, Per: EachProcess, Use: Competes, Setting: fmt.Sprintf("-XX:CICompilerCount=%d", compilers),
		Why: fmt.Sprintf("⌊3 ÷ 2 × ⌊log₂ n⌋ × ⌊log₂ ⌊log₂ n⌋⌋⌋ for n = %d, at least one of each compiler, is %d: busy until the program is warm", n, compilers)})
}

// jvmProcessors is what the JVM takes for its processors by itself: the CPUs of
// the mask, or the quota if that is less, rounded up (OpenJDK,
// cgroupSubsystem_linux.cpp, active_processor_count).
func jvmProcessors(cpus int, quota float64) int {
	if math.IsInf(quota, 1) {
		return cpus
	}
	return max(1, min(cpus, ceil(quota)))
}

// hotSpotGC is HotSpot's number of parallel collector threads: all processors up
// to 8, and five of every eight above (OpenJDK, workerPolicy.cpp).
func hotSpotGC(n int) int {
	if n <= 8 {
		return n
	}
	return 8 + (n-8)*5/8
}

// hotSpotMarkers is G1's number of threads that mark beside the program (OpenJDK,
// g1ConcurrentMark.cpp).
func hotSpotMarkers(gc int) int { return max(1, (gc+2)/4) }

// hotSpotCompilers is HotSpot's number for tiered compilation: 3/2 of the binary
// logarithm times the logarithm of that, both rounded down; at least one of each
// compiler (OpenJDK, compilationPolicy.cpp).
func hotSpotCompilers(n int) int {
	log := floorLog2(n)
	return max(2, log*floorLog2(log)*3/2)
}

const (
	uvDefault = 4    // threads of libuv's pool (docs.libuv.org, "Thread pool work scheduling")
	uvMost    = 1024 // that it takes
	v8Default = 4    // Node's --v8-pool-size (nodejs.org, "Command-line API")
)

// node is for Node.js: the loop, or worker threads where the work blocks, and
// the two pools below.
func (h *hierarchy) node() {
	h.eventLoop("", "cluster.fork() starts a process for each")
	h.inFlight(TaskInFlight, "BERTH_IN_FLIGHT")
	if h.w.EventLoops == 0 {
		h.add(Level{Name: NodeThread, Count: h.each, Per: EachProcess, Use: h.use(h.each),
			Why: "each worker blocks, so each needs a loop of its own, of worker_threads: " + h.waitsInside(h.each)})
	}
	pool := min(uvMost, max(uvDefault, h.w.Threads))
	why := fmt.Sprintf("libuv's default, %d: for files, names, zlib and crypto; sockets need none", uvDefault)
	if pool > uvDefault {
		why = fmt.Sprintf("one for each of the %d tasks that may block in it at a time, libuv takes at most %d", h.w.Threads, uvMost)
	}
	h.add(Level{Name: UVThread, Count: pool, Per: EachProcess, Use: Waits, Setting: fmt.Sprintf("UV_THREADPOOL_SIZE=%d", pool), Why: why})
	h.add(Level{Name: V8Thread, Count: v8Default, Per: EachProcess, Use: Competes, Setting: fmt.Sprintf("--v8-pool-size=%d", v8Default),
		Why: "Node's default: they collect garbage and compile beside the loop"})
}

// python is for CPython behind gunicorn, uvicorn or the like.
func (h *hierarchy) python(r profiles.Runtime) {
	workers := h.w.Processes
	h.eventLoop(fmt.Sprintf("uvicorn --workers=%d", max(workers, h.w.EventLoops)),
		"gunicorn's --workers with --worker-class=uvicorn.workers.UvicornWorker is the same")
	h.inFlight(TaskInFlight, "BERTH_IN_FLIGHT")
	if h.w.EventLoops == 0 {
		setting := fmt.Sprintf("gunicorn --workers=%d", workers)
		why := "one, so the GIL has no second thread to keep waiting; uvicorn's --workers, multiprocessing's pool and a data loader's num_workers are the same number"
		switch {
		case h.w.Threads == 1 && r == profiles.PythonFreeThreaded:
			why = "one: the processes are the workers"
		case h.w.Threads > 1 && r == profiles.PythonFreeThreaded:
			why = "without the GIL all run Python at a time: " + h.waitsInside(h.w.Threads)
		case h.w.Threads > 1:
			why = fmt.Sprintf("one of the %d holds the GIL, the others wait or run native code that has released it", h.w.Threads)
		}
		if h.w.Threads > 1 {
			setting += fmt.Sprintf(" --threads=%d", h.w.Threads)
		}
		h.add(Level{Name: PythonThread, Count: h.w.Threads, Per: EachProcess, Use: h.use(h.w.Threads), Setting: setting, Why: why})
	}
	h.blas("OMP_NUM_THREADS")
}
