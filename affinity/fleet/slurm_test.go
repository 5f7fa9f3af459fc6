//go:build linux

package fleet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeSlurm plays sinfo and scontrol out of files.
func fakeSlurm() int {
	text, err := os.ReadFile(filepath.Join(os.Getenv("FAKE_DIR"), filepath.Base(os.Args[0])))
	if err != nil {
		fmt.Fprintln(os.Stderr, "slurm_load_node: Unable to contact slurm controller (connect failure)")
		return 1
	}
	os.Stdout.Write(text)
	return 0
}

// fakeSalloc becomes the program that stands after its options.
func fakeSalloc(args []string) int {
	at := slices.Index(args, "srun")
	path, err := exec.LookPath("srun")
	if err != nil || !slices.Contains(args[:at], "--exclusive") || !strings.HasPrefix(args[at-3], "--nodes=") {
		return 1
	}
	syscall.Exec(path, args[at:], append(os.Environ(), "FAKE_ALLOCATION=--exclusive"))
	return 1
}

// fakeSrun runs a step: what a node is called says what its task does. Their
// lines come mixed.
func fakeSrun(args []string) int {
	var nodes []string
	brought := false
	for _, a := range args {
		if list, ok := strings.CutPrefix(a, "--nodelist="); ok {
			nodes, _ = ParseNames(list)
		}
		brought = brought || strings.HasPrefix(a, "--bcast=")
	}
	if record, err := os.OpenFile(filepath.Join(os.Getenv("FAKE_DIR"), "srun"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		fmt.Fprintln(record, os.Getenv("FAKE_ALLOCATION"), strings.Join(args, " "))
		record.Close()
	}
	if slices.Contains(args, "--serve") {
		return fakeStep(nodes, brought, args[slices.Index(args, "fleet"):])
	}
	var tasks [][]string
	hang := false
	for _, node := range nodes {
		var out bytes.Buffer
		WriteFrames(&out, node, fakeDocument(node))
		lines := strings.SplitAfter(out.String(), "\n")
		switch strings.TrimRight(node, "0123456789") {
		case "n":
			tasks = append(tasks, lines)
		case "talks":
			tasks = append(tasks, append([]string{"module: loaded gcc\n"}, lines...))
		case "dies":
			tasks = append(tasks, lines[:len(lines)/2])
			fmt.Fprintf(os.Stderr, "srun: error: Node failure on %s\n", node)
		case "twice":
			tasks = append(tasks, lines)
			out.Reset()
			WriteFrames(&out, node, fakeDocument(node))
			tasks = append(tasks, strings.SplitAfter(out.String(), "\n"))
		case "bare":
			if brought {
				tasks = append(tasks, lines)
				continue
			}
			fmt.Fprintf(os.Stderr, "slurmstepd: error: execve(): berth: No such file or directory\nsrun: error: %s: task 3: Exited with exit code 2\n", node)
		case "other":
			fmt.Fprintf(os.Stderr, "srun: error: %s: task 1: Exec format error\n", node)
		case "silent": // a task that could not start, and a status of 0
		case "hang":
			hang = true
		}
	}
	for i := 0; len(tasks) > 0; i++ {
		at := i % len(tasks)
		if len(tasks[at]) == 0 {
			tasks = append(tasks[:at], tasks[at+1:]...)
			continue
		}
		fmt.Print(tasks[at][0])
		tasks[at] = tasks[at][1:]
	}
	if hang {
		select {}
	}
	return 0
}

// fakeStep runs a berth for each node, with what comes in for all of them.
func fakeStep(nodes []string, brought bool, args []string) int {
	var tasks sync.WaitGroup
	var inputs []io.Writer
	for _, node := range nodes {
		switch strings.TrimRight(node, "0123456789") {
		case "other":
			fmt.Fprintf(os.Stderr, "srun: error: %s: task 1: Exec format error\n", node)
			continue
		case "silent":
			continue
		case "bare":
			if !brought {
				fmt.Fprintf(os.Stderr, "slurmstepd: error: execve(): berth: No such file or directory\nsrun: error: %s: task 3: Exited with exit code 2\n", node)
				continue
			}
		}
		c := exec.Command("/proc/self/exe")
		c.Args = append([]string{"berth"}, args...)
		c.Env = append(os.Environ(), "SLURMD_NODENAME="+node)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		in, err := c.StdinPipe()
		if err != nil || c.Start() != nil {
			return 1
		}
		inputs = append(inputs, in)
		tasks.Go(func() { c.Wait() })
	}
	go func() {
		io.Copy(io.MultiWriter(inputs...), os.Stdin)
		for _, in := range inputs {
			in.(io.Closer).Close()
		}
	}()
	tasks.Wait()
	return 0
}

func slurmNodes(t *testing.T, sinfo, scontrol string) string {
	t.Helper()
	dir := fakes(t, "salloc", "srun", "sinfo", "scontrol")
	for name, text := range map[string]string{"sinfo": sinfo, "scontrol": scontrol} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"SLURM_JOB_ID", "SALLOC_PARTITION", "SLURM_JOB_NODELIST"} {
		t.Setenv(v, "")
		os.Unsetenv(v)
	}
	return dir
}

