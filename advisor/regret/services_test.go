//go:build lab

package regret

import (
	"bufio"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is where the programs and their services are. It travels to the process
// that berth tune starts.
type lab struct {
	Dir      string // binaries and what runs leave for a while; on a disk
	Sources  string
	Python   string
	Service  string // the slow service's port
	Postgres string // the directory of the database's socket
	Berth    string

	pids  map[service]int
	whole *testing.T // services live as long as it
}

// newLab builds everything and starts the slow service.
func newLab(t *testing.T) *lab {
	t.Helper()
	need(t, "gcc", "go", "python3", "sh")
	sources, err := filepath.Abs("programs")
	if err != nil {
		t.Fatal(err)
	}
	// Files of a memory file system cost nothing to make safe.
	dir, err := os.MkdirTemp("/var/tmp", "regret-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the database's user goes through it
		t.Fatal(err)
	}
	l := &lab{Dir: dir, Sources: sources, Berth: filepath.Join(dir, "berth"), pids: map[service]int{}, whole: t}
	l.Python = strings.TrimSpace(output(t, "python3", "-c", "import sys; print(sys.executable)")) // python3 can be a script that picks one
	for _, name := range []string{"slow", "threads"} {
		output(t, "gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", filepath.Join(dir, name), filepath.Join(sources, name+".c"))
	}
	output(t, "go", "build", "-tags", "lab", "-o", filepath.Join(dir, "gopool"), "./programs/gopool")
	if name := os.Getenv("BERTH"); name != "" {
		l.Berth = name
	} else {
		output(t, "go", "build", "-o", l.Berth, "berth/cmd/berth")
	}

	server := exec.Command(filepath.Join(dir, "slow"))
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.serve(t, slow, server)
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the slow service does not say its port: %v", err)
	}
	l.Service = strings.TrimSpace(port)
	return l
}

// serve starts a service that lives as long as the whole test, not just one
// program's.
func (l *lab) serve(t *testing.T, which service, cmd *exec.Cmd) {
	t.Helper()
	if err := startProcess(cmd); err != nil {
		t.Fatal(err)
	}
	l.pids[which] = cmd.Process.Pid
	l.whole.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // a fast shutdown of PostgreSQL's
		late := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait()
		late.Stop()
	})
}

// need skips a test without a program that it is about.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%v: run advisor/regret/setup", err)
		}
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// startPostgres makes a database of pgbench's, on the disk, and serves it on a
// socket, unless it is there.
func (l *lab) startPostgres(t *testing.T) {
	t.Helper()
	if l.Postgres != "" {
		return
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("there is no PostgreSQL: run advisor/regret/setup")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir := filepath.Join(l.Dir, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // which it refuses to run as
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	run := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Dir = dir
		attributes := *as
		cmd.SysProcAttr = &attributes
		return cmd
	}
	if out, err := run("initdb", "-U", "postgres", "-A", "trust", "-D", data).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	l.serve(t, postgres, run("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=100",
		"-c", "shared_buffers=512MB", "-c", "max_wal_size=8GB", "-c", "log_destination=stderr", "-c", "logging_collector=on"))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := run("pg_isready", "-h", dir).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("PostgreSQL does not answer: %s", out)
		}
	}
	if out, err := run("pgbench", "-h", dir, "-U", "postgres", "-i", "-q", "-s", "20", "postgres").CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	l.Postgres = dir
}
