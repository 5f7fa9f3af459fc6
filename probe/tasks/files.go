//go:build linux

package tasks

import (
	"bytes"
	"math"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// descriptor is a file kept open: its number plus one, so that the zero value
// has none. The files of /proc are read anew from the start at every pread(2),
// and answer ESRCH once the thread that they were opened for has ended.
type descriptor int32

// files opens and reads the files of a [Sampler].
type files struct {
	proc       Proc
	kept, most int // descriptors
	path, buf  []byte
	st         unix.Stat_t
	stx        unix.Statx_t
	none       byte // an empty text of C
}

// spared are descriptors that are left to the program that watches.
const spared = 24

func newFiles(p Proc) files {
	f := files{proc: p, buf: make([]byte, 32<<10)}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		// Half, and where there are few all but those that a program needs itself.
		f.most = int(min(limit.Cur/2, max(limit.Cur, spared)-spared, math.MaxInt32))
	}
	return f
}

// open opens the file name of a thread, of a process where tid is 0, or of
// none. Where descriptors have run out, it gives up half of those kept.
func (s *Sampler) open(pid, tid int, name string, flags int) (int, error) {
	path := append(s.path[:0], s.proc.dir()...)
	if pid > 0 {
		path = strconv.AppendInt(append(path, '/'), int64(pid), 10)
	}
	if tid > 0 {
		path = strconv.AppendInt(append(path, "/task/"...), int64(tid), 10)
	}
	path = append(append(append(path, '/'), name...), 0)
	s.path = path
	for {
		// unix.Openat would copy the path.
		at := unix.AT_FDCWD
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&path[0])),
			uintptr(flags|unix.O_RDONLY|unix.O_CLOEXEC), 0, 0, 0)
		switch {
		case errno == 0:
			return int(fd), nil
		case errno == unix.EINTR:
		case (errno == unix.EMFILE || errno == unix.ENFILE) && s.shed():
		default:
			return -1, errno
		}
	}
}

// shed closes half of the descriptors, those of the costly but rarer reading
// first, and sees to it that no more are kept from now on. It reports whether
// there was one to close.
func (s *Sampler) shed() bool {
	before := s.kept
	s.most = before / 2
	for _, t := range s.live {
		if s.kept > s.most {
			s.close(&t.stat)
		}
	}
	for _, t := range s.live {
		if s.kept > s.most {
			s.close(&t.schedstat)
		}
	}
	for _, p := range s.procs {
		if s.kept > s.most {
			s.close(&p.task)
		}
	}
	if s.kept > s.most {
		s.close(&s.loadavg)
	}
	return s.kept < before
}

// hold gives an open descriptor of a file, from d or to be kept in d; where no
// more may be kept, it is to be given to release.
func (s *Sampler) hold(d *descriptor, pid, tid int, name string, flags int) (fd int, kept bool, err error) {
	if *d > 0 {
		return int(*d) - 1, true, nil
	}
	if fd, err = s.open(pid, tid, name, flags); err != nil {
		return -1, false, err
	}
	if s.kept >= s.most {
		return fd, false, nil
	}
	s.kept++
	*d = descriptor(fd + 1)
	return fd, true, nil
}

func (s *Sampler) release(fd int, kept bool) {
	if !kept {
		unix.Close(fd)
	}
}

func (s *Sampler) close(d *descriptor) {
	if *d > 0 {
		unix.Close(int(*d) - 1)
		s.kept--
		*d = 0
	}
}

// read reads a file through a descriptor that is kept if one can be spared.
// The bytes are good until the next reading.
func (s *Sampler) read(d *descriptor, pid, tid int, name string) ([]byte, error) {
	fd, kept, err := s.hold(d, pid, tid, name, 0)
	if err != nil {
		return nil, err
	}
	data, err := s.pread(fd)
	s.release(fd, kept)
	return data, err
}

// readOnce is read for what is read too rarely to keep open.
func (s *Sampler) readOnce(pid, tid int, name string) ([]byte, error) {
	fd, err := s.open(pid, tid, name, 0)
	if err != nil {
		return nil, err
	}
	data, err := s.pread(fd)
	unix.Close(fd)
	return data, err
}

// pread takes a whole file in one call, as the short files of /proc give it.
func (s *Sampler) pread(fd int) ([]byte, error) {
	for {
		n, err := Pread(fd, s.buf, 0)
		switch {
		case err != nil:
			return nil, err
		case n == len(s.buf) && n < maxFile:
			s.buf = make([]byte, 2*n)
		default:
			return s.buf[:n], nil
		}
	}
}

// readNewest gives the number of the process or thread that the machine made
// last, the last field of /proc/loadavg. It is told of this process's PID
// namespace; where another one's is mounted, the slow look finds the births.
func (s *Sampler) readNewest() (int64, error) {
	data, err := s.read(&s.loadavg, 0, 0, "loadavg")
	if err != nil {
		return 0, err
	}
	data = bytes.TrimRight(data, " \n")
	n, ok := integer(data[bytes.LastIndexByte(data, ' ')+1:])
	if !ok {
		return 0, unix.EINVAL
	}
	return n, nil
}
