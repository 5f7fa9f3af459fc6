// Package lab hands what emit writes to the programs that it is for: they must
// accept it, and what the kernel says of the processes that come of it must be
// what was planned. Every check is also shown to be able to fail.
//
//	advisor/emit/lab/setup                     once, as root on Debian
//	go test -tags lab -v ./advisor/emit/lab
//
// All traffic is on loopback, and all that is started is a child of the test.
package lab
