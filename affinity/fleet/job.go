//go:build linux

package fleet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/advisor"
	"berth/affinity"
)

// Job is a program to run on the nodes of a plan, each with its own seats.
type Job struct {
	Plan *Plan
	// Nodes are those to use; empty: all that have work.
	Nodes       []string
	Program     []string
	Arguments   []string // of berth run on each node
	Environment []string // NAME=VALUE, beside what a node's session has
	Dir         string   // on the nodes; empty: where their sessions begin
	// Require starts no program before every node has said that it is as planned,
	// and fails nodes that cannot have their seats in full or do not keep them.
	Require bool
	// StopAll ends the programs of all nodes when those of one fail.
	StopAll bool
	Ready   time.Duration // that a node may take to be there; 0: two minutes
	Limit   time.Duration // of the whole run; 0: an hour
	// Full keeps each node's whole receipt.
	Full bool
	// Save, if any, is handed each receipt as it comes, one at a time.
	Save func(node string, r *affinity.Receipt) error
	// Output, if any, takes what programs print, a line at a time without its
	// end. Stream is 1 or 2.
	Output func(node string, stream int, line []byte)
	// Progress, if any, is told how many nodes are ready and how many have ended.
	Progress func(ready, ended, of int)

	// farewell is how long nodes have to end their programs and to report once
	// they are asked to; 0: what an agent needs at most.
	farewell time.Duration
}

// unready is why a run did not begin, as long as it is not known of which nodes.
const unready = "not all nodes are as planned"

const (
	defaultReady = 2 * time.Minute
	defaultLimit = time.Hour
)

// Check says what of the job does not fit its plan.
func (j *Job) Check() error {
	return (&jobRun{Job: j, feed: NewFeed(), nodes: map[string]*jobNode{}}).prepare()
}

// Do runs the job. When ctx ends, the programs are ended and the receipts that
// are to be had are gathered, and Early says so. The error is for a run of which
// nothing came at all, and for a receipt that could not be saved.
func (j *Job) Do(ctx context.Context, e Launcher) (*Outcome, error) {
	r := &jobRun{Job: j, began: time.Now(), feed: NewFeed(), wake: make(chan struct{}, 1), nodes: map[string]*jobNode{},
		out: &Outcome{Schema: RunSchema, Engine: e.Name(), Profile: j.Plan.Profile, Command: j.Program, Nodes: []NodeOutcome{}}}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer r.feed.Close()
	frames := newFrames(r.answer)
	frames.output = r.output
	step := &Step{Nodes: r.names, Args: []string{"fleet", "node", "--serve"}, Input: r.feed, Ready: r.ready(), Limit: r.limit() + r.ready() + r.grace(), Takes: r.takes, Ended: r.ended}
	var lines sync.Mutex
	step.Line = func(text string) {
		lines.Lock()
		defer lines.Unlock()
		frames.line(text)
	}
	done := make(chan error, 1)
	go func() { done <- e.Launch(hard, step) }()
	err := r.watch(ctx, cancel, done)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return nil, r.failed
	}
	if err != nil && !slices.ContainsFunc(r.names, func(name string) bool { return r.nodes[name].known() }) {
		return nil, err
	}
	if err != nil {
		r.out.Early = cmp.Or(r.out.Early, err.Error())
	}
	r.close(frames.noise)
	return r.out, nil
}

// jobRun is a job under way.
type jobRun struct {
	*Job
	began time.Time
	feed  *Feed
	wake  chan struct{} // something has changed
	names []string      // in order

	mu       sync.Mutex
	out      *Outcome
	nodes    map[string]*jobNode
	gone     bool      // the word to begin has been given
	stopping time.Time // when the engine is to kill what is left; zero: it runs
	failed   error     // of saving
	ticked   time.Time
}

// jobNode is what is held of a node.
type jobNode struct {
	NodeOutcome
	plan    *advisor.Plan
	receipt *affinity.Receipt // kept where all are
	ready   bool
	over    bool // it has reported for the last time
	overdue bool // it was not ready in time
	lost    bool
	heard   time.Time
	told    *Trouble  // by the engine
	toldAt  time.Time // zero: it has said nothing
	pieces  int       // of output, that came
	missed  int
	unended [2][]byte // lines without their ends
}

func (n *jobNode) known() bool { return n.ready || n.over || !n.toldAt.IsZero() }

// awaited: it has something to report, and may yet do so.
func (n *jobNode) awaited() bool { return n.ready && !n.over && !n.lost && n.toldAt.IsZero() }

