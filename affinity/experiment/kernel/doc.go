// Package kernel holds the work that experiments let workers do: kernels that
// each load another part of a CPU, and the loops over memory that measure
// bandwidth, latency and the clock.
//
// The inner loops are assembly where a compiler would not make them; see
// Vectors. No call holds its thread from Go's preemption longer than about a
// millisecond.
//
// It needs Linux: elsewhere the package is empty.
package kernel
