//go:build linux

package fleet

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
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/advisor"
	"berth/affinity"
	"berth/probe"
	"berth/probe/tasks"
)

// Agent is the far side of a [Job] on one node: it takes an order from its input,
// starts `berth run` with its own part of the plan, and writes what comes of it
// in frames. It ends its programs when its input does, which is how it learns
// that the near side has had enough or is gone. It kills all that they leave:
// whatever else its process has started too.
type Agent struct {
	Name    string // by which the order knows it
	Input   io.Reader
	Output  io.Writer
	Berth   []string // the program with the command run, and its first words
	Machine func(context.Context) (*probe.Machine, error)

	mu     sync.Mutex
	pieces int
	broken error // of writing
}

// beat is how often a node says that it is still there, and silence how long
// one may say nothing before it counts as lost.
const (
	beat    = 10 * time.Second
	silence = 60 * time.Second
)

// patience is how long programs have to end after SIGTERM: half of it until they
// are killed, and half for a receipt of that.
const patience = 10 * time.Second

// Serve serves one run, to its end or that of ctx. The error is one of reporting;
// whatever else happens is reported.
func (n *Agent) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := bufio.NewReaderSize(n.Input, 64<<10)
	order, plan, err := n.order(in)
	if err != nil {
		return n.report(&report{State: nodeRefused, Error: err.Error()})
	}
	started := make(chan struct{})
	go func() { // what follows is the word to begin, and in the end the end
		line, _ := in.ReadString('\n')
		if line == goLine {
			close(started)
		}
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	m, err := n.Machine(ctx)
	if err != nil {
		return n.report(&report{State: nodeRefused, Error: err.Error()})
	}
	r := &report{State: nodeReady, Is: &Observed{m.Host.Hostname, m.Fingerprint, m.Topology.Allowed}, Differs: differs(plan, m)}
	if order.Require && r.Differs != nil {
		r.State, r.Error = nodeRefused, "the node is not as planned: "+r.Differs[0]
		return n.report(r)
	}
	if err := n.report(r); err != nil {
		return err
	}
	beating := time.NewTicker(beat)
	defer beating.Stop()
	done := make(chan struct{})
	defer close(done)
	go func() {
		again := *r // should a line of the first have been spoilt on its way
		for {
			select {
			case <-beating.C:
				if n.report(&again) != nil {
					cancel() // nobody listens
				}
			case <-done:
				return
			}
		}
	}()
	if order.Hold {
		select {
		case <-started:
		case <-ctx.Done():
			return n.report(&report{State: nodeIdle})
		}
	}
	return n.report(n.run(ctx, cancel, order, plan))
}

// mostOrder bounds an order, in bytes.
const mostOrder = 256 << 20

// order reads the first line with something on it.
func (n *Agent) order(in *bufio.Reader) (*order, *advisor.Plan, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(line) < mostOrder {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("no whole order came (%d bytes): %w", len(line), err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			break
		}
	}
	o, err := readOrder(line)
	if err != nil {
		return nil, nil, err
	}
	text, err := o.plan(n.Name)
	if err != nil {
		return nil, nil, err
	}
	plan, err := advisor.Read(bytes.NewReader(text), "the order's plan")
	if err != nil {
		return nil, nil, err
	}
	return o, plan, nil
}

func (n *Agent) report(r *report) error {
	r.Schema = reportSchema
	n.mu.Lock()
	defer n.mu.Unlock()
	r.Pieces = n.pieces
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return WriteFrames(n.Output, n.Name, text)
}

