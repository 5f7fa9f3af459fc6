package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/probe"
)

// calibrationFile is where the measurements of a machine are kept.
func calibrationFile(m *probe.Machine) (string, error) {
	if m.Fingerprint == "" {
		return "", errors.New("this machine has no fingerprint to keep its measurements by")
	}
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "calibration", m.Fingerprint+".json"), nil
}

func readCalibration(name string) (*probe.Calibration, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return probe.ReadCalibration(f, name)
}

// noCalibration is the word for using none, saved or not.
const noCalibration = "none"

// usedCalibration is the measurements that a plan rests on.
type usedCalibration struct {
	*probe.Calibration
	saved string // the file that was found unasked
}

// calibrationFor finds what --calibration names, or else what was saved for
// this machine. What is wrong with the latter is told, and no error: nobody
// asked for it.
func (o *adviseOptions) calibrationFor(cmd *cobra.Command, m *probe.Machine) (usedCalibration, error) {
	if err := atMostOne(cmd, "calibration", "no-calibration"); err != nil {
		return usedCalibration{}, err
	}
	if o.bare || o.calibration == noCalibration {
		return usedCalibration{}, nil
	}
	if o.calibration != "" {
		c, err := readCalibration(o.calibration)
		if err != nil {
			return usedCalibration{}, usage("give a file that `berth experiment modes --save` wrote", "--calibration: %w", err)
		}
		return usedCalibration{Calibration: c}, nil
	}
	if cmd.Flags().Changed("machine") || !o.machine.live() {
		return usedCalibration{}, nil
	}
	return savedCalibration(cmd, m), nil
}

// savedCalibration is what was saved for the live machine, if anything was.
func savedCalibration(cmd *cobra.Command, m *probe.Machine) usedCalibration {
	name, err := calibrationFile(m)
	if foreign := (*foreignError)(nil); errors.As(err, &foreign) {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: no saved calibration is looked for: %v\n", err)
	}
	if err != nil { // nowhere to look
		return usedCalibration{}
	}
	c, err := readCalibration(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usedCalibration{}
	case err == nil && c.Fingerprint != m.Fingerprint:
		err = fmt.Errorf("%s is of machine %q, not of this one", name, c.Fingerprint)
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "berth: the saved calibration is left out: %v\n", err)
		return usedCalibration{}
	}
	return usedCalibration{c, name}
}

// note says which calibration was used unasked, and how old it is; empty: none.
func (c usedCalibration) note() string {
	if c.saved == "" {
		return ""
	}
	note := "calibration: " + c.saved
	if len(c.MeasuredAt) > 0 {
		var days []string
		for _, at := range c.MeasuredAt {
			days = append(days, at.UTC().Format(time.DateOnly))
		}
		first, last := slices.Min(days), slices.Max(days)
		note += ", measured " + first
		if last != first {
			note += " to " + last
		}
	}
	return note + "; --no-calibration plans without"
}

// mark puts the note into a plan.
func (c usedCalibration) mark(plan *advisor.Plan) {
	if note := c.note(); note != "" && plan != nil {
		plan.Assumptions = append(plan.Assumptions, note)
	}
}
