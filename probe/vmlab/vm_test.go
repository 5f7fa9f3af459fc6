//go:build lab

package vmlab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// guest is a machine to boot.
type guest struct {
	arch    string // as Go calls it
	cpu     string // QEMU's -cpu and what else shapes the machine
	memory  string // as -m takes it; empty: 1G
	append  string // to the kernel's command line
	steps   string // see package init
	patient bool   // it boots so slowly that silence says nothing for long
	// What is taken along beside berth: the tests of package affinity as /tests,
	// the lab of package doctor as /lab, that of package cgroup as /groups.
	tests, doctor, groups bool
	container             bool // and runc or crun of this host, where it has them
}

// emulators are QEMU's, by architecture, with the machine that they play unless
// the guest names one, and its console. A slow emulator's timer fails the test
// that x86 kernels make of it in their boot.
var emulators = map[string]struct{ program, machine, console string }{
	"amd64":   {"qemu-system-x86_64", "", "ttyS0 no_timer_check"},
	"arm64":   {"qemu-system-aarch64", "virt", "ttyAMA0"},
	"riscv64": {"qemu-system-riscv64", "virt", "ttyS0"},
	"ppc64le": {"qemu-system-ppc64", "pseries", "hvc0"},
	"s390x":   {"qemu-system-s390x", "s390-ccw-virtio", "ttysclp0"},
}

// cacheDir is where setup left the kernels.
func cacheDir(t *testing.T) string {
	if dir := os.Getenv("BERTH_LAB_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Skip("no cache folder:", err)
	}
	return filepath.Join(dir, "berth", "vmlab")
}

// session is what a guest said and how long it took, in seconds.
type session struct {
	steps     map[string]string // output by name
	up, whole float64           // until init ran, until it was off
}

// slots keeps guests from crowding the host.
var slots = make(chan struct{}, 2)

// boot runs a guest to its end and returns the output of each step by name.
func boot(t *testing.T, g guest) map[string]string {
	t.Helper()
	return play(t, g).steps
}

// play runs a guest to its end.
func play(t *testing.T, g guest) session {
	t.Helper()
	kernel := filepath.Join(cacheDir(t), "vmlinuz-"+g.arch)
	qemu := emulators[g.arch]
	for _, need := range []string{qemu.program, "cpio"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("%v: run probe/vmlab/setup, or for all guests probe/vmlab/setup all", err)
		}
	}
	if _, err := os.Stat(kernel); err != nil {
		t.Skipf("%v: run probe/vmlab/setup, or for all guests probe/vmlab/setup all", err)
	}
	initrd := pack(t, g)
	slots <- struct{}{}
	defer func() { <-slots }()
	args := []string{"-accel", "tcg,thread=multi"}
	if qemu.machine != "" && !strings.Contains(g.cpu, "-M ") {
		args = append(args, "-M", qemu.machine)
	}
	args = append(args, strings.Fields(g.cpu)...)
	args = append(args, "-m", cmp.Or(g.memory, "1G"), "-nographic", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
		"-append", "console="+qemu.console+" quiet panic=-1 "+g.append)
	s, text, err := emulate(t, qemu.program, args, g.patient)
	if errors.Is(err, errHung) && g.patient {
		t.Skipf("%v, with all the time it was given: this host is too slow for it, or too busy", err)
	}
	for try := 2; errors.Is(err, errHung) && try <= 3; try++ {
		t.Logf("%v; try %d", err, try)
		s, text, err = emulate(t, qemu.program, args, g.patient)
	}
	if err != nil || !strings.Contains(text, "lab: done") {
		t.Fatalf("the machine did not end well: %v\n%s", err, tail(text))
	}
	t.Logf("init ran after %.1f s, switched off after %.1f s", s.up, s.whole)
	s.steps = map[string]string{}
	for _, part := range strings.Split(text, "\nlab: begin ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		body, _, _ := strings.Cut(rest, "\nlab: end "+name)
		s.steps[name] = body
	}
	warned := map[string]bool{} // QEMU warns for each CPU
	for line := range strings.Lines(text) {
		warns := strings.HasPrefix(line, "qemu") && !warned[line]
		if strings.HasPrefix(line, "lab: ") && strings.Count(line, ":") > 1 || warns {
			t.Log(strings.TrimSpace(line))
			warned[line] = warns
		}
	}
	return s
}

