// Package observe measures a running program from outside, by what the kernel
// tells of its threads, and says what holds it up: a class, the shares of its
// time, and a profile of one unit of its work.
//
// A Watch collects, in windows of half a second: the scheduler's account of
// every thread, what its threads wait for while they are off the CPU, how CPU
// quotas stopped it and what others took of its CPUs. It stops, traces and
// changes nothing. What the windows mean is decided afterwards and purely.
//
// Threads count by the work they do: the shares of a thread weigh as much as
// the CPU time it used. Helpers that sleep for good thus say nothing about a
// program, however many there are.
//
// It needs Linux: elsewhere the package is empty.
package observe
