//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"berth/affinity"
	"berth/probe/tasks"
	"berth/profiles"
	"berth/profiles/observe"
)

type observeOptions struct {
	who      selection
	length   time.Duration
	after    time.Duration
	children bool
	per      choice
	count    float64
	log      string
	format   choice
	save     string
	advise   bool
}

// observeDocument is an observation as it is printed.
type observeDocument struct {
	observe.Observation `yaml:",inline"`
	Verdict             affinity.Verdict `json:"verdict" yaml:"verdict"`
	Noise               affinity.Noise   `json:"noise" yaml:"noise"`
}

const (
	leastObserved = 500 * time.Millisecond
	// sure is the confidence from which an observation counts as measured.
	sure = 0.6
)

func newObserveCmd() *cobra.Command {
	o := &observeOptions{format: choice{"text", []string{"text", "json", "yaml", "profile"}}, per: choice{"wakeup", []string{"wakeup"}}}
	cmd := &cobra.Command{
		Use:   "observe (--pid P | --match REGEXP | --cgroup PATH | -- PROGRAM [ARG...])",
		Short: "Measure a running program: what holds it up, and its profile",
		Long: `Watch the threads of a program from outside, without stopping or tracing it, and
say what holds it up and what one unit of its work costs:

  cpu-bound            computes
  io-bound (blocking)  threads wait for a disk, a peer or a timer themselves
  io-bound (async)     an event loop waits for many
  mixed                computes about as much as it waits
  gil-bound            Python threads wait for their interpreter
  lock-bound           threads wait for each other
  throttled            a CPU quota stops it, its own or that of a group above
  starved              others use its CPUs
  idle                 too little work to judge

Threads count by the CPU time that they use, so that idle helpers say nothing.
The shares are of their time. One unit of work is a wakeup unless a flag tells
better: the ratio of waiting to computing, which decides the number of workers,
is right for any unit.

A program given after -- is started in a process group of its own, and ended with
all it started once the time is over; what it prints goes to standard error, and
its standard input is empty unless it comes from a pipe or a file.`,
		Example: `  berth observe --pid 4711
  berth observe --match gunicorn --for 30s --save service.yaml
  berth observe --pid 4711 --per-log access.log:' 200 '    a unit is a line
  berth observe --advise -- ./worker                       and the plan for it
  berth observe --advise -o json -- ./worker > plan.json   for berth run --plan`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	o.who.bindNamed(cmd)
	flags.DurationVar(&o.length, "for", 10*time.Second, "watch for that `TIME`")
	flags.DurationVar(&o.after, "after", 0, "let a `TIME` pass first, as for a program that is starting up")
	flags.BoolVar(&o.children, "children", false, "watch what the processes start, too")
	flags.Var(&o.per, "per", "what a unit of work is: each time that a busy thread was woken")
	flags.Float64Var(&o.count, "per-count", 0, "a unit of work: `N` of them are done in the time")
	flags.StringVar(&o.log, "per-log", "", "a unit of work: a line that is added to a file and fits, `FILE:REGEXP`")
	flags.VarP(&o.format, "output", "o", "how to print; profile: the profile alone")
	flags.StringVar(&o.save, "save", "", "write the profile into a `FILE`")
	flags.BoolVar(&o.advise, "advise", false, "go on to the plan for this machine, and print that as berth advise does")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	must(cmd.RegisterFlagCompletionFunc("per", o.per.complete))
	return cmd
}

func (o *observeOptions) run(cmd *cobra.Command, args []string) error {
	unit, err := o.check(cmd, args)
	if err != nil {
		return err
	}
	ctx, caught, stop := untilSignal(cmd.Context())
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal kills

	w := observe.New("", observe.Options{Children: o.children || len(args) > 0, Unit: unit})
	defer w.Close()
	var started *observed
	if len(args) > 0 {
		if started, err = startObserved(cmd, args); err != nil {
			return err
		}
		defer started.end()
		if err := w.Follow(started.cmd.Process.Pid, time.Now()); err != nil {
			return started.report(err)
		}
	} else if err := o.follow(cmd, w); err != nil {
		return err
	}
	if !pause(ctx, o.after) {
		return &statusError{128 + int(caught()), errors.New("ended before the look began")}
	}
	line := newStatusLine(cmd.ErrOrStderr())
	line.say(fmt.Sprintf("watching for %s …", o.length))
	seen, err := w.Run(ctx, o.length)
	line.end()
	if err != nil {
		return &usageError{err, "for example --per-log access.log:' 200 '"}
	}
	if started != nil {
		started.end()
	}
	if err := o.print(cmd, seen); err != nil {
		return err
	}
	if by := caught(); by != 0 {
		return &statusError{128 + int(by), fmt.Errorf("ended by %s", unix.SignalName(by))}
	}
	return nil
}

// check finds what cannot be meant.
func (o *observeOptions) check(cmd *cobra.Command, args []string) (observe.Unit, error) {
	if err := atMostOne(cmd, "per", "per-count", "per-log"); err != nil {
		return nil, err
	}
	if err := o.who.check(cmd); err != nil {
		return nil, err
	}
	switch {
	case o.who.named() && len(args) > 0:
		return nil, usage("name running processes, or give a program", "a flag names processes, and %q is a program to start", args[0])
	case !o.who.named() && len(args) == 0:
		return nil, usage("give --pid, --match, --cgroup, or a program after --", "observe needs to know what to watch")
	case o.length < leastObserved:
		return nil, usage("for example --for 10s", "--for %s: nothing is known after less than %s", o.length, leastObserved)
	case o.after < 0:
		return nil, usage("for example --after 2s", "--after %s is before now", o.after)
	case o.advise && o.format.value == "profile":
		return nil, usage("leave one of them out; --save writes the profile", "--advise prints a plan, and the output is to be the profile")
	case cmd.Flags().Changed("per-count"):
		if !(o.count > 0) {
			return nil, usage("the number of units that are done while it is watched", "--per-count %g is not a number above 0", o.count)
		}
		return observe.Count(o.count), nil
	case cmd.Flags().Changed("per-log"):
		lines, err := parseLogLines(o.log)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(lines.Path); err != nil {
			return nil, usage("the file must be there before the watch begins", "--per-log: %w", err)
		}
		return lines, nil
	}
	return observe.Wakeups{}, nil
}

// parseLogLines reads FILE:REGEXP. The first colon ends the name: expressions have
// colons more often than names do.
func parseLogLines(text string) (*observe.LogLines, error) {
	const hint = "for example --per-log access.log:' 200 '"
	name, expression, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return nil, usage(hint, "--per-log %s is not FILE:REGEXP", text)
	}
	line, err := regexp.Compile(expression)
	if err != nil {
		return nil, usage(hint, "--per-log: %w", err)
	}
	return &observe.LogLines{Path: name, Line: line}, nil
}

