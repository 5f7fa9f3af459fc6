//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/probe"
)

// reader builds the command of a module beside this test, which reads texts by a
// tool's own library; it returns what that says of each.
func reader[Report any](t *testing.T, module string) func(texts ...string) []Report {
	t.Helper()
	need(t, "go")
	if out, err := command(t, module, "go", "mod", "download").CombinedOutput(); err != nil {
		t.Skipf("the library for %s cannot be had: %v\n%s", module, err, out)
	}
	program := filepath.Join(t.TempDir(), module)
	output(t, command(t, module, "go", "build", "-o", program, "."))
	return func(texts ...string) []Report {
		in, err := json.Marshal(texts)
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(t, ".", program)
		cmd.Stdin = strings.NewReader(string(in))
		var out []Report
		if err := json.Unmarshal([]byte(output(t, cmd)), &out); err != nil || len(out) != len(texts) {
			t.Fatalf("%d reports of %d texts: %v", len(out), len(texts), err)
		}
		return out
	}
}

func quotaOf(cpus float64) func(*probe.Machine) {
	return func(m *probe.Machine) { m.Limits.QuotaCPUs = &cpus }
}

// composed is what the library makes of a Compose file.
type composed struct {
	Error, Name string
	Services    map[string]struct {
		CPUSet string
		CPUs   float64
		Memory int64
		Env    map[string]string
	}
}

func TestCompose(t *testing.T) {
	read := reader[composed](t, "compose")
	for _, f := range golden(t, "compose") {
		if r := read(string(f.Data))[0]; r.Error != "" || len(r.Services) == 0 {
			t.Errorf("%s: %+v", f.Name, r)
		}
	}
	const machine = "numa:1(memory=4GiB) core:2 pu:1"
	text := emitted(t, "compose", planFor(t, machine, "model: processes\nlimits: {memory_per_worker_mib: 100}\n"))
	r := read(text)[0]
	for n := range 2 {
		s := r.Services[fmt.Sprintf("worker-%d", n)]
		if s.CPUSet != fmt.Sprint(n) || s.Memory != 100<<20 || s.CPUs != 0 || s.Env["BERTH_WORKER"] != fmt.Sprint(n) || s.Env["BERTH_PROCESSES"] != "2" {
			t.Errorf("service %d: %+v", n, s)
		}
	}
	if r.Name != "video-transcoding-lab-id-n" {
		t.Errorf("the name is %q", r.Name)
	}
	r = read(emitted(t, "compose", planFor(t, machine, "runtime: go\n", quotaOf(1.234))))[0]
	if s := r.Services["worker"]; s.CPUSet != "" || s.CPUs < 1.239 || s.CPUs > 1.241 || s.Env["GOMAXPROCS"] != "2" {
		t.Errorf("a quota: %+v", r)
	}
	for _, bad := range [][2]string{{"cpuset:", "cpusets:"}, {`cpuset: "0"`, "cpuset: [0]"}, {"mem_limit: 100m", "mem_limit: 100 loaves"}} {
		if r := read(replaced(t, text, bad[0], bad[1]))[0]; r.Error == "" {
			t.Errorf("%s is taken: %+v", bad[1], r)
		}
	}
}

func TestNomad(t *testing.T) {
	read := reader[struct {
		Error, Name   string
		Cores, Memory int
		Env           map[string]string
	}](t, "nomad")
	for _, f := range golden(t, "nomad") {
		if r := read(string(f.Data))[0]; r.Error != "" || r.Cores < 1 || r.Env["BERTH_PROCESSES"] == "" {
			t.Errorf("%s: %+v", f.Name, r)
		}
	}
	text := emitted(t, "nomad", planFor(t, "numa:1(memory=4GiB) core:2 pu:1", "runtime: openmp\nwork: {kind: float}\nlimits: {memory_per_worker_mib: 100}\n"))
	if r := read(text)[0]; r.Error != "" || r.Name != "video-transcoding-lab-id-n" || r.Cores != 2 || r.Memory != 200 || r.Env["OMP_PLACES"] != "cores" {
		t.Errorf("%+v", r)
	}
	for _, bad := range [][2]string{{"cores = 2", "coers = 2"}, {"cores = 2", `cores = "two"`}, {"job \"", "job "}} {
		if r := read(replaced(t, text, bad[0], bad[1]))[0]; r.Error == "" {
			t.Errorf("%s is taken: %+v", bad[1], r)
		}
	}
}

