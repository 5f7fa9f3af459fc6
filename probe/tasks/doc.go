// Package tasks reads the kernel's account of running programs: which
// processes and threads there are, where each may run and did run, how long it
// ran and how long it waited for a CPU; and what else kept the CPUs busy.
//
// [Proc] lists and reads once; a [Sampler] follows the threads of a changing
// set of processes at little cost. The Parse functions read one file each. The
// formats are those of proc(5) and of the kernel's
// Documentation/filesystems/proc.rst, Documentation/scheduler/sched-stats.rst
// and Documentation/accounting/psi.rst.
//
// What the kernel does not tell is unknown: -1 for a number, empty for a set
// or a text. Nothing a process does while it is read is an error, its end
// least of all.
//
// It needs Linux: elsewhere the package is empty.
package tasks
