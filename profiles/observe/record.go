//go:build linux

package observe

import (
	"cmp"
	"slices"

	"berth/profiles"
)

// cause is what a thread that is off the CPU waits for.
type cause int

const (
	disk        cause = iota
	network           // one peer: the thread goes on when that one answers
	loop              // an event loop: several connections, or tasks of a runtime made of them
	visitors          // somebody to connect
	lock              // a lock, or the next piece of work: the kernel sees no difference
	latch             // to be woken by a thread or process beside it, which may be a lock or work, too
	interpreter       // the lock of the Python interpreter
	sleep             // a timer
	other             // pipes, children, terminals, devices
	unknown
	causes
)

// use is what one thread did in a stretch of time, in seconds.
type use struct {
	alive, onCPU, delay float64
	ready               float64         // sampled: on a CPU, waiting for one, or stopped by a quota
	waits               [causes]float64 // sampled
	slices              int64           // times it was put on a CPU
}

// add is for windows of one thread.
func (u *use) add(v use) {
	u.alive += v.alive
	u.onCPU += v.onCPU
	u.delay += v.delay
	u.ready += v.ready
	u.slices += v.slices
	for c := range v.waits {
		u.waits[c] += v.waits[c]
	}
}

// minus is what came to an earlier state of the same thread.
func (u use) minus(v use) use {
	u.alive -= v.alive
	u.onCPU -= v.onCPU
	u.delay -= v.delay
	u.ready -= v.ready
	u.slices -= v.slices
	for c := range v.waits {
		u.waits[c] -= v.waits[c]
	}
	return u
}

// part is what a thread has in a window; its number is the watch's own.
type part struct {
	id int
	use
}

// window is what was seen in a stretch of time, in seconds.
type window struct {
	from, to  float64
	threads   []part // of those that ran, by their numbers
	samples   int
	throttled float64 // for which quotas stopped it, on one CPU after the other
	others    float64 // CPU time that others had on the CPUs that it may use; -1 unknown
	steal     float64 // that the host of a virtual machine took of them; -1 unknown

	// Of the samples in which some thread that shares locks was there: those in
	// which one of them did not wait for a lock.
	peers, moving int
	// Of the samples of the interpreter's lock: those that found it held.
	gilSamples, gilHeld int
	gilLooks            int     // samples in which at least one could be read
	sockets             float64 // connected ones behind event loops, summed over samples
}

func (w *window) length() float64 { return w.to - w.from }

// merged is several windows as one.
func merged(windows []window) window {
	var all window
	at := map[int]int{}
	for i, w := range windows {
		if i == 0 {
			all.from = w.from
		}
		all.to = w.to
		for _, u := range w.threads {
			n, known := at[u.id]
			if !known {
				n = len(all.threads)
				at[u.id] = n
				all.threads = append(all.threads, part{id: u.id})
			}
			all.threads[n].add(u.use)
		}
		all.samples += w.samples
		all.throttled += w.throttled
		all.others = addKnown(all.others, w.others)
		all.steal = addKnown(all.steal, w.steal)
		all.peers += w.peers
		all.moving += w.moving
		all.gilSamples += w.gilSamples
		all.gilHeld += w.gilHeld
		all.gilLooks += w.gilLooks
		all.sockets += w.sockets
	}
	slices.SortFunc(all.threads, func(a, b part) int { return cmp.Compare(a.id, b.id) }) // in one order, so that sums come out alike
	return all
}

func addKnown(a, b float64) float64 {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

// facts are what is known of the program besides its windows.
type facts struct {
	runtime profiles.Runtime
	cpus    int // that it may use; 0 unknown
	// blind: what threads wait for could not be asked, for want of rights.
	blind bool
}

// split is the time of busy threads by what they did, as shares that sum to 1.
type split struct {
	onCPU, delay, throttled float64
	waits                   [causes]float64
	unseen                  float64 // waits at which nobody looked
}

// waiting is the share of waits that belong to a task and would be there with
// one worker alone: none for locks, latches and visitors, which are for others
// or for more work.
func (s *split) waiting() float64 {
	return s.waits[disk] + s.waits[network] + s.waits[loop] + s.waits[sleep] + s.waits[other] + s.waits[unknown]
}

// locks is the share of waits for locks, or for more work.
func (s *split) locks() float64 { return s.waits[lock] + s.waits[latch] }

// shares of a window, each thread weighing what it worked. False: none worked.
func (w *window) shares() (s split, ok bool) {
	var weight float64
	for i := range w.threads {
		u := &w.threads[i]
		if u.onCPU <= 0 || u.alive <= 0 {
			continue
		}
		t := u.split(w.throttled)
		weight += u.onCPU
		s.onCPU += u.onCPU * t.onCPU
		s.delay += u.onCPU * t.delay
		s.throttled += u.onCPU * t.throttled
		s.unseen += u.onCPU * t.unseen
		for c := range t.waits {
			s.waits[c] += u.onCPU * t.waits[c]
		}
	}
	if weight == 0 {
		return s, false
	}
	s.onCPU /= weight
	s.delay /= weight
	s.throttled /= weight
	s.unseen /= weight
	var seen float64
	for c := range s.waits {
		s.waits[c] /= weight
		seen += s.waits[c]
	}
	if seen == 0 {
		s.waits[unknown] = s.unseen
	} else { // as those that were seen
		for c := range s.waits {
			s.waits[c] *= 1 + s.unseen/seen
		}
	}
	s.unseen = 0
	return s, true
}

// split divides one thread's time. The scheduler's account is exact; what is
// left of the time is divided as the samples say. Time stopped by a quota is
// part of the delay, or, in kernels that throttle tasks rather than queues
// (Linux 6.18), of neither: such a thread is ready, and nobody counts it.
func (u *use) split(throttled float64) (s split) {
	busy := u.onCPU + u.delay
	alive := max(u.alive, busy)
	off := alive - busy
	uncounted := min(max(0, u.ready-busy), off, max(0, throttled))
	var sampled float64
	for _, x := range u.waits {
		sampled += x
	}
	inDelay := min(u.delay, max(0, throttled-uncounted))
	s.onCPU, s.delay, s.throttled = u.onCPU/alive, (u.delay-inDelay)/alive, (uncounted+inDelay)/alive
	off = (off - uncounted) / alive
	if sampled == 0 {
		s.unseen = off
		return s
	}
	for c, x := range u.waits {
		s.waits[c] = off * x / sampled
	}
	return s
}

// busy are the threads that did at least a tenth as much as the one that did
// most.
func (w *window) busy() []*part {
	var most float64
	for i := range w.threads {
		most = max(most, w.threads[i].onCPU)
	}
	var busy []*part
	for i := range w.threads {
		if u := &w.threads[i]; most > 0 && u.onCPU >= busyFrom*most {
			busy = append(busy, u)
		}
	}
	return busy
}

const busyFrom = 0.1

// slice is for how long the busy threads were on a CPU at a time, in seconds; 0
// is unknown.
func (w *window) slice() float64 {
	var onCPU float64
	var n int64
	for _, u := range w.busy() {
		onCPU += u.onCPU
		n += u.slices
	}
	return ratio(onCPU, float64(n))
}

// onCPU is the time that all threads had, in seconds.
func (w *window) onCPU() (sum float64) {
	for i := range w.threads {
		sum += w.threads[i].onCPU
	}
	return sum
}
