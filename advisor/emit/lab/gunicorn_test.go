//go:build lab

package lab

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"berth/probe"
)

// app answers in WSGI and, for uvicorn, in ASGI.
const app = `
import os

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"fine"})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"fine"]

with open("loaded." + str(os.getpid()), "w") as f:
    print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("BERTH_IN_FLIGHT"), file=f)
`

// gunicornOf is Debian's gunicorn with a configuration, in a folder with the app.
func gunicornOf(t *testing.T, configuration string, args ...string) *exec.Cmd {
	t.Helper()
	need(t, "/usr/bin/gunicorn", python)
	dir := t.TempDir()
	write(t, dir, "app.py", app)
	write(t, dir, "gunicorn.conf.py", configuration)
	entry := "app:wsgi"
	if strings.Contains(configuration, "uvicorn.workers.") {
		if err := command(t, dir, python, "-c", "import uvicorn").Run(); err != nil {
			t.Skip("Python has no uvicorn: run advisor/emit/lab/setup")
		}
		entry = "app:asgi"
	}
	return command(t, dir, append(append([]string{python, "/usr/bin/gunicorn"}, args...), entry)...)
}

func TestGunicornChecks(t *testing.T) {
	for _, f := range golden(t, "gunicorn") {
		cmd := gunicornOf(t, string(f.Data), "--check-config")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", f.Name, err, out)
		}
	}
	for _, bad := range []string{"workers = 'x'", "threads = 'many'", "post_fork = 1", "SEATS = [{0}"} {
		if gunicornOf(t, bad+"\n", "--check-config").Run() == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// children are the processes whose parent is pid.
func children(t *testing.T, pid int) []string {
	t.Helper()
	id := strconv.Itoa(pid)
	text, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// masks are the CPUs of all threads of processes: a line for each process.
func masks(t *testing.T, pids []string) string {
	t.Helper()
	var out []string
	for _, pid := range pids {
		threads, _ := filepath.Glob("/proc/" + pid + "/task/*")
		seen := map[string]bool{}
		for _, thread := range threads {
			seen[statusOf(t, strings.TrimPrefix(thread, "/proc/"), "Cpus_allowed_list")] = true
		}
		var each []string
		for list := range seen {
			each = append(each, list)
		}
		out = append(out, sorted(each))
	}
	return strings.Join(out, "\n")
}

func TestGunicornSeatsWorkers(t *testing.T) {
	twoCPUs(t)
	for _, c := range []struct {
		name, profile, environment string
		each                       []string // of the workers, the CPUs of all threads
	}{
		{"sync", "runtime: python\n", "1 None\n", []string{"0", "1"}},
		{"gthread", "runtime: python\nwork: {cpu_ms: 10, native_ms: 5}\n", "1 None\n", []string{"0-1"}},
		{"nested", "runtime: python\nload: {ranks_per: node}\n", "2 None\n", []string{"0-1"}},
		{"uvicorn", "runtime: python\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n", "1 15\n", []string{"0", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := gunicornOf(t, emitted(t, "gunicorn", planFor(t, pair, c.profile)), "--bind=unix:socket")
			var log bytes.Buffer
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var workers []string
			// up waits for workers that have loaded the application, and none of
			// which is an old one.
			up := func(what string, old ...string) {
				t.Helper()
				eventually(t, what, func() bool {
					workers = children(t, cmd.Process.Pid)
					for _, pid := range workers {
						environment, err := os.ReadFile(filepath.Join(cmd.Dir, "loaded."+pid))
						if err != nil || slices.Contains(old, pid) {
							return false
						}
						if string(environment) != c.environment {
							t.Fatalf("the application has the environment %q, want %q", environment, c.environment)
						}
					}
					return len(workers) == len(c.each)
				})
				for range 10 { // which starts threads
					ask(t, filepath.Join(cmd.Dir, "socket"))
				}
				same(t, what, masks(t, workers), c.each...)
			}
			up("the first workers")
			for range 3 {
				killed := workers[0]
				kill(t, killed, syscall.SIGKILL)
				up("after one was killed", killed)
			}
			cmd.Process.Signal(syscall.SIGHUP)
			up("after a reload", workers...)
			cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, log.String())
			}
		})
	}
}

// ask sends a request over a Unix socket.
func ask(t *testing.T, socket string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	answer, err := client.Get("http://lab/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "fine" {
		t.Fatalf("the application says %q, %v", body, err)
	}
}

func kill(t *testing.T, pid string, signal syscall.Signal) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, signal); err != nil {
		t.Fatal(err)
	}
}

// The configuration may come to a gunicorn that runs without seats already.
func TestGunicornTakesItOnReload(t *testing.T) {
	twoCPUs(t)
	cmd := gunicornOf(t, "workers = 2\n", "--bind=unix:socket")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var old []string
	loaded := func(pid string) bool {
		_, err := os.Stat(filepath.Join(cmd.Dir, "loaded."+pid))
		return err == nil
	}
	eventually(t, "workers", func() bool {
		old = children(t, cmd.Process.Pid)
		return len(old) == 2 && loaded(old[0]) && loaded(old[1])
	})
	write(t, cmd.Dir, "gunicorn.conf.py", emitted(t, "gunicorn", planFor(t, pair, "runtime: python\n")))
	cmd.Process.Signal(syscall.SIGHUP)
	var now []string
	eventually(t, "a reload", func() bool {
		now = children(t, cmd.Process.Pid)
		return len(now) == 2 && loaded(now[0]) && loaded(now[1]) && !slices.Contains(old, now[0]) && !slices.Contains(old, now[1])
	})
	same(t, "workers", masks(t, now), "0", "1")
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
}

// A seat that cannot be had stops gunicorn, and does not go unnoticed.
func TestGunicornNeedsItsSeats(t *testing.T) {
	twoCPUs(t)
	plan := planFor(t, pair, "runtime: python\n")
	cmd := gunicornOf(t, replaced(t, emitted(t, "gunicorn", plan), `\{1\}`, "{4095}"), "--bind=unix:socket")
	if exitCode(t, cmd) == 0 {
		t.Error("a worker runs without its seat")
	}
	free := emitted(t, "gunicorn", planFor(t, pair, "runtime: python\n", func(m *probe.Machine) { m.Host.Hypervisor = "kvm" }))
	if strings.Contains(free, "setaffinity") {
		t.Errorf("no seats were planned:\n%s", free)
	}
}
