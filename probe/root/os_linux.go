package root

import (
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Live is this system's own files.
func Live() *Root {
	return &Root{Dir: &osDir{fd: unix.AT_FDCWD, top: unix.AT_FDCWD, path: "/"}, Live: true, Name: "/"}
}

// openDir opens a directory on disk as a root.
func openDir(name string) (*Root, error) {
	fd, err := unix.Open(name, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_RDONLY, 0)
	if err != nil {
		return nil, openError(name, err)
	}
	top := &osDir{fd: fd, top: fd, path: "/"}
	probe, err := top.openat(".", unix.O_DIRECTORY|unix.O_PATH)
	if err == unix.ENOSYS || err == unix.EPERM { // a kernel before 5.6, or a seccomp filter
		top.Close()
		return openSlowly(name)
	}
	if err != nil {
		top.Close()
		return nil, openError(name, err)
	}
	unix.Close(probe)
	return &Root{Dir: top, Name: name}, nil
}

// osDir is a directory handle, so that a file costs one open whatever its depth.
type osDir struct {
	fd   int
	top  int // the root's own handle; AT_FDCWD for the live system, where the kernel's links are trusted
	path string
}

func (d *osDir) Path() string { return d.path }

// join makes the path of an entry; callers give clean names.
func (d *osDir) join(name string) string {
	return strings.TrimSuffix(d.path, "/") + "/" + strings.TrimLeft(name, "/")
}

// Open makes a handle that serves only as a place to start from: opening a
// directory for reading costs more than the files in it.
func (d *osDir) Open(name string) (Dir, error) {
	fd, err := d.openat(name, unix.O_DIRECTORY|unix.O_PATH)
	if err != nil {
		return nil, pathError("open", d.join(name), err)
	}
	return &osDir{fd: fd, top: d.top, path: d.join(name)}, nil
}

func (d *osDir) Close() error {
	if d.fd < 0 { // closed, or AT_FDCWD
		return nil
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return err
}

// openat opens name below the handle. In a dump no step may leave the root:
// openat2(2) with RESOLVE_BENEATH sees to it, first from the handle and, for a
// link that climbs above the handle, from the top.
func (d *osDir) openat(name string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 {
		// A FIFO in a dump must not block, and a large file is one on 32-bit systems too.
		flags |= unix.O_RDONLY | unix.O_NONBLOCK | unix.O_LARGEFILE
	}
	if d.top == unix.AT_FDCWD {
		at := local(name)
		if d.fd == unix.AT_FDCWD {
			at = "/" + at
		}
		return retry(func() (int, error) { return unix.Openat(d.fd, at, flags, 0) })
	}
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(d.fd, local(name), &how) })
	if err == unix.EXDEV && d.fd != d.top {
		fd, err = retry(func() (int, error) { return unix.Openat2(d.top, local(d.join(name)), &how) })
	}
	if err == unix.EXDEV {
		err = ErrOutside
	}
	return fd, err
}

// retry tries again after a signal or, as openat2(2) asks, after a race with a
// rename; a file that stays busy ends it.
func retry(call func() (int, error)) (n int, err error) {
	for range 100 {
		n, err = call()
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	return n, err
}

func (d *osDir) ReadFile(name string) (string, error) {
	fd, err := d.openat(name, 0)
	if err != nil {
		return "", pathError("open", d.join(name), err)
	}
	defer unix.Close(fd)
	page := pages.Get().(*[4096]byte) // one is all that most sysfs files can hold
	defer pages.Put(page)
	n, err := retry(func() (int, error) { return unix.Read(fd, page[:]) })
	if err != nil {
		return "", pathError("read", d.join(name), err)
	}
	// Only the files of /proc can end a read before their own end.
	if n < len(page) && !strings.HasPrefix(d.path, "/proc") && !strings.HasPrefix(local(name), "proc/") {
		return string(page[:n]), nil
	}
	data := append(make([]byte, 0, 4*len(page)), page[:n]...)
	for len(data) <= MaxFile {
		if cap(data)-len(data) < len(page) {
			data = append(make([]byte, 0, 4*cap(data)), data...)
		}
		n, err := readFull(fd, data[len(data):cap(data)])
		if err != nil {
			return "", pathError("read", d.join(name), err)
		}
		if n == 0 {
			return string(data), nil
		}
		data = data[:len(data)+n]
	}
	return "", pathError("read", d.join(name), ErrTooLarge)
}

func (d *osDir) ReadHead(name string, n int) (string, error) {
	fd, err := d.openat(name, 0)
	if err != nil {
		return "", pathError("open", d.join(name), err)
	}
	defer unix.Close(fd)
	b := make([]byte, n)
	n, err = readFull(fd, b)
	if err != nil {
		return "", pathError("read", d.join(name), err)
	}
	return string(b[:n]), nil
}

var pages = sync.Pool{New: func() any { return new([4096]byte) }}

// readFull fills b as far as the file goes.
func readFull(fd int, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

func (d *osDir) Names() ([]string, error) {
	fd, err := d.openat(".", unix.O_DIRECTORY)
	if err != nil {
		return nil, pathError("open", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

func (d *osDir) ReadLink(name string) (string, error) {
	dir, base := path.Split(local(name))
	at := d.fd
	if dir != "" || d.fd == unix.AT_FDCWD {
		fd, err := d.openat(dir, unix.O_DIRECTORY)
		if err != nil {
			return "", pathError("readlink", d.join(name), err)
		}
		defer unix.Close(fd)
		at = fd
	}
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(at, base, buf)
	if err != nil {
		return "", pathError("readlink", d.join(name), err)
	}
	return string(buf[:n]), nil
}
