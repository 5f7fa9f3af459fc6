package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/affinity"
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

// saving is where --save puts what was measured; nil: nowhere.
type saving struct {
	cmd     *cobra.Command
	machine *probe.Machine
	name    string
	usual   bool // the place where berth advise looks
}

// cannotSave refuses --save for experiments that find nothing to keep.
func (o *experimentOptions) cannotSave(cmd *cobra.Command) error {
	if cmd.Flags().Changed("save") {
		return usage("modes, latency, switch and memory have some", "--save: %s measures nothing that a calibration holds", cmd.CommandPath())
	}
	return nil
}

// openSaving makes sure beforehand that there is a place to write to, so that
// no measurement is lost for want of one.
func (o *experimentOptions) openSaving(cmd *cobra.Command, m *probe.Machine) (*saving, error) {
	if o.save.value == "" || o.save.value == "false" {
		return nil, nil
	}
	s := &saving{cmd: cmd, machine: m, name: o.save.value}
	if s.name == alone {
		var err error
		if s.name, err = calibrationFile(m); err != nil {
			return nil, usage("name a file: --save=FILE", "--save: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(s.name), 0o700); err != nil { // as the XDG Base Directory Specification has it
			return nil, fmt.Errorf("make a place for the calibration: %w", err)
		}
		s.usual = true
	}
	if _, err := s.old(); err != nil {
		return nil, usage("name another file, or remove this one", "--save: %w", err)
	}
	f, err := createAtomic(s.name)
	if err != nil {
		return nil, fmt.Errorf("write calibration %s: %w", s.name, err)
	}
	f.discard()
	return s, nil
}

// old is what the file holds so far.
func (s *saving) old() (*probe.Calibration, error) {
	if info, err := os.Stat(s.name); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return &probe.Calibration{}, nil
	}
	c, err := readCalibration(s.name)
	if err == nil && c.Fingerprint != "" && c.Fingerprint != s.machine.Fingerprint {
		err = fmt.Errorf("%s holds the calibration of machine %s, and this is machine %s", s.name, c.Fingerprint, s.machine.Fingerprint)
	}
	return c, err
}

// finish merges what was found into the file, and says what went where.
func (s *saving) finish(r *result, by syscall.Signal) error {
	if s == nil {
		return nil
	}
	nothing := func(why string) error {
		fmt.Fprintf(s.cmd.ErrOrStderr(), "berth: nothing was saved: %s\n", why)
		return nil
	}
	switch {
	case by != 0:
		return nothing("the experiment was ended early")
	case r.head.Verdict != affinity.Measured:
		return nothing("the result is inconclusive")
	}
	c, err := s.old() // again: another experiment may have ended meanwhile
	if err != nil {
		return fmt.Errorf("save the calibration: %w", err)
	}
	found, ok := r.report.(interface {
		Calibrate(*probe.Calibration) []string
	})
	if !ok {
		return nothing("this experiment measures nothing that a calibration holds")
	}
	keys := found.Calibrate(c)
	if len(keys) == 0 {
		return nothing("the report has nothing that a calibration holds; it says what was left out, and why")
	}
	if err := writeCalibration(s.name, c); err != nil {
		return fmt.Errorf("write calibration %s: %w", s.name, err)
	}
	use := "`berth advise` uses it on this machine"
	if !s.usual {
		use = "use it by `berth advise --calibration " + s.name + "`"
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "berth: saved %s to %s; %s\n", strings.Join(keys, ", "), s.name, use)
	return nil
}

func writeCalibration(name string, c *probe.Calibration) error {
	f, err := createAtomic(name)
	if err != nil {
		return err
	}
	if err := writeJSON(f, c); err != nil {
		f.discard()
		return err
	}
	if err := f.commit(); err != nil {
		f.discard()
		return err
	}
	return nil
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
