//go:build linux

// Package events counts what the kernel and the processor count of threads, as
// far as kernel.perf_event_paranoid lets it (perf_event_open(2)): moves between
// CPUs, page faults and, where there is a PMU, instructions, cycles and misses
// of the last-level cache.
package events

import (
	"encoding/binary"
	"errors"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// event is one of the things counted.
type event int

const (
	moves event = iota
	majorFaults
	minorFaults
	instructions
	cycles
	misses
	numEvents
)

// meaning is how the kernel calls each (include/uapi/linux/perf_event.h).
// Moves happen in the kernel, so that leaving out what it does leaves none.
var meaning = [numEvents]struct {
	kind     uint32
	config   uint64
	inKernel bool
}{
	moves:        {unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_CPU_MIGRATIONS, true},
	majorFaults:  {unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_PAGE_FAULTS_MAJ, false},
	minorFaults:  {unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_PAGE_FAULTS_MIN, false},
	instructions: {unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_INSTRUCTIONS, false},
	cycles:       {unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CPU_CYCLES, false},
	misses:       {unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CACHE_MISSES, false},
}

// Counts are sums over threads since [Open]. Nil is unknown: this machine does
// not count it, or the caller may not.
type Counts struct {
	Threads int `json:"threads" yaml:"threads"` // that were counted at all
	// Moves is how often they were put on another CPU than before.
	Moves *uint64 `json:"cpu_migrations,omitempty" yaml:"cpu_migrations,omitempty"`
	// MajorFaults had to wait for a disk, MinorFaults only for a page.
	MajorFaults *uint64 `json:"major_faults,omitempty" yaml:"major_faults,omitempty"`
	MinorFaults *uint64 `json:"minor_faults,omitempty" yaml:"minor_faults,omitempty"`
	// What follows is of the PMU. Where it had fewer counters than were asked
	// for, it is scaled up by the share of the time that each had one.
	Instructions *uint64 `json:"instructions,omitempty" yaml:"instructions,omitempty"`
	Cycles       *uint64 `json:"cycles,omitempty" yaml:"cycles,omitempty"`
	// Misses are of what the processor's maker calls the last level of cache.
	Misses *uint64 `json:"llc_misses,omitempty" yaml:"llc_misses,omitempty"`
	// UserOnly: what the kernel did for the threads is not in PMU's counts and
	// faults, as the caller may not count it.
	UserOnly bool `json:"user_only,omitempty" yaml:"user_only,omitempty"`
}

// Set counts the events of some threads until it is closed.
type Set struct {
	files    [][numEvents]int // of each thread; -1 is not counted
	userOnly bool
}

// Open begins to count for threads, and for those that they start from then on.
// Threads that are gone, or another user's, are passed over; the error says why
// nothing at all can be counted.
func Open(tids []int) (*Set, error) {
	s := &Set{}
	var refused error
	var without [numEvents]bool // a machine that lacks an event lacks it for every thread
	for _, tid := range tids {
		files, some := [numEvents]int{}, false
		for e := range numEvents {
			files[e] = -1
			if without[e] {
				continue
			}
			fd, err := s.open(e, tid)
			switch {
			case err == nil:
				files[e], some = fd, true
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, errKernelOnly):
				without[e] = true
			}
			if err != nil && (refused == nil || !errors.Is(err, unix.ESRCH)) {
				refused = err
			}
		}
		if some {
			s.files = append(s.files, files)
		}
	}
	if len(s.files) == 0 && refused != nil {
		return nil, refused
	}
	return s, nil
}

var errKernelOnly = errors.New("this happens in the kernel, which kernel.perf_event_paranoid keeps from being counted")

func (s *Set) open(e event, tid int) (int, error) {
	m := &meaning[e]
	attr := unix.PerfEventAttr{
		Type: m.kind, Config: m.config, Bits: unix.PerfBitInherit,
		Read_format: unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
	}
	attr.Size = uint32(unsafe.Sizeof(attr))
	if !s.userOnly {
		fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
			return fd, err
		}
	}
	attr.Bits |= unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv
	fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	s.userOnly = true
	if m.inKernel {
		_ = unix.Close(fd)
		return -1, errKernelOnly
	}
	return fd, nil
}

// Read sums up what was counted until now.
func (s *Set) Read() Counts {
	var sums [numEvents]*uint64
	for _, files := range s.files {
		for e, fd := range files {
			if fd < 0 {
				continue
			}
			if n, ok := count(fd); ok {
				if sums[e] == nil {
					sums[e] = new(uint64)
				}
				*sums[e] += n
			}
		}
	}
	return Counts{
		Threads: len(s.files), UserOnly: s.userOnly,
		Moves: sums[moves], MajorFaults: sums[majorFaults], MinorFaults: sums[minorFaults],
		Instructions: sums[instructions], Cycles: sums[cycles], Misses: sums[misses],
	}
}

// count reads a counter. One that had a place in the PMU for a part of the time
// only is scaled up, as perf does; one that never had any says nothing, unless
// its thread never ran.
func count(fd int) (uint64, bool) {
	var b [24]byte // value, nanoseconds enabled, nanoseconds running
	if n, err := unix.Read(fd, b[:]); err != nil || n < len(b) {
		return 0, false
	}
	value, enabled, running := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])
	return scaled(value, enabled, running)
}

func scaled(value, enabled, running uint64) (uint64, bool) {
	switch {
	case running >= enabled:
		return value, true
	case running == 0:
		return 0, false
	}
	return uint64(float64(value) * float64(enabled) / float64(running)), true
}

// Close ends the counting.
func (s *Set) Close() {
	for _, files := range s.files {
		for _, fd := range files {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
	}
	s.files = slices.Delete(s.files, 0, len(s.files))
}
