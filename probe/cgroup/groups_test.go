package cgroup_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/root"
)

// show writes groups in one line: controllers, path and directory.
func show(groups []cgroup.Group) string {
	var parts []string
	for _, g := range groups {
		name := strings.Join(g.Controllers, ",")
		if g.V2 {
			name += "v2"
		}
		parts = append(parts, fmt.Sprintf("%s %s %s", name, g.Path, g.Dir))
	}
	return strings.Join(parts, "; ")
}

const (
	hybridMounts = "30 23 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct|31 23 0:27 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer|" +
		"32 23 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd|33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
	hybrid = "proc/self/mountinfo: " + hybridMounts + `
		proc/self/cgroup: 4:freezer:/|3:cpu,cpuacct:/a|1:name=systemd:/a/s|0::/a/s
		sys/fs/cgroup/cpu,cpuacct/a/cpu.shares: 1024
		sys/fs/cgroup/cpu,cpuacct/b/cpu.shares: 1024
		sys/fs/cgroup/freezer/b/tasks: 1
		sys/fs/cgroup/systemd/a/s/tasks: 1
		sys/fs/cgroup/unified/a/s/cgroup.procs: 1` + "\n"
)

func TestOf(t *testing.T) {
	for _, c := range []struct{ name, files, want string }{
		{"version 2", "proc/self/mountinfo: " + v2Mount + "\nproc/7/cgroup: 0::/a.slice/b", "v2 /a.slice/b /sys/fs/cgroup/a.slice/b"},
		{"both versions", hybrid + "proc/7/cgroup: 4:freezer:/|3:cpu,cpuacct:/a|1:name=systemd:/a/s|0::/a/s",
			"freezer / /sys/fs/cgroup/freezer; cpu,cpuacct /a /sys/fs/cgroup/cpu,cpuacct/a; name=systemd /a/s /sys/fs/cgroup/systemd/a/s; v2 /a/s /sys/fs/cgroup/unified/a/s"},
		{"a controller that is mounted nowhere", "proc/self/mountinfo: " + v2Mount + "\nproc/7/cgroup: 5:rdma:/x|0::/", "rdma /x ; v2 / /sys/fs/cgroup"},
		{"a part is mounted", "proc/self/mountinfo: 30 23 0:26 /docker/abc /cg rw - cgroup cgroup rw,cpu\nproc/7/cgroup: 2:cpu:/docker/abc/sub", "cpu /docker/abc/sub /cg/sub"},
		{"another part is mounted", "proc/self/mountinfo: 30 23 0:26 /docker/abc /cg rw - cgroup cgroup rw,cpu\nproc/7/cgroup: 2:cpu:/docker/abcd", "cpu /docker/abcd "},
		{"several mounts", "proc/self/mountinfo: 30 23 0:26 /docker /cg rw - cgroup2 cgroup rw|31 23 0:26 / /all rw - cgroup2 cgroup rw\nproc/7/cgroup: 0::/docker/abc", "v2 /docker/abc /all/docker/abc"},
		{"outside this namespace", "proc/self/mountinfo: " + v2Mount + "\nproc/7/cgroup: 0::/../other", "v2 /../other "},
		{"a mount from outside this namespace", "proc/self/mountinfo: 30 23 0:26 /../.. /host rw - cgroup2 cgroup2 rw\nproc/7/cgroup: 0::/", "v2 / "},
		{"nothing mounted", "proc/7/cgroup: 0::/a", "v2 /a "},
	} {
		groups, err := cgroup.OfIn(layout(c.files), 7)
		if got := show(groups); err != nil || got != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.name, got, err, c.want)
		}
	}
	if _, err := cgroup.OfIn(layout(hybrid), 8); !root.IsMissing(err) || !strings.Contains(err.Error(), "/proc/8/cgroup") {
		t.Errorf("a thread that is not there: %v", err)
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ name, files, find, want string }{ // an error's text where it begins with !
		{"a path", hybrid, "/a", "cpu,cpuacct /a /sys/fs/cgroup/cpu,cpuacct/a; name=systemd /a /sys/fs/cgroup/systemd/a; v2 /a /sys/fs/cgroup/unified/a"},
		{"a path with a slash too many", hybrid, "/b/", "freezer /b /sys/fs/cgroup/freezer/b; cpu,cpuacct /b /sys/fs/cgroup/cpu,cpuacct/b"},
		{"a directory", hybrid, "/sys/fs/cgroup/freezer/b", "freezer /b /sys/fs/cgroup/freezer/b"},
		{"a directory of version 2", hybrid, "/sys/fs/cgroup/unified/a", "v2 /a /sys/fs/cgroup/unified/a"},
		{"a mount point", hybrid, "/sys/fs/cgroup/cpu,cpuacct/", "cpu,cpuacct / /sys/fs/cgroup/cpu,cpuacct"},
		{"a directory of a part", "proc/self/mountinfo: 30 23 0:26 /docker/abc /cg rw - cgroup2 cgroup rw\nproc/self/cgroup: 0::/docker/abc\ncg/x/cgroup.procs: 1", "/cg/x", "v2 /docker/abc/x /cg/x"},
		{"a path in a part", "proc/self/mountinfo: 30 23 0:26 /docker/abc /cg rw - cgroup2 cgroup rw\nproc/self/cgroup: 0::/docker/abc\ncg/x/cgroup.procs: 1", "/docker/abc/x", "v2 /docker/abc/x /cg/x"},
		{"a directory from outside the namespace", "proc/self/mountinfo: 30 23 0:26 /../.. /host rw - cgroup2 cgroup2 rw\nproc/self/cgroup: 0::/\nhost/a/cgroup.procs: 1", "/host/a", "v2 /../../a /host/a"},
		{"none of that path", hybrid, "/c", "!find control group /c: there is none: looked for /sys/fs/cgroup/freezer/c, /sys/fs/cgroup/cpu,cpuacct/c, /sys/fs/cgroup/systemd/c, /sys/fs/cgroup/unified/c"},
		{"no such directory", hybrid, "/sys/fs/cgroup/freezer/c", "!/sys/fs/cgroup/freezer/c: file does not exist"},
		{"not from the root", hybrid, "a/s", `!find control group "a/s": it is a directory, as /sys/fs/cgroup/a/s, or a path as /proc/PID/cgroup has it, as /a/s`},
		{"above the namespace", hybrid, "/../x", "!above the root of this cgroup namespace"},
		{"nothing mounted", "proc/self/cgroup: 0::/", "/x", "!no mount shows a hierarchy that could have it"},
		{"another part is mounted", "proc/self/mountinfo: 30 23 0:26 /docker/abc /cg rw - cgroup2 cgroup rw\nproc/self/cgroup: 0::/docker/abc", "/docker", "!no mount shows"},
	} {
		groups, err := cgroup.FindIn(layout(c.files), c.find, c.find)
		if text, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), text) || groups != nil {
				t.Errorf("%s: %s, %v", c.name, show(groups), err)
			}
			continue
		}
		if got := show(groups); err != nil || got != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.name, got, err, c.want)
		}
	}
}

