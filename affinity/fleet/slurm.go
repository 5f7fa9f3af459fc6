//go:build linux

package fleet

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// Slurm is an engine that runs one task on each node by srun(1): as a step of
// the allocation that it finds itself in (SLURM_JOB_ID), else in one of its own
// of whole nodes (salloc(1)). Variables that these read (SALLOC_ACCOUNT,
// SLURM_CONF …) hold.
type Slurm struct {
	Nodes     []string      // empty: those of the allocation, else all of the partition
	Partition string        // empty: SALLOC_PARTITION, else the default one
	Limit     time.Duration // for each of the two steps that it can take; 0: two minutes
	Bring     Bring
	Binary    string // the berth to bring along; empty: this program
}

// Name is slurm.
func (*Slurm) Name() string { return "slurm" }

// Inspect runs one step for all nodes that take work, and where berth is absent
// a second one that brings it along (srun --bcast).
func (e *Slurm) Inspect(ctx context.Context, answer func(Answer)) error {
	nodes, err := e.nodes(ctx, e.Nodes, func(node string, why *Trouble) { answer(Answer{Node: node, Trouble: why}) })
	if err != nil || len(nodes) == 0 {
		return err
	}
	missing, err := twice(ctx, e.Bring, nodes, func(nodes []string, bring bool) (map[string]*Trouble, error) {
		return e.look(ctx, nodes, bring, answer)
	})
	if err != nil {
		return err
	}
	unanswered(ctx, missing, answer)
	return nil
}

// Launch runs one step on all nodes that take work. It brings berth along
// unless it never may: which nodes lack one is found only by a step that fails.
func (e *Slurm) Launch(ctx context.Context, step *Step) error {
	nodes, err := e.nodes(ctx, step.Nodes, step.Ended)
	if err != nil || len(nodes) == 0 {
		return err
	}
	s := &slurmStep{nodes: nodes, args: step.Args, input: step.Input, wait: step.Ready, limit: step.Limit, line: step.Line}
	s.said.ended = func(node, why string) { step.Ended(node, e.why(why)) }
	if e.Bring != BringNever {
		if s.bring, err = toBring(e.Binary); err != nil {
			return fmt.Errorf("engine slurm: %w", err)
		}
	}
	err = e.run(ctx, s)
	for _, node := range nodes {
		switch why := s.said.of[node]; {
		case why != "":
			step.Ended(node, e.why(why))
		case ctx.Err() != nil:
			step.Ended(node, trouble(TimedOut, "its task was ended before it had reported%s", after(": ", s.said.last())))
		case err != nil:
			step.Ended(node, trouble(Unreachable, "no report came (%v)%s", err, after(": ", s.said.last())))
		default:
			step.Ended(node, trouble(Unreachable, "srun ended well, and no report came%s", after(": ", s.said.last())))
		}
	}
	return nil
}

// inAllocation: what is asked for is a step of a job that there is already.
func inAllocation() bool { return os.Getenv("SLURM_JOB_ID") != "" }

