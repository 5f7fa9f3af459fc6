//go:build linux

package observe

import (
	"fmt"
	"math"

	"berth/profiles"
)

// Limits of the rules. All are shares of time unless they say otherwise.
const (
	// idleBelow is the CPU time of all threads, in CPUs, below which a program
	// that only waits for timers, locks or visitors has too little to do.
	idleBelow = 0.02
	// silentBelow is the same for a program that waits for something real.
	silentBelow = 0.0005
	realFrom    = 0.3 // of waits for something real
	// turnsFrom: threads that take so many turns at a lock in a second do not
	// idle, however little they compute.
	turnsFrom = 100.0
	// throttledFrom: of the time that threads could have run, what a quota took.
	throttledFrom = 0.15
	// delayedFrom: waiting for a CPU, as a share of all time and as a share of
	// the time in which the threads wanted one.
	delayedFrom, delayedOfWanted = 0.2, 0.25
	// lostFrom: what others had of the CPUs, of all that these gave. Below it
	// the program's threads wait for each other.
	lostFrom = 0.25
	// gilFrom is the share of waiting for the interpreter.
	gilFrom, gilHeldFrom = 0.25, 0.75
	// lockFrom is the share of waiting for locks in the time that others leave
	// them, and movingFrom the share of samples in which one of those that share
	// them got on: who waits for work waits beside others that wait for work.
	lockFrom, movingFrom = 0.35, 0.75
	// goSlice is for how long, in seconds, Go's threads run at a time if they
	// contend. Its goroutines move between threads, so that one that only
	// computes leaves several of them parked for a part of the time.
	goSlice = 0.001
)

// judgement is what windows mean.
type judgement struct {
	class    profiles.Class
	split    split
	waits    float64 // W/(W+C), of a task
	async    bool    // what waits, waits in an event loop
	evidence []string
	against  []string
}

// judge says what a stretch of time was about.
func judge(w *window, f *facts) judgement {
	j := judgement{class: profiles.Idle}
	s, worked := w.shares()
	if !worked || w.length() <= 0 {
		j.say("no thread ran in %.1f s", w.length())
		return j
	}
	j.split = s
	work := w.onCPU() / w.length() // in CPUs
	j.say("%.2f CPUs were used; of their time its working threads spent %s on a CPU, %s waiting for one, %s stopped by a quota",
		work, percent(s.onCPU), percent(s.delay), percent(s.throttled))
	j.say("off the CPU they waited for %s", s.describe())
	if s.waits[latch] >= 0.05 {
		j.say("a wake-up is waited for in epoll or the like: no socket is in the set and nothing else from outside, only signalfds, eventfds and pipes of the program's own; it may mean a lock or more work, as a futex does")
	}

	waits, lockers := s.waiting(), s.locks()
	moving := ratio(float64(w.moving), float64(w.peers))
	contended := w.peers > 0 && moving >= movingFrom && (f.runtime != profiles.Go || w.slice() < goSlice)
	if contended && f.runtime == profiles.Go {
		// One of its parked threads waits in the poller, for the next timer.
		lockers, waits = lockers+s.waits[sleep], waits-s.waits[sleep]
	}
	if waits+s.onCPU > 0 {
		j.waits = waits / (waits + s.onCPU)
	}
	j.async = s.waits[loop] > waits/2
	real := s.waits[disk] + s.waits[network] + s.waits[loop]
	lost := 0.0 // unknown counts as none
	if w.others >= 0 {
		lost = ratio(w.others+max(0, w.steal), w.others+max(0, w.steal)+w.onCPU())
	}
	// While they waited for a CPU, others ran there in so much of the time. That
	// says nothing of the program's locks.
	undisturbed := 1 - s.throttled - s.delay*lost
	fight := contended && lockers >= lockFrom*undisturbed && lockers > 1.5*waits
	if slice := w.slice(); fight && slice > 0 && work >= turnsFrom*slice {
		real += lockers
	}
	j.class = profiles.ClassOf(j.waits, !j.async, profiles.Integer)

	if idle := work < idleBelow && s.delay < delayedFrom; idle && (real < realFrom || work < silentBelow) {
		j.class = profiles.Idle
		j.say("that is too little work to judge")
		return j
	}
	wanted := s.onCPU + s.delay + s.throttled
	switch {
	case s.throttled >= throttledFrom*wanted && s.throttled >= 0.05:
		j.class = profiles.Throttled
		j.say("a quota took %s of the time in which they could have run", percent(s.throttled/wanted))
	case s.delay >= delayedFrom && s.delay >= delayedOfWanted*wanted && s.delay > lockers+s.waits[interpreter] && w.others >= 0 && lost >= lostFrom:
		j.class = profiles.Starved
		j.say("others had %s of what its CPUs gave", percent(lost))
	case s.waits[interpreter] >= gilFrom && (w.gilSamples == 0 || ratio(float64(w.gilHeld), float64(w.gilSamples)) >= gilHeldFrom) &&
		(w.gilSamples > 0 || work <= 1.1):
		j.class = profiles.GILBound
		j.say("they waited for the interpreter for %s of their time", percent(s.waits[interpreter]))
	case fight:
		j.class = profiles.LockBound
		j.say("in %s of the samples one of the threads that wait for locks got on: they take turns", percent(moving))
	case lockers >= lockFrom && lockers > waits:
		j.say("in only %s of the samples one of the threads that wait for locks got on: most wait for work, which is left out", percent(moving))
	}
	j.contradict(w, f, lost)
	return j
}

