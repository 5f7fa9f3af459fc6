//go:build linux

package wait

import "golang.org/x/sys/unix"

var particular = table{
	unix.SYS_POLL: opPoll, unix.SYS_SELECT: opSelect, unix.SYS_EPOLL_WAIT: opEpoll, unix.SYS_PAUSE: opSignal, unix.SYS_SIGSUSPEND: opSignal,
	unix.SYS_VFORK: opChild, unix.SYS_SEMTIMEDOP: opSemaphore, unix.SYS_IPC: opLock, unix.SYS_SOCKETCALL: opSocketCall,
	unix.SYS_SYNC_FILE_RANGE: opSync,
}
