package emit

import (
	"strconv"

	"berth/advisor"
)

// gunicorn is a configuration file of the Python web server
// (docs.gunicorn.org, settings and server hooks).
type gunicorn struct{}

func (gunicorn) Name() string { return "gunicorn" }
func (gunicorn) About() string {
	return "gunicorn.conf.py: workers, threads, worker class, and a hook that seats them"
}

func (gunicorn) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.pythonTitle(p)
	s.notPython(p)
	workers, at := p.Workers.Processes, places(p)
	if p.Workers.EventLoops > 0 {
		workers, at = p.Workers.EventLoops, loopPlaces(p)
	}
	s.cannotSeatThreads(at)
	s.cannotBindMemory(at)
	flight := p.InFlightEach(workers)
	if flight > 0 {
		s.cannot("%d tasks in flight in each worker: bound them in the application with a semaphore of BERTH_IN_FLIGHT (uvicorn's limit_concurrency refuses instead of queueing)", flight)
		s.comment("With uvicorn 0.30 or later the worker class is uvicorn_worker.UvicornWorker, of the package uvicorn-worker.")
	}
	if at != nil {
		s.lines("import os\n\n")
	}
	s.line("workers = %d", workers)
	environment := []string{pythonQuote("OMP_NUM_THREADS=" + strconv.Itoa(below(p)))}
	switch {
	case flight > 0:
		s.line(`worker_class = "uvicorn.workers.UvicornWorker"`)
		environment = append(environment, pythonQuote("BERTH_IN_FLIGHT="+strconv.Itoa(flight)))
	case p.Workers.Threads > 1:
		s.line(`worker_class = "gthread"`)
		s.line("threads = %d", p.Workers.Threads)
	default:
		s.line(`worker_class = "sync"`)
	}
	s.line("raw_env = %s", pythonList(environment))
	if at == nil {
		return s.settings()
	}
	s.lines("# The CPUs of each worker.\n")
	s.line("SEATS = %s", seatList(at))
	s.lines(`

def pre_fork(server, worker):
    # gunicorn replaces workers, and on a reload has the old beside the new: each
    # takes the seat that the fewest others have.
    taken = [getattr(other, "seat", None) for other in server.WORKERS.values()]
    worker.seat = min(range(len(SEATS)), key=taken.count)


def post_fork(server, worker):
    os.sched_setaffinity(0, SEATS[worker.seat])
`)
	return s.settings()
}
