//go:build linux

package affinity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
)

// The tests start this program again for what is to run in a group.
func init() {
	switch os.Getenv("BERTH_TEST_GROUP") {
	case "":
		return
	case "look": // at itself, when told to
		_, _ = io.Copy(io.Discard, os.Stdin)
		for _, name := range []string{"/proc/self/status", "/proc/self/cgroup"} {
			text, _ := os.ReadFile(name)
			fmt.Printf("%s", text)
		}
	case "spin":
		for os.Getppid() != 1 {
		}
	case "nest": // a group in the group
		all, _ := probe.Affinity(0)
		g, err := NewGroup(all.Union(one(all.Last()+1)), cpuset.Set{}, 0, 0)
		if err == nil {
			fmt.Println(g.CPUs, g.Trim.Group, g.Trim)
			fmt.Println(strings.Join(g.Dirs(), " "))
			err = g.Remove()
		}
		fmt.Println(err)
		_, err = NewGroup(cpuset.Set{}, cpuset.Set{}, 1, 0)
		fmt.Println(err)
	}
	os.Exit(0)
}

// homes are the groups that have the controllers, in which a test may make
// others; where it may not, the test is skipped.
func homes(t *testing.T) []cgroup.Group {
	t.Helper()
	own, err := cgroup.Of(0)
	if err != nil {
		t.Skip(err)
	}
	var found []cgroup.Group
	for _, c := range []string{"cpuset", "cpu"} {
		g, ok := governing(own, c)
		if !ok || g.Dir == "" {
			t.Skipf("no mounted hierarchy has the controller %s", c)
		}
		for g.V2 {
			if offered, _ := words(g.Dir, "cgroup.controllers"); slices.Contains(offered, c) {
				break
			}
			if limitOf(g) {
				t.Skipf("%s does not offer the controller %s, and has a limit", g.Dir, c)
			}
			if g, ok = g.Parent(); !ok {
				t.Skipf("no group offers the controller %s", c)
			}
		}
		if err := unix.Faccessat(unix.AT_FDCWD, g.Dir, unix.W_OK, unix.AT_EACCESS); err != nil {
			t.Skipf("may not make a group in %s: %v", g.Dir, err)
		}
		found = append(found, g)
	}
	t.Cleanup(func() {
		for _, g := range found {
			left, _ := filepath.Glob(fmt.Sprintf("%s/berth-%d-*", g.Dir, os.Getpid()))
			if left != nil {
				t.Errorf("left behind: %s", left)
			}
		}
	})
	return found
}

// limitOf reports whether a group limits memory.
func limitOf(g cgroup.Group) bool {
	text, err := words(g.Dir, "memory.max")
	return err == nil && !slices.Equal(text, []string{"max"})
}

