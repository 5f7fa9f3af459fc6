//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/advisor/emit"
	"berth/affinity/fleet"
	"berth/probe"
	"berth/profiles"
)

type fleetAdviseOptions struct {
	fleet        fleetFlags
	format       choice
	document     string // a fleet JSON
	calibrations []string
	speed, set   []string
	emit         string
	strict       bool
}

func newFleetAdviseCmd() *cobra.Command {
	o := &fleetAdviseOptions{fleet: newFleetFlags(), format: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "advise PROFILE (--fleet FILE | --engine ENGINE)",
		Short: "Plan a workload on all nodes of a fleet: a plan per shape, and the whole",
		Long: `Plan a workload on each shape of a fleet, as berth advise does on one machine,
and add the plans up. The tasks, arrivals and concurrency downstream of the
profile are those of the whole fleet: they are divided among the nodes by what
each can do. Work in equal shares (partition: static) ends when the slowest
worker does, so shapes that would hold up the others are left out.

The fleet is one that berth fleet inspect -o json wrote, or is looked at now.`,
		Example: `  berth fleet inspect --engine slurm -o json > fleet.json
  berth fleet advise solver.yaml --fleet fleet.json
  berth fleet advise solver.yaml --fleet fleet.json --speed 2=0.7
  berth fleet advise solver.yaml --fleet fleet.json --emit slurm > steps.sh
  berth fleet advise web-sync-python --engine ssh --nodes n[1-4]`,
		Args: oneProfile,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, strings.Join(args, "")) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return profiles.Shipped(), cobra.ShellCompDirectiveDefault
		},
	}
	flags := cmd.Flags()
	flags.VarP(&o.format, "output", "o", "how to print")
	flags.StringVar(&o.document, "fleet", "", "a `FILE` that berth fleet inspect -o json wrote, or -")
	o.fleet.bind(cmd)
	flags.StringArrayVar(&o.calibrations, "calibration", nil, "measurements of one kind of hardware, a berth.calibration/v1 `FILE` with its fingerprint; repeatable")
	flags.StringArrayVar(&o.speed, "speed", nil, "how fast a core of a shape is beside the others, `SHAPE=FACTOR` as 2=0.7; repeatable")
	flags.StringArrayVar(&o.set, "set", nil, "change the profile: `FIELD=VALUE`, as load.tasks=500; repeatable")
	flags.StringVar(&o.emit, "emit", "", "print the plans as another tool's settings: "+strings.Join(fleetTargetNames(), ", "))
	flags.BoolVar(&o.strict, "strict", false, "with --emit, fail where the tool's settings cannot carry all of the plan")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	must(cmd.RegisterFlagCompletionFunc("emit", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return fleetTargetNames(), cobra.ShellCompDirectiveNoFileComp
	}))
	return cmd
}

func oneProfile(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return usage("`berth profiles list` shows those that come with berth, `berth profiles new` writes one to fill in", "fleet advise needs a profile")
	case 1:
		return nil
	}
	return usage("plan them one by one", "fleet advise takes one profile, and %q is a second", args[1])
}

func fleetTargetNames() []string {
	var names []string
	for _, t := range emit.FleetTargets() {
		names = append(names, t.Name())
	}
	return names
}

