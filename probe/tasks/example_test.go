//go:build linux

package tasks_test

import (
	"fmt"
	"os"
	"regexp"
	"time"

	"berth/probe/tasks"
)

// Where a process may run, where it did, and what it cost to know.
func ExampleSampler() {
	sampler := tasks.NewSampler("", tasks.Options{Children: true})
	defer sampler.Close()
	if err := sampler.Follow(os.Getpid(), time.Now()); err != nil {
		fmt.Println(err)
		return
	}
	for range 5 {
		burn(5 * time.Millisecond) // some work
		sampler.Sample(time.Now())
	}
	sampler.Finish(time.Now())

	var onCPU time.Duration
	outside := 0
	for _, t := range sampler.Threads() {
		onCPU += t.Used.OnCPU
		if !t.RanOn.SubsetOf(t.Allowed) {
			outside++
		}
	}
	fmt.Println("worked for 20 ms or more:", onCPU >= 20*time.Millisecond)
	fmt.Println("threads that ran where they may not:", outside)
	// Output:
	// worked for 20 ms or more: true
	// threads that ran where they may not: 0
}

func ExampleList_Match() {
	var proc tasks.Proc // /proc
	all, err := proc.Processes()
	if err != nil {
		fmt.Println(err)
		return
	}
	this := regexp.MustCompile(regexp.QuoteMeta(os.Args[0]))
	for _, p := range all.Match(this) {
		if p.PID == os.Getpid() {
			fmt.Println("found this process, of user", p.UID == os.Getuid())
		}
	}
	// Output: found this process, of user true
}