func newGroup(t *testing.T, cpus, mems cpuset.Set, quota float64) *Group {
	t.Helper()
	g, err := NewGroup(cpus, mems, quota, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// inside is a program that was started in a group.
type inside struct {
	*exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
}

// end lets the program go on and returns its output.
func (p *inside) end(t *testing.T) string {
	t.Helper()
	p.stdin.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return p.out.String()
}

// startIn starts this program on a seat in a group.
func startIn(t *testing.T, l *Launcher, g *Group, seat Seat, what string) *inside {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &inside{Cmd: exec.Command(self)}
	p.Env = append(os.Environ(), "BERTH_TEST_GROUP="+what)
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if trim, err := g.Start(l, p.Cmd, seat); err != nil || trim != nil {
		t.Fatal(trim, err)
	}
	return p
}

func launcher(t *testing.T) *Launcher {
	t.Helper()
	l, err := NewLauncher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestGroup(t *testing.T) {
	homes(t)
	all := allowed(t)
	for _, c := range []struct {
		name       string
		cpus, seat cpuset.Set
		quota      float64
		dirs       int // in version 1, on a machine with a hierarchy for each controller
	}{
		{"one CPU", one(all.Last()), one(all.Last()), 0, 1},
		{"a seat in a larger group", all, one(all.First()), 0, 1},
		{"with a quota", one(all.First()), one(all.First()), 0.5, 2},
		{"a quota alone", cpuset.Set{}, one(all.Last()), 1.25, 1},
		{"no seat", one(all.First()), cpuset.Set{}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGroup(t, c.cpus, cpuset.Set{}, c.quota)
			if !g.CPUs.Equal(c.cpus) || g.QuotaCPUs != c.quota || g.Trim != nil || !g.Mems.IsEmpty() || c.quota != 0 && g.PeriodMS != 100 {
				t.Errorf("%+v", g)
			}
			dirs := g.Dirs()
			_, away := g.FD() // no thread can enter
			if len(dirs) > c.dirs {
				t.Errorf("directories %q", dirs)
			}
			name := filepath.Base(dirs[0])
			for _, by := range []string{dirs[0], g.parts[0].Path} {
				if found, err := cgroup.Find(by); err != nil || found[0].Dir != dirs[0] && len(found) < len(dirs) {
					t.Errorf("%s is found as %+v, %v", by, found, err)
				}
			}
			l := launcher(t)
			said := startIn(t, l, g, Seat{CPUs: c.seat}, "look").end(t)
			sits := c.seat
			if sits.IsEmpty() {
				sits = c.cpus
			}
			if want := "Cpus_allowed_list:\t" + sits.String() + "\n"; !strings.Contains(said, want) {
				t.Errorf("not %q:\n%s", want, said)
			}
			if n := strings.Count(said, "/"+name+"\n"); n != len(dirs) {
				t.Errorf("the process is in %d groups named %s:\n%s", n, name, said)
			}
			where := func() (text string) {
				_ = l.On(func() error {
					b, err := os.ReadFile("/proc/thread-self/cgroup")
					text = string(b)
					return err
				})
				return text
			}
			if n := strings.Count(where(), name); !away && n != len(dirs) || away && n != 0 {
				t.Errorf("the launcher is in %d groups named %s", n, name)
			}
			if err := g.Leave(); err != nil {
				t.Error(err)
			}
			if strings.Contains(where(), name) {
				t.Errorf("the launcher did not leave %s", name)
			}
			if now := allowed(t); !now.Equal(all) {
				t.Errorf("this thread has %s, and had %s", now, all)
			}
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
			for _, dir := range dirs {
				if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is still there: %v", dir, err)
				}
			}
		})
	}
}

// A group limits what the kernel does, not only what its files say.
func TestGroupQuota(t *testing.T) {
	homes(t)
	all := allowed(t)
	g := newGroup(t, cpuset.Set{}, cpuset.Set{}, 0.5)
	if n := g.Throttled(); n != 0 {
		t.Errorf("a group without processes was stopped for %s", n)
	}
	l := launcher(t)
	p := startIn(t, l, g, Seat{CPUs: all}, "spin")
	defer func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	}()
	counted := func() bool {
		for _, dir := range g.Dirs() {
			text, _ := os.ReadFile(dir + "/cpu.stat")
			for line := range strings.Lines(string(text)) {
				if n, ok := strings.CutPrefix(strings.TrimSpace(line), "nr_throttled "); ok && n != "0" {
					return true
				}
			}
		}
		return false
	}
	for deadline := time.Now().Add(time.Minute); !counted() || g.Throttled() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("one busy thread with half a CPU is never stopped: counted %v, time %s", counted(), g.Throttled())
		}
	}
}

func TestGroupMemory(t *testing.T) {
	home := homes(t)[0]
	there, _, err := nodes(home)
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t, cpuset.Set{}, one(there.First()), 0)
	if !g.Mems.Equal(one(there.First())) || !g.CPUs.IsEmpty() {
		t.Errorf("%+v", g)
	}
	said := startIn(t, launcher(t), g, Seat{CPUs: allowed(t)}, "look").end(t)
	if want := "Mems_allowed_list:\t" + g.Mems.String() + "\n"; !strings.Contains(said, want) {
		t.Errorf("not %q:\n%s", want, said)
	}
}

func TestGroupTrim(t *testing.T) {
	homes(t)
	all := allowed(t)
	g := newGroup(t, one(all.First()).Union(nowhere), cpuset.Set{}, 0)
	if g.Trim == nil || !g.Trim.Missing.Equal(nowhere) || !g.CPUs.Equal(one(all.First())) || !strings.Contains(g.Trim.Error(), "CPU 65535 is not in this machine") {
		t.Errorf("%s, %v", g.CPUs, g.Trim)
	}
	var trim *Trimmed
	_, err := NewGroup(nowhere, cpuset.Set{}, 0, 0)
	if !errors.As(err, &trim) || !trim.Got.IsEmpty() || !strings.Contains(err.Error(), "cpuset.cpus: seat on 65535: no CPU is left") {
		t.Errorf("%v", err)
	}
	_, err = NewGroup(all, one(63), 0.5, 0)
	if err == nil || !strings.Contains(err.Error(), "cpuset.mems 63: node 63 is not in ") || !strings.Contains(err.Error(), ", which has 0") {
		t.Errorf("%v", err)
	}
}

