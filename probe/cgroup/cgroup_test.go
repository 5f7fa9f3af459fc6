package cgroup_test

import (
	"fmt"
	"strings"
	"testing"

	"berth/probe/cgroup"
	"berth/probe/root"
)

// layout is a machine's files in one text: "path: content" lines, a content of
// several lines joined by "|".
func layout(text string) *root.Root {
	files := map[string]string{}
	for line := range strings.Lines(text) {
		name, content, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if ok {
			if files[name] = content; !strings.HasPrefix(content, "-> ") {
				files[name] = strings.ReplaceAll(content, "|", "\n") + "\n"
			}
		}
	}
	return root.FromFiles(files)
}

const (
	v2Mount     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
	v1Mounts    = "30 23 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct|31 23 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset|32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
	v1Roots     = "sys/fs/cgroup/cpu,cpuacct/release_agent: x\nsys/fs/cgroup/cpuset/release_agent: x\nsys/fs/cgroup/memory/release_agent: x\nsys/fs/cgroup/cpuset/cpuset.cpus: 0-7\nsys/fs/cgroup/memory/memory.limit_in_bytes: 9223372036854771712\nsys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us: -1\n"
	v2SystemdOK = "proc/self/mountinfo: " + v2Mount + "\nsys/fs/cgroup/cpuset.cpus.effective: 0-7\n"
)

