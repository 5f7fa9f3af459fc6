//go:build lab

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// irqbalance bans the CPUs of the plan. It sees a /proc/irq without interrupts,
// so that it moves none.
func TestIrqbalance(t *testing.T) {
	need(t, "irqbalance", "unshare", "dash")
	if os.Getuid() != 0 {
		t.Skip("a mount of its own needs root")
	}
	dir := t.TempDir()
	program := "mount --bind " + t.TempDir() + " /proc/irq && set -a && . " + filepath.Join(dir, "plan") + " && exec irqbalance --foreground --oneshot --debug"
	run := func(text string) string {
		write(t, dir, "plan", text)
		return output(t, command(t, dir, "unshare", "--mount", "dash", "-c", program))
	}
	text := emitted(t, "irqbalance", planFor(t, "core:2 pu:1", "model: processes\nlimits: {avoid_cpus: \"0\"}\n"))
	const banned = "Prevent irq assignment to these isolated_cpus"
	if out := run(text); !strings.Contains(out, "Banned CPUs: 00000002") && !strings.Contains(out, "Banned CPUs: 2") {
		t.Errorf("%s: CPU 1 is not banned\n%s", banned, out)
	}
	if out := run("# nothing\n"); strings.Contains(out, "Banned CPUs: 00000002") {
		t.Errorf("CPU 1 is always banned\n%s", out)
	}
}

// The lines are such as the kernel takes, and nothing is changed by printing them.
func TestIrqLines(t *testing.T) {
	need(t, "dash")
	dir := t.TempDir()
	text := emitted(t, "irq", planFor(t, "core:2 pu:1", "model: processes\nlimits: {avoid_cpus: \"0\"}\n"))
	state := func() string {
		lists, _ := filepath.Glob("/proc/irq/*/smp_affinity_list")
		var all strings.Builder
		for _, list := range lists {
			now, _ := os.ReadFile(list)
			all.WriteString(list + " " + string(now))
		}
		return all.String()
	}
	before := state()
	if before == "" {
		t.Skip("this kernel shows no interrupts")
	}
	want := strings.Count(before, "smp_affinity_list 1\n") + strings.Count(before, "smp_affinity_list 0-1\n")
	out := output(t, command(t, dir, "dash", "-eu", write(t, dir, "plan", text)))
	if n := strings.Count(out, "\necho 0 >/proc/irq/"); n != want || before != state() {
		t.Errorf("%d lines for %d interrupts\n%s", n, want, out)
	}
	if err := quiet(t, command(t, dir, "dash", "-n", write(t, dir, "lines", out))); err != nil {
		t.Error(err)
	}
	if exitCode(t, command(t, dir, "dash", write(t, dir, "all", replaced(t, text, "plan=1", "plan=0-4095")))) == 0 {
		t.Error("all CPUs may go")
	}
}

// GRUB's file adds to the kernel's command line, and takes nothing from it.
func TestKernelLine(t *testing.T) {
	need(t, "dash")
	dir := t.TempDir()
	file := write(t, dir, "berth.cfg", emitted(t, "kernel", planFor(t, "core:4 pu:1", "model: processes\nlimits: {avoid_cpus: \"0\"}\n")))
	cmd := command(t, dir, "dash", "-eu", "-c", `GRUB_CMDLINE_LINUX=quiet; . "$0"; echo "$GRUB_CMDLINE_LINUX"`, file)
	same(t, "the command line", output(t, cmd), "quiet isolcpus=domain,managed_irq,1-3 nohz_full=1-3 rcu_nocbs=1-3")
}

// The script, in a folder instead of the control groups: what it writes, and
// that nothing is made where the kernel says no.
func TestCpusetWrites(t *testing.T) {
	need(t, "dash")
	dir, root := t.TempDir(), t.TempDir()
	text := replaced(t, emitted(t, "cpuset", planFor(t, pair, "model: processes\nwork: {kind: float}\n")), "parent=/sys/fs/cgroup", "parent="+root)
	output(t, command(t, dir, "dash", write(t, dir, "plan", text)))
	var got []string
	files, _ := filepath.Glob(root + "/*/*")
	more, _ := filepath.Glob(root + "/*/*/*")
	for _, file := range append(files, more...) {
		if now, err := os.ReadFile(file); err == nil {
			got = append(got, strings.TrimPrefix(file, root+"/berth-video-transcoding-lab-id-n/")+" "+strings.TrimSpace(string(now)))
		}
	}
	same(t, "files", strings.Join(got, "\n"), "cgroup.subtree_control +cpuset", "cpuset.cpus 0-1", "cpuset.cpus.partition isolated", "cpuset.mems 0",
		"worker-0/cpuset.cpus 0", "worker-0/cpuset.mems 0", "worker-1/cpuset.cpus 1", "worker-1/cpuset.mems 0")
	if exitCode(t, command(t, dir, "dash", write(t, dir, "refused", replaced(t, text, `read -r partition <.*`, "partition='isolated invalid (Cpu list in cpuset.cpus not exclusive)'")))) == 0 {
		t.Error("a partition that the kernel calls invalid goes unnoticed")
	}
}

// Partitions need a machine whose cpusets are of cgroup v2.
func TestCpusetPartition(t *testing.T) {
	need(t, "dash")
	controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if os.Getuid() != 0 || !strings.Contains(string(controllers), "cpuset") {
		t.Skip("no cpuset controller of cgroup v2 at /sys/fs/cgroup, or not root")
	}
	twoCPUs(t)
	dir := t.TempDir()
	file := write(t, dir, "plan", emitted(t, "cpuset", planFor(t, pair, "model: processes\nlimits: {avoid_cpus: \"0\"}\n")))
	undo := func() *exec.Cmd { return command(t, dir, "dash", file, "undo") }
	t.Cleanup(func() { undo().Run() })
	output(t, command(t, dir, "dash", file))
	group := "/sys/fs/cgroup/berth-video-transcoding-lab-id-n"
	if now, _ := os.ReadFile(group + "/cpuset.cpus.effective"); strings.TrimSpace(string(now)) != "1" {
		t.Errorf("the group has %s", now)
	}
	output(t, undo())
	if _, err := os.Stat(group); err == nil {
		t.Error("the group is left")
	}
}
