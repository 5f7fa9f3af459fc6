package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/probe"
)

// findPlan reads a plan from a file, or makes one of a profile for this machine.
func findPlan(cmd *cobra.Command, plan, profile string) (*advisor.Plan, error) {
	if plan != "" {
		return readPlan(cmd, plan)
	}
	p, err := loadProfile(cmd, profile)
	if err != nil {
		return nil, err
	}
	m, err := (&machineFlags{}).probe(cmd, 0)
	if err != nil {
		return nil, err
	}
	return advisor.Advise(m, p, savedCalibration(cmd, m).Calibration)
}

// readPlan reads what `berth advise -o json` wrote.
func readPlan(cmd *cobra.Command, file string) (*advisor.Plan, error) {
	in, name := cmd.InOrStdin(), "standard input"
	hint := "give a file that `berth advise -o json` wrote"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage(hint, "--plan: %w", err)
		}
		defer f.Close()
		in, name = f, file
	}
	plan, err := advisor.Read(in, name)
	if err != nil {
		var other *probe.WrongSchema
		if errors.As(err, &other) && other.Is == advisor.DivisionSchema {
			hint = "it holds a plan for each of several profiles; `berth advise … --only NAME -o json` writes the plan of one"
		}
		return nil, usage(hint, "--plan: %w", err)
	}
	return plan, nil
}