// A group in a group has no more than that.
func TestGroupInGroup(t *testing.T) {
	homes(t)
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	first := one(all.First())
	outer := newGroup(t, first, cpuset.Set{}, 0.5)
	said := startIn(t, launcher(t), outer, Seat{CPUs: first}, "nest").end(t)
	lines := strings.Split(said, "\n")
	if len(lines) != 5 {
		t.Fatal(said)
	}
	path := "/" + filepath.Base(outer.Dirs()[0])
	if !strings.HasPrefix(lines[0], first.String()+" ") || !strings.Contains(lines[0], path+" seat on ") || !strings.Contains(lines[0], "is outside the cpuset of ") {
		t.Errorf("CPUs outside the outer group's: %s", lines[0])
	}
	if !strings.HasPrefix(lines[1], outer.Dirs()[0]+"/berth-") || lines[2] != "<nil>" {
		t.Errorf("the inner group: %s\n%s", lines[1], lines[2])
	}
	if !strings.Contains(lines[3], "a quota of 1 CPUs: cpu.") || !strings.Contains(lines[3], path+", above it, allows 0.5: ask for no more") {
		t.Errorf("a quota above the outer group's: %s", lines[3])
	}
}

func TestGroupRemove(t *testing.T) {
	homes(t)
	defer func(d time.Duration) { leaving = d }(leaving)
	leaving = 0
	g := newGroup(t, allowed(t), cpuset.Set{}, 2)
	l := launcher(t)
	p := startIn(t, l, g, Seat{CPUs: allowed(t)}, "look")
	dirs := g.Dirs()
	err := g.Remove()
	if want := "it holds processes (" + strconv.Itoa(p.Process.Pid) + ")"; err == nil || strings.Count(err.Error(), want) != len(dirs) {
		t.Errorf("not %q: %v", want, err)
	}
	if said := p.end(t); !strings.Contains(said, filepath.Base(dirs[0])) {
		t.Errorf("the process was moved:\n%s", said)
	}
	leaving = time.Minute
	for _, dir := range dirs {
		if err := os.MkdirAll(dir+"/made/inside", 0o755); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := g.Remove(); err != nil || len(g.Dirs()) != 0 {
			t.Errorf("%v, %q", err, g.Dirs())
		}
	}
}

