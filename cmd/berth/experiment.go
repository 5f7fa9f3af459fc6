//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"berth/affinity/experiment"
	"berth/affinity/experiment/kernel"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/place"
)

// experimentOptions are the flags that all experiments share.
type experimentOptions struct {
	format choice
	quick  bool
	limit  time.Duration
	width  float64 // per cent
	cpus   string
	seed   uint64
	save   optional
}

const (
	usualLimit = 60 * time.Second
	quickLimit = 10 * time.Second
	// allLimit ends what was promised no time, where the machine is so restless
	// that no interval gets narrow.
	allLimit   = 30 * time.Minute
	leastLimit = time.Second
)

func newExperimentCmd() *cobra.Command {
	o := &experimentOptions{format: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "experiment KIND",
		Short: "Measure what this machine does with several workers",
		Long: `Measure on this machine what is else only taught: what several workers do on
cores of their own, on the siblings of one core and too many for the CPUs; what
it costs to hand over; how far away memory is; what Python's lock allows.

Trials of all that is compared take turns in an order drawn anew each round, and
are repeated until the 95 % interval of every median is narrow enough or the time
is up. Figures are medians with that interval: 1.98 [1.96, 1.99]. Trials that
something disturbed do not count, and where too few count the answer is
"inconclusive": that is an answer, and no error.

Ctrl-C ends an experiment early, with what is known; a second one kills it.`,
		Example: `  berth experiment modes
  berth experiment study --quick              what is taught of threads: true here?
  berth experiment latency -o json            for programs; see berth schema experiment
  berth experiment modes --save               keep it: berth advise uses it from then on
  berth experiment modes --cpus llc:0         on these CPUs alone`,
		Args: noSuchExperiment,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage("they are: "+strings.Join(kinds(cmd), ", "), "experiment needs to know which kind")
		},
	}
	flags := cmd.PersistentFlags()
	flags.VarP(&o.format, "output", "o", "how to print")
	flags.BoolVar(&o.quick, "quick", false, fmt.Sprintf("end after %.0f s, not %.0f", quickLimit.Seconds(), usualLimit.Seconds()))
	flags.DurationVar(&o.limit, "time", usualLimit, "end after that `TIME` at the latest")
	flags.Float64Var(&o.width, "width", 3, "end once all medians are known to so many `PERCENT`")
	flags.StringVarP(&o.cpus, "cpus", "c", "", "measure on these CPUs, a `LIST` such as 0-3,8 or a place such as llc:0 (default: all that are allowed)")
	flags.Uint64Var(&o.seed, "seed", 0, "the `NUMBER` that decides the order of trials (default: another each time)")
	o.save.names = "file"
	o.save.bind(flags, "save", "", "keep what was measured for berth advise: below $XDG_STATE_HOME/berth, or in `[=FILE]`")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	cmd.AddCommand(o.modesCmd(), o.latencyCmd(), o.switchCmd(), o.memoryCmd(), o.gilCmd(), o.studyCmd())
	return cmd
}

func kinds(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	return names
}

func noSuchExperiment(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return known("experiment", args[0], kinds(cmd), "they are: "+strings.Join(kinds(cmd), ", "))
}

// result is a report and how to show it to a person.
type result struct {
	head   *experiment.Report
	report any
	view   func(p *page)
}

// perform does one experiment from its settings to its exit status.
func (o *experimentOptions) perform(cmd *cobra.Command, limit time.Duration, measure func(context.Context, experiment.Settings) (*result, error)) error {
	if err := atMostOne(cmd, "quick", "time"); err != nil {
		return err
	}
	switch {
	case o.quick:
		limit = quickLimit
	case cmd.Flags().Changed("time"):
		limit = o.limit
	}
	if limit < leastLimit {
		return usage("for example --time 30s", "--time %s: nothing is known after less than %s", limit, leastLimit)
	}
	if !(o.width > 0 && o.width < 100) {
		return usage("for example --width 1", "--width %g is not a share of the median, in per cent", o.width)
	}
	machine, err := (&machineFlags{}).probe(cmd, 0) // all: the fingerprint is of all
	if err != nil {
		return err
	}
	s := experiment.Settings{Machine: machine, Limit: limit, Width: o.width / 100, Seed: o.seed}
	if cmd.Flags().Changed("cpus") {
		if s.CPUs, err = o.seats(machine); err != nil {
			return err
		}
	}
	keep, err := o.openSaving(cmd, machine)
	if err != nil {
		return err
	}

	ctx, caught, stop := untilSignal(cmd.Context())
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal kills
	line := newStatusLine(cmd.ErrOrStderr())
	s.Progress = func(share float64, doing string) { line.say(fmt.Sprintf("%3.0f %%  %s", 100*share, doing)) }
	r, err := measure(ctx, s)
	line.end()
	by := caught()
	var early error
	if by != 0 {
		early = &statusError{128 + int(by), fmt.Errorf("ended by %s", unix.SignalName(by))}
	}
	if err != nil {
		return cmp.Or(early, experimentError(err))
	}
	// What was measured is lost in neither place for want of the other.
	if err := errors.Join(o.print(cmd.OutOrStdout(), r), keep.finish(r, by)); err != nil {
		return err
	}
	return early
}

