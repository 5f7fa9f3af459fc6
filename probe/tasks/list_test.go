//go:build linux

package tasks_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/probe/cpuset"
	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

var live tasks.Proc

func pids(list []tasks.Process) (ids []int) {
	for _, p := range list {
		ids = append(ids, p.PID)
	}
	return ids
}

func TestProcesses(t *testing.T) {
	r := tree{t, t.TempDir()}
	for _, k := range []task{
		{pid: 1, name: "init", start: 1},
		{pid: 50, parent: 1, name: "server", start: 100},
		{pid: 51, parent: 50, name: "worker a", start: 200},
		{pid: 52, parent: 50, name: "worker b", start: 200},
		{pid: 30, parent: 51, name: "grandchild", start: 300},  // numbers begin anew
		{pid: 53, parent: 30, name: "of the past", start: 250}, // before its parent: 30 was another's
	} {
		k.tid, k.state = k.pid, "S"
		k.write(r)
	}
	r.write("2/stat", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1\n")
	r.write("2/status", "Uid:\t0\t0\t0\t0\n")
	r.write("2/cmdline", "")
	r.write("50/cmdline", "server\x00--title\x00\x00\x00")
	if err := os.Symlink("/usr/bin/server (deleted)", r.dir+"/50/exe"); err != nil {
		t.Fatal(err)
	}
	r.write("51/cmdline", "worker: idle   ")
	r.write("60/gone", "")
	r.write("self/stat", "")
	r.write("cpuinfo", "")

	proc := tasks.Proc(r.dir)
	l, err := proc.Processes()
	if err != nil || l.Hidden || !slices.Equal(pids(l.Processes), []int{1, 2, 30, 50, 51, 52, 53}) {
		t.Fatalf("%v, %v, hidden %v", pids(l.Processes), err, l.Hidden)
	}
	server := l.Find(50)
	if server.UID != 7 || server.EUID != 8 || server.Exe != "/usr/bin/server (deleted)" || server.Start != time.Second ||
		!slices.Equal(server.Args, []string{"server", "--title", "", ""}) || server.CommandLine() != "server --title" {
		t.Errorf("%+v %q", *server, server.CommandLine())
	}
	if k := l.Find(2); !k.Kernel || k.CommandLine() != "[kthreadd]" || k.Args != nil || server.Kernel {
		t.Errorf("%+v %q", *k, k.CommandLine())
	}
	if got := l.Find(51).CommandLine(); got != "worker: idle" {
		t.Errorf("%q", got)
	}
	if l.Find(60) != nil {
		t.Error("60 has no stat and was found")
	}
	if got := pids(l.Children(50)); !slices.Equal(got, []int{51, 52}) {
		t.Errorf("children %v", got)
	}
	if got := pids(l.Descendants(1)); !slices.Equal(got, []int{50, 51, 52, 30}) {
		t.Errorf("descendants %v", got)
	}
	if got := pids(l.Match(regexp.MustCompile(`^worker|kthread`))); !slices.Equal(got, []int{2, 51, 52}) {
		t.Errorf("matches %v", got)
	}

	r.remove("1")
	if l, err := proc.Processes(); err != nil || !l.Hidden {
		t.Errorf("without process 1: %v, hidden %v", err, l.Hidden)
	}
	r.write("52/stat", "nonsense")
	if _, err := proc.Processes(); err == nil || !strings.Contains(err.Error(), "read process 52: parse stat") {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := proc.Process(99); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("no process 99: %v", err)
	}
	for _, dir := range []string{t.TempDir(), r.dir + "/absent"} {
		if l, err := tasks.Proc(dir).Processes(); err == nil {
			t.Errorf("%v: %v", dir, l)
		}
	}
}

// A loop of parents, as a list read over some time can hold, must end.
func TestLoopOfParents(t *testing.T) {
	var l tasks.List
	for _, p := range [][2]int{{5, 7}, {6, 5}, {7, 6}, {8, 8}} {
		l.Processes = append(l.Processes, tasks.Process{PID: p[0], Stat: tasks.Stat{Parent: p[1]}})
	}
	if got := pids(l.Descendants(5)); !slices.Equal(got, []int{6, 7, 5}) {
		t.Errorf("%v", got)
	}
	if got := pids(l.Descendants(8)); got != nil {
		t.Errorf("%v", got)
	}
}

func TestLiveProcesses(t *testing.T) {
	h := newHelper(t)
	grandchild, _ := strconv.Atoi(h.do(t, "child"))
	l, err := live.Processes()
	if err != nil {
		t.Fatal(err)
	}
	self := l.Find(os.Getpid())
	exe, _ := os.Executable()
	if self == nil || self.Exe != exe || !slices.Equal(self.Args, os.Args) || self.UID != os.Getuid() || self.EUID != os.Geteuid() ||
		self.Parent != os.Getppid() || self.Kernel || self.Threads < 2 {
		t.Errorf("%+v", self)
	}
	if got := pids(l.Children(os.Getpid())); !slices.Contains(got, h.pid) || slices.Contains(got, grandchild) {
		t.Errorf("children %v, want %d among them and not %d", got, h.pid, grandchild)
	}
	if got := pids(l.Descendants(os.Getpid())); !slices.Contains(got, h.pid) || !slices.Contains(got, grandchild) {
		t.Errorf("descendants %v, want %d and %d among them", got, h.pid, grandchild)
	}
	if k := l.Find(2); k != nil && k.Name == "kthreadd" && (!k.Kernel || k.Args != nil) {
		t.Errorf("%+v", k)
	}
}

func TestLiveThreads(t *testing.T) {
	h := newHelper(t)
	// A name holds 15 bytes; the kernel's file stat has them as they are.
	names := []string{"plain", "with a space", ") R 1 (2", "line\nbreak", "ünïcode"}
	tids := map[int]string{}
	for _, n := range names {
		tids[h.thread(t, n)] = n
	}
	first := allowed(t).First()
	h.do(t, "pin plain %d", first)
	h.do(t, "burn plain 30")
	threads, err := live.Threads(h.pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range threads {
		name, ok := tids[k.TID]
		if !ok {
			continue
		}
		delete(tids, k.TID)
		if k.Name != name || k.PID != h.pid || k.Threads < len(names) || k.Policy < 0 {
			t.Errorf("%+v, want the name %q", k, name)
		}
		want := readLine(t, fmt.Sprintf("/proc/%d/task/%d/status", h.pid, k.TID), "Cpus_allowed_list:")
		if k.Allowed.String() != want {
			t.Errorf("%s: allowed %s, want %s", name, k.Allowed, want)
		}
		if name == "plain" && (k.CPU != first || k.Allowed.Len() != 1 || k.OnCPU < 20*time.Millisecond) {
			t.Errorf("pinned to %d: CPU %d, allowed %s, on a CPU for %v", first, k.CPU, k.Allowed, k.OnCPU)
		}
	}
	if len(tids) > 0 {
		t.Errorf("not found: %v", tids)
	}
	if !slices.IsSortedFunc(threads, func(a, b tasks.Thread) int { return a.TID - b.TID }) {
		t.Error("not in order")
	}
	h.stop()
	if _, err := live.Threads(h.pid); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

func allowed(t testing.TB) cpuset.Set {
	t.Helper()
	m := unix.NewCPUSet(cpuset.Limit)
	if err := unix.SchedGetaffinityDynamic(0, m); err != nil {
		t.Fatal(err)
	}
	return cpuset.FromUnixDynamic(m)
}

// readLine reads a file of lines apart from the package under test.
func readLine(t testing.TB, path, key string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no line %q", path, key)
	return ""
}

// A kernel that counts nothing for schedstat still tells the clock ticks.
func TestCoarseThreads(t *testing.T) {
	for name, prepare := range map[string]func(tree){
		"zeros":   func(r tree) { r.write("self/schedstat", "0 0 0\n"); r.write("9/task/9/schedstat", "0 0 0\n") },
		"no file": func(r tree) { r.write("self/stat", "x"); r.remove("9/task/9/schedstat") },
		"zeros, and nobody to ask": func(r tree) {
			r.write("9/task/9/schedstat", "0 0 0\n")
		},
	} {
		r := tree{t, t.TempDir()}
		task{pid: 9, tid: 9, name: "x", state: "R", ticks: 7, cpu: 3}.write(r)
		prepare(r)
		threads, err := tasks.Proc(r.dir).Threads(9)
		if err != nil || len(threads) != 1 || !threads[0].Coarse() ||
			threads[0].SchedStat != (tasks.SchedStat{OnCPU: 70 * time.Millisecond, RunDelay: -1, Timeslices: -1}) {
			t.Errorf("%s: %+v, %v", name, threads, err)
		}
	}
	r := tree{t, t.TempDir()}
	task{pid: 9, tid: 9, name: "x", state: "R", ticks: 7, onCPU: 75e6, slices: 2}.write(r)
	threads, err := tasks.Proc(r.dir).Threads(9)
	if err != nil || threads[0].Coarse() || threads[0].OnCPU != 75*time.Millisecond {
		t.Errorf("%+v, %v", threads, err)
	}
}

func TestMembers(t *testing.T) {
	r := tree{t, t.TempDir()}
	r.write("a/cgroup.procs", "12\n7\n0\n12\n")
	r.write("a/b/cgroup.procs", "13\n")
	r.write("empty/cgroup.procs", "")
	r.write("bad/cgroup.procs", "12\n-4\n")
	for group, want := range map[string][]int{"a": {7, 12}, "a/b": {13}, "empty": nil} {
		if got, err := live.Members(r.dir + "/" + group); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", group, got, err, want)
		}
	}
	for _, group := range []string{"bad", "absent"} {
		if got, err := live.Members(r.dir + "/" + group); err == nil || !strings.Contains(err.Error(), group+"/cgroup.procs") {
			t.Errorf("%s: %v, %v; want an error that names the file", group, got, err)
		}
	}
}

// Somewhere below the usual mount point, some group has this process.
func TestLiveMembers(t *testing.T) {
	const top = "/sys/fs/cgroup"
	found, any := false, false
	filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && !found && d.Name() == "cgroup.procs" {
			ids, err := live.Members(filepath.Dir(path))
			any = any || err == nil
			found = slices.Contains(ids, os.Getpid())
		}
		return nil
	})
	if !any {
		t.Skip("no control groups below " + top)
	}
	if !found && !strings.Contains(readAll(t, "/proc/self/cgroup"), "..") {
		t.Error("no group has this process")
	}
}

