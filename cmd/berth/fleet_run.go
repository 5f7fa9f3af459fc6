//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/affinity/fleet"
)

type fleetRunOptions struct {
	fleet        fleetFlags
	plan         string
	require      bool
	onFailure    choice
	ready, limit time.Duration
	with, env    []string
	dir          string
	receipt      string
	save         string
	full         bool
	prefix       bool
	program      []string
}

func newFleetRunCmd() *cobra.Command {
	o := &fleetRunOptions{fleet: newFleetFlags(), onFailure: choice{"node", []string{"none", "node", "all"}}}
	o.fleet.engine.of = reaching
	cmd := &cobra.Command{
		Use:   "run --plan PLAN --engine ENGINE [flags] [--] PROGRAM [ARG...]",
		Short: "Run a program on the nodes of a plan, each with its own seats, and gather receipts",
		Long: `Start a program on every node of a plan through an engine, as berth run does on
one machine: each node's workers on the seats that its part of the plan has. At
the end every node sends its receipt, and what was planned is held against what
was observed.

What programs print comes in whole lines with the name of the node before them.
They have no standard input. The first Ctrl-C ends the programs on all nodes and
gathers their receipts; a second one ends berth at once, and the programs end
without it. What programs leave running on a node is killed.

Exit status: that of the node that failed first (see berth run); with --require
125 if a node is not as planned or a seat was not kept; 1 if a node sent no
receipt or not all was waited for; 128 + N after signal N; 2 for a mistake in the
flags.`,
		Example: `  berth fleet advise solver.yaml --fleet fleet.json -o json > plan.json
  berth fleet run --plan plan.json --engine slurm -- ./solver input
  berth fleet run --plan plan.json --engine ssh --require --receipt run.json -- ./solver
  berth fleet run --plan plan.json --engine ssh --nodes n[1-2] --with=--env=plan -- ./solver`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.program = args
			return o.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the program is the program's
	flags.StringVar(&o.plan, "plan", "", "a `FILE` that berth fleet advise -o json wrote, or -")
	flags.Var(&o.fleet.engine, "engine", "how the nodes are reached")
	flags.StringVar(&o.fleet.nodes, "nodes", "", "these nodes of the plan only, a `LIST` such as a,b,n[001-127]")
	o.fleet.bindReach(cmd)
	flags.BoolVar(&o.require, "require", false, "start nothing before all nodes are as planned, and fail with status 125 where a seat was not kept")
	flags.Var(&o.onFailure, "on-failure", "who is stopped when a worker fails: none, the workers of its node, or all")
	flags.DurationVar(&o.ready, "ready", 2*time.Minute, "the `TIME` that a node may take to be there")
	flags.DurationVar(&o.limit, "limit", time.Hour, "the `TIME` for all of it; then the programs are ended")
	flags.StringArrayVar(&o.with, "with", nil, "a `FLAG` for berth run on each node, as --with=--env=plan or --with=--each; repeatable")
	flags.StringArrayVar(&o.env, "setenv", nil, "set a variable for the programs, `NAME=VALUE`; repeatable")
	flags.StringVar(&o.dir, "chdir", "", "start the programs in a `DIR` of the nodes")
	flags.StringVar(&o.receipt, "receipt", "", "write what became of every node to a `FILE`, as JSON (- is standard error)")
	flags.BoolVar(&o.full, "full", false, "fold nothing; with --receipt, each node's whole receipt too")
	flags.StringVar(&o.save, "save", "", "write each node's receipt to a `DIR`, as NODE.json, as it comes")
	flags.BoolVar(&o.prefix, "prefix", true, "begin each line of output with its node's name")
	must(cmd.RegisterFlagCompletionFunc("on-failure", o.onFailure.complete))
	return cmd
}

// job is what the flags ask for.
func (o *fleetRunOptions) job(cmd *cobra.Command) (*fleet.Job, error) {
	switch {
	case len(o.program) == 0:
		return nil, usage("for example: berth fleet run --plan plan.json --engine slurm -- ./solver", "fleet run needs a program to start")
	case o.plan == "":
		return nil, usage("berth fleet advise PROFILE -o json writes one", "fleet run needs a --plan")
	case o.fleet.engine.value == "":
		return nil, usage("--engine "+strings.Join(o.fleet.engine.of, " or "), "fleet run needs an engine")
	case o.plan == "-" && o.fleet.nodesFile == "-":
		return nil, usage("put one of them into a file", "the plan and the names of nodes cannot both be standard input")
	case o.limit <= 0 || o.ready <= 0:
		return nil, usage("for example --limit 8h --ready 1m", "--limit %s and --ready %s leave no time", o.limit, o.ready)
	}
	if err := o.fleet.check(cmd); err != nil {
		return nil, err
	}
	for _, set := range o.env {
		if name, _, ok := strings.Cut(set, "="); !ok || name == "" {
			return nil, usage("for example --setenv OMP_SCHEDULE=static", "--setenv %q is not NAME=VALUE", set)
		}
	}
	for _, flag := range o.with {
		name, _, _ := strings.Cut(flag, "=")
		switch {
		case !strings.HasPrefix(flag, "-") || strings.Trim(flag, "-") == "":
			return nil, usage("as --with=--env=plan", "--with %q is not a flag of berth run", flag)
		case name == "--plan" || name == "--profile" || name == "--receipt" || name == "--require":
			return nil, usage("leave it out", "--with=%s: fleet run itself says that to berth run", name)
		}
	}
	plan, err := o.readPlan(cmd)
	if err != nil {
		return nil, err
	}
	nodes, err := o.fleet.names(cmd)
	if err != nil {
		return nil, err
	}
	onNode := "--on-failure=stop"
	if o.onFailure.value == "none" {
		onNode = "--on-failure=continue"
	}
	job := &fleet.Job{
		Plan: plan, Nodes: nodes, Program: o.program, Arguments: append([]string{onNode}, o.with...), Environment: o.env, Dir: o.dir,
		Require: o.require, StopAll: o.onFailure.value == "all", Ready: o.ready, Limit: o.limit, Full: o.full,
	}
	if err := job.Check(); err != nil {
		return nil, usage("berth fleet advise makes a plan for the nodes that there are", "--plan: %w", err)
	}
	return job, nil
}

func (o *fleetRunOptions) readPlan(cmd *cobra.Command) (*fleet.Plan, error) {
	const hint = "give a file that `berth fleet advise -o json` wrote"
	in, name := cmd.InOrStdin(), "standard input"
	if o.plan != "-" {
		f, err := os.Open(o.plan)
		if err != nil {
			return nil, usage(hint, "--plan: %w", err)
		}
		defer f.Close()
		in, name = f, o.plan
	}
	plan, err := fleet.ReadPlan(in, name)
	if err != nil {
		return nil, usage(hint, "--plan: %w", err)
	}
	return plan, nil
}

func (o *fleetRunOptions) run(cmd *cobra.Command) error {
	job, err := o.job(cmd)
	if err != nil {
		return err
	}
	o.fleet.limit = o.ready
	engine, err := o.fleet.reach(nil)
	if err != nil {
		return err
	}
	launcher, ok := engine.(fleet.Launcher)
	if !ok {
		return usage("--engine "+strings.Join(o.fleet.engine.of, " or "), "engine %s can run nothing", engine.Name())
	}
	flag := receiptFlag{}
	flag.value = o.receipt
	receipt, err := flag.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer receipt.discard()
	if o.save != "" {
		if err := os.MkdirAll(o.save, 0o755); err != nil {
			return usage("give a folder that can be made", "--save: %w", err)
		}
		job.Save = o.saveReceipt
	}
	out, errOut := bufio.NewWriter(cmd.OutOrStdout()), bufio.NewWriter(cmd.ErrOrStderr())
	line := newStatusLine(cmd.ErrOrStderr())
	job.Progress = func(ready, ended, of int) { line.say(fmt.Sprintf("%d nodes, %d ready, %d ended", of, ready, ended)) }
	job.Output = func(node string, stream int, text []byte) {
		line.end()
		to := out
		if stream == 2 {
			to = errOut
		}
		if o.prefix {
			to.WriteString(node + ": ")
		}
		to.Write(text)
		to.WriteByte('\n')
		_ = to.Flush() // where nobody reads it any more, SIGPIPE ends this
	}
	ctx, signal, stop := untilSignal(cmd.Context())
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal kills
	outcome, err := job.Do(ctx, launcher)
	line.end()
	if err != nil {
		return err
	}
	caught := signal()
	if caught != 0 {
		outcome.Early = "ended by " + unix.SignalName(caught)
	}
	view := bufio.NewWriter(cmd.ErrOrStderr())
	fleetRunView(&page{w: view, screen: screenOf(cmd.ErrOrStderr())}, outcome, o.full)
	if err := view.Flush(); err != nil {
		return err
	}
	if err := receipt.document(outcome); err != nil {
		return err
	}
	switch {
	case caught != 0:
		return &statusError{128 + int(caught), nil}
	case outcome.Status != 0:
		return &statusError{outcome.Status, nil}
	case o.require && !outcome.Kept:
		return &statusError{statusNoSeat, nil}
	case outcome.Early != "" || outcome.Totals.Reported < outcome.Totals.Nodes:
		return &statusError{1, nil}
	}
	return nil
}

func (o *fleetRunOptions) saveReceipt(node string, r *affinity.Receipt) error {
	f, err := createAtomic(filepath.Join(o.save, fleet.FileName(node)))
	if err == nil {
		if err = writeJSON(f, r); err != nil {
			f.discard()
		} else {
			err = f.commit()
		}
	}
	if err != nil {
		return fmt.Errorf("save the receipt of %q: %w", node, err)
	}
	return nil
}