func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		name, files string
		want        string // CPUs, quota, memory
		chain       string // path file=limit, * binds
		findings    string // codes
	}{
		{"nothing", "", "- - -", "", ""},
		{"v2, systemd", v2SystemdOK + `
			proc/self/cgroup: 0::/system.slice/a.service
			sys/fs/cgroup/system.slice/cpu.max: max 100000
			sys/fs/cgroup/system.slice/cpuset.cpus.effective: 0-7
			sys/fs/cgroup/system.slice/a.service/cpu.max: 250000 100000
			sys/fs/cgroup/system.slice/a.service/cpuset.cpus.effective: 0-3
			sys/fs/cgroup/system.slice/a.service/memory.max: 1073741824
			sys/fs/cgroup/system.slice/a.service/memory.high: max
			sys/fs/cgroup/system.slice/a.service/cpu.weight: 100`,
			"0-3 2.5 1073741824", "/system.slice/a.service cpuset.cpus.effective=0-3*; /system.slice/a.service cpu.max=2.5*; /system.slice/a.service memory.max=1073741824*", ""},
		{"the parent is tighter", v2SystemdOK + `
			proc/self/cgroup: 0::/kubepods/pod-a/c
			sys/fs/cgroup/kubepods/pod-a/c/cpu.max: 400000 100000
			sys/fs/cgroup/kubepods/pod-a/cpu.max: 50000 100000
			sys/fs/cgroup/kubepods/pod-a/memory.high: 4096
			sys/fs/cgroup/kubepods/pod-a/c/memory.max: 8192
			sys/fs/cgroup/kubepods/cpu.max: 600000 100000`,
			"0-7 0.5 4096", "/kubepods/pod-a/c cpu.max=4; /kubepods/pod-a cpu.max=0.5*; /kubepods cpu.max=6; /kubepods/pod-a/c memory.max=8192; /kubepods/pod-a memory.high=4096*", ""},
		{"equal quotas: the nearest binds", v2SystemdOK + `
			proc/self/cgroup: 0::/a/b
			sys/fs/cgroup/a/cpu.max: 100000
			sys/fs/cgroup/a/b/cpu.max: 200000 200000`,
			"0-7 1 -", "/a/b cpu.max=1*; /a cpu.max=1", ""},
		{"an ancestor sets the CPUs", v2SystemdOK + `
			proc/self/cgroup: 0::/a/b/c
			sys/fs/cgroup/a/cpuset.cpus.effective: 0-3
			sys/fs/cgroup/a/b/cpuset.cpus.effective: 0-3
			sys/fs/cgroup/a/b/c/cpu.max: max`,
			"0-3 - -", "/a cpuset.cpus.effective=0-3*", ""},
		{"v2 without a quota file at the root, an empty one below", v2SystemdOK + `
			proc/self/cgroup: 0::/a
			sys/fs/cgroup/a/cpu.max: |`,
			"0-7 - -", "", ""},
		{"v1, docker", "proc/self/mountinfo: " + v1Mounts + "\n" + v1Roots + `
			proc/self/cgroup: 4:memory:/docker/abc|3:cpuset:/docker/abc|2:cpu,cpuacct:/docker/abc|0::/
			sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us: 150000
			sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us: 100000
			sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.shares: 512
			sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat: nr_periods 9|nr_throttled 4|throttled_time 5000000
			sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us: -1
			sys/fs/cgroup/cpuset/docker/cpuset.cpus: 0-7
			sys/fs/cgroup/cpuset/docker/abc/cpuset.cpus: 0-5
			sys/fs/cgroup/cpuset/docker/abc/cpuset.effective_cpus: 0-2
			sys/fs/cgroup/memory/docker/memory.limit_in_bytes: 9223372036854771712
			sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes: 2147483648`,
			"0-2 1.5 2147483648", "/docker/abc cpuset.effective_cpus=0-2*; /docker/abc cpu.cfs_quota_us=1.5*; /docker/abc memory.limit_in_bytes=2147483648*; /docker/abc cpu.shares=512", ""},
		{"v1, a part is mounted", `
			proc/self/cgroup: 2:cpu:/docker/abc
			proc/self/mountinfo: 30 23 0:26 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
			sys/fs/cgroup/cpu/cpu.cfs_quota_us: 50000
			sys/fs/cgroup/cpu/cpu.cfs_period_us: 100000`,
			"- 0.5 -", "/docker/abc cpu.cfs_quota_us=0.5*", "limits-hidden-above"},
		{"a whole mount beside a part", `
			proc/self/cgroup: 2:cpu:/docker/abc
			proc/self/mountinfo: 30 23 0:26 /docker/abc /mnt rw - cgroup cgroup rw,cpu|31 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
			sys/fs/cgroup/cpu/release_agent: x
			sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us: -1
			sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us: 200000
			sys/fs/cgroup/cpu/docker/cpu.cfs_period_us: 100000`,
			"- 2 -", "/docker cpu.cfs_quota_us=2*", ""},
		{"hybrid: controllers in v1, a v2 mount for names", `
			proc/self/cgroup: 1:cpu:/a|0::/a
			proc/self/mountinfo: 30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu|31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
			sys/fs/cgroup/cpu/release_agent: x
			sys/fs/cgroup/cpu/a/cpu.cfs_quota_us: 300000
			sys/fs/cgroup/cpu/a/cpu.cfs_period_us: 100000
			sys/fs/cgroup/unified/a/cgroup.procs: 1`,
			"- 3 -", "/a cpu.cfs_quota_us=3*", ""},
		{"v2 in a namespace", "proc/self/mountinfo: " + v2Mount + `
			proc/self/cgroup: 0::/
			sys/fs/cgroup/cgroup.events: populated 1
			sys/fs/cgroup/cpuset.cpus.effective: 2-3
			sys/fs/cgroup/cpu.max: 100000 100000`,
			"2-3 1 -", "/ cpu.max=1*", "limits-hidden-above"},
		{"outside the namespace's root", "proc/self/mountinfo: " + v2Mount + `
			proc/self/cgroup: 0::/../other
			sys/fs/cgroup/cpu.max: 100000 100000`,
			"- 1 -", "/ cpu.max=1*", "limits-hidden-above"},
		{"mounted from outside the namespace", `
			proc/self/cgroup: 0::/
			proc/self/mountinfo: 30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw
			sys/fs/cgroup/cpu.max: 100000 100000`,
			"- - -", "", "limits-hidden-above"},
		{"no mount at all", "proc/self/cgroup: 0::/a", "- - -", "", ""},
		{"the old cpuset file system", `
			proc/self/cpuset: /dummy
			proc/mounts: none /dev/cpuset cpuset rw 0 0
			dev/cpuset/cpus: 0-15
			dev/cpuset/dummy/cpus: 0-6`,
			"0-6 - -", "/dummy cpus=0-6*", ""},
		{"cgroup v1 without prefixes", `
			proc/self/cgroup: 1:cpuset:/d
			proc/mounts: none /dev/cpuset cgroup rw,cpuset,noprefix 0 0
			dev/cpuset/d/cpus: 1`,
			"1 - -", "/d cpus=1*", ""},
		{"only /proc/self/cpuset, in v2", `
			proc/self/cpuset: /job/step
			proc/mounts: none /cgroup/unified cgroup2 rw 0 0
			cgroup/unified/job/cpuset.cpus.effective: 0-5
			cgroup/unified/cpuset.cpus.effective: 0-31`,
			"0-5 - -", "/job cpuset.cpus.effective=0-5*", "missing"},
		{"the group is gone", v2SystemdOK + `
			proc/self/cgroup: 0::/a/gone (deleted)
			sys/fs/cgroup/a/cpu.max: 100000 100000`,
			"0-7 1 -", "/a cpu.max=1*", "missing"},
		{"a mount point with a space", `
			proc/self/cgroup: 0::/a
			proc/self/mountinfo: 30 23 0:26 / /my\040groups rw - cgroup2 cgroup2 rw
			my groups/a/cpu.max: 100000 100000`,
			"- 1 -", "/a cpu.max=1*", ""},
		{"a mount that is covered", v2SystemdOK + `
			proc/self/cgroup: 0::/
			proc/self/mountinfo: ` + v2Mount + `|40 23 0:40 / /sys/fs rw - tmpfs tmpfs rw
			sys/fs/cgroup/cpu.max: 100000 100000`,
			"- - -", "", ""},
		{"garbage", v2SystemdOK + `
			proc/self/cgroup: 0::/a|::::|x|9
			sys/fs/cgroup/a/cpu.max: lots
			sys/fs/cgroup/a/memory.max: -5
			sys/fs/cgroup/a/cpuset.cpus.effective: 3-1`,
			"0-7 - -", "", "malformed"},
		{"a quota of nothing", v2SystemdOK + `
			proc/self/cgroup: 0::/a
			sys/fs/cgroup/a/cpu.max: 0 100000`,
			"0-7 - -", "", "malformed"},
		{"a period of nothing", v2SystemdOK + `
			proc/self/cgroup: 0::/a
			sys/fs/cgroup/a/cpu.max: 100000 0`,
			"0-7 - -", "", "malformed"},
		{"numbers too long", v2SystemdOK + `
			proc/self/cgroup: 0::/a
			sys/fs/cgroup/a/cpu.max: 99999999999999999999 100000
			sys/fs/cgroup/a/memory.max: 99999999999999999999999`,
			"0-7 - -", "", "malformed"},
		{"a link in a circle", v2SystemdOK + `
			proc/self/cgroup: 0::/a/b
			sys/fs/cgroup/a: -> a`,
			"0-7 - -", "", "unreadable"},
		{"deeper than any", v2SystemdOK + "proc/self/cgroup: 0::" + strings.Repeat("/a", 300), "- - -", "", "malformed"},
	} {
		state, found := cgroup.Read(layout(c.files), cgroup.Everything)
		text := func(v any) string {
			switch v := v.(type) {
			case *float64:
				if v != nil {
					return fmt.Sprint(*v)
				}
			case *int64:
				if v != nil {
					return fmt.Sprint(*v)
				}
			}
			return "-"
		}
		got := "-"
		if state.CPUSet != nil {
			got = state.CPUSet.String()
		}
		got += " " + text(state.QuotaCPUs) + " " + text(state.MemoryBytes)
		var chain, codes []string
		for _, l := range state.Chain {
			mark := ""
			if l.Binding {
				mark = "*"
			}
			chain = append(chain, fmt.Sprintf("%s %s=%v%s", l.Path, l.Source, l.Limit, mark))
		}
		for _, f := range found {
			codes = append(codes, f.Code)
		}
		if got != c.want || strings.Join(chain, "; ") != c.chain || strings.Join(codes, " ") != c.findings {
			t.Errorf("%s:\n got %s\n     %s\n     %v\nwant %s\n     %s\n     %s", c.name,
				got, strings.Join(chain, "; "), found, c.want, c.chain, c.findings)
		}
	}
}

