//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"berth/affinity"
	"berth/affinity/fleet"
)

const debianPython = "/usr/bin/python3" // another on the PATH may lack distributed

// startDask starts a scheduler here and a script that starts workers on hosts.
func startDask(t *testing.T, l *lan, workers string, hosts ...string) (scheduler string) {
	t.Helper()
	need(t, "dask")
	if err := exec.Command(debianPython, "-c", "import distributed").Run(); err != nil {
		t.Skipf("%s has no distributed: run affinity/fleet/lab/setup", debianPython)
	}
	port := ports(t, 1)[0]
	scheduler = fmt.Sprintf("tcp://%s:%d", l.head, port)
	daemon(t, l.dir, append(slices.Clone(l.env), "DASK_TEMPORARY_DIRECTORY="+l.dir+"/dask", daskPatience), "dask", "scheduler", "--host", l.head, "--port", fmt.Sprint(port), "--no-dashboard")
	script := write(t, l.dir, "workers.sh", workers, 0o644)
	for _, host := range hosts {
		l.startDask(t, host, fmt.Sprintf("sh %s %s --no-dashboard --no-nanny", script, scheduler))
	}
	return scheduler
}

// daskPatience is for hosts that share the CPUs of one machine with other work.
const daskPatience = "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT=120s"

// startDask starts workers on a host by a line of shell, until the test ends.
func (l *lan) startDask(t *testing.T, host, line string) {
	t.Helper()
	line = fmt.Sprintf("mkdir -p %[1]s/dask && cd %[1]s/dask && DASK_TEMPORARY_DIRECTORY=%[1]s/dask %[2]s exec %[3]s", filepath.Join(l.dir, host), daskPatience, line)
	log, err := os.Create(filepath.Join(l.dir, host, "started.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command("ssh", "-F", l.config, host, line)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range l.onHost(host, "dask") {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		c.Process.Kill()
		c.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s: %s\n%s", host, line, text[max(0, len(text)-2000):])
		}
	})
}

