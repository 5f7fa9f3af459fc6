//go:build linux

package tasks

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"berth/probe/cpuset"
)

// Options say how a [Sampler] watches.
type Options struct {
	// Children follows the processes too that followed ones start. One that
	// is born and ends between two samples, or whose parent ended before it
	// was seen, is missed.
	Children bool
	// FromBirth counts what followed threads did before they were followed.
	FromBirth bool
	// EveryState reads the state of every thread at every sample, and not only
	// of those that ran since the last.
	EveryState bool
	// OnDemand leaves it to the user of the Sampler to have stat and status
	// read, thread by thread: see [Sampler.ReadStat]. Stat is still read where
	// the watch itself needs it: of the first thread of a process whenever it
	// ran, and where no descriptor can be kept.
	OnDemand bool
}

// Counters are what a thread used; -1 is unknown.
type Counters struct {
	SchedStat                              // as of the last sample
	User, System             time.Duration // as of the last sample
	MinorFaults, MajorFaults int64         // as of the last sample
	Voluntary, Involuntary   int64         // switches, as of StatusAt
}

// Watched is one thread under watch. It holds what the thread was when it was
// last read, and what it did while it was watched. Where its stat was never read,
// its State is 0 and its Start -1.
type Watched struct {
	Thread
	First, Last time.Time // samples that saw it alive
	Ended       bool
	Used        Counters
	// RanOn is the CPUs it was seen on after it had run. Between two samples
	// it may have been on others; and a thread that waits to run is seen on the
	// CPU that it waits for.
	RanOn cpuset.Set
	// Moves counts the samples that saw it on another CPU than the one before:
	// at least so often it moved. Migrations is the kernel's own count as of
	// StatusAt, -1 where it gives none.
	Moves, Migrations int64
	StatusAt          time.Time // when the Status was read; zero if it never was
}

// WatchedProcess is one process under watch.
type WatchedProcess struct {
	PID, Parent int
	Name        string
	Start       time.Duration // as in [Stat]
	First, Last time.Time     // samples that saw it alive
	Ended       bool          // all its threads did, whether or not its parent has waited for it
	// Used is CPU time of all threads, with those that came and went between
	// two samples, in steps of a [Tick]; as of UsedAt.
	Used   time.Duration
	UsedAt time.Time
}

const (
	// DefaultInterval between samples: eight busy threads then cost some
	// thousandths of a CPU.
	DefaultInterval = 100 * time.Millisecond
	// slowInterval parts two readings of the same thread's status, and two
	// searches for births where nothing hints at any.
	slowInterval = time.Second
	// share bounds samples, and the search for children on a machine with very
	// many processes, to a hundredth of the time each.
	share = 100
	// statusShare bounds the reading of status, the longest file of all: with
	// more than some hundred threads that run, each has its turn less often.
	statusShare = 500
)

// Sampler follows the threads of a changing set of processes. Each sample
// reads schedstat of every thread through a descriptor that stays open, unless
// the clock of a process with many says that none ran, and stat of those that
// ran since. Once a second, more rarely where they are very
// many, it reads status and sched of those that ran. New threads show in the
// link count of the directory task, and that there may be some in the last
// field of /proc/loadavg.
//
// Descriptors are kept for at most half of the soft limit that there was when
// the Sampler was made, and fewer where the process runs out of them; what has
// none is opened anew for each reading.
//
// A Sampler starts no goroutine and has no clock of its own: its user calls
// [Sampler.Sample]. It is not for concurrent use.
type Sampler struct {
	files
	options Options
	counts  bool // the kernel fills in schedstat
	clocks  bool // the numbers of processes are those of this process's clocks, too
	sched   bool // the kernel has the file sched, with migrations

	now     time.Time // of the sample under way
	checked time.Time // when all was looked at that is looked at slowly
	cost    time.Duration
	pace    time.Duration // what a sample costs of late
	missed  int

	procs []*process
	byPID map[int]*process
	live  []*thread
	next  int // in live: whose status is looked at next
	ended []Watched
	past  []WatchedProcess

	loadavg    descriptor
	newest     int64 // the process or thread that the machine made last
	deaths     bool  // in the sample under way
	everything bool  // is to be read in it
	entries    []entry
	listing    uint // the latest
	children   search
}

// thread is a thread under watch.
type thread struct {
	Watched
	process         *process
	schedstat, stat descriptor
	born            bool   // in the watch: its counters began at 0
	ran             bool   // since its status was read
	migrations      int64  // the kernel's latest count
	cpus            []byte // the text of Allowed
	listing         uint   // the latest that had it
	ranAt, readAt   time.Time
	statAt          time.Time
}

