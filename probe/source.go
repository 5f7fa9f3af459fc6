package probe

import (
	"context"
	"errors"

	"berth/probe/root"
	"berth/probe/topology"
)

// Source says where a machine's facts come from. The zero value knows nothing;
// start from [Live], [Sysroot], [CPUID] or [Synthetic].
type Source struct {
	// Root is where files are read; nil for none.
	Root *root.Root
	// Shape is a machine that is described, not read.
	Shape *topology.Topology
	// Only restricts what is read to what is needed; zero reads everything.
	Only Parts
	// EveryCPUID also visits isolated and nohz_full CPUs to read their CPUID,
	// which disturbs what runs there.
	EveryCPUID bool
}

// Parts names what a caller needs of a machine.
type Parts uint

const (
	Budget   Parts = 1 << iota // online, affinity, cpuset and CPU quota
	Cores                      // packages, dies, clusters, cores, SMT
	Caches                     // caches; implies Cores
	NUMA                       // nodes, memory, distances
	Kinds                      // core kinds; implies Cores
	Identity                   // vendor, brand, features, host
	Devices                    // NICs, GPUs, NVMe
	Memory                     // memory limits, weights, throttling
)

func (s Source) wants(p Parts) bool { return s.Only == 0 || s.Only&p != 0 }

// Live is the machine that this process runs on.
func Live() Source { return Source{Root: root.Live()} }

// Sysroot is a machine whose /sys and /proc are copied to a directory or a tar
// archive (plain, gzip, xz, zstd).
func Sysroot(path string) (Source, error) {
	r, err := root.Open(path)
	return Source{Root: r}, err
}

// CPUID is a machine of which only a CPUID dump is known: a directory of files
// pu0, pu1 …, a tar archive of one, or an InstLatX64 text file.
func CPUID(path string) (Source, error) { return Source{}, errors.New("not yet") }

// Synthetic is a machine made from a description such as
// "package:2 numa:2 l3:4 core:8 pu:2".
func Synthetic(description string) (Source, error) { return Source{}, errors.New("not yet") }

// Probe reads a machine. A fact that cannot be read is left out and reported
// in the machine's findings; an error means that there is no machine to speak
// of.
func Probe(ctx context.Context, source Source) (*Machine, error) { return nil, errors.New("not yet") }