// prepare finds the nodes and writes the order.
func (r *jobRun) prepare() error {
	missing := map[string]bool{}
	for _, name := range r.Nodes {
		missing[name] = true
	}
	o := &order{Schema: orderSchema, Program: r.Program, Arguments: r.Arguments, Environment: r.Environment, Dir: r.Dir, Require: r.Require, Hold: r.Require}
	for i := range r.Plan.Parts {
		part := &r.Plan.Parts[i]
		var names []string
		for _, name := range part.Nodes {
			if len(r.Nodes) > 0 && !missing[name] {
				continue
			}
			delete(missing, name)
			if part.Plan == nil {
				if len(r.Nodes) > 0 {
					return fmt.Errorf("the plan has no work for %s: %s", shown(name), part.Why)
				}
				continue
			}
			if err := CheckName(name); err != nil {
				return err
			}
			if r.nodes[name] != nil {
				return fmt.Errorf("the plan names the node %s twice", name)
			}
			r.nodes[name] = &jobNode{NodeOutcome: NodeOutcome{Name: name, Shape: part.Shape, Workers: []WorkerOutcome{}, Violations: []affinity.Violation{}}, plan: part.Plan}
			names = append(names, name)
		}
		if len(names) == 0 {
			continue
		}
		text, err := json.Marshal(part.Plan)
		if err != nil {
			return err
		}
		o.Parts = append(o.Parts, orderPart{Nodes: Fold(names), Plan: text})
		r.names = append(r.names, names...)
	}
	for _, name := range r.Nodes {
		if missing[name] {
			return fmt.Errorf("the plan knows no node %s", shown(name))
		}
	}
	if len(r.names) == 0 {
		return errors.New("the plan has work for no node")
	}
	slices.SortFunc(r.names, Compare)
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = r.feed.Write(append(text, '\n'))
	return err
}

func (j *Job) ready() time.Duration { return cmp.Or(j.Ready, defaultReady) }
func (j *Job) limit() time.Duration { return cmp.Or(j.Limit, defaultLimit) }
func (j *Job) grace() time.Duration { return cmp.Or(j.farewell, patience+10*time.Second) }

// takes is what a node's part of the plan takes there.
func (r *jobRun) takes(node string) Takes {
	p := r.nodes[node].plan
	t := Takes{min(p.BudgetCPUs, float64(p.Workers.Total())), p.MemoryMiB}
	if len(p.Placement.Seats) > 0 {
		t.CPUs = float64(p.Placement.CPUs.Len())
	}
	return t
}

// watch waits for the engine, and looks to limits meanwhile.
func (r *jobRun) watch(ctx context.Context, kill func(), done <-chan error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	asked := ctx.Done()
	r.ticked = r.began
	for {
		select {
		case err := <-done:
			return err
		case <-asked:
			asked = nil
			r.mu.Lock()
			r.stop("the run was ended before all programs had")
			r.mu.Unlock()
		case <-r.wake:
		case <-tick.C:
		}
		r.mu.Lock()
		r.check(time.Now())
		if !r.stopping.IsZero() && time.Now().After(r.stopping) {
			kill()
		}
		if r.Progress != nil {
			ready, ended := 0, 0
			for _, n := range r.nodes {
				if n.ready {
					ready++
				}
				if n.over {
					ended++
				}
			}
			r.Progress(ready, ended, len(r.nodes))
		}
		r.mu.Unlock()
	}
}

func (r *jobRun) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// stop asks all nodes to end, and gives them time for it.
func (r *jobRun) stop(why string) {
	if r.stopping.IsZero() {
		r.out.Early = why
		r.stopping = time.Now().Add(r.grace())
		_ = r.feed.Close()
	}
}

// check looks whether it is time to begin, or to end.
func (r *jobRun) check(now time.Time) {
	if now.Sub(r.ticked) > silence/4 { // this process itself was held up, and has lines to read first
		for _, n := range r.nodes {
			n.heard = now
		}
	}
	r.ticked = now
	if !r.stopping.IsZero() {
		if !slices.ContainsFunc(r.names, func(name string) bool { return r.nodes[name].awaited() }) && r.stopping.After(now.Add(grace)) {
			r.stopping = now.Add(grace)
		}
		return
	}
	running, waiting, bad := false, false, false
	for _, name := range r.names {
		n := r.nodes[name]
		finished := n.over || !n.toldAt.IsZero() && now.Sub(n.toldAt) > time.Second
		n.overdue = !finished && !n.ready && now.Sub(r.began) > r.ready()
		if !finished && n.ready && now.Sub(n.heard) > silence {
			n.lost, finished = true, true
		}
		if finished || n.overdue {
			bad = true
		} else {
			running = true
			waiting = waiting || !n.ready
		}
	}
	switch {
	case r.Require && !r.gone && bad:
		r.stop("no program was started: " + unready)
	case r.Require && !r.gone && !waiting:
		r.gone = true
		_, _ = r.feed.Write([]byte(goLine))
	case !running: // the end, as it should be
		r.stopping = now.Add(grace)
		_ = r.feed.Close()
	case now.Sub(r.began) > r.limit():
		r.stop(fmt.Sprintf("the run reached its limit of %s", r.limit()))
	case r.StopAll && r.out.Status != 0:
		r.stop(fmt.Sprintf("%s failed, and all were to end with it", r.out.First))
	}
}

// ended takes in what the engine says.
func (r *jobRun) ended(node string, why *Trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[node]; n != nil && n.toldAt.IsZero() {
		n.told, n.toldAt = why, time.Now()
		r.changed()
	}
}

