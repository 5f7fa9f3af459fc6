package probe

import (
	"fmt"
	"slices"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// Affinity is the set of CPUs that a thread of the live system may run on, as
// the kernel answers; 0 is the calling thread, and a process's number is its
// first thread's. The error of a thread that is gone wraps unix.ESRCH.
func Affinity(tid int) (cpuset.Set, error) { return new(Masks).Affinity(tid) }

// Masks asks for the affinity of many threads. Most of a machine's are alike, so
// an answer that equals the one before costs the system call alone. The zero
// value is ready.
type Masks struct {
	now, last unix.CPUSetDynamic
	set       cpuset.Set // of last
}

// Affinity is as the function of that name.
func (m *Masks) Affinity(tid int) (cpuset.Set, error) {
	if m.now == nil {
		m.now = unix.NewCPUSet(1024)
	}
	for {
		err := unix.SchedGetaffinityDynamic(tid, m.now)
		if err == nil {
			break
		}
		if err != unix.EINVAL {
			return cpuset.Set{}, fmt.Errorf("sched_getaffinity of %s: %w", threadName(tid), err)
		}
		// The kernel refuses a buffer that is shorter than its own mask.
		bits := 4 * 64 * len(m.now)
		if bits > cpuset.Limit {
			return cpuset.Set{}, fmt.Errorf("sched_getaffinity: the kernel's mask is over the limit of %d CPUs", cpuset.Limit)
		}
		m.now = unix.NewCPUSet(bits)
	}
	if !slices.Equal(m.now, m.last) {
		m.set = cpuset.FromUnixDynamic(m.now)
		m.last = append(m.last[:0], m.now...)
	}
	return m.set, nil
}

// machineName is the architecture, as uname -m prints it.
func machineName() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Machine[:])
}

func threadName(tid int) string {
	if tid == 0 {
		return "this thread"
	}
	return fmt.Sprintf("thread %d", tid)
}