// A threaded group lists threads alone, and the kernel refuses its cgroup.procs.
func TestMembersOfThreadedGroup(t *testing.T) {
	h := newHelper(t)
	tid := h.thread(t, "member")
	outer := ""
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(top, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			outer = fmt.Sprintf("%s/berth-test-%d", top, os.Getpid())
		}
	}
	inner := outer + "/threaded"
	if outer == "" || os.MkdirAll(inner, 0o755) != nil {
		t.Skip("no control groups of version 2 that this user may add to")
	}
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		h.stop()
		await(t, "the groups can be removed", func() bool { os.Remove(inner); os.Remove(outer); _, err := os.Stat(outer); return err != nil })
	})
	for _, set := range [][2]string{
		{outer + "/cgroup.procs", strconv.Itoa(h.pid)}, {inner + "/cgroup.type", "threaded"}, {inner + "/cgroup.threads", strconv.Itoa(tid)},
	} {
		if err := os.WriteFile(set[0], []byte(set[1]), 0o644); err != nil {
			t.Skip(err)
		}
	}
	for _, group := range []string{outer, inner} {
		if got, err := live.Members(group); err != nil || !slices.Equal(got, []int{h.pid}) {
			t.Errorf("%s: %v, %v; want %d", group, got, err, h.pid)
		}
	}
}

