//go:build lab

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/cgroup"
)

// depth is how many groups lie below one another in a chain.
const depth = 6

// chain is groups below one another, in each hierarchy that limits CPUs. In
// version 1 the controllers cpu and cpuset have directories of their own, in
// version 2 they share them.
type chain struct {
	t        *testing.T
	cpu, set home
}

// home is where a chain begins: the group of this test.
type home struct {
	dir string
	v2  bool
}

// group is the directory of a level, counted from 1.
func (h home) group(level int) string {
	dir := filepath.Join(h.dir, fmt.Sprintf("lab-%d", os.Getpid()))
	for n := 2; n <= level; n++ {
		dir = filepath.Join(dir, strconv.Itoa(n))
	}
	return dir
}

// governing is the group of this test that has a controller.
func governing(t *testing.T, controller string) home {
	t.Helper()
	own, err := cgroup.Of(0)
	if err != nil {
		t.Skip(err)
	}
	for _, v2 := range []bool{false, true} {
		for _, g := range own {
			if g.V2 == v2 && (v2 || slices.Contains(g.Controllers, controller)) && g.Dir != "" {
				return home{g.Dir, v2}
			}
		}
	}
	t.Skipf("no mounted hierarchy has the controller %s", controller)
	return home{}
}

// newChain makes the groups; they are removed when the test ends.
func newChain(t *testing.T) *chain {
	t.Helper()
	stepAside(t)
	c := &chain{t, begin(t, "cpu"), begin(t, "cpuset")}
	for _, h := range c.homes() {
		if err := unix.Access(h.dir, unix.W_OK); err != nil {
			t.Skipf("may not make a group in %s: %v", h.dir, err)
		}
		for level := 1; level <= depth; level++ {
			if err := os.Mkdir(h.group(level), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { remove(t, h.group(level)) })
			switch {
			case h.v2 && level < depth:
				c.must(h.group(level), "cgroup.subtree_control", "+cpu +cpuset")
			case !h.v2 && h == c.set: // it would hold no process
				for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
					c.must(h.group(level), name, read(t, filepath.Dir(h.group(level)), name))
				}
			}
		}
	}
	// Other work on the machine shall not keep the loops from what they may get.
	if c.cpu.v2 {
		c.must(c.cpu.group(1), "cpu.weight", "10000")
	} else {
		c.must(c.cpu.group(1), "cpu.shares", "262144")
	}
	return c
}

// aside is the group of version 2 that this test has moved to: where groups
// below have controllers, the one that they lie in may hold no process unless it
// is the root.
const aside = "lab-aside"

func stepAside(t *testing.T) {
	h := governing(t, "cpu")
	if _, err := os.Stat(filepath.Join(h.dir, "cgroup.type")); !h.v2 || err != nil || filepath.Base(h.dir) == aside {
		return // version 1, the root, or done
	}
	dir := filepath.Join(h.dir, aside)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Skip(err)
	}
	if err := put(dir, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		t.Fatal(err)
	}
}

// begin is where a chain of a controller begins; in version 2 the controllers
// are switched on there.
func begin(t *testing.T, controller string) home {
	t.Helper()
	h := governing(t, controller)
	if !h.v2 {
		return h
	}
	if filepath.Base(h.dir) == aside {
		h.dir = filepath.Dir(h.dir)
	}
	if offered := strings.Fields(read(t, h.dir, "cgroup.controllers")); !slices.Contains(offered, controller) {
		t.Skipf("%s does not offer the controller %s", h.dir, controller)
	}
	if !slices.Contains(strings.Fields(read(t, h.dir, "cgroup.subtree_control")), controller) {
		if err := put(h.dir, "cgroup.subtree_control", "+"+controller); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { _ = put(h.dir, "cgroup.subtree_control", "-"+controller) })
	}
	return h
}

func (c *chain) homes() []home {
	if c.cpu.v2 && c.set.v2 {
		return []home{c.cpu}
	}
	return []home{c.cpu, c.set}
}

// periods of the quotas of each level, in µs. All of them fit into a window a
// whole number of times.
var periods = [depth]int{100000, 50000, 20000, 100000, 10000, 25000}

// quota limits a level to the time of some CPUs; 0 takes the limit away.
func (c *chain) quota(level int, cpus float64) error {
	dir, period := c.cpu.group(level), periods[level-1]
	us := strconv.Itoa(int(cpus*float64(period) + 0.5))
	if c.cpu.v2 {
		if cpus == 0 {
			us = "max"
		}
		return put(dir, "cpu.max", us+" "+strconv.Itoa(period))
	}
	if cpus == 0 {
		us = "-1"
	}
	if err := put(dir, "cpu.cfs_period_us", strconv.Itoa(period)); err != nil {
		return err
	}
	return put(dir, "cpu.cfs_quota_us", us)
}

// cpus limits a level to a set.
func (c *chain) cpus(level int, list string) error {
	return put(c.set.group(level), "cpuset.cpus", list)
}

// enter moves a process into the lowest group.
func (c *chain) enter(pid int) {
	c.t.Helper()
	for _, h := range c.homes() {
		c.must(h.group(depth), "cgroup.procs", strconv.Itoa(pid))
	}
}

func (c *chain) must(dir, name, text string) {
	c.t.Helper()
	if err := put(dir, name, text); err != nil {
		c.t.Fatal(err)
	}
}

// put writes a file of a group in one call, and makes none.
func put(dir, name, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// remove waits for processes that are about to leave.
func remove(t *testing.T, dir string) {
	var err error
	for range 100 {
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("left behind: %v", err)
}
