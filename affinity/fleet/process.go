//go:build linux

package fleet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// grace is how long a program may take to end after SIGTERM, before SIGKILL.
const grace = 3 * time.Second

// command prepares a program in a process group of its own, so that a signal
// from the terminal reaches it by way of ctx alone. When ctx ends, the group
// gets SIGTERM, and after the grace SIGKILL.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error {
		if err := syscall.Kill(-c.Process.Pid, syscall.SIGTERM); err != syscall.ESRCH {
			return err
		}
		return os.ErrProcessDone
	}
	c.WaitDelay = grace
	return c
}

// into hands the feed to a program that is about to start; nil is none. What the
// program does not take, it tells of itself.
func (f *Feed) into(c *exec.Cmd) error {
	if f == nil {
		return nil
	}
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(in, f.Reader())
		_ = in.Close()
	}()
	return nil
}

// finish waits for a program that was started, and leaves none of its group.
func finish(c *exec.Cmd) error {
	err := c.Wait()
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // mostly there is nobody left
	if errors.Is(err, exec.ErrWaitDelay) {            // it ended well, and something that it left held its output
		err = nil
	}
	return err
}

// stopReading closes pipes that a program's group still holds some time after
// ctx has ended; the caller tells when it has read them to their end.
func stopReading(ctx context.Context, c *exec.Cmd, pipes ...io.Closer) (ended func()) {
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-over:
		case <-time.After(grace):
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			for _, p := range pipes {
				_ = p.Close()
			}
		}
	})
	return func() {
		close(over)
		stop()
	}
}

// status is the exit status; -1: a signal ended it, or it never ran.
func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

// last is the last line with something on it.
func (t *tail) last() string { return t.lastUpTo(100) }

func (t *tail) lastUpTo(most int) string {
	all := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return shownUpTo(most, all[len(all)-1])
}

// bounded keeps what is written to it up to a limit, and then refuses more.
type bounded struct {
	text  []byte
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over = len(b.text)+len(p) > b.limit; b.over {
		return 0, errors.New("too much output")
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// lineWriter hands on what is written to it line by line, without their ends and
// each cut at a megabyte, and keeps the beginning.
type lineWriter struct {
	line func(string)
	rest []byte
	head []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if room := tailBytes - len(w.head); room > 0 {
		w.head = append(w.head, p[:min(room, len(p))]...)
	}
	for rest := p; len(rest) > 0; {
		part, after, whole := bytes.Cut(rest, []byte{'\n'})
		if rest = after; len(w.rest) < 1<<20 {
			w.rest = append(w.rest, part...)
		}
		if whole {
			w.end()
		}
	}
	return len(p), nil
}

// end hands on what had no end.
func (w *lineWriter) end() {
	if len(w.rest) > 0 {
		w.line(strings.TrimRight(string(w.rest), "\r"))
		w.rest = w.rest[:0]
	}
}

// eachLine runs a program and hands on the lines of its output without their
// ends.
func eachLine(ctx context.Context, line func(string), name string, args ...string) error {
	c := command(ctx, name, args...)
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	said := &tail{}
	c.Stderr = said
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	ended := stopReading(ctx, c, out)
	scanLines(out, line)
	ended()
	if err := finish(c); err != nil {
		if last := said.last(); last != "" {
			return fmt.Errorf("%s: %w: %s", name, err, last)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// scanLines hands on the lines of a stream, each without its end and cut at a
// megabyte, until it ends or is closed.
func scanLines(in io.Reader, line func(string)) {
	r := bufio.NewReaderSize(in, 64<<10)
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(text) < 1<<20 {
			text = append(text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if len(text) > 0 {
			line(strings.TrimRight(string(text), "\r\n"))
			text = text[:0]
		}
		if err != nil {
			return
		}
	}
}
