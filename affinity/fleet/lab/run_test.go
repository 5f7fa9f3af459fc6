//go:build lab

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/advisor"
	"berth/affinity/fleet"
	"berth/probe"
	"berth/probe/cpuset"
)

// here is the machine of the lab, which every node is.
func here(t *testing.T, berth string) *probe.Machine {
	t.Helper()
	out, said, status := run(t, os.Environ(), berth, "inspect", "-o", "json")
	m := &probe.Machine{}
	if err := json.Unmarshal([]byte(out), m); err != nil || status != 0 {
		t.Fatalf("%v\n%s", err, said)
	}
	if m.Topology.Allowed.Len() < 2 {
		t.Skip("the lab seats two workers on two CPUs")
	}
	return m
}

// planFor seats a worker on each of these CPUs of each node.
func planFor(t *testing.T, m *probe.Machine, seats []int, nodes ...string) string {
	t.Helper()
	p := &advisor.Plan{Schema: advisor.Schema, Profile: "lab", Machine: m.Fingerprint, BudgetCPUs: float64(m.Topology.Allowed.Len()),
		Workers:   advisor.Workers{Model: advisor.Processes, Processes: len(seats), Threads: 1},
		Placement: advisor.Placement{Pin: advisor.PerCPU, Why: "the lab wants it so"}}
	for i, c := range seats {
		cpus := cpuset.Range(cpuset.CPU(c), cpuset.CPU(c))
		p.Placement.CPUs = p.Placement.CPUs.Union(cpus)
		p.Placement.Seats = append(p.Placement.Seats, advisor.Seat{Worker: i, CPUs: cpus})
	}
	text, err := json.Marshal(&fleet.Plan{Schema: fleet.PlanSchema, Profile: "lab", Parts: []fleet.Part{{Shape: 1, Nodes: nodes, Weight: 1, Plan: p}}})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, t.TempDir(), "plan.json", string(text), 0o644)
}

// firstTwo are two CPUs that may be used.
func firstTwo(m *probe.Machine) []int {
	var out []int
	for c := range m.Topology.Allowed.All() {
		if len(out) < 2 {
			out = append(out, int(c))
		}
	}
	return out
}

// job is a run of berth fleet run that is under way.
type job struct {
	*exec.Cmd
	receipt        string
	stdout, stderr bytes.Buffer
	began          time.Time
}

func start(t *testing.T, env []string, args ...string) *job {
	t.Helper()
	j := &job{receipt: filepath.Join(t.TempDir(), "run.json"), began: time.Now()}
	at := slices.Index(args, "--")
	args = slices.Concat(args[:at:at], []string{"--full", "--receipt", j.receipt}, args[at:])
	j.Cmd = exec.Command(args[0], args[1:]...)
	j.Env, j.Stdout, j.Stderr = env, &j.stdout, &j.stderr
	if err := j.Start(); err != nil {
		t.Fatal(err)
	}
	return j
}

// outcome waits for the end and checks the status.
func (j *job) outcome(t *testing.T, want int) *fleet.Outcome {
	t.Helper()
	killer := time.AfterFunc(4*time.Minute, func() { j.Process.Kill() })
	j.Wait()
	killer.Stop()
	got := j.ProcessState.ExitCode()
	shown := slices.DeleteFunc(slices.Clone(j.Args), func(a string) bool { return a == "--full" || a == "--receipt" || a == j.receipt })
	for i, word := range shown {
		if filepath.Base(word) == "berth" {
			shown[i] = "berth"
		}
	}
	t.Logf("$ %s\n%s%s(%.0f s)", strings.Join(shown, " "), j.stdout.String(), j.stderr.String(), time.Since(j.began).Seconds())
	o := &fleet.Outcome{}
	text, err := os.ReadFile(j.receipt)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, o); err != nil {
		t.Fatal(err)
	}
	// What else runs on this machine may squeeze seats, which --require is right
	// to tell of and which is no fault of the lab's.
	if got != want && !(want == 0 && got == 125 && len(o.Nodes) == o.Totals.Reported && seated(o)) {
		t.Errorf("status %d, want %d", got, want)
	}
	return o
}

