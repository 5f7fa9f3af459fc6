//go:build linux

package wait

import (
	"encoding/binary"
	"time"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// op is what a system call may wait for, as far as its number tells.
type op uint8

const (
	opNone op = iota // it has to be looked up in wchan
	opFile           // what stands behind its first argument
	opTwo            // the same, and the second argument
	opSplice
	opAccept
	opReceiveMany
	opControl // fcntl
	opFutex
	opFutexWait
	opFutexWaitv
	opPoll
	opPpoll
	opSelect
	opPselect
	opEpoll
	opEpoll2
	opNanosleep
	opClockNanosleep
	opSignal
	opSignalTimed
	opChild
	opLock
	opSemaphore
	opQueue
	opSync
	opPipe
	opSocketCall
)

// table is what calls may wait for, by number.
type table []op

func (t table) op(number int) op {
	if number < len(t) {
		return t[number]
	}
	return opNone
}

// common are the calls that every architecture here has; particular are the
// rest, and foreign all of programs of another word size.
var common = table{
	unix.SYS_READ: opFile, unix.SYS_READV: opFile, unix.SYS_PREAD64: opFile, unix.SYS_PREADV: opFile, unix.SYS_PREADV2: opFile,
	unix.SYS_WRITE: opFile, unix.SYS_WRITEV: opFile, unix.SYS_PWRITE64: opFile, unix.SYS_PWRITEV: opFile, unix.SYS_PWRITEV2: opFile,
	unix.SYS_RECVFROM: opFile, unix.SYS_RECVMSG: opFile, unix.SYS_RECVMMSG: opReceiveMany,
	unix.SYS_SENDTO: opFile, unix.SYS_SENDMSG: opFile, unix.SYS_SENDMMSG: opFile, unix.SYS_CONNECT: opFile,
	unix.SYS_ACCEPT4: opAccept, unix.SYS_IOCTL: opFile, unix.SYS_FCNTL: opControl, unix.SYS_FLOCK: opLock,
	unix.SYS_SENDFILE: opTwo, unix.SYS_SPLICE: opSplice, unix.SYS_COPY_FILE_RANGE: opSplice,
	unix.SYS_TEE: opPipe, unix.SYS_VMSPLICE: opPipe,
	unix.SYS_FSYNC: opSync, unix.SYS_FDATASYNC: opSync, unix.SYS_SYNC: opSync, unix.SYS_SYNCFS: opSync, unix.SYS_MSYNC: opSync,
	unix.SYS_IO_GETEVENTS: opSync, unix.SYS_IO_PGETEVENTS: opSync,
	unix.SYS_FUTEX: opFutex, unix.SYS_FUTEX_WAIT: opFutexWait, unix.SYS_FUTEX_WAITV: opFutexWaitv,
	unix.SYS_PPOLL: opPpoll, unix.SYS_PSELECT6: opPselect, unix.SYS_EPOLL_PWAIT: opEpoll, unix.SYS_EPOLL_PWAIT2: opEpoll2,
	unix.SYS_NANOSLEEP: opNanosleep, unix.SYS_CLOCK_NANOSLEEP: opClockNanosleep,
	unix.SYS_RT_SIGSUSPEND: opSignal, unix.SYS_RT_SIGTIMEDWAIT: opSignalTimed,
	unix.SYS_WAIT4: opChild, unix.SYS_WAITID: opChild, unix.SYS_CLONE: opChild, unix.SYS_CLONE3: opChild,
	unix.SYS_MSGRCV: opLock, unix.SYS_MSGSND: opLock, unix.SYS_MQ_TIMEDSEND: opQueue, unix.SYS_MQ_TIMEDRECEIVE: opQueue,
}

// op is of the call at hand.
func (r *Reader) op(number int) op {
	if r.word != wordSize {
		return foreign.op(number)
	}
	if is := common.op(number); is != opNone {
		return is
	}
	return particular.op(number)
}

// The commands of futex(2), in the kernel's include/uapi/linux/futex.h.
const (
	futexCommand       = 1<<7 - 1
	futexRealtime      = 1 << 8
	futexWait          = 0
	futexLockPI        = 6
	futexWaitBitset    = 9
	futexWaitRequeuePI = 11
	futexLockPI2       = 13
)

// The commands of fcntl(2) that wait for a lock; the second is of 32 bits only,
// and free on the others.
const (
	setLockWait   = 7
	setLockWait64 = 14
)

const (
	mostPoll   = 512  // descriptors of poll that are looked at
	mostSelect = 4096 // and of select
)

// decode finds what a call waits for.
func (r *Reader) decode(w *Wait, c *Call, t *thread, tid int, state tasks.State) {
	a := &c.Args
	switch r.op(c.Number) {
	case opFile:
		r.file(w, a[0], t, tid, state)
	case opTwo:
		r.either(w, a[0], a[1], t, tid, state)
	case opSplice:
		r.either(w, a[0], a[2], t, tid, state)
	case opAccept:
		w.Kind, w.Listening = Network, 1
	case opReceiveMany:
		r.file(w, a[0], t, tid, state)
		r.limit(w, a[4], time.Nanosecond)
	case opControl:
		switch a[1] {
		case setLockWait, setLockWait64, unix.F_OFD_SETLKW:
			w.Kind = Lock
		default:
			w.Kind = r.channel(t, tid)
		}
	case opFutex:
		r.futex(w, a)
	case opFutexWait:
		w.Kind = Lock
		r.deadline(w, a[4], int32(a[5]))
	case opFutexWaitv:
		w.Kind = Lock
		r.deadline(w, a[3], int32(a[4]))
	case opPoll:
		w.milliseconds(a[2])
		r.poll(w, a[0], a[1])
	case opPpoll:
		r.limit(w, a[2], time.Nanosecond)
		r.poll(w, a[0], a[1])
	case opSelect:
		r.limit(w, a[4], time.Microsecond)
		r.selects(w, a)
	case opPselect:
		r.limit(w, a[4], time.Nanosecond)
		r.selects(w, a)
	case opEpoll:
		w.milliseconds(a[3])
		r.epoll(w, a[0])
	case opEpoll2:
		r.limit(w, a[3], time.Nanosecond)
		r.epoll(w, a[0])
	case opNanosleep:
		w.Kind = Sleep
		r.limit(w, a[0], time.Nanosecond)
	case opClockNanosleep:
		const absolute = 1 // TIMER_ABSTIME
		w.Kind = Sleep
		if a[1]&absolute != 0 {
			r.deadline(w, a[2], int32(a[0]))
		} else {
			r.limit(w, a[2], time.Nanosecond)
		}
	case opSignal:
		w.Kind = Sleep
	case opSignalTimed:
		w.Kind = Sleep
		r.limit(w, a[2], time.Nanosecond)
	case opChild:
		w.Kind = Child
	case opLock:
		w.Kind = Lock
	case opSemaphore:
		w.Kind = Lock
		r.limit(w, a[3], time.Nanosecond)
	case opQueue:
		w.Kind = Lock
		r.deadline(w, a[4], unix.CLOCK_REALTIME)
	case opSync:
		w.Kind = Disk
	case opPipe:
		w.Kind = Pipe
	case opSocketCall:
		r.socketCall(w, a, t, tid, state)
	default:
		w.Kind = r.channel(t, tid)
	}
}

// file judges a call by the descriptor that it is for.
func (r *Reader) file(w *Wait, fd uint64, t *thread, tid int, state tasks.State) {
	is := r.target(int(int32(fd)))
	w.Kind = is.kind
	switch is.what {
	case socket:
		w.Sockets = 1
	case path:
		// Waits for a disk are seldom ended by signals; a FIFO's are, and the
		// link does not tell one from a regular file.
		if r.stateOf(tid, state) != tasks.Blocked {
			if kind := r.channel(t, tid); kind != Unknown {
				w.Kind = kind
			}
		}
	default:
		if w.Kind == Unknown {
			w.Kind = r.channel(t, tid)
		}
	}
}

// either judges a call between two descriptors: a wait that signals do not end
// is for the file among them, another for what is none.
func (r *Reader) either(w *Wait, one, other uint64, t *thread, tid int, state tasks.State) {
	state = r.stateOf(tid, state)
	blocked := state == tasks.Blocked
	first := r.target(int(int32(one))).what == path
	second := r.target(int(int32(other))).what == path
	if first != blocked && second == blocked {
		one = other
	}
	r.file(w, one, t, tid, state)
}

func (r *Reader) futex(w *Wait, a *[6]uint64) {
	w.Kind = Lock
	clock := int32(unix.CLOCK_MONOTONIC)
	if a[1]&futexRealtime != 0 {
		clock = unix.CLOCK_REALTIME
	}
	switch a[1] & futexCommand {
	case futexWait:
		r.limit(w, a[3], time.Nanosecond)
	case futexWaitBitset, futexWaitRequeuePI, futexLockPI2:
		r.deadline(w, a[3], clock)
	case futexLockPI:
		r.deadline(w, a[3], unix.CLOCK_REALTIME)
	}
}

// poll reads an array of struct pollfd: a descriptor in 32 bits and two masks
// in 16 each.
func (r *Reader) poll(w *Wait, at, n uint64) {
	const size = 8
	r.gathered = set{}
	if n > 0 {
		length := int(min(n, mostPoll)) * size
		data := r.peek(at, length)
		if len(data) < size {
			return
		}
		n := len(data) / size
		for i := range n { // the buffer is needed for the links
			r.fds[i] = int32(binary.NativeEndian.Uint32(data[i*size:]))
		}
		for _, fd := range r.fds[:n] {
			r.add(&r.gathered, int(fd))
		}
	}
	r.gathered.put(w)
}

// selects reads three fd_set, arrays of unsigned long with a bit for each
// descriptor.
func (r *Reader) selects(w *Wait, a *[6]uint64) {
	bits := 8 * r.word
	n := int(min(a[0], mostSelect))
	words := (n + bits - 1) / bits
	all := r.bits[:words]
	clear(all)
	for _, at := range a[1:4] {
		if at == 0 || n == 0 {
			continue
		}
		data := r.peek(at, words*r.word)
		if len(data) < words*r.word {
			return
		}
		for i := range all {
			all[i] |= r.long(data[i*r.word:])
		}
	}
	r.gathered = set{}
	for fd := range n {
		if all[fd/bits]>>(fd%bits)&1 != 0 {
			r.add(&r.gathered, fd)
		}
	}
	r.gathered.put(w)
}

func (r *Reader) epoll(w *Wait, fd uint64) {
	is := r.target(int(int32(fd)))
	w.Kind, w.Sockets, w.Listening, w.Own = is.kind, is.sockets, is.listening, is.own
}

// socketCall reads the arguments of socketcall(2), of which the first is the
// descriptor.
func (r *Reader) socketCall(w *Wait, a *[6]uint64, t *thread, tid int, state tasks.State) {
	const accept, accept4 = 5, 18
	if a[0] == accept || a[0] == accept4 {
		w.Kind, w.Listening = Network, 1
		return
	}
	w.Kind = Network
	if data := r.peek(a[1], r.word); len(data) == r.word {
		r.file(w, r.long(data), t, tid, state)
	}
}
