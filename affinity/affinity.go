// Package affinity seats threads and processes: on CPUs, with memory of chosen
// NUMA nodes, in a scheduling class. It reads back what the kernel made of each
// wish, and can undo it.
//
//   - [Set] and [Do] seat a thread of this program;
//   - [Exec] seats this process and becomes another program;
//   - a [Launcher] starts a process on a seat, in a [Group] if one is made;
//   - a [Run] starts several, looks after them, and draws up a [Receipt];
//   - a [Pinner] seats running processes, and an [UndoLog] remembers what they had;
//   - an [Occupancy] tells which threads are in each other's way.
//
// It needs Linux: elsewhere the package is empty.
package affinity
