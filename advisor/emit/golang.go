package emit

import (
	"strconv"

	"berth/advisor"
	"berth/profiles"
)

// golang is a Go program with a pool of goroutines.
type golang struct{}

func (golang) Name() string { return "go" }
func (golang) About() string {
	return "Go program that runs: GOMAXPROCS and a bounded pool of goroutines"
}

func (golang) Emit(p *advisor.Plan) Settings {
	s := &sheet{mark: "//"}
	s.title(p)
	s.comment("GOMAXPROCS in the environment does the same as the first line of main.")
	if p.Workers.Processes > 1 {
		s.cannot("%d processes and their seats: this is one of them; --emit taskset starts all", p.Workers.Processes)
	} else {
		s.cannotSeat(p, "threads are the runtime's; --emit taskset starts the process on them")
	}
	s.cannotBindMemory(places(p))
	s.cannotLimit(p, "GOMAXPROCS is whole")
	inside := p.Inside(profiles.Go)
	n, goroutines := inside.Count(advisor.GoProcessor), inside.Count(advisor.Goroutine)
	s.lines("\n")
	s.program("pool.go.txt", p, map[string]string{"MAXPROCS": strconv.Itoa(n), "GOROUTINES": strconv.Itoa(goroutines)})
	return s.settings()
}
