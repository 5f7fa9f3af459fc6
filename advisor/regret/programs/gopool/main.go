//go:build lab

// Command gopool is a pool of goroutines: gopool KIND N. Each worker counts what
// it has done in its own cell of the file COUNTER, 64 bytes apart, until the
// program is ended. SERVICE is the port of the slow service.
package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	cells = 256
	cell  = 64
)

var sink atomic.Uint64

// compute takes about that many microseconds.
func compute(us int) {
	x := uint64(1)
	for range us * 600 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	sink.Store(x)
}

// fetch is 1 ms of work on what a service gave after 9 ms.
func fetch() func() error {
	c, err := net.Dial("tcp", "127.0.0.1:"+os.Getenv("SERVICE"))
	request := binary.NativeEndian.AppendUint32(nil, 9000)
	answer := make([]byte, 1)
	return func() error {
		if err != nil {
			return err
		}
		if _, err := c.Write(request); err != nil {
			return err
		}
		if _, err := c.Read(answer); err != nil {
			return err
		}
		compute(1000)
		return nil
	}
}

func busy() func() error {
	return func() error { compute(1000); return nil }
}

var kinds = map[string]func() func() error{"fetch": fetch, "busy": busy}

func fail(code int, err any) {
	fmt.Fprintln(os.Stderr, "gopool:", err)
	os.Exit(code)
}

func main() {
	n := 0
	if len(os.Args) == 3 && kinds[os.Args[1]] != nil {
		n, _ = strconv.Atoi(os.Args[2])
	}
	if n < 1 || n > cells {
		fail(2, "usage: gopool fetch|busy N")
	}
	counter := make([]byte, cells*cell)
	if name := os.Getenv("COUNTER"); name != "" {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			fail(1, err)
		}
		if counter, err = syscall.Mmap(int(f.Fd()), 0, cells*cell, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
			fail(1, err)
		}
	}
	for i := range n {
		item, mine := kinds[os.Args[1]](), (*uint64)(unsafe.Pointer(&counter[i*cell]))
		go func() {
			for {
				if err := item(); err != nil {
					fail(1, err)
				}
				atomic.AddUint64(mine, 1)
			}
		}()
	}
	select {}
}