// seated: every worker was set to its seat and seen nowhere else.
func seated(o *fleet.Outcome) bool {
	for _, n := range o.Nodes {
		for _, w := range n.Workers {
			if w.Set.String() != w.Planned.String() || !w.RanOn.SubsetOf(w.Planned) {
				return false
			}
		}
	}
	return true
}

// troubles holds the nodes' reports against what is wanted: no trouble is "".
func troubles(t *testing.T, o *fleet.Outcome, want map[string]fleet.TroubleCode) {
	t.Helper()
	if len(o.Nodes) != len(want) {
		t.Errorf("%d nodes, want %d", len(o.Nodes), len(want))
	}
	for _, n := range o.Nodes {
		if code, ok := want[n.Name]; !ok || n.Trouble != code {
			t.Errorf("%s: %q %s, want %q", n.Name, n.Trouble, n.Error, code)
		}
	}
}

// allowedOf reads where the kernel lets a process run.
func allowedOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`Cpus_allowed_list:\s+(\S+)`).FindStringSubmatch(string(text))[1]
}

// marked are the processes that have a word as an argument of their own.
func marked(word string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		text, _ := os.ReadFile(name)
		args := strings.Split(string(text), "\x00")
		if len(args) > 1 && args[0] == "sleep" && args[1] == word {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// likeProc starts a job that sleeps, reads from /proc where its processes may
// run, lets it end, and holds the receipts against that.
func likeProc(t *testing.T, env []string, word string, nodes int, args ...string) *fleet.Outcome {
	t.Helper()
	release := filepath.Join(t.TempDir(), "go")
	j := start(t, env, append(args, "--", "sh", "-c", "sleep "+word+" & p=$!; until [ -e "+release+" ]; do sleep 0.1; done; kill $p")...)
	eventually(t, "the programs run", func() bool { return len(marked(word)) == 2*nodes })
	time.Sleep(200 * time.Millisecond) // for the watch to see them too
	kernel := map[int]string{}         // by the process that started it, which is the worker
	for _, pid := range marked(word) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		parent, _ := strconv.Atoi(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))[2])
		kernel[parent] = allowedOf(t, pid)
	}
	write(t, filepath.Dir(release), "go", "", 0o644)
	o := j.outcome(t, 0)
	seen := 0
	for _, n := range o.Nodes {
		receipt := o.Receipt(n.Name)
		if receipt == nil {
			t.Errorf("%s sent no receipt: %s", n.Name, n.Error)
			continue
		}
		for i, w := range receipt.Workers {
			seen++
			if at := n.Workers[i]; kernel[w.PID] != at.Set.String() || at.Set.String() != at.Planned.String() || !at.RanOn.SubsetOf(at.Planned) {
				t.Errorf("%s worker %d: /proc says %q of process %d, the receipt %q, the plan %q", n.Name, i, kernel[w.PID], w.PID, at.Set, at.Planned)
			}
		}
	}
	if seen != 2*nodes {
		t.Errorf("%d workers in receipts", seen)
	}
	return o
}

// cut kills a node's daemon, what it supervises with, and all below: as if the
// power went.
func cut(t *testing.T, node string) {
	t.Helper()
	killed := 0
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range all {
		env, _ := os.ReadFile(name)
		cmdline, _ := os.ReadFile(filepath.Dir(name) + "/cmdline")
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		if bytes.Contains(env, []byte("\x00SLURMD_NODENAME="+node+"\x00")) || bytes.HasPrefix(cmdline, []byte("slurmd\x00-D\x00-N\x00"+node+"\x00")) {
			syscall.Kill(pid, syscall.SIGKILL)
			killed++
		}
	}
	// The step's own daemon has the node's name in its title alone.
	steps, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range steps {
		text, _ := os.ReadFile(name)
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		if bytes.HasPrefix(text, []byte("slurmstepd: [")) && stepNode(pid) == node {
			syscall.Kill(pid, syscall.SIGKILL)
			killed++
		}
	}
	if killed == 0 {
		t.Fatalf("nothing of %s was found", node)
	}
}

// stepNode is the node of a slurmstepd, by the spool folder that it has open.
func stepNode(pid int) string {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range append(links, fmt.Sprintf("/proc/%d/cwd", pid)) {
		to, _ := os.Readlink(link)
		if m := regexp.MustCompile(`spool\.(n\d+)`).FindStringSubmatch(to); m != nil {
			return m[1]
		}
	}
	return ""
}

