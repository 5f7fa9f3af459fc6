//go:build lab

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

// Started as its own child, the test is a Go program that tells what it may use.
func TestMain(m *testing.M) {
	if os.Getenv("BERTH_LAB_CHILD") != "" {
		fmt.Println(runtime.GOMAXPROCS(0))
		return
	}
	os.Exit(m.Run())
}

// need skips a test whose programs are not there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: run advisor/emit/lab/setup", err)
		}
	}
}

// twoCPUs skips a test that pins to CPUs 0 and 1 where it may not.
func twoCPUs(t *testing.T) {
	t.Helper()
	if may := statusOf(t, "self", "Cpus_allowed_list"); !cpuset.Range(0, 1).SubsetOf(parse(t, may)) {
		t.Skipf("this process may use CPUs %s only, and the plans are for CPUs 0-1", may)
	}
}

func parse(t *testing.T, list string) cpuset.Set {
	t.Helper()
	set, err := cpuset.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// statusOf reads a field of /proc/PID/status, or of a thread's by PID/task/TID;
// threads of the programs under test come and go, and one that went is "gone".
func statusOf(t *testing.T, task, field string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + task + "/status")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return "gone"
	case err != nil:
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+field+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// The machine that the plans with effects are for: any that has CPUs 0 and 1.
const pair = "numa:1(memory=1GiB) core:2 pu:1"

// planFor plans a profile's YAML below its name.
func planFor(t *testing.T, machine, profile string, change ...func(*probe.Machine)) *advisor.Plan {
	t.Helper()
	source, err := probe.Synthetic(machine)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(m)
	}
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: \"video-transcoding: 'lab' $(id) %n\"\n"+profile), "lab")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := advisor.Advise(m, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// emitted is a plan as a target's settings.
func emitted(t *testing.T, target string, plan *advisor.Plan) string {
	t.Helper()
	found, ok := emit.Find(target)
	if !ok {
		t.Fatalf("there is no target %s", target)
	}
	return found.Emit(plan).Text
}

// golden is what a target says of every shape of plan.
func golden(t *testing.T, target string) []txtar.File {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("..", "testdata", "golden", target+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) < 10 {
		t.Fatalf("%d plans only", len(archive.Files))
	}
	return archive.Files
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// command is one that ends with the test, and with all its descendants.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	t.Cleanup(func() {
		if cmd.Process != nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of its group
		}
		cancel()
	})
	return cmd
}

// output runs a command that must succeed, and returns what it says on stdout.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), messages.String())
	}
	return out.String()
}

// quiet runs a command that must succeed and say nothing on stderr.
func quiet(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	var messages bytes.Buffer
	cmd.Stderr = &messages
	if err := cmd.Run(); err != nil || messages.Len() > 0 {
		return fmt.Errorf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, messages.String())
	}
	return nil
}

// exitCode runs a command to its end.
func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	return 0
}

// eventually waits for what a program takes its time to do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 300 {
		if done() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: not within 30 s", what)
}

// same compares the lines of two texts in any order.
func same(t *testing.T, what, got string, want ...string) {
	t.Helper()
	lines := strings.FieldsFunc(got, func(r rune) bool { return r == '\n' })
	if sorted(lines) != sorted(want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, sorted(lines), sorted(want))
	}
}

// replaced is a text in which a part that is there is another.
func replaced(t *testing.T, text, pattern, by string) string {
	t.Helper()
	out := regexp.MustCompile(pattern).ReplaceAllString(text, by)
	if out == text {
		t.Fatalf("there is no %s in\n%s", pattern, text)
	}
	return out
}
