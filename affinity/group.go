//go:build linux

package affinity

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
)

// Group is a control group that lives for one launch; its name is berth-PID-N.
//
// It stands below the group of the thread that made it, with the launcher's
// thread in it, so that what this thread starts is born there. In version 2 this
// takes a threaded group. Where that cannot be had, the group stands further up,
// though never outside a limit on CPUs or memory that the thread has, and
// processes are born there by its directory's descriptor; see [Group.FD]. In a
// tree that systemd manages, it may take controllers away from such a group at
// any time; a delegated scope (systemd-run --scope -p Delegate=yes) is safe.
type Group struct {
	// CPUs and Mems (NUMA nodes) are what the kernel lets the group use, as read
	// back; empty where nothing was asked for.
	CPUs, Mems cpuset.Set
	// QuotaCPUs is the quota, in CPUs, of each PeriodMS milliseconds; 0: none.
	QuotaCPUs, PeriodMS float64
	// Trim says which CPUs are lacking; nil: none.
	Trim *Trimmed

	parts   []*part
	enabled []string     // controllers of version 2 that were switched on for it
	cpu     cgroup.Group // in the hierarchy that limits CPU time: the group itself, or the thread's
	before  cgroup.Throttling
}

// part is a group's directory in one hierarchy.
type part struct {
	cgroup.Group
	parent      cgroup.Group
	controllers []string // that it is there for
	threads     string   // the file that takes a thread; empty: none does
	dir         *os.File // where none does
	tid         int      // the thread that entered; 0: none
	home        string   // the directory that it came from
}

// made counts the groups of this process.
var made atomic.Int64

// NewGroup makes a group with CPUs, NUMA nodes for memory, and a quota of CPU
// time, in CPUs, per period in milliseconds (0: 100). An empty set or a quota of
// 0 leaves that as it is for the calling thread. On an error nothing remains of
// the group. Groups left behind by processes that were killed are removed on
// the way.
//
// Where only some of the CPUs can be had the group has these, and its Trim says
// what is lacking; where none can, the error is a [*Trimmed]. Memory nodes that
// cannot be had, and a quota above that of a group further up, are errors.
func NewGroup(cpus, mems cpuset.Set, quotaCPUs, periodMS float64) (*Group, error) {
	var controllers []string
	if !cpus.IsEmpty() || !mems.IsEmpty() {
		controllers = append(controllers, "cpuset")
	}
	var q quota
	if quotaCPUs != 0 {
		var err error
		if q, err = newQuota(quotaCPUs, periodMS); err != nil {
			return nil, err
		}
		controllers = append(controllers, "cpu")
	}
	if controllers == nil {
		return nil, errors.New("make a control group: neither CPUs, memory nodes nor a quota are given")
	}
	own, err := cgroup.Of(0)
	if err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	g := &Group{}
	if unified, ok := governing(own, ""); ok {
		defer lock(unified)()
	}
	err = g.make(own, controllers)
	if err == nil {
		err = g.limit(cpus, mems, q)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a control group: %w", err), g.remove())
	}
	g.cpu, _ = governing(own, "cpu")
	for _, p := range g.parts {
		if p.V2 && g.cpu.V2 || slices.Contains(p.Controllers, "cpu") { // whether it has a quota or not
			g.cpu = p.Group
		}
	}
	g.before = g.cpu.Throttling()
	return g, nil
}

