//go:build linux

package tune

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
)

// outcome is what a run gave: a value above 0, or why there is none.
type outcome struct {
	value  float64
	wall   time.Duration
	failed *Failure
	// trim, if any, says that the kernel gave fewer CPUs than asked for; early
	// that the command ended before it was to be stopped.
	trim  string
	early bool
	// cut: it had taken too long, and was stopped.
	cut bool
}

// runner runs the command with n workers on some CPUs; empty: any. A run that
// takes longer than most, unless that is 0, is cut. started is told the process,
// if it is not nil. An error is one that no other run would fare better with, or
// ctx's.
type runner interface {
	run(ctx context.Context, n int, cpus cpuset.Set, most time.Duration, started func(pid int)) (outcome, error)
}

// command runs a real one.
type command struct {
	s        *Settings
	path     string
	allowed  cpuset.Set
	launcher *affinity.Launcher
	mark     string // in the environment of all that is started
}

const (
	// grace is how long those have that got SIGTERM.
	grace = 5 * time.Second
	// outputWait is how long the output of an ended command may still be read.
	outputWait = 200 * time.Millisecond
	markName   = "BERTH_TUNE"
	shownLines = 8
)

func newCommand(s *Settings) (*command, error) {
	if len(s.Command) == 0 {
		return nil, errors.New("tune: there is no command to run")
	}
	c := &command{s: s, path: s.Path, mark: fmt.Sprintf("%s=%d-%d", markName, os.Getpid(), time.Now().UnixNano())}
	var err error
	if c.path == "" {
		if c.path, err = exec.LookPath(s.Command[0]); err != nil {
			return nil, fmt.Errorf("tune: %w", err)
		}
	}
	if c.allowed, err = probe.Affinity(0); err != nil {
		return nil, fmt.Errorf("tune: %w", err)
	}
	if c.launcher, err = affinity.NewLauncher(); err != nil {
		return nil, fmt.Errorf("tune: %w", err)
	}
	return c, nil
}

// close ends what the runs have left, even in sessions of their own.
func (c *command) close() {
	c.launcher.Close()
	c.sweep()
}

// sweep kills the processes that still carry the mark, and tells how many there
// were. Those of other users cannot be looked at.
func (c *command) sweep() int {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	killed := 0
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // a descriptor, where the kernel has them: the number cannot change hands
		if err != nil {
			continue
		}
		environ, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(append(environ, 0), []byte(c.mark+"\x00")) && p.Kill() == nil {
			killed++
		}
		_ = p.Release()
	}
	return killed
}

// environment tells the command its count and CPUs.
func (c *command) environment(n int, cpus cpuset.Set) []string {
	out := append(os.Environ(), "BERTH_N="+strconv.Itoa(n), "BERTH_CPUS="+cpus.String(), c.mark)
	for _, name := range c.s.Env {
		out = append(out, name+"="+strconv.Itoa(n))
	}
	return out
}

