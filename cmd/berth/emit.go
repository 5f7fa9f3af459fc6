package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/advisor/emit/check"
)

type emitOptions struct {
	plan, profile string
	check, format string
	output        choice
	strict        bool
	apply         applyOptions
}

// checkDocument is what a settings file says beside a plan.
type checkDocument struct {
	Schema       string `json:"schema" yaml:"schema"`
	File         string `json:"file" yaml:"file"`
	check.Report `yaml:",inline"`
	Agrees       bool `json:"agrees" yaml:"agrees"`
}

const checkSchema = "berth.check/v1"

// mostSettings bounds a settings file in bytes.
const mostSettings = 4 << 20

func newEmitCmd() *cobra.Command {
	o := &emitOptions{output: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "emit (--plan FILE | --profile PROFILE) (TARGET... | TARGET --apply WHAT | --check FILE)",
		Short: "Print a plan as another tool's settings, apply it, or hold a settings file against it",
		Long: `Print a plan as the settings of other tools, as berth advise --emit does; or, with
--check, tell line by line whether a settings file that you have agrees with it:

  agrees     it says what the plan says
  differs    it says something else
  not said   the plan has a say in it, and the file is silent
  unplanned  the file limits or places what the plan leaves free
  unclear    the file computes it, or says it in words that are not understood

With --apply the settings go into a file of their own, a drop-in, which the tool
reads beside yours; the difference is shown first. WHAT is for

  systemd     a service, as nginx, or the path to its unit
  compose     the Compose file or its folder; FILE:SERVICE where it has several
  haproxy     the folder that haproxy is started with by -f
  postgresql  postgresql.conf or its folder; it must have an include_dir
  kernel      the folder of GRUB's defaults, /etc/default/grub.d

The other formats have no such thing. Nothing is restarted: the last line says
what to run. What was there before is in an undo file, and --undo takes all back.

The plan is one that berth advise -o json wrote, or that of a profile on this
machine. Exit status 1: the file does not agree, or nothing was written.`,
		Example: `  berth emit --profile service.yaml nginx systemd
  berth emit --plan plan.json --check /etc/nginx/nginx.conf
  berth emit --profile service.yaml --check deployment.yaml --format kubernetes
  berth emit --plan plan.json systemd --apply nginx
  berth emit --undo ~/.local/state/berth/emit-undo-20260301T120000-4711.json`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return emitNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.plan, "plan", "", "a `FILE` that berth advise -o json wrote, or -")
	flags.StringVar(&o.profile, "profile", "", "plan for a `PROFILE` on this machine, as berth advise does")
	flags.StringVar(&o.check, "check", "", "the settings `FILE` to hold against the plan, or -")
	flags.StringVar(&o.format, "format", "", "what the file is: "+strings.Join(check.Formats(), ", ")+" (default: by its name and what stands in it)")
	flags.VarP(&o.output, "output", "o", "how to print what --check finds")
	flags.BoolVar(&o.strict, "strict", false, "fail with status 1 where a format cannot carry all of the plan")
	o.apply.bind(cmd)
	must(cmd.RegisterFlagCompletionFunc("output", o.output.complete))
	return cmd
}

