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