func TestSlurmRun(t *testing.T) {
	berth := built(t)
	m := here(t, berth)
	before := left()
	env := startSlurm(t, "")
	plan := planFor(t, m, firstTwo(m), "n1", "n2")
	likeProc(t, env, "3599.0201", 2, berth, "fleet", "run", "--engine", "slurm", "--plan", plan)

	// Slurm's own report of a step with the same seats.
	two := firstTwo(m)
	_, said, status := run(t, env, "salloc", "--quiet", "--nodes=2", "--nodelist=n[1-2]", "--exclusive", "srun", "--ntasks=4", "--ntasks-per-node=2",
		fmt.Sprintf("--cpu-bind=verbose,map_cpu:%d,%d", two[0], two[1]), "true")
	var masks []string
	for _, found := range regexp.MustCompile(`- (n\d), task +\d+ +(\d+) .*mask 0x([0-9a-fA-F]+) set`).FindAllStringSubmatch(said, -1) {
		masks = append(masks, found[1]+" "+found[2]+" "+found[3])
	}
	slices.Sort(masks)
	want := []string{}
	for _, node := range []string{"n1", "n2"} {
		for i, c := range two {
			want = append(want, fmt.Sprintf("%s %d %X", node, i, 1<<c))
		}
	}
	if status != 0 || !slices.Equal(masks, want) {
		t.Errorf("srun reports %q, the plan is %q\n%s", masks, want, said)
	}
	if after := left(); !slices.Equal(before, after) {
		t.Errorf("%v is left on the nodes", after)
	}
	eventually(t, "no job is left", func() bool { out, _, _ := run(t, env, "squeue", "--noheader"); return out == "" })
}

// What goes wrong with a node is told of by its name, and the others are as they
// would have been.
func TestSlurmRunFaults(t *testing.T) {
	berth := built(t)
	m := here(t, berth)
	before := left()
	c := startCluster(t, "")
	two := firstTwo(m)
	plan := planFor(t, m, two, "n1", "n2", "n3")
	ok := map[string]fleet.TroubleCode{"n1": "", "n2": "", "n3": ""}
	restart := func() { c.restart(t) } // for all that follows, not for one of them
	command := func(plan string, more ...string) []string {
		return append([]string{berth, "fleet", "run", "--engine", "slurm", "--plan", plan}, more...)
	}
	runs := func(word string, n int) {
		t.Helper()
		eventually(t, "the programs run", func() bool { return len(marked(word)) == n })
	}
	idle := func() {
		t.Helper()
		eventually(t, "no job is left", func() bool { out, _, _ := run(t, c.env, "squeue", "--noheader"); return out == "" })
	}

	t.Run("restart", func(t *testing.T) {
		j := start(t, c.env, command(plan, "--require", "--", "sleep", "12.0301")...)
		runs("12.0301", 6)
		restart()
		o := j.outcome(t, 0)
		troubles(t, o, ok)
		if !seated(o) {
			t.Error("the seats were not kept")
		}
		idle()
	})
	t.Run("down", func(t *testing.T) {
		all := planFor(t, m, two, "n1", "n4")
		o := start(t, c.env, command(all, "--", "true")...).outcome(t, 1)
		troubles(t, o, map[string]fleet.TroubleCode{"n1": "", "n4": fleet.Down})
		o = start(t, c.env, command(all, "--require", "--", "true")...).outcome(t, 125)
		troubles(t, o, map[string]fleet.TroubleCode{"n1": fleet.NotAsked, "n4": fleet.Down})
		idle()
	})
	t.Run("shape", func(t *testing.T) {
		// As slurm.conf has n3: 16 CPUs, of which there are fewer.
		larger := planFor(t, m, []int{two[0], 15}, "n3")
		o := start(t, c.env, command(larger, "--require", "--", "true")...).outcome(t, 125)
		troubles(t, o, map[string]fleet.TroubleCode{"n3": fleet.Refused})
		o = start(t, c.env, command(larger, "--", "true")...).outcome(t, 125)
		if n := o.Nodes[0]; n.Kept || len(n.Differs) == 0 || len(n.Violations) == 0 {
			t.Errorf("%+v", n)
		}
		idle()
	})
	t.Run("signal", func(t *testing.T) {
		j := start(t, c.env, command(plan, "--", "sleep", "3599.0302")...)
		runs("3599.0302", 6)
		j.Process.Signal(syscall.SIGINT)
		troubles(t, j.outcome(t, 130), ok)
		eventually(t, "nothing runs on", func() bool { return !running("3599.0302") })
		idle()
	})
	t.Run("killed", func(t *testing.T) {
		j := start(t, c.env, command(plan, "--", "sleep", "3599.0303")...)
		runs("3599.0303", 6)
		j.Process.Kill()
		j.Wait()
		eventually(t, "nothing runs on", func() bool { return !running("3599.0303") })
		idle()
	})
	t.Run("cut", func(t *testing.T) {
		long(t)
		j := start(t, c.env, command(plan, "--", "sleep", "20.0304")...)
		runs("20.0304", 6)
		cut(t, "n2")
		o := j.outcome(t, 1)
		troubles(t, o, map[string]fleet.TroubleCode{"n1": "", "n2": fleet.Lost, "n3": ""})
		run(t, c.env, "scontrol", "update", "nodename=n2", "state=down", "reason=lab") // else its part of the job never completes
		idle()
	})
	if after := left(); !slices.Equal(before, after) {
		t.Errorf("%v is left on the nodes", after)
	}
}

