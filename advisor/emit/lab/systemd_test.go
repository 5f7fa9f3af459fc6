//go:build lab

package lab

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/probe"
)

// unit is a service with a drop-in.
func unit(t *testing.T, dropIn string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = write(t, dir, "berth-lab.service", "[Service]\nExecStart=/bin/true\n")
	write(t, dir, "berth-lab.service.d/50-berth.conf", dropIn)
	return dir, file
}

// verified is the word of systemd-analyze, which ends with 0 whatever it warns of.
func verified(t *testing.T, dropIn string) error {
	t.Helper()
	dir, file := unit(t, dropIn)
	return quiet(t, command(t, dir, "systemd-analyze", "verify", file))
}

func TestSystemdVerifies(t *testing.T) {
	need(t, "systemd-analyze")
	for _, f := range golden(t, "systemd") {
		if err := verified(t, string(f.Data)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	for _, bad := range []string{"CPUAffinity=x", "CPUAfinity=0", "NUMAMask=x", "CPUQuota=0%", "CPUQuota=250", "MemoryMax=5X", "Environment=1=2"} {
		if verified(t, "[Service]\n"+bad+"\n") == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func manager(t *testing.T, dropIn string) string {
	t.Helper()
	dir, _ := unit(t, dropIn)
	return managerOf(t, dir)
}

// managerOf is what systemd has read of the service in a folder: a manager that
// starts nothing, as a user who could not, prints all that it knows.
func managerOf(t *testing.T, dir string) string {
	t.Helper()
	const systemd = "/lib/systemd/systemd"
	if _, err := os.Stat(systemd); err != nil {
		t.Skipf("%v: run advisor/emit/lab/setup", err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "/", systemd, "--test", "--system", "--unit=berth-lab.service")
	cmd.Env = []string{"SYSTEMD_UNIT_PATH=" + dir + ":"}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	_, rest, _ := strings.Cut(output(t, cmd), "-> Unit berth-lab.service:")
	rest, _, _ = strings.Cut(rest, "-> Unit ")
	var out []string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		for _, name := range []string{"CPUAffinity: ", "NUMAPolicy: ", "NUMAMask: ", "CPUQuotaPerSecSec: ", "MemoryMax: ", "Environment: "} {
			if strings.HasPrefix(line, name) {
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, "\n")
}

func TestSystemdReads(t *testing.T) {
	plan := planFor(t, "package:2 numa:1(memory=4GiB) core:2 pu:1", "runtime: openmp\nwork: {kind: float}\nlimits: {memory_per_worker_mib: 100, avoid_cpus: \"0\"}\n")
	same(t, "a pinned service", manager(t, emitted(t, "systemd", plan)),
		"CPUAffinity: 1-3", "NUMAPolicy: bind", "NUMAMask: 0-1", "CPUQuotaPerSecSec: infinity", fmt.Sprint("MemoryMax: ", 300<<20),
		"Environment: BERTH_PROCESSES=1", "Environment: BERTH_THREADS=3", "Environment: OMP_NUM_THREADS=3",
		"Environment: OMP_PROC_BIND=close", "Environment: OMP_PLACES=cores")
	plan = planFor(t, pair, "runtime: java\n", func(m *probe.Machine) { q := 1.234; m.Limits.QuotaCPUs = &q })
	same(t, "a quota", manager(t, emitted(t, "systemd", plan)),
		"CPUQuotaPerSecSec: 1.240000s", fmt.Sprint("MemoryMax: ", uint64(math.MaxUint64)),
		"Environment: BERTH_PROCESSES=1", "Environment: BERTH_THREADS=2", "Environment: JAVA_TOOL_OPTIONS=-XX:ActiveProcessorCount=2")
}
