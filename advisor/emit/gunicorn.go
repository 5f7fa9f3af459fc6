package emit

import (
	"berth/advisor"
	"berth/profiles"
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
	s.title(p)
	s.notPython(p)
	w := p.Workers
	s.line("workers = %d", w.Processes)
	switch {
	case w.EventLoops > 0:
		s.line(`worker_class = "uvicorn.workers.UvicornWorker"`)
		s.cannot("%d tasks in flight in each worker: bound them in the application with a semaphore (uvicorn's limit_concurrency refuses instead of queueing)", perProcess(w.InFlight, p))
	case inner(p) > 1:
		s.line(`worker_class = "gthread"`)
		s.line("threads = %d", inner(p))
	default:
		s.line(`worker_class = "sync"`)
	}
	var set []string
	for _, v := range runtimeCounts(p) {
		set = append(set, pythonQuote(v.name+"="+v.value))
	}
	if set != nil {
		s.line("raw_env = %s", pythonList(set))
	}
	at := places(p)
	if at == nil {
		return s.settings()
	}
	if hasThreadSeats(at) {
		s.cannot("a seat for each thread: each worker has the CPUs of all its threads")
	}
	s.lines(`
import os

`)
	s.pythonSeats(at)
	s.lines(`

def pre_fork(server, worker):
    # gunicorn replaces workers: a new one takes the seat that is free.
    taken = {other.seat for other in server.WORKERS.values()}
    free = [seat for seat in range(len(SEATS)) if seat not in taken]
    worker.seat = free[0] if free else None


def post_fork(server, worker):
    if worker.seat is not None:
        os.sched_setaffinity(0, SEATS[worker.seat])
`)
	return s.settings()
}

// notPython warns of counts that were made for another runtime.
func (s *sheet) notPython(p *advisor.Plan) {
	if p.Runtime != profiles.Python && p.Runtime != profiles.PythonFreeThreaded {
		s.cannot("the GIL: the profile's runtime is %s, so the plan lets threads of a process run Python in parallel", p.Runtime)
	}
}
