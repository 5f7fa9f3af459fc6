//go:build lab

package races

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

var born atomic.Int64

// births makes threads that live for a moment, a few at a time.
func births() {
	for range 4 {
		go func() {
			for {
				done := make(chan bool)
				go func() {
					runtime.LockOSThread() // the thread ends with its goroutine
					time.Sleep(time.Millisecond)
					born.Add(1)
					close(done)
				}()
				<-done
			}
		}()
	}
}

// A cpuset that shrinks under seats: the receipt tells, and so does a pin.
func TestCPUSetShrinks(t *testing.T) {
	needRoot(t)
	all, first, second := two(t)
	n := times(20)
	for range n {
		g, err := affinity.NewGroup(all, cpuset.Set{}, 0, 0)
		if err != nil {
			t.Skip(err)
		}
		shrink := func(to cpuset.Set) {
			if err := os.WriteFile(filepath.Join(g.Dirs()[0], "cpuset.cpus"), []byte(to.String()), 0); err != nil {
				t.Fatal(err)
			}
		}
		c := actor("spin")
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		run := affinity.Run{Workers: []affinity.Worker{{Command: c, Seat: affinity.Seat{CPUs: all}}}, Watch: true, Group: g, KillOnDeath: true}
		got := make(chan *affinity.Receipt, 1)
		go func() {
			r, err := run.Do(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
		pid := 0
		until(t, "the program runs in the group", func() bool {
			for _, p := range groupMembers(g) {
				if exe, err := os.Readlink("/proc/" + strconv.Itoa(p) + "/exe"); err == nil && p != os.Getpid() && strings.Contains(exe, "races") {
					pid = p
				}
			}
			return pid != 0
		})
		shrink(first)
		until(t, "the kernel moves the threads", func() bool { m := masks(t, pid); return m[first.String()] > 0 && len(m) == 1 })
		time.Sleep(100 * time.Millisecond) // one look of the watch

		p := affinity.Pinner{Seat: func(int, int, string) cpuset.Set { return second }}
		if err := p.Process(context.Background(), pid); err != nil {
			t.Error(err)
		}
		p.Close()
		if len(p.Failed) == 0 || !strings.Contains(p.Failed[0].Error(), "outside the cpuset") {
			t.Errorf("a pin outside of it: %v", p.Failed)
		}
		in.Close()
		r := <-got
		if r.Kept || len(r.Broken) == 0 {
			t.Errorf("the receipt says that every seat was kept: %+v", r)
		}
		shrink(all)
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d cpusets shrunk under a seated program, each with a pin outside of it", n)
}

func groupMembers(g *affinity.Group) []int {
	text, err := os.ReadFile(filepath.Join(g.Dirs()[0], "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Threads born by the thousand while they are seated: afterwards none sits
// elsewhere, and undo leaves none behind.
func TestBirths(t *testing.T) {
	all, first, second := two(t)
	pid, end := running(t, "births")
	n, seated := times(100), 0
	for i := range n {
		to := []cpuset.Set{first, second}[i%2]
		name := filepath.Join(t.TempDir(), "undo")
		undo, err := affinity.CreateUndo(name)
		if err != nil {
			t.Fatal(err)
		}
		p := affinity.Pinner{Seat: func(int, int, string) cpuset.Set { return to }, Undo: undo}
		if err := p.Process(context.Background(), pid); err != nil || len(p.Failed) > 0 {
			t.Fatal(err, p.Failed)
		}
		p.Close()
		undo.Close()
		seated += len(p.Threads)
		if got := masks(t, pid); len(got) != 1 || got[to.String()] == 0 {
			t.Fatalf("pin %d to %s leaves %v", i, to, got)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		records, torn, err := affinity.ReadUndo(f, name)
		f.Close()
		if err != nil || torn {
			t.Fatal(err, torn)
		}
		if done := affinity.Undo(records); len(done.Failed) > 0 {
			t.Fatal(done.Failed)
		}
		if got := masks(t, pid); len(got) != 1 || got[all.String()] == 0 {
			t.Fatalf("undo %d leaves %v", i, got)
		}
	}
	t.Logf("%d pins and undos of a process that made %s threads meanwhile; %d seats", n, end(), seated)
}

// Numbers of threads that come back in a small PID namespace while a process is
// seated: no stranger is left on its CPUs.
func TestNumbersComeBack(t *testing.T) {
	if within(t, unix.CLONE_NEWPID) {
		return
	}
	smallPIDs(t)
	all, first, _ := two(t)
	pid, end := running(t, "births")

	ctx, cancel := context.WithCancel(context.Background())
	var strangers, astray atomic.Int64
	var all4 sync.WaitGroup
	for range 4 {
		all4.Go(func() {
			for ctx.Err() == nil {
				out, err := actor("stranger").Output()
				if err != nil {
					continue // no number was free
				}
				strangers.Add(1)
				if got := strings.TrimSpace(string(out)); got != all.String() {
					astray.Add(1)
					t.Errorf("a stranger sits on %s", got)
				}
			}
		})
	}
	n, back := times(2000), 0
	for range n {
		p := affinity.Pinner{Seat: func(int, int, string) cpuset.Set { return first }}
		undo, err := affinity.CreateUndo(filepath.Join(t.TempDir(), "undo"))
		if err != nil {
			t.Fatal(err)
		}
		p.Undo = undo
		if err := p.Process(context.Background(), pid); err != nil {
			t.Fatal(err)
		}
		p.Close()
		back += p.Strangers
		undo.Close()
		f, err := os.Open(undo.Name())
		if err != nil {
			t.Fatal(err)
		}
		records, _, err := affinity.ReadUndo(f, undo.Name())
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		affinity.Undo(records)
	}
	cancel()
	all4.Wait()
	t.Logf("%d pins and undos among %d strangers and %s threads in a namespace of 400 numbers: %d strangers were sent back, %d were left astray",
		n, strangers.Load(), end(), back, astray.Load())
}

// The number of a process that was pinned, and of its child, comes back before
// the undo: the strangers are left alone, whatever their masks are.
func TestUndoOfNumbersThatCameBack(t *testing.T) {
	if within(t, unix.CLONE_NEWPID) {
		return
	}
	smallPIDs(t)
	all, first, _ := two(t)
	for last := 0; last <= 310; { // from 400 they begin again at 300
		c := exec.Command("/bin/true")
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		last = c.Process.Pid
	}
	n := times(5)
	for range n {
		pid, end := running(t, "spin")
		now := time.Duration(0)
		if h, err := tasks.Proc("").Hold(pid); err == nil {
			now = h.Start
			h.Close()
		}
		records := []affinity.UndoRecord{{PID: pid, Start: now, At: now,
			Seats: []affinity.UndoSeat{{Before: all, After: first, Threads: affinity.TIDs{pid}}}}}
		end()
		// Its number comes to one of these, with a child of its own, on the very
		// CPUs that were given.
		var stranger *exec.Cmd
		for stranger == nil {
			c := exec.Command("/bin/sh", "-c", "sleep 60 & echo $!; read end; kill $!; wait")
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := affinity.Do(first, func() { err = c.Start() }); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			var child [16]byte
			m, _ := out.Read(child[:])
			if c.Process.Pid == pid {
				stranger = c
				kid, err := strconv.Atoi(strings.TrimSpace(string(child[:m])))
				if err != nil {
					t.Fatal(err)
				}
				done := affinity.Undo(records)
				for _, p := range []int{pid, kid} {
					if got, err := probe.Affinity(p); err != nil || !got.Equal(first) {
						t.Errorf("undo moved the stranger %d to %s, %v", p, got, err)
					}
				}
				if done.GoneProcesses != 1 || done.Restored != 0 {
					t.Errorf("%+v", done)
				}
			}
			in.Close()
			_ = c.Wait()
			if rand.IntN(2) == 0 { // two at a time would miss every other number
				_ = exec.Command("/bin/true").Run()
			}
		}
	}
	t.Logf("%d numbers came back to strangers with children", n)
}

// smallPIDs leaves a namespace few numbers (Linux 6.14).
func smallPIDs(t *testing.T) {
	t.Helper()
	const name = "/proc/sys/kernel/pid_max"
	before, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	// Before Linux 6.14 the file is the whole machine's, which is not to be changed.
	var major, minor int
	if n, err := fmt.Sscanf(string(before), "%d.%d", &major, &minor); n < 2 || err != nil || major < 6 || major == 6 && minor < 14 {
		t.Skipf("Linux %s has one pid_max for all namespaces", strings.TrimSpace(string(before)))
	}
	if err := os.WriteFile(name, []byte("400"), 0); err != nil {
		t.Skipf("no small pid_max: %v", err)
	}
}
