//go:build linux

package experiment

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/affinity/experiment/handover"
	"berth/affinity/experiment/kernel"
	"berth/probe"
)

// Workers inherit, from descriptor 3 on, the files of handover.Shared and behind
// them the memory of the pointer chase, where there is one.
const filesEnv = "BERTH_EXPERIMENT_FILES"

const firstFile = 3

func openShared() (*handover.Shared, error) {
	return handover.OpenShared(firstFile)
}

// chaseFile is the descriptor of the chase's memory; -1: there is none.
func chaseFile() int {
	n, err := strconv.Atoi(os.Getenv(filesEnv))
	if err != nil || n <= handover.Files {
		return -1
	}
	return firstFile + handover.Files
}

// mapping is memory that a worker has mapped.
type mapping struct{ data []byte }

func (m *mapping) release() {
	if m != nil {
		unix.Munmap(m.data)
	}
}

// chaseMemory maps what the parent has filled: one copy for all workers, so that
// as many as there are work beyond the cache without as many times the memory.
func (s *station) chaseMemory(size int64) ([]byte, error) {
	if s.chase != nil && int64(len(s.chase.data)) == size {
		return s.chase.data, nil
	}
	fd := chaseFile()
	if fd < 0 {
		return nil, errors.New("map the memory of the pointer chase: it was not inherited")
	}
	data, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for the pointer chase: %w", size, err)
	}
	s.chase.release()
	s.chase = &mapping{data}
	return data, nil
}

// streamMemory is the worker's own, on the NUMA node of whoever touches it first.
func (s *station) streamMemory(size int64) ([]byte, error) {
	if s.stream != nil && int64(len(s.stream.data)) == size {
		return s.stream.data, nil
	}
	data, err := anonymous(size)
	if err != nil {
		return nil, err
	}
	s.stream.release()
	s.stream = &mapping{data}
	return data, nil
}

// anonymous maps memory in huge pages where the system gives them unasked or on
// advice.
func anonymous(size int64) ([]byte, error) {
	data, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	unix.Madvise(data, unix.MADV_HUGEPAGE) // advice: may be refused
	return data, nil
}

// sharedChase is memory filled for the pointer chase, to be inherited.
func sharedChase(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("berth-chase", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory for the pointer chase: %w", err)
	}
	f := os.NewFile(uintptr(fd), "berth-chase")
	fill := func() error {
		if err := f.Truncate(size); err != nil {
			return err
		}
		data, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(data)
		unix.Madvise(data, unix.MADV_HUGEPAGE)
		kernel.FillChase(data)
		return nil
	}
	if err := fill(); err != nil {
		f.Close()
		return nil, fmt.Errorf("fill %d bytes for the pointer chase: %w", size, err)
	}
	return f, nil
}

// spare is the memory that an experiment may take, in bytes: half of what is
// free now within the limits that hold for this process.
func spare(m *probe.Machine) int64 {
	free := int64(1) << 30
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
				if kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64); err == nil {
					free = kb << 10
				}
			}
		}
	}
	if limit := m.Limits.MemoryBytes; limit != nil {
		free = min(free, *limit)
	}
	return free / 2
}
