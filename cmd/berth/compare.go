//go:build linux

package main

import (
	"bufio"
	"errors"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/probe"
	"berth/probe/difference"
	"berth/profiles"
)

type compareOptions struct {
	advise         adviseOptions // where profiles are planned for
	profile        string
	format         choice
	full, exitCode bool
}

const comparisonSchema = "berth.comparison/v1"

// comparison is what two operands say, the answer first.
type comparison struct {
	Schema string `json:"schema" yaml:"schema"`
	Kind   string `json:"kind" yaml:"kind"` // of both operands
	A      side   `json:"a" yaml:"a"`
	B      side   `json:"b" yaml:"b"`
	Differ bool   `json:"differ" yaml:"differ"` // something is known to
	Answer string `json:"answer" yaml:"answer"`
	// Because is the cause of the most that differs, where it is visible.
	Because string        `json:"because,omitempty" yaml:"because,omitempty"`
	Notes   []string      `json:"notes,omitempty" yaml:"notes,omitempty"`
	Parts   []comparedOne `json:"parts" yaml:"parts"`
}

// side is one operand.
type side struct {
	Name  string `json:"name" yaml:"name"` // as it was given
	Title string `json:"title" yaml:"title"`
}

// comparedOne is the report about machines, plans or one kind of result.
type comparedOne struct {
	About              string `json:"about" yaml:"about"`
	*difference.Report `yaml:",inline"`
}

func newCompareCmd() *cobra.Command {
	o := &compareOptions{format: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Say what differs between two machines, profiles, plans or results",
		Long: `Say what differs between two of a kind, the answer first and why where that is
visible. Each of A and B is a file, - for standard input, or

  now     this machine, as berth inspect sees it
  NAME    a profile that comes with berth (berth profiles list)

What a file is its schema field says: a machine (berth inspect -o json), a
profile, a plan (berth advise -o json), a calibration, a receipt, or the JSON of
an experiment, of berth observe, tune, doctor or fleet inspect. Profiles are compared by their plans for this
machine, or that of a flag; machines by their plans too with --profile. Measured
values differ where their 95 % intervals do not overlap; the others are called
"no difference seen".`,
		Example: `  berth compare before.json now                    what has changed on this machine since
  berth compare web-sync-python web-async-python   two profiles, planned here
  berth compare a.yaml b.yaml --quota 2.5
  berth compare node1.json node2.json --profile service.yaml
  berth compare plan1.json plan2.json -o json      for programs; see berth schema comparison
  berth compare want.json now --exit-code          for scripts: status 1 if they differ`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("for example: berth compare before.json now", "compare takes two things to compare, and %d are given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return append(profiles.Shipped(), liveOperand), cobra.ShellCompDirectiveDefault
		},
	}
	flags := cmd.Flags()
	flags.VarP(&o.format, "output", "o", "how to print")
	flags.StringVar(&o.profile, "profile", "", "with two machines: compare the plans for a `PROFILE` too")
	o.advise.bindMachine(cmd)
	flags.BoolVar(&o.full, "full", false, "show the values too of which no difference is seen, and leave nothing out")
	flags.BoolVar(&o.exitCode, "exit-code", false, "exit with status 1 where something is known to differ")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	return cmd
}

// where are the flags about the machine that profiles are planned for.
var where = [...]string{"machine", "sysroot", "cpuid", "hwloc-xml", "synthetic", "quota", "cpus"}

