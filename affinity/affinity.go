// Package affinity seats threads and processes on CPUs and proves where they
// sat.
package affinity