// contradict lists what does not fit the class.
func (j *judgement) contradict(w *window, f *facts, lost float64) {
	s := &j.split
	doubt := func(format string, args ...any) { j.against = append(j.against, fmt.Sprintf(format, args...)) }
	if s.delay >= 0.1 && j.class != profiles.Starved {
		switch {
		case j.class == profiles.Throttled:
		case w.others < 0:
			doubt("they waited %s of their time for a CPU, and what others used is not known", percent(s.delay))
		case lost < lostFrom:
			j.say("they waited %s of their time for a CPU while others had %s: the program has more busy threads than CPUs", percent(s.delay), percent(lost))
		default:
			doubt("they waited %s of their time for a CPU, and others had %s of them", percent(s.delay), percent(lost))
		}
	}
	if s.throttled >= 0.02 && j.class != profiles.Throttled {
		doubt("a quota stopped them for %s of their time", percent(s.throttled))
	}
	if steal := ratio(max(0, w.steal), w.length()*float64(max(1, f.cpus))); steal >= 0.02 {
		doubt("the host took %s of its CPUs (steal): what counts as time on a CPU holds some of that", percent(steal))
	}
	if s.waits[unknown] >= 0.05 {
		doubt("what they waited for in %s of their time is not known", percent(s.waits[unknown]))
	}
	if s.locks() >= 0.1 && j.class != profiles.LockBound {
		doubt("they waited for locks, or for work, %s of their time", percent(s.locks()))
	}
	if s.waits[interpreter] >= 0.1 && j.class != profiles.GILBound {
		doubt("they waited for the interpreter %s of their time", percent(s.waits[interpreter]))
	}
}

func (j *judgement) say(format string, args ...any) {
	j.evidence = append(j.evidence, fmt.Sprintf(format, args...))
}

// describe names the waits that matter, the longest first.
func (s *split) describe() string {
	names := [causes]string{"a disk", "one peer on a network", "several things in an event loop", "visitors", "a lock or for work", "a wake-up by others of the program", "the interpreter", "a timer", "others", "something unknown"}
	order := make([]int, 0, causes)
	for c := range s.waits {
		order = append(order, c)
	}
	sortBy(order, func(c int) float64 { return -s.waits[c] })
	text := ""
	for _, c := range order {
		if s.waits[c] < 0.005 {
			break
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s (%s)", names[c], percent(s.waits[c]))
	}
	if text == "" {
		return "nothing for long"
	}
	return text
}

// confidence is the probability that the class would come out again: from how
// far the shares are from the limits between the classes, in standard errors
// over the windows; and less where what was seen does not agree.
func confidence(j *judgement, windows []window, f *facts) float64 {
	same := 0
	var waits []float64
	for i := range windows {
		one := judge(&windows[i], f)
		if one.class == j.class {
			same++
		}
		if one.split != (split{}) {
			waits = append(waits, one.waits)
		}
	}
	var level float64
	switch j.class {
	case profiles.IOBoundBlocking, profiles.IOBoundAsync, profiles.CPUBound, profiles.Mixed:
		distance := math.Min(math.Abs(j.waits-0.6), math.Abs(j.waits-0.4))
		level = normal(distance / max(0.01, standardError(waits)))
	default:
		// The other classes show in most windows or not at all; one success and
		// one failure are added (Laplace), for the few windows of a short look.
		level = float64(same+1) / float64(len(windows)+2)
	}
	level *= 1 - j.split.waits[unknown]
	for range j.against {
		level *= 0.93
	}
	if f.blind {
		level *= 0.7
	}
	return math.Round(100*min(level, 0.99)) / 100
}

// standardError of a mean. Windows follow each other and are not independent;
// it is doubled for that.
func standardError(xs []float64) float64 {
	if len(xs) < 3 {
		return 0.1
	}
	var sum, squares float64
	for _, x := range xs {
		sum += x
	}
	mean := sum / float64(len(xs))
	for _, x := range xs {
		squares += (x - mean) * (x - mean)
	}
	return 2 * math.Sqrt(squares/float64(len(xs)-1)/float64(len(xs)))
}

// normal is the distribution function of the normal distribution.
func normal(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func percent(share float64) string {
	switch p := 100 * share; {
	case p > 0 && p < 1:
		return fmt.Sprintf("%.1f %%", p)
	default:
		return fmt.Sprintf("%.0f %%", p)
	}
}
