// Package vmlab boots real kernels on machines of many shapes under QEMU's
// emulation and holds what berth says and does in them against what was asked
// for and what the guest's own files say. The timing of such a machine means
// nothing.
//
//	probe/vmlab/setup                      once, as root on Debian
//	go test -tags lab -v ./probe/vmlab     the quick guests
//
//	probe/vmlab/setup all; go test -tags lab -v -timeout 2h ./probe/vmlab -whole
//
// boots them all and prints a table of them.
package vmlab
