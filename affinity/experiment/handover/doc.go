// Package handover measures how long one thread or process takes to let another
// one run, and a cache line to go from one CPU to another. A call is one trial;
// repeating trials and judging them is the caller's part.
//
// The timed loops cannot be preempted by the Go scheduler, and wait in raw system
// calls, of which it does not know. During a call, therefore:
//
//   - GOMAXPROCS is raised where it is lower than the loops and the rest of the
//     program need; setting it back is an explicit setting too, after which Go
//     no longer follows changes of the CPU quota;
//   - the garbage collector runs once and is then off; one that is asked for, and
//     all else that stops the world, waits with every other goroutine until the
//     trial is over;
//   - other calls in the same process wait for their turn.
//
// So a process of its own is the best place for it. A trial that makes no
// progress for ten seconds is given up, with an error.
//
// It needs Linux: elsewhere the package is empty.
package handover
