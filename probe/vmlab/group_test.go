//go:build lab

package vmlab

import (
	"slices"
	"strings"
	"testing"
)

// TestMadeGroups lets package affinity's own tests make groups of version 2:
// below the root, also while others use that; further up, where the nearest group offers nothing; not so
// where that would lead out of a limit; in a group that holds processes, as in a
// container; and as a user, in a group given to that user and in one that is not.
func TestMadeGroups(t *testing.T) {
	const top = "/sys/fs/cgroup"
	const tests = "/tests -test.v -test.run ^TestGroup\n"
	control := func(name, group string) string {
		return "show " + name + " " + top + group + "/cgroup.subtree_control\n"
	}
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu max -smp 4", tests: true, steps: "" +
		"run root " + tests + control("root-after", "") +
		"mkdir " + top + "/bare\nrun bare in " + top + "/bare " + tests + control("bare-after", "") +
		"write " + top + "/cgroup.subtree_control +memory\nwrite " + top + "/bare/memory.max 500M\n" +
		"run limited in " + top + "/bare " + tests +
		"run busy-root " + tests +
		"write " + top + "/cgroup.subtree_control +cpu +cpuset\n" +
		"mkdir " + top + "/pod\nrun pod in " + top + "/pod " + tests + control("pod-after", "/pod") +
		"mkdir " + top + "/given\ngive " + top + "/given 1000\ngive " + top + "/given/cgroup.procs 1000\n" +
		"give " + top + "/given/cgroup.threads 1000\ngive " + top + "/given/cgroup.subtree_control 1000\n" +
		"run given in " + top + "/given as 1000 " + tests + control("given-after", "/given") +
		"mkdir " + top + "/withheld\nrun withheld in " + top + "/withheld as 1000 " + tests +
		"run together in " + top + "/pod /tests -test.v -test.run ^TestConcurrentGroups\n"})
	makes := []string{"TestGroup", "TestGroupQuota", "TestGroupMemory", "TestGroupTrim", "TestGroupInGroup", "TestGroupRemove", "TestGroupLeftovers"}
	t.Log(steps["withheld"])
	for name, passes := range map[string][]string{
		"root": makes, "busy-root": makes, "bare": makes, "pod": makes, "given": makes, "limited": {"TestGroupBehindLimit"}, "withheld": {"TestGroupNotPermitted"},
		"together": {"TestConcurrentGroups"},
	} {
		said := steps[name]
		if !strings.HasSuffix(strings.TrimSpace(said), "PASS") {
			t.Errorf("%s failed:\n%s", name, said)
		}
		for _, test := range append([]string{"TestGroupBehindLimit", "TestGroupNotPermitted", "TestConcurrentGroups"}, makes...) {
			if passed := strings.Contains(said, "--- PASS: "+test+" "); passed != slices.Contains(passes, test) {
				t.Errorf("%s: %s passed: %v\n%s", name, test, passed, said)
			}
		}
	}
	for _, name := range []string{"root-after", "bare-after", "pod-after", "given-after"} {
		if left, ok := steps[name]; !ok || strings.TrimSpace(left) != "" {
			t.Errorf("%s: controllers left on: %q", name, left)
		}
	}
}

