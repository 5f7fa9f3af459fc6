//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/tasks"
)

type pinOptions struct {
	seating     seating
	whom        selection
	each        bool
	rules       []string
	rulesFile   string
	memory      string
	follow, dry bool
	undo        string
	undoFile    string
	receipt     receiptFlag
}

func newPinCmd() *cobra.Command {
	o := &pinOptions{}
	cmd := &cobra.Command{
		Use:   "pin",
		Short: "Seat the threads of running processes, with undo",
		Long: `Seat all threads of running processes: on a set of CPUs, on a CPU each, or by
rules for their names. Every seat is read back, and the old state is on the disk
before the first change: the last line printed is the command that undoes it.

A rule is NAME=LIST or NAME=each:LIST, where NAME may hold *, ? and [a-z] and is
compared with the thread's name (15 bytes at most); the first rule that fits a
thread counts, and threads that none fits are left alone. A rules file is YAML:

  rules:
    - {name: "io-*", cpus: "0-1"}
    - {name: "worker-*", cpus: "2-7", each: true}
    - {name: "*", place: "node:1"}

A signal before the end, or while berth follows, undoes what was done.

A thread can end while it is seated, and its number go to a stranger: berth looks
again afterwards, and gives a stranger its CPUs back. One born in the microsecond
between the reading of the old mask and the setting of the new one gets those of
the thread before it.`,
		Example: `  berth pin --pid 4711 -c 0-3
  berth pin --match '^/usr/bin/redis-server' --place llc:0
  berth pin --pid 4711 --rule 'io-*=0-1' --rule 'worker-*=each:2-7' --follow
  berth pin --undo undo.jsonl`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.seating.bind(cmd)
	o.whom.bindNamed(cmd)
	flags.BoolVar(&o.each, "each", false, "a CPU for each thread, in turn (from -c or --place; else from all that are allowed)")
	flags.StringArrayVar(&o.rules, "rule", nil, "seat threads by name: `NAME=[each:]LIST`; repeatable")
	flags.StringVar(&o.rulesFile, "rules", "", "the rules of a YAML `FILE`")
	flags.StringVar(&o.memory, "mem", "", "move the processes' memory to these NUMA `NODES`")
	flags.BoolVar(&o.follow, "follow", false, "go on seating threads as they are born, until the processes end")
	flags.BoolVar(&o.dry, "dry-run", false, "show what would be done")
	flags.StringVar(&o.undo, "undo", "", "give back what a `FILE` written by pin remembers")
	flags.StringVar(&o.undoFile, "undo-file", "", "remember the old state in a `FILE` (default: one below $XDG_STATE_HOME/berth)")
	o.receipt.bind(cmd, "say where every thread sits now")
	return cmd
}

func (o *pinOptions) run(cmd *cobra.Command) error {
	if cmd.Flags().Changed("undo") {
		return o.runUndo(cmd)
	}
	seat, names, err := o.plan(cmd)
	if err != nil {
		return err
	}
	nodes, err := o.memoryNodes()
	if err != nil {
		return err
	}
	pids, missing, err := o.processes(cmd)
	if err != nil {
		return err
	}
	receipt, err := o.receipt.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer receipt.discard()

	p := &affinity.Pinner{Names: names, DryRun: o.dry}
	if seat != nil {
		p.Seat = seat.choose
	}
	defer p.Close()
	ctx, caught, stop := untilSignal(cmd.Context())
	defer stop()
	if seat != nil && !o.dry {
		if p.Undo, err = o.createUndo(); err != nil {
			return err
		}
		defer p.Undo.Close()
	}
	err = o.seatAll(ctx, p, pids)
	if err == nil && o.follow && !o.dry {
		fmt.Fprintln(cmd.ErrOrStderr(), "berth: following; end with a signal, which undoes all")
		err = p.Follow(ctx)
	}
	if err != nil {
		return o.giveUp(cmd, p, err, caught)
	}
	if o.dry {
		return dryRunView(cmd, p)
	}
	for _, f := range p.Failed {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %v\n", f)
	}
	unused := seat.unused()
	for _, r := range unused {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: no thread is called %s%s\n", r.name, tooLong(r.name))
	}
	if err := moveMemory(cmd, pids, nodes); err != nil {
		return err
	}
	if o.receipt.wanted() {
		if err := receipt.write(p.Receipt(), screenOf(cmd.ErrOrStderr())); err != nil {
			return err
		}
	}
	o.report(cmd, p)
	if missing || len(p.Failed) > 0 || len(unused) > 0 {
		return &statusError{1, nil}
	}
	return nil
}

// untilSignal is a context that a signal ends, and which signal it was.
func untilSignal(parent context.Context) (ctx context.Context, caught func() syscall.Signal, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	got := make(chan syscall.Signal, 1)
	go func() {
		select {
		case s := <-signals:
			got <- s.(syscall.Signal)
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() syscall.Signal {
			select {
			case s := <-got:
				return s
			default:
				return 0
			}
		}, func() {
			signal.Stop(signals)
			cancel()
		}
}

// pinSeats decides where threads belong.
type pinSeats struct {
	rules []*pinRule
}

type pinRule struct {
	name   string // a pattern
	each   bool
	places place.Places
	next   int // the place whose turn it is
	used   bool
}

func (s *pinSeats) choose(_, _ int, name string) cpuset.Set {
	for _, r := range s.rules {
		if fits, err := filepath.Match(r.name, name); err != nil || !fits {
			continue
		}
		r.used = true
		if !r.each {
			return r.places.Union()
		}
		r.next++
		return r.places[(r.next-1)%len(r.places)]
	}
	return cpuset.Set{}
}

// unused are the rules that fitted no thread.
func (s *pinSeats) unused() []*pinRule {
	if s == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.rules), func(r *pinRule) bool { return r.used })
}

// tooLong explains why a pattern may fit nothing.
func tooLong(name string) string {
	if len(name) > 15 {
		return ": the kernel keeps 15 bytes of a name"
	}
	return ""
}

// plan reads the flags that say where threads belong; nil: only memory moves.
func (o *pinOptions) plan(cmd *cobra.Command) (seat *pinSeats, names bool, err error) {
	if err := atMostOne(cmd, "cpus", "place", "rule"); err != nil {
		return nil, false, err
	}
	byRule := len(o.rules) > 0 || o.rulesFile != ""
	switch {
	case byRule && (o.each || o.seating.given(cmd)):
		return nil, false, usage("say it in a rule: --rule '*=each:LIST'", "rules say where every thread belongs, and -c, --place or --each says so too")
	case byRule:
		rules, err := o.readRules(cmd)
		return &pinSeats{rules}, true, err
	case o.seating.given(cmd):
		places, err := o.seating.places(cmd)
		return &pinSeats{[]*pinRule{{name: "*", each: o.each, places: places}}}, false, err
	case o.each:
		allowed, err := probe.Affinity(0)
		return &pinSeats{[]*pinRule{{name: "*", each: true, places: single(allowed)}}}, false, err
	case o.memory != "":
		return nil, false, nil
	}
	return nil, false, usage("for example: berth pin --pid 4711 -c 0-3", "pin needs to know where: -c, --place, --each, --rule, --rules or --mem")
}

// processes finds whose threads are meant; some of those asked for by number may
// be missing, and are told of.
func (o *pinOptions) processes(cmd *cobra.Command) (pids []int, missing bool, err error) {
	if err := o.whom.check(cmd); err != nil {
		return nil, false, err
	}
	if !o.whom.named() {
		return nil, false, usage("for example: berth pin --pid 4711 -c 0-3", "pin needs to know whom: --pid, --match or --cgroup")
	}
	found, err := o.whom.find("")
	if err != nil {
		return nil, false, err
	}
	for _, err := range found.gone {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %v\n", err)
	}
	for _, p := range found.processes {
		pids = append(pids, p.PID)
	}
	switch {
	case len(pids) > 0:
	case len(found.gone) > 0:
		return nil, false, &statusError{1, nil}
	default:
		return nil, false, o.whom.nobody()
	}
	return pids, len(found.gone) > 0, nil
}

// seatAll seats each process; one that has ended since is no error.
func (o *pinOptions) seatAll(ctx context.Context, p *affinity.Pinner, pids []int) error {
	if p.Seat == nil {
		return nil
	}
	for _, pid := range pids {
		if err := p.Process(ctx, pid); err != nil && !errors.Is(err, tasks.ErrGone) {
			return err
		}
	}
	return nil
}

// createUndo makes the undo file, by default below the user's state directory
// (XDG Base Directory Specification).
func (o *pinOptions) createUndo() (*affinity.UndoLog, error) {
	name := o.undoFile
	if name == "" {
		dir, err := stateDir()
		if err != nil {
			return nil, usage("name a file: --undo-file FILE", "%w", err)
		}
		name = filepath.Join(dir, undoName("undo", "jsonl"))
	}
	u, err := affinity.CreateUndo(name)
	if errors.Is(err, os.ErrExist) {
		return nil, usage("name another, or remove it", "%w", err)
	}
	return u, err
}

// giveUp undoes what was done before an error or a signal.
func (o *pinOptions) giveUp(cmd *cobra.Command, p *affinity.Pinner, cause error, caught func() syscall.Signal) error {
	status := &statusError{1, cause}
	if s := caught(); s != 0 {
		status = &statusError{128 + int(s), fmt.Errorf("ended by %s", unix.SignalName(s))}
	}
	if p.Undo == nil {
		return status
	}
	done, err := undoFile(p.Undo.Name())
	if err != nil {
		return &statusError{status.status, fmt.Errorf("%w; and nothing was undone: %w", status.err, err)}
	}
	if len(done.Failed) > 0 {
		return &statusError{status.status, fmt.Errorf("%w; not all was undone: %w; try berth pin --undo %s", status.err, done.Failed[0], p.Undo.Name())}
	}
	_ = os.Remove(p.Undo.Name())
	return &statusError{status.status, fmt.Errorf("%w; what was done is undone", status.err)}
}

func undoFile(name string) (affinity.Undone, error) {
	f, err := openTrusted(name)
	if err != nil {
		return affinity.Undone{}, err
	}
	defer f.Close()
	records, torn, err := affinity.ReadUndo(f, name)
	if err != nil {
		return affinity.Undone{}, err
	}
	done := affinity.Undo(records)
	done.Torn = torn
	return done, nil
}

func (o *pinOptions) runUndo(cmd *cobra.Command) error {
	for _, name := range [...]string{"cpus", "place", "pid", "match", "cgroup", "each", "rule", "rules", "mem", "follow", "dry-run", "undo-file", "receipt"} {
		if cmd.Flags().Changed(name) {
			return usage("give --undo alone", "--undo gives back what its file says, and --%s says something else", name)
		}
	}
	done, err := undoFile(o.undo)
	if foreign := (*foreignError)(nil); errors.As(err, &foreign) {
		return usage("undo as its owner, or look at it and make a copy of your own", "--undo: %w", err)
	}
	if err != nil {
		return usage("give a file that berth pin wrote", "--undo: %w", err)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s restored, %d had their masks already", count(done.Restored, "thread"), done.Same)
	if done.GoneThreads > 0 || done.GoneProcesses > 0 {
		fmt.Fprintf(out, "; no longer there: %s, and %s as a whole", count(done.GoneThreads, "thread"), count(done.GoneProcesses, "process"))
	}
	fmt.Fprintln(out)
	if done.Torn {
		fmt.Fprintln(cmd.ErrOrStderr(), "berth: the file ends within a line: berth was cut off there, before it changed what the line is about")
	}
	for _, err := range done.Failed {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %v\n", err)
	}
	if len(done.Failed) > 0 {
		return &statusError{1, nil}
	}
	removeOwn(o.undo)
	return nil
}

// memoryNodes are those of --mem; none: memory stays.
func (o *pinOptions) memoryNodes() (cpuset.Set, error) {
	nodes, err := cpuset.Parse(o.memory)
	if err != nil || nodes.IsEmpty() && o.memory != "" {
		return cpuset.Set{}, usage("a list of nodes such as 0 or 0-1", "--mem %s is not a list of NUMA nodes", o.memory)
	}
	return nodes, nil
}

func moveMemory(cmd *cobra.Command, pids []int, nodes cpuset.Set) error {
	if nodes.IsEmpty() {
		return nil
	}
	for _, pid := range pids {
		stayed, err := affinity.MovePages(pid, nodes)
		switch {
		case errors.Is(err, unix.ESRCH):
		case err != nil:
			return err
		case stayed > 0:
			fmt.Fprintf(cmd.ErrOrStderr(), "berth: %d pages of process %d stayed where they were\n", stayed, pid)
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "berth: memory was moved to %s; where later pages come from is the program's affair\n", nodes)
	return nil
}

// report says what was done, and how to undo it.
func (o *pinOptions) report(cmd *cobra.Command, p *affinity.Pinner) {
	if p.Undo == nil {
		return
	}
	out := cmd.OutOrStdout()
	if len(p.Threads) == 0 {
		fmt.Fprintln(out, "no thread was seated")
		_ = p.Undo.Remove()
		return
	}
	processes := map[int]bool{}
	for _, t := range p.Threads {
		processes[t.PID] = true
	}
	fmt.Fprintf(out, "%s of %s seated\n", count(len(p.Threads), "thread"), count(len(processes), "process"))
	if p.Strangers > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %d threads of other processes came to have a number meanwhile; they have their masks again\n", p.Strangers)
	}
	fmt.Fprintf(out, "undo: berth pin --undo %s\n", p.Undo.Name())
}

// dryRunView is a row for each thread and where it would sit.
func dryRunView(cmd *cobra.Command, p *affinity.Pinner) error {
	out := bufio.NewWriter(cmd.OutOrStdout())
	view := &page{screen: screenOf(cmd.OutOrStdout()), w: out}
	rows := [][]string{{"process", "thread", "name", "now", "would be"}}
	for _, t := range p.Threads {
		rows = append(rows, []string{strconv.Itoa(t.PID), strconv.Itoa(t.TID), t.Name, cpuList(t.Before), cpuList(t.Asked)})
	}
	alignRight(rows, 0, 1)
	view.table(rows)
	return out.Flush()
}
