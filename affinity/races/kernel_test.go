//go:build lab

package races

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denySetaffinity installs a filter under which sched_setaffinity(2) fails with
// EPERM, as those of containers do with calls that they do not list (seccomp(2);
// the offset is that of nr in struct seccomp_data).
func denySetaffinity() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: unix.SYS_SCHED_SETAFFINITY},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// A filter denies seats: each command says so, and what needs none works.
func TestSeccomp(t *testing.T) {
	_, first, _ := two(t)
	pid, _ := running(t, "spin")
	const word = "a seccomp filter"
	n := times(5)
	for range n {
		berth(t, "denied", "run", "-c", first.String(), "--", "/bin/true").wants(t, "run", 125, word)
		berth(t, "denied", "run", "-n", "2", "-c", first.String(), "--", "/bin/true").wants(t, "run -n 2", 125, word)
		undo := filepath.Join(t.TempDir(), "undo")
		berth(t, "denied", "pin", "--pid", strconv.Itoa(pid), "-c", first.String(), "--undo-file", undo).wants(t, "pin", 1, word)
		if _, err := os.Stat(undo); err == nil {
			t.Error("a pin that did nothing leaves an undo file")
		}
		for _, args := range [...][]string{{"inspect"}, {"nproc"}, {"ps", "--pid", strconv.Itoa(pid)}, {"advise", "web-sync-python"}, {"run", "--", "/bin/true"}} {
			berth(t, "denied", args...).wants(t, args[0], 0, "")
		}
	}
	t.Logf("%d times 8 commands under a filter that denies sched_setaffinity", n)
}

// 32 descriptors: what cannot be read is said to be missing, and nothing breaks.
func TestFewDescriptors(t *testing.T) {
	_, first, _ := two(t)
	pid, _ := running(t, "births")
	file := filepath.Join(t.TempDir(), "file")
	n := times(5)
	for range n {
		for _, args := range [...][]string{
			{"inspect"}, {"nproc"}, {"ps", "-a"}, {"ps", "-a", "-o", "json"}, {"advise", "web-sync-python"},
			{"run", "-n", "8", "--receipt=" + file, "-c", first.String(), "--", "/bin/sleep", "0.1"},
			{"pin", "--pid", strconv.Itoa(pid), "--each", "--undo-file", file + "-undo"}, {"pin", "--undo", file + "-undo"},
			{"observe", "--pid", strconv.Itoa(pid), "--for", "1s"},
		} {
			berth(t, "few", args...).wants(t, strings.Join(args, " "), 0, "")
		}
		_ = os.Remove(file + "-undo")
		if got := berth(t, "few", "doctor", "--for", "1s"); got.status > 1 {
			t.Errorf("doctor: %d, %s", got.status, got.stderr)
		}
	}
	t.Logf("%d times 10 commands with 32 descriptors, beside a process that makes threads", n)
}

// /proc shows a user his own processes alone.
func TestHidepid(t *testing.T) {
	if within(t, unix.CLONE_NEWPID) {
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
		t.Skipf("no proc file system with hidepid: %v", err)
	}
	_, first, _ := two(t)
	pid, _ := running(t, "spin")
	user := func(args ...string) result {
		c := command("", args...)
		c.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nowhere", "XDG_STATE_HOME=" + "/nowhere"}
		c.Dir = "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
		return finish(t, c)
	}
	n := times(5)
	for range n {
		for _, args := range [...][]string{{"inspect"}, {"nproc"}, {"advise", "web-sync-python"}, {"run", "-c", first.String(), "--receipt", "--", "/bin/sleep", "0.1"}} {
			user(args...).wants(t, args[0], 0, "")
		}
		if got := user("ps", "-a"); got.status != 0 || !strings.Contains(got.stdout+got.stderr, "hidepid") && !strings.Contains(got.stdout+got.stderr, "cannot be seen") {
			t.Errorf("ps -a does not say that there are more: %+v", got)
		}
		user("pin", "--pid", strconv.Itoa(pid), "-c", first.String()).wants(t, "pin of what is hidden", 1, "not there")
		user("observe", "--pid", strconv.Itoa(pid)).wants(t, "observe of what is hidden", 1, "not there")
		if got := user("doctor", "--for", "1s"); got.status > 1 {
			t.Errorf("doctor: %+v", got)
		}
	}
	t.Logf("%d times 8 commands by a user for whom /proc hides the others", n)
}

// No /sys at all.
func TestNoSys(t *testing.T) {
	want := berth(t, "", "nproc").stdout
	if within(t, 0) {
		return
	}
	if err := unix.Mount("none", "/sys", "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	_, first, _ := two(t)
	pid, _ := running(t, "spin")
	n := times(5)
	for range n {
		if got := berth(t, "", "nproc"); got.stdout != want {
			t.Errorf("nproc is %q without /sys, and %q with it: %s", got.stdout, want, got.stderr)
		}
		undo := filepath.Join(t.TempDir(), "undo")
		for _, args := range [...][]string{{"inspect"}, {"inspect", "-o", "json"}, {"advise", "web-sync-python"}, {"ps", "-a"},
			{"run", "-c", first.String(), "--receipt", "--", "/bin/sleep", "0.1"}, {"run", "--place", "core:0", "--", "/bin/true"},
			{"pin", "--pid", strconv.Itoa(pid), "-c", first.String(), "--undo-file", undo}, {"pin", "--undo", undo}} {
			berth(t, "", args...).wants(t, strings.Join(args, " "), 0, "")
		}
		berth(t, "", "run", "--new-cgroup", "-c", first.String(), "--", "/bin/true").wants(t, "run --new-cgroup", 125, "make a control group")
		if got := berth(t, "", "doctor", "--for", "1s"); got.status > 1 {
			t.Errorf("doctor: %+v", got)
		}
	}
	t.Logf("%d times 11 commands without /sys", n)
}

// /sys can be read only.
func TestReadOnlySys(t *testing.T) {
	if within(t, 0) {
		return
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		t.Skip(err)
	}
	_, first, _ := two(t)
	n := times(10)
	for range n {
		berth(t, "", "run", "--new-cgroup", "-c", first.String(), "--", "/bin/true").wants(t, "run --new-cgroup", 125, "mounted for writing")
		berth(t, "", "run", "--new-cgroup", "--quota", "0.5", "--", "/bin/true").wants(t, "run --quota", 125, "mounted for writing")
		for _, args := range [...][]string{{"inspect"}, {"run", "-c", first.String(), "--receipt", "--", "/bin/true"}} {
			berth(t, "", args...).wants(t, args[0], 0, "")
		}
	}
	t.Logf("%d times 4 commands with a /sys that cannot be written", n)
}
