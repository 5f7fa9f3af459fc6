//go:build linux

package python

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
)

// living lists the processes among some folders of /proc, zombies not counted.
func living(pattern string) []string {
	folders, _ := filepath.Glob(pattern)
	var out []string
	for _, folder := range folders {
		if state := stat(folder); len(state) > 0 && state[0] != "Z" {
			out = append(out, folder)
		}
	}
	return out
}

// stat is the fields of /proc/PID/stat from the state on.
func stat(folder string) []string {
	text, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// members are the processes of a process group.
func members(group int) []string {
	var out []string
	for _, folder := range living("/proc/[0-9]*") {
		if fields := stat(folder); len(fields) > 2 && fields[2] == strconv.Itoa(group) {
			out = append(out, filepath.Base(folder))
		}
	}
	return out
}

// reach waits until there are so many processes in a group, or one has ended.
func reach(group, n int) {
	for len(members(group)) < n {
		time.Sleep(time.Millisecond)
	}
}

func gone(t *testing.T, left func() []string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for len(left()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", left())
		}
		time.Sleep(time.Millisecond)
	}
}

func start(t *testing.T, p Interpreter, o Options) *Session {
	t.Helper()
	s, err := Start(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		gone(t, func() []string { return members(s.cmd.Process.Pid) })
	})
	return s
}

// long is a trial that does not end while the test runs.
var long = Trial{Work: CPU, Carrier: Processes, Workers: 2, Window: time.Hour}

const longMembers = 4 // the session, the command's process, the workers

func TestTrial(t *testing.T) {
	p := python3(t)
	for _, work := range []Work{CPU, Native, BlockingIO, AsyncIO} {
		t.Run(string(work), func(t *testing.T) {
			t.Parallel()
			s := start(t, p, Options{ServerDelay: 2 * time.Millisecond})
			for _, carrier := range []Carrier{Threads, Processes, Async} {
				if work == AsyncIO && carrier != Async {
					continue
				}
				for _, n := range []int{1, 3} {
					ask := Trial{Work: work, Carrier: carrier, Workers: n, Window: 30 * time.Millisecond, SwitchInterval: time.Millisecond}
					r, err := s.Trial(t.Context(), ask)
					if err != nil {
						t.Fatalf("%d %s: %v", n, carrier, err)
					}
					checkReading(t, ask, r)
					if (r.GILHeldPct == nil) != p.FreeThreaded {
						t.Errorf("%d %s hold the GIL for %v", n, carrier, r.GILHeldPct)
					}
				}
			}
		})
	}
}

func checkReading(t *testing.T, ask Trial, r Reading) {
	t.Helper()
	if r.Workers != ask.Workers || len(r.PerWorker) != ask.Workers || r.Window != ask.Window {
		t.Errorf("%d of %d %s, %d counts, window %v", r.Workers, ask.Workers, ask.Carrier, len(r.PerWorker), r.Window)
	}
	sum := 0.0
	for _, units := range r.PerWorker {
		sum += units
	}
	if got := sum / r.Window.Seconds(); math.Abs(got-r.PerSecond) > 1e-6*got || sum <= 0 {
		t.Errorf("%d %s: %v turns, which is %v a second; it says %v", ask.Workers, ask.Carrier, sum, got, r.PerSecond)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := start(t, python3(t), Options{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Trial(t.Context(), long); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after the end: %v", err)
	}
}

func TestManyTasks(t *testing.T) {
	t.Parallel()
	s := start(t, python3(t), Options{})
	r, err := s.Trial(t.Context(), Trial{Work: AsyncIO, Carrier: Async, Workers: 1000, Window: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	// A limit on descriptors may leave fewer.
	if r.Workers < 1 || r.Workers > 1000 || r.MemoryPerWorker <= 0 {
		t.Errorf("%d tasks, %.0f bytes each", r.Workers, r.MemoryPerWorker)
	}
}

func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	p := python3(t)
	// As by ulimit -n, of which the program may use the hard limit.
	path := fake(t, t.TempDir(), "limited", `ulimit -n 60; exec "`+p.Path+`" "$@"`)
	p.Path = path
	s := start(t, p, Options{ServerDelay: time.Millisecond})
	for _, ask := range []Trial{{Work: AsyncIO, Carrier: Async}, {Work: BlockingIO, Carrier: Threads}} {
		ask.Workers, ask.Window = 100, 20*time.Millisecond
		r, err := s.Trial(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if r.Workers < 10 || r.Workers >= 60 || len(r.PerWorker) != r.Workers {
			t.Errorf("%s: %d workers with 60 descriptors", ask.Work, r.Workers)
		}
	}
}

func TestTrialRefuses(t *testing.T) {
	t.Parallel()
	s := &Session{}
	for _, ask := range []Trial{
		{},
		{"juggling", Threads, 1, time.Second, 0},
		{CPU, "horses", 1, time.Second, 0},
		{AsyncIO, Threads, 1, time.Second, 0},
		{CPU, Threads, 0, time.Second, 0},
		{CPU, Threads, 1, 0, 0},
		{CPU, Threads, 1, time.Second, -1},
	} {
		if _, err := s.Trial(t.Context(), ask); err == nil {
			t.Errorf("%+v was taken", ask)
		}
	}
}

func TestSeat(t *testing.T) {
	t.Parallel()
	p := python3(t)
	allowed, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	seat := cpuset.Of(allowed.Last())
	s := start(t, p, Options{CPUs: seat})
	if got, err := probe.Affinity(s.cmd.Process.Pid); err != nil || !got.Equal(seat) {
		t.Errorf("it sits on %s, %v; want %s", got, err, seat)
	}
	var trimmed *affinity.Trimmed
	if _, err := Start(t.Context(), p, Options{CPUs: cpuset.Of(allowed.First(), cpuset.Limit-1)}); !errors.As(err, &trimmed) {
		t.Errorf("a CPU that is not there: %v", err)
	}
}

func TestEndings(t *testing.T) {
	p := python3(t)
	for _, test := range []struct {
		name string
		end  func(s *Session, cancel func())
		want string
	}{
		{"closed", func(s *Session, _ func()) { s.Close() }, "closed"},
		{"cancelled", func(_ *Session, cancel func()) { cancel() }, "context canceled"},
		{"killed", func(s *Session, _ func()) { unix.Kill(s.cmd.Process.Pid, unix.SIGKILL) }, "SIGKILL"},
		{"stopped and closed", func(s *Session, _ func()) {
			unix.Kill(-s.cmd.Process.Pid, unix.SIGSTOP)
			s.Close()
		}, "closed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, p, Options{})
			pid := s.cmd.Process.Pid
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error)
			go func() {
				_, err := s.Trial(ctx, long)
				failed <- err
			}()
			reach(pid, longMembers)
			test.end(s, cancel)
			err := <-failed
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			gone(t, func() []string { return members(pid) })
			if err := s.Close(); (err != nil) != (test.name == "killed") {
				t.Errorf("close: %v", err)
			}
			if _, err := s.Trial(t.Context(), long); err == nil {
				t.Error("a trial of an ended session")
			}
		})
	}
}

// The process that carries out a command may be killed by itself; the session
// goes on, and the workers do not stay.
func TestCommandKilled(t *testing.T) {
	t.Parallel()
	s := start(t, python3(t), Options{})
	pid := s.cmd.Process.Pid
	failed := make(chan error)
	go func() {
		_, err := s.Trial(t.Context(), long)
		failed <- err
	}()
	reach(pid, longMembers)
	for _, member := range members(pid) {
		if fields := stat("/proc/" + member); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			number, _ := strconv.Atoi(member)
			unix.Kill(number, unix.SIGKILL)
		}
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "ended by signal 9") {
		t.Errorf("%v", err)
	}
	gone(t, func() []string { return members(pid)[1:] })
	if got, err := s.SharedMemory(t.Context()); err != nil || !got.Thread || got.Process {
		t.Errorf("afterwards: %+v, %v; it printed %s", got, err, s.stderr)
	}
}

// Without this process, nothing is left of the sessions either.
func TestOrphans(t *testing.T) {
	const env = "BERTH_TEST_ORPHANS"
	if os.Getenv(env) != "" {
		s := start(t, python3(t), Options{})
		fmt.Println("session", s.cmd.Process.Pid)
		_, err := s.Trial(t.Context(), long)
		t.Fatal(err)
	}
	t.Parallel()
	python3(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestOrphans$")
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "session %d", &pid)
	}
	if pid == 0 {
		t.Fatal("the other one did not start a session")
	}
	reach(pid, longMembers)
	cmd.Process.Kill()
	gone(t, func() []string { return members(pid) })
}

func TestStartRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, script, want string
	}{
		{"crash", "echo 'ModuleNotFoundError: no zlib' >&2; exit 1", "no zlib"},
		{"signal", "kill -SEGV $$", "SIGSEGV"},
		{"garbage", "echo snake; exec sleep 1000", `"snake"`},
		{"silent", "exit 0", "exit status 0"},
		{"null", "echo null; exec sleep 1000", "neither a result nor an error"},
		{"locked", `echo '{"ok": {"gil": false}}'; exec sleep 1000`, "GIL"},
		{"endless", "while printf %4096s x; do :; done", "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := fake(t, dir, test.name, test.script)
			_, err := Start(t.Context(), Interpreter{Path: path}, Options{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if _, err := Start(t.Context(), Interpreter{Path: filepath.Join(dir, "none")}, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing program: %v", err)
	}
	if _, err := Start(t.Context(), Interpreter{}, Options{ServerDelay: -1}); err == nil {
		t.Error("a negative delay was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := fake(t, dir, "late", "exec sleep 1000")
	if _, err := Start(ctx, Interpreter{Path: path}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestParseReply(t *testing.T) {
	for _, test := range []struct {
		line, want string // of the error
	}{
		{`{"ok": {"thread": true}}`, ""},
		{`{"error": "ValueError: no"}`, "ValueError: no"},
		{`{"ok": {"thread": 1}}`, "read the answer"},
		{`{"ok": NaN}`, "read the answer"},
		{`{}`, "neither"},
		{``, "read the answer"},
		{`[]`, "read the answer"},
		{`{"ok": {}} {}`, "read the answer"},
	} {
		var got Sharing
		err := parseReply([]byte(test.line), &got)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.line, err, test.want)
		}
	}
}

func FuzzTrialReply(f *testing.F) {
	f.Add([]byte(`{"ok": {"workers": 2, "window": 0.3, "units": [1, 2.5], "cpu": 0.3, "held": 1.01, "memory": 100, "voluntary": 1, "involuntary": 2}}`))
	f.Add([]byte(`{"ok": {"workers": 1, "window": 1e-300, "units": [1e300], "held": null}}`))
	f.Add([]byte(`{"ok": {"workers": 1, "window": -1, "units": [-1]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var reply trialReply
		if parseReply(line, &reply) != nil {
			return
		}
		r, err := reply.reading(4)
		if err != nil {
			return
		}
		if r.Workers < 1 || r.Workers > 4 || len(r.PerWorker) != r.Workers || r.Window < 0 || r.OnCPU < 0 {
			t.Errorf("%+v", r)
		}
		if _, err := json.Marshal(r); err != nil { // no NaN
			t.Error(err)
		}
	})
}
