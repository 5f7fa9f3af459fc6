//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"berth/advisor"
	"berth/advisor/emit"
)

// applyOptions stand for the flags that only Linux has.
type applyOptions struct{ at, undo string }

func (*applyOptions) bind(*cobra.Command)        {}
func (*applyOptions) given(*cobra.Command) error { return nil }
func (*applyOptions) run(*cobra.Command, *advisor.Plan, emit.Target, bool) error {
	return errors.ErrUnsupported
}
func (*applyOptions) runUndo(*cobra.Command, []string) error { return errors.ErrUnsupported }
