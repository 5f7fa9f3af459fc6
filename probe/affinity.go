package probe

import (
	"fmt"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// Affinity is the set of CPUs that a thread of the live system may run on, as
// the kernel answers; 0 is the calling thread, and a process's number is its
// first thread's. The error of a thread that is gone wraps unix.ESRCH.
func Affinity(tid int) (cpuset.Set, error) {
	// The kernel refuses a buffer that is shorter than its own mask.
	for n := 1024; n <= cpuset.Limit; n *= 4 {
		mask := unix.NewCPUSet(n)
		err := unix.SchedGetaffinityDynamic(tid, mask)
		if err == nil {
			return cpuset.FromUnixDynamic(mask), nil
		}
		if err != unix.EINVAL {
			return cpuset.Set{}, fmt.Errorf("sched_getaffinity of %s: %w", threadName(tid), err)
		}
	}
	return cpuset.Set{}, fmt.Errorf("sched_getaffinity: the kernel's mask is over the limit of %d CPUs", cpuset.Limit)
}

func threadName(tid int) string {
	if tid == 0 {
		return "this thread"
	}
	return fmt.Sprintf("thread %d", tid)
}
