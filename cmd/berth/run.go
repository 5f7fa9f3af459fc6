//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

type runOptions struct {
	seating       seating
	plan, profile string
	workers       int
	each          bool
	memory, class string
	nice          int
	receipt       receiptFlag
	require       bool
	onFailure     choice
	onDeath       choice
	prefix        bool
	group         bool
	quota         string
	env           choice
	agree         *advisor.Plan // what the runtime is told of; nil: nothing
	program       []string
	seats         []affinity.Seat
	threads       [][]affinity.Seat
}

func newRunCmd() *cobra.Command {
	o := &runOptions{env: choice{"", []string{"openmp", "go", "java", "python", "plan"}}, onFailure: choice{"stop", []string{"stop", "continue"}}, onDeath: choice{"kill", []string{"kill", "leave"}}}
	cmd := &cobra.Command{
		Use:   "run [flags] [--] PROGRAM [ARG...]",
		Short: "Start a program, or several workers of it, seated on CPUs",
		Long: `Start a program on CPUs of your choice, or all workers of a plan, each on its
seat; every seat is read back, and what the kernel dropped is said.

One program without a receipt is started in berth's place: nothing of berth is
left. Else berth waits, passes signals on, and ends with the status of the
program, or of the worker that failed first.

In the program's arguments {worker}, {n} and {cpus} become the worker's number,
the number of workers and the worker's CPUs; BERTH_WORKER and BERTH_CPUS say the
same in its environment. Of several workers the first has berth's standard input,
unless that is a terminal.

Exit status: the program's; 128 + N if signal N ended it; 125 if a seat cannot be
had, or with --require was not kept; 126 if the program cannot be started; 127 if
it is not there; 2 for a mistake in the flags.`,
		Example: `  berth run -c 0 -- ./server
  berth run --place 'llc:0 ~core:0' -- ./server
  berth run -c 0-3 -n 4 --prefix -- ./worker --id {worker}
  berth advise service.yaml -o json > plan.json
  berth run --plan plan.json --receipt=receipt.json -- ./worker
  berth run --profile service.yaml --receipt -- ./worker`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.program = args
			return o.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the program is the program's
	o.seating.bind(cmd)
	flags.StringVar(&o.plan, "plan", "", "the workers and seats of a plan: a `FILE` that berth advise -o json wrote, or -")
	flags.StringVar(&o.profile, "profile", "", "plan for a `PROFILE` on this machine, as berth advise does, and run that")
	flags.IntVarP(&o.workers, "workers", "n", 1, "start `N` workers, which share the CPUs out; beyond the number of CPUs they begin again with the first")
	flags.BoolVar(&o.each, "each", false, "give the threads of a worker a CPU each, in the order of their birth")
	flags.StringVar(&o.memory, "mem", "", "memory `POLICY`: bind, preferred, interleave or weighted with :NODES, or local, default")
	flags.StringVar(&o.class, "sched", "", "scheduling `CLASS`: other, batch, idle, fifo:PRIORITY, rr:PRIORITY")
	flags.IntVar(&o.nice, "nice", 0, "nice value, -20 to 19")
	flags.Var(&o.env, "env", "set what a runtime needs to agree with its seat: OMP_*, GOMAXPROCS, JAVA_TOOL_OPTIONS …; plan: of the runtime that the plan names")
	o.receipt.bind(cmd, "say at the end what became of every seat")
	flags.BoolVar(&o.group, "new-cgroup", false, "start the workers in a control group of their own, with the CPUs of all seats; it is removed afterwards")
	flags.StringVar(&o.quota, "quota", "", "with --new-cgroup: the time of so many `CPUS` in all (2.5)")
	flags.BoolVar(&o.require, "require", false, "fail with status 125 where a seat cannot be had in full or was not kept")
	flags.Var(&o.onFailure, "on-failure", "what becomes of the other workers when one fails")
	flags.Var(&o.onDeath, "on-death", "what becomes of the workers if berth itself is killed")
	flags.BoolVar(&o.prefix, "prefix", false, "begin each line of output with its worker's number")
	must(cmd.RegisterFlagCompletionFunc("env", o.env.complete))
	must(cmd.RegisterFlagCompletionFunc("on-failure", o.onFailure.complete))
	must(cmd.RegisterFlagCompletionFunc("on-death", o.onDeath.complete))
	return cmd
}

const (
	statusNoSeat     = 125
	statusNotStarted = 126
	statusNotFound   = 127
)

func (o *runOptions) run(cmd *cobra.Command) error {
	if len(o.program) == 0 {
		return usage("for example: berth run -c 0 -- ./server", "run needs a program to start")
	}
	if err := o.takeSeats(cmd); err != nil {
		return err
	}
	path, err := exec.LookPath(o.program[0])
	if err != nil {
		return notStarted(o.program[0], err)
	}
	if len(o.seats) == 1 && !o.receipt.wanted() && !o.each && !o.require && !o.prefix && !o.group {
		return o.become(path)
	}
	return o.supervise(cmd, path)
}

// notStarted has a shell's status for a program that is not there, or cannot be
// executed.
func notStarted(program string, err error) error {
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return &statusError{statusNotFound, fmt.Errorf("there is no program %s", program)}
	case errors.Is(err, exec.ErrDot):
		return &statusError{statusNotFound, fmt.Errorf("%s is found in the current directory only; write ./%s if it is meant", program, program)}
	case errors.Is(err, unix.EMFILE):
		return &statusError{statusNotStarted, fmt.Errorf("start %s: %w: each worker takes one; allow more (ulimit -n)", program, err)}
	case errors.Is(err, unix.ENOEXEC):
		return &statusError{statusNotStarted, fmt.Errorf("start %s: it is neither a program for this machine nor a script with #!: %w", program, err)}
	}
	return &statusError{statusNotStarted, fmt.Errorf("start %s: %w", program, err)}
}