func TestFamily(t *testing.T) {
	groups, err := cgroup.FindIn(layout(hybrid), "/sys/fs/cgroup/unified/a/s", "/sys/fs/cgroup/unified/a/s")
	if err != nil {
		t.Fatal(err)
	}
	var up []string
	for g, ok := groups[0], true; ok; g, ok = g.Parent() {
		up = append(up, g.Path+" "+g.Dir)
	}
	if want := []string{"/a/s /sys/fs/cgroup/unified/a/s", "/a /sys/fs/cgroup/unified/a", "/ /sys/fs/cgroup/unified"}; !slices.Equal(up, want) {
		t.Errorf("%q", up)
	}
	if g := groups[0].Child("x"); g.Path != "/a/s/x" || g.Dir != "/sys/fs/cgroup/unified/a/s/x" {
		t.Errorf("%+v", g)
	}
	if _, ok := (cgroup.Group{Path: "/x"}).Parent(); ok {
		t.Error("a group that no mount shows has a parent")
	}
}

const nested = v2SystemdOK + `
	proc/self/cgroup: 0::/a/b
	proc/7/cgroup: 0::/a/b/c
	sys/fs/cgroup/a/cpu.max: 50000 200000
	sys/fs/cgroup/a/cpu.stat: usage_usec 9|nr_periods 10|nr_throttled %d|throttled_usec %d
	sys/fs/cgroup/a/b/cpu.max: 100000 100000
	sys/fs/cgroup/a/b/cpuset.cpus.effective: 0-3
	sys/fs/cgroup/a/b/cpu.stat: nr_throttled %d|throttled_usec %d
	sys/fs/cgroup/a/b/c/cpu.max: max 100000
	sys/fs/cgroup/a/b/c/cpu.stat: nr_throttled 9|throttled_usec 90000
	sys/fs/cgroup/a/b/c/cpuset.cpus.effective: 0-1`

