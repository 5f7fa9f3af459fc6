package cgroup_test

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/probe/cgroup"
)

// The live files, whatever they are, agree with themselves.
func TestLiveGroups(t *testing.T) {
	groups, err := cgroup.Of(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	seen := 0
	for _, g := range groups {
		if g.Dir == "" {
			continue
		}
		again, err := cgroup.Find(g.Dir)
		if err != nil || len(again) != 1 || again[0].Path != g.Path || again[0].V2 != g.V2 || !slices.Equal(again[0].Controllers, g.Controllers) {
			t.Errorf("%s is found as %s, %v", show([]cgroup.Group{g}), show(again), err)
			continue
		}
		if pids, err := cgroup.Members(g.Dir); err != nil || !slices.Contains(pids, os.Getpid()) || !slices.IsSorted(pids) {
			t.Errorf("%s: this process is not among %d, %v", g.Dir, len(pids), err)
		}
		seen++
	}
	if seen == 0 {
		t.Skip("no mount shows a control group of this process")
	}
	if _, err := cgroup.ThrottlingOf(0); err != nil {
		t.Error(err)
	}
}

func TestMembers(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"cgroup.procs": "9\n3\n0\n", "b/cgroup.procs": "12\n", "b/c/cgroup.procs": "5\n9\n", "d/x": ""} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(path.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// d is as a group that goes while it is read.
	if got, err := cgroup.Members(dir); err != nil || !slices.Equal(got, []int{3, 5, 9, 12}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"d", "e"} {
		if _, err := cgroup.Members(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), "list the processes of control group "+dir) {
			t.Errorf("%s, which is no group: %v", name, err)
		}
	}
}