// A node that is slow holds the others up where seats are required, and is given
// up after its time.
func TestSlurmSlowAndCutWhileInspecting(t *testing.T) {
	long(t)
	berth := built(t)
	m := here(t, berth)
	slow := t.TempDir()
	write(t, slow, "berth", "#!/bin/sh\n[ \"$SLURMD_NODENAME\" != n2 ] || sleep 8.0305\nexec "+berth+" \"$@\"\n", 0o755)
	c := startCluster(t, slow+":")
	plan := planFor(t, m, firstTwo(m), "n1", "n2")
	command := []string{berth, "fleet", "run", "--engine", "slurm", "--plan", plan, "--bring", "never", "--require"}
	t.Run("slow", func(t *testing.T) {
		o := start(t, c.env, append(slices.Clone(command), "--", "sleep", "1")...).outcome(t, 0)
		if at := o.Nodes[1].ReadyS; !seated(o) || at == nil || *at < 8 || *o.Nodes[0].WallS > 3 {
			t.Errorf("%+v", o.Nodes)
		}
	})
	t.Run("too slow", func(t *testing.T) {
		o := start(t, c.env, append(slices.Clone(command), "--ready", "3s", "--", "true")...).outcome(t, 125)
		troubles(t, o, map[string]fleet.TroubleCode{"n1": fleet.NotAsked, "n2": fleet.TimedOut})
		eventually(t, "nothing runs on", func() bool { return !running("8.0305") })
	})
	t.Run("cut while inspecting", func(t *testing.T) {
		cmd := exec.Command(berth, "fleet", "inspect", "--engine", "slurm", "--nodes", "n[1-3]", "--limit", "20s")
		var out bytes.Buffer
		cmd.Env, cmd.Stdout, cmd.Stderr = c.env, &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "n2 is slow", func() bool { return len(marked("8.0305")) == 1 })
		time.Sleep(4 * time.Second) // the others answer meanwhile: srun hands on nothing more once a node is lost
		cut(t, "n2")
		cmd.Wait()
		t.Logf("$ berth fleet inspect --engine slurm --nodes n[1-3] --limit 20s\n%s", out.String())
		if s := out.String(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(s, "2 of 3 nodes answered") || !regexp.MustCompile(`n2 +(failed|timeout|unreachable)`).MatchString(s) {
			t.Errorf("status %d", cmd.ProcessState.ExitCode())
		}
	})
	run(t, c.env, "scontrol", "update", "nodename=n2", "state=down", "reason=lab")
}

