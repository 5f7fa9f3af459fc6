// Package lab compares package hwloc with lstopo over dumps of real machines. It
// needs the build tag lab, Debian's package hwloc and the dumps.
package lab
