//go:build lab

package lab

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/probe"
)

// daemon starts a command that ends with the test, and shows what it said if
// the test fails.
func daemon(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log.Close()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", cmd.Args, text)
		}
	})
}

// workersOf are the CPUs of each child of a process.
func workersOf(t *testing.T, pid int) []string {
	t.Helper()
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	var out []string
	for _, child := range strings.Fields(string(list)) {
		out = append(out, "cpus "+statusOf(t, child, "Cpus_allowed_list"))
	}
	return out
}

// threads are the CPUs of each thread of a process.
func threads(t *testing.T, pid int) []string {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	var out []string
	for _, task := range tasks {
		out = append(out, "cpus "+statusOf(t, strings.TrimPrefix(task, "/proc/"), "Cpus_allowed_list"))
	}
	return out
}

// settle waits for as many as are wanted, and for them to sit where they should.
func settle(t *testing.T, what string, now func() []string, want ...string) {
	t.Helper()
	eventually(t, what+" "+strings.Join(want, ", "), func() bool { return sorted(now()) == sorted(want) })
}

func virtual(m *probe.Machine) { m.Host.Hypervisor = "kvm" }

func TestNginx(t *testing.T) {
	need(t, "nginx")
	config := func(dir, head string) string {
		return write(t, dir, "nginx.conf", fmt.Sprintf("pid %s/pid;\nerror_log stderr;\n%s\nhttp { access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e; server { listen unix:%[1]s/socket; } }\n", dir, head))
	}
	accepts := func(head string) error {
		dir := t.TempDir()
		out, err := command(t, dir, "nginx", "-t", "-c", config(dir, head)).CombinedOutput()
		if err != nil || strings.Contains(string(out), "[warn]") && !strings.Contains(string(out), "open file resource limit") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	}
	for _, f := range golden(t, "nginx") {
		if err := accepts(string(f.Data)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	twoCPUs(t)
	processes := emitted(t, "nginx", planFor(t, pair, "model: processes\nwork: {kind: float}\n"))
	for _, bad := range []string{"worker_processes 2;", "worker_cpu_affinity auto 11;"} {
		if accepts(replaced(t, processes, bad, strings.TrimSuffix(bad, ";")+"x;")) == nil {
			t.Errorf("%s is taken with an x", bad)
		}
	}
	may := "cpus " + statusOf(t, "self", "Cpus_allowed_list")
	for _, c := range []struct {
		head string
		want []string
	}{
		{processes, []string{"cpus 0", "cpus 1"}},
		{replaced(t, processes, "auto 11", "10 10"), []string{"cpus 1", "cpus 1"}},
		{emitted(t, "nginx", planFor(t, "package:1 l3:2 core:1 pu:1", "model: processes\nwork: {cpu_ms: 10, wait_ms: 10}\nload: {tasks: 4}\n")), []string{"cpus 0", "cpus 1"}},
		{emitted(t, "nginx", planFor(t, pair, "work: {cpu_ms: 1, wait_ms: 9, blocking: false}\n", virtual)), []string{may, may}},
	} {
		dir := t.TempDir()
		cmd := command(t, dir, "nginx", "-c", config(dir, c.head), "-g", "daemon off;")
		daemon(t, cmd)
		settle(t, "nginx's workers", func() []string { return workersOf(t, cmd.Process.Pid) }, c.want...)
	}
}

func TestHAProxy(t *testing.T) {
	need(t, "haproxy")
	const rest = "\ndefaults\n    mode http\n    timeout client 1s\n    timeout server 1s\n    timeout connect 1s\nfrontend f\n    bind unix@%s/socket\n    http-request return status 200\n"
	config := func(dir, head string) string { return write(t, dir, "haproxy.cfg", head+fmt.Sprintf(rest, dir)) }
	accepts := func(head string) error {
		dir := t.TempDir()
		out, err := command(t, dir, "haproxy", "-c", "-f", config(dir, head)).CombinedOutput()
		if err != nil || strings.Contains(string(out), "[WARNING]") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	}
	for _, f := range golden(t, "haproxy") {
		if err := accepts(string(f.Data)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	text := emitted(t, "haproxy", planFor(t, pair, "runtime: go\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\n"))
	for _, bad := range [][2]string{{"nbthread 2", "nbthreads 2"}, {"0-1\n", "x\n"}} {
		if accepts(replaced(t, text, bad[0], bad[1])) == nil {
			t.Errorf("%s is taken", bad[1])
		}
	}
	twoCPUs(t)
	for want, head := range map[string]string{"cpus 0,cpus 1": text, "cpus 0,cpus 0": replaced(t, text, "auto:1/1-2 0-1", "1/1-2 0")} {
		dir := t.TempDir()
		cmd := command(t, dir, "haproxy", "-db", "-f", config(dir, head))
		daemon(t, cmd)
		settle(t, "HAProxy's threads", func() []string { return threads(t, cmd.Process.Pid) }, strings.Split(want, ",")...)
	}
}

func TestUvicorn(t *testing.T) {
	need(t, python)
	twoCPUs(t)
	dir := t.TempDir()
	write(t, dir, "lab.py", `
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = "%s %s %s" % (os.environ["BERTH_WORKER"], sorted(os.sched_getaffinity(0)), os.environ["BERTH_IN_FLIGHT"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body.encode()})
`)
	may := "cpus " + statusOf(t, "self", "Cpus_allowed_list")
	const profile = "runtime: python\nwork: {cpu_ms: 1, wait_ms: 99, blocking: false}\n"
	text := emitted(t, "uvicorn", planFor(t, pair, profile))
	for _, c := range []struct {
		text string
		want []string
	}{
		{text, []string{"cpus 0", "cpus 1"}},
		{replaced(t, text, `\[\{0\}, \{1\}\]`, "[{1}, {1}]"), []string{"cpus 1", "cpus 1"}},
		{emitted(t, "uvicorn", planFor(t, pair, profile, virtual)), []string{may, may}},
	} {
		port := fmt.Sprint(ports(t, 1)[0])
		cmd := command(t, dir, python, "-W", "error", write(t, dir, "plan.py", c.text), "lab:app", "127.0.0.1", port)
		daemon(t, cmd)
		settle(t, "uvicorn's workers", func() []string { return workersOf(t, cmd.Process.Pid) }, c.want...)
		body := ""
		eventually(t, "uvicorn answers", func() bool {
			r, err := http.Get("http://127.0.0.1:" + port + "/")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			read, _ := io.ReadAll(r.Body)
			body = string(read)
			return true
		})
		if fields := strings.Fields(body); len(fields) < 3 || fields[len(fields)-1] == "0" {
			t.Errorf("a worker says %q", body)
		}
	}
	if exitCode(t, command(t, dir, python, write(t, dir, "wrong.py", replaced(t, text, `\{1\}`, "{4095}")), "lab:app")) == 0 {
		t.Error("a CPU that there is not is taken")
	}
}

// postgres is the server's program, which Debian has outside of PATH.
func postgres(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if found == nil {
		t.Skip("no postgres: run advisor/emit/lab/setup")
	}
	return found[0]
}

func TestPostgreSQL(t *testing.T) {
	program := postgres(t)
	dir := t.TempDir()
	value := func(text, name string) string {
		write(t, dir, "postgresql.conf", "include_dir = 'conf.d'\n")
		write(t, dir, "conf.d/50-berth.conf", text)
		out, err := command(t, dir, program, "-C", name, "-D", dir).Output()
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(out))
	}
	for _, f := range golden(t, "postgresql") {
		for line := range strings.Lines(string(f.Data)) {
			if name, set, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(line, "#") {
				if got := value(string(f.Data), name); got != set {
					t.Errorf("%s: %s is %s, not %s", f.Name, name, got, set)
				}
			}
			if strings.HasPrefix(line, "max_worker") {
				break // the rest is read with it
			}
		}
	}
	text := emitted(t, "postgresql", planFor(t, pair, "load: {nested: true, tasks: 1}\n"))
	if got := value(text, "max_parallel_workers_per_gather"); got != "1" {
		t.Errorf("a query gets %s helpers", got)
	}
	for _, bad := range []string{"max_connections = x", "max_connection = 5"} {
		if got := value(replaced(t, text, "max_connections = .*", bad), "max_connections"); !strings.Contains(got, "exit") {
			t.Errorf("%s is taken: %s", bad, got)
		}
	}
}

func TestPgBouncer(t *testing.T) {
	need(t, "pgbouncer", "psql")
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// It reads its file again when it is told to.
	port := fmt.Sprint(ports(t, 1)[0])
	const main = "[databases]\n* = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\nunix_socket_dir =\nauth_type = any\nadmin_users = lab\n%%include %s\n"
	include := write(t, dir, "berth.ini", emitted(t, "pgbouncer", planFor(t, pair, "")))
	cmd := command(t, dir, "pgbouncer", write(t, dir, "pgbouncer.ini", fmt.Sprintf(main, port, include)))
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	daemon(t, cmd)
	console := func(sql string) (string, error) {
		out, err := command(t, dir, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "lab", "-c", sql, "pgbouncer").CombinedOutput()
		return string(out), err
	}
	eventually(t, "PgBouncer answers", func() bool {
		_, err := console("SHOW VERSION")
		return err == nil
	})
	for _, f := range golden(t, "pgbouncer") {
		write(t, dir, "berth.ini", string(f.Data))
		if out, err := console("RELOAD"); err != nil {
			t.Fatalf("%s: %v\n%s", f.Name, err, out)
		}
		shown, err := console("SHOW CONFIG")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(f.Data)) {
			if name, set, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(line, "#") && !strings.Contains(shown, "\n"+name+"|"+set+"|") {
				t.Errorf("%s: %s is not %s in\n%s", f.Name, name, set, shown)
			}
		}
	}
	write(t, dir, "berth.ini", "default_pool_sizes = 3\n")
	if out, err := console("RELOAD"); err == nil && !strings.Contains(out, "ERROR") {
		// A reload keeps what was, and only its log says why; a start refuses.
		port = fmt.Sprint(ports(t, 1)[0])
		again := command(t, dir, "pgbouncer", write(t, dir, "pgbouncer.ini", fmt.Sprintf(main, port, include)))
		again.SysProcAttr.Credential = cmd.SysProcAttr.Credential
		if exitCode(t, again) == 0 {
			t.Error("a setting that there is not is taken")
		}
	}
}
