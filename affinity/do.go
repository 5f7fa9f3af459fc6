//go:build linux

package affinity

import (
	"fmt"
	"runtime"

	"berth/probe"
	"berth/probe/cpuset"
)

// Do runs f on a thread that sits on a set of CPUs, and returns when f is done.
// The thread is f's alone meanwhile. Afterwards it gets its CPUs back; where
// that fails, the thread is ended rather than given to other goroutines.
//
// f runs on a goroutine of its own, so that a panic of it comes back to the
// caller, and those that f starts are not seated. For f to keep a CPU busy while
// others do, GOMAXPROCS must be at least their number: else the Go scheduler,
// not the kernel, shares the CPUs out.
//
// Where the kernel trims the set, f does not run, and the error is a [*Trimmed].
func Do(set cpuset.Set, f func()) error {
	var failed error
	var thrown any
	panicked := true
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		old, err := probe.Affinity(0)
		if err != nil {
			panicked, failed = false, err
			runtime.UnlockOSThread()
			return
		}
		defer func() {
			if panicked {
				thrown = recover()
			}
			if _, err := Set(0, old); err == nil {
				runtime.UnlockOSThread()
			}
			// Else the goroutine ends locked, and its thread with it.
		}()
		if _, err := Set(0, set); err != nil {
			panicked, failed = false, fmt.Errorf("run on CPUs %s: %w", set, err)
			return
		}
		f()
		panicked = false
	}()
	<-done
	if panicked && thrown != nil {
		panic(thrown)
	}
	if panicked {
		runtime.Goexit() // as f did
	}
	return failed
}