// process is a process under watch.
type process struct {
	WatchedProcess
	task    descriptor      // its directory task
	threads map[int]*thread // that live or are zombies
	alive   int             // how many live
	renewed bool            // a thread's number was found to be another's
	ran     bool            // since Used was read
	used    time.Duration   // the kernel's latest sum
	clock   time.Duration   // of its CPU time, as the sample under way began
	still   bool            // it did not go on since the sample before
}

// NewSampler makes a Sampler that watches nothing yet.
func NewSampler(p Proc, o Options) *Sampler {
	return &Sampler{
		files: newFiles(p), options: o, counts: p.counts(), clocks: p.ours(), sched: true,
		byPID: map[int]*process{}, children: search{seen: map[int]sighting{}},
	}
}

// Close gives the descriptors back; it ends the watch. What was seen can still
// be asked for.
func (s *Sampler) Close() {
	for _, t := range s.live {
		s.closeThread(t)
	}
	for _, p := range s.procs {
		s.close(&p.task)
	}
	s.close(&s.loadavg)
}

// Follow watches a process from now on, with [Options.Children] its
// descendants too. [ErrGone] says that there is no such process.
func (s *Sampler) Follow(pid int, now time.Time) error {
	defer s.spend(time.Now())
	s.now = now
	if s.byPID[pid] != nil {
		return nil
	}
	before := len(s.live)
	if err := s.follow(pid, s.options.FromBirth); err != nil {
		return about("process", pid, err)
	}
	if s.options.Children {
		clear(s.children.seen) // whose parents were of no interest until now
		s.findChildren(s.options.FromBirth)
	}
	if !s.options.OnDemand {
		for _, t := range s.live[before:] {
			s.readStatus(t)
		}
	}
	return nil
}

// Sample reads what changed. The times given should grow, as those of
// time.Now do.
func (s *Sampler) Sample(now time.Time) {
	defer s.spend(time.Now())
	s.sample(now, false)
}

// Finish is a last [Sampler.Sample], which also reads the status of every
// thread. A parent that calls it between the end of a child and the wait for it
// (waitid(2) with WNOWAIT tells) gets the final account of the child's first
// thread and the time of all its threads.
func (s *Sampler) Finish(now time.Time) {
	defer s.spend(time.Now())
	s.sample(now, true)
}

func (s *Sampler) spend(began time.Time) { s.cost += time.Since(began) }

func (s *Sampler) sample(now time.Time, everything bool) {
	began := time.Now()
	elapsed := now.Sub(s.now)
	s.now, s.deaths, s.everything = now, false, everything
	for _, p := range s.procs {
		s.readClock(p)
	}
	s.live = keep(s.live, s.update)

	slow := everything || now.Sub(s.checked) >= slowInterval
	newest, err := s.readNewest()
	births := err != nil || newest != s.newest
	s.newest = newest
	if births || slow || s.deaths {
		s.procs = keep(s.procs, s.census)
	}
	s.pace += (time.Since(began) - s.pace) / 8

	if s.options.Children {
		s.children.due = s.children.due || births || slow
		if s.children.due && (everything || now.Sub(s.children.at) >= share*s.children.cost) {
			s.findChildren(true)
		}
	}
	if slow {
		s.checked = now
		for _, p := range s.procs {
			if p.ran {
				s.readUsed(p)
			}
		}
	}
	if !s.options.OnDemand {
		s.readStatuses(elapsed/statusShare, everything)
	}
}

// keep drops from all what lives on no more, in place.
func keep[T any](all []*T, livesOn func(*T) bool) []*T {
	kept := all[:0]
	for _, x := range all {
		if livesOn(x) {
			kept = append(kept, x)
		}
	}
	clear(all[len(kept):])
	return kept
}

// update reads one thread and reports whether it lives on.
func (s *Sampler) update(t *thread) bool {
	if t.Ended { // with its process
		return false
	}
	if t.process.still || s.rests(t) {
		t.Last, t.process.Last = s.now, s.now
		return true
	}
	account, err := s.readSchedStat(t)
	if err != nil {
		return s.survives(t, err)
	}
	if account == t.SchedStat && s.counts && !s.options.EveryState {
		t.Last, t.process.Last, t.readAt = s.now, s.now, s.now
		return true
	}
	if s.isSpared(t) {
		s.run(t, account)
		return true
	}
	st, name, err := s.readStat(t)
	if err != nil {
		return s.survives(t, err)
	}
	if t.Start >= 0 && st.Start != t.Start {
		s.end(t)
		delete(t.process.threads, t.TID)
		t.process.renewed = true
		return false
	}
	s.account(t, account, st, name)
	if st.State.over() {
		s.readStatus(t) // the last word: a zombie still has one
		s.end(t)        // it stays among the process's threads: it will be listed
		return false
	}
	return true
}

