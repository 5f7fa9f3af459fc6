package probe

import (
	"fmt"
	"os"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// processAffinity is the mask of this process's main thread.
func processAffinity() (cpuset.Set, error) {
	// The kernel refuses a buffer that is shorter than its own mask.
	for n := 1024; n <= cpuset.Limit; n *= 4 {
		mask := unix.NewCPUSet(n)
		err := unix.SchedGetaffinityDynamic(os.Getpid(), mask)
		if err == nil {
			return cpuset.FromUnixDynamic(mask), nil
		}
		if err != unix.EINVAL {
			return cpuset.Set{}, fmt.Errorf("sched_getaffinity: %w", err)
		}
	}
	return cpuset.Set{}, fmt.Errorf("sched_getaffinity: the kernel's mask is over the limit of %d CPUs", cpuset.Limit)
}
