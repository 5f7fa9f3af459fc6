// Berth finds a berth for every thread: it says what a process may use of its
// machine, how many workers fit a workload and where, and whether that is true.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	beforeAll()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	stdout, stderr = readers(stdout, stderr)
	root := newRootCmd()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	var status *statusError
	if errors.As(err, &status) {
		if status.err != nil {
			fmt.Fprintf(stderr, "berth: %v\n", err)
		}
		return status.status
	}
	fmt.Fprintf(stderr, "berth: %v\n", err)
	var usage *usageError
	if errors.As(err, &usage) {
		if usage.hint != "" {
			fmt.Fprintf(stderr, "hint: %s\n", usage.hint)
		}
		return 2
	}
	if strings.HasPrefix(err.Error(), "unknown command ") { // cobra's own, of its own commands
		return 2
	}
	return 1
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "berth COMMAND",
		Short: "Find a berth for every thread",
		Long: `berth says what this process may use of its machine, how many workers a
workload should have and where, and whether that holds when it runs.

CPU numbers are Linux numbers everywhere. Data goes to standard output, all else
to standard error. Exit status: 0 fine, 1 failed, 2 bad usage or input.`,
		Example: `  berth inspect                   what this process may use, and the machine's tree
  berth inspect -o json           the same for programs
  make -j"$(berth nproc)"         as many jobs as the CPU budget carries
  berth advise web-sync-python    how many workers, where, and why
  berth run -c 0-3 -- ./server    a program on four CPUs
  berth ps                        who sits where
  berth observe --pid 4711        what holds a program up, and its profile
  berth tune -n 1..16 -- cmd {n}  the best number of workers, by trying
  berth doctor                    what is wrong on this node now
  berth fleet inspect             the shapes of many nodes, by ssh or Slurm
  berth experiment study          what is taught of threads, tested here`,
		Version:       version(),
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("berth {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath()), "%w", err)
	})
	root.AddCommand(
		newAdviseCmd(),
		newEmitCmd(),
		newInspectCmd(),
		newNprocCmd(),
		newPlaceCmd(),
		newProfilesCmd(),
		newSchemaCmd(),
		newSnapshotCmd(),
		newVersionCmd(),
	)
	root.AddCommand(systemCmds()...)
	return root
}
