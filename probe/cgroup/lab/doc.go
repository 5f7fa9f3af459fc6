// Package lab makes real control groups, lets busy loops run in them, and holds
// the budget that berth tells there against the limits that were written and
// against the CPU time that the loops get. It works in version 1, version 2 and
// mixed set-ups, in the group that it is started in:
//
//	go test -tags lab -v ./probe/cgroup/lab     as root, or as the owner of a delegated group
//
// Package vmlab runs it in virtual machines too. What the loops get is measured
// in windows that are whole periods of every quota, so that no part of a period
// counts twice. A window in which the loops got too little and other programs left
// no room is measured again.
package lab
