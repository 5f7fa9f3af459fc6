// Package regret is a lab: how much of the speed of real programs is lost by the
// worker counts that berth and the common rules give, compared with the best
// count of all that were tried.
//
//	advisor/regret/setup                                    once, as root on Debian
//	go test -tags lab -v -timeout 60m ./advisor/regret      all programs
//	… -run TestRegret/python-fetch                          one of them
//
// Each program has a free count of workers and counts the units of its work. It
// is observed with one worker, advised from what was seen, and swept over all
// counts, interleaved and in random order. The regret of a count n is
// 1 − X(n)/X(best), X being units per second. The best count is chosen in every
// second repetition and its X read in the others, and the other way round;
// else a lucky run would be the best.
//
// In the environment:
//
//	WINDOW=700ms  one look at a program, after a warm-up of WARM=300ms
//	REPEATS=10    looks at each count at most; fewer where the interval of the
//	              median, with 95 % confidence, is within 3 % of it
//	LIMIT=1m      time to sweep one program in; four looks at each count are
//	              taken all the same, unless it is far from the best
//	COUNTS=1,2,4  the counts to try beside those of the rules
//	OBSERVE=10s   how long one worker is observed
//	TUNE=60s      time for berth tune; off leaves it out
//	BERTH=FILE    the berth to test; else the one of this checkout
//	RAW=FILE      all looks as JSON
//	QUICK=1       four programs and few looks, to see that everything runs
package regret
