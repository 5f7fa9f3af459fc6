//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cpuset"
)

// programs in several languages, each with threads; all say "ready" when these
// are there, and end when standard input does.
func programs(t *testing.T) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	has := func(tool string) bool { _, err := exec.LookPath(tool); return err == nil }
	out := map[string][]string{}
	if has("cc") {
		file := write("c.c", `#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *wait(void *p) { pause(); return p; }
int main(void) {
  pthread_t t;
  for (int i = 0; i < 4; i++) pthread_create(&t, 0, wait, 0);
  puts("ready"); fflush(stdout);
  char c;
  while (read(0, &c, 1) > 0) {}
  _exit(0);
}
`)
		if text, err := exec.Command("cc", "-static", "-o", filepath.Join(dir, "c"), file, "-lpthread").CombinedOutput(); err != nil {
			t.Logf("no static C program: %s", text)
		} else {
			out["static C"] = []string{filepath.Join(dir, "c")}
		}
	}
	if has("python3") {
		out["Python"] = []string{"python3", write("p.py", `
import sys, threading
done = threading.Event()
for _ in range(4): threading.Thread(target=done.wait).start()
print("ready", flush=True)
sys.stdin.read()
done.set()
`)}
	}
	if has("node") {
		out["Node"] = []string{"node", write("n.js", `
const { Worker } = require("worker_threads");
let n = 0;
for (let i = 0; i < 2; i++) new Worker("setInterval(() => {}, 1000)", { eval: true }).on("online", () => { if (++n == 2) console.log("ready"); });
process.stdin.on("data", () => {}).on("end", () => process.exit(0));
`)}
	}
	if has("java") {
		out["Java"] = []string{"java", "-Xshare:auto", write("J.java", `
public class J {
  public static void main(String[] a) throws Exception {
    for (int i = 0; i < 4; i++) {
      Thread t = new Thread(() -> { try { Thread.sleep(60000); } catch (InterruptedException e) {} });
      t.setDaemon(true);
      t.start();
    }
    System.out.println("ready");
    while (System.in.read() >= 0) {}
    System.exit(0);
  }
}
`)}
	}
	// A Go program: this test binary, by another name.
	out["Go"] = []string{"/proc/self/exe", asWaiter}
	return out
}

// asWaiter is the argument that makes the test binary a Go program that waits.
const asWaiter = "-berth-waiter"

func waiter() {
	for range 4 {
		go func() { _ = unix.Pause() }() // a thread each
	}
	time.Sleep(50 * time.Millisecond)
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
	os.Exit(0)
}

// started is berth with a program that has said "ready".
type started struct {
	*exec.Cmd
	pid string // the program's
	end func() // closes its standard input
	out *bufio.Reader
}

func start(t *testing.T, args ...string) *started {
	t.Helper()
	s := &started{Cmd: exec.Command("berth", args...)}
	s.Stderr = os.Stderr
	// A group whose parent is in another: orphaned ones cannot be stopped by
	// SIGTSTP (POSIX.1-2017, section 2.4.3).
	s.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = s.Process.Kill(); _ = s.Wait() })
	s.end = func() { in.Close() }
	s.out = bufio.NewReader(out)
	if line, err := s.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q: the program says %q, %v", args, line, err)
	}
	s.pid = fmt.Sprint(s.Process.Pid)
	if kids := childrenOf(s.pid); len(kids) > 0 { // berth supervises
		s.pid = kids[0]
	}
	return s
}

func childrenOf(pid string) (kids []string) {
	files, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		kids = append(kids, strings.Fields(string(text))...)
	}
	return kids
}

func twoCPUs(t *testing.T) (first, last string) {
	t.Helper()
	all, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	return cpuset.Range(all.First(), all.First()).String(), cpuset.Range(all.Last(), all.Last()).String()
}

// All threads of a program in any language sit where berth run put it, and go
// where berth pin sends them, by the kernel's word.
func TestPrograms(t *testing.T) {
	first, last := twoCPUs(t)
	for name, command := range programs(t) {
		for _, supervised := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, supervised), func(t *testing.T) {
				args := append([]string{"run", "-c", first, "--"}, command...)
				receipt := filepath.Join(t.TempDir(), "receipt.json")
				if supervised {
					args = append([]string{"run", "-c", first, "--receipt=" + receipt, "--"}, command...)
				}
				s := start(t, args...)
				onSeat(t, s.pid, first)
				undo := filepath.Join(t.TempDir(), "undo")
				berth(t, 0, "pin", "--pid", s.pid, "-c", last, "--undo-file", undo)
				onSeat(t, s.pid, last)
				berth(t, 0, "pin", "--undo", undo)
				onSeat(t, s.pid, first)
				berth(t, 0, "pin", "--pid", s.pid, "--each", "--undo-file", undo+"2")
				seats := map[string]bool{}
				for _, mask := range kernelMasks(s.pid) {
					seats[mask] = true
				}
				if want := map[string]bool{first: true, last: true}; !cmp.Equal(seats, want) {
					t.Errorf("one CPU each gives seats %v", seats)
				}
				berth(t, 0, "pin", "--undo", undo+"2")
				s.end()
				if err := s.Wait(); err != nil {
					t.Errorf("the program ends with %v", err)
				}
				if text, err := os.ReadFile(receipt); supervised && (err != nil || !strings.Contains(string(text), `"asked": "`+first+`"`)) {
					t.Errorf("receipt %.200s, %v", text, err)
				}
			})
		}
	}
}

func onSeat(t *testing.T, pid, want string) {
	t.Helper()
	masks := kernelMasks(pid)
	if len(masks) < 3 {
		t.Errorf("process %s has %d threads", pid, len(masks))
	}
	for _, mask := range masks {
		if mask != want {
			t.Errorf("a thread sits on %s, not on %s", mask, want)
		}
	}
}

