//go:build linux

package affinity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/cgroup"
)

// governing is the group, of those of a thread, in the hierarchy that has a
// controller: version 2's has all that no other has.
func governing(own []cgroup.Group, controller string) (found cgroup.Group, ok bool) {
	for _, g := range own {
		if slices.Contains(g.Controllers, controller) {
			return g, true
		}
		if g.V2 {
			found, ok = g, true
		}
	}
	return found, ok
}

// make makes the group's directories.
func (g *Group) make(own []cgroup.Group, controllers []string) error {
	var unified []string
	var top cgroup.Group
	name := groupName(os.Getpid(), made.Add(1))
	for _, c := range controllers {
		parent, ok := governing(own, c)
		switch {
		case !ok:
			return fmt.Errorf("no hierarchy has the controller %s (/proc/self/cgroup)", c)
		case parent.Dir == "":
			return fmt.Errorf("no mount shows %s, the group that has the controller %s (/proc/self/mountinfo)", parent.Path, c)
		case parent.V2:
			unified, top = append(unified, c), parent
		default:
			at := slices.IndexFunc(g.parts, func(p *part) bool { return p.parent.Dir == parent.Dir })
			if at >= 0 { // both controllers in one hierarchy
				g.parts[at].controllers = append(g.parts[at].controllers, c)
				continue
			}
			p, err := g.add(parent, name, c)
			if err != nil {
				return permission(err, "that directory given to this user (chown)")
			}
			p.threads = "tasks"
		}
	}
	if unified == nil {
		return nil
	}
	return g.makeUnified(top, name, unified)
}

func (g *Group) add(parent cgroup.Group, name string, controllers ...string) (*part, error) {
	sweep(parent.Dir)
	p := &part{Group: parent.Child(name), parent: parent, controllers: controllers}
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		return nil, err
	}
	g.parts = append(g.parts, p)
	return p, nil
}

// permission adds what would permit that which was not.
func permission(err error, permitted string) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w; a container needs its control groups mounted for writing", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; it takes root, or %s", err, permitted)
	}
	return err
}

// makeUnified makes the directory in version 2, in the process's group or, while
// no limit is left behind, further up.
func (g *Group) makeUnified(own cgroup.Group, name string, controllers []string) error {
	state, _ := own.Read(cgroup.CPU | cgroup.CPUSet | cgroup.Memory)
	var tried []error
	for at, ok := own, true; ok; at, ok = at.Parent() {
		err := g.addUnified(at, name, controllers, at.Dir == own.Dir)
		if err == nil {
			return nil
		}
		tried = append(tried, err)
		limit := slices.IndexFunc(state.Chain, func(l cgroup.Link) bool { return l.Path == at.Path })
		if limit >= 0 {
			l := state.Chain[limit]
			tried = append(tried, fmt.Errorf("not tried above: the limit of %s (%s) would be left behind", at.Path, l.Source))
			break
		}
	}
	return permission(joined(tried), fmt.Sprintf("a group with %s delegated to this user, as systemd-run --user --scope -p 'Delegate=%s' makes one",
		strings.Join(controllers, " and "), strings.Join(controllers, " ")))
}

// joined is errors.Join on one line.
func joined(errs []error) error {
	text := make([]string, len(errs))
	args := make([]any, len(errs))
	for i, err := range errs {
		text[i], args[i] = "%w", err
	}
	return fmt.Errorf(strings.Join(text, "; "), args...)
}

// addUnified makes the directory below a group of version 2, by the rules of
// the kernel's Documentation/admin-guide/cgroup-v2.rst. home says that it is the
// group of the thread that will enter.
func (g *Group) addUnified(parent cgroup.Group, name string, controllers []string, home bool) (err error) {
	if g.enabled, err = enable(parent, controllers); err != nil {
		return err
	}
	p, err := g.add(parent, name, controllers...)
	if err != nil {
		disable(parent, g.enabled)
		return err
	}
	defer func() {
		if err != nil {
			g.parts = g.parts[:len(g.parts)-1]
			err = errors.Join(err, removeTree(p.Dir))
			disable(parent, g.enabled)
		}
	}()
	// To go from one group to another the kernel asks for this right to the
	// nearest group that is above both.
	if err := unix.Faccessat(unix.AT_FDCWD, parent.Dir+"/cgroup.procs", unix.W_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write", Path: parent.Dir + "/cgroup.procs", Err: err}
	}
	if home {
		// Below a group with processes of its own only threaded groups can have
		// controllers, those of CPUs among them; and threads may go there alone.
		p.threads = "cgroup.threads"
		return put(p.Dir, "cgroup.type", "threaded")
	}
	p.dir, err = os.Open(p.Dir)
	return err
}

