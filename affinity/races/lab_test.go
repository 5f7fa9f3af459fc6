//go:build lab

package races

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cpuset"
)

// What this binary is when it is started again.
const (
	role   = "BERTH_RACES_ROLE"
	binary = "BERTH_RACES_BERTH"  // where berth is, for a test that runs inside
	inside = "BERTH_RACES_INSIDE" // the test that runs in namespaces of its own
)

func TestMain(m *testing.M) {
	if r := os.Getenv(role); r != "" {
		os.Unsetenv(role)
		play(r)
	}
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "berth-races-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // other users are to start it
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := 1
	name := filepath.Join(dir, "berth")
	build := exec.Command("go", "build", "-o", name, "berth/cmd/berth")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		os.Setenv(binary, name)
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// play is what the roles do; it does not return.
func play(r string) {
	args := os.Args[1:]
	fail := func(err error) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", r, err)
		os.Exit(99)
	}
	become := func() { fail(syscall.Exec(args[0], args, os.Environ())) }
	switch r {
	case "spin": // until standard input ends
		fmt.Println("ready")
		go func() {
			for born.Load() >= 0 { // spinning
			}
		}()
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "births": // threads, one after the other, until standard input ends
		fmt.Println("ready")
		go births()
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println(born.Load())
	case "stranger": // lives for a moment, and tells where it then sits
		time.Sleep(30 * time.Millisecond)
		set, err := probe.Affinity(0)
		if err != nil {
			fail(err)
		}
		fmt.Println(set)
	case "denied": // sched_setaffinity, to what this becomes
		if err := denySetaffinity(); err != nil {
			fail(err)
		}
		become()
	case "few": // descriptors
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 32, Max: 32}); err != nil {
			fail(err)
		}
		become()
	default:
		fail(errors.New("no such role"))
	}
	os.Exit(0)
}

// actor is a command that plays a role.
func actor(r string, args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), role+"="+r)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// running starts an actor that says "ready" and ends with its standard input.
func running(t *testing.T, r string) (pid int, end func() string) {
	t.Helper()
	c := actor(r)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	runtime.LockOSThread() // Pdeathsig is that of a thread
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%s says %q, %v", r, line, err)
	}
	ended := false
	end = func() string {
		if ended {
			return ""
		}
		ended = true
		in.Close()
		rest, _ := io.ReadAll(lines)
		_ = c.Wait()
		return strings.TrimSpace(string(rest))
	}
	t.Cleanup(func() { end() })
	return c.Process.Pid, end
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	status         int
}

// berth runs berth; r, if it is not empty, is the role that becomes it.
func berth(t *testing.T, r string, args ...string) result {
	t.Helper()
	return finish(t, command(r, args...))
}

func command(r string, args ...string) *exec.Cmd {
	args = append([]string{os.Getenv(binary)}, args...)
	if r != "" {
		return actor(r, args...)
	}
	return exec.Command(args[0], args[1:]...)
}

func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &out
	}
	c.Stderr = &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := result{out.String(), errs.String(), c.ProcessState.ExitCode()}
	if strings.Contains(got.stderr, "panic:") || strings.Contains(got.stderr, "goroutine ") || got.status < 0 {
		t.Errorf("%q ends with %d:\n%s", c.Args, got.status, got.stderr)
	}
	return got
}

// wants holds an end against a status and a part of standard error.
func (r result) wants(t *testing.T, what string, status int, word string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.stderr, word) {
		t.Errorf("%s ends with %d and says %q; want %d and %q", what, r.status, r.stderr, status, word)
	}
}

// within runs the test again in namespaces of its own, as their root, and reports
// whether it did so: the caller then has no more to do. The flags are those of
// clone(2); a mount namespace is always there.
func within(t *testing.T, flags uintptr) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if flags&unix.CLONE_NEWPID != 0 {
			if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
				t.Fatal(err)
			}
		}
		return false
	}
	needRoot(t)
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	c.Env = append(os.Environ(), inside+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | flags}
	out, err := c.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimRight(line, "\n"); !strings.HasPrefix(line, "=== ") && line != "PASS" {
			t.Log(line)
		}
	}
	switch {
	case errors.Is(err, unix.EPERM):
		t.Skipf("no namespace can be made: %v", err)
	case err != nil:
		t.Errorf("inside: %v", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skip("it was skipped inside")
	}
	return true
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it needs root")
	}
}

// two are CPUs to move between.
func two(t *testing.T) (all, first, second cpuset.Set) {
	t.Helper()
	all, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	if all.Len() < 2 {
		t.Skip("it needs two CPUs")
	}
	a := all.First()
	for c := range all.All() {
		if c != a {
			return all, cpuset.Range(a, a), cpuset.Range(c, c)
		}
	}
	return
}

// masks are the threads of a process by their masks, as the kernel tells.
func masks(t *testing.T, pid int) map[string]int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
		mask, _, _ := strings.Cut(rest, "\n")
		out[mask]++
	}
	return out
}

// until waits for something to become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// times is how often a race is run; RACES multiplies it.
func times(n int) int {
	if by, err := strconv.Atoi(os.Getenv("RACES")); err == nil && by > 0 {
		return n * by
	}
	return n
}
