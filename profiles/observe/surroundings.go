//go:build linux

package observe

import (
	"time"

	"berth/probe/cgroup"
)

// group is the control group of a process, as the watch began.
type group struct {
	cgroup.Group
	before cgroup.Throttling
}

// surroundings tells what others did with the CPUs meanwhile.
func (w *Watch) surroundings(c *window, own float64) {
	c.others, c.steal = -1, -1
	if is, err := w.proc.SystemStat(); err == nil && len(w.machine.CPUs) > 0 {
		var busy, steal time.Duration
		for cpu, t := range is.CPUs {
			before, ok := w.machine.CPUs[cpu]
			if !ok || !w.cpus.IsEmpty() && !w.cpus.Contains(cpu) {
				continue
			}
			d := t.Since(before)
			busy += d.Busy()
			steal += max(0, d.Steal)
		}
		c.others, c.steal = max(0, busy.Seconds()-own), steal.Seconds()
		w.machine = is
	}
	var longest float64
	for _, g := range w.groups {
		is := g.Throttling()
		longest = max(longest, is.Since(g.before).MS/1000)
		g.before = is
	}
	c.throttled = longest
}

// pressure is for how long some thread of the machine stood still for want of a
// resource, as far as the kernel tells (psi.rst).
func (w *Watch) pressure() map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, resource := range stallable {
		if p, err := w.proc.Pressure(resource); err == nil && p.Some != nil {
			all[resource] = p.Some.Total
		}
	}
	return all
}

var stallable = [...]string{"cpu", "io", "memory"}
