//go:build lab

package lab

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/affinity/fleet"
)

// TestKubernetesRun runs plans on real nodes. Their CPU 0 is reserved, so that
// a Guaranteed pod has CPU 1 to itself and all others share both.
func TestKubernetesRun(t *testing.T) {
	c := startKubernetes(t)
	berth := built(t)
	tars := kubeImages(t, berth)
	k1, k2 := c.startNode(t, "k1", 1, tars), c.startNode(t, "k2", 2, tars)
	dir := t.TempDir()
	save := func(name string, args ...string) string {
		t.Helper()
		out, said, status := run(t, c.env, append([]string{berth, "fleet"}, args...)...)
		if status != 0 {
			t.Fatalf("berth fleet %s: status %d\n%s", strings.Join(args, " "), status, said)
		}
		return write(t, dir, name, out, 0o644)
	}
	found := save("fleet.json", "inspect", "--engine", "kubernetes", "--image", berthImage, "-o", "json")
	profile := func(name, limits string) string {
		return write(t, dir, name, "schema: berth.profile/v1\nname: work\nmodel: processes\nwork: {kind: float}\nlimits: "+limits+"\n", 0o644)
	}
	seated := save("seated.json", "advise", profile("seated.yaml", "{reserve_cores: 1, memory_per_worker_mib: 32}"), "--fleet", found, "-o", "json")
	shared := save("shared.json", "advise", profile("shared.yaml", "{reserve_cores: 1}"), "--fleet", found, "-o", "json")
	whole := save("whole.json", "advise", profile("whole.yaml", "{memory_per_worker_mib: 32}"), "--fleet", found, "-o", "json")

	// outcome runs a program and returns what became of it.
	outcome := func(want int, plan, image string, args ...string) (*fleet.Outcome, string) {
		t.Helper()
		receipt := filepath.Join(t.TempDir(), "run.json")
		words := append([]string{berth, "fleet", "run", "--plan", plan, "--engine", "kubernetes", "--image", image, "--receipt", receipt, "--ready", "60s", "--limit", "60s"}, args...)
		out, said, status := run(t, c.env, words...)
		t.Logf("$ %s\n%s%s", strings.Join(words, " "), out, said)
		if status != want {
			t.Errorf("status %d, want %d", status, want)
		}
		text, err := os.ReadFile(receipt)
		if err != nil {
			t.Fatal(err)
		}
		o := &fleet.Outcome{}
		if err := json.Unmarshal(text, o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if left := c.left(t); left != "" {
			t.Errorf("%s is left", left)
		}
		return o, out
	}

	// While the program runs, the kubelets say which CPUs are its own.
	own := make(chan string, 2)
	for _, n := range []*kubeletNode{k1, k2} {
		go func() {
			for range 600 {
				entries, rest := n.exclusive(t)
				for _, containers := range entries {
					own <- containers["berth"] + " of its own, " + rest + " for others"
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			own <- "none"
		}()
	}
	o, out := outcome(0, seated, shellImage, "--require", "--", "sh", "-c", "grep Cpus_allowed_list /proc/self/status; sleep 3")
	for range 2 {
		if said := <-own; said != "1 of its own, 0 for others" {
			t.Errorf("a kubelet says: %s", said)
		}
	}
	lines := slices.Sorted(strings.Lines(out))
	if want := "k1: Cpus_allowed_list:\t1\nk2: Cpus_allowed_list:\t1\n"; strings.Join(lines, "") != want {
		t.Errorf("the programs say %q, want %q", lines, want)
	}
	if !o.Kept || o.Totals.Reported != 2 {
		t.Errorf("%+v", o)
	}
	for _, n := range o.Nodes {
		if n.Is == nil || n.Is.Allowed.String() != "1" || len(n.Workers) != 1 || n.Workers[0].Set.String() != "1" || n.Workers[0].RanOn.String() != "1" {
			t.Errorf("%+v", n)
		}
	}
	// Without a limit of memory a pod shares its CPUs: seated all the same, and
	// the node knows that CPU 0 is not kept from it.
	o, _ = outcome(0, shared, bothImage, "--bring", "never", "--", "sleep", "2")
	for _, n := range o.Nodes {
		if n.Is == nil || n.Is.Allowed.String() != "0-1" || !n.Kept {
			t.Errorf("%+v", n)
		}
	}
	// Both CPUs of a node are more than its kubelet gives.
	o, _ = outcome(1, whole, shellImage, "--ready", "10s", "--", "true")
	for _, n := range o.Nodes {
		if n.Trouble != fleet.Unreachable || !strings.Contains(n.Error, "Insufficient cpu") {
			t.Errorf("%+v", n)
		}
	}
	if o, _ = outcome(3, seated, shellImage, "--nodes", "k1", "--", "sh", "-c", "exit 3"); o.First != "k1" || len(o.Nodes) != 1 {
		t.Errorf("%+v", o)
	}

	// start begins a run of some seconds and returns when its programs are there.
	start := func(seconds string) (r *exec.Cmd, out *bytes.Buffer) {
		t.Helper()
		out = &bytes.Buffer{}
		r = exec.Command(berth, "fleet", "run", "--plan", seated, "--engine", "kubernetes", "--image", shellImage, "--limit", "10m", "--", "sh", "-c", "exec sleep "+seconds+".$0", "0119")
		r.Env, r.Stdout, r.Stderr = c.env, out, out
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the program runs on both nodes", func() bool { return having("sleep", seconds+".0119") == 2 })
		return r, out
	}
	r, said := start("3599")
	t.Logf("kubectl of a session: %s of memory", sessionMemory())
	r.Process.Signal(syscall.SIGINT)
	r.Wait()
	t.Logf("SIGINT:\n%s", said)
	if r.ProcessState.ExitCode() != 130 || having("sleep", "3599.0119") > 0 || !strings.Contains(said.String(), "2 nodes kept all their seats") {
		t.Errorf("after a signal: status %d", r.ProcessState.ExitCode())
	}
	if left := c.left(t); left != "" {
		t.Errorf("%s is left", left)
	}
	// One that is killed has nobody to remove its pods, but its programs end.
	r, _ = start("3598")
	r.Process.Kill()
	r.Wait()
	eventually(t, "the programs have ended", func() bool { return having("sleep", "3598.0119") == 0 })
	c.kubectl(t, "delete", "jobs", "--all", "--cascade=foreground")
	// A node that goes while it runs is lost, and the other one keeps on.
	r, said = start("12")
	k2.kill()
	r.Wait()
	t.Logf("k2 is killed:\n%s", said)
	if text := said.String(); r.ProcessState.ExitCode() != 1 || !strings.Contains(text, "1 of 2 nodes kept all their seats") || !strings.Contains(text, "  k2  lost") {
		t.Errorf("a node went: status %d", r.ProcessState.ExitCode())
	}
	if left := c.left(t); left != "" {
		t.Errorf("%s is left", left)
	}
}

// having counts the processes that have just these words.
func having(words ...string) int {
	n := 0
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		if text, err := os.ReadFile(name); err == nil && string(text) == strings.Join(words, "\x00")+"\x00" {
			n++
		}
	}
	return n
}

// sessionMemory is what a kubectl holds that has a session, at most so far.
func sessionMemory() string {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		if text, _ := os.ReadFile(name); strings.HasPrefix(string(text), "kubectl\x00exec\x00") {
			status, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "status"))
			_, rest, _ := strings.Cut(string(status), "VmHWM:")
			line, _, _ := strings.Cut(rest, "\n")
			return strings.TrimSpace(line)
		}
	}
	return "an unknown amount"
}
