//go:build linux

package fleet

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// SSH is an engine that runs OpenSSH's ssh(1) once for each node, as the user's
// own configuration has it (keys, jumps, ControlMaster).
type SSH struct {
	Nodes   []string      // each passes [CheckName]
	Options []string      // further options of ssh: -F FILE, -o NAME=VALUE
	FanOut  int           // nodes at a time; 0: 64
	Limit   time.Duration // for each node; 0: 30 seconds
	Bring   Bring
	Binary  string // the berth to bring along; empty: this program
}

// Name is ssh.
func (*SSH) Name() string { return "ssh" }

// Inspect asks all nodes, FanOut at a time.
func (e *SSH) Inspect(ctx context.Context, answer func(Answer)) error {
	limit := e.limit()
	return e.each(e.Nodes, func(program, node string, next func()) {
		defer next()
		if ctx.Err() != nil {
			answer(Answer{Node: node, Trouble: trouble(NotAsked, "the look was ended before it was asked")})
			return
		}
		one, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		out := &bounded{limit: mostDocument}
		s := &session{engine: e, program: program, node: node, inspects: true, out: out, head: func() []byte { return out.text }, reset: func() { *out = bounded{limit: mostDocument} }}
		why := s.run(one)
		switch {
		case why == nil || why.Code == Unreachable && documentStart(out.text) >= 0: // the connection may go down under an answer
			answer(Answer{Node: node, Document: out.text})
			return
		case one.Err() == context.DeadlineExceeded && ctx.Err() == nil:
			why = trouble(TimedOut, "no answer within %s%s", limit, words(out.text, &s.said))
		case ctx.Err() != nil:
			why = trouble(NotAsked, "the look was ended before it had answered")
		case out.over:
			why = trouble(Garbage, "its answer is larger than %d MiB", mostDocument>>20)
		}
		answer(Answer{Node: node, Trouble: why})
	})
}

// Launch holds a session with every node as long as its berth runs. FanOut
// bounds those that have begun and not yet said anything.
func (e *SSH) Launch(ctx context.Context, step *Step) error {
	return e.each(step.Nodes, func(program, node string, next func()) {
		defer next()
		if ctx.Err() != nil {
			step.Ended(node, trouble(NotAsked, "the run was ended before it was asked"))
			return
		}
		spoke := false
		out := &lineWriter{line: func(text string) {
			if strings.HasPrefix(text, frameMark) || strings.HasPrefix(text, outputMark) { // the rest is a login shell's
				next()
				spoke = true
				step.Line(text)
			}
		}}
		s := &session{engine: e, program: program, node: node, args: append(slices.Clone(step.Args), "--name", node), input: step.Input, out: out,
			head: func() []byte { return out.head }, reset: func() { out.head = nil }}
		why := s.run(ctx)
		out.end()
		switch {
		case why != nil && ctx.Err() != nil:
			why = trouble(TimedOut, "its session was ended before it had reported%s", words(nil, &s.said))
		case why == nil && !spoke && len(out.head) > 0:
			why = trouble(Garbage, "no report came; what came instead begins with %s", firstLine(out.head))
		}
		step.Ended(node, why)
	})
}

// each does something for every node at once; so many at a time may not yet have
// called next, which they may call again.
func (e *SSH) each(nodes []string, do func(program, node string, next func())) error {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("engine ssh: %w", err)
	}
	turn := make(chan struct{}, cmp.Or(e.FanOut, 64))
	var busy sync.WaitGroup
	for _, node := range nodes {
		turn <- struct{}{}
		busy.Go(func() { do(program, node, sync.OnceFunc(func() { <-turn })) })
	}
	busy.Wait()
	return nil
}

func (e *SSH) limit() time.Duration { return cmp.Or(e.Limit, 30*time.Second) }

// Exit statuses of the scripts beside berth's own and those of the shell.
const (
	statusMistaken = 2 // berth's own, for flags that it does not know
	statusAbsent   = 97
	statusNoRoom   = 98
	statusSSH      = 255 // ssh's own trouble
)

// The scripts are for sh: one line in single quotes, with no such quote and no
// backslash within, so that login shells hand it on as it is. Descriptor 3 is the session's
// input, which stays open as long as somebody waits for the answer: when it
// ends, what runs there is killed.
const watched = `exec 3<&0 </dev/null; %[1]s inspect -o json & p=$!; { cat <&3 >/dev/null 2>&1; kill $p; } >/dev/null 2>&1 & w=$!; wait $p; s=$?; kill $w 2>/dev/null; `

// fed leaves the session's input to berth, which then looks to its end itself.
func fed(berth string, args []string) string {
	return berth + " " + strings.Join(args, " ") + "; s=$?; "
}

// script runs the berth that is there.
func script(what string) string {
	return "sh -c '" + fmt.Sprintf(`command -v berth >/dev/null 2>&1 || { uname -sm; exit %d; }; `, statusAbsent) + what + "exit $s'"
}

