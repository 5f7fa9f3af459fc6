//go:build !linux

package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func beforeAll() {}

// systemCmds stand for the commands that only Linux has, and say so.
func systemCmds() []*cobra.Command {
	var cmds []*cobra.Command
	for _, name := range [...]string{"compare", "doctor", "experiment", "fleet", "observe", "pin", "ps", "run", "tune"} {
		cmds = append(cmds, &cobra.Command{
			Use:                name,
			Short:              "Linux only",
			DisableFlagParsing: true, // whatever they are
			RunE: func(*cobra.Command, []string) error {
				return fmt.Errorf("%s: Linux only, and this is %s", name, runtime.GOOS)
			},
		})
	}
	return cmds
}
