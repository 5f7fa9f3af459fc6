//go:build linux

package experiment

import (
	"fmt"
	"strings"

	"berth/affinity/measured"
)

// pythonless ends a claim about Python where none was asked.
func (e *evidence) pythonless(c *Claim) bool {
	if why := e.why["gil"]; why != "" {
		c.untestable(why)
		return true
	}
	if e.gil == nil || e.python == nil {
		c.unclear()
		return true
	}
	return false
}

func (e *evidence) version() string { return e.gil.Implementation + " " + e.gil.Version }

func gilThreads(e *evidence, c *Claim) {
	c.ID, c.Claim = "gil-threads-no-faster", "Two CPython threads of pure Python are no faster than one"
	c.Expected = "about the throughput of one thread"
	if e.pythonless(c) {
		return
	}
	r := e.pythonRun("cpu", "threads", 2)
	if r == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s times with %d threads of %s", r.Relative, r.Workers, e.version())
	switch c.Verdict = ask(&r.Relative, 1.15, false); {
	case e.gil.FreeThreaded:
		c.Why = "this interpreter runs without the GIL"
	case c.Verdict == Holds:
		c.Why = "one thread at a time holds the GIL, whatever the cores"
	case c.Verdict == Inconclusive:
		c.Why = "the interval is too wide to tell"
	default:
		c.Why = "part of the work must have released the GIL"
	}
}

func gilWaiting(e *evidence, c *Claim) {
	c.ID, c.Claim = "gil-threads-for-waiting", "Threads of CPython serve blocking input and output well, since they release the GIL while they wait"
	c.Expected = "as many times the throughput as there are threads"
	if e.pythonless(c) {
		return
	}
	r := e.pythonRun("blocking-io", "threads", 2)
	if r == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s times with %d threads that ask a slow server", r.Relative, r.Workers)
	c.Verdict = ask(&r.Relative, 0.7*float64(r.Workers), true)
	c.Why = "a thread that waits needs neither the GIL nor a CPU; they all wait at once"
	if c.Verdict != Holds {
		c.Why = "the work between the waits needs the GIL, and fills it before all threads are busy"
	}
}

func gilInterval(e *evidence, c *Claim) {
	c.ID, c.Claim = "gil-asked-every-5-ms", "The running thread is asked for the GIL every 5 ms"
	c.Expected = "a thread keeps the GIL for about 5 ms while another one wants it"
	if e.pythonless(c) {
		return
	}
	if e.gil.FreeThreaded {
		c.untestable("this interpreter runs without the GIL")
		return
	}
	c.Measured = fmt.Sprintf("sys.getswitchinterval() is %.3g ms", float64(e.python.interval)/1e6)
	if e.python.held == nil {
		c.unclear()
		return
	}
	c.Measured += fmt.Sprintf("; kept for %s ms", *e.python.held)
	h := e.python.held
	c.Verdict = is(h.Median > 4.5 && h.Median < 7.5 && e.python.interval.Milliseconds() == 5)
	c.Why = "one that waits for the GIL asks for it after that interval, and the holder gives it up at its next check; nobody is asked while nobody waits"
	if c.Verdict == Fails {
		c.Why = "the interval is set by sys.setswitchinterval, and what is kept depends on how long one instruction of the interpreter takes"
	}
}

func gilNext(e *evidence, c *Claim) {
	c.ID, c.Claim = "gil-next-is-random", "Which thread gets the GIL next is random, decided by the operating system"
	c.Expected = "each of the others equally often"
	if e.pythonless(c) {
		return
	}
	if e.gil.FreeThreaded {
		c.untestable("this interpreter runs without the GIL")
		return
	}
	if e.python.changes < 60 || e.python.nextP == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%d changes of the holder among three threads; p = %.2g for an even draw from the two others", e.python.changes, *e.python.nextP)
	switch p := *e.python.nextP; {
	case p > 0.05:
		c.Verdict = Holds
		c.Why = "the holder waits until another thread has taken it, and which one wakes is up to the lock and the scheduler"
	case p > 0.001:
		c.Verdict = Inconclusive
		c.Why = "that is rare for an even draw and common for none: measure again, for longer"
	default:
		c.Verdict = Fails
		c.Why = "the waiting threads form a queue in the lock and the scheduler, so that some follow others more often than chance would have it"
	}
}

func gilSafety(e *evidence, c *Claim) {
	c.ID, c.Claim = "gil-protects-data", "The GIL keeps threads from touching the same data at once, so that programs are safe from races"
	c.Expected = "no update of a shared number is lost"
	if e.pythonless(c) {
		return
	}
	if len(e.python.lost) == 0 {
		c.unclear()
		return
	}
	c.Verdict = Holds
	var seen []string
	for _, l := range e.python.lost {
		missing := l.Expected - l.Got
		seen = append(seen, fmt.Sprintf("%s: %d of %d lost", l.How, missing, l.Expected))
		if missing != 0 {
			c.Verdict = Fails
		}
	}
	c.Measured = strings.Join(seen, "; ")
	c.Why = "the GIL protects the interpreter, not your data: it can change hands between the reading and the writing of one update"
	if c.Verdict == Holds {
		c.Why = "none was lost this time; the language does not promise it, so lock what threads share"
	}
}

