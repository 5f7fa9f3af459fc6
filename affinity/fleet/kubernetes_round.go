//go:build linux

package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// kubeRound is a Job for each of some nodes.
type kubeRound struct {
	*Kubernetes
	id       string // in the label of all that was made
	bring    bool
	binary   *os.File // where one is brought
	size     int64
	patience time.Duration // for a pod to start, or to answer
	life     time.Duration // after which Kubernetes ends a pod
	manifest func(kubeNode) object
	running  func(p *kubePod, pod string)               // called once when a pod runs; it may be nil
	ran      func(p *kubePod, pod string, why *Trouble) // called when one that has run has ended; it may be nil
	gone     func(node string, why *Trouble)            // told at once of a pod that will not run; nil: all are told of at the end
	fanOut   chan struct{}
	busy     sync.WaitGroup

	mu   sync.Mutex
	pods map[string]*kubePod // by their Job
	stop context.CancelFunc  // of the watch
}

func (e *Kubernetes) round(bring bool, patience, limit time.Duration) *kubeRound {
	return &kubeRound{Kubernetes: e, id: strconv.FormatUint(rand.Uint64(), 36), bring: bring, patience: patience,
		life: limit.Round(time.Second) + 10*time.Second, fanOut: make(chan struct{}, cmp.Or(max(e.FanOut, 0), 64)), pods: map[string]*kubePod{}}
}

// run makes the Jobs, follows their pods and removes all again.
func (r *kubeRound) run(ctx context.Context, nodes []kubeNode) (missing map[string]*Trouble, failed error) {
	if r.bring {
		if err := r.open(); err != nil {
			return nil, err
		}
		defer r.binary.Close()
	}
	jobs := jobList{APIVersion: "v1", Kind: "List"}
	for i, node := range nodes {
		name := fmt.Sprintf("berth-fleet-%s-%d", r.id, i)
		jobs.Items = append(jobs.Items, r.job(name, node))
		r.pods[name] = &kubePod{node: node.name}
	}
	defer func() {
		if err := r.remove(context.WithoutCancel(ctx)); err != nil {
			failed = errors.Join(failed, err)
		}
	}()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	r.stop = stop
	if err := r.create(ctx, jobs); err != nil {
		return nil, err
	}
	late := time.AfterFunc(r.patience/2, func() { r.giveUp(ctx) })
	defer late.Stop()
	r.watch(watching)
	r.busy.Wait()
	return r.missing(ctx), nil
}

// kubePod is what is known of a Job's pod.
type kubePod struct {
	node     string
	why      *Trouble // the state of things, where that is not to its end
	seen     bool     // there is a pod
	started  bool     // it has been seen to run
	ended    bool     // no state of the pod will tell more
	answered bool
}

func (r *kubeRound) open() error {
	f, err := os.Open(cmp.Or(r.Binary, "/proc/self/exe"))
	if err != nil {
		return fmt.Errorf("open the berth to bring along: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open the berth to bring along: %w", err)
	}
	r.binary, r.size = f, info.Size()
	return nil
}

// create makes the Jobs. Those that the server refuses are told of, and an
// error is that of all of them.
func (r *kubeRound) create(ctx context.Context, jobs jobList) error {
	text, err := json.Marshal(jobs)
	if err != nil {
		return err
	}
	out, err := r.says(ctx, strings.NewReader(string(text)), "create", "--filename=-", "--output=name")
	made := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "/")
		made[name] = true
	}
	if err != nil && len(made) == 0 {
		return fmt.Errorf("make the Jobs: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.pods {
		if err != nil && !made[name] {
			r.end(p, trouble(Unreachable, "its Job was not made: %v", err))
		}
	}
	return nil
}

