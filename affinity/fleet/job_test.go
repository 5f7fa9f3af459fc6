//go:build linux

package fleet

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/advisor"
	"berth/affinity"
	"berth/probe/cpuset"
)

// farNode is a node that a test plays.
type farNode struct {
	name  string
	in    *bufio.Reader
	step  *Step
	order *order
	plan  *advisor.Plan
}

func (n *farNode) Write(line []byte) (int, error) {
	n.step.Line(strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func (n *farNode) say(r report) {
	r.Schema = cmp.Or(r.Schema, reportSchema)
	text, _ := json.Marshal(&r)
	WriteFrames(n, n.name, text)
}

func (n *farNode) ready() {
	n.say(report{State: nodeReady, Is: &Observed{Hostname: n.name, Allowed: cpuset.Range(0, 7)}})
}

// waits for a line; false: the end came.
func (n *farNode) waits() bool {
	_, err := n.in.ReadString('\n')
	return err == nil
}

// receipt is one in which all is as planned, and then changed.
func (n *farNode) receipt(change ...func(*affinity.Receipt)) *affinity.Receipt {
	r := &affinity.Receipt{Schema: affinity.ReceiptSchema, Kept: true, WallS: 1}
	for i, at := range plannedSeats(n.plan) {
		code := 0
		r.Workers = append(r.Workers, affinity.WorkerReceipt{Index: i, PID: 100 + i, Asked: at, Exit: &affinity.Exit{Code: &code},
			Threads: []affinity.ThreadReceipt{{TID: 100 + i, Asked: at, Set: at, RanOn: at}}})
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func (n *farNode) ends(status int, change ...func(*affinity.Receipt)) {
	n.say(report{State: nodeEnded, Status: status, Receipt: n.receipt(change...)})
}

// good is a node on which all goes well.
func good(n *farNode) {
	n.ready()
	if n.order.Hold && !n.waits() {
		n.say(report{State: nodeIdle})
		return
	}
	n.ends(0)
}

// farNodes is an engine of such nodes.
type farNodes struct {
	play map[string]func(*farNode)
	err  error
}

func (*farNodes) Name() string                                { return "ssh" }
func (*farNodes) Inspect(context.Context, func(Answer)) error { return errors.New("nobody asked") }

func (f *farNodes) Launch(ctx context.Context, step *Step) error {
	var busy sync.WaitGroup
	for _, name := range step.Nodes {
		busy.Go(func() {
			n := &farNode{name: name, in: bufio.NewReader(step.Input.Reader()), step: step}
			line, err := n.in.ReadBytes('\n')
			if err == nil {
				n.order, err = readOrder(line)
			}
			var text json.RawMessage
			if err == nil {
				text, err = n.order.plan(name)
			}
			if err == nil {
				err = json.Unmarshal(text, &n.plan)
			}
			if err != nil {
				step.Ended(name, trouble(Failed, "%v", err))
				return
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.play[name](n)
			}()
			select {
			case <-done:
			case <-ctx.Done():
			}
			step.Ended(name, nil)
		})
	}
	busy.Wait()
	return f.err
}

// seatedPlan is one of two workers on CPUs 0 and 1 of each node.
func seatedPlan(nodes ...string) *Plan {
	p := &advisor.Plan{Schema: advisor.Schema, Profile: "work", Workers: advisor.Workers{Processes: 2, Threads: 1},
		Placement: advisor.Placement{Pin: advisor.PerCPU, CPUs: cpuset.Range(0, 1), Seats: []advisor.Seat{{Worker: 0, CPUs: cpuset.Range(0, 0)}, {Worker: 1, CPUs: cpuset.Range(1, 1)}}}}
	return &Plan{Schema: PlanSchema, Profile: "work", Parts: []Part{{Shape: 1, Nodes: nodes, Weight: 1, Plan: p}}}
}

// play runs a job on far nodes.
func play(t *testing.T, j *Job, nodes map[string]func(*farNode)) *Outcome {
	t.Helper()
	j.Plan, j.Program = seatedPlan(slices.Collect(maps.Keys(nodes))...), []string{"work"}
	o, err := j.Do(t.Context(), &farNodes{play: nodes})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func outcomeOf(t *testing.T, o *Outcome, name string) *NodeOutcome {
	t.Helper()
	i := slices.IndexFunc(o.Nodes, func(n NodeOutcome) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("there is no node %q", name)
	}
	return &o.Nodes[i]
}

func TestJob(t *testing.T) {
	one := cpuset.Range(1, 1)
	failed := make(chan struct{})
	o := play(t, &Job{Ready: 2 * time.Second}, map[string]func(*farNode){
		"n1": good,
		"n2": good,
		"moved": func(n *farNode) {
			n.ready()
			n.ends(0, func(r *affinity.Receipt) { r.Workers[0].Threads[0].Set = one })
		},
		"broken": func(n *farNode) {
			n.ready()
			n.ends(0, func(r *affinity.Receipt) {
				r.Kept, r.Broken = false, []affinity.Violation{{Worker: 1, Code: affinity.RanElsewhere, Message: "it did"}}
			})
		},
		"short": func(n *farNode) {
			n.ready()
			r := n.receipt(func(r *affinity.Receipt) { r.Workers = r.Workers[:1] })
			n.say(report{State: nodeEnded, Status: 125, Error: "no CPU is left", Receipt: r})
			close(failed)
		},
		"fails": func(n *farNode) { n.ready(); <-failed; n.ends(3) },
		"bare": func(n *farNode) {
			n.ready()
			n.say(report{State: nodeEnded, Status: 127, Error: "there is no program"})
		},
		"refuses":  func(n *farNode) { n.say(report{State: nodeRefused, Error: "the node is not as planned"}) },
		"garbage":  func(n *farNode) { n.step.Line("Bus error") },
		"old":      func(n *farNode) { n.say(report{Schema: "berth.fleet-report/v0"}) },
		"half":     func(n *farNode) { n.ready(); n.step.Line(frameMark + "half x 1/2 00000000 ") },
		"stranger": func(n *farNode) { n.name = "nobody"; n.ends(0); n.name = "stranger"; good(n) },
		"twice":    func(n *farNode) { n.ready(); n.ends(0); n.ends(4) },
		"leaves": func(n *farNode) {
			n.ready()
			n.say(report{State: nodeEnded, Left: 2, Receipt: n.receipt()})
		},
		"silent": func(n *farNode) { n.waits() },
	})
	for name, want := range map[string]struct {
		kept    bool
		trouble TroubleCode
		text    string // among what is said of it
		status  int    // -1: none is known
	}{
		"n1": {true, "", "", 0}, "n2": {true, "", "", 0}, "stranger": {true, "", "", 0}, "twice": {true, "", "", 0},
		"moved":   {false, "", "worker 0 was planned for 0 and sits on 1", 0},
		"broken":  {false, "", "it did", 0},
		"short":   {false, "", "no CPU is left", 125},
		"fails":   {true, "", "", 3},
		"bare":    {false, Failed, "there is no program", 127},
		"refuses": {false, Refused, "not as planned", -1},
		"garbage": {false, Garbage, "Bus error", -1},
		"old":     {false, OtherSchema, "berth.fleet-report/v0", -1},
		"half":    {false, Lost, "never reported", -1},
		"leaves":  {true, "", "left 2 processes", 0},
		"silent":  {false, TimedOut, "not ready within 2s", -1},
	} {
		n := outcomeOf(t, o, name)
		status := -1
		if n.Status != nil {
			status = *n.Status
		}
		text, _ := json.Marshal(n)
		if n.Kept != want.kept || n.Trouble != want.trouble || status != want.status || !strings.Contains(string(text), want.text) || len(n.Workers) != 2 {
			t.Errorf("%s: want %+v, got %s", name, want, text)
		}
	}
	if o.Kept || o.Totals != (OutcomeTotals{Nodes: 15, Reported: 9, Kept: 6, Failed: 3, Workers: 30, WorkersKept: 15}) {
		t.Errorf("%+v", o.Totals)
	}
	if !slices.Contains([]int{125, 127}, o.Status) || !slices.Contains([]string{"short", "bare"}, o.First) { // the third waited
		t.Errorf("status %d of %s", o.Status, o.First)
	}
}

// Nothing starts before all are as planned, where that is required.
func TestJobRequires(t *testing.T) {
	var begun sync.Map
	slow := func(n *farNode) { time.Sleep(300 * time.Millisecond); good(n) }
	waits := func(n *farNode) {
		n.ready()
		if n.waits() {
			begun.Store(n.name, true)
			n.ends(0)
			return
		}
		n.say(report{State: nodeIdle})
	}
	o := play(t, &Job{Require: true}, map[string]func(*farNode){"n1": waits, "n2": slow, "n3": waits})
	if !o.Kept || o.Early != "" {
		t.Errorf("%+v", o)
	}
	begun.Clear()
	for name, bad := range map[string]func(*farNode){
		"n3": func(n *farNode) { n.say(report{State: nodeRefused, Error: "CPUs are missing"}) },
		"n4": func(n *farNode) { n.waits() },
	} {
		o = play(t, &Job{Require: true, Ready: time.Second}, map[string]func(*farNode){"n1": waits, "n2": waits, name: bad})
		if o.Early != "no program was started: "+name+" could not begin as planned" || outcomeOf(t, o, "n1").Trouble != NotAsked || outcomeOf(t, o, "n2").Trouble != NotAsked {
			t.Errorf("%+v", o)
		}
	}
	begun.Range(func(name, _ any) bool { t.Errorf("%v began", name); return true })
}

// An end before all have ended gathers what is to be had.
func TestJobEnds(t *testing.T) {
	works := func(n *farNode) { // until it is asked to end
		n.ready()
		for n.waits() {
		}
		n.ends(143)
	}
	fails := func(n *farNode) { n.ready(); n.ends(9) }
	deaf := func(n *farNode) { n.ready(); select {} }
	for name, x := range map[string]struct {
		job   Job
		nodes map[string]func(*farNode)
		early string
	}{
		"limit":    {Job{Limit: time.Second}, map[string]func(*farNode){"n1": works, "n2": good}, "the run reached its limit of 1s"},
		"stop all": {Job{StopAll: true}, map[string]func(*farNode){"n1": works, "n2": fails}, "n2 failed, and all were to end with it"},
	} {
		o := play(t, &x.job, x.nodes)
		if n := outcomeOf(t, o, "n1"); o.Early != x.early || n.Status == nil || *n.Status != 143 || o.Totals.Reported != 2 || name == "stop all" && o.Status != 9 {
			t.Errorf("%s: %+v", name, o)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	o, err := (&Job{Plan: seatedPlan("n1"), Program: []string{"work"}}).Do(ctx, &farNodes{play: map[string]func(*farNode){"n1": works}})
	if err != nil || o.Early == "" || o.Totals.Reported != 1 || o.Status != 0 {
		t.Errorf("%v, %+v", err, o)
	}
	o = play(t, &Job{Limit: time.Second, farewell: 2 * time.Second}, map[string]func(*farNode){"n1": deaf, "n2": good})
	if n := outcomeOf(t, o, "n1"); n.Trouble != Lost || o.WallS < 3 {
		t.Errorf("%+v in %.1f s", n, o.WallS)
	}
}

// A node that says nothing for long is lost, but not for a pause of this side's.
func TestJobSilence(t *testing.T) {
	r := &jobRun{Job: &Job{Plan: seatedPlan("n1", "n2"), Program: []string{"work"}}, feed: NewFeed(), nodes: map[string]*jobNode{}, out: &Outcome{}}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r.began, r.ticked = now, now
	for _, n := range r.nodes {
		n.ready, n.heard = true, now
	}
	now = now.Add(2 * silence) // as after a suspend
	r.check(now)
	if r.nodes["n1"].lost {
		t.Fatal("lost after a pause of this side")
	}
	for range 7 {
		now = now.Add(silence / 6)
		r.nodes["n1"].heard = now
		r.check(now)
	}
	if r.nodes["n1"].lost || !r.nodes["n2"].lost {
		t.Errorf("n1 lost: %v, n2 lost: %v", r.nodes["n1"].lost, r.nodes["n2"].lost)
	}
	if why := r.why(r.nodes["n2"], ""); why.Code != Lost || !strings.Contains(why.Text, "1m0s") {
		t.Errorf("%+v", why)
	}
}

func TestJobOutput(t *testing.T) {
	var lines []string
	j := &Job{Output: func(node string, stream int, line []byte) {
		lines = append(lines, fmt.Sprintf("%s %d %s", node, stream, line))
	}}
	o := play(t, j, map[string]func(*farNode){"n1": func(n *farNode) {
		n.ready()
		writeOutput(n, "n1", 1, 1, []byte("one\ntw"))
		writeOutput(n, "n1", 2, 2, []byte("error\n"))
		writeOutput(n, "n1", 1, 3, []byte("o\n\nthr"))
		writeOutput(n, "n1", 1, 3, []byte("again"))
		writeOutput(n, "n1", 1, 6, []byte("ee"))
		writeOutput(n, "nobody", 1, 1, []byte("x\n"))
		n.say(report{State: nodeEnded, Pieces: 7, Receipt: n.receipt()})
	}})
	want := []string{"n1 1 one", "n1 2 error", "n1 1 two", "n1 1 ", "n1 1 three"}
	if !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
	if n := o.Nodes[0]; !n.Kept || len(n.Notes) != 1 || !strings.HasPrefix(n.Notes[0], "3 pieces") {
		t.Errorf("%+v", n)
	}
}

func TestJobEngineFails(t *testing.T) {
	refused := errors.New("the controller is not there")
	j := &Job{Plan: seatedPlan("n1", "n2"), Program: []string{"work"}}
	if _, err := j.Do(t.Context(), launches(func(*Step) error { return refused })); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	// What came before it failed holds.
	o, err := j.Do(t.Context(), launches(func(s *Step) error {
		s.Nodes = s.Nodes[:1]
		e := &farNodes{play: map[string]func(*farNode){"n1": good}, err: refused}
		return e.Launch(context.Background(), s)
	}))
	if err != nil || o.Early != refused.Error() || o.Totals.Kept != 1 || outcomeOf(t, o, "n2").Trouble == "" {
		t.Errorf("%v, %+v", err, o)
	}
	full := errors.New("the disk is full")
	j.Save = func(string, *affinity.Receipt) error { return full }
	if _, err := j.Do(t.Context(), &farNodes{play: map[string]func(*farNode){"n1": good, "n2": good}}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// launches is an engine of one function.
type launches func(*Step) error

func (launches) Name() string                                { return "ssh" }
func (launches) Inspect(context.Context, func(Answer)) error { return errors.New("nobody asked") }
func (l launches) Launch(_ context.Context, s *Step) error   { return l(s) }

func TestJobCheck(t *testing.T) {
	idle := seatedPlan("n1")
	idle.Parts = append(idle.Parts, Part{Shape: 2, Nodes: []string{"m1"}, Why: "there are only 2 tasks"})
	odd := seatedPlan("a b")
	for want, j := range map[string]Job{
		"the plan knows no node n9":                           {Plan: idle, Nodes: []string{"n1", "n9"}},
		"the plan has no work for m1: there are only 2 tasks": {Plan: idle, Nodes: []string{"m1"}},
		`"a b" is not the name of a node: it holds ' '`:       {Plan: odd},
		"the plan names the node n1 twice":                    {Plan: seatedPlan("n1", "n1")},
		"the plan has work for no node":                       {Plan: &Plan{}},
		"":                                                    {Plan: idle},
	} {
		err := j.Check()
		if got := fmt.Sprint(err); got != want && !(err == nil && want == "") {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestFeed(t *testing.T) {
	f := NewFeed()
	var busy sync.WaitGroup
	for range 3 {
		busy.Go(func() {
			if text, err := io.ReadAll(f.Reader()); err != nil || string(text) != "one two" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
	f.Write([]byte("one "))
	time.Sleep(10 * time.Millisecond)
	f.Write([]byte("two"))
	f.Close()
	busy.Wait()
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("written after its end")
	}
}

func FuzzOrder(f *testing.F) {
	j := Job{Plan: seatedPlan("n1", "n2"), Program: []string{"work"}}
	r := &jobRun{Job: &j, feed: NewFeed(), nodes: map[string]*jobNode{}}
	if err := r.prepare(); err != nil {
		f.Fatal(err)
	}
	r.feed.Close()
	text, _ := io.ReadAll(r.feed.Reader())
	f.Add(text)
	f.Add([]byte(`{"schema":"berth.fleet-order/v1","program":["x"],"parts":[{"nodes":"n[1-","plan":{}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := &Agent{Name: "n1", Input: strings.NewReader(string(text))}
		o, plan, err := a.order(bufio.NewReader(a.Input))
		if err == nil && (len(o.Program) == 0 || plan.Workers.Processes < 1) {
			t.Fatalf("%+v, %+v", o, plan)
		}
	})
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"schema":"berth.fleet-report/v1","state":"ended","receipt":{"workers":[{"index":0,"threads":[{"set":"0-3"}]},{"index":7}],"violations":[{"worker":9}]}}`))
	f.Add([]byte(`{"schema":"berth.fleet-report/v1","state":"ready","is":{"allowed":"0-1"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := &jobRun{Job: &Job{Plan: seatedPlan("n1"), Program: []string{"work"}}, feed: NewFeed(), nodes: map[string]*jobNode{}, wake: make(chan struct{}, 1), out: &Outcome{}}
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		r.answer(Answer{Node: "n1", Document: text})
		r.close("")
		if n := r.out.Nodes[0]; len(n.Workers) != 2 || n.Kept && n.Trouble != "" {
			t.Fatalf("%+v", n)
		}
	})
}
