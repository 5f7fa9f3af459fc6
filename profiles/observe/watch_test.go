//go:build linux

package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/tasks"
	"berth/profiles"
)

// TestMain makes the programs that are watched out of the test itself.
func TestMain(m *testing.M) {
	switch os.Getenv("OBSERVE_TEST") {
	case "":
		os.Exit(m.Run())
	case "compute":
		for i := uint64(1); ; i++ {
			sink += i * i
		}
	case "sleep":
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "crowd": // of more threads than are all looked at
		for range 3 * fewThreads {
			go func() {
				runtime.LockOSThread()
				for pause := unix.NsecToTimespec(int64(20 * time.Millisecond)); ; {
					_ = unix.Nanosleep(&pause, nil)
				}
			}()
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "touch":
		for {
			b, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				os.Exit(1)
			}
			for i := 0; i < len(b); i += os.Getpagesize() {
				b[i] = 1
			}
			_ = unix.Munmap(b)
		}
	case "latch":
		takeTurns()
	case "end":
		time.Sleep(300 * time.Millisecond)
	}
}

var sink uint64

// start runs this test as a program.
func start(t *testing.T, as string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "OBSERVE_TEST="+as, "GOMAXPROCS=1")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func watch(t *testing.T, o Options, length time.Duration, pids ...int) *Observation {
	t.Helper()
	w := New("", o)
	defer w.Close()
	for _, pid := range pids {
		if err := w.Follow(pid, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	seen, err := w.Run(context.Background(), length)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// How much CPU a program gets depends on what else runs here, so that no test
// asks for more than some.
func TestWatchProgramThatComputes(t *testing.T) {
	cmd := start(t, "compute")
	seen := watch(t, Options{}, 1500*time.Millisecond, cmd.Process.Pid)
	if seen.Class == profiles.Idle || seen.Shares.OnCPU <= 0 || seen.Shares.OnCPU+seen.Shares.WaitingForCPU+seen.Shares.Throttled < 0.5 {
		t.Errorf("%s, %+v", seen.Class, seen.Shares)
	}
	if seen.Runtime != profiles.Go {
		t.Errorf("runtime %q (%s)", seen.Runtime, seen.RuntimeWhy)
	}
	if seen.Threads.Busy < 1 || seen.Samples < 2 || seen.Profile == nil || seen.Profile.Measured == nil || seen.PID != cmd.Process.Pid {
		t.Errorf("%+v", seen)
	}
	if !strings.Contains(seen.Command, "observe.test") {
		t.Errorf("command %q", seen.Command)
	}
}

func TestWatchProgramThatSleeps(t *testing.T) {
	seen := watch(t, Options{}, time.Second, start(t, "sleep").Process.Pid)
	if seen.Class != profiles.Idle || seen.Profile != nil || seen.CPUMS != nil {
		t.Errorf("%s, %+v", seen.Class, seen)
	}
}

// Of very many threads some are looked at, and stand for the others.
func TestWatchCrowd(t *testing.T) {
	cmd := start(t, "crowd")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
		if err != nil || time.Now().After(deadline) {
			t.Fatal("its threads did not come: ", len(all), err)
		}
		if len(all) >= 3*fewThreads {
			break
		}
	}
	w := New("", Options{})
	defer w.Close()
	if err := w.Follow(cmd.Process.Pid, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(time.Now()); err != nil {
		t.Fatal(err)
	}
	looked := func() (n int) {
		for _, x := range w.live {
			if x.looked {
				n++
			}
		}
		return n
	}
	for range 2 {
		time.Sleep(500 * time.Millisecond)
		w.Sample(time.Now())
	}
	stale, some := w.lookout.stale, looked()
	time.Sleep(500 * time.Millisecond)
	seen := w.Finish(time.Now())
	if stale <= fewThreads || some >= stale {
		t.Errorf("%d threads were looked at of %d that ran", some, stale)
	}
	// A thread of Go's that sleeps looks for work.
	if s := seen.Shares; s.Lock < 0.2 || s.Lock < 10*(s.Disk+s.Network+s.Sleep+s.Other) {
		t.Errorf("%+v", s)
	}
	if seen.Threads.Total < 3*fewThreads || seen.Units == nil || *seen.Units < 3*fewThreads || *seen.Units > 3*fewThreads*1.2*seen.DurationS/0.02 {
		t.Errorf("%+v, %v units", seen.Threads, seen.Units)
	}
}

func TestWatchEnds(t *testing.T) {
	cmd := start(t, "end")
	began := time.Now()
	seen := watch(t, Options{}, time.Hour, cmd.Process.Pid)
	if time.Since(began) > time.Minute {
		t.Error("it was watched on after its end")
	}
	codes := ""
	for _, f := range seen.Findings {
		codes += f.Code + " "
	}
	if !strings.Contains(codes, FindEnded) {
		t.Errorf("findings: %s", codes)
	}
	w := New("", Options{})
	defer w.Close()
	if err := w.Follow(1<<22, time.Now()); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("a process that is not there: %v", err)
	}
}

func TestWatchCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := New("", Options{})
	defer w.Close()
	if err := w.Follow(start(t, "compute").Process.Pid, time.Now()); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, cancel)
	seen, err := w.Run(ctx, time.Hour)
	if err != nil || seen.DurationS > 60 || seen.Samples == 0 {
		t.Errorf("%v, %+v", err, seen)
	}
}

// TestWatchClient: a thread that reads from a slow peer waits for a network.
func TestWatchClient(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	connected := make(chan struct{}, 1)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			connected <- struct{}{}
			go func() {
				defer c.Close()
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(server.Addr().String())
	cmd := exec.Command(python, "-c", `import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while True:
    s.sendall(b"x")
    s.recv(1)`, port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	select {
	case <-connected:
	case <-time.After(time.Minute):
		t.Fatal("it made no connection")
	}
	seen := watch(t, Options{}, 1500*time.Millisecond, cmd.Process.Pid)
	if s := seen.Shares; s.Network < 0.3 || s.Network < 10*(s.Disk+s.Lock+s.Sleep) {
		t.Errorf("%+v; %q", s, append(seen.Evidence, seen.Against...))
	}
	if seen.Runtime != profiles.Python || !seen.GIL.Present {
		t.Errorf("%s, %+v", seen.Runtime, seen.GIL)
	}
	if seen.Units == nil || *seen.Units < 1 || seen.WaitMS == nil || *seen.WaitMS <= 0 {
		t.Errorf("%+v", seen)
	}
}