// lock keeps other processes from making and removing groups in a hierarchy
// until the function returned is called: one could take away a controller that
// another has just found switched on. As anybody may hold the lock for ever, it
// is not waited for long.
func lock(in cgroup.Group) (unlock func()) {
	for up, ok := in, true; ok; up, ok = up.Parent() {
		in = up
	}
	dir, err := os.Open(in.Dir)
	if err != nil {
		return func() {} // what needs the lock will fail, and say why
	}
	for range 200 {
		if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return func() { dir.Close() }
}

// enable lets the groups below a group of version 2 have controllers, and
// returns those that they had not.
func enable(parent cgroup.Group, controllers []string) (off []string, err error) {
	offered, err := words(parent.Dir, "cgroup.controllers")
	if err != nil {
		return nil, err
	}
	given, err := words(parent.Dir, "cgroup.subtree_control")
	if err != nil {
		return nil, err
	}
	for _, c := range controllers {
		if !slices.Contains(offered, c) {
			return nil, fmt.Errorf("%s/cgroup.controllers does not offer %s", parent.Dir, c)
		}
		if !slices.Contains(given, c) {
			off = append(off, c)
		}
	}
	if off == nil {
		return nil, nil
	}
	err = put(parent.Dir, "cgroup.subtree_control", "+"+strings.Join(off, " +"))
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: it holds processes as well as groups that hold some", err)
	}
	return off, err
}

// disable switches controllers off again, but for those that a group below
// uses.
func disable(parent cgroup.Group, controllers []string) {
	for _, c := range controllers {
		if used, err := inUse(parent.Dir, c); err == nil && !used {
			_ = put(parent.Dir, "cgroup.subtree_control", "-"+c) // refused where a group hands it on
		}
	}
}

// unset is what the files of a group hold while nobody has written to them.
var unset = map[string]map[string]string{
	"cpuset": {"cpuset.cpus": "", "cpuset.mems": ""},
	"cpu":    {"cpu.max": "max 100000", "cpu.weight": "100"},
}

// inUse reports whether a group below dir has a setting of a controller.
func inUse(dir, controller string) (bool, error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		for file, value := range unset[controller] {
			now, err := words(filepath.Join(dir, e.Name()), file)
			if err == nil && strings.Join(now, " ") != value {
				return true, nil
			}
		}
	}
	return false, err
}

// removeTree removes a group and those below it; one that is gone already is no
// error.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// sweep removes the groups below a directory that were left by processes that
// were killed, unless something lives on in them.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir) // what cannot be read cannot be swept
	for _, e := range entries {
		pid, n, ok := maker(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		gone := unix.Kill(pid, 0) == unix.ESRCH
		if pid == os.Getpid() {
			gone = n > made.Load() // of a process that had the same number
		}
		if gone {
			_ = removeTree(filepath.Join(dir, e.Name()))
		}
	}
}

func groupName(pid int, n int64) string { return fmt.Sprintf("berth-%d-%d", pid, n) }

// maker reads a group's name.
func maker(name string) (pid int, n int64, ok bool) {
	first, second, _ := strings.Cut(strings.TrimPrefix(name, "berth-"), "-")
	pid, _ = strconv.Atoi(first)
	n, _ = strconv.ParseInt(second, 10, 64)
	return pid, n, pid > 0 && n > 0 && name == groupName(pid, n)
}

// put writes to a kernel file, which must exist.
func put(dir, name, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// words reads a kernel file of words.
func words(dir, name string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	return strings.Fields(string(text)), err
}
