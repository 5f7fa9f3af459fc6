//go:build lab

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"berth/affinity/fleet"
	"berth/probe"
	"berth/probe/finding"
)

const slurmConf = `
ClusterName=berthlab
SlurmctldHost=%[1]s(%[9]s)
SlurmctldPort=%[2]d
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=1
SlurmdParameters=config_overrides
SlurmctldPidFile=%[6]s/slurmctld.pid
SlurmdPidFile=%[6]s/slurmd.%%n.pid
SlurmdSpoolDir=%[6]s/spool.%%n
StateSaveLocation=%[6]s/state
`

const slurmNodes = `NodeName=n1 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[3]d %[7]s
NodeName=n2 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[4]d %[7]s
NodeName=n3 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[5]d Sockets=2 CoresPerSocket=4 ThreadsPerCore=2 RealMemory=64000
NodeName=n4 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[8]d %[7]s
PartitionName=lab Nodes=n[1-4] Default=YES State=UP
`

// startSlurm starts a controller and three nodes on loopback: n3 says that it is
// larger than it is, and n4 is not there. PATH has the berth if there is one.
func startSlurm(t *testing.T, path string) (env []string) {
	t.Helper()
	return startCluster(t, path).env
}

// cluster is a Slurm of the lab's own.
type cluster struct {
	dir        string
	env        []string
	controller *exec.Cmd
}

// restart ends the controller and starts another from its state.
func (c *cluster) restart(t *testing.T) {
	t.Helper()
	c.controller.Process.Signal(syscall.SIGTERM)
	c.controller.Wait()
	c.controller = daemon(t, c.dir, c.env, "slurmctld", "-D")
}

// startCluster starts one in which changes of the configuration hold.
func startCluster(t *testing.T, path string, changes ...string) *cluster {
	t.Helper()
	need(t, "slurmctld", "slurmd", "srun", "sinfo", "scontrol")
	dir := t.TempDir()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "spool.n1", "spool.n2", "spool.n3"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	said, err := exec.Command("slurmd", "-C").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, shape, _ := strings.Cut(strings.Split(string(said), "\n")[0], " ")
	p := ports(t, 5)
	text := strings.NewReplacer(changes...).Replace(fmt.Sprintf(slurmConf+slurmNodes, host, p[0], p[1], p[2], p[3], dir, shape, p[4], "127.0.0.1"))
	conf := write(t, dir, "slurm.conf", text, 0o644)
	write(t, dir, "cgroup.conf", "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\nConstrainCores=yes\n", 0o644)
	env := slurmEnv(conf, path)
	c := &cluster{dir: dir, env: env, controller: daemon(t, dir, env, "slurmctld", "-D")}
	for _, name := range []string{"n1", "n2", "n3"} {
		daemon(t, dir, env, "slurmd", "-D", "-N", name)
	}
	t.Cleanup(func() {
		run(t, env, "scancel", "--signal=KILL", "--full", "--partition=lab")
		eventually(t, "the queue is empty", func() bool { out, _, _ := run(t, env, "squeue", "--noheader"); return out == "" })
	})
	eventually(t, "three nodes are up", func() bool {
		out, _, _ := run(t, env, "sinfo", "--noheader", "--Node", "--format=%N %t")
		return strings.Count(out, " idle\n") == 3
	})
	eventually(t, "n4 is known not to be there", func() bool {
		run(t, env, "scontrol", "update", "nodename=n4", "state=down", "reason=lab")
		out, _, _ := run(t, env, "sinfo", "--noheader", "--Node", "--format=%N %t")
		return strings.Contains(out, "n4 down")
	})
	return c
}

// slurmEnv is the environment for a cluster's programs, where PATH begins so.
func slurmEnv(conf, path string) (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLURM_") && !strings.HasPrefix(v, "PATH=") {
			env = append(env, v)
		}
	}
	return append(env, "SLURM_CONF="+conf, "PATH="+path+"/usr/sbin:/usr/bin:/sbin:/bin")
}

// left are the copies of berth that a node still has.
func left() []string {
	all, _ := filepath.Glob("/tmp/slurm_bcast_*")
	return all
}

