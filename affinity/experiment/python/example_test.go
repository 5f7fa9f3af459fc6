//go:build linux

package python_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"berth/affinity/experiment/python"
)

// Two threads of pure Python get no more done than one, unless there is no GIL.
func Example() {
	ctx := context.Background()
	for _, p := range python.Find(ctx) {
		s, err := python.Start(ctx, p, python.Options{})
		if err != nil {
			log.Print(err)
			continue
		}
		for _, n := range []int{1, 2} {
			r, err := s.Trial(ctx, python.Trial{Work: python.CPU, Carrier: python.Threads, Workers: n, Window: 300 * time.Millisecond})
			if err != nil {
				log.Print(err)
				break
			}
			fmt.Printf("%s %s: %d threads, %.0f turns a second\n", p.Implementation, p.Version, n, r.PerSecond)
		}
		s.Close()
	}
}
