//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/advisor/doctor"
	"berth/affinity"
)

// doctorSchema names the JSON document of berth doctor.
const doctorSchema = "berth.doctor/v1"

// doctorDocument is what is wrong on this node, and what was looked at.
type doctorDocument struct {
	Schema     string           `json:"schema" yaml:"schema"`
	MeasuredAt time.Time        `json:"measured_at" yaml:"measured_at"`
	IntervalS  float64          `json:"interval_s" yaml:"interval_s"` // seconds
	LookedAt   doctorLooked     `json:"looked_at" yaml:"looked_at"`
	Verdict    affinity.Verdict `json:"verdict" yaml:"verdict"`
	Findings   []doctor.Finding `json:"findings" yaml:"findings"`
}

// doctorLooked counts what findings could have been about.
type doctorLooked struct {
	Processes int `json:"processes" yaml:"processes"`
	Threads   int `json:"threads" yaml:"threads"`
	Busy      int `json:"busy" yaml:"busy"` // threads with work for half of the interval
	CPUs      int `json:"cpus" yaml:"cpus"` // online
}

// The kernel counts in steps of 10 ms: below this they show. Above, it is no
// look at the node now.
const (
	leastLook = 20 * 10 * time.Millisecond
	mostLook  = 10 * time.Minute
)

type doctorOptions struct {
	who       selection
	interval  time.Duration
	list, all bool
	format    choice
}

func newDoctorCmd() *cobra.Command {
	o := &doctorOptions{format: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong on this node now, each with evidence and a fix",
		Long: `Look at this node for some seconds and say what is wrong: with its settings, with
the limits that programs run under, with how many workers they have, and with how
busy threads sit on the CPUs. Each finding has its evidence and a fix to copy.

Unless a flag says whose, findings are on the node's settings and on all processes
that you may see and that work; idle ones are left in peace. With --pid, --match or
--cgroup they are on those processes, on what these run under and on the settings
that concern them. --all adds the kernel's threads and how idle programs are set up.

Nothing is changed. Ctrl-C ends the look early, with what is known. Exit status: 0
without warnings, 1 with.`,
		Example: `  berth doctor
  berth doctor --pid 4711 --for 10s
  berth doctor --cgroup /system.slice/web.service
  berth doctor --list                 all findings that there are, and what they mean
  berth doctor -o json                for programs; see berth schema doctor`,
		Args: o.who.noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.who.bindNamed(cmd)
	flags.BoolVarP(&o.all, "all", "a", false, "also the kernel's threads, and how idle programs are set up")
	flags.DurationVar(&o.interval, "for", 3*time.Second, "look for that `TIME`")
	flags.BoolVar(&o.list, "list", false, "list the kinds of findings, and do not look")
	flags.VarP(&o.format, "output", "o", "how to print")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	return cmd
}

func (o *doctorOptions) run(cmd *cobra.Command) error {
	if o.list {
		return o.print(cmd.OutOrStdout(), doctor.Kinds(), func(p *page) { doctorKinds(p, doctor.Kinds()) })
	}
	if o.interval < leastLook || o.interval > mostLook {
		return usage("for example --for 3s", "--for %s: a look takes from %s to %s", o.interval, leastLook, mostLook)
	}
	if err := o.who.check(cmd); err != nil {
		return err
	}
	pids, err := o.named(cmd.ErrOrStderr())
	if err != nil {
		return err
	}

	ctx, caught, stop := untilSignal(cmd.Context())
	defer stop()
	line := newStatusLine(cmd.ErrOrStderr())
	line.say(fmt.Sprintf("Looking for %s …", o.interval))
	facts, err := doctor.Collect(ctx, doctor.Options{For: o.interval, PIDs: pids, All: o.all})
	line.end()
	if err != nil {
		return err
	}
	d := doctorDocumentOf(facts)
	if err := o.print(cmd.OutOrStdout(), d, func(p *page) { doctorView(p, d) }); err != nil {
		return err
	}
	if s := caught(); s != 0 && s != unix.SIGINT { // which is a way to end it
		return &statusError{128 + int(s), fmt.Errorf("ended by %s", unix.SignalName(s))}
	}
	if doctor.Bad(d.Findings) {
		return &statusError{1, nil}
	}
	return nil
}

// named is the processes that flags name; none where no flag does. One that is not
// there among others is told of, and it alone is an error.
func (o *doctorOptions) named(stderr io.Writer) ([]int, error) {
	if !o.who.named() {
		return nil, nil
	}
	c, err := o.who.find("")
	if err != nil {
		return nil, err
	}
	for _, g := range c.gone {
		fmt.Fprintf(stderr, "berth: %v\n", g)
	}
	var pids []int
	for _, p := range c.processes {
		pids = append(pids, p.PID)
	}
	switch {
	case len(pids) > 0:
		return pids, nil
	case len(c.gone) > 0:
		return nil, &statusError{1, nil}
	}
	return nil, o.who.nobody()
}

func doctorDocumentOf(f *doctor.Facts) *doctorDocument {
	d := &doctorDocument{Schema: doctorSchema, MeasuredAt: f.At.Truncate(time.Millisecond), IntervalS: wholeMS(f.Interval),
		Verdict: affinity.Measured, Findings: doctor.Diagnose(f)}
	d.LookedAt.CPUs = f.Machine.Topology.Online.Len()
	for _, p := range f.Processes {
		if p.Chosen {
			d.LookedAt.Processes++
		}
	}
	for i := range f.Threads {
		t := &f.Threads[i]
		if p := f.Processes[t.PID]; p == nil || !p.Chosen || t.Ended {
			continue
		}
		d.LookedAt.Threads++
		if t.Busy() {
			d.LookedAt.Busy++
		}
	}
	if slices.ContainsFunc(d.Findings, func(f doctor.Finding) bool { return f.Code == doctor.Partial }) || f.Interval < leastLook {
		d.Verdict = affinity.Inconclusive
	}
	return d
}

func (o *doctorOptions) print(w io.Writer, document any, view func(*page)) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var err error
	switch o.format.value {
	case "json":
		err = writeJSON(out, document)
	case "yaml":
		err = writeYAML(out, document)
	default:
		view(&page{w: out, screen: screenOf(w)})
	}
	if err != nil {
		return err
	}
	return out.Flush()
}