func TestSlurm(t *testing.T) {
	berth := built(t)
	env := startSlurm(t, filepath.Dir(berth)+":")
	f := looked(t, env, 1, berth, "fleet", "inspect", "--engine", "slurm", "--limit", "60s")
	check(t, f, map[string]fleet.TroubleCode{"n1": "", "n2": "", "n3": "", "n4": fleet.Down})
	declared(t, f)
	for _, s := range f.Shapes {
		if s.BudgetCPUs != float64(s.Inspect.Topology.Online.Len()) {
			t.Errorf("%s: %g CPUs are seen of %d, and the nodes are whole", s.Nodes, s.BudgetCPUs, s.Inspect.Topology.Online.Len())
		}
	}
	// In an allocation, by a step of it.
	out, said, status := run(t, env, "salloc", "--quiet", "--nodes=2", "--nodelist=n[1-2]", "--exclusive", berth, "fleet", "inspect", "--engine", "slurm", "--limit", "60s")
	if status != 0 || !strings.Contains(out, "2 nodes answered") || !strings.Contains(out, "the time of 4") {
		t.Errorf("in an allocation: status %d\n%s%s", status, out, said)
	}
	// The steps that a plan for the fleet becomes: each task where the plan has it.
	dir := t.TempDir()
	profile := write(t, dir, "work.yaml", "schema: berth.profile/v1\nname: work\nmodel: processes\nwork: {kind: float}\n", 0o644)
	pair, _, _ := run(t, env, berth, "inspect", "--synthetic", "numa:1(memory=1GiB) core:2 pu:1", "-o", "json") // this one may be no place to pin on
	write(t, dir, "pair/n1.json", pair, 0o644)
	write(t, dir, "pair/n2.json", pair, 0o644)
	steps, said, status := run(t, env, berth, "fleet", "advise", profile, "--from", filepath.Join(dir, "pair"), "--emit", "slurm")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, said)
	}
	out, said, status = run(t, env, "salloc", "--quiet", "--nodes=2", "--nodelist=n[1-2]", "--exclusive", "sh", write(t, dir, "steps.sh", steps, 0o644),
		"sh", "-c", "echo $SLURMD_NODENAME $SLURM_LOCALID $(grep Cpus_allowed_list /proc/self/status)")
	got := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(got)
	if want := []string{"n1 0 Cpus_allowed_list: 0", "n1 1 Cpus_allowed_list: 1", "n2 0 Cpus_allowed_list: 0", "n2 1 Cpus_allowed_list: 1"}; status != 0 || !slices.Equal(got, want) {
		t.Errorf("status %d\n%s%s\nwant %q\nby %s", status, out, said, want, steps)
	}
	eventually(t, "no job is left", func() bool { out, _, _ := run(t, env, "squeue", "--noheader"); return out == "" })
}

// declared: the false shape of n3 was found, and the line that mends it is the
// one of slurmd -C.
func declared(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	said, err := exec.Command("slurmd", "-C").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, right, _ := strings.Cut(strings.Split(string(said), "\n")[0], " ")
	i := slices.IndexFunc(f.Findings, func(x finding.Finding) bool { return x.Code == "declared-shape" })
	if i < 0 || !strings.HasPrefix(f.Findings[i].Message, "n3 is declared") || f.Findings[i].Evidence[0] != "NodeName=n3 "+right {
		t.Errorf("n3's shape was not found, or not mended by %q: %+v", right, f.Findings)
	}
}

func TestSlurmBrings(t *testing.T) {
	berth := built(t)
	env := startSlurm(t, "")
	before := left()
	f := looked(t, env, 1, berth, "fleet", "inspect", "--engine", "slurm", "--limit", "60s", "--bring", "never")
	check(t, f, map[string]fleet.TroubleCode{"n1": fleet.NoBerth, "n2": fleet.NoBerth, "n3": fleet.NoBerth, "n4": fleet.Down})
	f = looked(t, env, 1, berth, "fleet", "inspect", "--engine", "slurm", "--limit", "60s")
	check(t, f, map[string]fleet.TroubleCode{"n1": "", "n2": "", "n3": "", "n4": fleet.Down})
	if after := left(); !slices.Equal(before, after) {
		t.Errorf("%v is left on the nodes", after)
	}
}

// A berth that hangs on the nodes is ended with the step, by the limit.
func TestSlurmHangs(t *testing.T) {
	long(t)
	berth := built(t)
	slow := t.TempDir()
	write(t, slow, "berth", "#!/bin/sh\nexec sleep 3599.0118\n", 0o755)
	env := startSlurm(t, slow+":")
	f := looked(t, env, 1, berth, "fleet", "inspect", "--engine", "slurm", "--limit", "8s")
	check(t, f, map[string]fleet.TroubleCode{"n1": fleet.TimedOut, "n2": fleet.TimedOut, "n3": fleet.TimedOut, "n4": fleet.Down})
	eventually(t, "nothing runs on", func() bool { return !running("3599.0118") })
	eventually(t, "no job is left", func() bool { out, _, _ := run(t, env, "squeue", "--noheader"); return out == "" })
}

// The line for slurm.conf is that of slurmd -C, which reads the same machine
// from its description.
func TestNodeLines(t *testing.T) {
	need(t, "slurmd")
	for packages := 1; packages <= 4; packages *= 2 {
		for _, cores := range []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 28, 32, 48, 64} {
			for threads := 1; threads <= 4; threads *= 2 {
				if packages*cores*threads > 512 {
					continue
				}
				hwloc := fmt.Sprintf("pack:%d numa:1 core:%d pu:%d", packages, cores, threads)
				c := exec.Command("slurmd", "-C")
				c.Env = append(os.Environ(), "HWLOC_SYNTHETIC="+hwloc)
				said, err := c.Output()
				if err != nil {
					t.Fatalf("%s: %v", hwloc, err)
				}
				_, want, _ := strings.Cut(strings.Split(string(said), "\n")[0], " ")
				want, _, _ = strings.Cut(want, " RealMemory")
				source, err := probe.Synthetic(fmt.Sprintf("package:%d numa:1 core:%d pu:%d", packages, cores, threads))
				if err != nil {
					t.Fatal(err)
				}
				m, err := probe.Probe(t.Context(), source)
				if err != nil {
					t.Fatal(err)
				}
				d, ok := fleet.DeclaredOf(m)
				if _, got, _ := strings.Cut(d.Line("x"), " "); !ok || got != want {
					t.Errorf("%s: %s, and slurmd -C says %s", hwloc, got, want)
				}
			}
		}
	}
}