// run starts the programs and waits for them.
func (n *Agent) run(ctx context.Context, cancel func(), o *order, plan *advisor.Plan) *report {
	failed := func(err error) *report { return &report{State: nodeEnded, Status: 125, Error: err.Error()} }
	text, err := json.Marshal(plan)
	if err != nil {
		return failed(err)
	}
	receiptFrom, receiptTo, err := os.Pipe()
	if err != nil {
		return failed(err)
	}
	defer receiptFrom.Close()
	defer receiptTo.Close()
	args := append(n.Berth[1:len(n.Berth):len(n.Berth)], "--plan=-", "--receipt=/dev/fd/3")
	if o.Require {
		args = append(args, "--require")
	}
	if plan.Workers.Processes > 1 {
		args = append(args, "--prefix")
	}
	args = append(append(append(args, o.Arguments...), "--"), o.Program...)
	c := exec.Command(n.Berth[0])
	c.Args = append([]string{"berth"}, args...)
	c.Env, c.Dir = append(os.Environ(), o.Environment...), o.Dir
	c.Stdin = bytes.NewReader(text)
	c.ExtraFiles = []*os.File{receiptTo}
	said := &tail{}
	out, errOut := &outputWriter{node: n, stream: 1, cancel: cancel}, &outputWriter{node: n, stream: 2, cancel: cancel}
	c.Stdout, c.Stderr = out, io.MultiWriter(errOut, said)
	c.WaitDelay = time.Second // for what programs left running with their output open
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// The kernel sends that signal when the thread ends that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What programs leave comes here, where it is found.
	adopts := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil
	if err := c.Start(); err != nil {
		return failed(err)
	}
	_ = receiptTo.Close()
	receipt := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(receiptFrom, mostDocument))
		receipt <- text
	}()
	over := make(chan struct{})
	go func() {
		select {
		case <-over:
			return
		case <-ctx.Done():
			_ = c.Process.Signal(syscall.SIGTERM)
		}
		// Then the programs alone, so that there is a receipt of them, and last all.
		for _, kill := range []func(){
			func() { killBelow(c.Process.Pid, map[int]bool{}) },
			func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) },
		} {
			select {
			case <-over:
				return
			case <-time.After(patience / 2):
				kill()
			}
		}
	}()
	if err = c.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	close(over)
	out.end()
	errOut.end()
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	r := &report{State: nodeEnded}
	if adopts {
		r.Left = killOrphans()
	}
	_ = receiptFrom.SetReadDeadline(time.Now().Add(time.Second)) // should anybody still hold its other end
	if text := <-receipt; len(text) > 0 {
		r.Receipt = &affinity.Receipt{}
		if err := json.Unmarshal(text, r.Receipt); err != nil {
			r.Receipt, r.Error = nil, fmt.Sprintf("its receipt cannot be read: %v", err)
		}
	}
	if r.Status = status(err); r.Status < 0 {
		r.Status = 125
		if state := c.ProcessState; state != nil && state.Sys().(syscall.WaitStatus).Signaled() {
			r.Status = 128 + int(state.Sys().(syscall.WaitStatus).Signal())
		}
		r.Error = fmt.Sprintf("berth run there: %v", err)
	}
	if r.Status != 0 && r.Error == "" {
		r.Error = said.lastUpTo(400)
	}
	return r
}

// killBelow kills all that a process has started, but for what was killed before,
// and tells whether there was anything.
func killBelow(pid int, killed map[int]bool) bool {
	list, err := tasks.Proc("").Processes()
	if err != nil {
		return false
	}
	below := list.Descendants(pid)
	for _, p := range below {
		if !killed[p.PID] && syscall.Kill(p.PID, syscall.SIGKILL) == nil {
			killed[p.PID] = true
		}
	}
	return len(below) > 0
}

// killOrphans kills what programs have left running, and counts it.
func killOrphans() int {
	killed := map[int]bool{}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for { // those that have ended meanwhile
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		if !killBelow(os.Getpid(), killed) {
			break
		}
	}
	return len(killed)
}

// outputWriter sends what programs print, whole lines together.
type outputWriter struct {
	node   *Agent
	stream int
	cancel func() // called when nobody takes it
	rest   []byte
}

func (w *outputWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for len(w.rest) > 0 {
		piece := w.rest[:min(len(w.rest), outputPiece)]
		if end := bytes.LastIndexByte(piece, '\n'); end >= 0 {
			piece = piece[:end+1]
		} else if len(piece) < outputPiece {
			break
		}
		w.send(piece)
		w.rest = append(w.rest[:0], w.rest[len(piece):]...)
	}
	return len(p), nil
}

// end sends what had no end.
func (w *outputWriter) end() {
	if len(w.rest) > 0 {
		w.send(w.rest)
		w.rest = nil
	}
}

func (w *outputWriter) send(piece []byte) {
	n := w.node
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pieces++
	if n.broken == nil {
		if n.broken = writeOutput(n.Output, n.Name, w.stream, n.pieces, piece); n.broken != nil {
			w.cancel()
		}
	}
}
