//go:build linux

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Kubernetes is an engine that runs one pod on each node by kubectl(1), as the
// user's own configuration has it (KUBECONFIG, contexts), and reads the answers
// from the pods' logs.
//
// A pod is that of a Job, one for each node. A Job names its node in the pod's
// affinity, so that the scheduler says why a node cannot take it, and it ends
// and removes itself in time even if nobody is left to remove it. Pods of a
// DaemonSet would be started again for ever, and those of one Job for all nodes
// would not be told apart while they wait.
type Kubernetes struct {
	Nodes     []string      // empty: all that take any pod; those that are named are asked though tainted or cordoned
	Image     string        // has berth, or a shell (sh, head, sleep) for a berth that is brought along
	Context   string        // of kubectl's configuration; empty: the current one
	Namespace string        // empty: the context's
	FanOut    int           // pods that are read from, or brought a berth, at a time; 0: 64
	Limit     time.Duration // for each of the two rounds that it can take, half of it for pods to find room; 0: two minutes
	Bring     Bring
	Binary    string // the berth to bring along; empty: this program
}

// Name is kubernetes.
func (*Kubernetes) Name() string { return "kubernetes" }

// Inspect runs a round of Jobs for all nodes that take pods, and where the
// image has no berth a second one to which it is brought.
func (e *Kubernetes) Inspect(ctx context.Context, answer func(Answer)) error {
	tell := func(node string, why *Trouble) { answer(Answer{Node: node, Trouble: why}) }
	nodes, err := e.nodes(ctx, e.Nodes, tell)
	if err != nil || len(nodes) == 0 {
		return err
	}
	called := map[string]kubeNode{}
	var names []string
	for _, node := range nodes {
		called[node.name] = node
		names = append(names, node.name)
	}
	missing, err := twice(ctx, e.Bring, names, func(names []string, bring bool) (map[string]*Trouble, error) {
		var those []kubeNode
		for _, name := range names {
			those = append(those, called[name])
		}
		if bring {
			those = e.ofThisKind(those, tell)
		}
		return e.look(ctx, those, bring, answer)
	})
	unanswered(ctx, missing, answer)
	return err
}

func (e *Kubernetes) limit() time.Duration {
	if e.Limit <= 0 {
		return 2 * time.Minute
	}
	return e.Limit
}

// ofThisKind leaves out the nodes on which the berth at hand cannot run.
func (e *Kubernetes) ofThisKind(nodes []kubeNode, tell func(node string, why *Trouble)) []kubeNode {
	return slices.DeleteFunc(slices.Clone(nodes), func(node kubeNode) bool {
		if node.arch == "" || node.arch == runtime.GOARCH {
			return false
		}
		tell(node.name, trouble(Architecture, "the berth to bring along is for %s: the node is %s", runtime.GOARCH, shown(node.arch)))
		return true
	})
}

// kubectl prepares one.
func (e *Kubernetes) kubectl(ctx context.Context, args ...string) *exec.Cmd {
	var global []string
	if e.Context != "" {
		global = append(global, "--context="+e.Context)
	}
	if e.Namespace != "" {
		global = append(global, "--namespace="+e.Namespace)
	}
	return command(ctx, "kubectl", append(global, args...)...)
}

// says runs kubectl with some input and returns what it says, also where it
// fails.
func (e *Kubernetes) says(ctx context.Context, input io.Reader, args ...string) ([]byte, error) {
	c := e.kubectl(ctx, args...)
	out, said := &bounded{limit: mostDocument}, &tail{}
	c.Stdin, c.Stdout, c.Stderr = input, out, said
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start kubectl: %w", err)
	}
	err := finish(c)
	switch {
	case out.over:
		err = fmt.Errorf("kubectl %s: more than %d MiB", args[0], mostDocument>>20)
	case err != nil:
		err = fmt.Errorf("kubectl %s: %w%s", args[0], err, after(": ", reason(said)))
	}
	return out.text, err
}

// reason is the last of what kubectl said, without the address or the file that
// it names before.
func reason(said *tail) string {
	text := strings.TrimSpace(string(said.text))
	return shown(text[max(strings.LastIndex(text, "\n"), strings.LastIndex(text, `": `)+1, 0):])
}

