//go:build lab

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/advisor/emit/apply"
)

// applied writes a plan where the tool reads it, and returns what takes it back.
func applied(t *testing.T, target, at string, plan *advisor.Plan) (undo func()) {
	t.Helper()
	found, ok := emit.Find(target)
	if !ok {
		t.Fatalf("there is no target %s", target)
	}
	change, err := apply.Find(plan, found, at, apply.Options{})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "undo")
	if err := change.Write(name); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		u, err := apply.ReadUndo(f, name)
		if err != nil {
			t.Fatal(err)
		}
		if did, err := u.Restore(false); err != nil || !did {
			t.Fatalf("undo: %v, %v", did, err)
		}
	}
}

// The drop-in counts over the lists of a unit, and does not add to them.
func TestApplySystemd(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	file := write(t, dir, "berth-lab.service", "[Service]\nExecStart=/bin/true\nCPUAffinity=7\nNUMAPolicy=bind\nNUMAMask=5\nEnvironment=BERTH_THREADS=9 OWN=1\n")
	before := managerOf(t, dir)
	if !strings.Contains(before, "CPUAffinity: 7") {
		t.Fatalf("the unit has\n%s", before)
	}
	undo := applied(t, "systemd", file, planFor(t, pair, "runtime: go\nwork: {kind: float}\n"))
	if err := quiet(t, command(t, dir, "systemd-analyze", "verify", file)); err != nil {
		t.Error(err)
	}
	now := managerOf(t, dir)
	for _, want := range []string{"CPUAffinity: 0-1", "NUMAMask: 0", "Environment: BERTH_THREADS=2", "Environment: OWN=1", "Environment: GOMAXPROCS=2"} {
		if !strings.Contains(now+"\n", want+"\n") {
			t.Errorf("%s is not in\n%s", want, now)
		}
	}
	undo()
	same(t, "undone", managerOf(t, dir), strings.Split(before, "\n")...)
}

// Compose merges the override by itself, also where limits stand in deploy.
func TestApplyCompose(t *testing.T) {
	read := reader[composed](t, "compose")
	for _, limits := range []string{"", "    cpus: 0.5\n    mem_limit: 5m\n", "    deploy: {resources: {limits: {cpus: '0.5', memory: 5m}}}\n"} {
		dir := t.TempDir()
		write(t, dir, "compose.yaml", "name: lab\nservices:\n  web:\n    image: site\n    cpuset: '7'\n    environment: [OWN=1, BERTH_THREADS=9]\n"+limits+"  db: {image: postgres}\n")
		before := fmt.Sprintf("%+v", read(dir))
		undo := applied(t, "compose", dir+":web", planFor(t, "numa:1(memory=4GiB) core:2 pu:1", "runtime: go\nlimits: {memory_per_worker_mib: 100}\n", quotaOf(1.234)))
		r := read(dir)[0]
		s := r.Services["web"]
		if r.Error != "" || s.CPUs < 1.239 || s.CPUs > 1.241 || s.Memory < 100<<20 || s.Env["GOMAXPROCS"] != "2" || s.Env["OWN"] != "1" || s.Env["BERTH_THREADS"] == "9" {
			t.Errorf("with %q: %+v", limits, r)
		}
		if other := r.Services["db"]; other.CPUs != 0 || len(other.Env) != 0 {
			t.Errorf("another service: %+v", other)
		}
		undo()
		if now := fmt.Sprintf("%+v", read(dir)); now != before {
			t.Errorf("undone it is %s, and was %s", now, before)
		}
		undo = applied(t, "compose", dir+":web", planFor(t, pair, "model: processes\nwork: {kind: float}\n"))
		if s := read(dir)[0].Services["web"]; s.CPUSet != "0-1" || s.Env["BERTH_PROCESSES"] != "2" {
			t.Errorf("seats: %+v", s)
		}
		undo()
	}
}

func TestApplyPostgreSQL(t *testing.T) {
	program, dir := postgres(t), t.TempDir()
	file := write(t, dir, "postgresql.conf", "max_connections = 50\ninclude_dir = 'conf.d'\n")
	write(t, dir, "conf.d/10-own.conf", "max_worker_processes = 77\n")
	value := func(name string) string {
		return strings.TrimSpace(output(t, command(t, dir, program, "-C", name, "-D", dir)))
	}
	undo := applied(t, "postgresql", file, planFor(t, pair, "load: {nested: true, tasks: 1}\n"))
	if value("max_connections") == "50" || value("max_worker_processes") == "77" || value("max_parallel_workers_per_gather") != "1" {
		t.Errorf("%s connections, %s workers, %s helpers", value("max_connections"), value("max_worker_processes"), value("max_parallel_workers_per_gather"))
	}
	undo()
	if value("max_connections") != "50" || value("max_worker_processes") != "77" {
		t.Errorf("undone: %s connections", value("max_connections"))
	}
}

// HAProxy reads the folder after its main file, and the later section counts.
func TestApplyHAProxy(t *testing.T) {
	need(t, "haproxy")
	twoCPUs(t)
	dir := t.TempDir()
	main := write(t, dir, "haproxy.cfg", fmt.Sprintf("global\n    nbthread 1\ndefaults\n    mode http\n    timeout client 1s\n    timeout server 1s\n    timeout connect 1s\nfrontend f\n    bind unix@%s/socket\n    http-request return status 200\n", dir))
	more := filepath.Dir(write(t, dir, "conf.d/10-own.cfg", "global\n    maxconn 100\n"))
	run := func(want ...string) {
		t.Helper()
		output(t, command(t, dir, "haproxy", "-c", "-f", main, "-f", more))
		cmd := command(t, dir, "haproxy", "-db", "-f", main, "-f", more)
		daemon(t, cmd)
		settle(t, "HAProxy's threads", func() []string { return threads(t, cmd.Process.Pid) }, want...)
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	undo := applied(t, "haproxy", more, planFor(t, pair, "runtime: go\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n"))
	run("cpus 0", "cpus 1")
	undo()
	run("cpus " + statusOf(t, "self", "Cpus_allowed_list"))
}