// TestGroups looks at groups of version 2, also out of a namespace.
func TestGroups(t *testing.T) {
	const top = "/sys/fs/cgroup"
	steps := boot(t, guest{arch: "amd64", cpu: "-cpu max -smp 4", steps: "write " + top + "/cgroup.subtree_control +cpu +cpuset +memory\n" +
		"mkdir " + top + "/pod\nwrite " + top + "/pod/cpu.max 50000 100000\nwrite " + top + "/pod/cgroup.subtree_control +cpu +cpuset +memory\n" +
		"mkdir " + top + "/pod/c\nwrite " + top + "/pod/c/cpuset.cpus 1-2\nwrite " + top + "/pod/c/cpu.max 200000 100000\n" +
		"run exact in " + top + "/pod/c /berth nproc --exact\nrun machine in " + top + "/pod/c /berth inspect -o json\n" +
		"run apart in " + top + "/pod/c apart /berth inspect -o json\n"})
	if got := strings.TrimSpace(steps["exact"]); got != "0.5" {
		t.Errorf("nproc --exact: %q", got)
	}
	m := machineOf(t, steps, "machine")
	if m.Topology.Allowed.String() != "1-2" || m.Limits.EffectiveCPUs != 0.5 {
		t.Errorf("allowed %s, budget %v", m.Topology.Allowed, m.Limits.EffectiveCPUs)
	}
	binding := ""
	for _, l := range m.Limits.Chain {
		if l.Binding && l.Resource == "cpus" {
			binding = l.Path
		}
	}
	if binding != "/pod" {
		t.Errorf("the quota that binds is of %q: %+v", binding, m.Limits.Chain)
	}
	apart := machineOf(t, steps, "apart")
	if !says(apart, "limits-hidden-above") {
		t.Errorf("a namespace hides its ancestors without a word: %+v", apart.Findings)
	}
}

// TestContainers looks out of containers of version 2, with the test of package
// cgroup's lab.
func TestContainers(t *testing.T) {
	said := boot(t, guest{arch: "amd64", cpu: "-cpu max -smp 2", groups: true, container: true,
		steps: "run lab /groups -test.v -test.run ^TestContainer$ -berth /berth -emulated\n"})["lab"]
	t.Log(said)
	for _, test := range []string{"TestContainer", "TestContainer/namespace_true", "TestContainer/namespace_false"} {
		if !strings.Contains(said, "--- PASS: "+test+" ") {
			t.Errorf("%s did not pass", test)
		}
	}
}

// TestBudgets lets the lab of package cgroup measure in version 2, in a mixed
// set-up, and as a user in a delegated group below a quota. An emulator's time is
// coarse, hence the tolerance, and a host that is busy stops it unseen.
func TestBudgets(t *testing.T) {
	if !*whole {
		t.Skip("not one of the quick guests: -whole boots it")
	}
	const top = "/sys/fs/cgroup"
	const lab = "/groups -test.v -test.timeout 20m -berth /berth -emulated -tolerance 10"
	const given = top + "/given"
	delegated := "write " + top + "/cgroup.subtree_control +cpu +cpuset +memory\nmkdir " + given + "\nwrite " + given + "/cpu.max 120000 100000\n"
	for _, name := range []string{"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"} {
		delegated += "give " + given + name + " 1000\n"
	}
	// Controllers go to version 1 once no group of version 2 has them.
	mixed := "unmount " + top + "\nmount tmpfs " + top + "\n"
	for _, controllers := range []string{"cpu", "cpuset", "memory"} {
		mixed += "mount cgroup " + top + "/" + controllers + " " + controllers + "\n"
	}
	mixed += "mount cgroup2 " + top + "/unified\n"
	for name, g := range map[string]struct {
		steps  string
		passes []string
	}{
		"version 2": {"run lab " + lab + "\n", []string{"TestBudget", "TestNoQuota", "TestNamespaces", "TestLimitsThatChange", "TestRunWhileLimitsChange"}},
		"mixed":     {mixed + "run lab " + lab + "\n", []string{"TestBudget", "TestNoQuota", "TestNamespaces", "TestLimitsThatChange", "TestRunWhileLimitsChange"}},
		"delegated": {delegated + "run lab in " + given + " as 1000 " + lab + " -above 1.2\n", []string{"TestBudget", "TestLimitsThatChange"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := play(t, guest{arch: "amd64", cpu: "-cpu max -smp 2", groups: true, patient: true, steps: g.steps}).steps["lab"]
			t.Log(said)
			for _, test := range g.passes {
				if !strings.Contains(said, "--- PASS: "+test+" ") {
					t.Errorf("%s did not pass", test)
				}
			}
		})
	}
}
