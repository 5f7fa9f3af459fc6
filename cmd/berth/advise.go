package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

type adviseOptions struct {
	machine     machineFlags
	format      choice
	document    string // an inspect JSON
	calibration string
	bare        bool // no calibration, saved or not
	quota, cpus string
	set         []string
	sweep       string
	emit        []string // targets
	strict      bool
	explain     bool
	only        string // the part of several that is printed
}

func newAdviseCmd() *cobra.Command {
	o := &adviseOptions{format: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "advise PROFILE...",
		Short: "Say how many workers a workload should have, where, and why",
		Long: `Plan a workload on a machine: how many processes, threads or event loops, on
which CPUs and nodes, what stops a larger number, what that should yield, and
what was rejected and by how much.

PROFILE is a file, - for standard input, or the name of a profile that comes
with berth (berth profiles list). The machine is this one unless a flag names
another. A target that cannot be met is no error: the plan says what would help.

Several profiles divide the machine between them, by demand and by the priority
that a profile may give. Nobody shares a CPU but where it is said: there are more
profiles than cores, or one mostly waits.`,
		Example: `  berth advise thumbnailer
  berth advise service.yaml --explain             the yield of other counts too
  berth advise service.yaml -o json               for programs; see berth schema plan
  berth advise service.yaml --quota 2.5           what if the quota were 2.5 CPUs?
  berth advise service.yaml --set work.wait_ms=50
  berth advise service.yaml --sweep quota=0.5:8:0.5
  berth advise service.yaml --emit systemd        as another tool's settings
  berth advise service.yaml --emit nginx,systemd --strict
  berth inspect -o json | berth advise service.yaml --machine -
  berth advise ingest.yaml transform.yaml serve.yaml       who gets which CPUs
  berth advise ingest.yaml transform.yaml --only ingest -o json > plan.json`,
		Args: someProfile,
		RunE: o.run,
	}
	flags := cmd.Flags()
	flags.VarP(&o.format, "output", "o", "how to print")
	o.bindMachine(cmd)
	flags.StringArrayVar(&o.set, "set", nil, "change the profile: `FIELD=VALUE`, as work.wait_ms=50; repeatable")
	flags.StringVar(&o.sweep, "sweep", "", "a row per value of one input: `FIELD=FROM:TO:STEP`, as work.wait_ms=0:200:10 or quota=0.5:8:0.5")
	flags.StringSliceVar(&o.emit, "emit", nil, "print the plan as the settings of another tool; `NAME`, several (each in a section of its own), or list")
	flags.BoolVar(&o.strict, "strict", false, "with --emit, fail where a tool's settings cannot carry all of the plan")
	flags.BoolVar(&o.explain, "explain", false, "show what other counts would yield; of several profiles, each part's plan")
	flags.StringVar(&o.only, "only", "", "of several profiles, print the plan of the one with this `NAME`")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	must(cmd.RegisterFlagCompletionFunc("emit", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return append(emitNames(), "list"), cobra.ShellCompDirectiveNoFileComp
	}))
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return profiles.Shipped(), cobra.ShellCompDirectiveDefault
	}
	return cmd
}

// bindMachine adds the flags that say for which machine to plan, and what it is
// taken to allow.
func (o *adviseOptions) bindMachine(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.document, "machine", "", "another machine: a `FILE` that berth inspect -o json wrote, or -")
	o.machine.bind(cmd)
	flags.StringVar(&o.calibration, "calibration", "", "measurements of the machine: a berth.calibration/v1 `FILE`, or none (default: what berth experiment saved for this machine)")
	flags.BoolVar(&o.bare, "no-calibration", false, "plan without measurements, even if some were saved")
	flags.StringVar(&o.quota, "quota", "", "plan for the time of so many `CPUS` (2.5), or none")
	flags.StringVar(&o.cpus, "cpus", "", "plan for these CPUs, a `LIST` such as 0-3,8")
}

func someProfile(cmd *cobra.Command, args []string) error {
	if f := cmd.Flags().Lookup("emit"); len(args) > 0 || f != nil && f.Value.String() == "[list]" {
		return nil
	}
	return usage("`berth profiles list` shows those that come with berth, `berth profiles new` writes one to fill in", "advise needs a profile")
}

