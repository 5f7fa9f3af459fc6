// Package affinity seats threads and processes: on CPUs, with memory of chosen
// NUMA nodes, in a scheduling class. It reads back what the kernel made of each
// wish, and can undo it.
//
//   - [Set] and [Do] seat a thread of this program;
//   - [Exec] seats this process and becomes another program;
//   - a [Launcher] starts seated processes;
//   - [Pin] seats a running process.
package affinity