func TestSlurm(t *testing.T) {
	var sinfo, scontrol strings.Builder
	for _, line := range []string{"n1|idle|all*", "n1|idle|long", "n2|mixed|all*", "n3|down*|all*", "n4|idle|other", "talks1|idle|all*",
		"dies1|idle|all*", "twice1|allocated|all*", "bare1|idle|all*", "bare2|idle|all*", "other1|idle|all*", "silent1|idle|all*", "n5|drained|all*"} {
		sinfo.WriteString(line + "\n")
	}
	for _, name := range []string{"n1", "talks1", "bare1"} {
		fmt.Fprintf(&scontrol, "NodeName=%s Arch=x86_64 CoresPerSocket=8 CPUAlloc=0 CPUEfctv=32 CPUTot=32 OS=Linux 6.1 #1 SMP RealMemory=500000 Sockets=2 Boards=1 State=IDLE ThreadsPerCore=2 Comment=Sockets=9\n", name)
	}
	// The server has 2 packages of 8 cores in one node of memory each, SMT of 2: false on n2.
	scontrol.WriteString("NodeName=n2 CoresPerSocket=8 CPUTot=64 RealMemory=900000 Sockets=4 Boards=1 ThreadsPerCore=2\n")
	dir := slurmNodes(t, sinfo.String(), scontrol.String())
	f := collect(t, &Slurm{Limit: time.Minute})
	for name, want := range map[string]struct {
		code TroubleCode
		text string
	}{
		"n1": {}, "n2": {}, "talks1": {}, "bare1": {}, "bare2": {},
		"twice1":  {"", "answered twice, the same"},
		"n3":      {Down, "down*"},
		"n5":      {Down, "drained"},
		"dies1":   {BrokeOff, "pieces came"},
		"other1":  {Architecture, "Exec format error"},
		"silent1": {Unreachable, "srun ended well, and no answer came"},
	} {
		if n := node(t, f, name); n.Trouble != want.code || !strings.Contains(n.Error+strings.Join(n.Notes, ";"), want.text) {
			t.Errorf("%s: %+v, want %+v", name, n, want)
		}
	}
	if len(f.Nodes) != 11 { // n4 is in another partition
		t.Errorf("%d nodes", len(f.Nodes))
	}
	record, err := os.ReadFile(filepath.Join(dir, "srun"))
	if err != nil {
		t.Fatal(err)
	}
	steps := strings.Split(strings.TrimSpace(string(record)), "\n")
	if len(steps) != 2 || strings.Contains(steps[0], "--bcast") || !strings.Contains(steps[0], "--exclusive") || !strings.HasSuffix(steps[0], " berth fleet node") ||
		!strings.Contains(steps[1], "--nodelist=bare[1-2] ") || !strings.Contains(steps[1], "--bcast=") || !strings.HasSuffix(steps[1], " fleet node --brought") {
		t.Errorf("the steps were %q", steps)
	}
	var found []string
	for _, x := range f.Findings {
		found = append(found, x.Code+" "+x.Message+" "+strings.Join(x.Evidence, ";"))
	}
	all := strings.Join(found, "\n")
	if !strings.Contains(all, "declared-shape n2 is declared to Slurm as 4 × 8 × 2 = 64 CPUs (sockets × cores × threads), and has 2 × 8 × 2 = 32 CPUs") ||
		!strings.Contains(all, "NodeName=n2 CPUs=32 Boards=1 SocketsPerBoard=2 CoresPerSocket=8 ThreadsPerCore=2 RealMemory=524288") ||
		!strings.Contains(all, "n2: RealMemory=900000, and 524288 MiB are there") || strings.Contains(all, "n1 is declared") {
		t.Errorf("findings:\n%s", all)
	}
}

