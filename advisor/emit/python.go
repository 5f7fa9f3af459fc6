package emit

import (
	"embed"
	"fmt"
	"strconv"
	"strings"

	"berth/advisor"
	"berth/probe/cpuset"
	"berth/profiles"
)

// The programs that targets fill in: @NAME@ is a number or a list of the plan.
//
//go:embed program
var programs embed.FS

// program prints a program with the plan's figures in place.
func (s *sheet) program(name string, p *advisor.Plan, figures map[string]string) {
	text, err := programs.ReadFile("program/" + name)
	if err != nil {
		panic(err) // the folder is part of the program
	}
	swap := []string{"@BELOW@", strconv.Itoa(below(p))}
	for key, value := range figures {
		swap = append(swap, "@"+key+"@", value)
	}
	s.lines(strings.NewReplacer(swap...).Replace(string(text)))
}

// pythonTitle is a title that cannot be taken for a declaration of the file's
// encoding, as "# transcoding: 2 processes" would be: the first one counts
// (PEP 263).
func (s *sheet) pythonTitle(p *advisor.Plan) {
	s.lines("# coding: utf-8\n")
	s.title(p)
}

// notPython warns of threads that were counted for another runtime. Event loops
// are processes here.
func (s *sheet) notPython(p *advisor.Plan) {
	if p.Workers.Threads > 1 && p.Workers.EventLoops == 0 && p.Runtime != profiles.Python && p.Runtime != profiles.PythonFreeThreaded {
		s.cannot("the GIL: the profile's runtime is %s, so the plan lets threads of a process run Python in parallel", p.Runtime)
	}
}

// notAwaited says that blocking workers take the place of awaited tasks.
func (s *sheet) notAwaited(p *advisor.Plan) {
	if p.Workers.EventLoops > 0 {
		s.cannot("%d tasks in flight: workers that block hold one each; --emit asyncio awaits them", p.Workers.InFlight)
	}
}

// seatList is a list of sets of CPUs, one for each process; empty where they
// are not pinned.
func seatList(at []place) string {
	var sets []string
	for _, a := range at {
		sets = append(sets, pythonSet(a.cpus))
	}
	return pythonList(sets)
}

func pythonSet(cpus cpuset.Set) string { return "{" + numbers(cpus, ", ") + "}" }

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
	s.pythonTitle(p)
	s.notAwaited(p)
	processes, threads, at := p.Workers.Processes, p.Workers.Threads, places(p)
	if p.Workers.EventLoops > 0 {
		processes, threads, at = p.Workers.EventLoops, 1, loopPlaces(p)
	}
	s.cannotSeatThreads(at)
	s.cannotBindMemory(at)
	figures := map[string]string{"PROCESSES": strconv.Itoa(processes), "THREADS": strconv.Itoa(threads), "SEATS": seatList(at)}
	s.notPython(p)
	if threads > 1 {
		s.program("processes_of_threads.py", p, figures)
	} else {
		s.program("processes.py", p, figures)
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
	s.pythonTitle(p)
	s.notPython(p)
	s.notAwaited(p)
	at := places(p)
	if p.Workers.Processes > 1 {
		s.cannot("%d processes and their seats: this is one of them; --emit multiprocessing starts all", p.Workers.Processes)
		at = nil
	}
	s.cannotBindMemory(at)
	var sets []string
	for _, a := range at {
		if a.threads == nil {
			sets = append(sets, pythonSet(a.cpus))
		}
		for _, t := range a.threads {
			sets = append(sets, pythonSet(t))
		}
	}
	s.program("threads.py", p, map[string]string{"THREADS": strconv.Itoa(p.Workers.Threads), "SEATS": pythonList(sets)})
	return s.settings()
}

// asyncio is a Python program of event loops.
type asyncio struct{}

func (asyncio) Name() string { return "asyncio" }
func (asyncio) About() string {
	return "Python program that runs: event loops, each a process, with a bound on tasks in flight"
}

func (asyncio) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.pythonTitle(p)
	loops, flight, at := p.Workers.EventLoops, p.Workers.InFlight, places(p)
	if loops == 0 {
		loops, flight = p.Workers.Processes, p.Workers.Processes*p.Workers.Threads
		s.cannot("the model %s: the plan is for waits that block, and here each must be awaited", p.Workers.Model)
	} else {
		at = loopPlaces(p)
	}
	s.cannotBindMemory(at)
	s.program("loops.py", p, map[string]string{"PROCESSES": strconv.Itoa(loops), "SEATS": seatList(at), "IN_FLIGHT": fmt.Sprint(flight)})
	return s.settings()
}