// takeSeats finds the workers' seats from the flags.
func (o *runOptions) takeSeats(cmd *cobra.Command) error {
	if err := atMostOne(cmd, "cpus", "place", "plan", "profile"); err != nil {
		return err
	}
	byPlan := cmd.Flags().Changed("plan") || cmd.Flags().Changed("profile")
	switch {
	case byPlan && cmd.Flags().Changed("workers"):
		return usage("leave -n out, or plan for so many", "--workers and a plan both say how many workers there are")
	case o.workers < 1:
		return usage("give a number from 1", "--workers %d is not a number of workers", o.workers)
	case o.quota != "" && !o.group:
		return usage("give --new-cgroup too", "--quota is for a control group, and none is asked for")
	case o.group && o.quota == "" && !byPlan && !o.seating.given(cmd):
		return usage("give CPUs by -c or --place, or a --quota", "--new-cgroup limits nothing")
	case o.each && !byPlan && !o.seating.given(cmd):
		return usage("give the CPUs by -c or --place", "--each seats threads one by one, and no CPUs are given")
	}
	if o.quota != "" {
		if q, err := strconv.ParseFloat(o.quota, 64); err != nil || !(q > 0 && q <= cpuset.Limit) {
			return usage("a number of CPUs such as 2.5", "--quota %s is not a number of CPUs above 0", o.quota)
		}
	}
	var plan *advisor.Plan
	if byPlan {
		var err error
		if plan, err = findPlan(cmd, o.plan, o.profile); err != nil {
			return err
		}
		if o.seats, o.threads, err = planned(plan); err != nil {
			return usage("make the plan again", "%w", err)
		}
		if err := keepWithin(plan, o.seats); err != nil {
			return err
		}
	} else if err := o.dealSeats(cmd); err != nil {
		return err
	}
	if err := o.agreeWith(cmd, plan); err != nil {
		return err
	}
	return o.dress(cmd)
}

