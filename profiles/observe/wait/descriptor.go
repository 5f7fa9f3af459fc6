//go:build linux

package wait

import (
	"bytes"
	"hash/maphash"
	"time"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// target is what a descriptor of the process stands for.
type target struct {
	kind      Kind
	what      special
	inode     uint64 // of a socket or pipe
	sockets   int    // connected ones: in an epoll, or itself
	listening int
	own       int
	counted   bool      // a socket that is one of these
	digest    uint64    // of the list of an epoll
	until     time.Time // believed until then
	asked     time.Time
}

// special marks descriptors that are treated apart.
type special uint8

const (
	plain special = iota
	socket
	epoll
	pipe
	signals // a signalfd
	path    // a file by its name: a regular one mostly, else a FIFO
)

// target looks up a descriptor, in what is known of it for a while.
func (r *Reader) target(fd int) *target {
	t := r.targets[fd]
	if t == nil {
		t = &target{}
		r.targets[fd] = t
	}
	t.asked = r.now
	if r.now.Before(t.until) {
		return t
	}
	was := *t
	*t = target{until: r.now.Add(fresh), asked: r.now}
	link, err := r.link(fd)
	if err != nil {
		return t
	}
	t.kind, t.what, t.inode = linkKind(link)
	switch t.what {
	case epoll:
		r.readEpoll(fd, t, &was)
	case signals:
		t.kind = r.signalKind(fd)
	}
	return t
}

var (
	socketPrefix = []byte("socket:[")
	pipePrefix   = []byte("pipe:[")
	anonPrefix   = []byte("anon_inode:")
	devPrefix    = []byte("/dev/")
)

// linkKind judges by a link in /proc/PID/fd (proc_pid_fd(5)).
func linkKind(link []byte) (Kind, special, uint64) {
	if number, ok := bytes.CutPrefix(link, socketPrefix); ok {
		return Network, socket, inodeOf(number)
	}
	if number, ok := bytes.CutPrefix(link, pipePrefix); ok {
		return Pipe, pipe, inodeOf(number)
	}
	if name, ok := bytes.CutPrefix(link, anonPrefix); ok {
		return anonKind(name)
	}
	if name, ok := bytes.CutPrefix(link, devPrefix); ok {
		switch {
		case containsText(name[:min(4, len(name))], "shm/"):
			return Disk, path, 0
		case bytes.HasPrefix(name, []byte("tty")), bytes.HasPrefix(name, []byte("pts/")), string(name) == "console", string(name) == "ptmx":
			return Terminal, plain, 0
		}
		return Device, plain, 0
	}
	switch {
	case bytes.HasPrefix(link, []byte("pidfd:")):
		return Child, plain, 0
	case bytes.HasPrefix(link, []byte("/proc/")), bytes.HasPrefix(link, []byte("/sys/")):
		return Event, plain, 0
	case len(link) > 0 && link[0] == '/':
		return Disk, path, 0
	}
	return Other, plain, 0
}

func anonKind(name []byte) (Kind, special, uint64) {
	switch {
	case containsText(name, "eventpoll"):
		return Event, epoll, 0
	case containsText(name, "timerfd"):
		return Sleep, plain, 0
	case containsText(name, "pidfd"):
		return Child, plain, 0
	case containsText(name, "kvm"), containsText(name, "vfio"):
		return Device, plain, 0
	case containsText(name, "eventfd"):
		return Wakeup, plain, 0
	case containsText(name, "signalfd"):
		return Event, signals, 0
	case containsText(name, "inotify"), containsText(name, "fanotify"),
		containsText(name, "userfaultfd"), containsText(name, "perf_event"):
		return Event, plain, 0
	}
	return Other, plain, 0
}

func inodeOf(number []byte) uint64 {
	n, ok := decimal(bytes.TrimRight(number, "]"))
	if !ok {
		return 0
	}
	return uint64(n)
}

// readEpoll counts the sockets in the set of an epoll, and where there are none
// it looks for what else is there, once for each list. The kernel makes the
// whole text at every reading, so a long one is read rarely.
func (r *Reader) readEpoll(fd int, t, was *target) {
	began := time.Now()
	file, err := r.open(0, "fdinfo/", fd)
	if err != nil {
		return
	}
	if r.sockets.list == nil {
		r.sockets.list = make([]byte, 16<<10)
	}
	n, err := tasks.Pread(file, r.sockets.list, 0)
	for err == nil && n == len(r.sockets.list) && n < mostFdinfo {
		r.sockets.list = make([]byte, 4*n)
		n, err = tasks.Pread(file, r.sockets.list, 0)
	}
	unix.Close(file)
	if err != nil {
		return
	}
	t.digest = maphash.Bytes(r.sockets.seed, r.sockets.list[:n])
	if was.what == epoll && was.digest == t.digest && was.kind != Network {
		t.kind, t.own = was.kind, was.own
		return
	}
	if r.sockets.members, err = ParseFdinfoTargets(r.sockets.members[:0], r.sockets.list[:n]); err != nil {
		return
	}
	for _, m := range r.sockets.members {
		switch {
		case m.Inode == 0: // an old kernel
			if link, err := r.link(m.FD); err == nil {
				if _, what, inode := linkKind(link); what == socket {
					r.count(t, m.FD, inode)
				}
			}
		case m.Device == r.sockets.device():
			r.count(t, m.FD, m.Inode)
		}
	}
	switch {
	case t.sockets+t.listening > 0:
		t.kind = Network
	case r.onlyWakers(r.sockets.members):
		t.kind = Wakeup
	}
	if cost := time.Since(began); cost*costShare > fresh {
		t.until = r.now.Add(cost * costShare)
	}
}

// count adds a socket to a set.
func (r *Reader) count(t *target, fd int, inode uint64) {
	switch {
	case r.listens(inode):
		t.listening++
	case r.isOwn(fd, inode):
		t.own++
	default:
		t.sockets++
	}
}

// isOwn reports whether a socket is one end of a socketpair whose other end the
// process holds too, as event loops have it to wake themselves. The kernel does
// not tell a socket's peer; two Unix sockets with inodes and descriptors next to
// each other are taken for a pair. The line scm_fds is theirs alone.
func (r *Reader) isOwn(fd int, inode uint64) bool {
	if inode == 0 {
		return false
	}
	for _, peer := range [...]int{fd - 1, fd + 1} {
		if peer < 0 {
			continue
		}
		link, err := r.link(peer)
		if err != nil {
			continue
		}
		_, what, other := linkKind(link)
		if what != socket || other != inode-1 && other != inode+1 {
			continue
		}
		if r.isUnix(fd) && r.isUnix(peer) {
			return true
		}
	}
	return false
}

func (r *Reader) isUnix(fd int) bool {
	info, err := r.readOnce("fdinfo/", fd)
	return err == nil && containsText(info, "scm_fds:")
}

// set gathers what a wait for several descriptors is for.
type set struct {
	target
	members int
	kinds   [Other + 1]bool
}

// add adds a descriptor to a set.
func (r *Reader) add(s *set, fd int) {
	if fd < 0 {
		return
	}
	s.members++
	t := r.target(fd)
	kind := t.kind
	switch t.what {
	case socket, epoll:
		if t.what == socket && !t.counted {
			t.counted = true
			r.count(t, fd, t.inode)
		}
		if t.what == socket && t.own > 0 {
			kind = Wakeup
		}
		s.sockets += t.sockets
		s.listening += t.listening
		s.own += t.own
	case pipe:
		if r.isWhole(fd, t.inode) {
			kind = Wakeup
		}
	case path:
		kind = Pipe // a regular file is always ready
	}
	s.kinds[kind] = true
}

// rank is the order in which the members name a set: what a program works with
// before what wakes it.
var rank = [...]Kind{Network, Pipe, Terminal, Device, Child, Event, Sleep, Wakeup, Other}

func (s *set) put(w *Wait) {
	w.Sockets, w.Listening, w.Own = s.sockets, s.listening, s.own
	if s.members == 0 {
		w.Kind = Sleep // a pause by means of poll or select
		return
	}
	for _, kind := range rank {
		if s.kinds[kind] {
			w.Kind = kind
			return
		}
	}
}
