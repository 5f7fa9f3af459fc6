//go:build linux

package events

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestScaled(t *testing.T) {
	for _, c := range []struct {
		value, enabled, running, want uint64
		ok                            bool
	}{
		{100, 10, 10, 100, true},
		{100, 10, 5, 200, true}, // it shared a counter with another event
		{0, 10, 0, 0, false},    // it never had one
		{0, 0, 0, 0, true},      // its thread never ran
	} {
		if got, ok := scaled(c.value, c.enabled, c.running); got != c.want || ok != c.ok {
			t.Errorf("scaled(%d, %d, %d) = %d, %t; want %d, %t", c.value, c.enabled, c.running, got, ok, c.want, c.ok)
		}
	}
}

// set opens a Set, or skips where the kernel lets nothing be counted.
func set(t *testing.T, tids ...int) *Set {
	s, err := Open(tids)
	if err != nil {
		t.Skipf("events cannot be counted here: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestFaults touches memory for the first time.
func TestFaults(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := set(t, unix.Gettid())
	const pages = 1000
	b, err := unix.Mmap(-1, 0, pages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL { // a kernel without them
		t.Fatal(err)
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	switch is := s.Read(); {
	case is.MinorFaults == nil:
		t.Skip("faults are not counted here")
	case *is.MinorFaults < pages || is.Threads != 1:
		t.Errorf("%d faults of %d threads; %d pages were touched by one", *is.MinorFaults, is.Threads, pages)
	}
}

// TestMoves sends a thread from CPU to CPU.
func TestMoves(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with its mask
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		t.Skipf("%d CPUs, %v", all.Count(), err)
	}
	s := set(t, unix.Gettid())
	const rounds = 50
	for i := range rounds {
		var one unix.CPUSet
		one.Set(nth(&all, i%2))
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
	}
	switch is := s.Read(); {
	case is.Moves == nil:
		t.Skip("moves are not counted here")
	case *is.Moves < rounds-1:
		t.Errorf("%d moves; it moved %d times at least", *is.Moves, rounds-1)
	}
}

func nth(s *unix.CPUSet, n int) int {
	for cpu := range len(s) * 64 {
		if s.IsSet(cpu) {
			if n == 0 {
				return cpu
			}
			n--
		}
	}
	return -1
}

// TestWork counts a program's instructions, on a machine that can.
func TestWork(t *testing.T) {
	c := exec.Command("sh", "-c", "while :; do :; done")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	s := set(t, c.Process.Pid)
	time.Sleep(300 * time.Millisecond)
	is := s.Read()
	if is.Instructions == nil {
		t.Skip("no PMU")
	}
	if *is.Instructions < 1e6 {
		t.Errorf("%d instructions", *is.Instructions)
	}
}

func TestNobody(t *testing.T) {
	if s, err := Open([]int{1 << 30}); err == nil {
		s.Close()
		t.Error("threads that are not there were counted")
	}
	s, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	if is := s.Read(); is.Threads != 0 || is.MinorFaults != nil {
		t.Errorf("%+v", is)
	}
}
