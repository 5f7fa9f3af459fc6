//go:build lab

package lab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/probe"
)

// Every program is Python, for several versions of it where they are installed.
func TestPythonCompiles(t *testing.T) {
	need(t, python)
	dir := t.TempDir()
	pythons, _ := filepath.Glob("/usr/bin/python3.[0-9]*[0-9]")
	for _, interpreter := range append(pythons, python) {
		for _, target := range []string{"gunicorn", "multiprocessing", "threadpool", "asyncio"} {
			var files []string
			for _, f := range golden(t, target) {
				files = append(files, write(t, dir, target+"-"+f.Name+".py", string(f.Data)))
			}
			if err := quiet(t, command(t, dir, append([]string{interpreter, "-W", "error", "-m", "py_compile"}, files...)...)); err != nil {
				t.Error(err)
			}
		}
		for _, bad := range []string{"x = {0\n", "# transcoding: 2 processes\n"} {
			if quiet(t, command(t, dir, interpreter, "-m", "py_compile", write(t, dir, "bad.py", bad))) == nil {
				t.Errorf("%q is taken", bad)
			}
		}
	}
}

// The programs run as they are, and every result comes once.
func TestPythonRuns(t *testing.T) {
	twoCPUs(t)
	need(t, python)
	dir := t.TempDir()
	var want []string
	for n := range 100 {
		want = append(want, fmt.Sprint(n*n))
	}
	virtual := func(m *probe.Machine) { m.Host.Hypervisor = "kvm" }
	for name, profile := range map[string]string{
		"processes": "runtime: python\n", "threads": "runtime: python-free-threaded\n", "nested": "runtime: python\nload: {nested: true, tasks: 1}\n",
		"processes of threads": "runtime: python\nwork: {cpu_ms: 10, native_ms: 5, wait_ms: 20}\n",
		"loops":                "runtime: python\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n", "loops of Go": "runtime: go\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n",
	} {
		for _, target := range []string{"multiprocessing", "threadpool", "asyncio"} {
			for where, text := range map[string]string{"pinned": emitted(t, target, planFor(t, pair, profile)), "free": emitted(t, target, planFor(t, pair, profile, virtual))} {
				file := write(t, dir, "plan.py", text)
				same(t, fmt.Sprintf("%s: %s, %s", target, name, where), output(t, command(t, dir, python, "-W", "error", file)), want...)
			}
		}
	}
}

// observed runs a program's main on a task that tells who runs it and where; it
// returns a line for each thread: its CPUs, OMP_NUM_THREADS, and the most tasks
// that its process had in hand at a time.
func observed(t *testing.T, text string, async bool) string {
	t.Helper()
	need(t, python)
	dir := t.TempDir()
	write(t, dir, "plan.py", text)
	def, wait := "def", "time.sleep(0.01)"
	if async {
		def, wait = "async def", "await asyncio.sleep(0.01)"
	}
	program := write(t, dir, "observe.py", fmt.Sprintf(`
import asyncio, os, threading, time
import plan

now = 0
lock = threading.Lock()

%s work(item):
    global now
    with lock:
        now += 1
        most = now
    %s
    with lock:
        now -= 1
    me = os.getpid(), threading.get_native_id()
    return me, sorted(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"], most

plan.work = work
if __name__ == "__main__":
    seen, busiest = {}, {}
    n = 0
    for r in plan.main(range(100)):
        if len(r) == 3:  # with the item and the error
            assert r[2] is None, r
            r = r[1]
        n += 1
        who, cpus, below, most = r
        seen[who] = cpus, below
        busiest[who[0]] = max(most, busiest.get(who[0], 0))
    assert n == 100, n
    for who, (cpus, below) in seen.items():
        print("cpus", *cpus, "below", below, "most", busiest[who[0]])
`, def, wait))
	return output(t, command(t, dir, python, "-W", "error", program))
}

