package root

import (
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

var errNotDir error = unix.ENOTDIR

// Live is this system's own files.
func Live() *Root {
	return &Root{Dir: &osDir{fd: unix.AT_FDCWD, path: "/", tree: &osTree{}}, Live: true, Name: "/"}
}

// openDir opens a directory on disk as a root.
func openDir(name string) (*Root, error) {
	top, err := os.OpenRoot(name)
	if err != nil {
		return nil, openError(name, err)
	}
	fd, err := unix.Open(name, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_RDONLY, 0)
	if err != nil {
		top.Close()
		return nil, openError(name, err)
	}
	return &Root{Dir: &osDir{fd: fd, path: "/", tree: &osTree{top: top, topFD: fd}}, Name: name}, nil
}

// osTree is what the directories of one root share.
type osTree struct {
	top   *os.Root // nil for the live system, where the kernel's links are trusted
	topFD int
}

// osDir is a directory handle, so that a file costs one open whatever its depth.
type osDir struct {
	fd   int
	path string
	tree *osTree
}

func (d *osDir) Path() string { return d.path }

// join makes the path of an entry; callers give clean names.
func (d *osDir) join(name string) string {
	return strings.TrimSuffix(d.path, "/") + "/" + strings.TrimLeft(name, "/")
}

// local makes name relative to the handle.
func local(name string) string {
	if name = strings.TrimLeft(name, "/"); name == "" {
		return "."
	}
	return name
}

// Open makes a handle that serves only as a place to start from: opening a
// directory for reading costs more than the files in it.
func (d *osDir) Open(name string) (Dir, error) {
	fd, err := d.openat(name, unix.O_DIRECTORY|unix.O_PATH)
	if err != nil {
		return nil, pathError("open", d.join(name), err)
	}
	return &osDir{fd: fd, path: d.join(name), tree: d.tree}, nil
}

func (d *osDir) Close() error {
	if d.fd < 0 || d.fd == d.tree.topFD {
		if d.tree.top == nil || d.fd < 0 {
			return nil
		}
		d.tree.top.Close()
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return err
}

// openat opens name below the handle. In a dump no step may leave the root:
// openat2(2) with RESOLVE_BENEATH sees to it, first from the handle and, for a
// link that climbs above the handle, from the top. Where the kernel has no
// openat2, os.Root does the same in more steps.
func (d *osDir) openat(name string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_RDONLY | unix.O_NONBLOCK // a FIFO in a dump must not block
	}
	if d.tree.top == nil {
		at := local(name)
		if d.fd == unix.AT_FDCWD {
			at = "/" + at
		}
		return retry(func() (int, error) { return unix.Openat(d.fd, at, flags, 0) })
	}
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(d.fd, local(name), &how) })
	if err == unix.EXDEV && d.fd != d.tree.topFD {
		fd, err = retry(func() (int, error) { return unix.Openat2(d.tree.topFD, local(d.join(name)), &how) })
	}
	switch err {
	case unix.EXDEV:
		return -1, ErrOutside
	case unix.ENOSYS, unix.EPERM: // an old kernel, or a seccomp filter
		return d.tree.openSlowly(d.join(name), flags)
	}
	return fd, err
}

func (t *osTree) openSlowly(full string, flags int) (int, error) {
	f, err := t.top.OpenFile(local(full), flags&^unix.O_CLOEXEC, 0)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		if err.Error() == "path escapes from parent" { // os.Root has no exported error for it
			err = ErrOutside
		}
		return -1, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
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
