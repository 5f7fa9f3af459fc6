//go:build lab

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/affinity/fleet"
)

// TestSlurmHosts: a slurmd on each of three hosts with a network and a name of
// its own, all declared alike, of which h3 may use one CPU only.
func TestSlurmHosts(t *testing.T) {
	berth := built(t)
	if m := here(t, berth); m.Topology.Allowed.Len() < 2 {
		t.Skip("one CPU: no host can have fewer than the others")
	}
	need(t, "slurmctld", "slurmd", "srun", "sinfo")
	names := []string{"h1", "h2", "h3"}
	l := startHosts(t, berth, names...)
	dir, port := filepath.Join(l.dir, "slurm"), ports(t, 2)
	for _, name := range append([]string{"state"}, names...) {
		if err := os.MkdirAll(filepath.Join(dir, strings.Replace(name, "h", "spool.h", 1)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	said, err := exec.Command("slurmd", "-C").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, shape, _ := strings.Cut(strings.Split(string(said), "\n")[0], " ")
	host, _ := os.Hostname()
	text := fmt.Sprintf(slurmConf, host, port[0], 0, 0, 0, dir, "", 0, l.head)
	for i, name := range names {
		text += fmt.Sprintf("NodeName=%s NodeAddr=%s%d Port=%d %s\n", name, strings.TrimSuffix(l.head, "1"), 101+i, port[1], shape)
	}
	conf := write(t, dir, "slurm.conf", text+"PartitionName=lab Nodes=h[1-3] Default=YES State=UP\n", 0o644)
	env := slurmEnv(conf, filepath.Dir(berth)+":")
	daemon(t, dir, env, "slurmctld", "-D")
	for _, name := range names {
		daemon(t, dir, l.env, "ssh", "-F", l.config, name, "exec env SLURM_CONF="+conf+" PATH=/usr/sbin:/usr/bin:/sbin:/bin slurmd -D -N "+name)
		t.Cleanup(func() { // the end of its session leaves it alone
			for _, pid := range l.onHost(name, "slurm") {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
	eventually(t, "three nodes are up", func() bool {
		out, _, _ := run(t, env, "sinfo", "--noheader", "--Node", "--format=%N %t")
		return strings.Count(out, " idle\n") == 3
	})
	f := looked(t, env, 0, berth, "fleet", "inspect", "--engine", "slurm", "--limit", "60s")
	check(t, f, map[string]fleet.TroubleCode{"h1": "", "h2": "", "h3": ""})
	if len(f.Shapes) != 2 || fleet.Fold(f.Shapes[0].Nodes) != "h[1-2]" || fleet.Fold(f.Shapes[1].Nodes) != "h3" || f.Shapes[1].BudgetCPUs != 1 {
		out, said, _ := run(t, env, berth, "fleet", "inspect", "--engine", "slurm")
		t.Errorf("two hosts may use all CPUs, and h3 one:\n%s%s", out, said)
	}
	if d := f.Shapes[len(f.Shapes)-1].Differences; len(d) == 0 {
		t.Errorf("nothing is said of h3: %+v", f.Shapes)
	}
}
