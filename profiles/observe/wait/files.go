//go:build linux

package wait

import (
	"debug/elf"
	"strconv"
	"unsafe"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// files opens and reads files of one process without allocating: paths and
// contents share two buffers.
type files struct {
	proc string // where the proc file system is
	root string // the directory of the process, with a slash
	path []byte
	buf  []byte
}

func newFiles(p tasks.Proc, pid int) files {
	dir := string(p)
	if dir == "" {
		dir = "/proc"
	}
	return files{proc: dir, root: dir + "/" + strconv.Itoa(pid) + "/", buf: make([]byte, 4096)}
}

// name makes the path of a file of a thread, or of the process where tid is 0,
// with the number of a descriptor behind it unless that is negative.
func (f *files) name(tid int, name string, fd int) *byte {
	path := append(f.path[:0], f.root...)
	if tid > 0 {
		path = append(strconv.AppendInt(append(path, "task/"...), int64(tid), 10), '/')
	}
	path = append(path, name...)
	if fd >= 0 {
		path = strconv.AppendInt(path, int64(fd), 10)
	}
	f.path = append(path, 0)
	return &f.path[0]
}

func (f *files) open(tid int, name string, fd int) (int, error) {
	path := f.name(tid, name, fd)
	at := unix.AT_FDCWD
	for {
		n, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// read takes what fits the buffer; the bytes are good until the next reading.
func (f *files) read(fd int) ([]byte, error) {
	n, err := tasks.Pread(fd, f.buf, 0)
	return f.buf[:n], err
}

// readOnce reads a file of the process, at most as much as the buffer holds.
func (f *files) readOnce(name string, fd int) ([]byte, error) {
	file, err := f.open(0, name, fd)
	if err != nil {
		return nil, err
	}
	data, err := f.read(file)
	unix.Close(file)
	return data, err
}

// link reads the link of a descriptor of the process.
func (f *files) link(fd int) ([]byte, error) {
	path := f.name(0, "fd/", fd)
	at := unix.AT_FDCWD
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(at), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&f.buf[0])), uintptr(len(f.buf)), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return f.buf[:n], nil
}

// elfClass gives the bits of the program of the process, 0 unknown.
func (f *files) elfClass() int {
	data, err := f.readOnce("exe", -1)
	if err != nil || len(data) <= elf.EI_CLASS || string(data[:4]) != elf.ELFMAG {
		return 0
	}
	switch elf.Class(data[elf.EI_CLASS]) {
	case elf.ELFCLASS32:
		return 32
	case elf.ELFCLASS64:
		return 64
	}
	return 0
}

func closeFile(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
		*fd = -1
	}
}

func isDenied(err error) bool    { return err == unix.EPERM || err == unix.EACCES }
func isExhausted(err error) bool { return err == unix.EMFILE || err == unix.ENFILE }
