//go:build linux

package fleet

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MPI is an engine that runs one rank on each node by the mpirun of Open MPI 3
// or 4. How that reaches nodes is said by its own variables and files
// (OMPI_MCA_plm_rsh_agent …).
type MPI struct {
	Nodes  []string      // empty: those of the Slurm allocation
	FanOut int           // nodes at a time where each is tried alone; 0: 16
	Limit  time.Duration // for each mpirun over all nodes; 0: two minutes
	Bring  Bring
	Binary string // the berth to bring along; empty: this program
}

// Name is mpi.
func (*MPI) Name() string { return "mpi" }

// Inspect runs a rank on each node, and where berth is absent another that
// brings it along.
func (e *MPI) Inspect(ctx context.Context, answer func(Answer)) error {
	nodes, err := e.nodes(ctx)
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

// look has each node inspect itself, and tells of those that gave no answer.
func (e *MPI) look(ctx context.Context, nodes []string, bring bool, answer func(Answer)) (map[string]*Trouble, error) {
	missing := map[string]*Trouble{}
	f := newFrames(func(a Answer) { answer(a) })
	s := &mpiStep{nodes: nodes, bring: bring, args: []string{"fleet", "node"}, ready: e.limit() / 2, limit: e.limit(), line: f.line,
		ended: func(node string, why *Trouble) {
			switch {
			case f.whole[node]:
			case why == nil && f.noise != "":
				why = trouble(Garbage, "no answer came; what came instead begins with %q", f.noise)
			case why == nil:
				why = trouble(Garbage, "its berth ended well, and no answer came")
			}
			missing[node] = why
		}}
	err := e.run(ctx, s)
	f.end()
	for node := range f.whole {
		delete(missing, node)
	}
	return missing, err
}

// Launch runs a rank on each node. It brings berth along unless it never may:
// which nodes lack one is found only by a rank that fails. A third of the time
// to be ready is left to each of starting, finding who is dead, and starting again.
func (e *MPI) Launch(ctx context.Context, step *Step) error {
	if err := e.known(ctx); err != nil {
		return err
	}
	return e.run(ctx, &mpiStep{nodes: step.Nodes, bring: e.Bring != BringNever, args: step.Args, input: step.Input, ready: step.Ready / 3,
		line: step.Line, ended: step.Ended})
}

func (e *MPI) limit() time.Duration { return cmp.Or(max(e.Limit, 0), 2*time.Minute) }

// nodes are those to ask.
func (e *MPI) nodes(ctx context.Context) ([]string, error) {
	if err := e.known(ctx); err != nil {
		return nil, err
	}
	if len(e.Nodes) > 0 || !inAllocation() {
		return e.Nodes, nil
	}
	nodes, err := ParseNames(os.Getenv("SLURM_JOB_NODELIST"))
	if err != nil {
		return nil, fmt.Errorf("SLURM_JOB_NODELIST: %w", err)
	}
	return nodes, nil
}

// known refuses an mpirun whose ways this engine does not know.
func (e *MPI) known(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.limit())
	defer cancel()
	first := ""
	err := eachLine(ctx, func(line string) { first = cmp.Or(first, line) }, "mpirun", "--version")
	if err != nil {
		return fmt.Errorf("engine mpi: %w", err)
	}
	_, version, ok := strings.Cut(first, "mpirun (Open MPI) ")
	if major, _, _ := strings.Cut(version, "."); !ok || major != "3" && major != "4" {
		return fmt.Errorf("engine mpi: it knows the mpirun of Open MPI 3 and 4, and the one on the PATH says %q", shown(first))
	}
	return nil
}

// mpiStep is a rank on each of some nodes.
type mpiStep struct {
	nodes []string
	bring bool
	args  []string
	input *Feed         // nil: none
	ready time.Duration // until the first rank has begun
	limit time.Duration // of one mpirun; 0: none
	line  func(string)
	ended func(node string, why *Trouble) // told once of each node
}

