// Package wait tells what a blocked thread waits for: a disk, the network, a
// lock, a timer and so on.
//
// It asks /proc/PID/task/TID/syscall for the system call and its arguments
// (proc(5)), the links in /proc/PID/fd for what stands behind a descriptor,
// /proc/PID/mem for lists of descriptors and time limits, and the file wchan
// for the place in the kernel where the others leave it open. A [Reader] keeps
// open what it reads often and does not allocate once it knows a thread.
//
// The file syscall needs the right to trace the process (ptrace(2)): the same
// user with no Yama restriction, or CAP_SYS_PTRACE. Without it
// [Reader.Denied] is true and only wchan and the state are left, which tell
// some locks, pipes and sleeps and leave the rest unknown.
//
// Programs of another word size number their calls differently. Those of 32 bits
// are known on amd64; elsewhere wchan tells of them, too.
//
// It needs Linux: elsewhere the package is empty.
package wait
