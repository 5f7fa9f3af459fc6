//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/probe"
	"berth/probe/cgroup"
)

// TestContainer looks out of a container that runc or crun makes, with a quota
// and a set of its own below another quota, with and without a cgroup namespace.
func TestContainer(t *testing.T) {
	runtime := ""
	for _, name := range []string{"runc", "crun"} {
		if path, err := exec.LookPath(name); err == nil {
			runtime = path
			break
		}
	}
	if runtime == "" || os.Geteuid() != 0 {
		t.Skip("it needs root, and runc or crun: apt-get install runc")
	}
	all := own(t)
	c := newChain(t)
	// The runtime makes the container's group below the chain's second level.
	parent, err := filepath.Rel(mountPoint(t, c.cpu.dir), c.cpu.group(2))
	if err != nil {
		t.Fatal(err)
	}
	const inside = 0.4
	outside := 0.6
	if c.cpu.v2 { // version 1 refuses more than above
		outside = 0.3
	}
	if err := c.quota(2, outside); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // in other hierarchies the runtime makes the way to its group
		groups, _ := cgroup.Of(0)
		for _, g := range groups {
			if g.Dir == "" || g.Dir == c.cpu.dir || g.Dir == c.set.dir {
				continue
			}
			way := filepath.Join(mountPoint(t, g.Dir), parent)
			remove(t, way)
			remove(t, filepath.Dir(way))
		}
	})
	for _, namespace := range []bool{true, false} {
		t.Run(fmt.Sprintf("namespace %v", namespace), func(t *testing.T) {
			name := fmt.Sprintf("lab-%d-%v", os.Getpid(), namespace)
			dir := bundle(t, map[string]any{
				"cgroupsPath": "/" + filepath.Join(parent, name),
				"quota":       int(inside * 100000), "cpus": list(all, "b"), "namespace": namespace,
			})
			// Without a state of its own, one of an earlier container would count.
			args := []string{"--root", t.TempDir(), "run", "--bundle", dir}
			if *emulated { // its root is the kernel's first one, which pivot_root(2) refuses
				args = append(args, "--no-pivot")
			}
			cmd := exec.Command(runtime, append(args, name)...)
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s%s", runtime, err, errs.String(), out)
			}
			var m probe.Machine
			if err := json.Unmarshal(out, &m); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// A container sees its own limit; what is above, only a mount that shows it.
			if got := m.Limits.EffectiveCPUs; got != inside && (got != outside || hidden(&m)) || m.Topology.Allowed.String() != list(all, "b") {
				t.Errorf("budget %g on %s: %+v", got, m.Topology.Allowed, m.Limits)
			}
			if m.Limits.EffectiveCPUs == inside && !hidden(&m) {
				t.Errorf("the groups above cannot be seen, and berth does not say so: %+v", m.Findings)
			}
			t.Logf("%s: budget %g on CPU %s, hidden above: %v", filepath.Base(runtime), m.Limits.EffectiveCPUs, m.Topology.Allowed, hidden(&m))
		})
	}
}

// mountPoint is where the hierarchy of a group is mounted: the highest directory
// on the way up that is on the same file system.
func mountPoint(t *testing.T, dir string) string {
	t.Helper()
	for {
		up := filepath.Dir(dir)
		here, there := device(t, dir), device(t, up)
		if here != there || up == dir {
			return dir
		}
		dir = up
	}
}

// bundle makes what an OCI runtime runs (opencontainers/runtime-spec, config.md):
// berth as the only program.
func bundle(t *testing.T, want map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	rootfs := filepath.Join(dir, "rootfs")
	for _, name := range []string{"proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(rootfs, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(berth(t))
	if err == nil {
		err = os.WriteFile(filepath.Join(rootfs, "berth"), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	namespaces := []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}
	if want["namespace"].(bool) {
		namespaces = append(namespaces, map[string]string{"type": "cgroup"})
	}
	mount := func(kind, at string, options ...string) map[string]any {
		return map[string]any{"destination": at, "type": kind, "source": kind, "options": options}
	}
	config := map[string]any{
		"ociVersion": "1.0.2",
		"root":       map[string]any{"path": "rootfs", "readonly": true},
		"process": map[string]any{"args": []string{"/berth", "inspect", "-o", "json"}, "cwd": "/", "user": map[string]int{"uid": 0, "gid": 0},
			"env": []string{"PATH=/"}, "terminal": false},
		"mounts": []map[string]any{mount("proc", "/proc"), mount("sysfs", "/sys", "nosuid", "ro"), mount("cgroup", "/sys/fs/cgroup", "nosuid", "ro")},
		"linux": map[string]any{
			"cgroupsPath": want["cgroupsPath"], "namespaces": namespaces,
			"resources": map[string]any{"cpu": map[string]any{"quota": want["quota"], "period": 100000, "cpus": want["cpus"], "mems": "0"}},
		},
	}
	text, err := json.MarshalIndent(config, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func device(t *testing.T, dir string) uint64 {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(info.Sys().(*syscall.Stat_t).Dev)
}
