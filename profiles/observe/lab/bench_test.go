//go:build lab

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bench is where one program is watched: what it starts ends with its test.
type bench struct {
	testing.TB
	dir  string
	near string // the CPU of a program that has one for itself
	far  string // the CPU of those that keep it at work
}

func newBench(t *testing.T) *bench {
	t.Helper()
	// What is started dies with the thread that started it, so with the test.
	runtime.LockOSThread()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var may []string
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			may = append(may, strconv.Itoa(cpu))
		}
	}
	if len(may) < 2 {
		t.Skip("this process may use one CPU only, and the lab needs two")
	}
	b := &bench{TB: t, dir: t.TempDir(), near: may[1], far: may[0]}
	b.check(os.Chmod(b.dir, 0o755)) // PostgreSQL runs as another user
	b.quiet()
	return b
}

func (b *bench) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// source is the path of a file in testdata.
func (b *bench) source(name string) string {
	path, err := filepath.Abs(filepath.Join("testdata", name))
	b.check(err)
	return path
}

// quiet waits until the machine has next to nothing to do.
func (b *bench) quiet() {
	used := 1.0
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		before, total := machineTicks()
		time.Sleep(500 * time.Millisecond)
		after, all := machineTicks()
		if used = 1 - (after-before)/max(1, all-total); used < 0.05 {
			return
		}
	}
	b.Logf("the machine is not quiet: %.0f %% of its CPUs are used", 100*used)
}

func machineTicks() (idle, total float64) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 { // the label; time of guests counts as user time already
			continue
		}
		total += n
		if i == 4 || i == 5 {
			idle += n
		}
	}
	return idle, total
}

// command is what to start and how. The zero value of a field: as the test.
type command struct {
	args  []string
	cpus  string // CPUs that it may use
	env   []string
	stdin *os.File
	group string // the folder of a control group
	as    *syscall.Credential
	stop  syscall.Signal // how to end it; default SIGKILL
}

// process is one that was started.
type process struct {
	b       *bench
	cmd     *exec.Cmd
	printed string // file of what it prints
	over    chan struct{}
}

func (b *bench) start(c command) *process {
	b.Helper()
	args := c.args
	if c.cpus != "" {
		args = append([]string{"taskset", "-c", c.cpus}, args...)
	}
	if c.group != "" {
		join := `echo $$ > "$0/cgroup.procs" && exec "$@"`
		args = append([]string{"sh", "-c", join, c.group}, args...)
	}
	printed, err := os.CreateTemp(b.dir, "printed-*")
	b.check(err)
	defer printed.Close()
	p := &process{b: b, cmd: exec.Command(args[0], args[1:]...), printed: printed.Name(), over: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.Dir = b.dir
	p.cmd.Stdout, p.cmd.Stderr = printed, printed
	if c.stdin != nil {
		p.cmd.Stdin = c.stdin
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: c.as}
	b.check(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.over)
	}()
	b.Cleanup(func() {
		group := -p.cmd.Process.Pid
		all := tree(-group, true) // some leave the group
		if c.stop != 0 {
			_ = syscall.Kill(p.cmd.Process.Pid, c.stop)
			select {
			case <-p.over:
			case <-time.After(10 * time.Second):
			}
		}
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-p.over
		for _, pid := range all[1:] {
			if c.stop == 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		for range 100 {
			all = slices.DeleteFunc(all, over)
			if len(all) == 0 && errors.Is(syscall.Kill(group, 0), syscall.ESRCH) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.Errorf("of %s something is left: %v", strings.Join(c.args, " "), all)
	})
	return p
}

// over says whether a process is gone, or a zombie that init has yet to fetch.
func over(pid int) bool {
	f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return f == nil || f[0] == "Z"
}

// run starts a program on CPUs ("" for any) and returns its pid.
func (b *bench) run(cpus string, args ...string) int {
	b.Helper()
	return b.start(command{args: args, cpus: cpus}).cmd.Process.Pid
}

// child starts a program of this package's own, see children.
func (b *bench) child(cpus string, args ...string) *process {
	b.Helper()
	exe, err := os.Executable()
	b.check(err)
	return b.start(command{args: append([]string{exe}, args...), cpus: cpus, env: []string{childEnv + "=1"}})
}

// do runs a program to its end.
func (b *bench) do(args ...string) string {
	b.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (p *process) text() string {
	text, _ := os.ReadFile(p.printed)
	return string(text)
}

// last is the number behind a word in the last line that begins with it.
func (p *process) last(word string) (float64, error) {
	value, found := 0.0, false
	for line := range strings.Lines(p.text()) {
		if rest, ok := strings.CutPrefix(line, word+" "); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil {
				value, found = n, true
			}
		}
	}
	if !found {
		return 0, fmt.Errorf("it printed no %q: %s", word, p.text())
	}
	return value, nil
}

// until waits for something to become true.
func (b *bench) until(what string, ready func() bool) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("after 30 s: %s", what)
		}
	}
}

