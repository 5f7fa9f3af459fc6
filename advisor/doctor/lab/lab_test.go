//go:build lab

package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/advisor/doctor"
	"berth/affinity"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// spinning is how many goroutines of this binary spin, if it is a patient, and
// filling how many MiB of memory it fills before.
const (
	spinning = "BERTH_LAB_SPIN"
	filling  = "BERTH_LAB_FILL"
)

var filled []byte

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(spinning)); err == nil {
		if mib, err := strconv.Atoi(os.Getenv(filling)); err == nil {
			filled = make([]byte, mib<<20)
			for i := range filled {
				filled[i] = 1
			}
		}
		for range n {
			go func() {
				for {
				}
			}()
		}
		time.Sleep(time.Hour)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patient is a program to start.
type patient struct {
	args  []string // empty: this binary, which spins
	env   []string
	group *affinity.Group
	mask  string
	nice  int
	apart bool // in a session of its own
}

// spin is this binary with so many threads that spin.
func spin(n int) patient {
	return patient{env: []string{fmt.Sprintf("%s=%d", spinning, n), fmt.Sprintf("GOMAXPROCS=%d", n)}}
}

func (p patient) start(t *testing.T) int {
	t.Helper()
	if len(p.args) == 0 {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		p.args = []string{exe}
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: p.apart, Setpgid: !p.apart, Pdeathsig: syscall.SIGKILL}
	// Group, mask and parent's death are those of the thread that starts it; that
	// thread lives as long as the test does.
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := p.launch(cmd)
		started <- err
		<-done // never unlocked: the thread ends with the goroutine
	}()
	t.Cleanup(func() { close(done) })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func (p patient) launch(cmd *exec.Cmd) error {
	if p.group != nil {
		if err := p.group.Enter(); err != nil {
			return err
		}
		defer func() { _ = p.group.Leave() }()
	}
	if p.mask != "" {
		set, err := cpuset.Parse(p.mask)
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinityDynamic(0, set.Unix()); err != nil {
			return err
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, p.nice)
}

// group makes a control group for one test.
func group(t *testing.T, cpus string, quota float64) *affinity.Group {
	t.Helper()
	set, err := cpuset.Parse(cpus)
	if err != nil {
		t.Fatal(err)
	}
	g, err := affinity.NewGroup(set, cpuset.Set{}, quota, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if g.Remove() == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return g
}

// look asks the doctor about processes.
func look(t *testing.T, pids ...int) []doctor.Finding {
	t.Helper()
	facts, err := doctor.Collect(t.Context(), doctor.Options{For: 3 * time.Second, PIDs: pids})
	if err != nil {
		t.Fatal(err)
	}
	found := doctor.Diagnose(facts)
	for _, f := range found {
		t.Logf("%s %s %+v: %s\n\t%s\n\tfix: %s", f.Severity, f.Code, f.Subject, f.Message, strings.Join(f.Evidence, "\n\t"), f.Fix)
	}
	return found
}

// named asks for a finding of a code on a process.
func named(t *testing.T, found []doctor.Finding, code string, pids ...int) {
	t.Helper()
	if !slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Code == code && slices.Contains(pids, f.Subject.PID) }) {
		t.Errorf("no %s on %v", code, pids)
	}
}

func twoCPUs(t *testing.T) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("one CPU alone")
	}
	if os.Geteuid() != 0 {
		t.Skip("this takes root")
	}
}

func TestThrottled(t *testing.T) {
	twoCPUs(t)
	pid := patient{env: spin(1).env, group: group(t, "", 0.2)}.start(t)
	found := look(t, pid)
	named(t, found, doctor.Throttled, pid)
}

func TestThrottledAbove(t *testing.T) {
	twoCPUs(t)
	outer := group(t, "", 0.2)
	// The quota stands on the group; the process is in a group below that has none.
	dirs := outer.Dirs()
	i := slices.IndexFunc(dirs, func(d string) bool { return quotaFile(d) != "" })
	if i < 0 {
		t.Skipf("no quota in %v", dirs)
	}
	inner := filepath.Join(dirs[i], "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if os.Remove(inner) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	pid := spin(1).start(t)
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Skip(err)
	}
	found := look(t, pid)
	named(t, found, doctor.Throttled, pid)
	for _, f := range found {
		if f.Code == doctor.Throttled && strings.HasSuffix(f.Subject.Path, "/inner") {
			t.Errorf("it names %s, and the quota is above", f.Subject.Path)
		}
	}
}