// rootfs is a file system that has sh and awk in it.
func rootfs(t *testing.T) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("%v: run advisor/emit/lab/setup", err)
	}
	dir := t.TempDir()
	for _, name := range []string{"proc", "sys", "dev", "etc", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(write(t, dir, "bin/busybox", string(busybox))), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "bin/busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Containers of podman sit where they should. Control groups of version 1 beside
// those of version 2 need runc.
func TestPodmanSeats(t *testing.T) {
	twoCPUs(t)
	need(t, "podman", "runc", "dash")
	if os.Getuid() != 0 {
		t.Skip("cpusets need root")
	}
	dir, root := t.TempDir(), rootfs(t)
	options := []string{"--runtime", "runc", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--rootfs", root}
	run := func(text string, program ...string) (string, error) {
		cmd := command(t, dir, append(append([]string{"dash", write(t, dir, "plan", text)}, options...), program...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("#!/bin/sh\npodman run --rm \"$@\"\n", "/bin/busybox", "true"); err != nil {
		t.Skipf("podman starts no containers here: %s", out)
	}
	worker := []string{"/bin/busybox", "awk", "-v", "FS=[:\t ]+", `/^(Cpus|Mems)_allowed_list/ {all = all " " $2} END {print "worker", ENVIRON["BERTH_WORKER"], "of", ENVIRON["BERTH_PROCESSES"] all}`, "/proc/self/status"}
	text := emitted(t, "podman", planFor(t, "numa:1(memory=4GiB) core:2 pu:1", "model: processes\nlimits: {memory_per_worker_mib: 50}\n"))
	out, err := run(text, worker...)
	if err != nil {
		t.Error(err)
	}
	same(t, "containers", out, "worker 0 of 2 0 0", "worker 1 of 2 1 0")
	out, _ = run(replaced(t, text, "cpuset-cpus=0", "cpuset-cpus=1"), worker...)
	same(t, "both on one", out, "worker 0 of 2 1 0", "worker 1 of 2 1 0")
	if out, err := run(replaced(t, text, "cpuset-cpus=1", "cpuset-cpus=4095"), "/bin/busybox", "true"); err == nil {
		t.Errorf("a CPU that there is not is taken\n%s", out)
	}
	memory := []string{"/bin/busybox", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"}
	if out, err := run(text, memory...); err != nil || strings.Count(out, fmt.Sprint(50<<20)) != 2 {
		t.Errorf("the limit of memory was not read back: %v\n%s", err, out)
	}
}

// What Docker's command line asks its daemon for, which a server here plays.
func TestDockerAsks(t *testing.T) {
	need(t, "docker", "dash")
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1000)
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Image      string
			Env        []string
			HostConfig struct {
				CpusetCpus, CpusetMems string
				NanoCpus, Memory       int64
				Init                   bool
			}
		}
		if strings.HasSuffix(r.URL.Path, "/containers/create") {
			json.NewDecoder(r.Body).Decode(&body)
			h := body.HostConfig
			worker := ""
			for _, v := range body.Env {
				if strings.HasPrefix(v, "BERTH_WORKER=") {
					worker = v
				}
			}
			asked <- fmt.Sprintf("%s %s cpus %q mems %q nano %d memory %d init %v", body.Image, worker, h.CpusetCpus, h.CpusetMems, h.NanoCpus, h.Memory>>20, h.Init)
		}
		http.Error(w, `{"message":"enough"}`, http.StatusConflict)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	defer server.Close()
	ask := func(text string, n int) string {
		t.Helper()
		cmd := command(t, dir, "dash", write(t, dir, "plan", text), "--pull", "never", "image", "program")
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+dir)
		out, _ := cmd.CombinedOutput()
		var all []string
		for len(asked) > 0 {
			all = append(all, <-asked)
		}
		if len(all) != n {
			t.Fatalf("%d containers asked for: %s", len(all), out)
		}
		return strings.Join(all, "\n")
	}
	const machine = "numa:1(memory=4GiB) core:2 pu:1"
	same(t, "seats", ask(emitted(t, "docker", planFor(t, machine, "model: processes\nlimits: {memory_per_worker_mib: 50}\n")), 2),
		`image BERTH_WORKER=0 cpus "0" mems "0" nano 0 memory 50 init true`, `image BERTH_WORKER=1 cpus "1" mems "0" nano 0 memory 50 init true`)
	same(t, "a quota", ask(emitted(t, "docker", planFor(t, machine, "model: processes\n", quotaOf(1.5))), 1),
		`image BERTH_WORKER=0 cpus "" mems "" nano 1500000000 memory 0 init true`)
	for _, f := range golden(t, "docker") {
		n := max(1, strings.Count(string(f.Data), "BERTH_WORKER=")-strings.Count(string(f.Data), "export BERTH_WORKER="))
		ask(string(f.Data), n)
	}
	ask(replaced(t, emitted(t, "docker", planFor(t, machine, "")), "--cpuset-cpus", "--cpuset-cpu"), 0)
}
