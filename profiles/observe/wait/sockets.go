//go:build linux

package wait

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

const (
	mostFdinfo = 1 << 20   // of an epoll: some 10,000 members
	mostUnix   = 256 << 10 // of net/unix: some 3,000 sockets
	mostSeen   = 8192      // sockets remembered
)

// sockets remembers which sockets of the process's network namespace listen.
type sockets struct {
	seen  map[uint64]bool // by inode: whether it listens
	next  time.Time       // not read again before
	list  []byte
	stamp uint64

	members []Target
	seed    maphash.Seed
}

func newSockets() sockets { return sockets{seen: map[uint64]bool{}, seed: maphash.MakeSeed()} }

// device gives the number of the kernel's file system of sockets, as the lines
// tfd: have it; there is one for all.
func (s *sockets) device() uint64 {
	if s.stamp == 0 {
		s.stamp = socketDevice()
	}
	return s.stamp
}

var socketDevice = sync.OnceValue(func() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ^uint64(0)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ^uint64(0)
	}
	return uint64(unix.Major(uint64(st.Dev)))<<20 | uint64(unix.Minor(uint64(st.Dev)))
})

// listens reports whether a socket waits for connections. One that cannot be
// looked up is taken for a connected one.
func (r *Reader) listens(inode uint64) bool {
	listens, known := r.sockets.seen[inode]
	if !known && !r.now.Before(r.sockets.next) {
		r.readListening()
		listens, known = r.sockets.seen[inode]
	}
	if !known && len(r.sockets.seen) < mostSeen {
		r.sockets.seen[inode] = false
	}
	return listens
}

// readListening notes the listening sockets, at most once a second. A socket
// seen before it listened is looked at anew then.
func (r *Reader) readListening() {
	began := time.Now()
	clear(r.sockets.seen)
	r.readLines("net/tcp", mostFdinfo, true)
	r.readLines("net/tcp6", mostFdinfo, true)
	r.readLines("net/unix", mostUnix, false)
	r.sockets.next = r.now.Add(max(fresh, costShare*time.Since(began)))
}

// readLines notes the listening sockets of one list. The lists of TCP begin
// with them, so that reading ends at the first other one.
func (r *Reader) readLines(name string, most int64, tcp bool) {
	file, err := r.open(0, name, -1)
	if err != nil {
		return
	}
	defer unix.Close(file)
	kept := 0
	first := true
	for at := int64(0); at < most && len(r.sockets.seen) < mostSeen; {
		n, err := tasks.Pread(file, r.buf[kept:], at)
		if err != nil || n == 0 {
			return
		}
		at += int64(n)
		data := r.buf[:kept+n]
		for {
			end := bytes.IndexByte(data, '\n')
			if end < 0 {
				break
			}
			line := data[:end]
			data = data[end+1:]
			if first { // the heading
				first = false
				continue
			}
			inode, listens := parseSocket(line, tcp)
			if listens {
				r.sockets.seen[inode] = true
			} else if tcp {
				return
			}
		}
		kept = copy(r.buf, data)
		if kept == len(r.buf) {
			return
		}
	}
}

// parseSocket reads a line of net/tcp, whose fourth word is the state and whose
// tenth is the inode, or of net/unix, whose fourth word are the flags and whose
// seventh is the inode.
func parseSocket(line []byte, tcp bool) (inode uint64, listens bool) {
	const (
		tcpListen  = 0x0A
		acceptsCon = 1 << 16 // __SO_ACCEPTCON
	)
	last := 7
	if tcp {
		last = 10
	}
	for at := 1; at <= last; at++ {
		var field []byte
		field, line = cutSpace(line)
		switch at {
		case 4:
			flags, ok := hexadecimal(field)
			if listens = ok && (tcp && flags == tcpListen || !tcp && flags&acceptsCon != 0); !listens {
				return 0, false
			}
		case last:
			n, ok := decimal(field)
			return uint64(n), ok && n > 0
		}
	}
	return 0, false
}