func TestSlurmInAllocation(t *testing.T) {
	dir := slurmNodes(t, "n1|allocated|all*\nn2|allocated|all*\nn3|idle|all*\n", "")
	t.Setenv("SLURM_JOB_ID", "7")
	t.Setenv("SLURM_JOB_NODELIST", "n[1-2]")
	f := collect(t, &Slurm{})
	if len(f.Nodes) != 2 || f.Totals.Answered != 2 {
		t.Errorf("%+v", f.Nodes)
	}
	f = collect(t, &Slurm{Nodes: []string{"n2", "n3"}})
	if n := node(t, f, "n3"); n.Trouble != Unreachable || n.Error != "it is not in the allocation of job 7" || node(t, f, "n2").Trouble != "" {
		t.Errorf("%+v", f.Nodes)
	}
	record, _ := os.ReadFile(filepath.Join(dir, "srun"))
	if s := string(record); !strings.Contains(s, "--overlap") || strings.Contains(s, "--exclusive") || !strings.Contains(s, "--nodelist=n[1-2] ") {
		t.Errorf("the step was %s", s)
	}
}

// A step that hangs is ended, and what came before it is kept.
func TestSlurmHangs(t *testing.T) {
	waits(t)
	slurmNodes(t, "n1|idle|all*\nhang1|idle|all*\n", "")
	f := collect(t, &Slurm{Limit: 3 * time.Second})
	if n := node(t, f, "hang1"); n.Trouble != TimedOut || f.Totals.Answered > 1 {
		t.Errorf("%+v", f.Nodes)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f, err := Collect(ctx, &Slurm{Limit: time.Hour}, Options{Progress: func(int, int) { cancel() }})
	if err != nil || f.Early == "" || node(t, f, "n1").Trouble != "" || node(t, f, "hang1").Trouble != NotAsked {
		t.Errorf("%v, %+v", err, f)
	}
}

func TestSlurmIsNotThere(t *testing.T) {
	waits(t)
	dir := slurmNodes(t, "", "")
	if f := collect(t, &Slurm{}); len(f.Nodes) != 0 {
		t.Errorf("%+v", f.Nodes)
	}
	if f := collect(t, &Slurm{Nodes: []string{"n9"}}); node(t, f, "n9").Trouble != Unreachable {
		t.Errorf("%+v", f.Nodes)
	}
	if _, err := Collect(context.Background(), &Slurm{Partition: "none"}, Options{}); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("a partition that is not there: %v", err)
	}
	os.Remove(filepath.Join(dir, "sinfo"))
	if _, err := Collect(context.Background(), &Slurm{}, Options{}); err == nil || !strings.Contains(err.Error(), "Unable to contact slurm controller") {
		t.Errorf("no controller: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Collect(context.Background(), &Slurm{}, Options{}); err == nil {
		t.Error("no Slurm, and no error")
	}
}

func TestStates(t *testing.T) {
	for state, want := range map[string]bool{
		"idle": true, "mixed": true, "mixed-": true, "allocated": true, "allocated+": true, "idle*": false, "idle~": false, "down": false,
		"drained": false, "draining": false, "unknown": false, "maint": false, "": false, "idle#": false,
	} {
		if takesWork(state) != want {
			t.Errorf("%q: %v", state, !want)
		}
	}
}
