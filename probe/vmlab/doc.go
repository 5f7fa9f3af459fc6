// Package vmlab boots real kernels on machines of several shapes under QEMU's
// emulation and holds what berth says in them against what was asked for and
// what the guest's own files say. The timing of such a machine means nothing.
//
//	probe/vmlab/setup                      once, as root on Debian
//	go test -tags lab -v ./probe/vmlab
package vmlab
