//go:build linux

package fleet

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Dask is an engine that starts a process beside one worker of each machine of
// a Dask cluster that runs, by the client of distributed 2022.6 or later. That
// reads its own configuration (security, timeouts), as it always does.
type Dask struct {
	Scheduler string        // its address, as tcp://HOST:8786
	Python    string        // has the module distributed; empty: python3
	Nodes     []string      // empty: all that have a worker
	Limit     time.Duration // for each node; 0: 30 seconds
	Bring     Bring
	Binary    string // the berth to bring along; empty: this program
}

//go:embed python/dask_engine.py
var daskEngine string

const (
	// daskSilence is how long a worker may take for a call, as one that holds the
	// interpreter's lock does.
	daskSilence = 60 * time.Second
	// daskLease is how long what was started there goes on when nobody asks for it.
	daskLease = 20 * time.Second
)

// Name is dask.
func (*Dask) Name() string { return "dask" }

// Inspect starts a berth on each node, and brings it along where there is none.
func (e *Dask) Inspect(ctx context.Context, answer func(Answer)) error {
	f := newFrames(answer)
	missing := map[string]*Trouble{}
	s := &daskStep{nodes: e.Nodes, args: []string{"fleet", "node"}}
	noise := map[string]string{}
	s.line = func(node, text string) {
		f.noise = ""
		f.line(text)
		noise[node] = cmp.Or(noise[node], f.noise)
	}
	s.ended = func(node string, why *Trouble) {
		switch {
		case why != nil:
		case noise[node] != "":
			why = trouble(Garbage, "no answer came; what came instead begins with %q", noise[node])
		default:
			why = trouble(Garbage, "its berth ended well, and no answer came")
		}
		missing[node] = why
	}
	err := e.run(ctx, s)
	f.end()
	for node := range f.whole {
		delete(missing, node)
	}
	unanswered(ctx, missing, answer)
	return err
}

// Launch starts a berth on each node.
func (e *Dask) Launch(ctx context.Context, step *Step) error {
	ended := map[string]bool{}
	err := e.run(ctx, &daskStep{nodes: step.Nodes, args: step.Args, input: step.Input, line: func(_, text string) { step.Line(text) },
		ended: func(node string, why *Trouble) {
			ended[node] = true
			step.Ended(node, why)
		}})
	if len(ended) == 0 && err != nil && ctx.Err() == nil {
		return err
	}
	for _, node := range step.Nodes {
		switch {
		case ended[node]:
		case ctx.Err() != nil:
			step.Ended(node, trouble(TimedOut, "its process was ended before it had reported"))
		default:
			step.Ended(node, trouble(Unreachable, "no report came (%v)", cmp.Or(err, errors.New("the client of Dask ended well"))))
		}
	}
	return nil
}

// daskStep is a berth on each of some nodes.
type daskStep struct {
	nodes []string
	args  []string
	input *Feed // nil: none
	line  func(node, text string)
	ended func(node string, why *Trouble)
}

// daskMessage is what the Python program says, a line each: first the names of
// the nodes, then a line of a node's berth, the status with which that ended, or
// why there is none.
type daskMessage struct {
	Nodes   []string    `json:"nodes"`
	Node    string      `json:"node"`
	Line    *string     `json:"line"`
	Status  *int        `json:"status"`
	Trouble TroubleCode `json:"trouble"`
	Text    string      `json:"text"`
	Failed  string      `json:"failed"` // the whole of it
}

// run runs a step by the client of Dask, to its end.
func (e *Dask) run(ctx context.Context, s *daskStep) error {
	binary, err := toBring(e.Binary)
	if err != nil {
		return fmt.Errorf("engine dask: %w", err)
	}
	var machines []string
	for _, name := range machineNames[runtime.GOARCH] {
		machines = append(machines, "Linux "+name)
	}
	limit, silence := cmp.Or(max(e.Limit, 0), 30*time.Second), daskSilence
	if s.input == nil {
		silence = limit
	}
	conf, err := json.Marshal(map[string]any{
		"scheduler": e.Scheduler, "nodes": s.nodes, "args": s.args, "input": s.input != nil, "bring": cmp.Or(e.Bring, BringAbsent), "binary": binary,
		"machines": machines, "arch": runtime.GOARCH,
		"limit": limit.Seconds(), "silence": silence.Seconds(), "lease": daskLease.Seconds(),
	})
	if err != nil {
		return err
	}
	python := cmp.Or(e.Python, "python3")
	c := command(ctx, python, "-c", daskEngine)
	said := &tail{}
	c.Stderr = said
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("engine dask: start %s: %w", python, err)
	}
	go func() {
		_, _ = in.Write(append(conf, '\n')) // what Python does not take, it tells of itself
		if s.input != nil {
			_, _ = io.Copy(in, s.input.Reader())
		}
		_ = in.Close()
	}()
	told := &daskTold{daskStep: s, left: map[string]bool{}}
	ended := stopReading(ctx, c, out)
	scanLines(out, told.take)
	ended()
	err = finish(c)
	for node := range told.left {
		s.ended(node, trouble(Unreachable, "the client of Dask ended (%v) before it had answered%s", cmp.Or(err, errors.New("well")), after(": ", said.last())))
	}
	switch {
	case told.failed != "":
		return fmt.Errorf("engine dask: %s", shown(told.failed))
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("engine dask: %s: %w%s", python, err, after(": ", said.last()))
	}
	return nil
}

// daskTold takes in what the Python program says.
type daskTold struct {
	*daskStep
	left   map[string]bool // nodes that have not ended
	failed string
}

func (d *daskTold) take(line string) {
	m := &daskMessage{}
	if err := json.Unmarshal([]byte(line), m); err != nil {
		return // cut short by the end of what wrote it
	}
	d.failed = cmp.Or(d.failed, m.Failed)
	for _, node := range m.Nodes {
		d.left[node] = true
	}
	switch {
	case !d.left[m.Node]:
	case m.Line != nil:
		d.line(m.Node, *m.Line)
	default:
		delete(d.left, m.Node)
		d.ended(m.Node, m.trouble())
	}
}

// trouble is why a node's berth gave no answer; nil: it ended well.
func (m *daskMessage) trouble() *Trouble {
	text := shown(m.Text)
	if m.Status == nil {
		return trouble(cmp.Or(m.Trouble, Failed), "%s", text)
	}
	return ofStatus(*m.Status, m.Text, after(": ", text))
}
