//go:build linux

package tune

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cpuset"
)

// shell runs a script as the command.
func shell(t *testing.T, s *Settings, script string) *command {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh")
	}
	s.Command = []string{"sh", "-c", script}
	c, err := newCommand(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func printedBy(t *testing.T, expression string) Metric {
	m, err := Printed(expression, false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCommandHearsOfItsCount(t *testing.T) {
	allowed, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	first := cpuset.Range(allowed.First(), allowed.First())
	c := shell(t, &Settings{Metric: printedBy(t, `^(\d+)$`), Env: []string{"WORKERS"}},
		`test "{n}-{cpus}" = "$BERTH_N-$BERTH_CPUS" && test $BERTH_N = $WORKERS && grep -q "^Cpus_allowed_list:.$BERTH_CPUS$" /proc/self/status && ! read x && echo $((BERTH_N * 10))`)
	for _, on := range []cpuset.Set{{}, first} {
		got, err := c.run(t.Context(), 7, on, 0, nil)
		if err != nil || got.failed != nil || got.value != 70 || got.wall <= 0 {
			t.Errorf("on %s: %+v, %v", on, got.failed, err)
		}
	}
}

func TestCommandFails(t *testing.T) {
	for _, c := range []struct {
		script, why, last string
		status            int
	}{
		{"echo out; echo broken >&2; exit 3", "it ended with status 3", "broken", 3},
		{"echo out; exit 3", "it ended with status 3", "out", 3},
		{"kill -9 $$", "it was ended by SIGKILL", "", 137},
		{"echo hello", "the metric rate=(.*) matches nothing that it printed", "hello", 0},
	} {
		got, err := shell(t, &Settings{Metric: printedBy(t, "rate=(.*)")}, c.script).run(t.Context(), 1, cpuset.Set{}, 0, nil)
		if err != nil || got.failed == nil {
			t.Fatalf("%s: %+v, %v", c.script, got, err)
		}
		last := ""
		if n := len(got.failed.Output); n > 0 {
			last = got.failed.Output[n-1]
		}
		if got.failed.Why != c.why || got.failed.Status != c.status || last != c.last {
			t.Errorf("%s: %+v", c.script, got.failed)
		}
	}
	if _, err := newCommand(&Settings{Command: []string{"no-such-program-at-all"}}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// gone waits for a process to be no more than a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") || strings.Contains(string(stat), ") X ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	for range 1000 {
		text, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && strings.HasSuffix(string(text), "\n") {
			return pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s holds no process", file)
	return 0
}

func TestStopsWhatRunsUntilStopped(t *testing.T) {
	c := shell(t, &Settings{Metric: printedBy(t, `done (\d+)`), For: 200 * time.Millisecond}, `trap 'echo done 5; exit 0' TERM; while :; do sleep 0.01; done`)
	got, err := c.run(t.Context(), 1, cpuset.Set{}, 0, nil)
	if err != nil || got.failed != nil || got.value != 5 || got.early {
		t.Errorf("%+v, %v", got, err)
	}
	c = shell(t, &Settings{Metric: Lines(), For: 200 * time.Millisecond}, `echo one; exec sleep 60`)
	if got, err = c.run(t.Context(), 1, cpuset.Set{}, 0, nil); err != nil || got.failed != nil || got.early {
		t.Errorf("%+v, %v", got, err)
	}
	c = shell(t, &Settings{Metric: Lines(), For: time.Minute}, `echo one`)
	if got, err = c.run(t.Context(), 1, cpuset.Set{}, 0, nil); err != nil || got.failed != nil || !got.early {
		t.Errorf("%+v, %v", got, err)
	}
}

// Nothing is left running: neither after a run, nor after one that was cut
// short, nor what went into a session of its own.
func TestLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	c := shell(t, &Settings{}, `sleep 600 & echo $! > `+file)
	if got, err := c.run(t.Context(), 1, cpuset.Set{}, 0, nil); err != nil || got.failed != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	gone(t, pidIn(t, file))

	file = filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	c = shell(t, &Settings{}, `trap '' TERM; (trap - TERM; exec sleep 600) & echo $! > `+file+`; wait; exit 0`)
	go func() {
		pidIn(t, file)
		cancel()
	}()
	leader := 0
	if _, err := c.run(ctx, 1, cpuset.Set{}, 0, func(pid int) { leader = pid }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	gone(t, pidIn(t, file))
	gone(t, leader)

	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("there is no setsid")
	}
	file = filepath.Join(t.TempDir(), "pid")
	c = shell(t, &Settings{}, `setsid sh -c 'echo $$ > `+file+`; exec sleep 600' & while ! test -s `+file+`; do sleep 0.01; done`)
	if got, err := c.run(t.Context(), 1, cpuset.Set{}, 0, nil); err != nil || got.failed != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	pid := pidIn(t, file)
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatalf("it has ended by itself: %v", err)
	}
	if n := c.sweep(); n != 1 {
		t.Errorf("%d were left", n)
	}
	gone(t, pid)
}

func TestCutsShort(t *testing.T) {
	c := shell(t, &Settings{}, "exec sleep 600")
	got, err := c.run(t.Context(), 1, cpuset.Set{}, 50*time.Millisecond, nil)
	if err != nil || !got.cut || got.failed != nil {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = Run(t.Context(), Settings{Command: c.s.Command, Counts: counts(t, "1-4"), Limit: 300 * time.Millisecond})
	if err == nil || err.Error() != "no run ended within 300ms: give it more time, or a smaller piece of work" {
		t.Errorf("%v", err)
	}
}

func TestRun(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh")
	}
	state := filepath.Join(t.TempDir(), "state")
	s := Settings{Command: []string{"sh", "-c", `test {n} != 3 || { echo three >&2; exit 9; }; echo rate={n}`}, Counts: counts(t, "1-4"),
		Metric: printedBy(t, `rate=(\d+)`), Limit: 30 * time.Second, State: state}
	r, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Best.N != 4 || r.Knee.N != 4 || len(r.Points) != 4 || r.Points[2].Failed == nil || r.Points[2].Failed.Status != 9 || r.Stopped != Settled {
		t.Errorf("%+v", r)
	}
	if r.USL == nil || r.USL.Sigma > 1e-6 {
		t.Errorf("law %+v", r.USL)
	}
	again, err := Run(t.Context(), s)
	if err != nil || again.Best.N != 4 || again.Runs < r.Runs {
		t.Errorf("%+v, %v", again, err)
	}
	s.Command[2] = "exit 4"
	s.State = ""
	var all *Failed
	if _, err := Run(t.Context(), s); !errors.As(err, &all) || all.Last.Status != 4 {
		t.Errorf("%v", err)
	}
}
