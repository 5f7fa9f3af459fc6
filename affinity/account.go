//go:build linux

package affinity

import (
	"fmt"
	"slices"
	"time"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
)

// shrunk tells of seats whose CPUs have left the workers' cpuset meanwhile. The
// threads still sit within their seats, and so it is not to be seen by them.
func (s *supervisor) shrunk() {
	now := s.groupCPUs()
	if now.IsEmpty() {
		return
	}
	for _, w := range s.receipt.Workers {
		if lost := w.Asked.Intersect(s.leaves).Minus(now); !lost.IsEmpty() {
			s.broken(Violation{w.Index, 0, SeatTrimmed, fmt.Sprintf("seat on %s: %s left the cpuset of the control group while it ran", w.Asked, inWords(lost))})
		}
	}
}

// groupCPUs is what the cpusets of the workers' group leave now; empty where
// that is not known.
func (s *supervisor) groupCPUs() cpuset.Set {
	own, err := cgroup.Of(0)
	if err != nil {
		return cpuset.Set{}
	}
	g, ok := governing(own, "cpuset")
	if s.Group != nil {
		for _, p := range s.Group.parts {
			if slices.Contains(p.controllers, "cpuset") {
				g = p.Group
			}
		}
	}
	if !ok || g.Dir == "" {
		return cpuset.Set{}
	}
	if state, _ := g.Read(cgroup.CPUSet); state.CPUSet != nil {
		return *state.CPUSet
	}
	return cpuset.Set{}
}

// throttling is how long quotas stopped the workers' group, in milliseconds;
// nil where that cannot be read.
func (s *supervisor) throttling() *float64 {
	if s.Group != nil {
		return ms(s.Group.Throttled())
	}
	now, err := cgroup.ThrottlingOf(0)
	if err != nil {
		return nil
	}
	stopped := now.Since(s.throttled)
	return &stopped.MS
}

func (s *supervisor) account(elapsed time.Duration) {
	r := s.receipt
	b := balance{seats: map[int]cpuset.Set{}, before: s.before, elapsed: elapsed}
	b.after, _ = tasks.Proc("").SystemStat()
	for i := range s.Workers {
		b.seats[i] = s.Workers[i].Seat.CPUs
	}
	for _, t := range s.sampler.Threads() {
		worker, ok := s.owner[t.PID]
		if !ok {
			continue
		}
		w := watchedSeat{Watched: t, worker: worker, asked: s.Workers[worker].Seat.CPUs}
		if given := s.seated[thread{t.TID, t.Start}]; given != nil && !given.cpus.IsEmpty() {
			w.asked, w.early = given.cpus, given.early
			if w.StatusAt.Before(given.at) {
				w.Allowed = given.got // a thread that slept since is not read again
			}
		}
		b.threads = append(b.threads, w)
	}
	b.draw(r)
	for _, w := range r.Workers {
		if len(w.Threads) == 0 {
			r.Verdict = Inconclusive
			r.Finding = append(r.Finding, finding.Finding{Code: "unseen", Severity: finding.Warning,
				Message: fmt.Sprintf("Worker %d ended before it was seen; where it ran is not known.", w.Index)})
		}
	}
	if n := s.sampler.Missed(); n > 0 {
		r.Finding = append(r.Finding, finding.Finding{Code: "missed-readings", Severity: finding.Warning,
			Message: fmt.Sprintf("%d readings failed for want of descriptors or rights; the limit is RLIMIT_NOFILE (ulimit -n).", n)})
	}
}
