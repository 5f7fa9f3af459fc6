//go:build linux

package affinity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
)

// Worker is a program to start on a seat.
type Worker struct {
	Command *exec.Cmd
	Seat    Seat
	// Threads are the seats of its threads in the order of their birth, the
	// first thread's first; those born beyond them keep the worker's seat.
	Threads []Seat
}

// Run starts workers on their seats and looks after them until all have ended.
type Run struct {
	Workers []Worker
	// Watch follows the threads and fills in the receipt; without it the receipt
	// holds how the workers ended, and no thread gets a seat of its own.
	Watch bool
	// Strict makes a seat that cannot be had in full an error, before any
	// program runs for long: those started are ended again.
	Strict bool
	// StopOnFailure ends the other workers when one fails: SIGTERM, and after
	// Grace (0: ten seconds) SIGKILL.
	StopOnFailure bool
	Grace         time.Duration
	// KillOnDeath lets the kernel kill the workers, though not what they have
	// started, if this process dies before them (PR_SET_PDEATHSIG, prctl(2)).
	KillOnDeath bool
	// Signals are passed on to the workers. A single worker stays in this
	// process's group, and so gets those that the terminal sends by itself;
	// several have a group each.
	Signals <-chan os.Signal
	// Group, if any, is the control group that they are born in. It is the
	// caller's to remove.
	Group *Group
	// Log is told, in a sentence each, what a user should know at once.
	Log func(string)
}

// Do starts the workers and returns when the last has ended. The error says why
// a worker could not be started or seated, or is ctx's, whose end ends them; the
// receipt is there all the same, for those that were.
func (r *Run) Do(ctx context.Context) (*Receipt, error) {
	s := &supervisor{Run: r, began: time.Now(), owner: map[int]int{}, seated: map[thread]*seated{},
		receipt: &Receipt{Schema: ReceiptSchema, Each: r.each(), Workers: []WorkerReceipt{}, Broken: []Violation{}, Finding: []finding.Finding{}}}
	// Before the first worker, so that the end of none is missed.
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	err := s.start()
	if err != nil {
		s.stop(unix.SIGKILL)
	}
	if s.look(ctx, children) && err == nil {
		err = ctx.Err()
	}
	s.close()
	return s.receipt, err
}

func (r *Run) each() bool {
	return r.Watch && slices.ContainsFunc(r.Workers, func(w Worker) bool { return len(w.Threads) > 0 })
}

// thread names one for good: its number alone can come back.
type thread struct {
	tid   int
	start time.Duration
}

// seated is what a thread was given of its own: the seat, what the kernel made
// of it and when; and where it had been seen before.
type seated struct {
	cpus, got, early cpuset.Set
	at               time.Time
}

type supervisor struct {
	*Run
	began    time.Time
	launcher *Launcher
	sampler  *tasks.Sampler
	before   tasks.SystemStat
	// throttled is what quotas had done to this process's groups before.
	throttled cgroup.Throttling
	// leaves is what the cpusets of their group left at the start; empty: not known.
	leaves   cpuset.Set
	receipt  *Receipt
	alive    []int       // places of workers that run
	owner    map[int]int // worker of each process that was seen
	seated   map[thread]*seated
	births   []int // threads seen, by worker
	halted   map[int]bool
	stopping *time.Timer // runs out when those that are left are to be killed
}

func (s *supervisor) log(format string, args ...any) {
	if s.Log != nil {
		s.Log(fmt.Sprintf(format, args...))
	}
}