// run runs a step. Where one node cannot be reached mpirun starts nothing
// anywhere, and ends everything where one is lost; so those that are left are
// tried alone, and the step is run once more without the dead.
func (e *MPI) run(ctx context.Context, s *mpiStep) error {
	nodes := s.nodes
	for again := false; ; again = true {
		a := &mpiAttempt{mpiStep: s, engine: e, nodes: nodes, state: make([]rankState, len(nodes))}
		err := a.run(ctx)
		if err != nil {
			return err
		}
		left := a.left()
		// A program that has begun is not started twice.
		if len(left) == 0 || again || ctx.Err() != nil || a.err == nil || a.begun && s.input != nil {
			a.tell(ctx, left)
			return nil
		}
		dead := e.dead(ctx, left)
		var alive []string
		for _, node := range left {
			if why := dead[node]; why != nil {
				s.ended(node, why)
			} else {
				alive = append(alive, node)
			}
		}
		if len(alive) == 0 {
			return nil
		}
		if len(dead) == 0 || ctx.Err() != nil {
			a.tell(ctx, alive)
			return nil
		}
		nodes = alive
	}
}

// dead tries each node alone, and tells of those where mpirun starts nothing.
func (e *MPI) dead(ctx context.Context, nodes []string) map[string]*Trouble {
	limit := min(e.limit(), 30*time.Second)
	dead := map[string]*Trouble{}
	var mu sync.Mutex
	var busy sync.WaitGroup
	turn := make(chan struct{}, cmp.Or(e.FanOut, 16))
	for _, node := range nodes {
		turn <- struct{}{}
		busy.Go(func() {
			defer func() { <-turn }()
			one, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			said := &helpText{}
			c := command(one, "mpirun", "--host", node, "-n", "1", "--bind-to", "none", "--wdir", "/", "--stdin", "none", "true")
			c.Stderr = said
			err := c.Start()
			if err == nil {
				err = finish(c)
			}
			if err == nil || ctx.Err() != nil {
				return
			}
			why := trouble(Unreachable, "mpirun cannot start anything there (%v)%s", err, after(": ", said.first()))
			if one.Err() != nil {
				why = trouble(TimedOut, "mpirun started nothing there within %s%s", limit, after(": ", said.first()))
			}
			mu.Lock()
			defer mu.Unlock()
			dead[node] = why
		})
	}
	busy.Wait()
	return dead
}

// mpiAttempt is one mpirun over several nodes.
type mpiAttempt struct {
	*mpiStep
	engine *MPI
	nodes  []string // by rank
	mu     sync.Mutex
	state  []rankState // by rank
	begun  bool        // some rank
	said   helpText    // mpirun itself
	err    error       // of mpirun
	late   string      // why it was ended
}

type rankState struct {
	ended bool
	said  tail // beside what berth says to berth
}

// Lines by which the script below tells of a rank, among those of berth.
const (
	rankBegan  = "berth-began"
	rankAbsent = "berth-absent "
	rankEnded  = "berth-ended "
)

// mpiNode is what sh runs as a rank. Its status is always 0: any other can end
// the ranks of other nodes. What --preload-files brings lies in the folder of
// the session, which mpirun removes: the names of the nodes, and perhaps a
// berth, not yet executable. (With --preload-binary 4.1 finds no program.) What
// berth starts is no rank, and is not to take itself for one.
const mpiNode = `exec 2>&1
echo ` + rankBegan + `
d=$OMPI_MCA_orte_jobfam_session_dir
n=$(sed -n "$((OMPI_COMM_WORLD_RANK + 1))p" "$d/nodes")
b=$d/berth
if [ -e "$b" ]; then chmod 700 "$b"
else b=$(command -v berth) || { echo "` + rankAbsent + `$(uname -sm)"; exit 0; }
fi
unset $(env | sed -n "s/^\(\(OMPI\|PMIX\|ORTE\)_[A-Za-z0-9_]*\)=.*/\1/p")
"$b" "$@" --name "$n"
echo "` + rankEnded + `$?"`

// run runs mpirun to its end. The error is of this side.
func (a *mpiAttempt) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "berth-mpi-")
	if err != nil {
		return fmt.Errorf("engine mpi: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "nodes"), []byte(strings.Join(a.nodes, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("engine mpi: %w", err)
	}
	files := "nodes"
	if a.bring {
		binary, err := toBring(a.engine.Binary)
		if err == nil {
			binary, err = filepath.Abs(binary)
		}
		if err == nil {
			err = os.Symlink(binary, filepath.Join(dir, "berth"))
		}
		if err != nil {
			return fmt.Errorf("engine mpi: %w", err)
		}
		files += ",berth"
	}
	return a.mpirun(ctx, dir, files)
}

