//go:build linux

package handover_test

import (
	"fmt"

	"berth/affinity/experiment/handover"
	"berth/probe"
	"berth/probe/cpuset"
)

// A switch between two threads that share a CPU.
func ExampleThreads() {
	allowed, err := probe.Affinity(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	seat := cpuset.Of(allowed.First())
	r, err := handover.Threads(handover.Futex, [2]cpuset.Set{seat, seat}, 1000)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Rounds, "round trips; both threads on that CPU:", r.RanOn[0].Equal(seat) && r.RanOn[1].Equal(seat))
	// Output: 1000 round trips; both threads on that CPU: true
}