func (o *compareOptions) run(cmd *cobra.Command, first, second string) error {
	if o.full && o.format.value != "text" {
		return usage("-o "+o.format.value+" always holds everything; leave --full out", "--full shapes text, and the output is %s", o.format.value)
	}
	a, b, err := readOperands(cmd, first, second, o.advise.document)
	if err != nil {
		return err
	}
	if err := o.check(cmd, a, b); err != nil {
		return err
	}
	c := &comparison{Schema: comparisonSchema, Kind: a.kind.name, A: side{Name: a.arg}, B: side{Name: b.arg}}
	if err := o.compare(cmd, c, a, b); err != nil {
		return err
	}
	for _, part := range c.Parts {
		c.Differ = c.Differ || part.Differ()
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	switch o.format.value {
	case "json":
		err = writeJSON(out, c)
	case "yaml":
		err = writeYAML(out, c)
	default:
		comparisonView(&page{w: out, screen: screenOf(cmd.OutOrStdout())}, c, o.full)
	}
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if o.exitCode && c.Differ {
		return &statusError{1, nil}
	}
	return nil
}

// check refuses two kinds, and flags that are about another kind.
func (o *compareOptions) check(cmd *cobra.Command, a, b *operand) error {
	if a.kind != b.kind {
		hint := "compare two of a kind"
		if a.kind == profileKind || b.kind == profileKind {
			hint = "profiles are compared with each other; --machine FILE says for which machine, and --profile plans for two machines"
		}
		return usage(hint, "%s is %s, and %s is %s", a.name, a.kind.words, b.name, b.kind.words)
	}
	about := func(flag, what string) error {
		return usage("leave it out", "--%s is about %s, and %s is %s", flag, what, a.name, a.kind.words)
	}
	for _, flag := range where {
		if cmd.Flags().Changed(flag) && a.kind != profileKind {
			return about(flag, "the machine that profiles are planned for")
		}
	}
	if cmd.Flags().Changed("profile") && a.kind != machineKind {
		return about("profile", "two machines")
	}
	for _, flag := range [...]string{"calibration", "no-calibration"} {
		if cmd.Flags().Changed(flag) && a.kind != profileKind && o.profile == "" {
			return about(flag, "plans that are made anew")
		}
	}
	return nil
}

func (o *compareOptions) compare(cmd *cobra.Command, c *comparison, a, b *operand) error {
	switch a.kind {
	case profileKind:
		return o.profiles(cmd, c, a.profile, b.profile)
	case machineKind:
		return o.machines(cmd, c, a, b)
	}
	report, err := a.kind.compare(c, a, b)
	if err != nil {
		return err
	}
	c.Parts = []comparedOne{{a.kind.name, report}}
	if c.Answer == "" {
		c.Answer = resultAnswer(report)
	}
	return nil
}

// profiles plans for both on one machine.
func (o *compareOptions) profiles(cmd *cobra.Command, c *comparison, a, b *profiles.Profile) error {
	machine, title, err := o.advise.open(cmd)
	if err != nil {
		return err
	}
	calibration, err := o.advise.calibrationFor(cmd, machine)
	if err != nil {
		return err
	}
	x, err := o.plan(machine, a, calibration.Calibration)
	if err != nil {
		return err
	}
	y, err := o.plan(machine, b, calibration.Calibration)
	if err != nil {
		return err
	}
	c.A.Title, c.B.Title = a.Name+": "+planHeadline(x.Plan), b.Name+": "+planHeadline(y.Plan)
	c.Notes = append(c.Notes, "Planned for: "+headline(machine, title))
	if note := calibration.note(); note != "" {
		c.Notes = append(c.Notes, note)
	}
	c.addPlans(x, y)
	return nil
}

func (o *compareOptions) plan(m *probe.Machine, p *profiles.Profile, c *probe.Calibration) (advisor.Case, error) {
	plan, err := advisor.Advise(m, p, c)
	if err != nil {
		return advisor.Case{}, usage("give the calibration of this machine, or leave it out", "%w", err)
	}
	return advisor.Case{Plan: plan, Machine: m, Profile: p, Calibration: c}, nil
}

func (c *comparison) addPlans(a, b advisor.Case) {
	report := advisor.Compare(a, b)
	c.Parts = append(c.Parts, comparedOne{"plan", report})
	answer := planAnswer(a.Plan, b.Plan, report)
	if c.Answer == "" {
		c.Answer = answer
	} else {
		c.Answer += " " + answer
	}
	c.Because = mainCause(report)
}

// machines compares two machines, and with --profile the plans for it.
func (o *compareOptions) machines(cmd *cobra.Command, c *comparison, a, b *operand) error {
	c.A.Title, c.B.Title = machineTitle(a.machine), machineTitle(b.machine)
	report := probe.Compare(a.machine, b.machine)
	c.Parts = []comparedOne{{"machine", report}}
	c.Answer = machineAnswer(report)
	if o.profile == "" {
		return nil
	}
	profile, err := loadProfile(cmd, o.profile)
	if err != nil {
		return err
	}
	measured, err := o.measurements(cmd, a.machine, b.machine)
	if err != nil {
		return err
	}
	x, err := o.plan(a.machine, profile, measured[0])
	if err != nil {
		return err
	}
	y, err := o.plan(b.machine, profile, measured[1])
	if err != nil {
		return err
	}
	c.Notes = append(c.Notes, "Planned for: "+profile.Name)
	c.addPlans(x, y)
	return nil
}

// measurements are the calibration that --calibration names, for the one of the
// two machines, or both, that it was measured on. None that was saved is used
// unasked: the two would be planned on different grounds.
func (o *compareOptions) measurements(cmd *cobra.Command, machines ...*probe.Machine) ([]*probe.Calibration, error) {
	out := make([]*probe.Calibration, len(machines))
	if err := atMostOne(cmd, "calibration", "no-calibration"); err != nil {
		return nil, err
	}
	if o.advise.calibration == "" || o.advise.calibration == noCalibration {
		return out, nil
	}
	c, err := readCalibration(o.advise.calibration)
	if err != nil {
		return nil, usage("give a file that `berth experiment modes --save` wrote", "--calibration: %w", err)
	}
	used := false
	for i, m := range machines {
		if c.Fingerprint == "" || m.Fingerprint == "" || c.Fingerprint == m.Fingerprint {
			out[i], used = c, true
		}
	}
	if !used {
		return nil, usage("give that of one of them, or leave it out", "--calibration: %s was measured on machine %s, and neither machine is that", o.advise.calibration, c.Fingerprint)
	}
	return out, nil
}
