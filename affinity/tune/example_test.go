//go:build linux

package tune_test

import (
	"context"
	"fmt"

	"berth/affinity/tune"
)

// The command says itself how fast it was.
func ExampleRun() {
	counts, err := tune.ParseCounts("1..16:x2")
	if err != nil {
		fmt.Println(err)
		return
	}
	metric, err := tune.Printed(`rate=([\d.]+)`, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := tune.Run(context.Background(), tune.Settings{
		Command: []string{"sh", "-c", "echo rate=$((1000 * {n} / ({n} + 3)))"},
		Counts:  counts,
		Metric:  metric,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("best %d, knee %d of %d points\n", report.Best.N, report.Knee.N, len(report.Points))
	// Output: best 16, knee 16 of 5 points
}

func ExampleLaw_Peak() {
	law := tune.Law{Lambda: 100, Sigma: 0.02, Kappa: 0.0098}
	fmt.Printf("%.0f workers, %.0f per second\n", law.Peak(), law.At(10))
	// Output: 10 workers, 485 per second
}
