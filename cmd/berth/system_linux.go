package main

import (
	"github.com/spf13/cobra"

	"berth/affinity/experiment"
)

// beforeAll serves as a worker of an experiment if this process was made to be one.
func beforeAll() { experiment.Worker() }

// systemCmds are the commands that only Linux has the system calls and files for.
func systemCmds() []*cobra.Command {
	return []*cobra.Command{
		newCompareCmd(),
		newDoctorCmd(),
		newExperimentCmd(),
		newFleetCmd(),
		newObserveCmd(),
		newPinCmd(),
		newPsCmd(),
		newRunCmd(),
		newTuneCmd(),
	}
}
