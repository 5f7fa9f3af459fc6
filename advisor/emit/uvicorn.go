package emit

import (
	"strconv"

	"berth/advisor"
)

// uvicorn is a Python program that runs the server of that name: its --workers
// have no seats.
type uvicorn struct{}

func (uvicorn) Name() string { return "uvicorn" }
func (uvicorn) About() string {
	return "Python program that runs uvicorn: workers that share a socket, each on its seat"
}

func (uvicorn) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.pythonTitle(p)
	s.comment("python3 FILE MODULE:APPLICATION [HOST [PORT]]")
	s.notThreads(p, "uvicorn")
	at, n := singles(p)
	s.cannotBindMemory(at)
	flight := p.InFlightEach(n)
	if flight > 0 {
		s.cannot("%d tasks in flight in each worker: bound them in the application with a semaphore of BERTH_IN_FLIGHT (limit_concurrency refuses instead of queueing)", flight)
	}
	s.program("uvicorn_workers.py", p, map[string]string{"PROCESSES": strconv.Itoa(n), "SEATS": seatList(at), "IN_FLIGHT": strconv.Itoa(flight)})
	return s.settings()
}
