package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"berth/probe"
	"berth/probe/hwloc"
)

type inspectOptions struct {
	machine                machineFlags
	format                 choice
	extended               optional
	columns, caches        bool
	full, logical, allCPUs bool
}

func newInspectCmd() *cobra.Command {
	o := &inspectOptions{format: choice{"text", []string{"text", "json", "yaml", "hwloc-xml"}}, extended: optional{names: "column"}}
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Show the machine as this process sees it",
		Long: `Show what this process may use, what limits it, and how the machine's CPUs share
cores, caches and memory. Where two sources disagree, both answers are shown.`,
		Example: `  berth inspect                         for people
  berth inspect -o json                 for programs; see berth schema inspect
  berth inspect -e                      a row per CPU
  berth inspect -e=CPU,L#CORE,NODE      these columns
  berth inspect -e=+SIBLINGS            one more
  berth inspect --caches                a row per sort of cache
  berth inspect -e=CPU,NODE -o json     the same for programs; see berth schema table
  berth inspect -o hwloc-xml            for lstopo -i and other programs with hwloc
  berth inspect --sysroot node7.tar.gz  another machine, from its files
  berth inspect --hwloc-xml node7.xml   another machine, as hwloc describes it`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.VarP(&o.format, "output", "o", "how to print")
	o.extended.bind(flags, "extended", "e", "a row per CPU; `[=[+]COLUMNS]` picks the columns or, with +, adds some")
	flags.BoolVar(&o.columns, "columns", false, "list the columns that --extended knows")
	flags.BoolVar(&o.caches, "caches", false, "a row per sort of cache")
	flags.BoolVar(&o.full, "full", false, "fold nothing and leave nothing out")
	flags.BoolVar(&o.logical, "logical", false, "number CPUs and cores in the machine's order (L#)")
	flags.BoolVar(&o.allCPUs, "cpuid-all", false, "read CPUID on isolated and nohz_full CPUs too, disturbing them")
	o.machine.bind(cmd)
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	must(cmd.RegisterFlagCompletionFunc("extended", completeColumns))
	return cmd
}

// check finds flags that cannot work together.
func (o *inspectOptions) check(cmd *cobra.Command) error {
	if err := atMostOne(cmd, "extended", "caches", "columns"); err != nil {
		return err
	}
	table := o.format.value == "json" && cmd.Flags().Changed("extended")
	if o.format.value != "text" {
		for _, name := range [...]string{"extended", "caches", "columns", "full", "logical"} {
			if cmd.Flags().Changed(name) && !(table && (name == "extended" || name == "logical")) {
				return usage("-o "+o.format.value+" always holds everything; leave --"+name+" out",
					"--%s shapes text, and the output is %s", name, o.format.value)
			}
		}
	}
	if o.allCPUs && !o.machine.live() {
		return usage("leave --cpuid-all out", "--cpuid-all reads this machine's CPUID, and another machine is asked for")
	}
	return nil
}

func (o *inspectOptions) run(cmd *cobra.Command) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	if o.columns {
		listColumns(out)
		return out.Flush()
	}
	columns, err := parseColumns(o.extended.value)
	if err != nil {
		return err
	}
	source, err := o.machine.open(cmd)
	if err != nil {
		return err
	}
	defer source.Close()
	source.EveryCPUID = o.allCPUs
	switch {
	case cmd.Flags().Changed("extended"):
		source.Only = probe.Budget | probe.Cores | probe.Caches | probe.NUMA | probe.Kinds
	case o.caches:
		source.Only = probe.Budget | probe.Cores | probe.Caches | probe.Geometry | probe.Kinds
	case o.format.value == "text":
		source.Only = probe.Budget | probe.Cores | probe.Caches | probe.NUMA | probe.Kinds | probe.Identity | probe.Devices | probe.Memory
	}
	m, err := probe.Probe(cmd.Context(), source)
	if err != nil {
		return err
	}
	switch {
	case o.format.value == "hwloc-xml":
		err = writeHwloc(cmd, out, m)
	case o.format.value == "json" && cmd.Flags().Changed("extended"):
		err = extendedJSON(out, &m.Topology, columns, o.logical)
	case o.format.value == "json":
		err = writeJSON(out, m)
	case o.format.value == "yaml":
		err = writeYAML(out, m)
	case cmd.Flags().Changed("extended"):
		err = extendedView(out, &m.Topology, columns, o.logical)
	case o.caches:
		err = cachesView(out, &m.Topology)
	default:
		err = textView(out, m, textOptions{
			title: o.machine.title(m), live: o.machine.live(), full: o.full, logical: o.logical,
			screen: screenOf(cmd.OutOrStdout()),
		})
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// writeHwloc writes the machine for hwloc, and says what hwloc's tree cannot hold.
func writeHwloc(cmd *cobra.Command, out io.Writer, m *probe.Machine) error {
	left, err := hwloc.Write(out, m.Hwloc())
	if len(left) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: left out, as no tree holds it or hwloc does not show it: %s\n", shorten(strings.Join(left, "; "), "; ", 300))
	}
	return err
}

func writeYAML(w io.Writer, v any) error {
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return err
	}
	return e.Close()
}

// must is for calls that fail only if berth itself is put together wrongly.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
