// Package program tells what runs in a process: its runtime, the server that it
// is, and the numbers of workers and threads that it was told to have.
//
// It needs Linux: elsewhere the package is empty.
package program
