//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/affinity/fleet"
	"berth/probe"
)

// fleetNode is what an engine runs on a node.
type fleetNode struct {
	name    string
	serve   bool
	brought bool
}

func newFleetNodeCmd() *cobra.Command {
	o := &fleetNode{}
	cmd := &cobra.Command{
		Use:    "node",
		Short:  "Answer an engine from a node",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.name, "name", os.Getenv("SLURMD_NODENAME"), "the `NODE` that this is, for the one who asks")
	flags.BoolVar(&o.serve, "serve", false, "take an order from standard input and run it, as fleet run has it")
	flags.BoolVar(&o.brought, "brought", false, "remove this program, which srun --bcast has put here")
	return cmd
}

func (o *fleetNode) run(cmd *cobra.Command) error {
	if o.brought {
		if err := removeBrought(); err != nil {
			return err
		}
	}
	if o.serve {
		return o.serveRun(cmd)
	}
	m, err := (&machineFlags{}).probe(cmd, 0)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := writeJSON(&text, m); err != nil {
		return err
	}
	return fleet.WriteFrames(cmd.OutOrStdout(), cmp.Or(o.name, m.Host.Hostname), []byte(text.String()))
}

// serveRun is the far side of fleet run. The signals that would end it end its
// programs instead, and it reports.
func (o *fleetNode) serveRun(cmd *cobra.Command) error {
	if o.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		o.name = host
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	signal.Ignore(unix.SIGPIPE) // who listened is gone: then the programs are to end first
	agent := &fleet.Agent{
		Name: o.name, Input: cmd.InOrStdin(), Output: os.Stdout,
		// By this name of the program's: its file may be removed by now.
		Berth:   []string{"/proc/self/exe", "run"},
		Machine: func(context.Context) (*probe.Machine, error) { return (&machineFlags{}).probe(cmd, 0) },
	}
	if err := agent.Serve(ctx); err != nil {
		return fmt.Errorf("report from %s: %w", o.name, err)
	}
	return nil
}

// removeBrought removes the file of this program, if srun has put it there for
// this one step. A program that runs needs its file no more.
func removeBrought() error {
	name, err := os.Executable()
	if err != nil {
		return fmt.Errorf("--brought: %w", err)
	}
	if !strings.HasPrefix(name, fleet.BroughtTo+"slurm_bcast_") || os.Getenv("SLURM_STEP_ID") == "" {
		return usage("leave --brought out", "--brought: %s was not brought by srun --bcast", name)
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("--brought: %w", err)
	}
	return nil
}