// follow watches the processes that the flags name.
func (o *observeOptions) follow(cmd *cobra.Command, w *observe.Watch) error {
	c, err := o.who.find("")
	if err != nil {
		return err
	}
	followed := 0
	for _, p := range c.processes {
		if p.Kernel {
			return usage("name a program", "--pid %d is a thread of the kernel's own, %s", p.PID, p.Name)
		}
		if p.State == tasks.Zombie {
			c.gone = append(c.gone, fmt.Errorf("process %d (%s) has ended: it is a zombie, which its parent %d has not yet waited for", p.PID, p.Name, p.Parent))
			continue
		}
		if p.State == tasks.Stopped || p.State == tasks.Traced {
			fmt.Fprintf(cmd.ErrOrStderr(), "berth: process %d (%s) is stopped: it does nothing until it is told to go on (kill -CONT %d)\n", p.PID, p.Name, p.PID)
		}
		switch err := w.Follow(p.PID, time.Now()); {
		case errors.Is(err, tasks.ErrGone), errors.Is(err, fs.ErrPermission):
			c.gone = append(c.gone, err)
		case err != nil:
			return err
		default:
			followed++
		}
	}
	if followed == 0 {
		if len(c.gone) > 0 {
			return errors.Join(c.gone...)
		}
		return o.who.nobody()
	}
	for _, g := range c.gone {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %v\n", g)
	}
	return nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// observed is a program that was started to be watched.
type observed struct {
	cmd      *exec.Cmd
	launcher *affinity.Launcher // whose end would be the program's
	ended    chan error         // of its first process
	over     bool
}

// grace is how long a program has to end by itself.
const grace = 3 * time.Second

func startObserved(cmd *cobra.Command, args []string) (*observed, error) {
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = under(cmd.ErrOrStderr()), under(cmd.ErrOrStderr())
	if f, ok := cmd.InOrStdin().(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		c.Stdin = f
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	// What leaves its group comes to this process when its parent ends.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("prctl(PR_SET_CHILD_SUBREAPER): %w", err)
	}
	launcher, err := affinity.NewLauncher()
	if err != nil {
		return nil, err
	}
	if _, err := launcher.Start(c, affinity.Seat{}); err != nil {
		launcher.Close()
		return nil, notStarted(args[0], err)
	}
	o := &observed{cmd: c, launcher: launcher, ended: make(chan error, 1)}
	go func() { o.ended <- c.Wait() }()
	return o, nil
}

// end ends the program and all that it started.
func (o *observed) end() {
	if o.over {
		return
	}
	o.over = true
	group := -o.cmd.Process.Pid
	_ = unix.Kill(group, unix.SIGTERM)
	_ = unix.Kill(group, unix.SIGCONT)
	select {
	case <-o.ended:
	case <-time.After(grace):
	}
	_ = unix.Kill(group, unix.SIGKILL)
	endDescendants()
	o.launcher.Close()
}

// endDescendants kills what this process is left with. Each that dies leaves its
// children to it, so that it takes as many turns as they are deep.
func endDescendants() {
	for range mostGenerations {
		all, err := tasks.Proc("").Processes()
		if err != nil {
			return
		}
		living := false
		for _, p := range all.Descendants(os.Getpid()) {
			if p.State != tasks.Zombie {
				living = true
				_ = unix.Kill(p.PID, unix.SIGKILL)
			}
		}
		if !living {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const mostGenerations = 20

// report is why a program could not be watched.
func (o *observed) report(err error) error {
	select {
	case end := <-o.ended:
		o.ended <- end
		if end != nil {
			return fmt.Errorf("%s ended at once: %w", o.cmd.Path, end)
		}
		return fmt.Errorf("%s ended at once", o.cmd.Path)
	case <-time.After(100 * time.Millisecond):
		return err
	}
}

func (o *observeOptions) print(cmd *cobra.Command, seen *observe.Observation) error {
	d := &observeDocument{
		Observation: *seen, Verdict: affinity.Measured,
		Noise: affinity.Noise{StealPct: seen.Noise.StealPct, OtherBusyPct: seen.Noise.OtherBusyPct, ThrottledMS: seen.Noise.ThrottledMS},
	}
	if seen.Confidence < sure || seen.Class == profiles.Idle {
		d.Verdict = affinity.Inconclusive
	}
	// What was seen is lost in neither place for want of the other.
	var saved error
	if o.save != "" {
		saved = o.saveProfile(seen)
	}
	if o.advise {
		return errors.Join(o.plan(cmd, d), saved)
	}
	return errors.Join(o.show(cmd, d), saved)
}

// show prints what was seen.
func (o *observeOptions) show(cmd *cobra.Command, d *observeDocument) error {
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	var err error
	switch o.format.value {
	case "json":
		err = writeJSON(out, d)
	case "yaml":
		err = writeYAML(out, d)
	case "profile":
		if d.ProfileYAML == nil {
			return noProfile(&d.Observation)
		}
		_, err = out.Write(d.ProfileYAML)
	default:
		observeView(&page{w: out, screen: screenOf(cmd.OutOrStdout())}, d)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

func noProfile(seen *observe.Observation) error {
	return fmt.Errorf("there is no profile of %s: it did too little in %.1f s; watch it while it is in use", seen.Command, seen.DurationS)
}

func (o *observeOptions) saveProfile(seen *observe.Observation) error {
	if seen.ProfileYAML == nil {
		return noProfile(seen)
	}
	f, err := createAtomic(o.save)
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	defer f.discard()
	if _, err := f.Write(seen.ProfileYAML); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	if err := f.commit(); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

// plan goes on to what berth advise says of the profile. The observation is then
// beside the point: in its text it comes first, else on standard error.
func (o *observeOptions) plan(cmd *cobra.Command, d *observeDocument) error {
	if d.Profile == nil {
		return noProfile(&d.Observation)
	}
	var to io.Writer = cmd.ErrOrStderr()
	if o.format.value == "text" {
		to = cmd.OutOrStdout()
	}
	out := bufio.NewWriterSize(to, 64<<10)
	observeView(&page{w: out, screen: screenOf(to)}, d)
	if o.format.value == "text" {
		out.WriteString("\n")
	}
	if err := out.Flush(); err != nil {
		return err
	}
	advise := &adviseOptions{format: o.format}
	return advise.plan(cmd, d.Profile, nil, nil)
}

// observedName is the program's name, for titles.
func observedName(command string) string {
	first, rest, _ := strings.Cut(command, " ")
	return strings.TrimSpace(filepath.Base(first) + " " + rest)
}