func TestPythonSeats(t *testing.T) {
	twoCPUs(t)
	const (
		processes = "runtime: python\n"
		threads   = "runtime: python-free-threaded\n"
		both      = "runtime: python\nwork: {cpu_ms: 10, native_ms: 8}\nlimits: {target_utilisation: 0.7}\n"
		crowd     = "runtime: python\nwork: {cpu_ms: 10, native_ms: 5, wait_ms: 10}\n"
		loops     = "runtime: python\nwork: {cpu_ms: 1, wait_ms: 4, blocking: false}\n"
		nested    = "runtime: python\nload: {nested: true, tasks: 1}\n"
	)
	down := loops + "limits: {downstream_concurrency: 5}\n"
	for _, c := range []struct {
		target, profile string
		want            []string
	}{
		{"multiprocessing", processes, []string{"cpus 0 below 1 most 1", "cpus 1 below 1 most 1"}},
		{"multiprocessing", nested, []string{"cpus 0 1 below 2 most 1"}},
		{"multiprocessing", both, []string{"cpus 0 1 below 1 most 2", "cpus 0 1 below 1 most 2"}}, // a process of two threads
		{"multiprocessing", crowd, slices.Repeat([]string{"cpus 0 1 below 1 most 8"}, 8)},
		{"threadpool", threads, []string{"cpus 0 below 1 most 2", "cpus 1 below 1 most 2"}},
		{"asyncio", loops, []string{"cpus 0 below 1 most 9", "cpus 1 below 1 most 9"}},
		{"asyncio", down, []string{"cpus 0 below 1 most 3", "cpus 1 below 1 most 2"}},
		{"asyncio", processes, []string{"cpus 0 below 1 most 1", "cpus 1 below 1 most 1"}},
	} {
		text := emitted(t, c.target, planFor(t, pair, c.profile))
		got := observed(t, text, c.target == "asyncio")
		same(t, c.target+": "+c.profile, got, c.want...)
		if t.Failed() {
			t.Fatal(text)
		}
	}
	// Other seats are told apart from the plan's, and none that cannot be had is passed over.
	text := emitted(t, "multiprocessing", planFor(t, pair, processes))
	same(t, "both on CPU 1", observed(t, replaced(t, text, `\{0\}`, "{1}"), false), "cpus 1 below 1 most 1", "cpus 1 below 1 most 1")
	for _, c := range [][2]string{{"multiprocessing", processes}, {"multiprocessing", both}, {"asyncio", loops}, {"threadpool", threads}} {
		file := write(t, t.TempDir(), "far.py", replaced(t, emitted(t, c[0], planFor(t, pair, c[1])), `1\}`, "4095}"))
		if out, err := command(t, "/", python, file).CombinedOutput(); err == nil || !strings.Contains(string(out), "CPUs [4095] of the plan are not allowed here") {
			t.Errorf("%s without its seat: %v\n%s", c[0], err, out)
		}
	}
}

// A worker that dies takes no result with it unnoticed, nor does a result that
// cannot be sent.
func TestPythonTellsOfFailures(t *testing.T) {
	need(t, python)
	dir := t.TempDir()
	text := emitted(t, "multiprocessing", planFor(t, pair, "runtime: python\nwork: {cpu_ms: 10, native_ms: 5, wait_ms: 20}\n"))
	if !strings.Contains(text, "threading") {
		t.Fatalf("these are not processes of threads:\n%s", text)
	}
	const body = "    return item \\* item"
	none := write(t, dir, "none.py", replaced(t, replaced(t, text, body, "    return [item, (1 / 0 if item == 2 else lambda: 0) if item in (2, 3) else 1]"), "range\\(100\\)", "[None, 2, 3]"))
	same(t, "results and errors", output(t, command(t, dir, python, none)), "[None, 1]", "ZeroDivisionError('division by zero')",
		`AttributeError("Can't pickle local object 'work.<locals>.<lambda>'")`)
	killed := write(t, dir, "killed.py", replaced(t, text, body, "    os.kill(os.getpid(), 9) if item == 50 else None; return item"))
	out, err := command(t, dir, python, killed).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "workers died") {
		t.Errorf("%v\n%s", err, out)
	}
}
