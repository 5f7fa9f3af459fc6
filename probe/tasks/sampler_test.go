//go:build linux

package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/probe/cpuset"
	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

func follow(t testing.TB, pid int, o tasks.Options) *tasks.Sampler {
	t.Helper()
	s := tasks.NewSampler(live, o)
	t.Cleanup(s.Close)
	if err := s.Follow(pid, time.Now()); err != nil {
		t.Fatal(err)
	}
	return s
}

// one returns the only thread of that number, or of that name where tid is 0.
func one(t testing.TB, s *tasks.Sampler, tid int, name string) tasks.Watched {
	t.Helper()
	var found []tasks.Watched
	for _, w := range s.Threads() {
		if w.TID == tid || tid == 0 && w.Name == name {
			found = append(found, w)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d threads with number %d or name %q: %+v", len(found), tid, name, found)
	}
	return found[0]
}

func tidsOf(t testing.TB, pid int) (tids []int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tid, _ := strconv.Atoi(e.Name())
		tids = append(tids, tid)
	}
	slices.Sort(tids)
	return tids
}

func liveTIDs(s *tasks.Sampler) (tids []int) {
	for w := range s.Live() {
		tids = append(tids, w.TID)
	}
	slices.Sort(tids)
	return tids
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// lacks reports whether a list has not all of another one.
func lacks(list, of []int) bool {
	return slices.ContainsFunc(of, func(tid int) bool { return !slices.Contains(list, tid) })
}

func TestWatch(t *testing.T) {
	h := newHelper(t)
	odd := ") R 1 (odd\n"
	busy, idle := h.thread(t, "busy"), h.thread(t, "idle")
	h.thread(t, odd)
	home := allowed(t).First()
	h.do(t, "pin busy %d", home)
	h.do(t, "burn busy 60")

	before := tidsOf(t, h.pid)
	s := follow(t, h.pid, tasks.Options{})
	// Go may have made a thread meanwhile.
	if got, after := liveTIDs(s), tidsOf(t, h.pid); lacks(got, before) || lacks(after, got) {
		t.Errorf("threads %v; %v before and %v after", got, before, after)
	}
	h.do(t, "burn busy 40")
	await(t, "the work shows", func() bool {
		s.Sample(time.Now())
		return one(t, s, busy, "").Used.OnCPU >= 40*time.Millisecond
	})
	s.Finish(time.Now())

	b := one(t, s, busy, "")
	if b.Name != "busy" || b.PID != h.pid || b.Ended || !b.Last.After(b.First) || b.StatusAt.IsZero() || b.Coarse() {
		t.Errorf("%+v", b)
	}
	if before := b.OnCPU - b.Used.OnCPU; before < 50*time.Millisecond {
		t.Errorf("on a CPU for %v, of which %v in the watch; it had 60ms before", b.OnCPU, b.Used.OnCPU)
	}
	if !b.RanOn.Equal(cpuset.Of(home)) || !b.Allowed.Equal(cpuset.Of(home)) || b.Moves != 0 || b.Migrations > 0 {
		t.Errorf("pinned to %d: %+v", home, b)
	}
	// What it is said to have in all is what the kernel says.
	await(t, "it sleeps, and all agree", func() bool {
		s.Finish(time.Now())
		b := one(t, s, busy, "")
		dir := fmt.Sprintf("/proc/%d/task/%d/", h.pid, busy)
		return b.State == tasks.Sleeping && readAll(t, dir+"schedstat") == fmt.Sprintln(int64(b.OnCPU), int64(b.RunDelay), b.Timeslices) &&
			readLine(t, dir+"status", "voluntary_ctxt_switches:") == strconv.Itoa(int(b.Voluntary)) &&
			readLine(t, dir+"status", "nonvoluntary_ctxt_switches:") == strconv.Itoa(int(b.Involuntary)) &&
			readLine(t, dir+"status", "Cpus_allowed_list:") == b.Allowed.String()
	})
	if u := one(t, s, busy, "").Used; u.Voluntary < 1 || u.Timeslices < u.Voluntary || u.RunDelay < 0 || u.User+u.System < 20*time.Millisecond {
		t.Errorf("used %+v", u)
	}
	if i := one(t, s, idle, ""); i.Name != "idle" || i.Used.OnCPU > 40*time.Millisecond || !i.Allowed.Equal(allowed(t)) {
		t.Errorf("%+v", i)
	}
	if o := one(t, s, 0, odd); o.TID == 0 {
		t.Errorf("%+v", o)
	}
	p := s.Processes()
	if len(p) != 1 || p[0].PID != h.pid || p[0].Parent != os.Getpid() || p[0].Ended || p[0].Used < 20*time.Millisecond || p[0].Start <= 0 {
		t.Errorf("%+v", p)
	}
	if s.Missed() > 0 || s.Cost() <= 0 || s.Alive() != 1 {
		t.Errorf("missed %d, cost %v, alive %d", s.Missed(), s.Cost(), s.Alive())
	}
}

func TestMoves(t *testing.T) {
	cpus := slices.Collect(allowed(t).All())
	if len(cpus) < 2 {
		t.Skip("one CPU")
	}
	h := newHelper(t)
	tid := h.thread(t, "mover")
	h.do(t, "pin mover %d", cpus[0])
	s := follow(t, h.pid, tasks.Options{})
	for i := range 4 {
		h.do(t, "pin mover %d", cpus[i%2])
		h.do(t, "burn mover 10")
		was := one(t, s, tid, "").Used.OnCPU
		await(t, "the work shows", func() bool {
			s.Sample(time.Now())
			return one(t, s, tid, "").Used.OnCPU >= was+10*time.Millisecond
		})
	}
	s.Finish(time.Now())
	m := one(t, s, tid, "")
	if !m.RanOn.Equal(cpuset.Of(cpus[0], cpus[1])) || m.Moves != 3 {
		t.Errorf("ran on %s, %d moves; want %d and %d, 3 moves", m.RanOn, m.Moves, cpus[0], cpus[1])
	}
	if _, err := os.Stat("/proc/self/sched"); err == nil && m.Migrations != 3 {
		t.Errorf("the kernel counts %d migrations, want 3", m.Migrations)
	}
}

// Threads that come and go by the hundred, while they are watched.
func TestBirthsAndDeaths(t *testing.T) {
	h := newHelper(t)
	before := openFiles(t)
	s := follow(t, h.pid, tasks.Options{})
	for len(s.Threads()) < 500 && !t.Failed() {
		done := make(chan struct{})
		go func() {
			defer close(done) // if the helper fails too
			h.do(t, "storm x 300")
		}()
		for storm := true; storm; {
			select {
			case <-done:
				storm = false
			default:
			}
			s.Sample(time.Now())
		}
	}
	await(t, "those that live are those in the watch", func() bool {
		s.Sample(time.Now())
		return slices.Equal(liveTIDs(s), tidsOf(t, h.pid))
	})
	s.Finish(time.Now())
	if s.Missed() > 0 {
		t.Errorf("%d readings missed", s.Missed())
	}
	type identity struct {
		tid   int
		start time.Duration
	}
	seen := map[identity]bool{}
	var used time.Duration
	for _, w := range s.Threads() {
		id := identity{w.TID, w.Start}
		if seen[id] {
			t.Errorf("twice: %+v", w)
		}
		seen[id] = true
		used += w.Used.OnCPU
		if w.Last.Before(w.First) || w.Ended == slices.Contains(liveTIDs(s), w.TID) {
			t.Errorf("%+v", w)
		}
	}
	// The process's time has all its threads, the unseen too, but in steps.
	if p := s.Processes()[0]; used > p.Used+5*tasks.Tick {
		t.Errorf("the threads used %v, their process %v", used, p.Used)
	}
	if s.Forget(); len(s.Threads()) != len(liveTIDs(s)) {
		t.Errorf("%d threads after Forget, %d live", len(s.Threads()), len(liveTIDs(s)))
	}
	s.Close()
	if after := openFiles(t); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func TestChildren(t *testing.T) {
	h := newHelper(t)
	old, _ := strconv.Atoi(h.do(t, "child"))
	await(t, "the kernel has counted what it ran", func() bool {
		return !strings.HasPrefix(readAll(t, fmt.Sprintf("/proc/%d/schedstat", old)), "0 ")
	})
	alone := follow(t, h.pid, tasks.Options{})
	s := follow(t, h.pid, tasks.Options{Children: true})
	young, _ := strconv.Atoi(h.do(t, "child"))

	find := func(pid int) *tasks.WatchedProcess {
		for _, p := range s.Processes() {
			if p.PID == pid {
				return &p
			}
		}
		return nil
	}
	await(t, "the new child is found", func() bool {
		s.Sample(time.Now())
		return find(young) != nil
	})
	s.Finish(time.Now())
	for _, pid := range []int{old, young} {
		if p := find(pid); p == nil || p.Parent != h.pid || p.Ended {
			t.Errorf("%d: %+v", pid, p)
		}
		w := one(t, s, pid, "")
		if fromBirth := w.Used.OnCPU == w.OnCPU; fromBirth != (pid == young) {
			t.Errorf("%d of %d and %d: used %v of %v", pid, old, young, w.Used.OnCPU, w.OnCPU)
		}
	}
	h.do(t, "orphan")
	await(t, "the child's end is seen", func() bool {
		s.Sample(time.Now())
		return find(young).Ended
	})
	if w := one(t, s, young, ""); !w.Ended || s.Alive() != 2 {
		t.Errorf("%+v, %d alive", w, s.Alive())
	}
	if alone.Sample(time.Now()); alone.Alive() != 1 {
		t.Errorf("%d processes followed where one was asked for", alone.Alive())
	}
}

func TestFromBirth(t *testing.T) {
	h := newHelper(t)
	tid := h.thread(t, "early")
	h.do(t, "burn early 20")
	s := follow(t, h.pid, tasks.Options{FromBirth: true})
	s.Finish(time.Now())
	w := one(t, s, tid, "")
	if w.Used.OnCPU < 10*time.Millisecond || w.Used.OnCPU != w.OnCPU || w.RanOn.IsEmpty() || w.Used.Voluntary != w.Voluntary {
		t.Errorf("%+v", w)
	}
}

// A process that has ended but was not waited for has ended; and what it was
// can still be read.
func TestZombie(t *testing.T) {
	h := newHelper(t)
	h.thread(t, "busy")
	s := follow(t, h.pid, tasks.Options{})
	h.do(t, "burn busy 60")
	h.in.Close()
	await(t, "the end is seen", func() bool {
		s.Sample(time.Now())
		return s.Alive() == 0
	})
	if got := readLine(t, fmt.Sprintf("/proc/%d/status", h.pid), "State:"); !strings.HasPrefix(got, "Z") {
		t.Errorf("state %s", got)
	}
	for _, w := range s.Threads() {
		if !w.Ended {
			t.Errorf("%+v", w)
		}
	}
	p := s.Processes()
	if len(p) != 1 || !p[0].Ended || p[0].Used < 40*time.Millisecond {
		t.Errorf("%+v", p)
	}
	// To follow it now is to see it end.
	late := follow(t, h.pid, tasks.Options{})
	if late.Sample(time.Now()); late.Alive() != 0 || !one(t, late, h.pid, "").Ended {
		t.Errorf("%d alive: %+v", late.Alive(), late.Threads())
	}
	h.stop()
	if err := tasks.NewSampler(live, tasks.Options{}).Follow(h.pid, time.Now()); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("waited for: %v", err)
	}
}

// A thread that calls execve takes over the number of the first one.
func TestExecve(t *testing.T) {
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Skip(err)
	}
	h := newHelper(t)
	h.thread(t, "caller")
	s := follow(t, h.pid, tasks.Options{})
	fmt.Fprintln(h.in, "exec caller")
	await(t, "the program is another", func() bool {
		s.Finish(time.Now())
		name := ""
		for w := range s.Live() {
			name = w.Name
		}
		return name == "sleep" && s.Processes()[0].Name == "sleep"
	})
	if got := liveTIDs(s); s.Alive() != 1 || !slices.Equal(got, []int{h.pid}) {
		t.Errorf("%d alive, threads %v", s.Alive(), got)
	}
}