func (o *emitOptions) run(cmd *cobra.Command, args []string) error {
	if cmd.Flags().Changed("undo") {
		return o.apply.runUndo(cmd, args)
	}
	if err := errors.Join(o.apply.given(cmd), atMostOne(cmd, "check", "apply")); err != nil {
		return err
	}
	checks, applies := cmd.Flags().Changed("check"), cmd.Flags().Changed("apply")
	switch {
	case checks && len(args) > 0:
		return usage("leave one of them out", "--check holds a file against the plan, and %s would be printed", args[0])
	case !checks && len(args) == 0:
		return usage("targets are: "+strings.Join(emitNames(), ", "), "emit needs a target, or --check FILE")
	case !checks && (o.format != "" || cmd.Flags().Changed("output")):
		return usage("add --check FILE, or leave it out", "--format and --output are about a file to check")
	case checks && o.plan == "-" && o.check == "-":
		return usage("put one of them into a file", "the plan and the settings cannot both be standard input")
	}
	if applies && len(args) > 1 {
		return usage("apply them one by one", "--apply takes one target, and %s is a second", args[1])
	}
	advise := &adviseOptions{format: choice{"text", nil}, strict: o.strict}
	targets, err := targetsOf("emit", args)
	if err != nil {
		return err
	}
	switch {
	case o.plan != "" && o.profile != "":
		return usage("leave one of them out", "--plan and --profile both give a plan")
	case o.plan == "" && o.profile == "":
		return usage("give --plan FILE or --profile PROFILE", "emit needs a plan")
	}
	plan, err := findPlan(cmd, o.plan, o.profile)
	if err != nil {
		return err
	}
	if applies {
		return o.apply.run(cmd, plan, targets[0], o.strict)
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	if !checks {
		return advise.settings(cmd, out, plan, targets)
	}
	return o.hold(cmd, out, plan)
}

// hold holds the file against the plan.
func (o *emitOptions) hold(cmd *cobra.Command, out *bufio.Writer, plan *advisor.Plan) error {
	name, text, err := o.read(cmd)
	if err != nil {
		return err
	}
	if o.format != "" {
		if err := known("format", o.format, check.Formats(), "they are: "+strings.Join(check.Formats(), ", ")); err != nil {
			return err
		}
	}
	report, err := check.Check(plan, name, text, o.format)
	if err != nil {
		return usage("the formats are "+strings.Join(check.Formats(), ", ")+"; --format names one", "--check: %w", err)
	}
	d := checkDocument{Schema: checkSchema, File: name, Report: *report, Agrees: report.Agrees()}
	switch o.output.value {
	case "json":
		err = writeJSON(out, d)
	case "yaml":
		err = writeYAML(out, d)
	default:
		checkView(&page{w: out, screen: screenOf(cmd.OutOrStdout())}, &d)
	}
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if !d.Agrees || o.strict && len(d.Lost) > 0 {
		return &statusError{1, nil}
	}
	return nil
}

func (o *emitOptions) read(cmd *cobra.Command) (name string, text []byte, err error) {
	in := io.Reader(cmd.InOrStdin())
	name = "standard input"
	if o.check != "-" {
		f, err := os.Open(o.check)
		if err != nil {
			return "", nil, usage("a file that you have, or -", "--check: %w", err)
		}
		defer f.Close()
		in, name = f, o.check
	}
	text, err = io.ReadAll(io.LimitReader(in, mostSettings+1))
	if err == nil && len(text) > mostSettings {
		err = fmt.Errorf("it is larger than %d MiB", mostSettings>>20)
	}
	if err != nil {
		return "", nil, fmt.Errorf("--check: read %s: %w", name, err)
	}
	return name, text, nil
}

var verdictWords = map[check.Verdict]string{check.Agrees: "agrees", check.Differs: "differs", check.NotSaid: "not said", check.Unplanned: "unplanned", check.Unclear: "unclear"}

// checkView is a row for each setting, in the order of the file.
func checkView(p *page, d *checkDocument) {
	title := "agrees with the plan"
	if !d.Agrees {
		title = "does not agree with the plan"
	}
	p.line(p.paint(bold, fmt.Sprintf("%s, as %s, %s", d.File, d.Format, title)))
	var rows [][]string
	for _, f := range d.Findings {
		line := ""
		if f.Line > 0 {
			line = "line " + strconv.Itoa(f.Line)
		}
		text := f.Found
		switch {
		case f.Found != "" && f.Planned != "" && f.Found != f.Planned:
			text += "; planned: " + f.Planned
		case f.Found == "" && f.Planned != "":
			text = "planned: " + f.Planned
		}
		rows = append(rows, []string{verdictWords[f.Verdict], line, f.Setting, text})
	}
	if len(rows) > 0 {
		p.gap()
		p.table(rows)
	}
	if len(d.Lost) > 0 {
		list(p, "What "+d.Format+" cannot express", d.Lost)
	}
}

// targetsOf are the targets of some names, which a flag or command was given.
func targetsOf(by string, names []string) ([]emit.Target, error) {
	var out []emit.Target
	for _, name := range names {
		if err := known("target", name, emitNames(), "they are: "+strings.Join(emitNames(), ", ")); err != nil {
			return nil, err
		}
		target, _ := emit.Find(name)
		if slices.Contains(out, target) {
			return nil, usage("name each once", "%s names %s twice", by, name)
		}
		out = append(out, target)
	}
	return out, nil
}