func (c *command) run(ctx context.Context, n int, cpus cpuset.Set, most time.Duration, started func(pid int)) (outcome, error) {
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	on := cpus
	if on.IsEmpty() {
		on = c.allowed
	}
	words := strings.NewReplacer("{n}", strconv.Itoa(n), "{cpus}", on.String())
	cmd := &exec.Cmd{Path: c.path, Args: []string{c.s.Command[0]}, Env: c.environment(n, on),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	for _, a := range c.s.Command[1:] {
		cmd.Args = append(cmd.Args, words.Replace(a))
	}
	var out, errs tail
	outPipe, err := newDrain(&out)
	if err != nil {
		return outcome{}, err
	}
	defer outPipe.close()
	errPipe, err := newDrain(&errs)
	if err != nil {
		return outcome{}, err
	}
	defer errPipe.close()
	cmd.Stdout, cmd.Stderr = outPipe.write, errPipe.write

	began := time.Now()
	trim, err := c.launcher.Start(cmd, affinity.Seat{CPUs: cpus})
	outPipe.begin()
	errPipe.begin()
	if err != nil {
		return outcome{}, fmt.Errorf("start %s: %w", c.s.Command[0], err)
	}
	if started != nil {
		started(cmd.Process.Pid)
	}
	ended, stopped, cut := c.await(ctx, cmd.Process.Pid, most)
	got := outcome{wall: ended.Sub(began), cut: cut}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // whoever is left of the group, which the command still holds
	waitErr := cmd.Wait()
	outPipe.finish()
	errPipe.finish()
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	if trim != nil {
		got.trim = trim.Error()
	}
	if cut {
		return got, nil
	}
	got.failed = c.judge(cmd.ProcessState, waitErr, stopped)
	got.early = c.s.For > 0 && !stopped
	if got.failed == nil {
		if got.value, err = c.s.Metric.value(n, got.wall, &out, &errs); err != nil {
			got.failed = &Failure{Why: err.Error()}
		}
	}
	if got.failed != nil {
		got.failed.Output = errs.last(shownLines)
		if len(got.failed.Output) == 0 || got.failed.Status == 0 {
			got.failed.Output = append(out.last(shownLines), got.failed.Output...)
		}
		if got.failed.Output == nil {
			got.failed.Output = []string{}
		}
	}
	return got, nil
}

// await waits for a process to end, and sees to it when ctx ends, it has run as
// long as it is to, or takes longer than most. It is not reaped yet: its number
// is still its own.
func (c *command) await(ctx context.Context, pid int, most time.Duration) (ended time.Time, stopped, cut bool) {
	end := make(chan time.Time, 1)
	go func() {
		var info unix.Siginfo
		for unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		end <- time.Now()
	}()
	var enough, tooLong, kill <-chan time.Time
	if c.s.For > 0 {
		timer := time.NewTimer(c.s.For)
		defer timer.Stop()
		enough = timer.C
	}
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		tooLong = timer.C
	}
	done := ctx.Done()
	var asked time.Time
	stop := func() {
		asked = time.Now()
		_ = unix.Kill(-pid, unix.SIGTERM)
		_ = unix.Kill(-pid, unix.SIGCONT) // a stopped one could not obey
		kill = time.After(grace)
		enough, tooLong, done = nil, nil, nil
	}
	for {
		select {
		case t := <-end:
			if stopped || cut {
				t = asked
			}
			return t, stopped, cut
		case <-enough:
			stop()
			stopped = true
		case <-tooLong:
			stop()
			cut = true
		case <-done:
			stop()
		case <-kill:
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
	}
}

// judge tells whether a run counts: it ended well, or as it was told to.
func (c *command) judge(state *os.ProcessState, err error, stopped bool) *Failure {
	if state == nil {
		return &Failure{Status: 1, Why: fmt.Sprintf("it could not be waited for: %v", err)}
	}
	status := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		sig := status.Signal()
		if stopped && (sig == unix.SIGTERM || sig == unix.SIGKILL) {
			return nil
		}
		return &Failure{Status: 128 + int(sig), Why: "it was ended by " + unix.SignalName(sig)}
	case status.ExitStatus() == 0, stopped && status.ExitStatus() == 128+int(unix.SIGTERM):
		return nil
	}
	return &Failure{Status: status.ExitStatus(), Why: fmt.Sprintf("it ended with status %d", status.ExitStatus())}
}

// drain reads one output of a command, away from the terminal.
type drain struct {
	read, write *os.File
	to          *tail
	done        chan struct{}
}

func newDrain(to *tail) (*drain, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the command's output: %w", err)
	}
	return &drain{r, w, to, make(chan struct{})}, nil
}

// begin is to be called when the command has its end of the pipe.
func (d *drain) begin() {
	_ = d.write.Close()
	go func() {
		defer close(d.done)
		_, _ = io.Copy(d.to, d.read) // an error is its end
	}()
}

// finish waits for the rest; what has the pipe open in another session is not
// waited for.
func (d *drain) finish() {
	_ = d.read.SetReadDeadline(time.Now().Add(outputWait))
	<-d.done
	d.to.close()
}

func (d *drain) close() {
	_ = d.write.Close()
	_ = d.read.Close()
}