// seats reads --cpus, which is a place expression: lists are such.
func (o *experimentOptions) seats(m *probe.Machine) (cpuset.Set, error) {
	places, err := place.Parse(o.cpus, &m.Topology)
	if err != nil {
		return cpuset.Set{}, placeError("--cpus", err)
	}
	set := places.Union()
	if set.IsEmpty() {
		return set, usage("give at least one CPU", "--cpus %s holds no CPU", o.cpus)
	}
	return set, nil
}

// experimentError tells the user's mistakes from failures.
func experimentError(err error) error {
	var e *experiment.NotAllowed
	if errors.As(err, &e) {
		return usage("the CPUs that may be used are "+cpuList(e.Allowed), "--cpus: %w", err)
	}
	return err
}

func (o *experimentOptions) print(w io.Writer, r *result) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var err error
	switch o.format.value {
	case "json":
		err = writeJSON(out, r.report)
	case "yaml":
		err = writeYAML(out, r.report)
	default:
		r.view(&page{w: out, screen: screenOf(w)})
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

func (o *experimentOptions) modesCmd() *cobra.Command {
	var kernels, carriers []string
	var workers int
	var over []int
	var all bool
	cmd := &cobra.Command{
		Use:   "modes",
		Short: "Workers alone, on cores of their own, on siblings, and too many",
		Long: `Let workers do the same work in each way in which they can sit: one alone; one on
each core; one on each sibling of one core; several on every CPU. What each way
yields is told in times of one worker alone.

Kernels, the kinds of work:

` + kernelList() + `

Carriers: processes, threads of one process, and async, goroutines that share one
thread on one CPU.`,
		Example: `  berth experiment modes --quick
  berth experiment modes --kernels integer,syscall --carrier threads
  berth experiment modes --over 2,4,8
  berth experiment modes --all                everything, without a promise of time`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := atMostOne(cmd, "quick", "all"); err != nil {
				return err
			}
			m := experiment.ModesOptions{Kernels: kernels, Workers: workers, Over: over}
			limit := usualLimit
			if all {
				limit = allLimit
				if !cmd.Flags().Changed("kernels") {
					m.Kernels = kernel.Names()
				}
				if !cmd.Flags().Changed("carrier") {
					m.Carriers = experiment.Carriers()
				}
				if !cmd.Flags().Changed("over") {
					m.Over = []int{2, 4, 8}
				}
			}
			for _, k := range kernels {
				if err := known("kernel", k, kernel.Names(), "they are: "+strings.Join(kernel.Names(), ", ")); err != nil {
					return err
				}
			}
			for _, c := range carriers {
				if err := known("carrier", c, carrierNames(), "they are: "+strings.Join(carrierNames(), ", ")); err != nil {
					return err
				}
				m.Carriers = append(m.Carriers, experiment.Carrier(c))
			}
			if cmd.Flags().Changed("workers") && workers < 1 {
				return usage("one worker at least", "--workers %d: there would be none", workers)
			}
			for _, n := range over {
				if n < 2 || n > 1024 {
					return usage("for example --over 2,4,8", "--over %d: too many are from 2 to 1024 workers on each CPU", n)
				}
			}
			return o.perform(cmd, limit, func(ctx context.Context, s experiment.Settings) (*result, error) {
				rep, err := experiment.Modes(ctx, s, m)
				if err != nil {
					return nil, err
				}
				return &result{&rep.Report, rep, func(p *page) { modesView(p, rep) }}, nil
			})
		},
	}
	flags := cmd.Flags()
	flags.SetNormalizeFunc(carriersToo)
	flags.StringSliceVar(&kernels, "kernels", nil, "the kinds of work, a `LIST` (default "+strings.Join(experiment.DefaultKernels(), ",")+")")
	flags.StringSliceVar(&carriers, "carrier", nil, "what carries a worker, a `LIST` of processes, threads, async (default processes,threads; processes alone under 20 s)")
	flags.IntVar(&workers, "workers", 0, "use `N` cores at most (default: all)")
	flags.IntSliceVar(&over, "over", nil, "so many workers on each CPU, a `LIST` such as 2,4,8 (default 4)")
	flags.BoolVar(&all, "all", false, "all kernels and carriers, with 2, 4 and 8 on each CPU; takes up to half an hour unless --time is given")
	must(cmd.RegisterFlagCompletionFunc("kernels", completeOneOf(kernel.Names)))
	must(cmd.RegisterFlagCompletionFunc("carrier", completeOneOf(carrierNames)))
	return cmd
}

