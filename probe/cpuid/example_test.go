package cpuid_test

import (
	"fmt"
	"log"

	"berth/probe/cpuid"
	"berth/probe/root"
)

// Two threads of one core, as two files that another machine wrote.
func ExampleReadDir() {
	dump := root.FromFiles(map[string]string{
		"pu0": `
1 0 0 0 0 => b 756e6547 6c65746e 49656e69
1 1 0 0 0 => 306f2 20800 0 10000000
5 b 0 0 0 => 1 2 100 0
5 b 0 1 0 => 4 2 201 0
5 4 0 0 0 => 1c004121 1c0003f 3f 0`,
		"pu1": `
1 0 0 0 0 => b 756e6547 6c65746e 49656e69
1 1 0 0 0 => 306f2 1020800 0 10000000
5 b 0 0 0 => 1 2 100 1
5 b 0 1 0 => 4 2 201 1
5 4 0 0 0 => 1c004121 1c0003f 3f 0`,
	})
	d, _, err := cpuid.ReadDir(dump.Dir)
	if err != nil {
		log.Fatal(err)
	}
	machine, _ := d.Topology()
	for _, core := range machine.Cores {
		fmt.Println("core", core.Index, "of package", *core.Package, "has CPUs", core.CPUs)
	}
	for _, cache := range machine.Caches {
		fmt.Printf("L%d %s cache of %d KiB for CPUs %s\n", cache.Level, cache.Type, *cache.Size>>10, cache.CPUs)
	}
	// Output:
	// core 0 of package 0 has CPUs 0-1
	// L1 data cache of 32 KiB for CPUs 0-1
}
