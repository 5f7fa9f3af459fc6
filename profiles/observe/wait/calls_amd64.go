//go:build linux

package wait

import "golang.org/x/sys/unix"

var foreign = i386

var particular = table{
	unix.SYS_POLL: opPoll, unix.SYS_SELECT: opSelect, unix.SYS_EPOLL_WAIT: opEpoll, unix.SYS_PAUSE: opSignal,
	unix.SYS_ACCEPT: opAccept, unix.SYS_VFORK: opChild, unix.SYS_SEMOP: opLock, unix.SYS_SEMTIMEDOP: opSemaphore,
	unix.SYS_SYNC_FILE_RANGE: opSync,
}