// survives takes an error of reading a thread. The thread's end alone ends its
// watch; a want of descriptors may pass.
func (s *Sampler) survives(t *thread, err error) bool {
	if !isGone(err) {
		s.missed++
		return true
	}
	s.end(t)
	delete(t.process.threads, t.TID)
	return false
}

// readSchedStat gives zeros where the kernel counts nothing.
func (s *Sampler) readSchedStat(t *thread) (SchedStat, error) {
	if !s.counts {
		return SchedStat{}, nil
	}
	data, err := s.read(&t.schedstat, t.PID, t.TID, "schedstat")
	if err != nil {
		return SchedStat{}, err
	}
	return ParseSchedStat(data)
}

func (s *Sampler) readStat(t *thread) (st Stat, name []byte, err error) {
	data, err := s.read(&t.stat, t.PID, t.TID, "stat")
	if err != nil {
		return st, nil, err
	}
	name, err = st.parse(data)
	return st, name, err
}

// account adds what the thread did since the last reading.
func (s *Sampler) account(t *thread, a SchedStat, st Stat, name []byte) {
	if a == (SchedStat{}) && (!s.counts || st.User+st.System > 0) {
		a = st.coarse()
	}
	if s.run(t, a) && st.CPU >= 0 && !t.RanOn.Contains(st.CPU) {
		t.RanOn = t.RanOn.Union(cpuset.Of(st.CPU))
	}
	if t.CPU >= 0 && st.CPU >= 0 && t.CPU != st.CPU {
		t.Moves++
	}
	used := &t.Used
	grow(&used.User, t.User, st.User)
	grow(&used.System, t.System, st.System)
	grow(&used.MinorFaults, t.MinorFaults, st.MinorFaults)
	grow(&used.MajorFaults, t.MajorFaults, st.MajorFaults)
	if st.Name = t.Name; string(name) != t.Name {
		st.Name = string(name)
	}
	t.Stat, t.statAt = st, s.now
}

// run adds the scheduler's part of it, and reports whether the thread ran.
func (s *Sampler) run(t *thread, a SchedStat) bool {
	ran := t.OnCPU >= 0 && (a.OnCPU != t.OnCPU || a.Timeslices >= 0 && a.Timeslices != t.Timeslices)
	if ran {
		t.ran, t.process.ran = true, true
	}
	used := &t.Used
	grow(&used.OnCPU, t.OnCPU, a.OnCPU)
	grow(&used.RunDelay, t.RunDelay, a.RunDelay)
	grow(&used.Timeslices, t.Timeslices, a.Timeslices)
	if ran || t.OnCPU < 0 {
		t.ranAt = s.now
	}
	t.SchedStat, t.Last, t.readAt = a, s.now, s.now
	t.process.Last = s.now
	return ran
}

// grow adds what a counter grew by; -1 is unknown, and what was unknown is
// counted from here. One that went back is counted from there: when a thread
// calls execve(2), it takes over the number of the process's first thread.
func grow[T ~int64](used *T, was, is T) {
	if is < 0 {
		return
	}
	*used = max(*used, 0)
	if was >= 0 && is > was {
		*used += is - was
	}
}

// end moves a thread to those that ended.
func (s *Sampler) end(t *thread) {
	s.closeThread(t)
	t.Ended = true
	t.process.alive--
	s.deaths = true
	s.ended = append(s.ended, t.Watched)
}

func (s *Sampler) closeThread(t *thread) {
	s.close(&t.schedstat)
	s.close(&t.stat)
}

// readStatuses reads the status of the threads that ran, of each once a second
// at most and of all in turn, until the budget is spent.
func (s *Sampler) readStatuses(budget time.Duration, everything bool) {
	began := time.Now()
	for range s.live {
		if s.next++; s.next >= len(s.live) {
			s.next = 0
		}
		t := s.live[s.next]
		if t.Ended || !everything && (!t.ran || s.now.Sub(t.StatusAt) < slowInterval) {
			continue
		}
		s.readStatus(t)
		if !everything && time.Since(began) > budget {
			return
		}
	}
}

