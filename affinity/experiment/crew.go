//go:build linux

package experiment

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/affinity/experiment/handover"
	"berth/probe/cpuset"
)

// crew is the worker processes of an experiment. They wait for orders between
// trials, and end with the crew, or with this process however it ends.
type crew struct {
	command  []string
	launcher *affinity.Launcher
	shared   *handover.Shared
	files    []*os.File // that workers inherit, from descriptor 3 on
	hired    []*worker
}

// worker is one process.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors *bytes.Buffer
}

// leeway is how much longer than planned a worker may take before it is held
// for lost: what it prepares can be a gigabyte, and the CPUs may be busy.
const leeway = 20 * time.Second

// newCrew has no worker yet. Extra files are inherited behind the shared ones.
func (s *Settings) newCrew(extra ...*os.File) (*crew, error) {
	c := &crew{command: s.Worker}
	if len(c.command) == 0 {
		c.command = []string{"/proc/self/exe"}
	}
	var err error
	if c.launcher, err = affinity.NewLauncher(); err != nil {
		return nil, err
	}
	if c.shared, err = handover.NewShared(); err != nil {
		c.launcher.Close()
		return nil, err
	}
	c.files = append(c.shared.Files(), extra...)
	return c, nil
}

// hire starts a worker that may run on all CPUs of a set; an empty one is any.
func (c *crew) hire(cpus cpuset.Set, environ ...string) (*worker, error) {
	w := &worker{cmd: exec.Command(c.command[0], c.command[1:]...), errors: &bytes.Buffer{}}
	w.cmd.Env = append(append(os.Environ(), workerEnv+"=1", fmt.Sprint(filesEnv, "=", len(c.files))), environ...)
	w.cmd.ExtraFiles = c.files
	w.cmd.Stderr = w.errors
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	if _, err := c.launcher.Start(w.cmd, affinity.Seat{CPUs: cpus}); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	c.hired = append(c.hired, w)
	return w, nil
}

// pids are those of the workers.
func (c *crew) pids() []int {
	var all []int
	for _, w := range c.hired {
		all = append(all, w.cmd.Process.Pid)
	}
	return all
}

// close ends the workers and waits for them.
func (c *crew) close() {
	for _, w := range c.hired {
		w.in.Close()
		w.cmd.Process.Kill()
	}
	for _, w := range c.hired {
		w.cmd.Wait()
	}
	c.launcher.Close()
	c.shared.Close()
}

// lost says why a worker does not answer.
func (w *worker) lost(cause error) error {
	w.in.Close()
	killed := errors.Is(cause, os.ErrDeadlineExceeded)
	if killed {
		w.cmd.Process.Kill()
	}
	err := w.cmd.Wait()
	text := strings.TrimSpace(w.errors.String())
	if first, _, more := strings.Cut(text, "\n"); more {
		text = first
	}
	switch {
	case killed:
		return fmt.Errorf("worker %d did not answer in time; it was ended", w.cmd.Process.Pid)
	case text != "":
		return fmt.Errorf("worker %d ended (%v): %s", w.cmd.Process.Pid, err, text)
	case err != nil:
		return fmt.Errorf("worker %d was ended by something else (%v); start the experiment again", w.cmd.Process.Pid, err)
	}
	return fmt.Errorf("worker %d ended: %w", w.cmd.Process.Pid, cause)
}

func (w *worker) tell(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.in.Write(append(line, '\n')); err != nil {
		return w.lost(err)
	}
	return nil
}

// hear waits for one line of the worker.
func (w *worker) hear(ctx context.Context, patience time.Duration) (*answer, error) {
	type heard struct {
		line []byte
		err  error
	}
	// A pipe of exec has no deadline of its own.
	lines := make(chan heard, 1)
	go func() {
		line, err := w.out.ReadBytes('\n')
		lines <- heard{line, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case h := <-lines:
		if h.err != nil {
			return nil, w.lost(h.err)
		}
		var a answer
		if err := json.Unmarshal(h.line, &a); err != nil {
			return nil, fmt.Errorf("worker %d said %q: %w", w.cmd.Process.Pid, h.line, err)
		}
		if a.Error != "" {
			return nil, errors.New(a.Error)
		}
		return &a, nil
	case <-ctx.Done():
		w.cmd.Process.Kill()
		return nil, ctx.Err()
	case <-timer.C:
		return nil, w.lost(os.ErrDeadlineExceeded)
	}
}

// job is an order and where its result goes.
type job struct {
	worker *worker
	task   string
	args   any
	result any
}

// together gives every worker its order, waits until all are prepared, lets
// them start at once, and counts after a while of settling over the window.
func together(ctx context.Context, jobs []job, settle, length time.Duration) error {
	for i := range jobs {
		args, err := json.Marshal(jobs[i].args)
		if err != nil {
			return err
		}
		if err := jobs[i].worker.tell(order{jobs[i].task, args}); err != nil {
			return err
		}
	}
	for i := range jobs {
		if a, err := jobs[i].worker.hear(ctx, leeway); err != nil {
			return err
		} else if !a.Ready {
			return fmt.Errorf("worker %d did not wait for the others", jobs[i].worker.cmd.Process.Pid)
		}
	}
	from := now() + int64(settle)
	for i := range jobs {
		if err := jobs[i].worker.tell(window{from, from + int64(length)}); err != nil {
			return err
		}
	}
	for i := range jobs {
		if err := jobs[i].hear(ctx, settle+length+leeway); err != nil {
			return err
		}
	}
	return nil
}

// alone gives one worker an order that has no common start.
func alone(ctx context.Context, j job, patience time.Duration) error {
	args, err := json.Marshal(j.args)
	if err != nil {
		return err
	}
	if err := j.worker.tell(order{j.task, args}); err != nil {
		return err
	}
	return j.hear(ctx, patience+leeway)
}

func (j *job) hear(ctx context.Context, patience time.Duration) error {
	a, err := j.worker.hear(ctx, patience)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(a.Result, j.result); err != nil {
		return fmt.Errorf("worker %d: result of %s: %w", j.worker.cmd.Process.Pid, j.task, err)
	}
	return nil
}