// workersOn waits until so many workers have come.
func workersOn(t *testing.T, scheduler string, n int) {
	t.Helper()
	code := "import sys, distributed\nwith distributed.Client(sys.argv[1], timeout=60) as c: c.wait_for_workers(int(sys.argv[2]), timeout=120)"
	c := exec.Command(debianPython, "-c", code, scheduler, fmt.Sprint(n))
	c.Env = append(os.Environ(), daskPatience)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// daskCluster is workers on three hosts, started by the script that a plan for
// them becomes, each on its seat as /proc has it.
func daskCluster(t *testing.T) (l *lan, berth, plan, scheduler string) {
	t.Helper()
	berth = built(t)
	l = startHosts(t, berth, "h1", "h2", "h3")
	found := seatable(t, looked(t, l.env, 0, berth, "fleet", "inspect", "--engine", "ssh", "--ssh-config", l.config, "--nodes", "h[1-3]", "--limit", "120s"), l.dir)
	profile := write(t, l.dir, "work.yaml", floatWork, 0o644)
	advise := func(flags ...string) string {
		text, said, status := run(t, l.env, append([]string{berth, "fleet", "advise", profile, "--fleet", found}, flags...)...)
		if status != 0 {
			t.Fatalf("status %d\n%s", status, said)
		}
		return text
	}
	plan = write(t, l.dir, "plan.json", advise("-o", "json"), 0o644)
	l.env = append(l.env, daskPatience)
	scheduler = startDask(t, l, advise("--emit", "dask"), "h1", "h2", "h3")
	want := seats(t, plan)
	workersOn(t, scheduler, len(want))
	if got := l.workers("h1", "h2", "h3"); !slices.Equal(got, want) {
		t.Errorf("the emitted script has seated %q, want %q", got, want)
	}
	return l, berth, plan, scheduler
}

// The engine: what nodes are, and a program by the plan.
func TestDask(t *testing.T) {
	long(t)
	l, berth, plan, scheduler := daskCluster(t)
	want := seats(t, plan)
	engine := []string{"--engine", "dask", "--python", debianPython, "--scheduler", scheduler}
	// The berth of h1's sessions is on its workers' PATH, to the others it is brought.
	f := looked(t, l.env, 0, append([]string{berth, "fleet", "inspect", "--limit", "120s"}, engine...)...)
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "h2": "", "h3": ""})
	if lastCPU() > 0 && len(f.Shapes) != 2 {
		t.Errorf("%d shapes: the CPUs of all workers of a node count, not those of one", len(f.Shapes))
	}
	f = looked(t, l.env, 1, append([]string{berth, "fleet", "inspect", "--limit", "120s", "--bring", "never", "--nodes", "h1,h2,h9"}, engine...)...)
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "h2": fleet.NoBerth, "h9": fleet.Unreachable})
	// A program by the plan, and one whose host's worker goes meanwhile.
	receipt := filepath.Join(l.dir, "receipt.json")
	runs := append([]string{berth, "fleet", "run", "--plan", plan, "--receipt", receipt}, engine...)
	out, said, status := run(t, l.env, append(runs, "--full", "--", "sh", "-c", tellSeat)...)
	t.Logf("%s%s", out, said)
	if status != 0 || !slices.Equal(told(out), want) {
		t.Errorf("status %d, %q, want %q", status, told(out), want)
	}
	sameSeats(t, receipt, plan)
	during := func(want int, program []string, do func(berth *os.Process)) string {
		c := exec.Command(runs[0], append(slices.Clone(runs[1:]), program...)...)
		var text strings.Builder
		c.Env, c.Stdout, c.Stderr = l.env, &text, &text
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it runs on h2", func() bool { return len(l.onHost("h2", program[len(program)-1])) > 0 })
		do(c.Process)
		c.Wait()
		t.Logf("$ %s: status %d\n%s", program, c.ProcessState.ExitCode(), text.String())
		if c.ProcessState.ExitCode() != want {
			t.Errorf("status %d, want %d", c.ProcessState.ExitCode(), want)
		}
		eventually(t, "nothing runs on", func() bool { return !running(program[len(program)-1]) })
		return text.String()
	}
	said = during(1, []string{"--", "sleep", "20.0120"}, func(*os.Process) {
		eventually(t, "it runs on h3", func() bool { return len(l.onHost("h3", "20.0120")) > 0 })
		for _, pid := range l.onHost("h3", "dask") {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if !strings.Contains(said, "left the cluster") && !strings.Contains(said, "h3  lost") {
		t.Errorf("nothing is said of h3's worker, which was killed")
	}
	during(130, []string{"--nodes", "h[1-2]", "--", "sleep", "3597.0120"}, func(berth *os.Process) { berth.Signal(syscall.SIGINT) })
	// A worker that hangs costs its time.
	for _, pid := range l.onHost("h2", "dask") {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	f = looked(t, l.env, 1, append([]string{berth, "fleet", "inspect", "--limit", "20s"}, engine...)...)
	for _, pid := range l.onHost("h2", "dask") {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	for _, n := range f.Nodes {
		if n.Name == "h1" && n.Trouble != "" || n.Name == "h2" && n.Trouble == "" {
			t.Errorf("%+v", n)
		}
	}
}

// The plug-in seats workers, and what it says of them is what /proc does.
func TestDaskPlugin(t *testing.T) {
	l, berth, plan, scheduler := daskCluster(t)
	want := seats(t, plan)
	module, _, _ := run(t, l.env, berth, "fleet", "plugin", "dask")
	plugin := write(t, l.dir, "berth_dask.py", module, 0o644)
	seated := func(want int, flags ...string) map[string]*affinity.Receipt {
		out, said, status := run(t, l.env, append([]string{debianPython, plugin, scheduler, plan}, flags...)...)
		if status != want {
			t.Fatalf("the plug-in: status %d, want %d\n%s%s", status, want, out, said)
		}
		receipts := map[string]*affinity.Receipt{}
		if len(flags) == 0 || flags[0] != "--undo" {
			if err := json.Unmarshal([]byte(out), &receipts); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		t.Logf("$ python3 berth_dask.py %s plan.json %s\n%s", scheduler, strings.Join(flags, " "), said)
		return receipts
	}
	l.spread("h1", "h2", "h3") // as if nobody had seated them
	receipts := seated(0)
	if got := l.workers("h1", "h2", "h3"); !slices.Equal(got, want) {
		t.Errorf("the plug-in has seated %q, want %q", got, want)
	}
	var got []string
	for address, r := range receipts {
		w := r.Workers[0]
		if !r.Kept || r.Schema != affinity.ReceiptSchema || len(w.Threads) == 0 {
			t.Errorf("%s: %+v", address, r)
		}
		for _, th := range w.Threads {
			if inProc := maskOf(th.TID); inProc != th.Set.String() {
				t.Errorf("thread %d: the receipt has %s, /proc %s", th.TID, th.Set, inProc)
			}
			if th.Set.String() != w.Asked.String() || !th.RanOn.Minus(w.Asked).IsEmpty() {
				t.Errorf("thread %d of %s: %+v", th.TID, address, th)
			}
		}
		got = append(got, fmt.Sprintf("%s %d %s", l.hostOf(w.PID, "h1", "h2", "h3"), w.Index, w.Asked))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the receipts have %q, want %q", got, want)
	}
	// Undone, the masks are those of before.
	seated(0, "--undo")
	if got := l.workers("h1", "h2"); slices.Equal(got, want[:4]) && lastCPU() > 0 {
		t.Errorf("still seated: %q", got)
	}
	// A worker that comes when all seats are taken is told of.
	seated(0)
	l.startDask(t, "h2", "dask worker --nthreads 1 --no-nanny --no-dashboard "+scheduler)
	workersOn(t, scheduler, len(want)+1)
	free := 0
	for _, r := range seated(1) {
		if !r.Kept && len(r.Broken) == 1 && r.Broken[0].Code == "no-seat" {
			free++
		}
	}
	if free != 1 {
		t.Errorf("%d workers have no seat", free)
	}
}

func maskOf(tid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, list, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
	list, _, _ = strings.Cut(list, "\n")
	return list
}

// workers are those of hosts as /proc has them: HOST WORKER CPUS.
func (l *lan) workers(hosts ...string) []string {
	var out []string
	for _, host := range hosts {
		for _, pid := range l.onHost(host, "dask worker") {
			environment, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			for v := range strings.SplitSeq(string(environment), "\x00") {
				if number, ok := strings.CutPrefix(v, "BERTH_WORKER="); ok {
					out = append(out, fmt.Sprintf("%s %s %s", host, number, maskOf(pid)))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// spread lets workers run anywhere.
func (l *lan) spread(hosts ...string) {
	for _, host := range hosts {
		if host == "h3" {
			continue // its shape is one CPU
		}
		for _, pid := range l.onHost(host, "dask worker") {
			exec.Command("taskset", "-a", "-p", "-c", fmt.Sprintf("0-%d", lastCPU()), fmt.Sprint(pid)).Run()
		}
	}
}

// hostOf is the host of a process.
func (l *lan) hostOf(pid int, hosts ...string) string {
	for _, host := range hosts {
		if slices.Contains(l.onHost(host, ""), pid) {
			return host
		}
	}
	return "nowhere"
}
