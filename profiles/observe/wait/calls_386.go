//go:build linux

package wait

var particular = i386
