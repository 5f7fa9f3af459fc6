//go:build linux

package experiment

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/tasks"
)

// usage is what the kernel has counted for a thread or a process, in nanoseconds.
type usage struct {
	at, onCPU, runDelay    int64
	voluntary, involuntary int64
}

// account reads the calling thread's usage, or that of its process.
type account struct {
	clock     int32
	who       int
	schedstat int // descriptor; -1: the kernel does not tell (CONFIG_SCHED_INFO)
	buf       [128]byte
}

func openAccount(process bool) *account {
	a := &account{unix.CLOCK_THREAD_CPUTIME_ID, unix.RUSAGE_THREAD, -1, [128]byte{}}
	if process {
		a.clock, a.who = unix.CLOCK_PROCESS_CPUTIME_ID, unix.RUSAGE_SELF
		return a
	}
	if fd, err := unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		a.schedstat = fd
	}
	return a
}

func (a *account) close() {
	if a.schedstat >= 0 {
		unix.Close(a.schedstat)
	}
}

func (a *account) read(t int64) usage {
	u := usage{at: t}
	var ts unix.Timespec
	unix.ClockGettime(a.clock, &ts) // schedstat's own figure can be a tick old
	u.onCPU = ts.Nano()
	var ru unix.Rusage
	unix.Getrusage(a.who, &ru)
	u.voluntary, u.involuntary = int64(ru.Nvcsw), int64(ru.Nivcsw)
	if a.schedstat >= 0 {
		if n, err := unix.Pread(a.schedstat, a.buf[:], 0); err == nil {
			if f := strings.Fields(string(a.buf[:n])); len(f) > 1 {
				u.runDelay, _ = strconv.ParseInt(f[1], 10, 64)
			}
		}
	}
	return u
}

// cpuTimeOf is the CPU time of a process with the threads that have ended; 0 is
// this one, and the time of one that is gone is 0. The clock's number is made as
// clock_getcpuclockid(3) does.
func cpuTimeOf(pid int) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// waitedFor is the CPU time of a process's children that have ended (cutime and
// cstime of proc(5), /proc/PID/stat), in steps of a tick.
func waitedFor(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 15 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[13], 10, 64)
	system, _ := strconv.ParseInt(fields[14], 10, 64)
	return time.Duration(user+system) * tasks.Tick
}