// nodes are those of wanted, or of all, that can be asked; of the others it is
// told why they cannot be.
func (e *Slurm) nodes(ctx context.Context, wanted []string, tell func(node string, why *Trouble)) ([]string, error) {
	for _, name := range []string{"salloc", "srun", "sinfo"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("engine slurm: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	allocated := map[string]bool{}
	if inAllocation() {
		names, err := ParseNames(os.Getenv("SLURM_JOB_NODELIST"))
		if err != nil {
			return nil, fmt.Errorf("SLURM_JOB_NODELIST: %w", err)
		}
		for _, name := range names {
			allocated[name] = true
		}
		if len(wanted) == 0 {
			wanted = names
		}
	}
	partition := cmp.Or(e.Partition, os.Getenv("SALLOC_PARTITION"))
	states := map[string]string{}
	var inOrder []string
	err := eachLine(ctx, func(line string) {
		name, rest, _ := strings.Cut(line, "|")
		state, in, _ := strings.Cut(rest, "|")
		in = strings.TrimSpace(in)
		if len(wanted) == 0 && partition == "" && !strings.HasSuffix(in, "*") ||
			len(wanted) == 0 && partition != "" && strings.TrimSuffix(in, "*") != partition {
			return
		}
		name = strings.TrimSpace(name)
		if _, ok := states[name]; !ok && CheckName(name) == nil {
			inOrder = append(inOrder, name)
		}
		states[name] = strings.TrimSpace(state)
	}, "sinfo", "--noheader", "--all", "--Node", "--format=%N|%T|%P")
	if err != nil {
		return nil, fmt.Errorf("ask Slurm for its nodes: %w", err)
	}
	if len(wanted) == 0 {
		if wanted = inOrder; len(wanted) == 0 && partition != "" {
			return nil, fmt.Errorf("Slurm has no node in a partition %q", partition)
		}
	}
	var nodes []string
	for _, node := range wanted {
		state, ok := states[node]
		switch {
		case !ok:
			tell(node, trouble(Unreachable, "Slurm has no node of this name"))
		case len(allocated) > 0 && !allocated[node]: // for srun that is a mistake in all of them
			tell(node, trouble(Unreachable, "it is not in the allocation of job %s", os.Getenv("SLURM_JOB_ID")))
		case !inAllocation() && !takesWork(state):
			tell(node, trouble(Down, "Slurm says that it is %s", state))
		default:
			nodes = append(nodes, node)
		}
	}
	return nodes, nil
}

// takesWork reads a state as sinfo(1) has it under NODE STATE CODES, its marks
// included: * does not answer, ~ # ! % are about power, $ and @ about reboots.
func takesWork(state string) bool {
	plain := strings.TrimRight(state, "-+^")
	return slices.Contains([]string{"idle", "mixed", "allocated", "completing"}, plain)
}

func (e *Slurm) limit() time.Duration {
	if e.Limit <= 0 {
		return 2 * time.Minute
	}
	return e.Limit
}

// look has each node inspect itself, and tells of those that gave no answer, and
// why as far as srun says it. Its status says nothing: a task that could not
// start can leave it 0.
func (e *Slurm) look(ctx context.Context, nodes []string, bring bool, answer func(Answer)) (map[string]*Trouble, error) {
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	answered := map[string]bool{}
	f := newFrames(func(a Answer) {
		answered[a.Node] = true
		answer(a)
	})
	s := &slurmStep{nodes: nodes, args: []string{"fleet", "node"}, wait: e.limit() / 2, limit: e.limit(), line: f.line}
	if bring {
		var err error
		if s.bring, err = toBring(e.Binary); err != nil {
			return nil, fmt.Errorf("engine slurm: %w", err)
		}
	}
	err := e.run(ctx, s)
	f.end()
	missing := map[string]*Trouble{}
	for _, node := range nodes {
		if answered[node] {
			continue
		}
		why, general := s.said.of[node], s.said.last()
		missing[node] = e.why(why)
		switch {
		case why != "" && missing[node].Code != Failed:
		case ctx.Err() == context.DeadlineExceeded: // then srun has killed what it tells of
			missing[node] = trouble(TimedOut, "no answer within %s", e.limit())
		case why != "":
		case f.noise != "" && general == "":
			missing[node] = trouble(Garbage, "no answer came; what came instead begins with %q", f.noise)
		default:
			text := "srun ended well, and no answer came"
			if err != nil {
				text = fmt.Sprintf("no answer came (%v)", err)
			}
			missing[node] = trouble(Unreachable, "%s%s", text, after(": ", general))
		}
	}
	return missing, nil
}

// why reads what srun said of a node's task.
func (*Slurm) why(said string) *Trouble {
	switch {
	case strings.Contains(said, "Exec format error"):
		return trouble(Architecture, "berth there is for another architecture: %s", said)
	case strings.Contains(said, "No such file or directory"), strings.Contains(said, "Exited with exit code 2"), strings.Contains(said, "Permission denied"):
		return trouble(NoBerth, "berth is not there: %s", said)
	}
	return trouble(Failed, "berth there failed: %s", said)
}

func after(mark, text string) string {
	if text == "" {
		return ""
	}
	return mark + text
}

// BroughtTo is the folder on a node that srun --bcast puts a berth in.
const BroughtTo = "/tmp/"

// slurmStep is a berth on each of some nodes.
type slurmStep struct {
	nodes       []string
	bring       string // the berth to bring along
	args        []string
	input       *Feed // nil: none
	wait, limit time.Duration
	line        func(string)
	said        remarks
}

// words is the step's command line.
func (e *Slurm) words(s *slurmStep) []string {
	n := len(s.nodes)
	which := []string{"--nodelist=" + Fold(s.nodes), fmt.Sprintf("--nodes=%d", n), "--mem=0", "--no-kill"}
	var words []string
	if !inAllocation() {
		// By salloc, as an srun that makes its job itself would take --exclusive
		// for the step too, and then see one core of each node.
		words = append([]string{"salloc", "--exclusive", "--job-name=berth-fleet", fmt.Sprintf("--time=%d", int(math.Ceil(s.limit.Minutes()))),
			fmt.Sprintf("--immediate=%d", max(1, int(s.wait/time.Second)))}, which...)
		if e.Partition != "" {
			words = append(words, "--partition="+e.Partition)
		}
	}
	words = append(words, "srun", "--overlap", fmt.Sprintf("--ntasks=%d", n), "--ntasks-per-node=1",
		"--cpu-bind=none", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none")
	if s.input == nil {
		words = append(words, "--input=none")
	}
	words = append(words, which...)
	program := "berth"
	if s.bring != "" {
		// A folder: the name in it is then the step's and the node's own. The
		// copy removes itself, as a step that ends badly runs nothing more.
		words = append(words, "--bcast="+BroughtTo)
		program = s.bring
	}
	words = append(append(words, program), s.args...)
	if s.bring != "" {
		words = append(words, "--brought")
	}
	return words
}

// run runs the step to its end.
func (e *Slurm) run(ctx context.Context, s *slurmStep) error {
	words := e.words(s)
	c := command(ctx, words[0], words[1:]...)
	if err := s.input.into(c); err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	errOut, err := c.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", words[0], err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { scanLines(errOut, s.said.line) })
	reading.Go(func() { scanLines(out, s.line) })
	ended := stopReading(ctx, c, out, errOut)
	reading.Wait()
	ended()
	return finish(c)
}

// remarks are what srun says of nodes: of one by name where it can, as in
// "srun: error: n[2-3]: tasks 1-2: Exited with exit code 2".
type remarks struct {
	tail
	of    map[string]string
	ended func(node, why string) // told of tasks that ended; it may be nil
}

func (r *remarks) line(text string) {
	_, _ = r.Write([]byte(text + "\n"))
	who, rest, _ := strings.Cut(text, ": ")
	if who != "srun" && who != "slurmstepd" {
		return
	}
	rest = strings.TrimPrefix(rest, "error: ")
	names, what, ok := strings.Cut(rest, ": ")
	if !ok || strings.ContainsAny(names, " /()") {
		return
	}
	nodes, err := ParseNames(names)
	if err != nil {
		return
	}
	_, of, task := strings.Cut(what, ": ")
	if task = task && strings.HasPrefix(what, "task"); task {
		what = of // which task it was is nothing that the node could tell
	}
	if r.of == nil {
		r.of = map[string]string{}
	}
	for _, node := range nodes {
		if _, ok := r.of[node]; !ok {
			r.of[node] = shown(what)
		}
		if task && r.ended != nil {
			r.ended(node, r.of[node])
		}
	}
}

// Declared asks the controller what its nodes are.
func (e *Slurm) Declared(ctx context.Context) (map[string]Declared, error) {
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	out := map[string]Declared{}
	err := eachLine(ctx, func(line string) {
		if name, d, ok := parseNode(line); ok {
			out[name] = d
		}
	}, "scontrol", "--oneliner", "show", "node")
	if err != nil {
		return nil, fmt.Errorf("ask Slurm what its nodes are: %w", err)
	}
	return out, nil
}
