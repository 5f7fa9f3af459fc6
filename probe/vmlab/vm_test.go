//go:build lab

package vmlab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// guest is a machine to boot.
type guest struct {
	arch   string // amd64 or arm64
	cpu    string // QEMU's -cpu and what else shapes the machine
	append string // to the kernel's command line
	steps  string // see package init
	tests  bool   // take the tests of package affinity along, as /tests
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

// boot runs a guest to its end and returns the output of each step by name.
func boot(t *testing.T, g guest) map[string]string {
	t.Helper()
	kernel := filepath.Join(cacheDir(t), "vmlinuz-"+g.arch)
	qemu := map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[g.arch]
	for _, need := range []string{qemu, "cpio"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("%v: run probe/vmlab/setup", err)
		}
	}
	if _, err := os.Stat(kernel); err != nil {
		t.Skipf("%v: run probe/vmlab/setup", err)
	}
	initrd := pack(t, g)
	console, machine := "ttyS0", []string{"-accel", "tcg,thread=multi"}
	if g.arch == "arm64" {
		console = "ttyAMA0"
	}
	args := append(machine, strings.Fields(g.cpu)...)
	args = append(args, "-m", "1G", "-nographic", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
		"-append", "console="+console+" quiet panic=-1 "+g.append)
	began := time.Now()
	text, err := emulate(t, qemu, args)
	for try := 2; errors.Is(err, errHung) && try <= 3; try++ {
		t.Logf("%v; try %d", err, try)
		began = time.Now()
		text, err = emulate(t, qemu, args)
	}
	if err != nil || !strings.Contains(text, "lab: done") {
		t.Fatalf("the machine did not end well: %v\n%s", err, tail(text))
	}
	t.Logf("booted and switched off in %.0f s", time.Since(began).Seconds())
	steps := map[string]string{}
	for _, part := range strings.Split(text, "\nlab: begin ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		body, _, _ := strings.Cut(rest, "\nlab: end "+name)
		steps[name] = body
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "lab: ") && strings.Count(line, ":") > 1 {
			t.Log(strings.TrimSpace(line))
		}
	}
	return steps
}

// errHung: on a busy host the emulator, or the kernel in it, can hang before
// anything of the guest's own runs.
var errHung = errors.New("the guest hung in its boot")

// emulate runs a guest to its end and returns what it printed.
func emulate(t *testing.T, qemu string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var hung atomic.Bool
	alarm := time.AfterFunc(time.Minute, func() {
		hung.Store(true)
		cancel()
	})
	var text strings.Builder
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		text.WriteString(strings.ReplaceAll(line, "\r", ""))
		if strings.HasPrefix(line, "lab: ") {
			alarm.Stop()
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	alarm.Stop()
	if hung.Load() {
		err = errHung
	}
	return text.String(), err
}

func tail(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// pack builds berth, init and what else the guest needs and packs them as its
// first files.
func pack(t *testing.T, g guest) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	files := "steps\n"
	builds := [][]string{{"init", "build", "berth/probe/vmlab/init"}, {"berth", "build", "berth/cmd/berth"}}
	if g.tests {
		builds = append(builds, []string{"tests", "test", "-c", "berth/affinity"})
	}
	for _, b := range builds {
		name, how, pkg := b[0], b[1:len(b)-1], b[len(b)-1]
		files += name + "\n"
		build := exec.Command("go", append(how, "-o", filepath.Join(root, name), pkg)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+g.arch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "steps"), []byte(g.steps), 0o644); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	cpio := exec.Command("cpio", "--quiet", "-o", "-H", "newc")
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
