//go:build linux

package tune

import (
	"time"

	"berth/affinity"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// What others may take of the CPUs before a result is not to be relied on, as a
// share of the CPUs' time.
const (
	mostSteal  = 0.02 // the host, while the command ran
	mostOthers = 0.05 // other programs, while it did not
)

// noise tells what the CPUs did for others. While the command runs its own work
// cannot be told from that of servers and kernel threads that work for it, so
// that other programs are looked at in the gaps between its runs.
type noise struct {
	cpus     cpuset.Set // those that the command may use
	read     func() (tasks.SystemStat, error)
	throttle func() (cgroup.Throttling, error)

	before  tasks.SystemStat
	known   bool
	stopped cgroup.Throttling

	whole, steal time.Duration // of the runs
	gaps, busy   time.Duration // of the gaps
	stealUnknown bool
	throttled    *float64 // milliseconds
}

func newNoise(cpus cpuset.Set) *noise {
	return &noise{cpus: cpus, read: tasks.Proc("").SystemStat, throttle: func() (cgroup.Throttling, error) { return cgroup.ThrottlingOf(0) }}
}

func (w *noise) begin() {
	var err error
	w.before, err = w.read()
	w.known = err == nil
	w.stopped, _ = w.throttle() // without it, throttling is unknown
}

// since is what the CPUs have done since begin, all together.
func (w *noise) since() (busy, steal, whole time.Duration, ok bool) {
	now, err := w.read()
	if err != nil || !w.known {
		return 0, 0, 0, false
	}
	for c := range w.cpus.All() {
		d := now.CPUs[c].Since(w.before.CPUs[c])
		w.stealUnknown = w.stealUnknown || d.Steal < 0
		busy += d.Busy()
		steal += max(d.Steal, 0)
		whole += d.Busy() + max(d.Idle, 0) + max(d.IOWait, 0) + max(d.Steal, 0)
	}
	return busy, steal, whole, true
}

// end takes the time since begin for that of a run.
func (w *noise) end() {
	if _, steal, whole, ok := w.since(); ok {
		w.whole += whole
		w.steal += steal
	}
	if now, err := w.throttle(); err == nil && len(now) > 0 {
		ms := now.Since(w.stopped).MS
		if w.throttled != nil {
			ms += *w.throttled
		}
		w.throttled = &ms
	}
}

// endGap takes it for that of a gap.
func (w *noise) endGap() {
	if busy, _, whole, ok := w.since(); ok {
		w.gaps += whole
		w.busy += busy
	}
}

func share(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// fewTicks is the time of which the kernel's counting in ticks can be wrong.
const fewTicks = 3 * tasks.Tick

func (w *noise) stolen() bool { return w.steal > fewTicks && share(w.steal, w.whole) > mostSteal }
func (w *noise) others() bool { return w.busy > fewTicks && share(w.busy, w.gaps) > mostOthers }

func (w *noise) report() affinity.Noise {
	n := affinity.Noise{ThrottledMS: w.throttled}
	if w.gaps > 0 {
		p := 100 * share(w.busy, w.gaps)
		n.OtherBusyPct = &p
	}
	if w.whole > 0 && !w.stealUnknown {
		p := 100 * share(w.steal, w.whole)
		n.StealPct = &p
	}
	return n
}
