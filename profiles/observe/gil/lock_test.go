//go:build linux

package gil

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/probe/tasks"
)

// asked is the variable of the environment that makes this test a program that
// tries to open the lock of a process of another user.
const asked = "GIL_TEST_OPEN"

func TestMain(m *testing.M) {
	if pid, err := strconv.Atoi(os.Getenv(asked)); err == nil {
		if os.Getuid() == 0 {
			const nobody = 65534
			if err := errors.Join(syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		_, err := Open("", pid)
		fmt.Println(errors.Is(err, fs.ErrPermission), err)
		return
	}
	os.Exit(m.Run())
}

// python is an interpreter.
type python struct {
	path  string
	minor int // of 3
	free  bool
}

// pythons are the interpreters along the PATH, each once.
func pythons(t testing.TB) []python {
	t.Helper()
	found := installed()
	if len(found) == 0 {
		t.Skip("no python3 is installed")
	}
	return found
}

var installed = sync.OnceValue(func() []python {
	var found []python
	seen := map[string]bool{}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		names, _ := filepath.Glob(filepath.Join(dir, "python3*"))
		for _, name := range names {
			if !holds().MatchString(filepath.Base(name)) {
				continue
			}
			out, err := exec.Command(name, "-c", "import os, sys, sysconfig\nprint(sys.version_info[1], int(sysconfig.get_config_var('Py_GIL_DISABLED') or 0), os.path.realpath(sys.executable))").Output()
			var p python
			var free int
			if err != nil {
				continue // such as a wrapper for a version that is not there
			}
			if _, err := fmt.Sscan(string(out), &p.minor, &free, &p.path); err == nil && !seen[p.path] {
				seen[p.path] = true
				p.free = free == 1
				found = append(found, p)
			}
		}
	}
	return found
})

// start runs a program that says when it has begun.
func start(t testing.TB, path, program string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(path, "-c", program)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// opened opens the lock of an interpreter; the test is skipped where that may
// not be.
func opened(t testing.TB, pid int) *Lock {
	t.Helper()
	l, err := Open("", pid)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

const (
	busy = `
import sys, threading
if %v: sys.setswitchinterval(%v)
def f():
  while True: sum(range(1000))
for _ in range(2): threading.Thread(target=f).start()
print(1, flush=True)`
	asleep   = "import time; print(1, flush=True); time.sleep(1000)"
	compress = `
import threading, zlib
b = bytes(range(256)) * (1 << 16)
def f():
  while True: zlib.compress(b)
for _ in range(2): threading.Thread(target=f).start()
print(1, flush=True)`
)

func TestHeld(t *testing.T) {
	tests := []struct {
		name, program string
		from, to      float64
		interval      time.Duration
	}{
		{"pure Python", fmt.Sprintf(busy, 0, 0), 0.5, 1, 5 * time.Millisecond},
		{"another interval", fmt.Sprintf(busy, 1, 0.002), 0.5, 1, 2 * time.Millisecond},
		{"asleep", asleep, 0, 0.2, 5 * time.Millisecond},
		{"compress", compress, 0, 0.5, 5 * time.Millisecond},
	}
	for _, python := range pythons(t) {
		if python.minor < 7 || python.free {
			continue
		}
		for _, test := range tests {
			t.Run(python.path+" "+test.name, func(t *testing.T) {
				if python.minor == 7 && test.interval != 5*time.Millisecond {
					t.Skip("not to be found in 3.7")
				}
				l := opened(t, start(t, python.path, test.program).Process.Pid)
				const readings = 100
				held := 0
				var first, last State
				for i := range readings {
					s, err := l.Read()
					if err != nil {
						t.Fatal(err)
					}
					if s.Held {
						held++
					}
					if i == 0 {
						first = s
					}
					last = s
					time.Sleep(time.Millisecond)
				}
				share := float64(held) / readings
				t.Logf("3.%d: held in %.2f of the readings, switched %d times", python.minor, share, last.Switches-first.Switches)
				if share < test.from || share > test.to {
					t.Errorf("held in %.2f of the readings, want %v to %v", share, test.from, test.to)
				}
				if last.Interval != test.interval || last.Holder == 0 {
					t.Errorf("%+v", last)
				}
				if test.from > 0 && last.Switches == first.Switches {
					t.Errorf("two threads never switched: %+v", last)
				}
			})
		}
	}
}

// TestOther: interpreters that have no one lock.
func TestOther(t *testing.T) {
	for _, python := range pythons(t) {
		t.Run(python.path, func(t *testing.T) {
			program, want := asleep, error(nil)
			switch {
			case python.free:
				want = ErrFreeThreaded
			case python.minor < 7:
				want = ErrNoSymbol
			case python.minor >= 13:
				program, want = "import _interpreters; _interpreters.create(); "+asleep, ErrSeveral
			default:
				t.Skipf("3.%d has one lock", python.minor)
			}
			l, err := Open("", start(t, python.path, program).Process.Pid)
			if errors.Is(err, fs.ErrPermission) {
				t.Skip(err)
			}
			if !errors.Is(err, want) {
				t.Errorf("3.%d: %v, %v, want %v", python.minor, l, err, want)
			}
		})
	}
}

// TestSharedLock: further interpreters that go by the lock of the first.
func TestSharedLock(t *testing.T) {
	for _, python := range pythons(t) {
		if python.minor >= 13 && !python.free {
			program := "import _interpreters; _interpreters.create('legacy'); " + asleep
			if _, err := opened(t, start(t, python.path, program).Process.Pid).Read(); err != nil {
				t.Errorf("3.%d: %v", python.minor, err)
			}
		}
	}
}

// locked is an interpreter that has a lock.
func locked(t testing.TB) python {
	for _, p := range pythons(t) {
		if p.minor >= 7 && !p.free {
			return p
		}
	}
	t.Skip("no python3 from 3.7 on is installed")
	return python{}
}

func TestReadAfterTheEnd(t *testing.T) {
	p := locked(t)
	cmd := start(t, p.path, asleep)
	l := opened(t, cmd.Process.Pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if s, err := l.Read(); err == nil {
		t.Errorf("of a process that has ended: %+v", s)
	}
}

func TestReadOfAnotherProgram(t *testing.T) {
	p := locked(t)
	cmd := exec.Command(p.path, "-c", "import os\nprint(1, flush=True)\ninput()\nos.execv('/bin/sh', ['sh', '-c', 'echo; read x'])")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	answers := bufio.NewReader(out)
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	l := opened(t, cmd.Process.Pid)
	if _, err := l.Read(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("go\n"))
	if _, err := answers.ReadString('\n'); err != nil {
		t.Skip("there is no /bin/sh: ", err)
	}
	if s, err := l.Read(); err == nil {
		t.Errorf("of another program: %+v", s)
	}
}

// TestTree: the process is the one of the tree, not that of the number here.
func TestTree(t *testing.T) {
	pid := start(t, locked(t).path, asleep).Process.Pid
	opened(t, pid)
	dir := t.TempDir()
	if err := os.Symlink("/proc/"+strconv.Itoa(pid), filepath.Join(dir, "7")); err != nil {
		t.Fatal(err)
	}
	l, err := Open(tasks.Proc(dir), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s, err := l.Read(); err != nil || s.Interval != 5*time.Millisecond {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := Open(tasks.Proc(dir), pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that the tree has not: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open("", os.Getpid()); !errors.Is(err, ErrNotPython) {
		t.Errorf("this test: %v", err)
	}
	if _, err := Open("", 1<<22); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is not there: %v", err)
	}
}

func TestNoRights(t *testing.T) {
	pid := 1
	if os.Getuid() == 0 {
		pid = os.Getpid()
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asked+"="+strconv.Itoa(pid))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("cannot run as another user: %v %s", err, out)
	}
	if !strings.HasPrefix(string(out), "true ") || !strings.Contains(string(out), "right to trace it") {
		t.Errorf("%s", out)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	l := opened(t, start(t, locked(t).path, asleep).Process.Pid)
	if n := testing.AllocsPerRun(100, func() { _, _ = l.Read() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	l := opened(b, start(b, locked(b).path, asleep).Process.Pid)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Read(); err != nil {
			b.Fatal(err)
		}
	}
}
