//go:build linux

package doctor

import (
	"fmt"
	"maps"
	"slices"
)

const (
	// pressureFrom: stalls of a quarter of the time are felt. The kernel weighs
	// the CPUs (psi.rst), so that one waiting thread does not make a large machine
	// look full.
	pressureFrom = 0.25
	// memoryFrom: any stall for want of memory is waste; a tenth shows.
	memoryFrom = 0.10
	// faultsFrom is how many pages a second a process must wait for: fewer are its
	// start, or a file that it opens.
	faultsFrom = 10
)

// pressure: stalls of the node, and of control groups with chosen processes.
func pressure(r *report) {
	explained := slices.ContainsFunc(r.found, func(f Finding) bool {
		return slices.Contains([]string{Oversubscribed, Throttled, PinnedPile, SharedCore, IsolatedWide, NoBalancing}, f.Code)
	})
	demands := r.demands()
	told := map[string]bool{}
	tell := func(s Subject, where string, p Pressure, cpuFile, memoryFile string) {
		if p.CPU >= pressureFrom && !explained && !told[CPUPressure] {
			told[CPUPressure] = true
			r.add(CPUPressure, s, []string{fmt.Sprintf("%s: some thread waited for %s of the interval", cpuFile, percent(p.CPU))}, "berth ps --all",
				"Threads of %s with work waited for a CPU for %s of the time.", where, percent(p.CPU))
		}
		if max(p.Memory, p.MemoryFull) >= memoryFrom && !told[MemoryPressure] {
			told[MemoryPressure] = true
			evidence := []string{fmt.Sprintf("%s: some thread stood still for %s of the interval", memoryFile, percent(max(p.Memory, 0)))}
			if p.MemoryFull >= 0 {
				evidence = append(evidence, fmt.Sprintf("all that had work stood still for %s", percent(p.MemoryFull)))
			}
			f := r.add(MemoryPressure, s, evidence, "", "Threads of %s stood still for want of memory for %s of the time: fewer workers, or more memory (memory.high, memory.max).", where, percent(max(p.Memory, p.MemoryFull)))
			if p.MemoryFull >= memoryFrom {
				f.Severity = Error
			}
		}
	}
	seen := map[*Group]bool{}
	named := false
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		named = named || p.Named
		if g := p.Group; g != nil && p.Chosen && demands[pid] >= Working && !seen[g] {
			seen[g] = true
			s := subject(p)
			s.Path = g.Path
			where := "the control group of " + name(p)
			if g.Path == "/" {
				s, where = Subject{}, "this node"
			}
			tell(s, where, g.Pressure, "cpu.pressure of "+g.Path, "memory.pressure of "+g.Path)
		}
	}
	if !named {
		tell(Subject{}, "this node", r.Pressure, "/proc/pressure/cpu", "/proc/pressure/memory")
	}
}

// swapping: processes that wait for their own pages.
func swapping(r *report) {
	demands := r.demands()
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		rate := float64(p.MajorFaults) / r.Interval.Seconds()
		if !r.judged(p, demands[pid]) || p.SwapBytes <= 0 || !(rate >= faultsFrom) {
			continue
		}
		r.add(Swapping, subject(p), []string{fmt.Sprintf("%s in swap (VmSwap of /proc/%d/status)", mebibytes(p.SwapBytes), pid),
			fmt.Sprintf("%s pages a second that had to be read from a disk (major faults)", figure(rate))},
			"", "%s waits for its own pages to be read back: give it more memory, or run fewer workers.", name(p))
	}
}

// blindSpots: what could not be judged, and what could not be read.
func blindSpots(r *report) {
	for _, pid := range slices.Sorted(maps.Keys(r.Processes)) {
		p := r.Processes[pid]
		if !p.Named {
			continue
		}
		why := notRunning(p.State)
		if p.Kernel {
			why = "it is a thread of the kernel's own"
		}
		if why == "" && allEnded(r, pid) {
			why = "it ended meanwhile"
		}
		if why != "" {
			r.add(NotJudged, subject(p), []string{"state " + p.State.String()}, "", "Of %s little can be told: %s.", name(p), why)
		}
	}
	if len(r.Unseen) > 0 {
		r.add(Partial, Subject{}, r.Unseen, "", "Not everything could be read, so that findings may be missing.")
	}
}

func allEnded(r *report, pid int) bool {
	any := false
	for i := range r.Threads {
		if t := &r.Threads[i]; t.PID == pid {
			if any = true; !t.Ended {
				return false
			}
		}
	}
	return any
}
