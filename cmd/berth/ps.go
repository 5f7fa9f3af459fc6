//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/probe/tasks"
)

type psOptions struct {
	who         selection
	interval    time.Duration
	watch, idle bool
	format      choice
}

func newPsCmd() *cobra.Command {
	o := &psOptions{format: choice{"text", []string{"text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Show who sits where now: threads, CPUs, and their conflicts",
		Long: `Show which CPU each thread is on and may run on, how much of an interval it ran
and how much it waited for a CPU, and which threads and CPUs get on badly. Unless
a flag says whose, the threads are those of your own processes.

A thread is busy if running and waiting together come to half of the interval. It
is in conflict if it is

  queued          busy, and takes turns with another thread on one CPU
  shares-sibling  busy, and so is an SMT sibling of its CPU
  shares-core     either of these, while a core that it may use is idle
  outside-cpuset  allowed on CPUs that the cpuset of its control group leaves out
  offline-cpu     allowed only on CPUs that are offline, or busy on one that is
  remote-memory   busy, with most memory of its process on other NUMA nodes
  irq-heavy       busy on a CPU that serves interrupts a fifth of the time

The times are means over the interval; CPU and state are those at its end.`,
		Example: `  berth ps                           your threads
  berth ps --pid 4711 --interval 5s  one process, over five seconds
  berth ps --all --watch             everyone's, again and again; q ends it
  berth ps --match redis -o json     for programs; see berth schema ps`,
		Args: o.who.noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.who.bind(cmd)
	flags.DurationVarP(&o.interval, "interval", "i", time.Second, "look for that `TIME`")
	flags.BoolVarP(&o.watch, "watch", "w", false, "look again and again, until q or a signal")
	flags.BoolVar(&o.idle, "idle", false, "show idle threads too (JSON and YAML always hold them)")
	flags.VarP(&o.format, "output", "o", "how to print")
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	return cmd
}

func (o *psOptions) run(cmd *cobra.Command) error {
	if o.interval < tasks.Tick {
		return usage("for example --interval 1s", "--interval %s: the kernel counts in steps of %s", o.interval, tasks.Tick)
	}
	if err := o.who.check(cmd); err != nil {
		return err
	}
	l, err := newLookout(cmd.Context(), &o.who)
	if err != nil {
		return err
	}
	defer l.close()
	gone, err := l.begin()
	if err != nil {
		return err
	}
	for _, g := range gone {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: %v\n", g)
	}
	switch {
	case len(l.chosen) == 0 && o.who.named() && !o.watch:
		if len(gone) == 0 {
			return o.who.nobody()
		}
	case o.watch:
		err = o.runWatch(cmd, l)
	default:
		time.Sleep(o.interval)
		err = o.print(cmd.OutOrStdout(), l.end(cmd.Context()), l.shape)
	}
	if err == nil && len(gone) > 0 {
		err = &statusError{1, nil}
	}
	return err
}

func (o *psOptions) print(w io.Writer, d *psDocument, shape psShape) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var err error
	switch o.format.value {
	case "json":
		err = writeJSON(out, d)
	case "yaml":
		err = writeYAML(out, d)
	default:
		o.view(d, shape).print(&page{w: out, screen: screenOf(w)}, 0)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

func (o *psOptions) view(d *psDocument, shape psShape) *psView {
	return &psView{psDocument: d, shape: shape, idle: o.idle, clock: o.watch}
}

// runWatch looks until q, a signal, or the end of all processes that were
// asked for by number.
func (o *psOptions) runWatch(cmd *cobra.Command, l *lookout) error {
	ctx, caught, stop := untilSignal(cmd.Context())
	defer stop()
	var on *stage // nil: what is printed stays
	if o.format.value == "text" {
		on = openStage(cmd.OutOrStdout())
		defer on.close()
		on.show(func(screen, int) string { return fmt.Sprintf("Looking for %s …\n", o.interval) })
	}
	between := map[string]string{"text": "\n", "yaml": "---\n"}[o.format.value]
	for first := true; !l.done() && on.wait(ctx, o.interval); first = false {
		d := l.end(ctx)
		if on != nil {
			on.show(o.view(d, l.shape).text)
		} else {
			if !first {
				_, _ = io.WriteString(cmd.OutOrStdout(), between) // an error comes again
			}
			if err := o.print(cmd.OutOrStdout(), d, l.shape); err != nil {
				return err
			}
		}
		if _, err := l.begin(); err != nil {
			return err
		}
	}
	if s := caught(); s != 0 && s != unix.SIGINT { // which is a way to end it
		return &statusError{128 + int(s), fmt.Errorf("ended by %s", unix.SignalName(s))}
	}
	return nil
}
