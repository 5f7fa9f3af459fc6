//go:build linux

package observe

import (
	"time"

	"berth/probe/tasks"
	"berth/profiles/observe/wait"
)

const (
	// fewThreads that ran since they were looked at are all looked at again. Of
	// more, as many as take lookShare of a CPU, in turn. Of those that share locks
	// one has to know at one moment whether any gets on: whenever looks at all of
	// them have been saved up, at peerShare of a CPU from firstSaved on.
	fewThreads = 100
	lookShare  = 0.001
	peerShare  = 0.002
	firstSaved = 10 * time.Millisecond
	firstCost  = 20 * time.Microsecond // of a look, before it is known
	// mostTallied are the threads whose switches are counted, of a great many.
	mostTallied = 256
)

// lookout is the state of the looks in turn.
type lookout struct {
	next  int           // in the list of threads
	stale int           // threads that ran and were not looked at, before the last round
	cost  time.Duration // CPU time of a look, of late
	saved time.Duration
}

// lookAround finds out what threads do that ran since they were last looked at.
// It reports whether that is now known of those that share locks, as far as it
// takes to tell whether one of them gets on.
func (w *Watch) lookAround(passed time.Duration) (peersKnown bool) {
	l, peers := &w.lookout, 0
	l.stale = 0
	var most time.Duration
	for _, x := range w.live {
		if x.stale {
			l.stale++
			if x.isPeer(w.last) {
				peers++
			}
			most = max(most, x.unseen())
		}
	}
	if l.stale <= fewThreads {
		for _, x := range w.live {
			if x.stale {
				w.ask(x)
			}
		}
		return true
	}
	before, looks := ownTime(), 0
	l.saved += time.Duration(peerShare * float64(passed))
	peersKnown = peers == 0
	if need := time.Duration(peers) * l.cost; peers > 0 && need <= l.saved {
		looks = w.lookAtPeers()
		l.saved -= time.Duration(looks) * l.cost
		peersKnown = true
	}
	// Threads count by what they use, so that those come first that used most
	// since they were looked at.
	afford := looks + max(1, int(lookShare*float64(passed)/float64(l.cost)))
	for range w.live {
		if x := w.turn(); x.stale && x.unseen() >= time.Duration(busyFrom*float64(most)) {
			w.ask(x)
			if looks++; looks >= afford {
				break
			}
		}
	}
	if looks > 0 {
		l.cost = max(l.cost+((ownTime()-before)/time.Duration(looks)-l.cost)/8, time.Microsecond)
	}
	return peersKnown
}

// turn is the next thread in turn.
func (w *Watch) turn() *thread {
	if w.lookout.next++; w.lookout.next >= len(w.live) {
		w.lookout.next = 0
	}
	return w.live[w.lookout.next]
}

// lookAtPeers looks at those that share locks until one is found that gets on,
// and returns how many looks it took.
func (w *Watch) lookAtPeers() (looks int) {
	for range w.live {
		if x := w.turn(); x.stale && x.isPeer(w.last) {
			w.ask(x)
			if looks++; x.moves() {
				break
			}
		}
	}
	return looks
}

// moves reports whether a thread gets on, or may hold a lock while it waits for
// something else. In Go, where goroutines wait, that says nothing of a thread.
func (t *thread) moves() bool { return t.ready || t.why.holds() && !t.of.goes() }

// isPeer reports whether a thread is one of those that wait for locks, and at work.
func (t *thread) isPeer(now time.Time) bool { return t.locks && now.Sub(t.ran) < time.Second }

// unseen is the time on a CPU since a thread was looked at.
func (t *thread) unseen() time.Duration { return t.Used.OnCPU - t.seen }

// ask finds out whether a thread is ready to run, and else what it waits for.
func (w *Watch) ask(t *thread) {
	w.asked = t
	is := t.of.waits.Thread(t.TID, w.knownState(t))
	if is.Kind == wait.Unknown && !w.sampler.ReadStat(t.Watched) {
		return // it ended
	}
	if t.StatusAt.IsZero() || len(w.live) <= fewThreads && w.last.Sub(t.StatusAt) >= time.Second {
		w.count(t)
	}
	t.looked, t.stale, t.seen = true, false, t.Used.OnCPU
	if t.ready = is.Kind == wait.Running; t.ready {
		return
	}
	t.of.blind = t.of.blind || t.of.waits.Denied()
	t.why, t.sockets = t.of.cause(&is), is.Sockets
	t.locks = t.locks || t.why == lock || t.why == latch
}

// knownState is the state of a thread as far as it need not be read for that, 0
// unknown: what runs or waits shows in its system call too, and costs less there.
// The first thread's is always read when it ran, and what is stopped is stopped
// with it.
func (w *Watch) knownState(t *thread) tasks.State {
	first := t.of.first
	switch {
	case first == nil || first.Ended:
	case first == t && w.sampler.ReadStat(t.Watched), first.State == tasks.Stopped, first.State == tasks.Traced:
		return first.State
	}
	return 0
}

func (w *Watch) askedState(int) tasks.State {
	if w.sampler.ReadStat(w.asked.Watched) {
		return w.asked.State
	}
	return 0
}

// count asks how often a thread gave up its CPU.
func (w *Watch) count(t *thread) {
	if !w.sampler.ReadStatus(t.Watched) {
		return
	}
	if t.counted < 0 {
		t.counted = t.Used.Timeslices
	}
	w.switched[t.id] = switched{max(0, t.Used.Voluntary), t.Used.Timeslices - t.counted}
}

// countSwitches asks at the end, and of a great many those that used most of
// their time since.
func (w *Watch) countSwitches() {
	var most time.Duration
	for _, x := range w.live {
		most = max(most, x.Used.OnCPU-max(0, x.base.OnCPU))
	}
	n := 0
	for _, x := range w.live {
		if used := x.Used.OnCPU - max(0, x.base.OnCPU); used > 0 && used >= time.Duration(busyFrom*float64(most)) {
			w.count(x)
			if n++; n == mostTallied {
				return
			}
		}
	}
}
