package probe

import (
	"errors"
	"fmt"
	"os"

	"berth/probe/cgroup"
	"berth/probe/cpuid"
	"berth/probe/finding"
	"berth/probe/hwloc"
	"berth/probe/root"
	"berth/probe/synthetic"
	"berth/probe/sysfs"
	"berth/probe/topology"
)

// Source says where a machine's facts come from: [Live], [Sysroot], [CPUID],
// [HwlocXML] or [Synthetic] make one. Its fields narrow or widen what is read.
type Source struct {
	// Root is where files are read; nil for none.
	Root *root.Root
	// Only restricts what is read to what is needed; zero reads everything.
	Only Parts
	// EveryCPUID also visits isolated and nohz_full CPUs to read their CPUID,
	// which disturbs what runs there.
	EveryCPUID bool

	dump  *cpuid.Dump
	odd   []finding.Finding // of the dump or of hwloc's file
	shape *topology.Topology
	hwloc *hwloc.Machine
}

// Close gives back what the source holds open.
func (s Source) Close() error {
	if s.Root == nil {
		return nil
	}
	return s.Root.Close()
}

// Parts names what a caller needs of a machine.
type Parts uint

const (
	Budget   Parts = 1 << iota // online, affinity, cpuset and CPU quota: always read
	Cores                      // packages, dies, clusters, cores, SMT
	Caches                     // caches, their sizes and who shares them
	Geometry                   // the line sizes and ways of caches; implies Caches
	NUMA                       // nodes, memory, distances
	Kinds                      // core kinds
	Identity                   // vendor, brand, features, host
	Devices                    // NICs, GPUs, NVMe
	Memory                     // memory limits, weights, throttling
)

func (s Source) wants(p Parts) bool { return s.Only == 0 || s.Only&p != 0 }

func (s Source) sysfsNeed() sysfs.Need {
	var need sysfs.Need
	if s.wants(Cores | Kinds) {
		need |= sysfs.Cores
	}
	if s.wants(Caches | Geometry | Kinds) { // low-power cores are told by their missing L3
		need |= sysfs.Caches
	}
	if s.wants(Geometry) {
		need |= sysfs.Geometry
	}
	if s.wants(NUMA) {
		need |= sysfs.NUMA
	}
	if s.wants(Kinds) {
		need |= sysfs.Kinds
	}
	return need
}

func (s Source) cgroupNeed() cgroup.Need {
	need := cgroup.CPU | cgroup.CPUSet
	if s.wants(Memory) {
		need = cgroup.Everything
	}
	if s.wants(NUMA) {
		need |= cgroup.Mems
	}
	return need
}

// Live is the machine that this process runs on.
func Live() Source { return Source{Root: root.Live()} }

// Sysroot is a machine whose /sys and /proc are copied to a directory or a tar
// archive (plain, gzip, xz, zstd).
func Sysroot(path string) (Source, error) {
	r, err := root.Open(path)
	if err != nil {
		return Source{}, err
	}
	return Source{Root: r}, nil
}

// CPUID is a machine of which only a CPUID dump is known: a directory of files
// pu0, pu1 …, a tar archive of one (in its folder cpuid, as in a snapshot, or
// at its top), or an InstLatX64 text file.
func CPUID(path string) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Source{}, fmt.Errorf("open CPUID dump: %w", err)
	}
	if info.Mode().IsRegular() && !root.IsArchive(path) {
		data, err := readText(path)
		if err != nil {
			return Source{}, fmt.Errorf("open CPUID dump: %w", err)
		}
		dump, odd, err := cpuid.ParseText(data, path)
		return Source{dump: dump, odd: odd}, err
	}
	r, err := root.Open(path)
	if err != nil {
		return Source{}, err
	}
	defer r.Close()
	dir := r.Dir
	if inner, err := r.Open("cpuid"); err == nil {
		defer inner.Close()
		dir = inner
	}
	dump, odd, err := cpuid.ReadDir(dir)
	if err != nil {
		return Source{}, fmt.Errorf("CPUID dump %s: %w", path, err)
	}
	return Source{dump: dump, odd: append(r.Findings, odd...)}, nil
}

// readText reads a dump file, which is small if it is one.
func readText(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > root.MaxFile {
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("too large for a CPUID dump")}
	}
	return os.ReadFile(path)
}

// Synthetic is a machine made from a description such as
// "package:2 numa:2 l3:4 core:8 pu:2"; see package synthetic.
func Synthetic(description string) (Source, error) {
	shape, err := synthetic.Parse(description)
	if err != nil {
		return Source{}, err
	}
	return Source{shape: shape}, nil
}
