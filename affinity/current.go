//go:build linux

package affinity

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
)

// Current is the CPU that the calling thread is on; a moment later it can be on
// another unless it is pinned (getcpu(2)).
func Current() (cpuset.CPU, error) {
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return 0, fmt.Errorf("ask for the current CPU (getcpu): %w", errno)
	}
	return cpuset.CPU(cpu), nil
}
