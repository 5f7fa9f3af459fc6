//go:build linux

package tasks

import (
	"math/bits"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here bypass Go's scheduler: that wakes a thread of its own to see to
// system calls that last, which costs many times what a short one does.

// Pread is pread(2) for the files of /proc, which the kernel makes up on the
// spot; it is nothing for files that keep their reader waiting.
func Pread(fd int, to []byte, at int64) (int, error) {
	if len(to) == 0 {
		return 0, nil
	}
	if at != 0 && bits.UintSize == 32 { // the halves of an offset are passed in many ways
		for {
			if n, err := unix.Pread(fd, to, at); err != unix.EINTR {
				return max(n, 0), err
			}
		}
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&to[0])), uintptr(len(to)), uintptr(at), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Clock reads a clock (clock_gettime(2)), 0 where there is none of that number.
func Clock(id int32) time.Duration {
	var t unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0
	}
	return time.Duration(t.Nano())
}

// countLinks gives the links of an open file.
func (f *files) countLinks(fd int) (int, error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&f.none)), unix.AT_EMPTY_PATH, unix.STATX_NLINK, uintptr(unsafe.Pointer(&f.stx)), 0)
	if errno == 0 {
		return int(f.stx.Nlink), nil
	}
	if errno != unix.ENOSYS && errno != unix.EPERM { // before Linux 4.11, and under old seccomp filters
		return 0, errno
	}
	err := unix.Fstat(fd, &f.st)
	return int(f.st.Nlink), err
}
