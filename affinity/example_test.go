//go:build linux

package affinity_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
)

// A pool of goroutines, each on a CPU of its own.
func ExampleDo() {
	allowed, err := probe.Affinity(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	work := make(chan int)
	var pool sync.WaitGroup
	for cpu := range allowed.All() {
		pool.Go(func() {
			err := affinity.Do(cpuset.Range(cpu, cpu), func() {
				for range work {
					// One task.
				}
			})
			if err != nil {
				fmt.Println(err)
			}
		})
	}
	for task := range 100 {
		work <- task
	}
	close(work)
	pool.Wait()
	fmt.Println("done")
	// Output: done
}

// Workers on seats, and the receipt that says where they sat.
func ExampleRun() {
	allowed, err := probe.Affinity(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	seat := cpuset.Range(allowed.First(), allowed.First())
	run := &affinity.Run{Watch: true, StopOnFailure: true}
	for i := range 2 {
		run.Workers = append(run.Workers, affinity.Worker{
			Command: exec.Command("sh", "-c", "exit 0"),
			Seat:    affinity.Seat{Worker: i, CPUs: seat},
		})
	}
	receipt, err := run.Do(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range receipt.Workers {
		fmt.Println("worker", w.Index, "ended with", w.Exit.Status())
	}
	fmt.Println("every seat was kept:", receipt.Kept)
	// Output:
	// worker 0 ended with 0
	// worker 1 ended with 0
	// every seat was kept: true
}

// One process, started on its seat.
func ExampleLauncher() {
	l, err := affinity.NewLauncher()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	allowed, err := probe.Affinity(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	seat := cpuset.Range(allowed.Last(), allowed.Last())
	var out strings.Builder
	cmd := exec.Command("grep", "^Cpus_allowed_list:", "/proc/self/status")
	cmd.Stdout = &out
	if trim, err := l.Start(cmd, affinity.Seat{CPUs: seat}); err != nil || trim != nil {
		fmt.Println(trim, err)
		return
	}
	if err := cmd.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Fields(out.String())[1] == seat.String())
	// Output: true
}