// Start starts a command in the group, on a seat, as [Launcher.Start] does. Its
// launcher is the one for all.
func (g *Group) Start(l *Launcher, cmd *exec.Cmd, seat Seat) (trim *Trimmed, err error) {
	if err := l.On(g.Enter); err != nil {
		return nil, err
	}
	if seat.CPUs.IsEmpty() {
		seat.CPUs = g.CPUs // what the launcher had before may be more
	}
	fd, ok := g.FD()
	if !ok {
		return l.Start(cmd, seat)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	trim, err = l.Start(cmd, seat)
	if err != nil || seat.CPUs.IsEmpty() {
		return trim, err
	}
	if _, err := Set(cmd.Process.Pid, seat.CPUs); err != nil && !errors.As(err, &trim) && !errors.Is(err, unix.ESRCH) {
		return trim, fmt.Errorf("worker %d: %w", seat.Worker, err)
	}
	return trim, nil
}

// Enter moves the calling thread, to which a goroutine must be locked, into the
// group, unless it is there. The kernel then gives the thread all CPUs of the
// group for a mask, so that its seat must be taken afterwards.
func (g *Group) Enter() error {
	own, err := cgroup.Of(0)
	if err != nil {
		return fmt.Errorf("enter a control group: %w", err)
	}
	for _, p := range g.parts {
		home := slices.IndexFunc(own, func(o cgroup.Group) bool { return slices.Equal(o.Controllers, p.Controllers) })
		if p.threads == "" || home < 0 || own[home].Dir == p.Dir {
			continue
		}
		tid := unix.Gettid()
		if err := p.write(p.threads, strconv.Itoa(tid)); err != nil {
			return errors.Join(err, g.Leave())
		}
		p.tid, p.home = tid, own[home].Dir
	}
	return nil
}

// Leave puts the thread that entered back into the groups that it came from; its
// mask is then all of their CPUs. Any thread may call it, and [Group.Remove]
// does.
func (g *Group) Leave() error {
	var errs []error
	for _, p := range g.parts {
		if p.tid == 0 {
			continue
		}
		tid := strconv.Itoa(p.tid)
		if _, err := os.Stat("/proc/self/task/" + tid); err == nil { // else it has ended, and the number may be another's
			if err := put(p.home, p.threads, tid); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("leave control group %s: %w", p.Dir, err))
				continue
			}
		}
		p.tid = 0
	}
	return errors.Join(errs...)
}

// FD is the descriptor with which processes must be started to be born in the
// group, where no thread can enter it (CgroupFD of [syscall.SysProcAttr]; Linux
// 5.7). Some kernels give such a process all CPUs of the group for a mask, those
// of Linux 6.1 among them, so that it sits on its seat only from the moment when
// it is given it again.
func (g *Group) FD() (fd int, ok bool) {
	for _, p := range g.parts {
		if p.dir != nil {
			return int(p.dir.Fd()), true
		}
	}
	return -1, false
}

// Dirs are the group's directories, one in each hierarchy that it is in.
func (g *Group) Dirs() []string {
	var dirs []string
	for _, p := range g.parts {
		dirs = append(dirs, p.Dir)
	}
	return dirs
}

// Throttled is how long quotas, the group's own or of one further up, stopped
// processes since the group was made, summed over CPUs: that of the quota that
// stopped them the longest. It is to be asked before Remove.
func (g *Group) Throttled() time.Duration {
	return time.Duration(g.cpu.Throttling().Since(g.before).MS * float64(time.Millisecond))
}

// leaving is how long Remove waits for processes that are about to end.
var leaving = 2 * time.Second

// Remove removes the group, with groups that were made in it, and switches off
// the controllers that were switched on for it, unless other groups use them by
// then. It ends no process: where some live on in the group, the error names
// them, and Remove may be called again.
func (g *Group) Remove() error {
	if err := g.Leave(); err != nil {
		return err
	}
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := g.removeLocked()
		switch {
		case !errors.Is(err, unix.EBUSY):
			return err
		case time.Since(began) >= leaving:
			return g.inhabited(err)
		}
		time.Sleep(pause)
	}
}

func (g *Group) removeLocked() error {
	for _, p := range g.parts {
		if p.V2 {
			defer lock(p.parent)()
		}
	}
	return g.remove()
}

// remove removes the directories that can be.
func (g *Group) remove() error {
	var errs []error
	g.parts = slices.DeleteFunc(g.parts, func(p *part) bool {
		if err := removeTree(p.Dir); err != nil {
			errs = append(errs, fmt.Errorf("remove control group: %w", err))
			return false
		}
		if p.V2 {
			disable(p.parent, g.enabled)
		}
		if p.dir != nil {
			p.dir.Close()
		}
		return true
	})
	return errors.Join(errs...)
}

// inhabited says what lives in a group that is busy.
func (g *Group) inhabited(busy error) error {
	const shown = 10
	var errs []error
	for _, p := range g.parts {
		pids, err := cgroup.Members(p.Dir)
		if err != nil || len(pids) == 0 {
			return busy
		}
		more := ""
		if len(pids) > shown {
			more = fmt.Sprintf(" and %d more", len(pids)-shown)
			pids = pids[:shown]
		}
		list := strings.ReplaceAll(strings.Trim(fmt.Sprint(pids), "[]"), " ", ", ")
		errs = append(errs, fmt.Errorf("remove control group %s: it holds processes (%s%s): once they have ended, remove it (rmdir)", p.Dir, list, more))
	}
	return errors.Join(errs...)
}
