//go:build linux

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"berth/affinity/fleet"
)

func newFleetPluginCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "plugin dask",
		Short: "Print a plug-in that seats another system's workers by a plan",
		Long: `Print a plug-in that seats another system's workers by a plan.

  dask   a Python module: each worker of the cluster, also one that comes later,
         takes a seat of its node, and answers with a receipt`,
		Example: `  berth fleet plugin dask > berth_dask.py
  python3 berth_dask.py tcp://scheduler:8786 plan.json`,
		ValidArgs: []string{"dask"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage("`berth fleet plugin dask`", "fleet plugin needs the name of one")
			case len(args) > 1:
				return usage("print them one by one", "fleet plugin takes one name, and %q is a second", args[1])
			case args[0] != "dask":
				return known("plug-in", args[0], cmd.ValidArgs, "there is dask")
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), fleet.DaskPlugin)
			return err
		},
	}
}