// errHung: on a busy host the emulator, or the kernel in it, can hang or panic
// before anything of the guest's own runs.
var errHung = errors.New("the guest's kernel did not come up")

// emulate runs a guest to its end and returns what it printed.
func emulate(t *testing.T, qemu string, args []string, patient bool) (session, string, error) {
	limit, silence := 8*time.Minute, 3*time.Minute
	if patient {
		limit, silence = 25*time.Minute, 8*time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var s session
	cmd := exec.CommandContext(ctx, qemu, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, "", err
	}
	cmd.Stderr = cmd.Stdout
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return s, "", err
	}
	var hung atomic.Bool
	alarm := time.AfterFunc(silence, func() {
		hung.Store(true)
		cancel()
	})
	var text strings.Builder
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		text.WriteString(strings.ReplaceAll(line, "\r", ""))
		if strings.HasPrefix(line, "lab: ") && s.up == 0 {
			alarm.Stop()
			s.up = time.Since(began).Seconds()
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	s.whole = time.Since(began).Seconds()
	alarm.Stop()
	if hung.Load() || s.up == 0 {
		err = errHung
	}
	return s, text.String(), err
}

func tail(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// programs are built once for each architecture.
var programs struct {
	sync.Mutex
	built map[string]error // by path
}

// build puts a program into a folder of its architecture and returns its path.
func build(t *testing.T, arch, name string, how ...string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	out := filepath.Join(scratch, arch, name)
	err, done := programs.built[out]
	if !done {
		cmd := exec.Command("go", slices.Insert(how, len(how)-1, "-o", out)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if said, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("build %s: %w\n%s", how[len(how)-1], failed, said)
		}
		if programs.built == nil {
			programs.built = map[string]error{}
		}
		programs.built[out] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// containerRuntime is runc or crun of this host, with the libraries that it loads.
func containerRuntime(t *testing.T, arch string) []string {
	t.Helper()
	if arch != runtime.GOARCH {
		t.Skipf("no container runtime for %s here", arch)
	}
	for _, name := range []string{"runc", "crun"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		files := []string{path}
		out, _ := exec.Command("ldd", path).Output() // it fails for a static program
		for word := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(word, "/") {
				files = append(files, word)
			}
		}
		return files
	}
	t.Skip("neither runc nor crun is here: run probe/vmlab/setup")
	return nil
}

// pack packs berth, init and what else the guest needs as its first files.
func pack(t *testing.T, g guest) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	builds := [][]string{{"init", "build", "berth/probe/vmlab/init"}, {"berth", "build", "berth/cmd/berth"}}
	if g.tests {
		builds = append(builds, []string{"tests", "test", "-c", "berth/affinity"})
	}
	if g.doctor {
		builds = append(builds, []string{"lab", "test", "-tags", "lab", "-c", "berth/advisor/doctor/lab"})
	}
	if g.groups {
		builds = append(builds, []string{"groups", "test", "-tags", "lab", "-c", "berth/probe/cgroup/lab"})
	}
	files := "steps\n"
	add := func(name, from string) {
		err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
		if err == nil {
			err = os.Symlink(from, filepath.Join(root, name))
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range name {
			if c == '/' && !strings.Contains(files, "\n"+name[:i]+"\n") {
				files += name[:i] + "\n" // a folder, once, before what is in it
			}
		}
		files += name + "\n"
	}
	for _, b := range builds {
		add(b[0], build(t, g.arch, b[0], b[1:]...))
	}
	if g.container {
		for _, file := range containerRuntime(t, g.arch) {
			add(strings.TrimPrefix(file, "/"), file)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "steps"), []byte(g.steps), 0o644); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	cpio := exec.Command("cpio", "--quiet", "-o", "-L", "-H", "newc")
	cpio.Dir = root
	cpio.Stdin = strings.NewReader(files)
	var archive, messages bytes.Buffer
	cpio.Stdout, cpio.Stderr = &archive, &messages
	if err := cpio.Run(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, messages.String())
	}
	if err := os.WriteFile(initrd, archive.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return initrd
}
