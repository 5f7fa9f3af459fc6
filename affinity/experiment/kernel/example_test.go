//go:build linux

package kernel_test

import (
	"fmt"

	"berth/affinity/experiment/kernel"
)

func Example() {
	c := kernel.Config{Chase: make([]byte, 1<<20)}
	kernel.FillChase(c.Chase)
	work, err := kernel.New("memory-latency", c)
	if err != nil {
		fmt.Println(err)
		return
	}
	units := work() + work()
	fmt.Println(units, kernel.Unit("memory-latency"))
	// Output: 512 accesses
}
