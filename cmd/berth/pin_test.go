//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"berth/probe"
)

// kernelMasks reads the kernel's word on every thread of a process.
func kernelMasks(pid string) (out []string) {
	files, _ := filepath.Glob("/proc/" + pid + "/task/*/status")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
		mask, _, _ := strings.Cut(rest, "\n")
		out = append(out, mask)
	}
	return out
}

// running lists the processes with a command line.
func running(line string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		text, err := os.ReadFile(f)
		words := strings.ReplaceAll(strings.TrimRight(string(text), "\x00"), "\x00", " ")
		if err == nil && (words == line || strings.HasSuffix(words, "/"+line)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// sleeping: waits until the program is there.
func sleeping(ts *testscript.TestScript, not bool, args []string) {
	for range 500 {
		if len(running("sleep 61.25")) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("it did not start")
}

// masks LINE SET: every thread of the processes with this command line sits on
// the set; all is what this process may use.
func masks(ts *testscript.TestScript, not bool, args []string) {
	want := args[1]
	if want == "all" {
		set, err := probe.Affinity(0)
		ts.Check(err)
		want = set.String()
	}
	pids := running(args[0])
	if len(pids) == 0 {
		ts.Fatalf("%s does not run", args[0])
	}
	for _, pid := range pids {
		for _, mask := range kernelMasks(pid) {
			if mask != want {
				ts.Fatalf("a thread of process %s sits on %s, not on %s", pid, mask, want)
			}
		}
	}
}

// A berth that is killed at any moment leaves a file by which all is undone.
func TestUndoAfterKill(t *testing.T) {
	all, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3, for a program with threads")
	}
	target := exec.Command("python3", "-c", `
import sys, threading
done = threading.Event()
threading.stack_size(65536)
for _ in range(400): threading.Thread(target=done.wait).start()
print("ready", flush=True)
sys.stdin.read()
done.set()
`)
	in, err := target.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := target.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = target.Wait() }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(target.Process.Pid)
	rounds := 200
	if testing.Short() || raceEnabled {
		rounds = 20
	}
	cut := 0
	for i := range rounds {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("undo-%d", i))
		pin := exec.Command("berth", "pin", "--pid", pid, "--each", "--undo-file", file)
		if err := pin.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(16_000)) * time.Microsecond)
		_ = pin.Process.Kill()
		if pin.Wait() != nil {
			cut++
		}
		if text, err := os.ReadFile(file); err != nil || !bytes.Contains(text, []byte("\n")) {
			continue // it had not begun
		}
		var stdout, stderr bytes.Buffer
		if status := run([]string{"pin", "--undo", file}, &stdout, &stderr); status != 0 {
			t.Fatalf("round %d: undo ends with %d: %s", i, status, stderr.String())
		}
		for _, mask := range kernelMasks(pid) {
			if mask != all.String() {
				t.Fatalf("round %d: after the undo a thread sits on %s", i, mask)
			}
		}
	}
	t.Logf("%d of %d were killed before their end", cut, rounds)
	if cut == 0 {
		t.Error("none was killed in time")
	}
}

func FuzzRules(f *testing.F) {
	f.Add("rules:\n  - {name: \"*\", cpus: \"0\"}\n")
	f.Add("rules: [{name: a, place: 'pu:0', each: true}, 1]")
	f.Fuzz(func(t *testing.T, text string) {
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		rules, err := parseRules(cmd, []byte(text), "r.yaml")
		if err == nil && len(rules) == 0 {
			t.Error("no rules, and no error")
		}
		for _, r := range rules {
			if r.places.Union().IsEmpty() || r.name == "" {
				t.Errorf("a rule of nothing: %+v", r)
			}
		}
	})
}
