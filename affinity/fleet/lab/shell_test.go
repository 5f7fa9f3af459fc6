//go:build lab

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEmittedTaskset: the script that a plan for the fleet becomes, run on three
// hosts by each of the tools that it names.
func TestEmittedTaskset(t *testing.T) {
	need(t, "pdsh", "clush", "parallel")
	berth := built(t)
	l := startHosts(t, berth, "h1", "h2", "h3")
	plan := planned(t, l, berth, "--engine", "ssh", "--ssh-config", l.config, "--nodes", "h[1-3]")
	text, said, status := run(t, l.env, berth, "fleet", "advise", l.dir+"/work.yaml", "--fleet", l.dir+"/fleet.json", "--emit", "taskset")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, said)
	}
	script := write(t, l.dir, "work.sh", text, 0o644) // in a folder that the hosts share
	program := write(t, l.dir, "tell.sh", tellSeat+"\n", 0o644)
	home := filepath.Join(l.dir, "home") // parallel keeps a folder there
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	want := seats(t, plan)
	for _, args := range [][]string{
		{"pdsh", "-R", "ssh", "-S", "-w", "h1,h2,h3"},
		{"clush", "-S", "-o", "-F " + l.config, "-w", "h[1-3]"},
		{"parallel", "--ssh", "ssh -F " + l.config, "--nonall", "--tag", "-S", "h1,h2,h3"},
	} {
		c := exec.Command(args[0], append(args[1:], "sh", script, "sh", program)...)
		c.Env = append(slices.Clone(l.env), "PDSH_SSH_ARGS_APPEND=-F "+l.config, "HOME="+home)
		out, err := c.CombinedOutput()
		t.Logf("$ %s\n%s", strings.Join(c.Args, " "), out)
		got := regexp.MustCompile(`\bh\d \d+ [\d,-]+`).FindAllString(string(out), -1)
		slices.Sort(got)
		if err != nil || len(want) < 4 || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %q, want %q", args[0], err, got, want)
		}
	}
}