func (o *fleetAdviseOptions) run(cmd *cobra.Command, name string) error {
	emits := cmd.Flags().Changed("emit")
	switch {
	case emits && o.format.value != "text":
		return usage("leave one of them out", "--emit shapes text, and the output is %s", o.format.value)
	case o.strict && !emits:
		return usage("name a tool with --emit", "--strict is about the settings of other tools")
	case name == "-" && (o.document == "-" || o.fleet.from == "-" || o.fleet.nodesFile == "-"):
		return usage("put one of them into a file", "the profile and the fleet cannot both be standard input")
	}
	target, ok := emit.FindFleet(o.emit)
	if emits && !ok {
		return known("target", o.emit, fleetTargetNames(), "they are: "+strings.Join(fleetTargetNames(), ", "))
	}
	profile, err := loadProfile(cmd, name)
	if err != nil {
		return err
	}
	if profile, err = (&adviseOptions{set: o.set}).adapt(profile); err != nil {
		return err
	}
	options, err := o.known()
	if err != nil {
		return err
	}
	found, caught, err := o.open(cmd)
	if err != nil {
		return err
	}
	for id := range options.Speed {
		if id > len(found.Shapes) {
			return usage("berth fleet inspect lists the shapes", "--speed %d=…: the fleet has %s", id, count(len(found.Shapes), "shape"))
		}
	}
	if caught != nil { // a plan for a part of the fleet is not what was asked for
		return caught
	}
	plan, err := fleet.Advise(found, profile, options)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	switch {
	case emits:
		return o.settings(cmd, out, plan, target)
	case o.format.value == "json":
		err = writeJSON(out, plan)
	case o.format.value == "yaml":
		err = writeYAML(out, plan)
	default:
		fleetPlanView(&page{w: out, screen: screenOf(cmd.OutOrStdout())}, plan, found)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// known is what the flags say of the hardware.
func (o *fleetAdviseOptions) known() (fleet.AdviseOptions, error) {
	options := fleet.AdviseOptions{Speed: map[int]float64{}}
	for _, s := range o.speed {
		shape, factor, _ := strings.Cut(s, "=")
		id, err1 := strconv.Atoi(shape)
		x, err2 := strconv.ParseFloat(factor, 64)
		if err1 != nil || err2 != nil || id < 1 || !(x > 0 && x <= 1000) {
			return options, usage("for example --speed 2=0.7: a core of shape 2 does 0.7 of what others do", "--speed %s is not a shape and a factor above 0", s)
		}
		options.Speed[id] = x
	}
	of := map[string]*probe.Calibration{}
	for _, name := range o.calibrations {
		c, err := readCalibration(name)
		switch {
		case err != nil:
			return options, usage("give a file that `berth experiment modes --save` wrote", "--calibration: %w", err)
		case c.Fingerprint == "":
			return options, usage("measure again with --save", "--calibration: %s does not say which machine it was measured on", name)
		case of[c.Fingerprint] != nil:
			return options, usage("give one of each", "--calibration: %s is the second of machine %s", name, c.Fingerprint)
		}
		of[c.Fingerprint] = c
	}
	options.Calibration = func(fingerprint string) *probe.Calibration { return of[fingerprint] }
	return options, nil
}

// open reads the fleet from a file or looks at it.
func (o *fleetAdviseOptions) open(cmd *cobra.Command) (found *fleet.Fleet, caught, err error) {
	if o.document == "" && !cmd.Flags().Changed("fleet") {
		return o.fleet.collect(cmd, fleet.Options{})
	}
	for flag := range ofEngine {
		if cmd.Flags().Changed(flag) || o.fleet.engine.value != "" {
			return nil, nil, usage("give one of them", "--fleet and the flags of an engine both name a fleet")
		}
	}
	const hint = "give a file that `berth fleet inspect -o json` wrote"
	in, name := cmd.InOrStdin(), "standard input"
	if o.document != "-" {
		f, err := os.Open(o.document)
		if err != nil {
			return nil, nil, usage(hint, "--fleet: %w", err)
		}
		defer f.Close()
		in, name = f, o.document
	}
	if found, err = fleet.Read(in, name); err != nil {
		return nil, nil, usage(hint, "--fleet: %w", err)
	}
	return found, nil, nil
}

// settings prints the plans as the settings of a tool.
func (o *fleetAdviseOptions) settings(cmd *cobra.Command, out *bufio.Writer, plan *fleet.Plan, target emit.FleetTarget) error {
	var parts []emit.Nodes
	for _, part := range plan.Parts {
		if part.Plan == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "berth: no work on %s: %s\n", foldedNames(part.Nodes, 60), part.Why)
			continue
		}
		for _, name := range part.Nodes {
			if err := fleet.CheckName(name); err != nil {
				return fmt.Errorf("--emit: no settings can hold this: %w", err)
			}
		}
		parts = append(parts, emit.Nodes{Names: part.Nodes, Folded: fleet.Fold(part.Nodes), Plan: part.Plan})
	}
	if len(parts) == 0 {
		return errors.New("--emit: no node has work")
	}
	settings := target.EmitFleet(parts)
	for _, lost := range settings.Lost {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %s cannot express %s\n", target.Name(), lost)
	}
	out.WriteString(settings.Text)
	if err := out.Flush(); err != nil {
		return err
	}
	if o.strict && settings.Lost != nil {
		return fmt.Errorf("--strict: not all of the plan is in the settings of %s", target.Name())
	}
	return nil
}