func multiprocessing(e *evidence, c *Claim) {
	c.ID, c.Claim = "multiprocessing-speeds-up", "multiprocessing gives the speed-up that threads do not"
	c.Expected = "about as many times the throughput as there are cores"
	if e.pythonless(c) {
		return
	}
	if e.cores < 2 {
		c.untestable("only one core is there to measure on")
		return
	}
	r := e.pythonRun("cpu", "processes", 2)
	if r == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s times with %d processes", r.Relative, r.Workers)
	c.Verdict = ask(&r.Relative, 0.8*float64(min(r.Workers, e.cores)), true)
	c.Why = "each process has an interpreter, and a GIL, of its own"
	if c.Verdict != Holds {
		c.Why = "the processes shared a core's time with something else: a quota, or other programs"
	}
}

func poolSum(e *evidence, c *Claim) {
	c.ID, c.Claim = "pool-sums-list", "The sum of a huge list is about n times as fast when cut in n parts for a pool of n processes"
	c.Expected = "a speed-up of about the number of processes"
	if e.pythonless(c) {
		return
	}
	if e.cores < 2 {
		c.untestable("only one core is there to measure on")
		return
	}
	p := e.python
	if p.sumSent == nil || p.sumThere == nil {
		c.unclear()
		return
	}
	c.Expected = fmt.Sprintf("a speed-up of about %d", p.sumProcs)
	c.Measured = fmt.Sprintf("%s times with %d processes for %d numbers, sending included; %s where the workers hold the numbers already",
		*p.sumSent, p.sumProcs, p.sumElements, *p.sumThere)
	c.Verdict = ask(p.sumSent, 0.75*float64(p.sumProcs), true)
	c.Why = "to pickle, send and unpickle a number takes far longer than to add it: send little and compute much, or make the data where it is used"
	if c.Verdict == Holds {
		c.Why = "the work for each number outweighed its sending"
	}
}

func asyncThousands(e *evidence, c *Claim) {
	c.ID, c.Claim = "asyncio-holds-thousands", "asyncio holds thousands of waits in one thread with little memory"
	c.Expected = "throughput grows with the tasks, into the thousands, for a few KiB each"
	if e.pythonless(c) {
		return
	}
	r := e.pythonRun("async-io", "async", 1000)
	if r == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%d tasks in one thread: %s times one task", r.Workers, r.Relative)
	small := true
	if m := r.MemoryPerWorker; m != nil {
		c.Measured += fmt.Sprintf(", %.1f KiB each with its connection", m.Median/1024)
		small = m.Median < 64<<10
	}
	c.Verdict = ask(&r.Relative, 100, true)
	if c.Verdict == Holds && !small {
		c.Verdict = Fails
	}
	c.Why = "a task that waits is an object in memory and an entry in epoll; what bounds them together is the one thread's CPU time"
}

func asyncBlocked(e *evidence, c *Claim) {
	c.ID, c.Claim = "blocking-call-stalls-loop", "A blocking call inside a coroutine stalls all the others"
	c.Expected = "no other task runs before the call returns"
	if e.pythonless(c) {
		return
	}
	p := e.python
	if p.stall == nil || p.calm == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("during time.sleep of %d ms in one coroutine another was late by %s ms; without it by %s ms", p.block.Milliseconds(), *p.stall, *p.calm)
	c.Verdict = ask(p.stall, 0.8*float64(p.block.Milliseconds()), true)
	c.Why = "the loop is one thread: it goes on when the coroutine gives it back; await the waiting, or use asyncio.to_thread"
}

func threadMemory(e *evidence, c *Claim) {
	c.ID, c.Claim = "threads-cost-more-memory", "A thread costs more memory than a task"
	c.Expected = "several times as much"
	if e.pythonless(c) {
		return
	}
	p := e.python
	if p.threadBytes == nil || p.taskBytes == nil {
		c.unclear()
		return
	}
	c.Measured = fmt.Sprintf("%s KiB for each of %d waiting threads, %s KiB for a task", p.threadBytes.Scaled(1./1024), p.waiters, p.taskBytes.Scaled(1./1024))
	ratio := measured.Value{Median: p.threadBytes.Median / p.taskBytes.Median, Low: p.threadBytes.Low / p.taskBytes.High, High: p.threadBytes.High / p.taskBytes.Low, Runs: p.threadBytes.Runs}
	c.Verdict = ask(&ratio, 1.5, true)
	c.Why = "a thread has stacks, in the kernel too, of which it touches some pages; a task has a few objects on the heap"
}

var startNames = map[string]string{"thread": "a thread", "fork": "a forked process", "spawn": "a spawned process", "task": "a task"}

func sharedMemory(e *evidence, c *Claim) {
	c.ID, c.Claim = "threads-share-memory", "Threads share the memory of their process; processes do not share theirs"
	c.Expected = "a thread's write is seen, a process's is not"
	if e.pythonless(c) {
		return
	}
	p := e.python
	if p.threadSees == nil || p.processSees == nil {
		c.unclear()
		return
	}
	yes := map[bool]string{true: "seen", false: "not seen"}
	c.Measured = fmt.Sprintf("a thread's write is %s, a process's %s", yes[*p.threadSees], yes[*p.processSees])
	for _, s := range p.starts {
		c.Measured += fmt.Sprintf("; %s starts in %.3g ms and takes %.0f KiB", startNames[s.Method], float64(s.Took)/1e6, s.Memory/1024)
	}
	c.Verdict = is(*p.threadSees && !*p.processSees)
	c.Why = "that is what makes threads cheap to start and to talk to, and processes safe from each other; processes share what they map as shared on purpose"
}