// A job that Slurm confines to one CPU cannot seat two workers: the kernel
// refuses the mask outside the allocation, and the node is told of by name.
func TestSlurmRefusedBinding(t *testing.T) {
	berth := built(t)
	m := here(t, berth)
	if _, err := os.Stat("/sys/fs/cgroup/cpuset/cpuset.cpus"); err != nil {
		t.Skipf("task/cgroup is set up for control groups of version 1: %v", err)
	}
	t.Cleanup(func() { // what Slurm leaves of its own
		all, _ := filepath.Glob("/sys/fs/cgroup/*/slurm*")
		for _, dir := range all {
			removeGroups(dir)
		}
	})
	c := startCluster(t, "", "TaskPlugin=task/affinity", "TaskPlugin=task/affinity,task/cgroup", "ProctrackType=proctrack/linuxproc", "ProctrackType=proctrack/cgroup")
	f := looked(t, c.env, 0, "salloc", "--quiet", "--ntasks=1", "--nodelist=n1", berth, "fleet", "inspect", "--engine", "slurm", "--limit", "60s")
	if len(f.Shapes) != 1 || f.Shapes[0].BudgetCPUs != 1 || f.Shapes[0].Inspect.Topology.Allowed.Len() != 1 {
		t.Errorf("inspect does not see that the job is confined to one CPU: %+v", f.Nodes)
	}
	plan := planFor(t, m, firstTwo(m), "n1")
	for _, x := range []struct {
		require []string
		status  int
		trouble fleet.TroubleCode
	}{{[]string{"--require"}, 125, fleet.Refused}, {nil, 125, ""}} {
		args := slices.Concat([]string{"salloc", "--quiet", "--ntasks=1", "--nodelist=n1", berth, "fleet", "run", "--engine", "slurm", "--plan", plan}, x.require, []string{"--", "true"})
		j := start(t, c.env, args...)
		o := j.outcome(t, x.status)
		troubles(t, o, map[string]fleet.TroubleCode{"n1": x.trouble})
		if n := o.Nodes[0]; n.Is == nil || n.Is.Allowed.Len() != 1 || len(n.Differs) == 0 || n.Kept {
			t.Errorf("the job was not confined, or nobody noticed: %+v", n)
		}
	}
}

// removeGroups removes control groups, the innermost first.
func removeGroups(dir string) {
	below, _ := os.ReadDir(dir)
	for _, d := range below {
		if d.IsDir() {
			removeGroups(filepath.Join(dir, d.Name()))
		}
	}
	os.Remove(dir)
}

// session is the sshd process that serves a node's session.
func session(t *testing.T, node string) int {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		text, _ := os.ReadFile(name)
		stat, _ := os.ReadFile(filepath.Dir(name) + "/stat")
		if !bytes.HasPrefix(text, []byte("sh\x00-c\x00")) || !bytes.Contains(text, []byte("--name "+node+";")) {
			continue
		}
		for pid := 0; ; {
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
			pid, _ = strconv.Atoi(fields[2])
			if of, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(of)) == "sshd" {
				return pid
			}
			if stat, _ = os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); pid <= 1 || len(stat) == 0 {
				break
			}
		}
	}
	t.Fatalf("there is no session of %s", node)
	return 0
}

