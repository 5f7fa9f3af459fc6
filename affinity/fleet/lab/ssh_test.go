//go:build lab

package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/affinity/fleet"
)

// sshHosts starts two servers, of which the first has a berth on its PATH and
// the second a program of that name that never ends, and returns a configuration
// in which names stand for hosts.
func sshHosts(t *testing.T, berth string) (dir, config string) {
	t.Helper()
	need(t, "sshd", "ssh", "ssh-keygen")
	dir = t.TempDir()
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	os.MkdirAll("/run/sshd", 0o755)
	key, err := os.ReadFile(filepath.Join(dir, "user.pub"))
	if err != nil {
		t.Fatal(err)
	}
	keys := write(t, dir, "keys", string(key), 0o600)
	write(t, dir, "slow/berth", "#!/bin/sh\nexec sleep 3599.0117\n", 0o755)
	if err := os.Mkdir(filepath.Join(dir, "there"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(berth, filepath.Join(dir, "there", "berth")); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	sshd, _ := exec.LookPath("sshd")
	p := ports(t, 5)
	for i, path := range []string{filepath.Join(dir, "there") + ":/usr/bin:/bin", filepath.Join(dir, "slow") + ":/usr/bin:/bin", "/usr/bin:/bin"} {
		name := write(t, dir, fmt.Sprintf("sshd%d", i), fmt.Sprintf(`ListenAddress 127.0.0.1
Port %d
HostKey %s/host
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
MaxStartups 100
SetEnv PATH=%s TMPDIR=%s
`, p[i], dir, keys, path, tmp), 0o600)
		daemon(t, dir, os.Environ(), sshd, "-D", "-e", "-f", name)
	}
	// A port where somebody listens and says nothing.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	hosts := map[string]int{"n*": p[0], "slow*": p[1], "bare*": p[2], "dead*": p[4], "mute*": mute.Addr().(*net.TCPAddr).Port}
	text := ""
	for pattern, port := range hosts {
		text += fmt.Sprintf("Host %s\n  Port %d\n", pattern, port)
	}
	text += fmt.Sprintf("Host *\n  HostName 127.0.0.1\n  User root\n  IdentityFile %s/user\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n", dir)
	config = write(t, dir, "config", text, 0o600)
	for i := range 3 {
		eventually(t, "sshd listens", func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p[i]))
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	return dir, config
}

func TestSSH(t *testing.T) {
	berth := built(t)
	dir, config := sshHosts(t, berth)
	f := looked(t, os.Environ(), 1, berth, "fleet", "inspect", "--engine", "ssh", "--ssh-config", config, "--limit", "20s", "--fan-out", "4",
		"--nodes", "n[01-12],bare[1-3],dead1,mute1,slow1")
	want := map[string]fleet.TroubleCode{"dead1": fleet.Unreachable, "mute1": fleet.TimedOut, "slow1": fleet.TimedOut, "bare1": "", "bare2": "", "bare3": ""}
	for i := range 12 {
		want[fmt.Sprintf("n%02d", i+1)] = ""
	}
	for _, n := range f.Nodes {
		if n.Name == "mute1" && n.Trouble == fleet.Unreachable && strings.Contains(n.Error, "timed out") {
			want["mute1"] = fleet.Unreachable // ssh's own limit was first
		}
	}
	check(t, f, want)
	if len(f.Shapes) != 1 {
		t.Errorf("%d shapes of one machine", len(f.Shapes))
	}
	eventually(t, "nothing runs on", func() bool { return !running("3599.0117") })
	eventually(t, "nothing is left", func() bool {
		left, err := os.ReadDir(filepath.Join(dir, "tmp"))
		return err == nil && len(left) == 0
	})
}

// Ctrl-C ends it with what is known, and what runs on the nodes with it.
func TestSSHEnded(t *testing.T) {
	berth := built(t)
	_, config := sshHosts(t, berth)
	c := exec.Command(berth, "fleet", "inspect", "--engine", "ssh", "--ssh-config", config, "--limit", "100s", "--nodes", "n1,slow1")
	var out strings.Builder
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slow one runs", func() bool { return running("3599.0117") })
	time.Sleep(2 * time.Second) // for the other to answer
	c.Process.Signal(syscall.SIGINT)
	c.Wait()
	if c.ProcessState.ExitCode() != 130 || !strings.Contains(out.String(), "1 of 2 nodes answered") || !strings.Contains(out.String(), "not-asked") {
		t.Errorf("status %d\n%s", c.ProcessState.ExitCode(), out.String())
	}
	t.Logf("after SIGINT:\n%s", out.String())
	eventually(t, "nothing runs on", func() bool { return !running("3599.0117") })
}

// The scripts pass through each login shell as they are.
func TestLoginShells(t *testing.T) {
	berth := built(t)
	dir, config := sshHosts(t, berth)
	for _, shell := range []string{"dash", "bash", "tcsh", "fish"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not here", shell)
			continue
		}
		// A configuration in which ssh is a shell: what it is given goes there.
		fake := write(t, dir, shell+"/ssh", fmt.Sprintf("#!/bin/sh\nfor last; do :; done\nexec %s -c \"$last\"\n", path), 0o755)
		env := append(os.Environ(), "PATH="+filepath.Dir(fake)+":/usr/bin:/bin", "TMPDIR="+filepath.Join(dir, "tmp"), "HOME="+dir)
		check(t, looked(t, env, 0, berth, "fleet", "inspect", "--engine", "ssh", "--ssh-config", config, "--nodes", "bare1"), map[string]fleet.TroubleCode{"bare1": ""})
		env[len(env)-3] = "PATH=" + filepath.Dir(fake) + ":" + filepath.Join(dir, "there") + ":/usr/bin:/bin"
		check(t, looked(t, env, 0, berth, "fleet", "inspect", "--engine", "ssh", "--bring", "never", "--ssh-config", config, "--nodes", "there1"), map[string]fleet.TroubleCode{"there1": ""})
	}
}
