//go:build linux

package handover

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// look notes which CPU the side is on.
//
//go:nosplit
//go:norace
func (s *side) look() {
	var cpu uint32
	_, _, errno := syscall.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	if errno == 0 && cpu < cpuset.Limit {
		s.seen[cpu/64] |= 1 << (cpu % 64)
	}
}

//go:nosplit
//go:norace
func clock(id uintptr) time.Duration {
	var t unix.Timespec
	syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Sec)*time.Second + time.Duration(t.Nsec)
}

// account is what the kernel counts for a thread, at one moment.
type account struct {
	onCPU     time.Duration
	usage     unix.Rusage
	schedstat [64]byte
	length    int // of schedstat
}

//go:nosplit
//go:norace
func (a *account) take(schedstat int) {
	who := unix.RUSAGE_THREAD
	syscall.RawSyscall(unix.SYS_GETRUSAGE, uintptr(who), uintptr(unsafe.Pointer(&a.usage)), 0)
	a.onCPU = clock(unix.CLOCK_THREAD_CPUTIME_ID)
	if schedstat < 0 {
		return
	}
	syscall.RawSyscall(unix.SYS_LSEEK, uintptr(schedstat), 0, 0)
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(schedstat), uintptr(unsafe.Pointer(&a.schedstat)), unsafe.Sizeof(a.schedstat))
	if errno == 0 {
		a.length = int(n)
	}
}

func (s *side) result() Result {
	r := Result{
		Rounds:   s.rounds,
		Elapsed:  s.to - s.from,
		Switches: [2]Switches{{-1, -1}, {-1, -1}},
		OnCPU:    [2]time.Duration{-1, -1},
		RunDelay: [2]time.Duration{-1, -1},
	}
	r.OneWay = float64(r.Elapsed) / float64(2*r.Rounds)
	r.RanOn[0] = cpuset.FromUnixDynamic(s.seen[:])
	if s.plain {
		return r // the account is of threads that other goroutines had too
	}
	r.Switches[0] = Switches{
		Voluntary:   int64(s.end.usage.Nvcsw - s.begin.usage.Nvcsw),
		Involuntary: int64(s.end.usage.Nivcsw - s.begin.usage.Nivcsw),
	}
	r.OnCPU[0] = s.end.onCPU - s.begin.onCPU
	before, err1 := tasks.ParseSchedStat(s.begin.schedstat[:s.begin.length])
	after, err2 := tasks.ParseSchedStat(s.end.schedstat[:s.end.length])
	if err1 == nil && err2 == nil && before.RunDelay >= 0 && after.RunDelay >= 0 {
		r.RunDelay[0] = after.RunDelay - before.RunDelay
	}
	return r
}

// join adds what the second side saw.
func (r *Result) join(second Result) {
	r.RanOn[1], r.Switches[1], r.OnCPU[1], r.RunDelay[1] = second.RanOn[0], second.Switches[0], second.OnCPU[0], second.RunDelay[0]
}