func (a *mpiAttempt) mpirun(ctx context.Context, dir, files string) error {
	if a.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.limit, fmt.Errorf("no answer within %s", a.limit))
		defer cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdin := "none"
	if a.input != nil {
		stdin = "all"
	}
	// The sequential mapper gives rank i to line i of the hostfile.
	args := []string{"--hostfile", "nodes", "--map-by", "seq", "--bind-to", "none", "-n", strconv.Itoa(len(a.nodes)), "--wdir", "/",
		"--tag-output", "--stdin", stdin, "--mca", "orte_abort_on_non_zero_status", "0", "--preload-files", files, "sh", "-c", mpiNode, "berth-node"}
	c := command(ctx, "mpirun", append(args, a.args...)...)
	c.Dir = dir // files of a relative name lie in the folder of the session itself
	if err := a.input.into(c); err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	c.Stderr = &a.said
	if err := c.Start(); err != nil {
		return fmt.Errorf("engine mpi: start mpirun: %w", err)
	}
	begin := time.AfterFunc(a.ready, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.begun {
			cancel(fmt.Errorf("nothing had begun anywhere within %s", a.ready))
		}
	})
	defer begin.Stop()
	ended := stopReading(ctx, c, out)
	r := &ranks{line: a.take, other: func(string) {}}
	scanLines(out, r.take)
	r.end()
	ended()
	a.err = finish(c)
	if ctx.Err() != nil {
		a.late = context.Cause(ctx).Error()
	}
	return nil
}

// take takes in one line of a rank.
func (a *mpiAttempt) take(rank int, text string) {
	if rank >= len(a.nodes) {
		return
	}
	a.mu.Lock()
	a.begun = true
	a.mu.Unlock()
	said := &a.state[rank].said
	if text == rankBegan {
		return
	}
	if is, ok := strings.CutPrefix(text, rankAbsent); ok {
		why := trouble(NoBerth, "berth is not there (not on the PATH of what mpirun starts)")
		if !runsOn(is) {
			why = trouble(Architecture, "berth is not there, and this one is for %s: the node is %s", runtime.GOARCH, shown(is))
		}
		a.end(rank, why)
		return
	}
	if status, ok := strings.CutPrefix(text, rankEnded); ok {
		why := trouble(Failed, "berth there ended with a status that cannot be read: %s", shown(status))
		if code, err := strconv.Atoi(status); err == nil {
			why = ofStatus(code, string(said.text), after(": ", said.last()))
		}
		a.end(rank, why)
		return
	}
	if !strings.HasPrefix(text, "berth-") { // no frame
		_, _ = said.Write([]byte(text + "\n"))
	}
	a.line(text)
}

func (a *mpiAttempt) end(rank int, why *Trouble) {
	if !a.state[rank].ended {
		a.state[rank].ended = true
		a.ended(a.nodes[rank], why)
	}
}

// left are the nodes whose ranks have not ended.
func (a *mpiAttempt) left() []string {
	var left []string
	for i, node := range a.nodes {
		if !a.state[i].ended {
			left = append(left, node)
		}
	}
	return left
}

// tell says why nodes are left.
func (a *mpiAttempt) tell(ctx context.Context, left []string) {
	for i, node := range a.nodes {
		if !slices.Contains(left, node) {
			continue
		}
		said := cmp.Or(a.state[i].said.last(), a.said.first())
		switch {
		case a.late != "" && ctx.Err() == nil:
			a.ended(node, trouble(TimedOut, "%s%s", a.late, after(": ", said)))
		case a.late != "":
			a.ended(node, trouble(TimedOut, "its rank was ended before it had reported%s", after(": ", said)))
		case a.err != nil:
			a.ended(node, trouble(Unreachable, "mpirun failed (%v)%s", a.err, after(": ", said)))
		default:
			a.ended(node, trouble(Unreachable, "mpirun ended well, and this node's rank never did%s", after(": ", said)))
		}
	}
}

// helpText keeps the beginning of what mpirun says, which is where it, or the
// ssh beneath it, says what is wrong.
type helpText struct{ text []byte }

func (h *helpText) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), tailBytes-len(h.text))]...)
	return len(p), nil
}

// first is the first line that says something.
func (h *helpText) first() string {
	for line := range strings.Lines(string(h.text)) {
		if line = strings.Trim(line, "- \n"); line != "" && !strings.Contains(line, "plm:rsh: Warning: setpgid") {
			return shown(line)
		}
	}
	return ""
}