func emitNames() []string {
	var names []string
	for _, t := range emit.Targets() {
		names = append(names, t.Name())
	}
	return names
}

func (o *adviseOptions) run(cmd *cobra.Command, names []string) error {
	if err := atMostOne(cmd, "emit", "sweep", "explain"); err != nil {
		return err
	}
	if o.format.value != "text" {
		for _, flag := range [...]string{"emit", "explain"} {
			if cmd.Flags().Changed(flag) {
				return usage("leave one of them out", "--%s shapes text, and the output is %s", flag, o.format.value)
			}
		}
	}
	if slices.Equal(o.emit, []string{"list"}) {
		return listTargets(cmd.OutOrStdout())
	}
	targets, err := o.targets(cmd)
	if err != nil {
		return err
	}
	if err := o.together(cmd, names); err != nil {
		return err
	}
	if slices.Contains(names, "-") && o.document == "-" {
		return usage("put one of them into a file", "the profile and the machine cannot both be standard input")
	}
	var all []*profiles.Profile
	for _, name := range names {
		profile, err := loadProfile(cmd, name)
		if err != nil {
			return err
		}
		if profile, err = o.adapt(profile); err != nil {
			return err
		}
		all = append(all, profile)
	}
	if len(all) > 1 || cmd.Flags().Changed("only") {
		return o.divide(cmd, all, targets)
	}
	var sweep *sweep
	if cmd.Flags().Changed("sweep") {
		if sweep, err = parseSweep(o.sweep); err != nil {
			return err
		}
	}
	return o.plan(cmd, all[0], targets, sweep)
}