func TestGroupLeftovers(t *testing.T) {
	groups := homes(t)
	ended := exec.Command(os.Args[0], "-test.list", "^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	gone := []string{fmt.Sprintf("berth-%d-1", ended.Process.Pid), fmt.Sprintf("berth-%d-2/inside", ended.Process.Pid), fmt.Sprintf("berth-%d-%d", os.Getpid(), made.Load()+1000)}
	kept := []string{fmt.Sprintf("berth-%d-1000000", os.Getppid()), fmt.Sprintf("berth-%d", ended.Process.Pid), "berth-test-1"}
	groups = slices.CompactFunc(groups, func(a, b cgroup.Group) bool { return a.Dir == b.Dir })
	for _, g := range groups {
		for _, name := range append(gone, kept...) {
			if err := os.MkdirAll(filepath.Join(g.Dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	newGroup(t, allowed(t), cpuset.Set{}, 1)
	for _, g := range groups {
		for _, name := range gone {
			name, _, _ = strings.Cut(name, "/")
			if _, err := os.Stat(filepath.Join(g.Dir, name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s was not removed: %v", name, err)
			}
		}
		for _, name := range kept {
			if err := unix.Rmdir(filepath.Join(g.Dir, name)); err != nil {
				t.Errorf("%s was removed: %v", name, err)
			}
		}
	}
}

// Launches beside one another do not take each other's controllers or groups.
func TestConcurrentGroups(t *testing.T) {
	homes(t)
	all := allowed(t)
	failed := make(chan error)
	const at = 8
	for range at {
		go func() {
			for range 10 {
				g, err := NewGroup(all, cpuset.Set{}, 1, 0)
				if err == nil {
					err = g.Remove()
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range at {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// Without the right to make groups the error says where, and what it takes.
func TestGroupNotPermitted(t *testing.T) {
	own, err := cgroup.Of(0)
	if err != nil {
		t.Skip(err)
	}
	home, ok := governing(own, "cpuset")
	if !ok || home.Dir == "" || unix.Geteuid() == 0 || unix.Faccessat(unix.AT_FDCWD, home.Dir, unix.W_OK, unix.AT_EACCESS) == nil {
		t.Skip("needs a user who may not make groups, and a mounted hierarchy with cpuset")
	}
	_, err = NewGroup(allowed(t), cpuset.Set{}, 0, 0)
	if err == nil || !strings.Contains(err.Error(), "make a control group: ") || !strings.Contains(err.Error(), home.Dir+"/") ||
		errors.Is(err, os.ErrPermission) && !strings.Contains(err.Error(), "it takes root, or ") {
		t.Error(err)
	}
	t.Log(err)
}

// A new group never takes a process out of a limit.
func TestGroupBehindLimit(t *testing.T) {
	own, err := cgroup.Of(0)
	if err != nil {
		t.Skip(err)
	}
	home, ok := governing(own, "cpuset")
	if offered, _ := words(home.Dir, "cgroup.controllers"); !ok || !home.V2 || slices.Contains(offered, "cpuset") || !limitOf(home) {
		t.Skip("needs a group of version 2 that limits memory and does not offer the controller cpuset")
	}
	_, err = NewGroup(allowed(t), cpuset.Set{}, 0, 0)
	if want := home.Dir + "/cgroup.controllers does not offer cpuset; not tried above: the limit of " + home.Path + " (memory.max) would be left behind"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("not %q: %v", want, err)
	}
}

func TestNewQuota(t *testing.T) {
	for _, c := range []struct {
		cpus, periodMS float64
		want           string
	}{
		{0.5, 0, "{50000 100000}"}, {2.5, 100, "{250000 100000}"}, {1.0 / 3, 100, "{33333 100000}"}, {0.57, 100, "{57000 100000}"},
		{0.1, 10, "{1000 10000}"}, {0.001, 1000, "{1000 1000000}"}, {3, 1, "{3000 1000}"},
		{-1, 0, "a quota of -1 CPUs: it is a number above 0"}, {1e9, 0, "up to 65536"}, {1, 0.5, "a quota's period of 0.5 ms: the kernel takes 1 to 1000"}, {1, 2000, "1 to 1000"},
		{0.005, 100, "make the period 200 ms or more"}, {0.0005, 1000, "no less than 0.001"},
	} {
		q, err := newQuota(c.cpus, c.periodMS)
		got := fmt.Sprint(q)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && !(err != nil && strings.Contains(got, c.want)) {
			t.Errorf("%g in %g ms: %s", c.cpus, c.periodMS, got)
		}
	}
	if _, err := NewGroup(cpuset.Set{}, cpuset.Set{}, 0, 0); err == nil || !strings.Contains(err.Error(), "neither CPUs, memory nodes nor a quota") {
		t.Errorf("nothing asked for: %v", err)
	}
}

func TestMaker(t *testing.T) {
	for name, want := range map[string]bool{
		"berth-12-3": true, "berth-12": false, "berth-12-0": false, "berth-0-1": false, "berth--1-1": false, "berth-12-3-4": false,
		"berth-x-1": false, "berth": false, "12-3": false, "xberth-1-1": false, "berth-+1-1": false, "berth-1-99999999999999999999": false,
	} {
		if pid, n, ok := maker(name); ok != want || ok && (pid != 12 || n != 3) {
			t.Errorf("%s: %d, %d, %v", name, pid, n, ok)
		}
	}
}

func FuzzMaker(f *testing.F) {
	f.Add("berth-12-3")
	f.Add("berth-+1-01")
	f.Fuzz(func(t *testing.T, name string) {
		if pid, n, ok := maker(name); ok && (pid <= 0 || n <= 0 || name != fmt.Sprintf("berth-%d-%d", pid, n)) {
			t.Errorf("%q is of %d, %d", name, pid, n)
		}
	})
}
