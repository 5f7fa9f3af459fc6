//go:build linux

package python

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe/cpuset"
)

//go:embed workers.py claims.py workload.py
var program embed.FS

// modules are the program's files, each after those that it imports.
var modules = []string{"workers", "claims", "workload"}

// load makes modules of the program's files, which come on a line of JSON, and
// starts the last.
const load = `import json, sys, types
for name, text in json.loads(sys.stdin.buffer.readline().decode()):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
module.main()`

// Options say how an interpreter runs.
type Options struct {
	CPUs cpuset.Set // that it and its workers may run on; empty: any
	// ServerDelay is how long the slow server takes for an answer; 0: 20 ms. A
	// loop of asyncio manages some ten thousand answers a second, so that
	// thousands of tasks are kept waiting only by a longer delay.
	ServerDelay time.Duration
}

// Session is a running interpreter that takes one command at a time. What it
// started ends with it, however it ends; and it ends with this process. It can
// be used from several goroutines, which wait for each other.
type Session struct {
	python   Interpreter
	delay    time.Duration
	server   *server
	launcher *affinity.Launcher
	cmd      *exec.Cmd
	in       io.WriteCloser
	stderr   *tail
	lines    chan []byte
	garbled  error         // why the answers could not be read on
	ended    chan struct{} // closed when nothing runs any more

	busy   sync.Mutex // held during a command
	life   sync.Mutex
	reaped bool // the number of the process may be another's now
	closed bool // by Close, or by the end of a command's context
}

// slack is how much longer than planned a command may take.
const slack = 2 * time.Minute

