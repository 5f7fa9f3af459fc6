//go:build linux && (386 || amd64)

package wait

// i386 are the calls of 32-bit programs on a PC, by their numbers in the kernel's
// arch/x86/entry/syscalls/syscall_32.tbl: 64-bit kernels run such programs too.
// Some come twice, the second time with times of 64 bits.
var i386 = table{
	// read and write, plain, v, 64 and v2; ioctl, connect
	3: opFile, 4: opFile, 145: opFile, 146: opFile, 180: opFile, 181: opFile, 333: opFile, 334: opFile, 378: opFile, 379: opFile,
	54: opFile, 362: opFile,
	// sendto, sendmsg, recvfrom, recvmsg, sendmmsg; recvmmsg; accept4, socketcall
	369: opFile, 370: opFile, 371: opFile, 372: opFile, 345: opFile, 337: opReceiveMany, 417: opReceiveMany, 364: opAccept, 102: opSocketCall,
	// sendfile, sendfile64; splice, copy_file_range; tee, vmsplice
	187: opTwo, 239: opTwo, 313: opSplice, 377: opSplice, 315: opPipe, 316: opPipe,
	// sync, fsync, msync, fdatasync, sync_file_range, syncfs, io_getevents, io_pgetevents
	36: opSync, 118: opSync, 144: opSync, 148: opSync, 314: opSync, 344: opSync, 247: opSync, 385: opSync, 416: opSync,
	// fcntl, fcntl64; flock, ipc, msgsnd, msgrcv; semtimedop; mq_timedsend, mq_timedreceive
	55: opControl, 221: opControl, 143: opLock, 117: opLock, 400: opLock, 401: opLock, 420: opSemaphore,
	279: opQueue, 280: opQueue, 418: opQueue, 419: opQueue,
	// futex, futex_wait, futex_waitv
	240: opFutex, 422: opFutex, 455: opFutexWait, 449: opFutexWaitv,
	// poll, ppoll; _newselect, pselect6; epoll_wait, epoll_pwait, epoll_pwait2
	168: opPoll, 309: opPpoll, 414: opPpoll, 142: opSelect, 308: opPselect, 413: opPselect, 256: opEpoll, 319: opEpoll, 441: opEpoll2,
	// nanosleep, clock_nanosleep; pause, sigsuspend, rt_sigsuspend; rt_sigtimedwait
	162: opNanosleep, 267: opClockNanosleep, 407: opClockNanosleep, 29: opSignal, 72: opSignal, 179: opSignal, 177: opSignalTimed, 421: opSignalTimed,
	// waitpid, wait4, waitid, clone, vfork, clone3
	7: opChild, 114: opChild, 284: opChild, 120: opChild, 190: opChild, 435: opChild,
}
