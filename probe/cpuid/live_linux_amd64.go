package cpuid

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
	"berth/probe/finding"
)

// cpuidex executes CPUID on whichever CPU the thread is on.
func cpuidex(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

func execute(leaf, sub uint32) (r Regs) {
	r.EAX, r.EBX, r.ECX, r.EDX = cpuidex(leaf, sub)
	return r
}

// Live runs CPUID on each of the given CPUs in turn, on a thread of its own
// that visits them. A CPU that the thread may not run on is left out with a
// finding. Leave out CPUs that are isolated: the visit disturbs what runs there.
//
// With [Needed] a CPU's answers are its own only for what can differ between
// CPUs; the rest is the first CPU's for all.
//
// On processors without CPUID the dump is empty.
func Live(ctx context.Context, cpus cpuset.Set, depth Depth) (*Dump, []finding.Finding, error) {
	type outcome struct {
		dump  *Dump
		found []finding.Finding
		err   error
	}
	done := make(chan outcome)
	go func() {
		// A thread whose mask cannot be put back must not serve other
		// goroutines: left locked, it ends with this one.
		runtime.LockOSThread()
		dump, found, clean, err := visit(ctx, cpus, depth)
		if clean {
			runtime.UnlockOSThread()
		}
		done <- outcome{dump, found, err}
	}()
	o := <-done
	return o.dump, o.found, o.err
}

// visit reports with clean whether the thread is as it was.
func visit(ctx context.Context, cpus cpuset.Set, depth Depth) (d *Dump, all []finding.Finding, clean bool, err error) {
	before := unix.NewCPUSet(cpuset.Limit)
	if err := unix.SchedGetaffinityDynamic(0, before); err != nil {
		return nil, nil, true, fmt.Errorf("read CPUID: get the thread's CPU affinity: %w", err)
	}
	defer func() { clean = unix.SchedSetaffinityDynamic(0, before) == nil }()

	c := collector{depth: depth}
	var refused []cpuset.CPU
	var why error
	mask := unix.NewCPUSet(int(max(cpus.Last(), 0)) + 1)
	for cpu := range cpus.All() {
		if err := ctx.Err(); err != nil {
			return nil, nil, false, fmt.Errorf("read CPUID: %w", err)
		}
		mask.Set(int(cpu))
		err := unix.SchedSetaffinityDynamic(0, mask)
		mask.Clear(int(cpu))
		if err != nil {
			refused, why = append(refused, cpu), err
			continue
		}
		c.read(cpu, execute)
	}
	var found finding.List
	found.Append(c.findings()...)
	if len(refused) > 0 {
		if errors.Is(why, unix.EINVAL) {
			why = errors.New("offline, or not in the cpuset")
		}
		found.Add(finding.Unreadable, finding.Warning, []string{fmt.Sprintf("sched_setaffinity to CPU %s: %v", cpuset.Of(refused...), why)},
			"CPUID could not be read on %d of %d CPUs.", len(refused), cpus.Len())
	}
	return &c.dump, found.All(), false, nil
}