// keepWithin holds the workers of a plan that pins nobody to its CPUs, if they
// are not all that this process may use: the others were reserved, avoided or
// not meant.
func keepWithin(plan *advisor.Plan, seats []affinity.Seat) error {
	cpus := plan.Placement.CPUs
	if plan.Placement.Pin != advisor.NoPin || len(plan.Placement.Seats) > 0 || cpus.IsEmpty() {
		return nil
	}
	mine, err := probe.Affinity(0)
	if err != nil {
		return err
	}
	if mine.SubsetOf(cpus) {
		return nil
	}
	for i := range seats {
		seats[i].CPUs = cpus
	}
	return nil
}

func (o *runOptions) dealSeats(cmd *cobra.Command) error {
	o.seats = make([]affinity.Seat, o.workers)
	o.threads = make([][]affinity.Seat, o.workers)
	for i := range o.seats {
		o.seats[i].Worker = i
	}
	if !o.seating.given(cmd) {
		return nil
	}
	places, err := o.seating.places(cmd)
	if err != nil {
		return err
	}
	for i, mine := range deal(places, o.workers) {
		o.seats[i].CPUs = mine.Union()
		for n, p := range mine {
			o.threads[i] = append(o.threads[i], affinity.Seat{Worker: i, Thread: &n, CPUs: p})
		}
	}
	return nil
}

// dress gives every seat the memory policy and the scheduling of the flags.
func (o *runOptions) dress(cmd *cobra.Command) error {
	var scheduling affinity.Scheduling
	var err error
	if o.class != "" {
		if scheduling, err = affinity.ParseClass(o.class); err != nil {
			return usage("for example --sched batch", "--sched: %w", err)
		}
	}
	if cmd.Flags().Changed("nice") {
		if o.nice < -20 || o.nice > 19 {
			return usage("a nice value lies between -20 and 19", "--nice %d", o.nice)
		}
		scheduling.Nice = &o.nice
	}
	for i := range o.seats {
		o.seats[i].Scheduling = scheduling
		if cmd.Flags().Changed("mem") {
			m, err := affinity.ParseMemory(o.memory)
			if err != nil {
				return usage("for example --mem bind:0", "--mem: %w", err)
			}
			o.seats[i].Memory = &m
		}
	}
	return nil
}

// become starts the program in this one's place.
func (o *runOptions) become(path string) error {
	seat := o.seats[0]
	args := slices.Clone(o.program)
	for i := 1; i < len(args); i++ {
		args[i] = substitute(args[i], 0, 1, seat.CPUs)
	}
	err := affinity.Exec(path, args, o.environment(seat), seat, func(t *affinity.Trimmed) error {
		fmt.Fprintf(os.Stderr, "berth: %s\n", visible(t.Error()))
		return nil
	})
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return notStarted(o.program[0], failed.Err)
	}
	return &statusError{statusNoSeat, err}
}

// environment is what a worker gets: this process's, where it sits, and what
// its runtime needs to agree.
func (o *runOptions) environment(seat affinity.Seat) []string {
	out := append(os.Environ(), "BERTH_WORKER="+strconv.Itoa(seat.Worker), "BERTH_CPUS="+seat.CPUs.String())
	if o.agree == nil {
		return out
	}
	const java = "JAVA_TOOL_OPTIONS="
	for _, set := range emit.Environment(o.agree, seat.Worker) {
		if had := os.Getenv(java[:len(java)-1]); had != "" && strings.HasPrefix(set, java) {
			set = java + had + " " + strings.TrimPrefix(set, java)
		}
		out = append(out, set)
	}
	return out
}

// agreeWith makes the plan that --env tells a runtime of: that of --plan or
// --profile, or the seats that the flags give.
func (o *runOptions) agreeWith(cmd *cobra.Command, plan *advisor.Plan) error {
	if o.env.value == "" {
		return nil
	}
	if o.env.value == "plan" {
		if plan == nil {
			return usage("name the runtime: --env openmp, go, java or python", "--env plan needs a plan or a profile, which names its runtime")
		}
		o.agree = plan
		return nil
	}
	var made advisor.Plan
	if plan != nil {
		made = *plan
	} else {
		m, err := (&machineFlags{}).probe(cmd, probe.Budget)
		if err != nil {
			return err
		}
		made.BudgetCPUs, made.Placement.CPUs = m.Limits.EffectiveCPUs, m.Topology.Allowed
		made.Workers = advisor.Workers{Processes: len(o.seats), Threads: max(1, int(math.Ceil(made.BudgetCPUs/float64(len(o.seats)))))}
		for _, s := range o.seats {
			if !s.CPUs.IsEmpty() {
				made.Workers.Threads = s.CPUs.Len()
				made.Placement.Seats = append(made.Placement.Seats, advisor.Seat{Worker: s.Worker, CPUs: s.CPUs})
			}
		}
	}
	made.Runtime = profiles.Runtime(o.env.value)
	o.agree = &made
	return nil
}

