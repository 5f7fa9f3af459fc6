//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"berth/affinity"
	"berth/probe"
)

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
