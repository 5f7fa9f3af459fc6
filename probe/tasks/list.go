//go:build linux

package tasks

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is one process at one moment.
type Process struct {
	PID int
	Stat
	UID, EUID int      // real and effective user; -1 unknown
	Args      []string // the command line; none of a kernel thread or a zombie
	Exe       string   // the program's file, " (deleted)" behind it where it is so; empty where this user may not ask
}

// CommandLine is the arguments with spaces between, or the name in brackets
// where there are none, as ps(1) prints it.
func (p *Process) CommandLine() string {
	if line := strings.TrimRight(strings.Join(p.Args, " "), " "); line != "" {
		return line
	}
	return "[" + p.Name + "]"
}

// List is the processes that were found, by number.
type List struct {
	Processes []Process
	Hidden    bool // there are others that this user may not see (hidepid)
}

// Find returns the process of that number, or nil.
func (l *List) Find(pid int) *Process {
	i, ok := slices.BinarySearchFunc(l.Processes, pid, func(p Process, pid int) int { return cmp.Compare(p.PID, pid) })
	if !ok {
		return nil
	}
	return &l.Processes[i]
}

// Match returns the processes whose [Process.CommandLine] the expression
// matches, as pgrep -f does. The one that asks may be among them.
func (l *List) Match(re *regexp.Regexp) []Process {
	var found []Process
	for i := range l.Processes {
		if p := &l.Processes[i]; re.MatchString(p.CommandLine()) {
			found = append(found, *p)
		}
	}
	return found
}

// Children returns the processes whose parent is pid. One whose parent ended
// has gone to the nearest subreaper above it, or to the first process
// (PR_SET_CHILD_SUBREAPER(2const)).
func (l *List) Children(pid int) []Process {
	parent := l.Find(pid)
	var found []Process
	for _, p := range l.Processes {
		// A child is no older than its parent: else the parent's number has
		// passed to another process while the list was read.
		if p.Parent == pid && p.PID != pid && (parent == nil || p.Start >= parent.Start) {
			found = append(found, p)
		}
	}
	return found
}

// Descendants returns the children of pid, their children and so on, parents
// before their children.
func (l *List) Descendants(pid int) []Process {
	found := l.Children(pid)
	seen := map[int]bool{pid: true}
	for i := 0; i < len(found); i++ {
		if p := found[i].PID; !seen[p] {
			seen[p] = true
			found = append(found, l.Children(p)...)
		}
	}
	return found
}

// Processes lists all processes that can be seen.
func (p Proc) Processes() (List, error) {
	var l List
	ids, err := p.ids("")
	if err != nil {
		return l, fmt.Errorf("list processes: %w", err)
	}
	if len(ids) == 0 {
		return l, fmt.Errorf("list processes: %s holds none; is a proc file system mounted there?", p.dir())
	}
	l.Hidden = ids[0] != 1 // every PID namespace has a first process
	for _, pid := range ids {
		process, err := p.Process(pid)
		switch {
		case errors.Is(err, ErrGone):
		case errors.Is(err, fs.ErrPermission):
			l.Hidden = true
		case err != nil:
			return l, err
		default:
			l.Processes = append(l.Processes, process)
		}
	}
	return l, nil
}

// Process reads one process. [ErrGone] says that there is none of that number.
func (p Proc) Process(pid int) (Process, error) {
	process := Process{PID: pid}
	err := p.process(&process)
	if err != nil {
		err = about("process", pid, err)
	}
	return process, err
}

