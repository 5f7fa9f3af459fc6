//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/affinity/fleet"
)

// lan is hosts beside this one, each with a network, a name and a /tmp of its
// own, and an sshd: h1 has a berth, h2 none, h3 none and may use only the last
// CPU, slow1 has one that never ends. Nobody is at the address of dead1, and
// what listens at mute1's says nothing.
type lan struct {
	dir    string
	config string // of ssh
	head   string // the address of this host
	env    []string
}

const slowBerth = "3599.0119" // seconds, by which it is found

func startHosts(t *testing.T, berth string, names ...string) *lan {
	t.Helper()
	need(t, "sshd", "ssh", "ssh-keygen", "ip", "nsenter", "unshare", "taskset")
	dir, err := os.MkdirTemp("/var/tmp", "berth-lab-") // not in /tmp, which the hosts do not share
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	id := os.Getpid() % 250
	subnet, bridge := fmt.Sprintf("10.79.%d.", id), fmt.Sprintf("berthfl%d", id)
	l := &lan{dir: dir, head: subnet + "1"}
	sh := func(undo bool, words string) {
		t.Helper()
		if out, err := exec.Command("sh", "-c", words).CombinedOutput(); err != nil && !undo {
			t.Fatalf("%s: %v\n%s", words, err, out)
		}
	}
	t.Cleanup(func() { sh(true, "ip link del "+bridge) })
	sh(false, fmt.Sprintf("ip link add %s type bridge && ip addr add %s/24 dev %s && ip link set %s up", bridge, l.head, bridge, bridge))
	for _, name := range []string{"host", "user"} {
		sh(false, fmt.Sprintf("ssh-keygen -q -t ed25519 -N '' -f %s/%s", dir, name))
	}
	os.MkdirAll("/run/sshd", 0o755)
	write(t, dir, "slow/berth", "#!/bin/sh\nexec sleep "+slowBerth+"\n", 0o755)
	sh(false, fmt.Sprintf("mkdir %[1]s/there && cp %[2]s %[1]s/there/berth", dir, berth))
	mute, err := net.Listen("tcp", l.head+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	table, config := "127.0.0.1 localhost\n", fmt.Sprintf("Host mute1\n  HostName %s\n  Port %d\nHost dead1\n  HostName %s19\n", l.head, mute.Addr().(*net.TCPAddr).Port, subnet)
	for i, name := range names {
		table += fmt.Sprintf("%s%d %s\n", subnet, 101+i, name)
	}
	write(t, dir, "hosts", table, 0o644)
	for i, name := range names {
		address, space, wire := fmt.Sprintf("%s%d", subnet, 101+i), fmt.Sprintf("berthfl%d-%s", id, name), fmt.Sprintf("bfl%d-%d", id, i)
		path := map[string]string{"h1": dir + "/there:", "slow1": dir + "/slow:"}[name] + "/usr/bin:/bin"
		t.Cleanup(func() { sh(true, "ip netns del "+space) })
		sh(false, fmt.Sprintf("ip netns add %[1]s && ip link add %[2]sa type veth peer name %[2]sb && ip link set %[2]sa master %[3]s up && "+
			"ip link set %[2]sb netns %[1]s && ip -n %[1]s addr add %[4]s/24 dev %[2]sb && ip -n %[1]s link set %[2]sb up && ip -n %[1]s link set lo up", space, wire, bridge, address))
		os.MkdirAll(filepath.Join(dir, name, "tmp"), 0o777)
		conf := write(t, dir, name+"/sshd", fmt.Sprintf("ListenAddress %s\nPort 22\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n"+
			"PermitRootLogin prohibit-password\nMaxStartups 100\nSetEnv PATH=%s\n", address, dir, dir, path), 0o600)
		confine := ""
		if name == "h3" {
			confine = fmt.Sprintf("taskset -c %d ", lastCPU())
		}
		sshd, _ := exec.LookPath("sshd")
		boot := write(t, dir, name+"/boot", fmt.Sprintf("set -e\nmount --make-rprivate /\nhostname %[1]s\nmount --bind %[2]s/hosts /etc/hosts\n"+
			"mount --bind %[2]s/%[1]s/tmp /tmp\nexec %[3]s%[4]s -D -e -f %[5]s\n", name, dir, confine, sshd, conf), 0o644)
		daemon(t, dir, os.Environ(), "nsenter", "--net=/run/netns/"+space, "unshare", "--uts", "--mount", "sh", boot)
		config += fmt.Sprintf("Host %s\n  HostName %s\n", name, address)
	}
	config += fmt.Sprintf("Host *\n  User root\n  IdentityFile %s/user\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n", dir)
	l.config = write(t, dir, "config", config, 0o600)
	for _, name := range names {
		eventually(t, "sshd of "+name+" answers", func() bool { return exec.Command("ssh", "-F", l.config, name, "true").Run() == nil })
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OMPI_") && !strings.HasPrefix(v, "SLURM_") && !strings.HasPrefix(v, "PATH=") && !strings.HasPrefix(v, "DASK_") {
			l.env = append(l.env, v)
		}
	}
	l.env = append(l.env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
		"OMPI_MCA_plm_rsh_agent=ssh -F "+l.config, "OMPI_MCA_oob_tcp_if_include="+subnet+"0/24", "OMPI_MCA_btl_tcp_if_include="+subnet+"0/24")
	t.Cleanup(func() { // before the hosts go
		for _, name := range names {
			left := []string{}
			eventually(t, "nothing is left in /tmp of "+name, func() bool {
				left, _ = filepath.Glob(filepath.Join(dir, name, "tmp", "*"))
				return len(left) == 0
			})
			if len(left) > 0 {
				t.Logf("%s", left)
			}
		}
	})
	return l
}

// lastCPU is the last one that this process may use.
func lastCPU() int {
	text, _ := os.ReadFile("/proc/self/status")
	_, list, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
	list, _, _ = strings.Cut(list, "\n")
	last := 0
	fmt.Sscan(list[strings.LastIndexAny(list, ",-")+1:], &last)
	return last
}

// seatable makes of a fleet of virtual machines, whose plans pin nobody, one
// that could be of real ones.
func seatable(t *testing.T, f *fleet.Fleet, dir string) string {
	t.Helper()
	for i := range f.Shapes {
		f.Shapes[i].Inspect.Findings = nil
		f.Shapes[i].Inspect.Host.Hypervisor = ""
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, dir, "fleet.json", string(text), 0o644)
}

// onHost are the processes in the network of a host whose command line holds a word.
func (l *lan) onHost(name, word string) []int {
	out, _ := exec.Command("ip", "netns", "pids", fmt.Sprintf("berthfl%d-%s", os.Getpid()%250, name)).Output()
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		pid := 0
		fmt.Sscan(field, &pid)
		if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(strings.ReplaceAll(string(text), "\x00", " "), word) {
			pids = append(pids, pid)
		}
	}
	return pids
}