func quotaFile(dir string) string {
	for _, name := range []string{"cpu.max", "cpu.cfs_quota_us"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return ""
}

func TestOversubscribed(t *testing.T) {
	twoCPUs(t)
	n := 3 * runtime.NumCPU()
	pid := spin(n).start(t)
	found := look(t, pid)
	named(t, found, doctor.Oversubscribed, pid)
	named(t, found, doctor.GoProcs, pid)
}

func TestCPUSetOfOne(t *testing.T) {
	twoCPUs(t)
	pid := patient{env: spin(3).env, group: group(t, "0", 0)}.start(t)
	found := look(t, pid)
	named(t, found, doctor.Oversubscribed, pid)
}

func TestPile(t *testing.T) {
	twoCPUs(t)
	pid := patient{env: spin(3).env, mask: "1"}.start(t)
	named(t, look(t, pid), doctor.PinnedPile, pid)
	var pids []int
	for range 3 {
		pids = append(pids, patient{args: []string{"sh", "-c", "while :; do :; done"}, mask: "1"}.start(t))
	}
	named(t, look(t, pids...), doctor.PinnedPile, pids...)
}

func TestNiceInAnotherSession(t *testing.T) {
	twoCPUs(t)
	if on, err := os.ReadFile("/proc/sys/kernel/sched_autogroup_enabled"); err != nil || strings.TrimSpace(string(on)) != "1" {
		t.Skip("autogroup is off")
	}
	var pids []int
	for range 2 * runtime.NumCPU() {
		pids = append(pids, patient{args: []string{"sh", "-c", "while :; do :; done"}, nice: 5, apart: true}.start(t))
	}
	named(t, look(t, pids...), doctor.NiceIneffective, pids...)
}

const openMP = `#include <omp.h>
int main(void) { volatile double x = 0;
#pragma omp parallel
  for (;;) { double y = 0; for (int i = 0; i < 1000; i++) y += i; if (y < 0) x = y; }
}`

func TestOpenMP(t *testing.T) {
	twoCPUs(t)
	exe := filepath.Join(t.TempDir(), "solve")
	if err := os.WriteFile(exe+".c", []byte(openMP), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O1", "-fopenmp", "-o", exe, exe+".c").CombinedOutput(); err != nil {
		t.Skipf("gcc: %v\n%s", err, out)
	}
	var pids []int
	for range 2 {
		pids = append(pids, patient{args: []string{exe}, env: []string{fmt.Sprintf("OMP_NUM_THREADS=%d", runtime.NumCPU())}}.start(t))
	}
	named(t, look(t, pids...), doctor.MathThreads, pids...)
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
}

// asked keeps a server busy until the test ends.
func asked(t *testing.T, address string) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for range 100 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				if r, err := http.Get("http://" + address + "/"); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					r.Body.Close()
				} else {
					time.Sleep(10 * time.Millisecond)
				}
			}
		}()
	}
}

// family is a process and all below it.
func family(t *testing.T, pid int) []int {
	t.Helper()
	all, err := tasks.Proc("").Processes()
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{pid}
	for _, p := range all.Descendants(pid) {
		pids = append(pids, p.PID)
	}
	return pids
}

func port(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNginx(t *testing.T) {
	twoCPUs(t)
	need(t, "nginx")
	dir, at := t.TempDir(), port(t)
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("worker_processes 8;\ndaemon off;\npid %s/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; server { listen %s; location / { return 200 'x'; } } }\n", dir, at)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := patient{args: []string{"nginx", "-p", dir, "-c", conf}, group: group(t, "", 1), nice: 5}.start(t)
	asked(t, at)
	pids := family(t, pid)
	found := look(t, pids...)
	named(t, found, doctor.ServerWorkers, pids...)
	named(t, found, doctor.ServiceNiced, pids...)
}

func TestGunicorn(t *testing.T) {
	twoCPUs(t)
	need(t, "gunicorn")
	dir, at := t.TempDir(), port(t)
	app := "def app(environ, start):\n    start('200 OK', [])\n    return [b'x']\n"
	if err := os.WriteFile(filepath.Join(dir, "lab.py"), []byte(app), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := patient{args: []string{"gunicorn", "--chdir", dir, "--workers", "3", "--threads", "8", "--bind", at, "--log-level", "error", "lab:app"}, group: group(t, "", 0.5)}.start(t)
	asked(t, at)
	pids := family(t, pid)
	named(t, look(t, pids...), doctor.ServerWorkers, pids...)
}

func TestJava(t *testing.T) {
	twoCPUs(t)
	need(t, "java")
	dir := t.TempDir()
	source := filepath.Join(dir, "Spin.java")
	if err := os.WriteFile(source, []byte("public class Spin { public static void main(String[] a) { for (;;) {} } }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("javac", "-d", dir, source).CombinedOutput(); err != nil {
		t.Skipf("javac: %v\n%s", err, out)
	}
	pid := patient{args: []string{"java", "-XX:ActiveProcessorCount=16", "-cp", dir, "Spin"}}.start(t)
	named(t, look(t, pid), doctor.JVMThreads, pid)
}

// TestHealthy: of a process that works a little and sleeps a little nothing is
// said.
func TestHealthy(t *testing.T) {
	twoCPUs(t)
	need(t, "sh")
	pid := patient{args: []string{"sh", "-c", "while :; do sleep 0.05; done"}, apart: true}.start(t)
	for _, f := range look(t, pid) {
		if f.Subject.PID == pid && f.Severity != doctor.Info {
			t.Errorf("%+v", f)
		}
	}
}

func TestStoppedAndKernel(t *testing.T) {
	twoCPUs(t)
	pid := spin(1).start(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	named(t, look(t, pid, 2), doctor.NotJudged, pid)
}
