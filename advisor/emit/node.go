package emit

import (
	"strconv"

	"berth/advisor"
	"berth/profiles"
)

// node is a program for Node.js that forks the workers (nodejs.org, "Cluster").
type node struct{}

func (node) Name() string { return "node" }
func (node) About() string {
	return "Node program that runs: a cluster of workers, each on its seat, and UV_THREADPOOL_SIZE"
}

func (node) Emit(p *advisor.Plan) Settings {
	s := &sheet{mark: "//"}
	s.title(p)
	s.comment("node FILE.cjs PROGRAM.js [ARG …]: each worker loads the program.")
	at, n := singles(p)
	if p.Workers.EventLoops == 0 && p.Workers.Threads > 1 {
		// Blocking work goes to libuv's pool or to worker threads.
		at, n = places(p), p.Workers.Processes
		s.comment("Work that blocks belongs into worker threads or libuv's pool: %d of them in each process.", p.Workers.Threads)
	}
	s.cannotSeatThreads(at)
	s.cannotBindMemory(at)
	s.cannotLimit(p, "set it on the service or container")
	flight := p.InFlightEach(n)
	if flight > 0 {
		s.cannot("%d tasks in flight in each worker: bound them in the program by BERTH_IN_FLIGHT", flight)
	}
	seats := "[]"
	if at != nil {
		var lists []string
		for _, a := range at {
			lists = append(lists, strconv.Quote(a.cpus.String()))
		}
		seats = pythonList(lists)
	}
	s.program("cluster.cjs", p, map[string]string{
		"PROCESSES": strconv.Itoa(n), "SEATS": seats, "IN_FLIGHT": strconv.Itoa(flight),
		"POOL": strconv.Itoa(p.Inside(profiles.Node).Count(advisor.UVThread)),
	})
	return s.settings()
}
