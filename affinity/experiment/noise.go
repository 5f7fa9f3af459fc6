//go:build linux

package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/affinity"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// What a trial may lose before it does not count. The kernel counts a CPU's
// time in ticks, so that shares of a short window come in coarse steps: those
// limits hold once a few ticks have come together.
const (
	mostLost   = 0.03 // of the workers' time, to others; exact
	mostSteal  = 0.02 // of the CPUs' time, to the host's others
	mostOthers = 0.10 // of the CPUs' time in one trial, to other programs
	mostInAll  = 0.05 // the same over all trials
	fewTicks   = 3 * tasks.Tick
)

// watch tells what the CPUs did for others while this process and the children
// that it has on purpose worked. It sums up over its use.
type watch struct {
	cpus     cpuset.Set   // of the trial: those whose time is watched
	quota    bool         // throttling is expected
	children func() []int // processes whose work is ours, with what they have waited for

	before    tasks.SystemStat
	ownBefore time.Duration
	throttle  cgroup.Throttling
	heat      int64

	whole, steal, others       time.Duration // over all trials
	throttledMS                float64
	stealKnown, throttledKnown bool
}

// own is the CPU time of this process, its children and those of theirs that
// have ended.
func (w *watch) own() time.Duration {
	sum := cpuTimeOf(0)
	if w.children != nil {
		for _, pid := range w.children() {
			sum += cpuTimeOf(pid) + waitedFor(pid)
		}
	}
	return sum
}

func (w *watch) begin(cpus cpuset.Set) error {
	var err error
	w.cpus = cpus
	w.ownBefore = w.own()
	w.throttle, _ = cgroup.ThrottlingOf(0) // without it, throttling is unknown
	w.heat = heatEvents(w.cpus)
	w.before, err = tasks.Proc("").SystemStat()
	return err
}

// end tells what disturbed the time since begin, and which share of it; an empty
// text is nothing that matters.
func (w *watch) end() (why string, took float64, err error) {
	after, err := tasks.Proc("").SystemStat()
	if err != nil {
		return "", 0, err
	}
	own := w.own() - w.ownBefore
	var whole, busy, steal time.Duration
	for c := range w.cpus.All() {
		d := after.CPUs[c].Since(w.before.CPUs[c])
		busy += d.Busy()
		whole += d.Busy() + max(d.Idle, 0) + max(d.IOWait, 0) + max(d.Steal, 0)
		steal += max(d.Steal, 0)
		w.stealKnown = w.stealKnown && d.Steal >= 0
	}
	others := max(busy-own, 0)
	w.whole += whole
	w.steal += steal
	w.others += busy - own // ticks err both ways
	if now, err := cgroup.ThrottlingOf(0); err == nil && len(now) > 0 {
		ms := now.Since(w.throttle).MS
		w.throttledMS += ms
		w.throttledKnown = true
		if ms > 0 && !w.quota {
			return "a CPU quota stopped it", 0, nil
		}
	}
	switch {
	case heatEvents(w.cpus) > w.heat:
		return "the CPUs slowed down for heat", 0, nil
	case steal >= fewTicks && share(steal, whole) > mostSteal:
		return "the host took part of the CPUs' time", share(steal, whole), nil
	case others >= fewTicks && share(others, whole) > mostOthers:
		return "other programs took part of the CPUs' time", share(others, whole), nil
	}
	return "", 0, nil
}

// noise is that of all trials together.
func (w *watch) noise() affinity.Noise {
	var n affinity.Noise
	percent := func(d time.Duration) *float64 {
		if w.whole == 0 {
			return nil
		}
		p := 100 * share(max(d, 0), w.whole)
		return &p
	}
	n.OtherBusyPct = percent(w.others)
	if w.stealKnown {
		n.StealPct = percent(w.steal)
	}
	if w.throttledKnown {
		ms := w.throttledMS
		n.ThrottledMS = &ms
	}
	return n
}

func share(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// heatEvents counts how often the CPUs were slowed for heat, where the kernel
// tells (Documentation/ABI/testing/sysfs-devices-system-cpu, thermal_throttle).
func heatEvents(cpus cpuset.Set) int64 {
	var sum int64
	for c := range cpus.All() {
		for _, name := range [...]string{"core_throttle_count", "package_throttle_count"} {
			data, err := os.ReadFile(filepath.Join("/sys/devices/system/cpu", fmt.Sprint("cpu", c), "thermal_throttle", name))
			if err != nil {
				return sum
			}
			n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			sum += n
		}
	}
	return sum
}
