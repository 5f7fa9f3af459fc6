package emit

import (
	"embed"
	"fmt"
	"strconv"
	"strings"

	"berth/advisor"
)

// The programs that multiprocessing, threadpool and asyncio fill in: @NAME@ is a
// number or a list of the plan.
//
//go:embed python
var programs embed.FS

// program prints a Python program with the plan's figures in place.
func (s *sheet) program(name string, figures map[string]string) {
	text, err := programs.ReadFile("python/" + name)
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var swap []string
	for key, value := range figures {
		swap = append(swap, "@"+key+"@", value)
	}
	s.lines(strings.NewReplacer(swap...).Replace(string(text)))
}

// pythonSeats prints the CPUs of each process.
func (s *sheet) pythonSeats(at []place) {
	s.lines("# The CPUs of each worker.\n")
	s.line("SEATS = %s", seatList(at))
}

// seatList is a list of sets of CPUs, one for each process; empty where they
// are not pinned.
func seatList(at []place) string {
	var sets []string
	for _, a := range at {
		sets = append(sets, "{"+numbers(a.cpus, ", ")+"}")
	}
	return pythonList(sets)
}

// pythonList folds a list at 100 columns.
func pythonList(items []string) string {
	var b strings.Builder
	b.WriteString("[")
	width := 0
	for i, item := range items {
		if i > 0 {
			b.WriteString(",")
		}
		switch {
		case width+len(item) > 90:
			b.WriteString("\n    ")
			width = 0
		case i > 0:
			b.WriteString(" ")
		}
		b.WriteString(item)
		width += len(item) + 2
	}
	b.WriteString("]")
	return b.String()
}

// pythonQuote writes a string literal.
func pythonQuote(s string) string { return strconv.QuoteToASCII(s) }

// multiprocessing is a Python program of several processes.
type multiprocessing struct{}

func (multiprocessing) Name() string  { return "multiprocessing" }
func (multiprocessing) About() string { return "Python program that runs: processes, each on its seat" }

func (multiprocessing) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.notAwaited(p)
	at := places(p)
	if hasThreadSeats(at) {
		s.cannot("a seat for each thread: each process has the CPUs of all its threads")
	}
	figures := map[string]string{"PROCESSES": strconv.Itoa(p.Workers.Processes), "THREADS": strconv.Itoa(p.Workers.Threads), "SEATS": seatList(at)}
	switch {
	case p.Workers.Inner > 1:
		s.cannot("%d threads inside each task: the libraries that start them read OMP_NUM_THREADS", p.Workers.Inner)
		s.program("processes.py", figures)
	case p.Workers.Threads > 1 && p.Workers.EventLoops == 0:
		s.program("processes_of_threads.py", figures)
	default:
		s.program("processes.py", figures)
	}
	return s.settings()
}

// threadpool is a Python program of one process with threads.
type threadpool struct{}

func (threadpool) Name() string { return "threadpool" }
func (threadpool) About() string {
	return "Python program that runs: a ThreadPoolExecutor, each thread on its seat"
}

func (threadpool) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.notPython(p)
	s.notAwaited(p)
	if p.Workers.Processes > 1 {
		s.cannot("%d processes: this is one of them, and the others are started beside it; --emit multiprocessing starts all", p.Workers.Processes)
	}
	var sets []string
	for _, a := range places(p)[:min(1, len(places(p)))] {
		if a.threads == nil {
			sets = append(sets, "{"+numbers(a.cpus, ", ")+"}")
		}
		for _, t := range a.threads {
			sets = append(sets, "{"+numbers(t, ", ")+"}")
		}
	}
	s.program("threads.py", map[string]string{"THREADS": strconv.Itoa(inner(p)), "SEATS": pythonList(sets)})
	return s.settings()
}

// notAwaited says that blocking workers take the place of awaited tasks.
func (s *sheet) notAwaited(p *advisor.Plan) {
	if p.Workers.EventLoops > 0 {
		s.cannot("%d tasks in flight: workers that block hold one each; --emit asyncio awaits them", p.Workers.InFlight)
	}
}

// asyncio is a Python program of event loops.
type asyncio struct{}

func (asyncio) Name() string { return "asyncio" }
func (asyncio) About() string {
	return "Python program that runs: event loops, each a process, with a bound on tasks in flight"
}

func (asyncio) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	loops, flight := p.Workers.EventLoops, p.Workers.InFlight
	if loops == 0 {
		loops, flight = p.Workers.Processes, p.Workers.Processes*inner(p)
		s.cannot("the model %s: the plan is for waits that block, and here each must be awaited", p.Workers.Model)
	}
	at := places(p)
	if p.Workers.Processes != loops && at != nil {
		s.cannot("the seats of %d loops in one process: Python runs one loop at a time in a process, so each loop is one here", loops)
		at = nil
	}
	s.program("loops.py", map[string]string{"PROCESSES": strconv.Itoa(loops), "SEATS": seatList(at),
		"IN_FLIGHT": fmt.Sprint(max(1, (flight+loops-1)/max(loops, 1)))})
	return s.settings()
}
