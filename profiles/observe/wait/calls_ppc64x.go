//go:build linux && (ppc64 || ppc64le)

package wait

import "golang.org/x/sys/unix"

var particular = table{
	unix.SYS_POLL: opPoll, unix.SYS__NEWSELECT: opSelect, unix.SYS_EPOLL_WAIT: opEpoll, unix.SYS_PAUSE: opSignal, unix.SYS_SIGSUSPEND: opSignal,
	unix.SYS_ACCEPT: opAccept, unix.SYS_RECV: opFile, unix.SYS_SEND: opFile, unix.SYS_VFORK: opChild, unix.SYS_WAITPID: opChild,
	unix.SYS_SEMTIMEDOP: opSemaphore, unix.SYS_IPC: opLock, unix.SYS_SOCKETCALL: opSocketCall, unix.SYS_SYNC_FILE_RANGE2: opSync,
}