func TestSSHRun(t *testing.T) {
	berth := built(t)
	m := here(t, berth)
	dir, config := sshHosts(t, berth)
	tmp := filepath.Join(dir, "tmp")
	empty := func() {
		t.Helper()
		eventually(t, "nothing is left", func() bool { left, err := os.ReadDir(tmp); return err == nil && len(left) == 0 })
	}
	plan := planFor(t, m, firstTwo(m), "n1", "n2", "bare1")
	command := func(plan string, more ...string) []string {
		return append([]string{berth, "fleet", "run", "--engine", "ssh", "--ssh-config", config, "--plan", plan}, more...)
	}
	runs := func(word string, n int) {
		t.Helper()
		eventually(t, "the programs run", func() bool { return len(marked(word)) == n })
	}
	t.Run("as proc has it", func(t *testing.T) {
		likeProc(t, os.Environ(), "3599.0401", 3, command(plan)...)
		empty()
	})
	t.Run("dead and mute", func(t *testing.T) {
		all := planFor(t, m, firstTwo(m), "n1", "dead1", "mute1")
		o := start(t, os.Environ(), command(all, "--ready", "5s", "--", "true")...).outcome(t, 1)
		for i := range o.Nodes { // which limit is first is no matter
			if n := &o.Nodes[i]; n.Name == "mute1" && n.Trouble == fleet.Unreachable && strings.Contains(n.Error, "timed out") {
				n.Trouble = fleet.TimedOut
			}
		}
		troubles(t, o, map[string]fleet.TroubleCode{"n1": "", "dead1": fleet.Unreachable, "mute1": fleet.TimedOut})
	})
	t.Run("signal", func(t *testing.T) {
		j := start(t, os.Environ(), command(plan, "--", "sleep", "3599.0402")...)
		runs("3599.0402", 6)
		j.Process.Signal(syscall.SIGINT)
		troubles(t, j.outcome(t, 130), map[string]fleet.TroubleCode{"n1": "", "n2": "", "bare1": ""})
		eventually(t, "nothing runs on", func() bool { return !running("3599.0402") })
		empty()
	})
	t.Run("killed", func(t *testing.T) {
		j := start(t, os.Environ(), command(plan, "--", "sleep", "3599.0403")...)
		runs("3599.0403", 6)
		j.Process.Kill()
		j.Wait()
		eventually(t, "nothing runs on", func() bool { return !running("3599.0403") })
		empty()
	})
	t.Run("cut", func(t *testing.T) {
		j := start(t, os.Environ(), command(plan, "--", "sleep", "8.0404")...)
		runs("8.0404", 6)
		syscall.Kill(session(t, "n2"), syscall.SIGKILL)
		troubles(t, j.outcome(t, 1), map[string]fleet.TroubleCode{"n1": "", "n2": fleet.Lost, "bare1": ""})
		eventually(t, "nothing runs on", func() bool { return !running("8.0404") })
		empty()
	})
	t.Run("frozen", func(t *testing.T) {
		long(t)
		j := start(t, os.Environ(), command(plan, "--", "sleep", "8.0405")...)
		runs("8.0405", 6)
		agents, _ := exec.Command("pgrep", "-f", "fleet node --serve --name n2$").Output()
		for pid := range strings.FieldsSeq(string(agents)) {
			n, _ := strconv.Atoi(pid)
			syscall.Kill(n, syscall.SIGSTOP)
			defer syscall.Kill(n, syscall.SIGKILL)
		}
		troubles(t, j.outcome(t, 1), map[string]fleet.TroubleCode{"n1": "", "n2": fleet.Lost, "bare1": ""})
	})
}

// A node whose sessions have one CPU cannot seat two workers.
func TestSSHRefusedBinding(t *testing.T) {
	berth := built(t)
	m := here(t, berth)
	const root = "/sys/fs/cgroup/cpuset"
	if _, err := os.Stat(root + "/cpuset.cpus"); err != nil {
		t.Skipf("the lab confines a server by a cpuset of version 1: %v", err)
	}
	group := fmt.Sprintf("%s/berth-lab-%d", root, os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("the lab cannot make a cpuset: %v", err)
	}
	two := firstTwo(m)
	mems, _ := os.ReadFile(root + "/cpuset.mems")
	write(t, group, "cpuset.mems", string(mems), 0o644)
	write(t, group, "cpuset.cpus", strconv.Itoa(two[0]), 0o644)
	t.Cleanup(func() { eventually(t, "the cpuset is removed", func() bool { return os.Remove(group) == nil }) })
	_, config := sshHosts(t, berth)
	// The oldest is the server; those that it starts for a connection come and go.
	servers, _ := exec.Command("pgrep", "-o", "-f", filepath.Dir(config)+"/sshd0").Output()
	for pid := range strings.FieldsSeq(string(servers)) {
		write(t, group, "cgroup.procs", pid, 0o644)
	}
	plan := planFor(t, m, two, "n1", "bare1")
	args := []string{berth, "fleet", "run", "--engine", "ssh", "--ssh-config", config, "--plan", plan}
	o := start(t, os.Environ(), append(slices.Clone(args), "--require", "--", "true")...).outcome(t, 125)
	troubles(t, o, map[string]fleet.TroubleCode{"n1": fleet.Refused, "bare1": fleet.NotAsked})
	o = start(t, os.Environ(), append(slices.Clone(args), "--", "true")...).outcome(t, 125)
	troubles(t, o, map[string]fleet.TroubleCode{"n1": "", "bare1": ""})
	for _, n := range o.Nodes {
		if seated(&fleet.Outcome{Nodes: []fleet.NodeOutcome{n}}) != (n.Name == "bare1") {
			t.Errorf("%s kept its seats: %v", n.Name, n.Kept)
		}
	}
}
