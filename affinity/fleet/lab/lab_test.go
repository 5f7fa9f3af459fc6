//go:build lab

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/affinity/fleet"
)

// need skips a test whose programs are not there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: run affinity/fleet/lab/setup", err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("the servers of the lab need root")
	}
}

// built is the berth of this source, which asks for no library: a container may
// have none.
func built(t *testing.T) string {
	t.Helper()
	berth := filepath.Join(t.TempDir(), "berth")
	build := exec.Command("go", "build", "-o", berth, "../../../cmd/berth")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return berth
}

// ports are some that nobody listens on.
func ports(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// daemon starts a server that ends with the test.
func daemon(t *testing.T, dir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	name := strings.NewReplacer("/", "_", " ", "_").Replace(strings.Join(args, " "))
	log := filepath.Join(dir, name[:min(len(name), 100)]+".log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := exec.Command(args[0], args[1:]...)
	c.Env, c.Stdout, c.Stderr = env, f, f
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("%s:\n%s", args, text[max(0, len(text)-2000):])
		}
	})
	return c
}

// run runs a program and returns what it says and its status.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // also after the test
	defer cancel()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	c.Env, c.Stdout, c.Stderr = env, &out, &said
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", args, err, said.String())
	}
	return out.String(), said.String(), c.ProcessState.ExitCode()
}

// looked runs berth fleet inspect for its JSON, and shows its text too.
func looked(t *testing.T, env []string, want int, args ...string) *fleet.Fleet {
	t.Helper()
	out, said, status := run(t, env, append(args, "-o", "json")...)
	if status != want {
		t.Fatalf("%s: status %d, want %d\n%s%s", args, status, want, out, said)
	}
	f := &fleet.Fleet{}
	if err := json.Unmarshal([]byte(out), f); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, said, _ := run(t, env, args...)
	t.Logf("$ %s\n%s%s", strings.Join(args, " "), text, said)
	return f
}

func check(t *testing.T, f *fleet.Fleet, want map[string]fleet.TroubleCode) {
	t.Helper()
	if len(f.Nodes) != len(want) {
		t.Errorf("%d nodes, want %d", len(f.Nodes), len(want))
	}
	for _, n := range f.Nodes {
		if code, ok := want[n.Name]; !ok || n.Trouble != code {
			t.Errorf("%s: %q %s, want %q", n.Name, n.Trouble, n.Error, code)
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 600 {
		if holds() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("never: %s", what)
}

// running tells whether a process has this word in its command line.
func running(word string) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		text, _ := os.ReadFile(name)
		if bytes.Contains(text, []byte(word)) && name != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			return true
		}
	}
	return false
}

// long leaves out what waits for time-outs, where the lab is to be short.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short")
	}
}