// Every quota on the way up can stop a process, so that the group with the
// tightest is not all to look at.
func TestThrottlingUp(t *testing.T) {
	at := func(aPeriods, aMicros, bPeriods, bMicros int) (cgroup.Group, cgroup.Throttling) {
		groups, err := cgroup.OfIn(layout(fmt.Sprintf(nested, aPeriods, aMicros, bPeriods, bMicros)), 7)
		if err != nil {
			t.Fatal(err)
		}
		return groups[0], groups[0].Throttling()
	}
	g, before := at(3, 1500, 7, 100)
	if got := fmt.Sprint(before); got != "map[/a:{3 1.5} /a/b:{7 0.1} /a/b/c:{9 90}]" {
		t.Error(got)
	}
	_, after := at(4, 2500, 27, 40100)
	if got := after.Since(before); got != (cgroup.Throttled{Periods: 20, MS: 40}) {
		t.Errorf("%+v", got)
	}
	if got := before.Since(before); got != (cgroup.Throttled{}) {
		t.Errorf("nothing came: %+v", got)
	}
	if got := before.Since(nil); got != (cgroup.Throttled{}) {
		t.Errorf("what a group that was not read before has counted, it may have counted long ago: %+v", got)
	}
	state, found := g.Read(cgroup.CPU | cgroup.CPUSet)
	if len(found) != 0 || *state.QuotaCPUs != 0.25 || !state.CPUSet.Equal(cpuset.Range(0, 1)) {
		t.Errorf("%+v, %v", state, found)
	}
	if state, found := (cgroup.Group{Path: "/x"}).Read(cgroup.Everything); state.QuotaCPUs != nil || found != nil {
		t.Errorf("a group that no mount shows: %+v, %v", state, found)
	}
}

func FuzzGroups(f *testing.F) {
	f.Add("0::/a/b\n", v2Mount, "/a")
	f.Add("2:cpu,cpuacct:/a\n3:freezer:/a\n1:name=systemd:/\n", strings.ReplaceAll(hybridMounts, "|", "\n"), "/sys/fs/cgroup/freezer/a")
	f.Add("0::/../..\n", "1 2 0:1 /.. / rw - cgroup2 x rw", "/../x")
	f.Fuzz(func(t *testing.T, membership, mountinfo, name string) {
		r := root.FromFiles(map[string]string{"proc/self/cgroup": membership, "proc/7/cgroup": membership, "proc/self/mountinfo": mountinfo, "sys/fs/cgroup/a/cpu.max": "1000 1000"})
		groups, err := cgroup.OfIn(r, 7)
		if err != nil {
			t.Fatal(err)
		}
		found, err := cgroup.FindIn(r, name, name)
		if (err == nil) == (found == nil) {
			t.Fatalf("%v, %v", found, err)
		}
		for _, g := range append(groups, found...) {
			if g.Dir == "" {
				continue
			}
			if !path.IsAbs(g.Dir) || path.Clean(g.Dir) != g.Dir {
				t.Fatalf("directory %q", g.Dir)
			}
			g.Throttling()
			depth := 0
			for up, ok := g, true; ok; up, ok = up.Parent() {
				if depth++; depth > len(g.Dir)+1 {
					t.Fatalf("%q has no top", g.Dir)
				}
			}
			if down := g.Child("x"); down.Dir != path.Join(g.Dir, "x") {
				t.Fatalf("%q is below %q", down.Dir, g.Dir)
			}
		}
	})
}
