//go:build linux

package wait

import (
	"strconv"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// onlyWakers reports whether the set of an epoll, in which there are no sockets
// but the process's own, has nothing in it that makes a [Wakeup] of something else.
func (r *Reader) onlyWakers(members []Target) bool {
	for _, m := range members {
		link, err := r.link(m.FD)
		if err != nil {
			return false
		}
		kind, what, inode := linkKind(link)
		switch what {
		case socket:
			continue
		case pipe:
			if r.isWhole(m.FD, inode) {
				continue
			}
		case signals:
			kind = r.signalKind(m.FD)
		}
		if kind != Wakeup {
			return false
		}
	}
	return len(members) > 0
}

// fromKernel are the signals that nobody sends but the kernel: of children,
// timers and descriptors that are ready.
const fromKernel uint64 = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGALRM-1) | 1<<(unix.SIGVTALRM-1) | 1<<(unix.SIGPROF-1) | 1<<(unix.SIGIO-1)

// signalKind tells a signalfd by which another process wakes this one.
func (r *Reader) signalKind(fd int) Kind {
	info, err := r.readOnce("fdinfo/", fd)
	if err != nil {
		return Event
	}
	if mask, ok := parseSignals(info); !ok || mask&fromKernel != 0 {
		return Event
	}
	return Wakeup
}

// isWhole reports whether a pipe is the program's own. Its process holds both
// ends, as to wake itself; or the parent does, under the numbers that were
// inherited, as to be missed when it ends or to hand out turns. Of a pipe that
// brings data from one process to another, each keeps one end.
func (r *Reader) isWhole(fd int, inode uint64) bool {
	whole, known := r.pipes[inode]
	if known {
		return whole
	}
	whole = r.holdsBoth(fd, inode)
	if !whole {
		if data, err := r.readOnce("stat", -1); err == nil {
			if stat, err := tasks.ParseStat(data); err == nil && stat.Parent > 0 {
				parent := r.files
				parent.root = r.proc + "/" + strconv.Itoa(stat.Parent) + "/"
				whole = parent.holdsBoth(fd, inode)
			}
		}
	}
	if len(r.pipes) < mostSeen {
		r.pipes[inode] = whole
	}
	return whole
}

// holdsBoth reports whether a process has both ends of a pipe open, numbered
// one after the other as pipe(2) does unless files were closed before. To look
// at all its descriptors would cost too much.
func (f *files) holdsBoth(fd int, inode uint64) bool {
	one, ok := f.end(fd, inode)
	if !ok {
		return false
	}
	for _, next := range [...]int{fd - 1, fd + 1} {
		if other, ok := f.end(next, inode); ok && other != one {
			return true
		}
	}
	return false
}

// end gives the access mode of a descriptor that is of a pipe.
func (f *files) end(fd int, inode uint64) (mode uint64, ok bool) {
	if fd < 0 {
		return 0, false
	}
	link, err := f.link(fd)
	if err != nil {
		return 0, false
	}
	if _, what, number := linkKind(link); what != pipe || number != inode {
		return 0, false
	}
	info, err := f.readOnce("fdinfo/", fd)
	if err != nil {
		return 0, false
	}
	return parseAccess(info)
}
