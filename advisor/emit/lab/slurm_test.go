//go:build lab

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/advisor"
	"berth/probe"
)

// cluster is a controller and two nodes on loopback: n1 is this machine, and n2
// says that it is a server of two sockets with four cores of two threads each.
type cluster struct {
	dir string
}

const slurmConf = `
ClusterName=berthlab
SlurmctldHost=%[1]s(127.0.0.1)
SlurmctldPort=%[2]d
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core,CR_ONE_TASK_PER_CORE
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=1
SlurmdParameters=config_overrides
SlurmctldPidFile=%[5]s/slurmctld.pid
SlurmdPidFile=%[5]s/slurmd.%%n.pid
SlurmdSpoolDir=%[5]s/spool.%%n
StateSaveLocation=%[5]s/state
NodeName=n1 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[3]d %[6]s
NodeName=n2 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[4]d Sockets=2 CoresPerSocket=4 ThreadsPerCore=2 RealMemory=64000
PartitionName=lab Nodes=n1,n2 Default=YES State=UP
`

// ports are some that nobody listens on.
func ports(t *testing.T, n int) []any {
	t.Helper()
	var out []any
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// startSlurm starts a cluster that ends with the test.
func startSlurm(t *testing.T) *cluster {
	t.Helper()
	need(t, "slurmctld", "slurmd", "sbatch", "srun")
	if os.Getuid() != 0 {
		t.Skip("slurmd needs root")
	}
	c := &cluster{dir: t.TempDir()}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "spool.n1", "spool.n2"} {
		if err := os.Mkdir(filepath.Join(c.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, shape, _ := strings.Cut(strings.Split(output(t, command(t, c.dir, "slurmd", "-C")), "\n")[0], " ")
	p := ports(t, 3)
	write(t, c.dir, "slurm.conf", fmt.Sprintf(slurmConf, host, p[0], p[1], p[2], c.dir, shape))
	// In the order in which they end: first the jobs, then the nodes, the controller last.
	for _, args := range [][]string{{"slurmctld", "-D"}, {"slurmd", "-D", "-N", "n1"}, {"slurmd", "-D", "-N", "n2"}} {
		daemon := c.command(t, args...)
		log, err := os.Create(filepath.Join(c.dir, strings.Join(args, "")+".log"))
		if err != nil {
			t.Fatal(err)
		}
		daemon.Stdout, daemon.Stderr = log, log
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		log.Close()
		t.Cleanup(func() {
			daemon.Process.Signal(syscall.SIGTERM)
			daemon.Wait()
			if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
				t.Logf("%s:\n%s", args, text)
			}
		})
	}
	t.Cleanup(func() {
		c.command(t, "scancel", "--signal=KILL", "--full", "--partition=lab").Run()
		for range 100 {
			if out, err := c.command(t, "squeue", "--noheader").Output(); err != nil || len(out) == 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error("jobs are left in the queue")
	})
	eventually(t, "the nodes are up", func() bool {
		out, _ := c.command(t, "sinfo", "--noheader", "--Node", "--format=%N %t").Output()
		return sorted(strings.Split(strings.TrimSpace(string(out)), "\n")) == "n1 idle\nn2 idle"
	})
	return c
}

// command is one in this cluster, and in no other that the shell may be in.
func (c *cluster) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, c.dir, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLURM_") && !strings.HasPrefix(v, "SBATCH_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "SLURM_CONF="+filepath.Join(c.dir, "slurm.conf"))
	return cmd
}

// batch runs a script on n1 to its end and returns what its tasks print.
func (c *cluster) batch(t *testing.T, text string, program ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	args := append([]string{"sbatch", "--parsable", "--nodelist=n1", "--output=" + out, write(t, dir, "plan.sbatch", text)}, program...)
	id := strings.TrimSpace(output(t, c.command(t, args...)))
	state := ""
	eventually(t, "the job ends", func() bool {
		fields := strings.Fields(output(t, c.command(t, "scontrol", "--oneliner", "show", "job", id)))
		has := func(field string) bool { return slices.Contains(fields, field) }
		state = strings.Join(slices.DeleteFunc(fields, func(f string) bool { return !strings.HasPrefix(f, "JobState=") && !strings.HasPrefix(f, "ExitCode=") }), " ")
		return !has("JobState=PENDING") && !has("JobState=RUNNING") && !has("JobState=COMPLETING")
	})
	printed, err := os.ReadFile(out)
	if err == nil && state != "JobState=COMPLETED ExitCode=0:0" {
		err = errors.New(state)
	}
	return string(printed), err
}

func TestSlurmIsRead(t *testing.T) {
	need(t, "bash")
	dir := t.TempDir()
	for _, f := range golden(t, "slurm") {
		if err := quiet(t, command(t, dir, "bash", "-n", write(t, dir, f.Name, string(f.Data)))); err != nil {
			t.Error(err)
		}
	}
}

func TestSlurm(t *testing.T) {
	twoCPUs(t)
	c := startSlurm(t)

	// Every shape of plan fits the server that it is for.
	t.Run("accepts", func(t *testing.T) {
		accepts := func(text string) error {
			out, err := c.command(t, "sbatch", "--test-only", "--nodelist=n2", write(t, c.dir, "plan.sbatch", text), "true").CombinedOutput()
			if err == nil && !bytes.Contains(out, []byte("to start at")) {
				err = fmt.Errorf("sbatch says something else")
			}
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}
		for _, f := range golden(t, "slurm") {
			if err := accepts(string(f.Data)); err != nil {
				t.Errorf("%s: %v\n%s", f.Name, err, f.Data)
			}
		}
		large := emitted(t, "slurm", planFor(t, "package:2 core:8 pu:2", ""))
		for _, bad := range []string{large, replaced(t, large, "--nodes=1", "--nodez=1"), replaced(t, large, "--cpus-per-task=.*", "--cpus-per-task=x")} {
			if accepts(bad) == nil {
				t.Errorf("this is taken:\n%s", bad)
			}
		}
	})

	worker := []string{"sh", "-c", "BERTH_WORKER=$SLURM_LOCALID; " + seat}
	expect := func(t *testing.T, what string, plan *advisor.Plan, program []string, want ...string) {
		t.Helper()
		text := emitted(t, "slurm", plan)
		out, err := c.batch(t, text, program...)
		if err != nil {
			t.Errorf("%s: %v\n%s", what, err, text)
		}
		same(t, what, out, want...)
	}
	virtual := func(m *probe.Machine) { m.Host.Hypervisor = "kvm" }
	may := statusOf(t, "self", "Cpus_allowed_list")
	both := []string{"worker 0 cpus 0 memory bind:0", "worker 1 cpus 1 memory bind:0"}
	processes := planFor(t, pair, "model: processes\nwork: {kind: float}\n")
	t.Run("seats", func(t *testing.T) {
		expect(t, "processes", processes, worker, both...)
		expect(t, "processes on the CPUs of a core", planFor(t, "numa:1 core:1 pu:2", "model: processes\n"), worker, both...)
		expect(t, "a process", planFor(t, pair, "runtime: go\n"), worker, "worker 0 cpus 0-1 memory bind:0")
		expect(t, "memory", planFor(t, "core:2 pu:1", "model: processes\nlimits: {memory_per_worker_mib: 50}\n"), worker,
			"worker 0 cpus 0 memory default", "worker 1 cpus 1 memory default")
		expect(t, "not pinned", planFor(t, pair, "model: processes\n", virtual), worker,
			"worker 0 cpus "+may+" memory default", "worker 1 cpus "+may+" memory default")
		expect(t, "a crowd in groups", planFor(t, "package:1 l3:2 core:1 pu:1", "model: processes\nwork: {cpu_ms: 10, wait_ms: 10}\nload: {tasks: 4}\n"), worker,
			"worker 0 cpus 0 memory default", "worker 1 cpus 1 memory default", "worker 2 cpus 0 memory default", "worker 3 cpus 1 memory default")
		expect(t, "a crowd", planFor(t, pair, "model: processes\nwork: {cpu_ms: 10, wait_ms: 10}\nload: {tasks: 3}\n"), worker,
			"worker 0 cpus "+may+" memory default", "worker 1 cpus "+may+" memory default", "worker 2 cpus "+may+" memory default")
	})
	t.Run("OpenMP", func(t *testing.T) {
		program := seats(t)
		two := []string{"thread 0 of 2 place 0 cpus 0", "thread 1 of 2 place 1 cpus 1"}
		expect(t, "threads", planFor(t, pair, "runtime: openmp\nwork: {kind: float}\n"), []string{program}, two...)
		expect(t, "a rank", planFor(t, pair, "runtime: openmp\nload: {ranks_per: node}\n"), []string{program}, two...)
		// The environment's seats, by the number that srun gives.
		file := write(t, t.TempDir(), "plan", emitted(t, "env", processes))
		srun := c.command(t, append([]string{"srun", "--nodelist=n1", "--ntasks=2", "--cpu-bind=none"}, sourced(file, program)...)...)
		same(t, "srun and the environment", output(t, srun), "thread 0 of 1 place 0 cpus 0", "thread 0 of 1 place 0 cpus 1")
	})
	t.Run("srun", func(t *testing.T) {
		run := func(text string) *exec.Cmd {
			file := write(t, t.TempDir(), "plan", text)
			return c.command(t, append([]string{"salloc", "--quiet", "--nodes=1", "--nodelist=n1", "--exclusive", "dash", file}, worker...)...)
		}
		text := emitted(t, "srun", processes)
		same(t, "a step", output(t, run(text)), both...)
		same(t, "the other way round", output(t, run(replaced(t, text, "map_cpu:0,1", "map_cpu:1,0"))), "worker 0 cpus 1 memory bind:0", "worker 1 cpus 0 memory bind:0")
		if exitCode(t, run(replaced(t, text, "--ntasks=2", "--ntasks=x"))) == 0 {
			t.Error("a number that is none is taken")
		}
	})
	t.Run("fails", func(t *testing.T) {
		text := emitted(t, "slurm", processes)
		swapped, err := c.batch(t, replaced(t, text, "map_cpu:0,1", "map_cpu:1,0"), worker...)
		if err != nil {
			t.Error(err)
		}
		same(t, "the other way round", swapped, "worker 0 cpus 1 memory bind:0", "worker 1 cpus 0 memory bind:0")
		if out, err := c.batch(t, replaced(t, text, "map_cpu:0,1", "map_cpu:0,4095"), worker...); err == nil {
			t.Errorf("a CPU that there is not is taken:\n%s", out)
		}
		if out, err := c.batch(t, text, "sh", "-c", "exit 3"); err == nil {
			t.Errorf("a worker that fails goes unnoticed:\n%s", out)
		}
		if _, err := c.batch(t, text); err == nil {
			t.Error("no program is taken for one")
		}
	})
}
