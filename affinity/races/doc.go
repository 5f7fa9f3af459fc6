// Package races holds berth against a kernel that changes under it, and one that
// denies what others grant: a cpuset that shrinks under a pinned program, threads
// that are born by the thousand while they are seated, numbers of processes that
// come back, /proc with hidepid, no /sys or one that cannot be written, a seccomp
// filter, few descriptors, and a full disk for every file that berth writes. Each
// test prints how often it did so.
//
//	go test -tags lab -v ./affinity/races
//
// It needs root, and skips what the kernel does not have. What it mounts, it
// mounts for itself alone: nothing outlives it.
package races
