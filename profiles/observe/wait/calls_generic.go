//go:build linux && (arm64 || riscv64 || loong64)

package wait

import "golang.org/x/sys/unix"

var particular = table{
	unix.SYS_ACCEPT: opAccept, unix.SYS_SEMOP: opLock, unix.SYS_SEMTIMEDOP: opSemaphore, unix.SYS_SYNC_FILE_RANGE: opSync,
}