func (s *Sampler) readStatus(t *thread) {
	data, err := s.readOnce(t.PID, t.TID, "status")
	if isGone(err) {
		return
	}
	is := unknownStatus
	if err == nil {
		err = t.parseStatus(&is, data)
	}
	if err != nil {
		s.missed++
		return
	}
	was := t.Status
	if t.born && t.StatusAt.IsZero() {
		was.Voluntary, was.Involuntary = 0, 0
	}
	grow(&t.Used.Voluntary, was.Voluntary, is.Voluntary)
	grow(&t.Used.Involuntary, was.Involuntary, is.Involuntary)
	t.Status, t.StatusAt, t.ran = is, s.now, false
	if s.sched && !s.options.OnDemand {
		s.readMigrations(t)
	}
}

// parseStatus parses the lists only where they changed.
func (t *thread) parseStatus(to *Status, data []byte) error {
	l, err := to.parse(data)
	if err != nil {
		return err
	}
	if bytes.Equal(l.cpus, t.cpus) && string(l.mems) == t.Mems {
		to.Allowed, to.Mems = t.Allowed, t.Mems
		return nil
	}
	t.cpus = append(t.cpus[:0], l.cpus...)
	return to.setLists(l)
}

func (s *Sampler) readMigrations(t *thread) {
	data, err := s.readOnce(t.PID, t.TID, "sched")
	if err == nil {
		var n int64
		if n, err = ParseMigrations(data); err == nil {
			grow(&t.Migrations, t.migrations, n)
			t.migrations = n
			return
		}
	}
	if isGone(err) {
		if _, err := s.readOnce(t.PID, t.TID, "stat"); err != nil {
			return
		}
	}
	s.sched = false // the thread is there: it is the file that is not, or not for us
}

// readUsed reads the time of all threads of a process.
func (s *Sampler) readUsed(p *process) {
	st, name, err := s.processStat(p.PID)
	if err != nil || st.Start != p.Start {
		return
	}
	if string(name) != p.Name {
		p.Name = string(name)
	}
	used := st.User + st.System
	grow(&p.Used, p.used, used)
	p.Parent, p.used, p.UsedAt, p.ran = st.Parent, used, s.now, false
}

func (s *Sampler) processStat(pid int) (st Stat, name []byte, err error) {
	data, err := s.readOnce(pid, 0, "stat")
	if err != nil {
		return st, nil, err
	}
	name, err = st.parse(data)
	return st, name, err
}

// Live iterates over the threads that lived at the last sample. What it gives
// is good until the next.
func (s *Sampler) Live() iter.Seq[*Watched] {
	return func(yield func(*Watched) bool) {
		for _, t := range s.live {
			if !t.Ended && !yield(&t.Watched) {
				return
			}
		}
	}
}

// Alive is the number of processes under watch that live.
func (s *Sampler) Alive() int { return len(s.procs) }

// Threads returns all threads that were seen, by process, number and start.
func (s *Sampler) Threads() []Watched {
	all := slices.Clone(s.ended)
	for t := range s.Live() {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b Watched) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.TID, b.TID), cmp.Compare(a.Start, b.Start))
	})
	return all
}

// Processes returns all processes that were seen, by number and start.
func (s *Sampler) Processes() []WatchedProcess {
	all := slices.Clone(s.past)
	for _, p := range s.procs {
		all = append(all, p.WatchedProcess)
	}
	slices.SortFunc(all, func(a, b WatchedProcess) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Start, b.Start))
	})
	return all
}

// Forget drops the threads and processes that ended, for a watch of days.
func (s *Sampler) Forget() { s.ended, s.past = nil, nil }

// Cost is the time spent in reading so far. It is taken by the clock on the
// wall, and so includes what the reader had to wait for a CPU.
func (s *Sampler) Cost() time.Duration { return s.cost }

// Missed counts the readings that failed though the thread was there, for want
// of descriptors or rights. The next reading catches up on what was counted.
func (s *Sampler) Missed() int { return s.missed }

// Interval is how long to wait between samples: [DefaultInterval], or longer
// where samples cost more than a hundredth of that.
func (s *Sampler) Interval() time.Duration { return max(DefaultInterval, share*s.pace) }

// Run samples until ctx is done or all processes have ended, and then
// finishes. An interval of 0 leaves it to [Sampler.Interval].
func (s *Sampler) Run(ctx context.Context, interval time.Duration) {
	wait := func() time.Duration {
		if interval > 0 {
			return interval
		}
		return s.Interval()
	}
	timer := time.NewTimer(wait())
	defer timer.Stop()
	for s.Alive() > 0 {
		select {
		case <-ctx.Done():
			s.Finish(time.Now())
			return
		case now := <-timer.C:
			s.Sample(now)
			timer.Reset(wait())
		}
	}
}