func berth(t *testing.T, status int, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	if got := run(args, &stdout, &stderr); got != status {
		t.Fatalf("berth %q: status %d, want %d: %s", args, got, status, stderr.String())
	}
	return stdout.String()
}

// Threads that are born later are seated too, and a signal undoes it all.
func TestFollow(t *testing.T) {
	first, _ := twoCPUs(t)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	target := exec.Command("python3", "-c", `
import os, sys, threading
done = threading.Event()
all = os.sched_getaffinity(0)
def thread():
    os.sched_setaffinity(0, all)  # off the seat that it was born on
    done.wait()
for line in sys.stdin:
    threading.Thread(target=thread).start()
    print("born", flush=True)
done.set()
`)
	in, err := target.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	outPipe, err := target.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = target.Wait() }()
	out := bufio.NewReader(outPipe)
	pid := fmt.Sprint(target.Process.Pid)
	undo := filepath.Join(t.TempDir(), "undo")
	pin := exec.Command("berth", "pin", "--pid", pid, "-c", first, "--follow", "--undo-file", undo)
	stderr, err := pin.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pin.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pin.Process.Kill(); _ = pin.Wait() }()
	said := bufio.NewReader(stderr)
	if line, err := said.ReadString('\n'); err != nil || !strings.Contains(line, "following") {
		t.Fatalf("berth says %q, %v", line, err)
	}
	for range 5 {
		fmt.Fprintln(in)
		if _, err := out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, func() bool { return allOn(pid, first) && len(kernelMasks(pid)) >= 6 })
	_ = pin.Process.Signal(unix.SIGTERM)
	if line, _ := said.ReadString('\n'); !strings.Contains(line, "ended by SIGTERM; what was done is undone") {
		t.Errorf("berth says %q", line)
	}
	var exit *exec.ExitError
	if err := pin.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 143 {
		t.Errorf("berth ends with %v", err)
	}
	all, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	if !allOn(pid, all.String()) {
		t.Errorf("after the undo the threads sit on %v", kernelMasks(pid))
	}
	if _, err := os.Stat(undo); err == nil {
		t.Error("the undo file is still there")
	}
}

func allOn(pid, want string) bool {
	for _, mask := range kernelMasks(pid) {
		if mask != want {
			return false
		}
	}
	return true
}

// settled waits for what another process is about to do.
func settled(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not come to that in ten seconds")
}

// The stated fate of workers whose berth is killed.
func TestOnDeath(t *testing.T) {
	for fate, dies := range map[string]bool{"kill": true, "leave": false} {
		s := start(t, "run", "--on-death", fate, "--receipt=/dev/null", "--", "sh", "-c", "echo ready; exec sleep 30.5")
		pid := s.pid
		if pid == fmt.Sprint(s.Process.Pid) {
			t.Fatal("berth is not there to be killed")
		}
		_ = s.Process.Kill()
		_ = s.Wait()
		gone := func() bool { return len(kernelMasks(pid)) == 0 }
		if dies {
			settled(t, gone)
			continue
		}
		time.Sleep(300 * time.Millisecond)
		if gone() {
			t.Error("the worker died with berth, and was to be left")
		}
		var n int
		fmt.Sscan(pid, &n)
		_ = unix.Kill(n, unix.SIGKILL)
	}
}

// Signals that berth gets reach the program, and its answer is berth's.
func TestSignalsReachTheProgram(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"INT": unix.SIGINT, "TERM": unix.SIGTERM, "HUP": unix.SIGHUP, "QUIT": unix.SIGQUIT, "USR1": unix.SIGUSR1} {
		s := start(t, "run", "--receipt=/dev/null", "--", "sh", "-c", "trap 'exit 42' "+name+"; echo ready; while :; do sleep 0.01; done")
		_ = s.Process.Signal(sig)
		var exit *exec.ExitError
		if err := s.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 42 {
			t.Errorf("SIG%s: %v", name, err)
		}
	}
}

// A stop and a continuation reach the program and berth alike.
func TestStopAndContinue(t *testing.T) {
	s := start(t, "run", "--receipt=/dev/null", "-n", "1", "--", "sh", "-c", "echo ready; while :; do sleep 0.01; done")
	state := func(pid string) string {
		text, _ := os.ReadFile("/proc/" + pid + "/stat")
		_, rest, _ := strings.Cut(string(text), ") ")
		return rest[:min(1, len(rest))]
	}
	me := fmt.Sprint(s.Process.Pid)
	_ = s.Process.Signal(unix.SIGTSTP)
	settled(t, func() bool { return state(s.pid) == "T" && state(me) == "T" })
	_ = s.Process.Signal(unix.SIGCONT)
	settled(t, func() bool { return state(s.pid) != "T" && state(me) != "T" })
	_ = s.Process.Signal(unix.SIGTERM)
	var exit *exec.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 143 {
		t.Errorf("%v", err)
	}
}

// On a terminal the program reads what is typed, and a key that interrupts
// reaches it once.
func TestRunOnTerminal(t *testing.T) {
	ours, theirs := terminal(t, 80, 24)
	cmd := exec.Command("berth", "run", "--receipt=/dev/null", "--", "sh", "-c",
		`read x; trap 'n=$((n+1)); sleep 0.2; echo "$n times"; exit 5' INT; echo "got $x"; while :; do sleep 0.01; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(ours)
	until := func(what string) {
		t.Helper()
		for {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatalf("%v: %q has not come", err, what)
			}
			if strings.Contains(line, what) {
				return
			}
		}
	}
	fmt.Fprint(ours, "hello\n")
	until("got hello")
	fmt.Fprint(ours, "\x03")
	until("1 times")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("berth ends with %v", err)
	}
}
