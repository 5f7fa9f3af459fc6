//go:build linux

package affinity

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoStatus is si_status of a SIGCHLD's account: the signal that stopped or
// continued the child (sigaction(2)). The union of fields follows three ints,
// at the alignment of a pointer; in it the number comes after the pid and uid.
func siginfoStatus(info *unix.Siginfo) syscall.Signal {
	const union = (3*4 + unsafe.Sizeof(uintptr(0)) - 1) &^ (unsafe.Sizeof(uintptr(0)) - 1)
	return syscall.Signal(*(*int32)(unsafe.Add(unsafe.Pointer(info), union+2*4)))
}