// brought is what is started where a berth was brought along.
const brought = `"$d/berth"`

// bringing takes a berth from the session's input into a folder of its own,
// runs it, and removes both, also when it is told to end.
func bringing(size int64, what string) string {
	return "sh -c '" + fmt.Sprintf(`umask 077; d=$(mktemp -d) || exit %[1]d; gone() { rm -rf "$d"; }; trap gone EXIT; trap "exit 129" HUP INT TERM; `+
		`head -c %[2]d >"$d/berth" && chmod 700 "$d/berth" && [ "$(wc -c <"$d/berth")" -eq %[2]d ] || exit %[1]d; `, statusNoRoom, size) + what + "exit $s'"
}

// gap stands between a berth and what it reads: a head(1) that reads more than it
// was asked for takes away nothing but empty lines.
var gap = bytes.Repeat([]byte{'\n'}, 64<<10)

// session is what one node has to do for an engine: to inspect itself, or to
// serve a step with what args and input say.
type session struct {
	engine        *SSH
	program, node string
	inspects      bool
	args          []string
	input         *Feed
	out           io.Writer
	head          func() []byte // the beginning of what was written to out
	reset         func()        // forgets it
	said          tail          // on standard error
}

func (s *session) script(berth string) string {
	if s.inspects {
		return fmt.Sprintf(watched, berth)
	}
	return fed(berth, s.args)
}

// run runs the berth that is there, or one that is brought along.
func (s *session) run(ctx context.Context) *Trouble {
	e := s.engine
	if err := CheckName(s.node); err != nil {
		return trouble(Unreachable, "%v", err)
	}
	why := trouble(NoBerth, "")
	if e.Bring != BringAlways {
		why = s.start(ctx, script(s.script("berth")), nil)
	}
	if why == nil || why.Code != NoBerth || e.Bring == BringNever {
		return why
	}
	if is := s.head(); why.Text != "" && !runsOn(strings.TrimSpace(string(is))) {
		return trouble(Architecture, "berth is not there, and this one is for %s: the node is %s", runtime.GOARCH, shown(string(is)))
	}
	binary, err := os.Open(cmp.Or(e.Binary, "/proc/self/exe"))
	if err != nil {
		return trouble(NoBerth, "berth is not there, and cannot be brought along: %v", err)
	}
	defer binary.Close()
	info, err := binary.Stat()
	if err != nil {
		return trouble(NoBerth, "berth is not there, and cannot be brought along: %v", err)
	}
	s.reset()
	s.said = tail{}
	return s.start(ctx, bringing(info.Size(), s.script(brought)), binary)
}

// start runs one script on the node.
func (s *session) start(ctx context.Context, remote string, binary io.Reader) *Trouble {
	args := []string{"-T", "-o", "BatchMode=yes", "-o", fmt.Sprintf("ConnectTimeout=%d", max(1, int(s.engine.limit()/time.Second)))}
	args = append(args, s.engine.Options...)
	if s.input != nil { // a session may be silent for hours, and its node gone
		args = append(args, "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
	}
	c := command(ctx, s.program, append(args, "--", s.node, remote)...)
	c.Stdout, c.Stderr = s.out, &s.said
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return trouble(Unreachable, "start ssh: %v", err)
	}
	go handOver(in, binary, s.input)
	err = finish(c) // closes its input, but only after its end
	switch code := status(err); {
	case err == nil:
		return nil
	case code == statusAbsent:
		return trouble(NoBerth, "berth is not there (not on the PATH of a session without a terminal)")
	case code == statusNoRoom:
		return trouble(NoBerth, "berth is not there, and cannot be brought along: %s", s.said.last())
	case code == statusMistaken && !s.inspects:
		return trouble(OtherSchema, "its berth does not know how to serve a run, and so is of another version%s; --bring always brings this one", words(nil, &s.said))
	case code == statusSSH:
		return trouble(Unreachable, "%s", cmp.Or(s.said.last(), "ssh ended with status 255"))
	case code > 0:
		return ofStatus(code, string(s.said.text), words(s.head(), &s.said))
	}
	return trouble(Failed, "berth there failed (%v)%s", err, words(s.head(), &s.said))
}

// handOver gives what runs on a node a berth, if any, and its input, if it has
// one. What the session does not take, it tells of itself.
func handOver(in io.WriteCloser, binary io.Reader, input *Feed) {
	if binary != nil {
		_, _ = io.Copy(in, binary)
	}
	if input == nil {
		return // the open end is what the far side watches
	}
	if binary != nil {
		_, _ = in.Write(gap)
	}
	_, _ = io.Copy(in, input.Reader())
	_ = in.Close()
}

// words adds what a program said last, or first.
func words(out []byte, said *tail) string {
	switch {
	case said.last() != "":
		return ": " + said.last()
	case len(bytes.TrimSpace(out)) > 0:
		return ": " + firstLine(out)
	}
	return ""
}
