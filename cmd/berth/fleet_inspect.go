//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"berth/affinity/fleet"
)

type fleetInspectOptions struct {
	fleet  fleetFlags
	format choice
	save   string
	full   bool
}

func newFleetInspectCmd() *cobra.Command {
	o := &fleetInspectOptions{fleet: newFleetFlags(), format: choice{"text", []string{"text", "json", "yaml", "slurm-conf"}}}
	cmd := &cobra.Command{
		Use:   "inspect --engine ENGINE",
		Short: "Gather what nodes are, group them by shape, and say what is odd",
		Long: `Run berth inspect on every node, and group the answers into shapes: nodes of one
hardware, with the same CPUs under the same numbers, the same CPUs and time
allowed, and about the same memory, so that one plan is right for all of them.
What a node has that others of its hardware have not is said by name, and so is
why a node gave no answer.

-o slurm-conf prints the NodeName lines that Slurm should have of them, as
slurmd -C would on each.

Exit status 1: a node gave no answer, or not all were waited for.`,
		Example: `  berth fleet inspect --engine ssh --nodes n[001-127]
  berth fleet inspect --engine slurm -o json > fleet.json
  berth fleet inspect --engine ssh --nodes-file hosts --save answers/
  berth fleet inspect --from answers/                the same from files
  cat *.json | berth fleet inspect --from -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.VarP(&o.format, "output", "o", "how to print")
	flags.StringVar(&o.save, "save", "", "write each node's document to a `DIR`, as NODE.json")
	flags.BoolVar(&o.full, "full", false, "text: fold nothing; json and yaml: each node's whole document too")
	o.fleet.bind(cmd)
	must(cmd.RegisterFlagCompletionFunc("output", o.format.complete))
	return cmd
}

func (o *fleetInspectOptions) run(cmd *cobra.Command) error {
	if o.full && o.format.value == "slurm-conf" {
		return usage("leave --full out", "--full adds nothing to -o slurm-conf")
	}
	options := fleet.Options{Full: o.full && o.format.value != "text"}
	if cmd.Flags().Changed("save") {
		if o.save == "" {
			return usage("give a folder", "--save is empty")
		}
		if err := os.MkdirAll(o.save, 0o755); err != nil {
			return usage("give a folder that can be made", "--save: %w", err)
		}
		options.Save = func(node string, document []byte) error {
			if err := saveDocument(filepath.Join(o.save, fleet.FileName(node)), document); err != nil {
				return fmt.Errorf("save the document of %q: %w", node, err)
			}
			return nil
		}
	}
	found, caught, err := o.fleet.collect(cmd, options)
	if err != nil {
		return err
	}
	if err := o.print(cmd.OutOrStdout(), found); err != nil {
		return err
	}
	switch {
	case caught != nil:
		return caught
	case found.Early != "", found.Totals.Answered < found.Totals.Nodes:
		return &statusError{1, nil}
	}
	return nil
}

func saveDocument(name string, text []byte) error {
	f, err := createAtomic(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		f.discard()
		return err
	}
	return f.commit()
}

func (o *fleetInspectOptions) print(w io.Writer, f *fleet.Fleet) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var err error
	switch o.format.value {
	case "json":
		err = writeJSON(out, f)
	case "yaml":
		err = writeYAML(out, f)
	case "slurm-conf":
		for _, line := range f.NodeLines() {
			fmt.Fprintln(out, line) // an error stays, and Flush returns it
		}
	default:
		fleetView(&page{w: out, screen: screenOf(w)}, f, o.full)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}