// plan plans for a profile and prints that: as another tool's settings if there
// are targets, as a row for each value of a sweep if there is one.
func (o *adviseOptions) plan(cmd *cobra.Command, profile *profiles.Profile, targets []emit.Target, sweep *sweep) error {
	machine, title, err := o.open(cmd)
	if err != nil {
		return err
	}
	calibration, err := o.calibrationFor(cmd, machine)
	if err != nil {
		return err
	}
	if note := calibration.note(); note != "" && (targets != nil || sweep != nil) { // the text of a plan has it
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %s\n", note)
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	if sweep != nil {
		if err := o.runSweep(cmd, out, sweep, machine, profile, calibration); err != nil {
			return err
		}
		return out.Flush()
	}
	plan, err := advisor.Advise(machine, profile, calibration.Calibration)
	if err != nil {
		return usage("give the calibration of this machine, or leave it out", "%w", err)
	}
	calibration.mark(plan)
	view := planOptions{title: title, screen: screenOf(cmd.OutOrStdout())}
	if o.explain {
		if view.around, err = advisor.Around(machine, profile, calibration.Calibration, plan); err != nil {
			return err
		}
	}
	return o.printPlan(cmd, out, plan, machine, view, targets)
}

// printPlan prints a plan as the settings of tools, if there are any, or as the flags
// say.
func (o *adviseOptions) printPlan(cmd *cobra.Command, out *bufio.Writer, plan *advisor.Plan, m *probe.Machine, view planOptions, targets []emit.Target) error {
	var err error
	switch {
	case targets != nil:
		err = o.settings(cmd, out, plan, targets)
	case o.format.value == "json":
		err = writeJSON(out, plan)
	case o.format.value == "yaml":
		err = writeYAML(out, plan)
	default:
		err = planView(out, plan, m, view)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// targets are those that --emit names.
func (o *adviseOptions) targets(cmd *cobra.Command) ([]emit.Target, error) {
	if !cmd.Flags().Changed("emit") {
		if o.strict {
			return nil, usage("name a tool with --emit", "--strict is about the settings of other tools")
		}
		return nil, nil
	}
	if len(o.emit) == 0 {
		o.emit = []string{""}
	}
	return targetsOf("--emit", o.emit)
}

// settings prints a plan as the settings of tools; of several, each in a section
// that begins with a line "-- NAME --". With --strict it is an error that one
// cannot carry all of the plan, after all are printed.
func (o *adviseOptions) settings(cmd *cobra.Command, out *bufio.Writer, plan *advisor.Plan, targets []emit.Target) error {
	var short []string
	for _, target := range targets {
		settings := target.Emit(plan)
		for _, lost := range settings.Lost {
			fmt.Fprintf(cmd.ErrOrStderr(), "berth: %s cannot express %s\n", target.Name(), lost)
		}
		if settings.Lost != nil {
			short = append(short, target.Name())
		}
		if len(targets) > 1 {
			fmt.Fprintf(out, "-- %s --\n", target.Name())
		}
		out.WriteString(settings.Text)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if o.strict && short != nil {
		return fmt.Errorf("--strict: not all of the plan is in the settings of %s", strings.Join(short, ", "))
	}
	return nil
}

func listTargets(w io.Writer) error {
	out := bufio.NewWriter(w)
	p := &page{screen: screenOf(w), w: out}
	var rows [][]string
	for _, t := range emit.Targets() {
		rows = append(rows, []string{t.Name(), t.About()})
	}
	p.table(rows)
	return out.Flush()
}

// adapt applies --set.
func (o *adviseOptions) adapt(p *profiles.Profile) (*profiles.Profile, error) {
	if len(o.set) == 0 {
		return p, nil
	}
	var settings []profiles.Setting
	for _, s := range o.set {
		path, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usage("for example --set work.wait_ms=50", "--set %s: it has no equals sign", s)
		}
		settings = append(settings, profiles.Setting{Path: strings.TrimSpace(path), Value: value})
	}
	p, err := p.With("--set", settings...)
	if err != nil {
		return nil, &usageError{err, ""}
	}
	return p, nil
}

// open finds the machine, and what the flags make of it.
func (o *adviseOptions) open(cmd *cobra.Command) (*probe.Machine, string, error) {
	var m *probe.Machine
	var err error
	if cmd.Flags().Changed("machine") {
		if !o.machine.live() {
			return nil, "", usage("give one of them", "--machine and another flag both name a machine")
		}
		m, err = o.readMachine(cmd)
	} else {
		m, err = o.machine.probe(cmd, 0) // all: the fingerprint is of all
	}
	if err != nil {
		return nil, "", err
	}
	if cmd.Flags().Changed("cpus") {
		set, err := cpuset.ParseIn(o.cpus, m.Topology.Online)
		switch {
		case err != nil:
			return nil, "", usage("a list such as 0-3,8", "--cpus: %w", err)
		case set.IsEmpty():
			return nil, "", usage("give at least one CPU", "--cpus %s holds no CPU", o.cpus)
		case !set.SubsetOf(m.Topology.Online):
			return nil, "", usage("the machine has the CPUs "+m.Topology.Online.String(), "--cpus: %s are not online", set.Minus(m.Topology.Online))
		}
		m.Topology.Allowed = set
		if isolated := m.Topology.Isolated; isolated != nil && set.Overlaps(*isolated) {
			m.Topology.Isolated = nil // asked for by name
		}
	}
	if cmd.Flags().Changed("quota") {
		if err := setQuota(m, o.quota); err != nil {
			return nil, "", err
		}
	}
	return m, tidyTitle(o.machine.title(m)), nil
}

func (o *adviseOptions) readMachine(cmd *cobra.Command) (*probe.Machine, error) {
	const hint = "give a file that `berth inspect -o json` wrote"
	in, name := io.Reader(cmd.InOrStdin()), "standard input"
	if o.document != "-" {
		f, err := os.Open(o.document)
		if err != nil {
			return nil, usage(hint, "--machine: %w", err)
		}
		defer f.Close()
		in, name = f, o.document
	}
	m, err := probe.Read(in, name)
	if err != nil {
		return nil, usage(hint, "--machine: %w", err)
	}
	return m, nil
}

func setQuota(m *probe.Machine, text string) error {
	if text == "none" || text == "max" {
		m.Limits.QuotaCPUs = nil
		return nil
	}
	q, err := strconv.ParseFloat(text, 64)
	if err != nil || !(q > 0 && q <= cpuset.Limit) {
		return usage("a number of CPUs such as 2.5, or none", "--quota %s is not a number of CPUs above 0", text)
	}
	m.Limits.QuotaCPUs = &q
	return nil
}