// answer takes in a node's report.
func (r *jobRun) answer(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[a.Node]
	if n == nil || n.over {
		return // somebody else's
	}
	n.heard = time.Now()
	if a.Trouble != nil {
		return // what it would have said is missing at the end
	}
	report, err := readReport(a.Document)
	if err != nil {
		n.Trouble, n.Error = OtherSchema, err.Error()
		return
	}
	since := time.Since(r.began).Seconds()
	switch report.State {
	case nodeReady:
		if n.ready {
			return // it lives
		}
		n.ready, n.ReadyS, n.Is, n.Differs = true, &since, report.Is, report.Differs
	case nodeRefused:
		n.over, n.Trouble, n.Error, n.Is, n.Differs = true, Refused, report.Error, report.Is, report.Differs
	case nodeIdle:
		n.over, n.Trouble, n.Error = true, NotAsked, "the run was ended before anything was started there"
	case nodeEnded:
		r.last(n, report)
	}
	r.changed()
}

// last takes in what a node says at its end.
func (r *jobRun) last(n *jobNode, report *report) {
	n.over, n.Status = true, &report.Status
	if report.Status != 0 && r.out.Status == 0 && r.stopping.IsZero() {
		r.out.Status, r.out.First = report.Status, n.Name
	}
	if report.Left > 0 {
		n.Notes = append(n.Notes, fmt.Sprintf("its programs left %d processes, which were killed", report.Left))
	}
	n.missed = report.Pieces - n.pieces
	if report.Receipt == nil {
		n.Trouble, n.Error = Failed, cmp.Or(report.Error, fmt.Sprintf("berth run there ended with status %d and left no receipt", report.Status))
		return
	}
	n.judge(n.plan, report)
	if r.Full {
		n.receipt = report.Receipt
	}
	if r.Save != nil && r.failed == nil {
		if r.failed = r.Save(n.Name, report.Receipt); r.failed != nil {
			r.stop(r.failed.Error())
		}
	}
}

// output takes in a piece of what programs on a node have printed.
func (r *jobRun) output(o output) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[o.node]
	if n == nil || o.number <= n.pieces+n.missed {
		return
	}
	n.heard = time.Now()
	n.missed = o.number - 1 - n.pieces
	n.pieces++
	rest := &n.unended[o.stream-1]
	*rest = append(*rest, o.text...)
	for {
		line, after, whole := bytes.Cut(*rest, []byte{'\n'})
		if !whole && len(*rest) < 1<<20 {
			return
		}
		r.print(n, o.stream, line)
		*rest = append((*rest)[:0], after...)
	}
}

func (r *jobRun) print(n *jobNode, stream int, line []byte) {
	if r.Output != nil {
		r.Output(n.Name, stream, line)
	}
}

// close says of every node what is known in the end.
func (r *jobRun) close(noise string) {
	r.out.WallS = time.Since(r.began).Seconds()
	var guilty []string
	for _, name := range r.names {
		n := r.nodes[name]
		for i, rest := range n.unended {
			if len(rest) > 0 {
				r.print(n, i+1, rest)
			}
		}
		if n.missed > 0 {
			n.Notes = append(n.Notes, fmt.Sprintf("%d pieces of what its programs printed were lost on the way", n.missed))
		}
		if !n.over && n.Trouble == "" {
			why := r.why(n, noise)
			n.Trouble, n.Error = why.Code, why.Text
		}
		if len(n.Workers) == 0 {
			for i, planned := range plannedSeats(n.plan) {
				n.Workers = append(n.Workers, WorkerOutcome{Worker: i, Planned: planned})
			}
		}
		if n.Trouble != "" && n.Trouble != NotAsked {
			guilty = append(guilty, name)
		}
		r.out.Nodes = append(r.out.Nodes, n.NodeOutcome)
		if n.receipt != nil {
			r.out.Receipts = append(r.out.Receipts, NodeReceipt{name, *n.receipt})
		}
	}
	if len(guilty) > 0 {
		r.out.Early = strings.Replace(r.out.Early, unready, shown(Fold(guilty))+" could not begin as planned", 1)
	}
	r.out.sum()
}

// why is what became of a node that did not report.
func (r *jobRun) why(n *jobNode, noise string) *Trouble {
	said := ""
	if n.told != nil {
		said = ": " + n.told.Text
	}
	switch {
	case n.lost:
		return trouble(Lost, "it was ready, and then nothing was heard of it for %s%s", silence, said)
	case n.ready:
		return trouble(Lost, "it was ready, and never reported%s", said)
	case n.overdue: // what is told of it after that is what this run did
		return trouble(TimedOut, "it was not ready within %s", r.ready())
	case n.told != nil && n.told.Code != TimedOut:
		return n.told
	case n.told != nil:
		return trouble(NotAsked, "the run was ended before it was ready")
	case noise != "":
		return trouble(Garbage, "no report came; what came instead begins with %q", noise)
	}
	return trouble(Garbage, "its berth ended, and no report came")
}
