package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"berth/probe"
)

type nprocOptions struct {
	machine                   machineFlags
	floor, exact, cores, cpus bool
}

func newNprocCmd() *cobra.Command {
	o := &nprocOptions{}
	cmd := &cobra.Command{
		Use:   "nproc",
		Short: "Print how many CPUs' worth of time this process has",
		Long: `Print one number for scripts: the CPU budget, which is the CPUs that this
process may run on (online, affinity, cpuset) or the tightest CPU quota of any
control group above it, whichever is less. It is rounded up and at least 1.`,
		Example: `  berth nproc              3 for a quota of 2.5 CPUs
  berth nproc --floor      2: never more busy threads than time
  berth nproc --exact      2.5
  berth nproc --cores      physical cores, for work that SMT does not help`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.floor, "floor", false, "round the budget down, to at least 1")
	flags.BoolVar(&o.exact, "exact", false, "do not round: 2.5")
	flags.BoolVar(&o.cores, "cores", false, "count the cores that have an allowed CPU; the quota does not count")
	flags.BoolVar(&o.cpus, "cpus", false, "count the allowed CPUs; the quota does not count")
	o.machine.bind(cmd)
	return cmd
}

func (o *nprocOptions) run(cmd *cobra.Command) error {
	if err := atMostOne(cmd, "floor", "exact", "cores", "cpus"); err != nil {
		return err
	}
	need := probe.Budget
	if o.cores {
		need |= probe.Cores
	}
	m, err := o.machine.probe(cmd, need)
	if err != nil {
		return err
	}
	answer := ""
	switch budget := m.Limits.EffectiveCPUs; {
	case o.exact:
		answer = strconv.FormatFloat(budget, 'f', -1, 64)
	case o.floor:
		answer = strconv.Itoa(max(1, int(math.Floor(budget))))
	case o.cpus:
		answer = strconv.Itoa(m.Topology.Allowed.Len())
	case o.cores:
		if len(m.Topology.Cores) == 0 {
			return errors.New("count cores: nothing on this machine says which CPUs share a core; --cpus counts CPUs")
		}
		answer = strconv.Itoa(allowedCores(&m.Topology))
	default:
		answer = strconv.Itoa(max(1, int(math.Ceil(budget))))
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), answer)
	return err
}