// remove removes all that was made and waits for its end. A pod whose kubelet
// does not answer any more is taken from the cluster all the same: that kubelet
// ends it when it is back.
func (r *kubeRound) remove(ctx context.Context) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	mine := "--selector=" + runLabel + "=" + r.id
	jobs := []string{"delete", "jobs", mine, "--cascade=foreground", "--ignore-not-found", "--timeout=" + patience.String()}
	_, err := r.says(ctx, nil, jobs...)
	if err != nil {
		_, _ = r.says(ctx, nil, "delete", "pods", mine, "--force", "--grace-period=0", "--ignore-not-found")
		_, err = r.says(ctx, nil, jobs...)
	}
	if err != nil {
		return fmt.Errorf("remove the Jobs (kubectl delete jobs %s does; by themselves they end and go in %s): %w", mine, r.life+kept, err)
	}
	return nil
}

// watch follows the pods until no state of any can tell more. A watch that
// breaks off is begun again, and begins with what is.
func (r *kubeRound) watch(ctx context.Context) {
	for ctx.Err() == nil {
		_ = r.follows(ctx, func(d *json.Decoder) error {
			var event struct {
				Type   string
				Object podObject
			}
			if err := d.Decode(&event); err != nil {
				return err
			}
			r.event(event.Type, &event.Object)
			return nil
		}, "get", "pods", "--selector="+runLabel+"="+r.id, "--watch", "--output-watch-events", "--output=json")
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// end notes that no state of a pod will tell more, and ends the watch with the
// last; r is locked.
func (r *kubeRound) end(p *kubePod, why *Trouble) {
	p.why, p.ended = why, true
	if r.gone != nil && !p.started {
		r.gone(p.node, why)
		p.answered = true
	}
	for _, p := range r.pods {
		if !p.ended {
			return
		}
	}
	r.stop()
}

// giveUp ends the waiting for pods that something keeps from running, at half
// time: what is left is for those that run. Their Jobs go, lest they take a place
// later on.
func (r *kubeRound) giveUp(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	words := []string{"delete", "jobs", "--ignore-not-found", "--wait=false"}
	for name, p := range r.pods {
		if p.why != nil && !p.ended {
			words = append(words, name)
			r.end(p, p.why)
		}
	}
	if len(words) > 4 {
		r.busy.Go(func() { _, _ = r.says(ctx, nil, words...) }) // what stays is removed at the end
	}
}

// event takes in one state of a pod.
func (r *kubeRound) event(kind string, o *podObject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[o.Metadata.Labels["batch.kubernetes.io/job-name"]]
	if p == nil || p.ended {
		return
	}
	p.seen = true
	if kind == "DELETED" {
		r.end(p, trouble(Unreachable, "its pod was removed before it had answered"))
		return
	}
	state := o.state(r.bring)
	p.why = state.why
	switch {
	case state.ended:
		if state.ran && r.ran != nil {
			r.busy.Go(func() { r.ran(p, o.Metadata.Name, state.why) })
		}
		r.end(p, state.why)
	case state.runs && r.running != nil && !p.started:
		p.started = true
		r.busy.Go(func() { r.running(p, o.Metadata.Name) })
	}
}

// read takes the answer from the log of a pod that has ended.
func (r *kubeRound) read(ctx context.Context, p *kubePod, pod string, why *Trouble, answer func(Answer)) {
	r.fanOut <- struct{}{}
	defer func() { <-r.fanOut }()
	log, err := r.says(ctx, nil, "logs", pod)
	answered := false
	f := newFrames(func(a Answer) {
		answered = true
		a.Node = p.node
		answer(a)
	})
	last := ""
	for line := range strings.Lines(string(log)) {
		f.line(strings.TrimRight(line, "\r\n"))
		if strings.TrimSpace(line) != "" {
			last = line
		}
	}
	f.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	p.answered = answered
	switch {
	case err != nil && ctx.Err() != nil:
		p.why = trouble(TimedOut, "no answer within %s: its log was still to be read", r.patience)
	case err != nil:
		p.why = trouble(Unreachable, "its log cannot be read: %v", err)
	case strings.Contains(last, "exec format error"), strings.Contains(last, "Exec format error"):
		p.why = trouble(Architecture, "berth there is for another architecture: %s", shown(last))
	case why != nil:
		p.why = trouble(why.Code, "%s%s", why.Text, after(": ", shown(last)))
	case strings.Contains(string(log), frameMark):
		p.why = trouble(BrokeOff, "its answer broke off")
	default:
		p.why = trouble(Garbage, "berth there ended well, and no answer came%s", after("; what came instead begins with ", f.noise))
	}
}

// deliver puts a berth into a pod that waits for one.
func (r *kubeRound) deliver(ctx context.Context, p *kubePod, pod string) {
	r.fanOut <- struct{}{}
	defer func() { <-r.fanOut }()
	_, err := r.says(ctx, io.NewSectionReader(r.binary, 0, r.size), "exec", "--stdin", pod, "--", "sh", "-c", receiving(r.size))
	if err == nil || ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.ended { // nothing will come of its waiting
		r.end(p, trouble(NoBerth, "the image has no berth, and it cannot be brought along: %v", err))
	}
}

// session runs a berth in a pod and hands it what a step has for it. The first
// line that it says makes room for the next session.
func (r *kubeRound) session(ctx context.Context, p *kubePod, pod string, step *Step) {
	r.fanOut <- struct{}{}
	next := sync.OnceFunc(func() { <-r.fanOut })
	defer next()
	program := append(slices.Clone(step.Args), "--name", p.node)
	words := append([]string{"exec", "--stdin", pod, "--", "berth"}, program...)
	var binary io.Reader
	if r.bring {
		words = append([]string{"exec", "--stdin", pod, "--", "sh", "-c", receiving(r.size) + " && exec " + broughtDir + `/berth "$@"`, "sh"}, program...)
		binary = io.NewSectionReader(r.binary, 0, r.size)
	}
	c, said := r.kubectl(ctx, words...), &tail{}
	out := &lineWriter{line: func(text string) {
		next()
		step.Line(text)
	}}
	c.Stdout, c.Stderr = out, said
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		go handOver(in, binary, step.Input)
		err = finish(c)
		out.end()
	}
	var why *Trouble
	switch {
	case err != nil && ctx.Err() != nil:
		why = trouble(TimedOut, "its session was ended before it had reported%s", after(": ", reason(said)))
	case err != nil && strings.Contains(string(said.text), "not found"):
		why = trouble(NoBerth, "berth cannot be started in its pod: %s", reason(said))
	case err != nil:
		why = trouble(Failed, "berth there failed (%v)%s", err, after(": ", reason(said)))
	}
	step.Ended(p.node, why)
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.answered = true; !p.ended {
		r.end(p, why)
	}
}

// missing tells of the nodes that gave no answer.
func (r *kubeRound) missing(ctx context.Context) map[string]*Trouble {
	refused := r.refused(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]*Trouble{}
	for name, p := range r.pods {
		switch {
		case p.answered:
			continue
		case p.ended || p.why != nil:
			out[p.node] = p.why
		case !p.seen:
			out[p.node] = trouble(Unreachable, "no pod was made for it%s", after(": ", refused[name]))
		default:
			out[p.node] = trouble(TimedOut, "no answer within %s", r.patience)
		}
	}
	return out
}

// refused is why there are Jobs without a pod, as the cluster's events have it:
// a quota, a policy.
func (r *kubeRound) refused(ctx context.Context) map[string]string {
	r.mu.Lock()
	all := true
	for _, p := range r.pods {
		all = all && (p.seen || p.ended)
	}
	r.mu.Unlock()
	if all {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	out := map[string]string{}
	text, _ := r.says(ctx, nil, "get", "events", "--field-selector=involvedObject.kind=Job,reason=FailedCreate", "--output=json")
	var list struct {
		Items []struct {
			InvolvedObject struct{ Name string }
			Message        string
		}
	}
	if json.Unmarshal(text, &list) == nil {
		for _, event := range list.Items {
			out[event.InvolvedObject.Name] = shown(event.Message)
		}
	}
	return out
}