func (s *supervisor) start() error {
	var err error
	if s.launcher, err = NewLauncher(); err != nil {
		return err
	}
	s.throttled, _ = cgroup.ThrottlingOf(0) // without it, throttling is unknown
	if s.Watch {
		s.sampler = tasks.NewSampler("", tasks.Options{Children: true, FromBirth: true})
		s.before, _ = tasks.Proc("").SystemStat() // without it, noise is unknown
		s.leaves = s.groupCPUs()
	}
	s.births = make([]int, len(s.Workers))
	s.halted = map[int]bool{}
	for i := range s.Workers {
		if err := s.startWorker(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) startWorker(i int) error {
	w := &s.Workers[i]
	cmd := w.Command
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = len(s.Workers) > 1
	if s.KillOnDeath {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	start := s.launcher.Start
	if s.Group != nil {
		start = func(cmd *exec.Cmd, seat Seat) (*Trimmed, error) { return s.Group.Start(s.launcher, cmd, seat) }
	}
	trim, err := start(cmd, w.Seat)
	if err != nil {
		return err
	}
	s.alive = append(s.alive, i)
	pid := cmd.Process.Pid
	s.owner[pid] = i
	got := WorkerReceipt{Index: i, PID: pid, Asked: w.Seat.CPUs, Threads: []ThreadReceipt{}}
	if w.Seat.Memory != nil {
		got.Mems = w.Seat.Memory.Nodes.String()
	}
	s.receipt.Workers = append(s.receipt.Workers, got)
	if trim != nil {
		s.broken(Violation{i, 0, SeatTrimmed, trim.Error()})
		if s.Strict {
			return fmt.Errorf("worker %d: %w", i, trim)
		}
	}
	if s.sampler != nil {
		if err := s.sampler.Follow(pid, time.Now()); err != nil && !errors.Is(err, tasks.ErrGone) {
			s.log("worker %d is not watched: %v", i, err)
		}
		s.attend()
	}
	return nil
}

func (s *supervisor) broken(v Violation) {
	s.receipt.Broken = append(s.receipt.Broken, v)
	s.log("worker %d: %s", v.Worker, v.Message)
}

// look waits for the workers' ends, and meanwhile samples and passes signals on.
// It reports whether ctx ended them.
func (s *supervisor) look(ctx context.Context, children <-chan os.Signal) (stopped bool) {
	var tick, killing <-chan time.Time
	cancelled := ctx.Done()
	timer := time.NewTimer(s.interval())
	defer timer.Stop()
	if s.sampler != nil {
		tick = timer.C
	}
	for s.reap(); len(s.alive) > 0; s.reap() {
		if s.stopping != nil {
			killing = s.stopping.C
		}
		select {
		case <-children:
		case sig := <-s.Signals:
			s.pass(sig)
		case <-tick:
			s.sampler.Sample(time.Now())
			s.attend()
			timer.Reset(s.interval())
		case <-cancelled:
			cancelled, stopped = nil, true
			s.stop(unix.SIGTERM)
		case <-killing:
			s.signal(unix.SIGKILL)
		}
	}
	return stopped
}

// interval is short while seats are still to be given to newborn threads.
func (s *supervisor) interval() time.Duration {
	if s.sampler == nil {
		return time.Hour
	}
	if s.receipt.Each && time.Since(s.began) < 2*time.Second {
		return 10 * time.Millisecond
	}
	return s.sampler.Interval()
}

// reap collects the workers that ended, and notices those that were stopped.
func (s *supervisor) reap() {
	var ended []int
	for _, i := range s.alive {
		// WNOWAIT leaves the process in place until its account is taken.
		if happened(s.pid(i), unix.WEXITED|unix.WNOWAIT) != 0 {
			ended = append(ended, i)
			continue
		}
		switch sig := happened(s.pid(i), unix.WSTOPPED|unix.WCONTINUED); sig {
		case 0:
		case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			s.halted[i] = true
		default: // SIGCONT, or a debugger's SIGSTOP
			delete(s.halted, i)
		}
	}
	if ended == nil {
		if n := len(s.alive); n > 0 && n == len(s.halted) {
			s.suspend()
		}
		return
	}
	if s.sampler != nil {
		s.sampler.Finish(time.Now())
		s.attend()
	}
	for _, i := range ended {
		s.ended(i)
	}
}

func (s *supervisor) pid(i int) int { return s.Workers[i].Command.Process.Pid }

// happened is the signal or code of what happened to a child; 0 is nothing, -1
// an end with code 0.
func happened(pid, options int) syscall.Signal {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, options|unix.WNOHANG, nil); err != nil || info.Signo == 0 {
		return 0
	}
	if options&unix.WEXITED != 0 {
		return -1
	}
	return siginfoStatus(&info)
}

// ended collects a worker whose account is taken.
func (s *supervisor) ended(i int) {
	s.alive = slices.DeleteFunc(s.alive, func(j int) bool { return j == i })
	delete(s.halted, i)
	cmd := s.Workers[i].Command
	err := cmd.Wait()
	exit := &Exit{}
	if cmd.ProcessState != nil {
		switch status := cmd.ProcessState.Sys().(syscall.WaitStatus); {
		case status.Signaled():
			exit.Signal, exit.Core = unix.SignalName(status.Signal()), status.CoreDump()
			dumped := ""
			if exit.Core {
				dumped = " (core dumped)"
			}
			s.log("worker %d (process %d) was ended by %s%s", i, s.pid(i), exit.Signal, dumped)
		default:
			code := status.ExitStatus()
			exit.Code = &code
		}
	} else {
		s.log("worker %d: %v", i, err)
		code := 1
		exit.Code = &code
	}
	s.receipt.Workers[i].Exit = exit
	if exit.Status() == 0 {
		return
	}
	if s.stopping == nil && s.receipt.Status == 0 {
		s.receipt.Status = exit.Status()
	}
	if s.StopOnFailure && len(s.alive) > 0 && s.stopping == nil {
		s.log("worker %d failed with status %d; the others are stopped", i, exit.Status())
		s.stop(unix.SIGTERM)
	}
}

// stop begins to end the workers that are left.
func (s *supervisor) stop(sig syscall.Signal) {
	if s.stopping == nil {
		s.stopping = time.NewTimer(cmp.Or(s.Grace, 10*time.Second))
	}
	s.signal(sig)
	s.signal(unix.SIGCONT) // a stopped one could not obey
}

func (s *supervisor) signal(sig syscall.Signal) {
	for _, i := range s.alive {
		to := s.pid(i)
		if s.Workers[i].Command.SysProcAttr.Setpgid {
			to = -to
		}
		_ = unix.Kill(to, sig) // it may just have ended
	}
}

// pass hands a signal on, unless the terminal has sent it to the worker too.
func (s *supervisor) pass(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	fromTerminal := number == unix.SIGINT || number == unix.SIGQUIT || number == unix.SIGWINCH
	if len(s.Workers) == 1 && fromTerminal && inForeground() {
		return
	}
	s.signal(number)
}

// inForeground reports whether keys pressed on the terminal reach this
// process's group.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// suspend stops this process as its workers are stopped, so that the shell sees
// the job stop; when it is continued, so are they.
func (s *supervisor) suspend() {
	clear(s.halted)
	// To this very thread: it then goes no further before it is continued.
	runtime.LockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
	runtime.UnlockOSThread()
	s.signal(unix.SIGCONT)
}

// attend takes note of processes and threads that are new, and seats threads.
func (s *supervisor) attend() {
	type newborn struct {
		thread
		worker int
		seen   cpuset.Set
	}
	var born []newborn
	for t := range s.sampler.Live() {
		worker, ok := s.owner[t.PID]
		if !ok {
			parent, ok := s.owner[t.Parent]
			if !ok && len(s.Workers) > 1 {
				continue // its parent ended before it was seen
			}
			worker = parent
			s.owner[t.PID] = worker
		}
		if !s.receipt.Each || t.PID != s.pid(worker) {
			continue
		}
		if id := (thread{t.TID, t.Start}); s.seated[id] == nil {
			born = append(born, newborn{id, worker, t.RanOn})
		}
	}
	slices.SortFunc(born, func(a, b newborn) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.tid, b.tid)) })
	for _, b := range born {
		given := &seated{}
		s.seated[b.thread] = given
		seats := s.Workers[b.worker].Threads
		n := s.births[b.worker]
		s.births[b.worker]++
		if n >= len(seats) || seats[n].CPUs.IsEmpty() {
			continue
		}
		given.cpus, given.early = seats[n].CPUs, b.seen
		var trim *Trimmed
		var err error
		given.got, err = Set(b.tid, given.cpus)
		given.at = time.Now()
		switch {
		case errors.As(err, &trim):
			s.broken(Violation{b.worker, b.tid, SeatTrimmed, trim.Error()})
		case err != nil && !errors.Is(err, unix.ESRCH):
			s.broken(Violation{b.worker, b.tid, SeatMoved, err.Error()})
		}
	}
}

// close ends the watch and draws up the receipt.
func (s *supervisor) close() {
	r := s.receipt
	elapsed := time.Since(s.began)
	r.WallS = float64(elapsed.Milliseconds()) / 1000
	if s.launcher != nil {
		s.launcher.Close()
	}
	if s.stopping != nil {
		s.stopping.Stop()
	}
	if len(s.Workers) > 0 {
		r.Command = s.Workers[0].Command.Args
	}
	r.Verdict = Measured
	r.ThrottledMS = s.throttling()
	if s.sampler != nil {
		s.account(elapsed)
		s.sampler.Close()
		s.shrunk()
	}
	r.Kept = len(r.Broken) == 0
}
