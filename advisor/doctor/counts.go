//go:build linux

package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"berth/profiles"
	"berth/profiles/program"
)

// Allowances are how many workers there may be for each CPU of the budget before
// it is told.
const (
	// nginxPerCPU: one for each is what nginx's own "auto" means; a second one
	// covers a worker that waits for a disk.
	nginxPerCPU = 2
	// gunicornPerCPU is the upper end of what gunicorn's documentation calls
	// usual, two to four workers for each CPU; threads count as workers here.
	gunicornPerCPU = 4
	// leastGoProcs: Go itself never chooses fewer for a quota.
	leastGoProcs = 2
)

// numeric is a setting's value as a number, the largest where there are
// several of that name.
func numeric(p *program.Program, names ...string) (n int, found program.Setting) {
	for _, s := range p.Settings {
		if !slices.Contains(names, s.Name) {
			continue
		}
		if v, err := strconv.Atoi(strings.TrimSpace(s.Value)); err == nil && v > n && v < 1<<20 {
			n, found = v, s
		}
	}
	return n, found
}

// counts: how many workers a program was set to have, against its budget.
func counts(r *report) {
	demands := r.treeDemands()
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		if p.Program == nil || !r.judged(p, demands[pid]) {
			continue
		}
		budget, why := r.budget(p)
		room := whole(budget)
		tell := func(code string, n, most int, from program.Setting, what, fix string) {
			if n <= most {
				return
			}
			s := subject(p)
			if p.Group != nil && p.Group.QuotaCPUs > 0 && p.Group.QuotaCPUs == budget {
				s.Path = p.Group.QuotaPath
			}
			evidence := []string{fmt.Sprintf("%s is %s (%s)", from.Name, from.Value, from.Source), why}
			r.add(code, s, evidence, fix, "%s has %s on a budget of %s.", name(p), fmt.Sprintf(what, n), cpus(budget))
		}
		// The environment goes on to programs of other kinds.
		switch p.Program.Runtime {
		case profiles.Go:
			n, from := numeric(p.Program, "GOMAXPROCS")
			tell(GoProcs, n, max(room, leastGoProcs), from, "GOMAXPROCS at %d", fmt.Sprintf("GOMAXPROCS=%d", room))
		case profiles.Java:
			n, from := numeric(p.Program, "-XX:ActiveProcessorCount")
			tell(JVMThreads, n, room, from, "-XX:ActiveProcessorCount at %d", fmt.Sprintf("JDK_JAVA_OPTIONS=-XX:ActiveProcessorCount=%d", room))
			n, from = numeric(p.Program, "-XX:ParallelGCThreads")
			tell(JVMThreads, n, room, from, "%d threads for the collection of garbage", fmt.Sprintf("JDK_JAVA_OPTIONS=-XX:ParallelGCThreads=%d", room))
		}
		if r.master(p) != p {
			continue // a worker has its master's command line
		}
		switch p.Program.Server {
		case "nginx":
			n, from := numeric(p.Program, "worker_processes")
			tell(ServerWorkers, n, nginxPerCPU*room, from, "%d workers", fmt.Sprintf("worker_processes %d;", room))
		case "gunicorn":
			workers, from := numeric(p.Program, "--workers", "WEB_CONCURRENCY")
			threads, _ := numeric(p.Program, "--threads")
			what, fix := "%d workers", fmt.Sprintf("gunicorn --workers %d", 2*room+1)
			if threads > 1 {
				what = fmt.Sprintf("%%d workers (%d processes × %d threads)", workers, threads)
				fix = fmt.Sprintf("gunicorn --workers %d --threads %d", room, gunicornPerCPU)
			}
			tell(ServerWorkers, workers*max(threads, 1), gunicornPerCPU*room, from, what, fix)
		}
	}
}

// master is the process that started a server's worker, itself of that server;
// the process where there is none such.
func (r *report) master(p *Process) *Process {
	if up := r.Processes[p.Parent]; up != nil && p.Program != nil && up.Program != nil && p.Program.Server != "" && up.Program.Server == p.Program.Server {
		return up
	}
	return p
}

// mathNames are the environment variables that set the threads of OpenMP and of
// libraries for linear algebra.
var mathNames = []string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS"}

// mathThreads: threads of numeric libraries, times the processes that have them.
// A program counts if its runtime is OpenMP or the environment sets such a
// library's threads; its threads are those that had work, since a library can
// be loaded and unused.
func mathThreads(r *report) {
	type team struct {
		processes []*Process
		threads   int
		set       []string
	}
	working := map[int]int{}
	for i := range r.Threads {
		if t := &r.Threads[i]; t.demand() >= Working && !t.background() {
			working[t.PID]++
		}
	}
	teams := map[string]*team{}
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		if p.Program == nil || working[pid] == 0 {
			continue
		}
		_, set := numeric(p.Program, mathNames...)
		switch p.Program.Runtime {
		case profiles.OpenMP:
		case profiles.Go, profiles.Java, profiles.Node:
			continue // its threads are others'
		default:
			if set.Name == "" {
				continue
			}
		}
		key := p.Exe
		if key == "" {
			key = p.Name
		}
		if p.Group != nil {
			key += " " + p.Group.QuotaPath
		}
		key += " " + r.allowed(p).String()
		t := teams[key]
		if t == nil {
			t = &team{}
			teams[key] = t
		}
		t.processes = append(t.processes, p)
		t.threads += working[pid]
		line := fmt.Sprintf("%s: %s with work", name(p), count(working[pid], "thread", "threads"))
		if set.Name != "" {
			line += fmt.Sprintf(", %s=%s (%s)", set.Name, set.Value, set.Source)
		} else {
			line += ", OMP_NUM_THREADS is not set: one for each CPU that it may use"
		}
		t.set = append(t.set, line)
	}
	for _, key := range slices.Sorted(maps.Keys(teams)) {
		t := teams[key]
		p := t.processes[0]
		budget, why := r.budget(p)
		chosen := slices.ContainsFunc(t.processes, func(p *Process) bool { return p.Chosen })
		// A process of one thread is no team.
		if !chosen || t.threads <= whole(budget) || t.threads == len(t.processes) {
			continue
		}
		each := max(1, whole(budget)/len(t.processes))
		r.add(MathThreads, subject(p), append([]string{why}, t.set...), fmt.Sprintf("OMP_NUM_THREADS=%d OPENBLAS_NUM_THREADS=%[1]d MKL_NUM_THREADS=%[1]d", each),
			"%s of %s have %d busy threads in all on a budget of %s.", count(len(t.processes), "process", "processes"), printable(p.Name), t.threads, cpus(budget))
	}
}