func (p Proc) process(to *Process) error {
	// A descriptor of the directory stays with the process; the number may not.
	dir, err := openAt(unix.AT_FDCWD, p.dir()+"/"+strconv.Itoa(to.PID), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	data, err := readAt(dir, "stat")
	if err != nil {
		return err
	}
	if to.Stat, err = ParseStat(data); err != nil {
		return err
	}
	if data, err = readAt(dir, "status"); err != nil {
		return err
	}
	status, err := ParseStatus(data)
	if err != nil {
		return err
	}
	to.UID, to.EUID = status.UID, status.EUID
	if data, err = readAt(dir, "cmdline"); err == nil && len(data) > 0 {
		to.Args = strings.Split(string(bytes.TrimSuffix(data, []byte{0})), "\x00")
	}
	target := make([]byte, 4096)
	if n, err := unix.Readlinkat(dir, "exe", target); err == nil {
		to.Exe = string(target[:n])
	}
	return nil
}

// Thread is one thread at one moment.
type Thread struct {
	PID, TID int
	Stat
	SchedStat
	Status
}

// Coarse reports that the kernel does not count what schedstat tells
// (CONFIG_SCHED_INFO): OnCPU is User plus System, in steps of a [Tick], and
// RunDelay and Timeslices are unknown.
func (t *Thread) Coarse() bool { return t.RunDelay < 0 }

// coarse is the account of a thread where schedstat gives none.
func (st *Stat) coarse() SchedStat { return SchedStat{st.User + st.System, -1, -1} }

// counts reports whether the kernel counts what schedstat tells. This process
// has run for certain.
func (p Proc) counts() bool {
	data, err := p.ReadFile("self/schedstat")
	if err != nil {
		_, err := p.ReadFile("self/stat")
		return err != nil // a tree without "self" does not tell
	}
	s, err := ParseSchedStat(data)
	return err == nil && s != (SchedStat{})
}

// Threads reads all threads of a process, by number. Those that end meanwhile
// are left out; [ErrGone] says that the process is not there.
func (p Proc) Threads(pid int) ([]Thread, error) {
	tids, err := p.ids("/" + strconv.Itoa(pid) + "/task")
	if err == nil && len(tids) == 0 {
		err = unix.ESRCH
	}
	if err != nil {
		return nil, about("threads of process", pid, err)
	}
	counts := p.counts()
	var found []Thread
	for _, tid := range tids {
		t := Thread{PID: pid, TID: tid}
		if err := p.thread(&t, counts); isGone(err) {
			continue
		} else if err != nil {
			return nil, about("thread", tid, err)
		}
		found = append(found, t)
	}
	return found, nil
}

func (p Proc) thread(to *Thread, counts bool) error {
	dir, err := openAt(unix.AT_FDCWD, fmt.Sprintf("%s/%d/task/%d", p.dir(), to.PID, to.TID), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	data, err := readAt(dir, "stat")
	if err != nil {
		return err
	}
	if to.Stat, err = ParseStat(data); err != nil {
		return err
	}
	if data, err = readAt(dir, "status"); err != nil {
		return err
	}
	if to.Status, err = ParseStatus(data); err != nil {
		return err
	}
	to.SchedStat = to.coarse()
	if !counts {
		return nil
	}
	if data, err = readAt(dir, "schedstat"); err != nil {
		return nil // gone now, after all else was read
	}
	s, err := ParseSchedStat(data)
	if err == nil && (s != SchedStat{} || to.OnCPU == 0) {
		to.SchedStat = s
	}
	return err
}

// ids lists the entries of a directory that are numbers, in ascending order.
func (p Proc) ids(name string) ([]int, error) {
	fd, err := openAt(unix.AT_FDCWD, p.dir()+name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	entries, err := appendEntries(nil, fd, make([]byte, 16<<10))
	var ids []int
	for _, e := range entries {
		ids = append(ids, e.id)
	}
	return sortedOnce(ids), err
}

// entry is a directory entry whose name is a number. A process keeps its
// directory's inode number while the kernel keeps the directory in mind, and
// no other process gets it.
type entry struct {
	id    int
	inode uint64
}

// appendEntries reads the entries of an open directory from its beginning
// (getdents64(2)).
func appendEntries(to []entry, fd int, buf []byte) ([]entry, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return to, err
	}
	const nameAt = 19
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return to, err
		}
		for rest := buf[:n]; len(rest) > nameAt; {
			size := int(binary.NativeEndian.Uint16(rest[16:]))
			if size <= nameAt || size > len(rest) {
				break
			}
			name := rest[nameAt:size]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			if id, ok := integer(name); ok && id > 0 && id <= maxID {
				to = append(to, entry{int(id), binary.NativeEndian.Uint64(rest)})
			}
			rest = rest[size:]
		}
	}
}
