// Package tune finds the best number of workers, and the CPUs for them, of a
// real command by running it.
//
// Counts and placements are arms. Rounds of runs, one of every arm that is still
// in question, go on until the best is known, each in an order drawn anew; the
// first goes from the best so far to its neighbours. An arm whose interval lies
// below that of the best is dropped, and counts between the best and its
// neighbours are added. Over the counts of one placement the Universal
// Scalability Law is fitted. Each run is seated by package affinity, in a process
// group of its own that is ended with it.
//
// It needs Linux: elsewhere the package is empty.
package tune
