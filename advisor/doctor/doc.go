// Package doctor tells what is wrong on a live node: with the node's own
// settings, with the limits that its programs run under, and with the way in
// which busy threads sit on its CPUs.
//
// [Collect] looks for some seconds and gives [Facts]; [Diagnose] judges facts
// and touches nothing, so that it can be asked about a recorded node too. What
// is not known makes no finding, and idle threads make none either: threads
// weigh by the CPU time they use or wait for.
//
// Who is in whose way is judged by [affinity.Occupancy], the one judge of that.
//
// It needs Linux: elsewhere the package is empty.
package doctor