func TestRun(t *testing.T) {
	h := newHelper(t)
	h.thread(t, "busy")
	s := follow(t, h.pid, tasks.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { s.Run(ctx, time.Millisecond); close(ran) }()
	h.do(t, "burn busy 30")
	cancel()
	<-ran
	if w := one(t, s, 0, "busy"); w.Used.OnCPU == 0 || w.StatusAt.IsZero() {
		t.Errorf("%+v", w)
	}
	h.in.Close()
	s.Run(context.Background(), 0) // until it ends
	if s.Alive() != 0 {
		t.Error("Run returned while the process lived")
	}
	if s.Interval() < tasks.DefaultInterval {
		t.Errorf("interval %v", s.Interval())
	}
}

// fixture is a process 9 with the threads 9 and 10 in a tree.
func fixture(t testing.TB) (tree, []task) {
	r := tree{t, t.TempDir()}
	r.write("self/schedstat", "5 5 5\n")
	r.write("loadavg", "0.00 0.00 0.00 1/2 10\n")
	threads := []task{
		{pid: 9, tid: 9, name: "main", state: "S", onCPU: 1000, delay: 10, slices: 3, ticks: 2, start: 500, cpu: 1, allowed: "0-3", switches: 5, moves: 1},
		{pid: 9, tid: 10, name: "second", state: "S", onCPU: 2000, delay: 20, slices: 4, ticks: 2, start: 510, cpu: 2, allowed: "2", switches: 6},
	}
	for _, k := range threads {
		k.write(r)
	}
	return r, threads
}

func followTree(t testing.TB, r tree, pid int, o tasks.Options) (*tasks.Sampler, func() time.Time) {
	t.Helper()
	s := tasks.NewSampler(tasks.Proc(r.dir), o)
	t.Cleanup(s.Close)
	clock := time.Unix(1e9, 0)
	tick := func() time.Time { clock = clock.Add(2 * time.Second); return clock }
	if err := s.Follow(pid, tick()); err != nil {
		t.Fatal(err)
	}
	return s, tick
}

func TestCounters(t *testing.T) {
	r, k := fixture(t)
	s, tick := followTree(t, r, 9, tasks.Options{})
	s.Sample(tick())
	k[0].onCPU, k[0].delay, k[0].slices, k[0].cpu, k[0].switches, k[0].moves, k[0].ticks = 5000, 70, 5, 3, 8, 3, 4
	k[0].write(r)
	s.Sample(tick())
	w := one(t, s, 9, "")
	want := tasks.Counters{SchedStat: tasks.SchedStat{OnCPU: 4000, RunDelay: 60, Timeslices: 2}, User: 2 * tasks.Tick, Voluntary: 3}
	if w.Used != want || !w.RanOn.Equal(cpuset.Of(3)) || w.Moves != 1 || w.Migrations != 2 || w.UID != 7 || w.Mems != "" {
		t.Errorf("%+v\nused %+v, want %+v", w, w.Used, want)
	}
	if w := one(t, s, 10, ""); w.Used.OnCPU != 0 || !w.RanOn.IsEmpty() || w.Allowed.String() != "2" || w.Migrations != 0 {
		t.Errorf("%+v", w)
	}
	if p := s.Processes()[0]; p.Used != 2*tasks.Tick || p.Name != "main" {
		t.Errorf("%+v", p)
	}

	// Counts that went back are those of a thread that called execve.
	k[0].onCPU, k[0].slices, k[0].name = 300, 1, "other"
	k[0].write(r)
	s.Sample(tick())
	k[0].onCPU, k[0].slices = 350, 2
	k[0].write(r)
	s.Finish(tick())
	if w := one(t, s, 9, ""); w.Used.OnCPU != 4050 || w.Used.Timeslices != 3 || w.Name != "other" || w.Ended {
		t.Errorf("%+v", w)
	}

	// A text that makes no sense is a missed reading, not an end.
	r.write("9/task/9/schedstat", "nonsense\n")
	s.Sample(tick())
	if s.Missed() != 1 || len(liveTIDs(s)) != 2 {
		t.Errorf("missed %d, live %v", s.Missed(), liveTIDs(s))
	}
}

func TestReusedNumbers(t *testing.T) {
	r, k := fixture(t)
	s, tick := followTree(t, r, 9, tasks.Options{})
	s.Sample(tick())

	k[1].name, k[1].start, k[1].onCPU, k[1].cpu = "third", 700, 2500, 0
	k[1].write(r)
	s.Sample(tick())
	old, young := one(t, s, 0, "second"), one(t, s, 0, "third")
	if !old.Ended || old.Used.OnCPU != 0 || old.OnCPU != 2000 || old.TID != 10 {
		t.Errorf("the old one: %+v", old)
	}
	if young.Ended || young.Used.OnCPU != 2500 || !young.RanOn.Equal(cpuset.Of(0)) || young.TID != 10 {
		t.Errorf("the new one: %+v", young)
	}

	r.remove("9/task/10")
	r.write("loadavg", "0.00 0.00 0.00 1/2 11\n")
	s.Sample(tick())
	if w := one(t, s, 0, "third"); !w.Ended || s.Alive() != 1 {
		t.Errorf("%+v", w)
	}

	k[0].name, k[0].start, k[0].onCPU = "stranger", 900, 9000
	k[0].write(r)
	s.Sample(tick())
	if w := one(t, s, 9, ""); !w.Ended || w.Name != "main" || w.Used.OnCPU != 0 || s.Alive() != 0 {
		t.Errorf("%d alive: %+v", s.Alive(), w)
	}
	if p := s.Processes(); len(p) != 1 || p[0].Name != "main" || !p[0].Ended {
		t.Errorf("%+v", p)
	}
	// The stranger may be followed for its own sake.
	if err := s.Follow(9, tick()); err != nil || len(s.Processes()) != 2 || s.Alive() != 1 {
		t.Errorf("%v, %+v", err, s.Processes())
	}
}

// The first thread may end before the others: it stays, a zombie, until they
// end, or until one of them calls execve and lives on under its number.
func TestFirstThreadEnds(t *testing.T) {
	r, k := fixture(t)
	s, tick := followTree(t, r, 9, tasks.Options{})
	k[0].state, k[0].onCPU = "Z", 1500
	k[0].write(r)
	for range 2 {
		s.Sample(tick())
		if w := one(t, s, 9, ""); !w.Ended || w.Used.OnCPU != 500 || s.Alive() != 1 || !slices.Equal(liveTIDs(s), []int{10}) {
			t.Fatalf("%d alive, %v: %+v", s.Alive(), liveTIDs(s), w)
		}
	}
	k[1].tid, k[1].start = 9, k[0].start
	k[1].write(r)
	r.remove("9/task/10")
	s.Sample(tick())
	if s.Alive() != 1 || !slices.Equal(liveTIDs(s), []int{9}) {
		t.Errorf("%d alive, %v", s.Alive(), liveTIDs(s))
	}
	for w := range s.Live() {
		if w.Used.OnCPU != 0 || w.Name != "second" {
			t.Errorf("what it did under its own number is counted anew: %+v", w)
		}
	}
}

func TestChildrenInTree(t *testing.T) {
	r, _ := fixture(t)
	add := func(pid, parent, start int) {
		task{pid: pid, tid: pid, parent: parent, name: fmt.Sprint("p", pid), state: "S", onCPU: 100, slices: 1, start: start, allowed: "0"}.write(r)
	}
	add(20, 9, 600)
	add(21, 1, 600)
	s, tick := followTree(t, r, 9, tasks.Options{Children: true})
	if s.Alive() != 2 || one(t, s, 20, "").Used.OnCPU != 0 {
		t.Errorf("%+v", s.Processes())
	}
	add(31, 32, 700) // its parent has a higher number
	add(32, 20, 700)
	add(33, 21, 700) // another's child
	add(34, 9, 400)  // older than its parent: a number that passed on
	s.Sample(tick())
	var have []int
	for _, p := range s.Processes() {
		have = append(have, p.PID)
	}
	if !slices.Equal(have, []int{9, 20, 31, 32}) || one(t, s, 31, "").Used.OnCPU != 100 {
		t.Errorf("%v, want 9, 20, 31, 32", have)
	}
	r.remove("20")
	s.Sample(tick())
	add(20, 9, 800)
	s.Sample(tick())
	var starts []time.Duration
	for _, p := range s.Processes() {
		if p.PID == 20 {
			starts = append(starts, p.Start)
		}
	}
	if !slices.Equal(starts, []time.Duration{6 * time.Second, 8 * time.Second}) {
		t.Errorf("of number 20: %v", starts)
	}
}

func TestCoarseWatch(t *testing.T) {
	r, k := fixture(t)
	r.write("self/schedstat", "0 0 0\n")
	for i := range k {
		k[i].onCPU, k[i].delay, k[i].slices = 0, 0, 0
		k[i].write(r)
		r.remove(fmt.Sprintf("9/task/%d/sched", k[i].tid))
	}
	s, tick := followTree(t, r, 9, tasks.Options{})
	k[0].ticks, k[0].cpu = 7, 0
	k[0].write(r)
	s.Finish(tick())
	w := one(t, s, 9, "")
	if !w.Coarse() || w.Used.SchedStat != (tasks.SchedStat{OnCPU: 50 * time.Millisecond, RunDelay: -1, Timeslices: -1}) || !w.RanOn.Equal(cpuset.Of(0)) || w.Migrations != -1 {
		t.Errorf("%+v", w)
	}
	if w := one(t, s, 10, ""); !w.Coarse() || w.Used.OnCPU != 0 || !w.RanOn.IsEmpty() {
		t.Errorf("%+v", w)
	}
}

func TestEveryState(t *testing.T) {
	for _, every := range []bool{false, true} {
		r, k := fixture(t)
		s, tick := followTree(t, r, 9, tasks.Options{EveryState: every})
		k[1].state = "D"
		k[1].write(r)
		s.Sample(tick())
		if got := one(t, s, 10, "").State == tasks.Blocked; got != every {
			t.Errorf("EveryState %v: the state is seen: %v", every, got)
		}
	}
}

// What is read on demand alone is not read before.
func TestOnDemand(t *testing.T) {
	h := newHelper(t)
	tid := h.thread(t, "busy")
	s := follow(t, h.pid, tasks.Options{OnDemand: true})
	if w := one(t, s, tid, ""); w.State != 0 || w.Start != -1 || w.Name != "" || !w.StatusAt.IsZero() || w.OnCPU < 0 {
		t.Errorf("%+v", w)
	}
	if first := one(t, s, h.pid, ""); first.State == 0 || first.Start <= 0 {
		t.Errorf("the first thread's is read: %+v", first)
	}
	h.do(t, "burn busy 20")
	var w *tasks.Watched
	await(t, "the work shows, and it sleeps", func() bool {
		s.Sample(time.Now())
		for w = range s.Live() {
			if w.TID == tid {
				break
			}
		}
		return w.Used.OnCPU >= 20*time.Millisecond && s.ReadStat(w) && w.State == tasks.Sleeping
	})
	if !s.ReadStatus(w) || w.Name != "busy" || w.Start <= 0 || !w.Allowed.Equal(allowed(t)) || w.Used.Voluntary != 0 || w.StatusAt.IsZero() {
		t.Errorf("%+v", *w)
	}
	h.do(t, "burn busy 1")
	await(t, "its wait is counted", func() bool {
		s.Sample(time.Now())
		return s.ReadStatus(w) && w.Used.Voluntary >= 1
	})
	h.do(t, "end busy")
	await(t, "its end shows", func() bool {
		s.Finish(time.Now())
		return one(t, s, tid, "").Ended
	})
	if s.ReadStat(w) || s.ReadStatus(w) {
		t.Error("an ended thread was read")
	}
}

// While none of many threads runs, they are not read one by one.
func TestStillProcess(t *testing.T) {
	reads := func() int {
		n, err := strconv.Atoi(readLine(t, "/proc/self/io", "syscr:"))
		if err != nil {
			t.Skip("the kernel does not count reads:", err)
		}
		return n
	}
	if _, err := os.Stat("/proc/self/io"); err != nil {
		t.Skip(err)
	}
	h := newHelper(t)
	const n = 60
	for i := range n {
		h.thread(t, fmt.Sprint("hand", i))
	}
	s := follow(t, h.pid, tasks.Options{})
	now := time.Now()
	sample := func() int {
		now = now.Add(100 * time.Millisecond)
		before := reads()
		s.Sample(now)
		return reads() - before
	}
	if sample() < n {
		t.Error("not all were read the first time")
	}
	await(t, "a sample reads few of them", func() bool { return sample() < n/2 })
	h.do(t, "burn hand7 5")
	await(t, "the work of one shows", func() bool {
		sample()
		return one(t, s, 0, "hand7").Used.OnCPU >= 5*time.Millisecond
	})
}

// A sample of threads that are known makes no garbage, whatever it reads.
func TestSampleAllocatesNothing(t *testing.T) {
	h := newHelper(t)
	for i := range 20 {
		h.thread(t, fmt.Sprint("hand", i))
	}
	s := follow(t, h.pid, tasks.Options{EveryState: true})
	now := time.Now()
	if got := testing.AllocsPerRun(50, func() {
		now = now.Add(2 * time.Second)
		s.Finish(now)
	}); got > 0 {
		t.Errorf("%v allocations a sample", got)
	}
}

func TestFewDescriptors(t *testing.T) {
	out, err := helperCommand("few-descriptors").Output()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// fewDescriptors watches its own process, whose threads are more than the
// files it may open.
func fewDescriptors() error {
	const limit = 32
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	count := func() int {
		n := 0
		for fd := range limit {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				n++
			}
		}
		return n
	}
	var taken []int // by others in the process
	tids := map[int]bool{}
	var hands []*hand
	for i := range 40 {
		hands = append(hands, newHand(fmt.Sprint("hand", i)))
		tids[hands[i].tid] = true
	}
	before := count()
	s := tasks.NewSampler(live, tasks.Options{})
	if err := s.Follow(os.Getpid(), time.Now()); err != nil {
		return err
	}
	check := func(when string, used time.Duration) error {
		found := 0
		for w := range s.Live() {
			if tids[w.TID] {
				found++
				if w.Used.OnCPU < used {
					return fmt.Errorf("%s: %s used %v, want %v", when, w.Name, w.Used.OnCPU, used)
				}
			}
		}
		if kept := count() - before - len(taken); found != len(tids) || kept > limit/2 {
			return fmt.Errorf("%s: %d threads found, %d descriptors kept", when, found, kept)
		}
		return nil
	}
	work := func() {
		for _, h := range hands {
			h.do(func() error { burn(time.Millisecond); return nil })
		}
		s.Finish(time.Now())
	}
	if work(); s.Missed() > 0 {
		return fmt.Errorf("%d readings missed with half of the descriptors to spare", s.Missed())
	}
	if err := check("with half of the descriptors", time.Millisecond/2); err != nil {
		return err
	}

	// Others in the process take what there is.
	takeAll := func() {
		for {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return
			}
			taken = append(taken, fd)
		}
	}
	takeAll()
	held := count() - before - len(taken)
	if work(); s.Missed() > 0 {
		return fmt.Errorf("%d readings missed though some could be closed", s.Missed())
	}
	if err := check("with none to spare", time.Millisecond); err != nil {
		return err
	}
	if now := count() - before - len(taken); now >= held || now == 0 {
		return fmt.Errorf("kept %d descriptors, %d before others ran out", now, held)
	}

	// And leave nothing at all.
	for range 6 {
		takeAll()
		work()
	}
	if s.Missed() == 0 {
		return errors.New("no descriptor was left, and no reading was missed")
	}
	for _, fd := range taken {
		unix.Close(fd)
	}
	taken = nil
	work()
	if err := check("afterwards", 5*time.Millisecond); err != nil {
		return err
	}
	for w := range s.Live() {
		if w.Ended {
			return fmt.Errorf("%+v", w)
		}
	}
	s.Close()
	if left := count(); left != before {
		return fmt.Errorf("%d descriptors are left open, %d were before", left, before)
	}
	runtime.KeepAlive(hands)
	return nil
}

func TestFollowNothing(t *testing.T) {
	s := tasks.NewSampler(live, tasks.Options{Children: true})
	defer s.Close()
	err := s.Follow(1<<30, time.Now())
	if !errors.Is(err, tasks.ErrGone) || !strings.Contains(err.Error(), "read process 1073741824") {
		t.Errorf("%v", err)
	}
	s.Sample(time.Now())
	if s.Alive() != 0 || len(s.Threads()) != 0 || s.Missed() != 0 {
		t.Errorf("%d alive, %v, %d missed", s.Alive(), s.Threads(), s.Missed())
	}
}
