//go:build linux

package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"berth/probe/tasks"
)

var spun uint64

// TestMain lets the test binary be a process that is busy.
func TestMain(m *testing.M) {
	if os.Getenv("BERTH_TEST_SPIN") != "" {
		fmt.Println("spins")
		for {
			spun++
		}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestCollect only asks that a live look comes to an end and knows its process:
// what is wrong on the machine that tests is its own affair.
func TestCollect(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "BERTH_TEST_SPIN=1")
	pid := start(t, cmd)
	facts, err := Collect(t.Context(), Options{For: 300 * time.Millisecond, PIDs: []int{pid}})
	if err != nil {
		t.Fatal(err)
	}
	p := facts.Processes[pid]
	if p == nil || !p.Chosen || !p.Named || facts.Interval < 300*time.Millisecond {
		t.Fatalf("%+v, %s", p, facts.Interval)
	}
	if facts.demands()[pid] <= 0 {
		t.Error("a process that spins had no work")
	}
	for pid, q := range facts.Processes {
		if q.Chosen != (pid == p.PID || q.Parent == p.PID) {
			t.Errorf("process %d: chosen %v", pid, q.Chosen)
		}
	}
	for _, f := range Diagnose(facts) {
		if f.Subject.PID != 0 && f.Subject.PID != pid {
			t.Errorf("not asked for: %+v", f)
		}
	}
}

// TestEarlyEnd: an ended context gives the facts until then.
func TestEarlyEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(50*time.Millisecond, cancel)
	defer stop.Stop()
	facts, err := Collect(ctx, Options{For: time.Hour})
	if err != nil {
		t.Skip("the machine was not read in that time:", err)
	}
	Diagnose(facts)
}

// TestZombie: a process that has ended and is not waited for.
func TestZombie(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 0")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	for {
		if p, err := tasks.Proc("").Process(pid); err != nil || p.State == tasks.Zombie {
			break
		}
		time.Sleep(time.Millisecond)
	}
	facts, err := Collect(t.Context(), Options{For: 20 * time.Millisecond, PIDs: []int{pid}})
	if err != nil {
		t.Fatal(err)
	}
	found := Diagnose(facts)
	for _, f := range found {
		if f.Code == NotJudged && f.Subject.PID == pid {
			return
		}
	}
	t.Errorf("%+v", found)
}
