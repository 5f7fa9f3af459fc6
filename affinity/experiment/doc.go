// Package experiment measures what a machine does with several workers: on
// cores of their own, on SMT siblings, too many for the CPUs; how long a cache
// line, a wake-up and memory take; and what Python's lock allows.
//
// Every experiment is a set of arms, each one way of doing the work. Rounds of
// trials, one of every arm in an order drawn anew, are repeated until the
// medians are known well enough or the time is up. Workers are processes made
// from this program (see [Worker]), seated by package affinity, started
// together, timed over a window in which all of them run, and checked against
// the CPUs that they were seen on. What else the CPUs did meanwhile is watched:
// a trial that was disturbed does not count, and a result with too few that
// count is inconclusive.
//
// It needs Linux: elsewhere the package is empty.
package experiment