// Start starts an interpreter. The error is an [*affinity.Trimmed] if it may not
// use all of the CPUs, or says what it printed when it does not come up. The end
// of ctx is that of the start only.
func Start(ctx context.Context, p Interpreter, o Options) (*Session, error) {
	s := &Session{python: p, delay: cmp.Or(o.ServerDelay, 20*time.Millisecond), stderr: &tail{},
		lines: make(chan []byte), ended: make(chan struct{})}
	if s.delay < 0 {
		return nil, fmt.Errorf("start %s: a delay of %v for the server; it must be positive", p.Path, s.delay)
	}
	if err := s.start(o.CPUs); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	if err := s.greet(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// start leaves nothing behind if it fails.
func (s *Session) start(cpus cpuset.Set) (err error) {
	// Isolated from the user's own modules and variables.
	s.cmd = exec.Command(s.python.Path, append(append([]string{"-I"}, lock()...), "-c", load)...)
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	s.cmd.WaitDelay = time.Second
	s.cmd.Stderr = s.stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.server, err = serve(s.delay); err != nil {
		return fmt.Errorf("start the slow server: %w", err)
	}
	if s.launcher, err = affinity.NewLauncher(); err != nil {
		s.server.close()
		return err
	}
	trim, err := s.launcher.Start(s.cmd, affinity.Seat{CPUs: cpus})
	if err != nil {
		s.launcher.Close()
		s.server.close()
		return err
	}
	read := make(chan struct{})
	go s.read(out, read)
	go s.await(read)
	if trim != nil {
		s.stop()
		return trim
	}
	return nil
}

// read passes the lines of the answers on.
func (s *Session) read(out io.Reader, done chan<- struct{}) {
	defer close(done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		select {
		case s.lines <- bytes.Clone(lines.Bytes()):
		case <-s.ended:
			return
		}
	}
	if err := lines.Err(); err != nil {
		s.garbled = err // seen by those who wait for done
		s.kill()
	}
}

// await waits for the end of the interpreter, and ends what is left of it.
func (s *Session) await(read <-chan struct{}) {
	pid := s.cmd.Process.Pid
	for {
		// As long as it is not waited for, its number is no other's.
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	s.life.Lock()
	_ = unix.Kill(-pid, unix.SIGKILL) // it may have left nobody
	s.reaped = true
	s.life.Unlock()
	select {
	case <-read:
	case <-time.After(time.Second): // somebody who left the group has the pipe
	}
	_ = s.cmd.Wait() // what it says is in ProcessState
	s.launcher.Close()
	s.server.close()
	close(s.ended)
}

func (s *Session) kill() {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.reaped {
		_ = unix.Kill(-s.cmd.Process.Pid, unix.SIGKILL) // else it is ending by itself
	}
}

// stop ends the session at once.
func (s *Session) stop() {
	s.life.Lock()
	s.closed = true
	s.life.Unlock()
	s.kill()
	<-s.ended
}

func (s *Session) isClosed() bool {
	s.life.Lock()
	defer s.life.Unlock()
	return s.closed
}

// greet sends the program and hears whether it runs.
func (s *Session) greet(ctx context.Context) error {
	var files [][2]string
	for _, name := range modules {
		text, err := program.ReadFile(name + ".py")
		if err != nil {
			return err
		}
		files = append(files, [2]string{name, string(text)})
	}
	var hello struct {
		GIL bool `json:"gil"`
	}
	if err := s.ask(ctx, "start", files, &hello); err != nil {
		return err
	}
	if hello.GIL == s.python.FreeThreaded {
		return fmt.Errorf("start %s: with our program its GIL is on: %v; when it was found it was: %v", s.python.Path, hello.GIL, !s.python.FreeThreaded)
	}
	return nil
}

// ask sends a line and reads the answer. If ctx ends meanwhile, so does the
// session.
func (s *Session) ask(ctx context.Context, what string, line, answer any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	s.busy.Lock()
	defer s.busy.Unlock()
	what += " of " + s.python.Path
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if s.isClosed() {
		return fmt.Errorf("%s: the session is closed", what)
	}
	// The pipe may be full while the interpreter does not read.
	go s.in.Write(append(text, '\n')) // an error shows as its end
	select {
	case line := <-s.lines:
		if err := parseReply(line, answer); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-s.ended:
		if s.isClosed() {
			return fmt.Errorf("%s: the session was closed meanwhile", what)
		}
		return fmt.Errorf("%s: %w", what, s.death())
	case <-ctx.Done():
		s.stop()
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// do has a command carried out that takes about so long.
func (s *Session) do(ctx context.Context, length time.Duration, name string, arguments map[string]any, answer any) error {
	limit := length + slack
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer in %v; it was ended", limit))
	defer cancel()
	command := map[string]any{"do": name}
	for k, v := range arguments {
		command[k] = v
	}
	if err := s.ask(ctx, name, command, answer); err != nil {
		return err
	}
	// The process of the command has answered, and now ends; with it in the
	// account of its parent, its CPU time is complete.
	var gone bool
	return s.ask(ctx, name, nil, &gone)
}

// death says how the interpreter ended, when nobody here ended it.
func (s *Session) death() error {
	how := "the interpreter is gone"
	if s.garbled != nil {
		how = "its answer could not be read: " + s.garbled.Error()
	} else if state := s.cmd.ProcessState; state != nil {
		how = "the interpreter ended: " + state.String()
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			how = "the interpreter was ended by " + unix.SignalName(status.Signal())
			if status.Signal() == unix.SIGKILL {
				how += ", from outside or for want of memory"
			}
		}
	}
	return errors.New(how + printed(s.stderr))
}

// Close ends the interpreter with all that it started, and a command under way.
// The error says that it had ended before by itself.
func (s *Session) Close() error {
	select {
	case <-s.ended:
		if s.isClosed() {
			return nil
		}
		s.life.Lock()
		s.closed = true
		s.life.Unlock()
		return fmt.Errorf("close %s: %w", s.python.Path, s.death())
	default:
	}
	if s.busy.TryLock() {
		defer s.busy.Unlock()
		s.life.Lock()
		s.closed = true
		s.life.Unlock()
		s.in.Close() // the end of its commands
		select {
		case <-s.ended:
			return nil
		case <-time.After(time.Second):
		}
	}
	s.stop()
	return nil
}

// parseReply reads an answer: {"ok": what was asked for} or {"error": why not}.
func parseReply(line []byte, answer any) error {
	var reply struct {
		OK    json.RawMessage `json:"ok"`
		Error string          `json:"error"`
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return fmt.Errorf("read the answer %.100q: %w", line, err)
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	if len(reply.OK) == 0 {
		return fmt.Errorf("read the answer %.100q: it has neither a result nor an error", line)
	}
	if err := json.Unmarshal(reply.OK, answer); err != nil {
		return fmt.Errorf("read the answer %.100q: %w", line, err)
	}
	return nil
}

// PID is the number of the interpreter's process. What it starts for a command
// are descendants of it, and have been waited for when the command is answered.
func (s *Session) PID() int { return s.cmd.Process.Pid }