// answers waits until a port takes connections.
func (b *bench) answers(port string, p *process) {
	b.Helper()
	b.until("port "+port+" takes no connections: "+p.text(), func() bool {
		select {
		case <-p.over:
			b.Fatalf("ended: %s", p.text())
		default:
		}
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// port is one that nothing listens at.
func (b *bench) port() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	b.check(err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	b.check(err)
	return port
}

// compile builds a C program of testdata.
func (b *bench) compile(name string) string {
	to := filepath.Join(b.dir, name)
	b.do("cc", "-O2", "-pthread", "-o", to, b.source(name+".c"))
	return to
}

// java compiles the lab's Java program and returns the command to run it.
func (b *bench) java(args ...string) []string {
	b.do("javac", "-d", b.dir, b.source("Lab.java"))
	return append([]string{"java", "-cp", b.dir, "Lab"}, args...)
}

// python is the interpreter itself: python3 on the path can be a script.
var python = sync.OnceValue(func() string {
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return "python3"
	}
	return strings.TrimSpace(string(out))
})

func (b *bench) python(name string, args ...string) []string {
	return append([]string{python(), b.source(name)}, args...)
}

// corpus is a file to compress: source text of Go.
func (b *bench) corpus() string {
	path := filepath.Join(b.dir, "corpus")
	to, err := os.Create(path)
	b.check(err)
	defer to.Close()
	w := bufio.NewWriter(to)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(b.do("go", "env", "GOROOT")), "src", "*", "*.go"))
	b.check(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		b.check(err)
		_, err = w.Write(text)
		b.check(err)
	}
	b.check(w.Flush())
	return path
}

// feed is a pipe out of which that text comes without end.
func (b *bench) feed(cpus string) *os.File {
	r, w, err := os.Pipe()
	b.check(err)
	b.Cleanup(func() { r.Close() })
	defer w.Close()
	args := []string{"sh", "-c", `while cat "$0" >&3; do :; done`, b.corpus()}
	p := exec.Command("taskset", append([]string{"-c", cpus}, args...)...)
	p.ExtraFiles = []*os.File{w}
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	b.check(p.Start())
	b.Cleanup(func() {
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		_ = p.Wait()
	})
	return r
}

// quota makes a control group with another inside; one of them has a quota of
// half a CPU. It returns the inner one and the one with the quota.
func (b *bench) quota(outer bool) (inner, limited string) {
	root, v2 := "", false
	for _, path := range []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"} {
		if _, err := os.Stat(path + "/cpu.cfs_quota_us"); err == nil {
			root = path
		}
	}
	if has, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); root == "" && err == nil && strings.Contains(string(has), "cpu") {
		root, v2 = "/sys/fs/cgroup", true
	}
	if root == "" {
		b.Skip("there is no CPU controller of control groups")
	}
	group, err := b.group(root)
	if err != nil {
		b.Skipf("no control group can be made here: %v", err)
	}
	inner = filepath.Join(group, "inner")
	if v2 {
		if err := os.WriteFile(group+"/cgroup.subtree_control", []byte("+cpu"), 0); err != nil {
			b.Skipf("no CPU controller in %s: %v", group, err)
		}
	}
	b.check(os.Mkdir(inner, 0o755))
	b.remove(inner)
	if limited = inner; outer {
		limited = group
	}
	if v2 {
		b.check(os.WriteFile(limited+"/cpu.max", []byte("50000 100000"), 0))
	} else {
		b.check(os.WriteFile(limited+"/cpu.cfs_quota_us", []byte("50000"), 0))
	}
	return inner, limited
}

// group makes a control group that goes with the test, in the root of its
// controller. Where none can be made, the error says why.
func (b *bench) group(root string) (string, error) {
	left, _ := filepath.Glob(root + "/berth-lab-*")
	for _, group := range left { // by a test that was killed: a group in use stays
		_ = syscall.Rmdir(group + "/inner")
		_ = syscall.Rmdir(group)
	}
	group := fmt.Sprintf("%s/berth-lab-%d", root, os.Getpid())
	if err := os.Mkdir(group, 0o755); errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return "", err
	} else if err != nil {
		b.Fatal(err)
	}
	b.remove(group)
	return group, nil
}