func kernelList() string {
	var b strings.Builder
	for _, k := range kernel.Names() {
		fmt.Fprintf(&b, "  %-17s %s\n", k, kernel.Describe(k))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func carrierNames() []string {
	var names []string
	for _, c := range experiment.Carriers() {
		names = append(names, string(c))
	}
	return names
}

func (o *experimentOptions) latencyCmd() *cobra.Command {
	var l experiment.LatencyOptions
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "How long a cache line takes from one CPU to another",
		Long: `Let two threads on two CPUs pass a cache line to and fro by atomic operations, for
one pair of CPUs after the other, and tell how long it takes one way. Where CPUs
are many, some of each group that shares a last-level cache stand for the others.`,
		Example: `  berth experiment latency
  berth experiment latency --all-pairs --time 10m`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.perform(cmd, usualLimit, func(ctx context.Context, s experiment.Settings) (*result, error) {
				rep, err := experiment.Latency(ctx, s, l)
				if err != nil {
					return nil, err
				}
				return &result{&rep.Report, rep, func(p *page) { latencyView(p, rep) }}, nil
			})
		},
	}
	cmd.Flags().BoolVar(&l.AllPairs, "all-pairs", false, "every pair of CPUs, however many")
	return cmd
}

func (o *experimentOptions) switchCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "switch",
		Short: "What it costs to hand over from one thread or process to another",
		Long: `Let two threads, and two processes, wake each other in turn: on one CPU, on two,
and wherever the kernel puts them; by futex, pipe and Go channel. And measure what
a switch without a wake-up costs, as at the end of a time slice, with what has to
come back into the caches.`,
		Example: `  berth experiment switch --quick`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.perform(cmd, usualLimit, func(ctx context.Context, s experiment.Settings) (*result, error) {
				rep, err := experiment.Switch(ctx, s)
				if err != nil {
					return nil, err
				}
				return &result{&rep.Report, rep, func(p *page) { switchView(p, rep) }}, nil
			})
		},
	}
}

func (o *experimentOptions) memoryCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "memory",
		Short: "How far away memory is, and how much of it comes at a time",
		Long: `Follow pointers through ever larger working sets: the time of one load is a
staircase with a step where each cache ends. Then stream through memory by ever
more threads, on each node's own memory and on another's.`,
		Example: `  berth experiment memory --save`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.perform(cmd, usualLimit, func(ctx context.Context, s experiment.Settings) (*result, error) {
				rep, err := experiment.Memory(ctx, s)
				if err != nil {
					return nil, err
				}
				return &result{&rep.Report, rep, func(p *page) { memoryView(p, rep) }}, nil
			})
		},
	}
}

func (o *experimentOptions) gilCmd() *cobra.Command {
	var g experiment.GILOptions
	cmd := &cobra.Command{
		Use:   "gil",
		Short: "What Python makes of threads, processes and asyncio",
		Long: `Let Python do work that computes in Python, work that computes in C without the
lock, and work that waits for a slow server, by threads, processes and tasks of
asyncio: what each yields, how much of the time the lock (the GIL) is held, and
what a worker takes of memory. The Pythons are those on PATH unless named.`,
		Example: `  berth experiment gil
  berth experiment gil --python python3.13 --python python3.13t`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.cannotSave(cmd); err != nil {
				return err
			}
			for _, name := range g.Python {
				if err := findPython(name); err != nil {
					return err
				}
			}
			return o.perform(cmd, usualLimit, func(ctx context.Context, s experiment.Settings) (*result, error) {
				rep, err := experiment.GIL(ctx, s, g)
				if err != nil {
					return nil, err
				}
				return &result{&rep.Report, rep, func(p *page) { gilView(p, rep) }}, nil
			})
		},
	}
	cmd.Flags().StringArrayVar(&g.Python, "python", nil, "the interpreter, a `PATH` or name; repeatable")
	return cmd
}

func (o *experimentOptions) studyCmd() *cobra.Command {
	var st experiment.StudyOptions
	cmd := &cobra.Command{
		Use:   "study",
		Short: "Test here what is taught of threads, processes, cores and Python",
		Long: `Test what is often taught of cores, SMT, threads, processes, Python's lock and
asyncio, one claim after the other, by short versions of the other experiments.
Each claim holds, fails, is untestable on this machine, or is inconclusive.`,
		Example: `  berth experiment study
  berth experiment study -o json | jq -r '.claims[] | .verdict + "  " + .claim'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.cannotSave(cmd); err != nil {
				return err
			}
			if st.Python != "" {
				if err := findPython(st.Python); err != nil {
					return err
				}
			}
			return o.perform(cmd, usualLimit, func(ctx context.Context, s experiment.Settings) (*result, error) {
				rep, err := experiment.Study(ctx, s, st)
				if err != nil {
					return nil, err
				}
				return &result{&rep.Report, rep, func(p *page) { studyView(p, rep) }}, nil
			})
		},
	}
	cmd.Flags().StringVar(&st.Python, "python", "", "the interpreter, a `PATH` or name (default: the first on PATH)")
	return cmd
}

func findPython(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return usage("give the path of a Python, or a name that is on PATH", "--python: %w", err)
	}
	return nil
}

// carriersToo lets --carriers stand for --carrier.
func carriersToo(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "carriers" {
		name = "carrier"
	}
	return pflag.NormalizedName(name)
}
