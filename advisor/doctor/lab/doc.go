// Package lab makes for real what package doctor is to find: groups with a
// quota, piles on one CPU, teams of threads, servers with too many workers. It
// holds only tests, which need root and the build tag lab:
//
//	go test -tags lab ./advisor/doctor/lab
//
// What is not installed is skipped, and said so: gcc with OpenMP, nginx,
// gunicorn, java, ab; profiles/observe/lab/setup installs all but the last. Each case looks at its own processes alone, so that what
// else runs on the machine is not its affair.
package lab