// slowDisk is a control group in which the disk below b.dir does 1000 requests
// a second, as a rented volume may. Where none can be made it is "", and the disk
// is as fast as it is.
func (b *bench) slowDisk() string {
	b.Helper()
	var dir syscall.Stat_t
	b.check(syscall.Stat(b.dir, &dir))
	device, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dir.Dev), unix.Minor(dir.Dev)))
	if err != nil {
		b.Logf("the disk is not slowed: %v", err) // a tmpfs, say
		return ""
	}
	if _, err := os.Stat(device + "/partition"); err == nil {
		device = filepath.Dir(device) // limits are of whole disks
	}
	number, err := os.ReadFile(device + "/dev")
	b.check(err)
	limit := map[string]string{"io.max": "riops=1000 wiops=1000"}
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/blkio/blkio.throttle.read_iops_device"); err == nil {
		root += "/blkio"
		limit = map[string]string{"blkio.throttle.read_iops_device": "1000", "blkio.throttle.write_iops_device": "1000"}
	}
	group, err := b.group(root)
	for file, value := range limit {
		if err == nil {
			err = os.WriteFile(filepath.Join(group, file), []byte(strings.TrimSpace(string(number))+" "+value), 0)
		}
	}
	if err != nil {
		b.Logf("the disk is not slowed: %v", err)
		return ""
	}
	return group
}

// remove deletes a control group once its processes are gone.
func (b *bench) remove(group string) {
	b.Cleanup(func() {
		var err error
		for range 100 {
			if err = syscall.Rmdir(group); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.Errorf("remove %s: %v", group, err)
	})
}

// postgres is a server with a database for pgbench.
type postgres struct {
	*process
	bin, port string
}

func (b *bench) postgres() *postgres {
	b.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		b.Skip("PostgreSQL is not installed: run the setup of this folder")
	}
	s := &postgres{bin: found[len(found)-1], port: b.port()}
	data := filepath.Join(b.dir, "data")
	b.check(os.Mkdir(data, 0o700))
	as := b.postgresUser(data)
	initdb := b.start(command{args: []string{s.bin + "/initdb", "-D", data, "-U", "lab", "-A", "trust", "--locale=C", "-E", "UTF8"}, as: as})
	<-initdb.over
	s.process = b.start(command{args: []string{s.bin + "/postgres", "-D", data, "-p", s.port, "-h", "127.0.0.1", "-k", data}, as: as, stop: syscall.SIGQUIT})
	b.answers(s.port, s.process)
	b.until("PostgreSQL is not ready", func() bool { // it takes connections before it lets anybody in
		return exec.Command(s.bin+"/pg_isready", "-q", "-h", "127.0.0.1", "-p", s.port).Run() == nil
	})
	b.do("pgbench", "-i", "-q", "-s", "5", "-h", "127.0.0.1", "-p", s.port, "-U", "lab", "postgres")
	return s
}

// postgresUser is who runs PostgreSQL and PgBouncer, which refuse to run as root,
// nil where this is somebody else. A file or folder becomes theirs.
func (b *bench) postgresUser(owns string) *syscall.Credential {
	b.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	b.check(err)
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	b.check(os.Chown(owns, uid, gid))
	for dir := filepath.Dir(b.dir); strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		b.check(os.Chmod(dir, 0o755))
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// to are the arguments that lead a client to the server.
func (s *postgres) to(args ...string) []string {
	return append(args, "-h", "127.0.0.1", "-p", s.port, "-U", "lab", "postgres")
}

// ask returns the answer to a query.
func (s *postgres) ask(query string) string {
	return strings.TrimSpace(s.b.do(s.to("psql", "-At", "-c", query)...))
}

// backend waits for the process that serves the client of a name.
func (s *postgres) backend(client string) int {
	pid := 0
	s.b.until("no backend of "+client, func() bool {
		first, _, _ := strings.Cut(s.ask("SELECT pid FROM pg_stat_activity WHERE application_name = '"+client+"'"), "\n")
		before := pid
		pid, _ = strconv.Atoi(first)
		if pid > 0 && pid != before { // that of a first look round ends at once
			time.Sleep(300 * time.Millisecond)
			return false
		}
		return pid > 0
	})
	return pid
}
