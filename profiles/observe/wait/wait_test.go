//go:build linux

package wait_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/probe/tasks"
	"berth/profiles/observe/wait"
)

func stateOf(pid, tid int) tasks.State {
	data, err := tasks.Proc("").ReadFile(fmt.Sprintf("%d/task/%d/stat", pid, tid))
	if err != nil {
		return tasks.Dead
	}
	st, err := tasks.ParseStat(data)
	if err != nil {
		return tasks.Dead
	}
	return st.State
}

// await looks until a thread is seen as wanted, or for half a minute.
func await(r *wait.Reader, pid, tid int, good func(wait.Wait) bool) wait.Wait {
	var w wait.Wait
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if w = r.Thread(tid, stateOf(pid, tid)); good(w) || r.Denied() {
			break
		}
	}
	return w
}

func TestThread(t *testing.T) { testThread(t, "/proc/self/exe") }

func testThread(t *testing.T, program string) {
	pid, tids := start(t, program)
	r := wait.New("", pid)
	defer r.Close()
	for i, b := range blockers {
		t.Run(b.name, func(t *testing.T) {
			comparable := func(w wait.Wait) wait.Wait {
				w.Syscall = 0
				w.Timeout = min(max(w.Timeout, 0), 1)
				return w
			}
			w := await(r, pid, tids[i], func(w wait.Wait) bool { return comparable(w) == b.want })
			if r.Denied() {
				t.Skip("no right to trace a child of its own")
			}
			if comparable(w) != b.want {
				t.Errorf("got %+v (%v), want %+v (%v)", w, w.Kind, b.want, b.want.Kind)
			}
			if b.want.Kind != wait.Running && w.Syscall < 0 {
				t.Error("no system call")
			}
			if w.Timeout > (3600+1)*time.Second {
				t.Errorf("%v remain of an hour", w.Timeout)
			}
		})
	}
}

// A kept descriptor must not answer for a thread that ended.
func TestEnded(t *testing.T) {
	cmd := exec.Command("sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Skip("no sleep:", err)
	}
	pid := cmd.Process.Pid
	r := wait.New("", pid)
	defer r.Close()
	w := await(r, pid, pid, func(w wait.Wait) bool { return w.Kind == wait.Sleep })
	cmd.Process.Kill()
	cmd.Wait()
	if !r.Denied() && w.Kind != wait.Sleep {
		t.Errorf("sleep seen as %v", w.Kind)
	}
	for range 2 {
		if w := r.Thread(pid, tasks.Sleeping); w.Kind != wait.Unknown || w.Syscall != -1 {
			t.Errorf("after its end seen as %+v", w)
		}
	}
}

func TestStates(t *testing.T) {
	r := wait.New("", os.Getpid())
	defer r.Close()
	for state, want := range map[tasks.State]wait.Kind{
		tasks.Running: wait.Running, tasks.Stopped: wait.Stopped, tasks.Traced: wait.Stopped, tasks.Zombie: wait.Other, tasks.Idle: wait.Other,
	} {
		if w := r.Thread(os.Getpid(), state); w.Kind != want || w.Syscall != -1 {
			t.Errorf("state %v: got %+v, want %v", state, w, want)
		}
	}
}

func TestDenied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=stranger")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Skip("cannot become somebody else:", err)
	}
	if got, want := strings.TrimSpace(string(out)), "{unknown -1 false 0s 0 0 0} true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestThread386 sees in 32-bit programs what it sees in others.
func TestThread386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs the instructions of a PC with 64 bits")
	}
	if testing.Short() {
		t.Skip("builds itself for 386")
	}
	name := filepath.Join(t.TempDir(), "wait386")
	build := exec.Command("go", "test", "-c", "-o", name)
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip(err)
		}
		t.Fatalf("build for 386: %v\n%s", err, out)
	}
	empty := exec.Command(name, "-test.run", "^$")
	if err := empty.Run(); errors.Is(err, syscall.ENOEXEC) {
		t.Skip("no 32-bit programs here:", err)
	}
	testThread(t, name)
}

// A 32-bit program has other numbers: pause is 29, which is shmget in 64 bits.
func TestOtherWordSize(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs the instructions of a PC with 64 bits")
	}
	const base = 0x08048000
	code := []byte{0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7} // mov $29,%eax; int $0x80; jmp to the start
	size := uint32(52 + 32 + len(code))
	var b bytes.Buffer
	for _, part := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 1, 1, 1}, uint16(2), uint16(3), uint32(1), uint32(base + 84), uint32(52), uint32(0), uint32(0),
		uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0),
		[8]uint32{1, 0, base, base, size, size, 5, 4096}, code,
	} {
		binary.Write(&b, binary.LittleEndian, part)
	}
	name := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(name, b.Bytes(), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name)
	if err := cmd.Start(); err != nil {
		t.Skip("no 32-bit programs here:", err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	r := wait.New("", cmd.Process.Pid)
	defer r.Close()
	pause := wait.Wait{Kind: wait.Sleep, Syscall: 29}
	if w := await(r, cmd.Process.Pid, cmd.Process.Pid, func(w wait.Wait) bool { return w == pause }); w != pause && !r.Denied() {
		t.Errorf("got %+v (%v), want %+v (%v)", w, w.Kind, pause, pause.Kind)
	}
}

func BenchmarkThread(b *testing.B) {
	pid, tids := start(b, "/proc/self/exe")
	r := wait.New("", pid)
	defer r.Close()
	for i, blocker := range blockers {
		if blocker.name == "spin" {
			continue
		}
		b.Run(blocker.name, func(b *testing.B) {
			await(r, pid, tids[i], func(w wait.Wait) bool { return w.Kind == blocker.want.Kind })
			b.ReportAllocs()
			for b.Loop() {
				r.Thread(tids[i], tasks.Sleeping)
			}
		})
	}
}