func TestThrottling(t *testing.T) {
	state, _ := cgroup.Read(layout(v2SystemdOK+`
		proc/self/cgroup: 0::/a/b
		sys/fs/cgroup/a/cpu.max: 50000 200000
		sys/fs/cgroup/a/cpu.stat: usage_usec 9|nr_periods 10|nr_throttled 3|throttled_usec 1500
		sys/fs/cgroup/a/b/cpu.max: 100000 100000
		sys/fs/cgroup/a/b/cpu.stat: nr_throttled 7|throttled_usec 1`), cgroup.Everything)
	if state.Throttled == nil || state.Throttled.Periods != 3 || state.Throttled.MS != 1.5 || *state.QuotaPeriodMS != 200 {
		t.Errorf("throttled %+v, period %v", state.Throttled, *state.QuotaPeriodMS)
	}
}

func TestNeed(t *testing.T) {
	files := v2SystemdOK + `
		proc/self/cgroup: 0::/a
		sys/fs/cgroup/a/cpu.max: 100000 100000
		sys/fs/cgroup/a/memory.max: 4096`
	state, _ := cgroup.Read(layout(files), cgroup.CPU)
	if state.QuotaCPUs == nil || state.MemoryBytes != nil || state.CPUSet != nil {
		t.Errorf("%+v", state)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("0::/a/b\n", v2Mount, "50000 100000", "0-3", "4096")
	f.Add("2:cpu,cpuacct:/a\n3:cpuset:/a\n", strings.ReplaceAll(v1Mounts, "|", "\n"), "-1", "", "max")
	f.Add("0::/../..\n", "1 2 0:1 /.. / rw - cgroup2 x rw", "max", "all", "-1")
	f.Fuzz(func(t *testing.T, membership, mountinfo, quota, cpus, memory string) {
		files := map[string]string{"proc/self/cgroup": membership, "proc/self/mountinfo": mountinfo}
		for _, dir := range []string{"", "a/", "a/b/", "cpu,cpuacct/a/", "cpuset/a/"} {
			base := "sys/fs/cgroup/" + dir
			files[base+"cpu.max"], files[base+"cpu.cfs_quota_us"], files[base+"cpu.cfs_period_us"] = quota, quota, quota
			files[base+"cpuset.cpus.effective"], files[base+"cpuset.cpus"] = cpus, cpus
			files[base+"memory.max"], files[base+"memory.limit_in_bytes"], files[base+"cpu.stat"] = memory, memory, memory
		}
		state, _ := cgroup.Read(root.FromFiles(files), cgroup.Everything)
		if q := state.QuotaCPUs; q != nil && !(*q > 0 && *q < 1e19) {
			t.Fatalf("quota %v", *q)
		}
		if m := state.MemoryBytes; m != nil && *m < 0 {
			t.Fatalf("memory %d", *m)
		}
		binding := map[string]int{}
		for _, l := range state.Chain {
			if l.Binding {
				binding[l.Resource]++
			}
		}
		for resource, n := range binding {
			if n > 1 {
				t.Fatalf("%d limits of %s bind", n, resource)
			}
		}
	})
}