// follows hands on the JSON documents that kubectl writes, as it does.
func (e *Kubernetes) follows(ctx context.Context, each func(*json.Decoder) error, args ...string) error {
	c := e.kubectl(ctx, args...)
	said := &tail{}
	c.Stderr = said
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return fmt.Errorf("start kubectl: %w", err)
	}
	ended := stopReading(ctx, c, out)
	d := json.NewDecoder(out)
	for err == nil {
		err = each(d)
	}
	_, _ = io.Copy(io.Discard, out)
	ended()
	if failed := finish(c); failed != nil {
		return fmt.Errorf("kubectl %s: %w%s", args[0], failed, after(": ", said.last()))
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("kubectl %s: %w", args[0], err)
	}
	return nil
}

// kubeNode is a node that can be asked.
type kubeNode struct {
	name, arch string
	named      bool // by the user: its taints are tolerated
}

// nodes are those of wanted, or of all, that can be asked; of the others it is
// told why they cannot be.
func (e *Kubernetes) nodes(ctx context.Context, wanted []string, tell func(node string, why *Trouble)) ([]kubeNode, error) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		return nil, fmt.Errorf("engine kubernetes: %w", err)
	}
	if e.Image == "" {
		return nil, errors.New("engine kubernetes: the pods need an image that has berth, or a shell to which it is brought")
	}
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	found := map[string]*nodeObject{}
	var inOrder []string
	err := e.follows(ctx, func(d *json.Decoder) error {
		var list struct{ Items []nodeObject }
		if err := d.Decode(&list); err != nil {
			return err
		}
		for i := range list.Items {
			n := &list.Items[i]
			found[n.Metadata.Name] = n
			inOrder = append(inOrder, n.Metadata.Name)
		}
		return nil
	}, "get", "nodes", "--output=json")
	if err != nil {
		return nil, fmt.Errorf("ask Kubernetes for its nodes: %w", err)
	}
	named := len(wanted) > 0
	if !named {
		wanted = inOrder
	}
	var nodes []kubeNode
	for _, name := range wanted {
		n := found[name]
		if n == nil {
			tell(name, trouble(Unreachable, "Kubernetes has no node of this name"))
		} else if why := n.refuses(named); why != nil {
			tell(name, why)
		} else {
			nodes = append(nodes, kubeNode{name, n.Status.NodeInfo.Architecture, named})
		}
	}
	return nodes, nil
}

// look has each node inspect itself, and tells of those that gave no answer, and
// why. An error is one of making the Jobs, or of removing them.
func (e *Kubernetes) look(ctx context.Context, nodes []kubeNode, bring bool, answer func(Answer)) (missing map[string]*Trouble, err error) {
	if len(nodes) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	r := e.round(bring, e.limit(), e.limit())
	r.manifest = r.inspects
	r.ran = func(p *kubePod, pod string, why *Trouble) { r.read(ctx, p, pod, why, answer) }
	if bring {
		r.running = func(p *kubePod, pod string) { r.deliver(ctx, p, pod) }
	}
	return r.run(ctx, nodes)
}

// Launch starts a pod on each node that takes what its part of the plan takes,
// as requests and as limits, and holds a session with it (kubectl exec) as long
// as its berth runs: the pod itself only waits.
func (e *Kubernetes) Launch(ctx context.Context, step *Step) error {
	nodes, err := e.nodes(ctx, step.Nodes, step.Ended)
	if err != nil {
		return err
	}
	if e.Bring != BringNever {
		nodes = e.ofThisKind(nodes, step.Ended)
	}
	if len(nodes) == 0 {
		return nil
	}
	r := e.round(e.Bring != BringNever, step.Ready, step.Limit)
	r.manifest = func(node kubeNode) object { return r.holds(node, step.Takes(node.name)) }
	r.running = func(p *kubePod, pod string) { r.session(ctx, p, pod, step) }
	r.gone = step.Ended
	missing, err := r.run(ctx, nodes)
	for node, why := range missing {
		step.Ended(node, why)
	}
	return err
}
