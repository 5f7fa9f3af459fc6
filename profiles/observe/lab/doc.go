// Package lab watches real programs of known class with `berth observe` and
// compares. The class of every program is shown by evidence that berth has no
// part in, collected anew in each run: what /proc counts for its threads, where
// strace sees them wait, which connections are open, what the program or its
// control group counts itself.
//
//	profiles/observe/lab/setup                                   once, as root on Debian
//	go test -tags lab -v -timeout 1h -run TestClasses ./profiles/observe/lab
//	go test -tags lab -v -run TestClasses/redis ./profiles/observe/lab
//	go test -tags lab -v -timeout 1h -run TestLabels ./profiles/observe/lab   the evidence alone
//	go test -tags lab -v -run TestQuick ./profiles/observe/lab   needs Python and a C compiler
//
// TestStarted has berth start the program itself.
//
// DURATIONS is how long to observe each program ("10s 3s"); a wrong class fails
// the test at ten seconds or more, and in TestQuick. REPORT names a file for the
// tables, in Markdown, and BERTH a berth to try in place of one built from the
// source, both absolute. The machine must be quiet and have two CPUs or more;
// programs that are not installed are skipped. Traffic stays on loopback, and all
// that is started ends with its test.
package lab
