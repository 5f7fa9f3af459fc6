//go:build linux

package tasks

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Tick is the unit in which the kernel tells most times, USER_HZ: a hundredth
// of a second on every architecture that Go runs on (time(7)).
const Tick = 10 * time.Millisecond

// Proc is the directory where a proc file system is mounted; empty means
// /proc.
type Proc string

// maxFile is the most that is read of one file. The longest are the
// numa_maps of a process with as many mappings as the kernel allows.
const maxFile = 16 << 20

// ErrGone says that a process or thread is not there: it ended, it never was,
// or hidepid hides it (proc(5)).
var ErrGone = errors.New("not there: ended, or hidden from this user by the mount option hidepid")

func (p Proc) dir() string {
	if p == "" {
		return "/proc"
	}
	return string(p)
}

// ReadFile reads one file below the directory, such as "7/task/9/wchan".
func (p Proc) ReadFile(name string) ([]byte, error) {
	path := p.dir() + "/" + name
	data, err := readAt(unix.AT_FDCWD, path)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data, nil
}

// readAt reads the file name below the directory at.
func readAt(at int, name string) ([]byte, error) {
	fd, err := openAt(at, name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return data, nil
		case len(data)+n > maxFile:
			return nil, fmt.Errorf("longer than %d bytes, which no such file should be", maxFile)
		default:
			if data = data[:len(data)+n]; len(data) == cap(data) {
				data = append(make([]byte, 0, 4*cap(data)), data...)
			}
		}
	}
}

func openAt(at int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// isGone reports whether an error of a file of a process says that the process
// or thread is no more: not found by name, or dead behind an open descriptor.
func isGone(err error) bool { return err == unix.ENOENT || err == unix.ESRCH }

func about(what string, id int, err error) error {
	if isGone(err) {
		err = ErrGone
	}
	return fmt.Errorf("read %s %d: %w", what, id, err)
}

// Members lists the processes of one control group, given its directory, in
// ascending order and without those of the groups below it: the file
// cgroup.procs of both versions (cgroups(7)). A threaded group of version 2
// lists only threads; their processes are given.
func (p Proc) Members(group string) ([]int, error) {
	name := group + "/cgroup.procs"
	data, err := readAt(unix.AT_FDCWD, name)
	threaded := err == unix.EOPNOTSUPP
	if threaded {
		name = group + "/cgroup.threads"
		data, err = readAt(unix.AT_FDCWD, name)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	var ids []int
	for len(data) > 0 {
		var field []byte
		if field, data = cut(data); len(field) == 0 {
			break
		}
		id, ok := integer(field)
		if !ok || id < 0 || id > maxID {
			return nil, fmt.Errorf("read %s: %.20q is not the number of a process", name, field)
		}
		if id == 0 {
			continue // of a PID namespace that cannot be seen from here
		}
		if threaded {
			status, err := p.ReadFile(strconv.Itoa(int(id)) + "/status")
			if err != nil {
				continue
			}
			if id = statusNumber(status, "Tgid:"); id <= 0 {
				continue
			}
		}
		ids = append(ids, int(id))
	}
	return sortedOnce(ids), nil
}