func readAll(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLiveSystem(t *testing.T) {
	s, err := live.SystemStat()
	if err != nil {
		t.Fatal(err)
	}
	online, err := cpuset.Parse(readAll(t, "/sys/devices/system/cpu/online"))
	if err != nil {
		t.Fatal(err)
	}
	var have []cpuset.CPU
	var busy time.Duration
	for c, times := range s.CPUs {
		have = append(have, c)
		busy += times.Busy()
	}
	if !cpuset.Of(have...).Equal(online) {
		t.Errorf("CPUs %v, want %s", have, online)
	}
	// Each number is rounded by itself; a CPU that was taken offline counts in the sum alone.
	if s.All.Busy() < busy-time.Duration(5*len(have))*tasks.Tick || s.Forks < 1 || s.Switches < 1 || s.Runnable < 1 {
		t.Errorf("%+v: the CPUs were busy for %v", s, busy)
	}
	if l, err := live.LoadAvg(); err != nil || l.Threads < 2 || l.Newest < 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if all, err := live.Interrupts(); err == nil {
		for c := range all {
			if !online.Contains(c) {
				t.Errorf("interrupts of CPU %d, online %s", c, online)
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, resource := range []string{"cpu", "io", "memory"} {
		if p, err := live.Pressure(resource); err == nil && p.Some == nil {
			t.Errorf("%s: %+v", resource, p)
		} else if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	nodes, err := live.NUMAMaps(os.Getpid())
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no numa_maps")
	}
	sum := int64(0)
	for _, n := range nodes {
		sum += n
	}
	if err != nil || sum < 1<<20 {
		t.Errorf("%v, %v", nodes, err)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	r := tree{t, t.TempDir()}
	r.write("huge", strings.Repeat("x", 17<<20))
	r.write("large", strings.Repeat("x", 1<<20))
	if _, err := tasks.Proc(r.dir).ReadFile("huge"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("huge: %v", err)
	}
	if data, err := tasks.Proc(r.dir).ReadFile("large"); err != nil || len(data) != 1<<20 {
		t.Errorf("large: %d bytes, %v", len(data), err)
	}
}

// Under hidepid another user's processes are not there, or not to be read.
func TestHidepid(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a proc file system takes root")
	}
	cmd := helperCommand("hidepid")
	cmd.Dir = t.TempDir()
	os.Chmod(filepath.Dir(cmd.Dir), 0o755)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.Output()
	if text := strings.TrimSpace(string(out)); strings.HasPrefix(text, "skip") {
		t.Skip(text)
	} else if err != nil {
		t.Errorf("%v: %s", err, text)
	}
}

// hidepid runs as root, with mounts of its own, in an empty directory.
func hidepid() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println("skip:", err)
		return nil
	}
	var dirs []string
	for _, option := range []string{"hidepid=1", "hidepid=2"} {
		dir, err := filepath.Abs(option)
		if err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("proc", dir, "proc", 0, option); err != nil {
			fmt.Println("skip:", err)
			return nil
		}
		dirs = append(dirs, dir)
	}
	// Group 0 is let in by default.
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)} {
		if err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if err := underHidepid(tasks.Proc(dir)); err != nil {
			return err
		}
	}
	return nil
}

func underHidepid(proc tasks.Proc) error {
	l, err := proc.Processes()
	if err != nil || !l.Hidden || l.Find(os.Getpid()) == nil || l.Find(os.Getppid()) != nil {
		return fmt.Errorf("%v, %v, hidden %v; want only process %d, and others hidden", pids(l.Processes), err, l.Hidden, os.Getpid())
	}
	s := tasks.NewSampler(proc, tasks.Options{Children: true})
	defer s.Close()
	if err := s.Follow(os.Getppid(), time.Now()); err == nil {
		return errors.New("a hidden process was followed")
	}
	if err := s.Follow(os.Getpid(), time.Now()); err != nil {
		return err
	}
	s.Sample(time.Now())
	s.Finish(time.Now())
	if s.Missed() > 0 || len(s.Threads()) == 0 {
		return fmt.Errorf("%d readings missed, %d threads", s.Missed(), len(s.Threads()))
	}
	return nil
}