func (o *runOptions) supervise(cmd *cobra.Command, path string) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	receipt, err := o.receipt.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer receipt.discard()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH, unix.SIGALRM)
	defer signal.Stop(signals)
	run := &affinity.Run{
		Watch: o.receipt.wanted() || o.require || o.each, Strict: o.require, StopOnFailure: o.onFailure.value == "stop",
		KillOnDeath: o.onDeath.value == "kill", Signals: signals,
		Log: func(s string) { fmt.Fprintf(cmd.ErrOrStderr(), "berth: %s\n", s) },
	}
	if o.group {
		if run.Group, err = o.makeGroup(); err != nil {
			return &statusError{statusNoSeat, err}
		}
		if run.Group.Trim != nil {
			run.Log(run.Group.Trim.Error())
		}
	}
	var output lineOutput
	for i, seat := range o.seats {
		c := exec.Command(path)
		c.Args = slices.Clone(o.program)
		for k := 1; k < len(c.Args); k++ {
			c.Args[k] = substitute(c.Args[k], i, len(o.seats), seat.CPUs)
		}
		c.Env = o.environment(seat)
		if i == 0 && (len(o.seats) == 1 || !term.IsTerminal(int(os.Stdin.Fd()))) {
			c.Stdin = os.Stdin
		}
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if o.prefix {
			c.Stdout, c.Stderr = output.lines(os.Stdout, i), output.lines(os.Stderr, i)
			c.WaitDelay = time.Second // for what a worker left running with its output open
		}
		w := affinity.Worker{Command: c, Seat: seat}
		if o.each {
			w.Threads = o.threads[i]
		}
		run.Workers = append(run.Workers, w)
	}
	got, err := run.Do(ctx)
	if run.Group != nil {
		if left := run.Group.Remove(); left != nil {
			run.Log(left.Error())
		}
	}
	output.end()
	got.Command = o.program // as it was given
	if len(got.Workers) > 0 {
		lost := receipt.write(got, screenOf(cmd.ErrOrStderr()))
		switch {
		case lost != nil && (err != nil || got.Status != 0):
			run.Log(lost.Error()) // the status is the program's
		case lost != nil:
			return lost
		}
	}
	var start *fs.PathError
	var unfound *exec.Error
	switch {
	case errors.As(err, &start) && start.Op == "fork/exec":
		return notStarted(o.program[0], start.Err)
	case errors.As(err, &unfound):
		return notStarted(o.program[0], unfound.Err)
	case err != nil:
		return &statusError{statusNoSeat, err}
	case got.Status != 0:
		return &statusError{got.Status, nil}
	case o.require && !got.Kept:
		return &statusError{statusNoSeat, fmt.Errorf("a seat was not kept: %s", got.Broken[0].Message)}
	}
	return nil
}

// makeGroup makes the control group that --new-cgroup and --quota ask for.
func (o *runOptions) makeGroup() (*affinity.Group, error) {
	var cpus, mems cpuset.Set
	for _, s := range o.seats {
		if s.CPUs.IsEmpty() {
			cpus = cpuset.Set{} // one that may sit anywhere needs them all
			break
		}
		cpus = cpus.Union(s.CPUs)
	}
	quota := 0.0
	if o.quota != "" {
		quota, _ = strconv.ParseFloat(o.quota, 64) // it was checked
	}
	return affinity.NewGroup(cpus, mems, quota, 0)
}
