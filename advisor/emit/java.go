package emit

import (
	"berth/advisor"
	"berth/profiles"
)

// java is an argument file of the JVM, java @FILE (the java command's manual,
// "java Command-Line Argument Files").
type java struct{}

func (java) Name() string { return "java" }
func (java) About() string {
	return "java @FILE: processors, GC and compiler threads, virtual threads, of each JVM"
}

func (java) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("java @FILE -jar PROGRAM: the options of each of %d JVMs.", p.Workers.Processes)
	s.cannotSeat(p, "a JVM takes none; --emit taskset or numactl starts it on them")
	s.cannotBindMemory(places(p))
	s.cannotLimit(p, "the JVM reads that of its cgroup; the options round it up")
	if p.MemoryMiB != nil {
		s.cannot("memory of %.0f MiB: the heap (-Xmx) is a part of it, and the plan does not say which", *p.MemoryMiB)
	}
	inside := p.Inside(profiles.Java)
	n := inside.Count(advisor.JVMProcessor)
	s.line("-XX:ActiveProcessorCount=%d", n)
	s.comment("What HotSpot would choose for %d processors, written down.", n)
	s.line("-XX:ParallelGCThreads=%d", inside.Count(advisor.GCThread))
	s.line("-XX:ConcGCThreads=%d", inside.Count(advisor.ConcGCThread))
	s.line("-XX:CICompilerCount=%d", inside.Count(advisor.CompilerThread))
	s.comment("Carriers of virtual threads (Java 21 and later), and the common pool beside the thread that waits for it.")
	s.line("-Djdk.virtualThreadScheduler.parallelism=%d", n)
	s.line("-Djava.util.concurrent.ForkJoinPool.common.parallelism=%d", inside.Count(advisor.CommonPool))
	s.comment("For the program's own executor: Integer.getInteger(\"berth.threads\").")
	s.line("-Dberth.threads=%d", p.Workers.Each())
	if p.Workers.InFlight > 0 {
		s.comment("Tasks in flight: the permits of a semaphore, not the size of a pool.")
		s.line("-Dberth.inFlight=%d", p.InFlightEach(p.Workers.Processes))
	}
	return s.settings()
}
