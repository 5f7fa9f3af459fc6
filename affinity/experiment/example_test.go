//go:build linux

package experiment_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"berth/affinity/experiment"
	"berth/probe"
)

// A program that runs experiments calls Worker first in main: its workers are
// processes of the same program.
func Example() {
	experiment.Worker()

	ctx := context.Background()
	machine, err := probe.Probe(ctx, probe.Live())
	if err != nil {
		log.Fatal(err)
	}
	report, err := experiment.Modes(ctx, experiment.Settings{Machine: machine, Limit: 10 * time.Second},
		experiment.ModesOptions{Kernels: []string{"integer"}, Carriers: []experiment.Carrier{experiment.Processes}})
	if err != nil {
		log.Fatal(err)
	}
	for _, run := range report.Runs {
		fmt.Println(run.Mode, run.CPUs, run.Relative, run.Verdict)
	}
}
