//go:build linux

package experiment

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/affinity/experiment/kernel"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// MemoryReport is what [Memory] found.
type MemoryReport struct {
	Report    `yaml:",inline"`
	Latency   []MemoryLatency   `json:"latency" yaml:"latency"`
	Bandwidth []MemoryBandwidth `json:"bandwidth" yaml:"bandwidth"`
	Skipped   []Skipped         `json:"skipped" yaml:"skipped"`
	// Vectors is the instructions that the bandwidth was measured with.
	Vectors string `json:"vectors" yaml:"vectors"`
}

// MemoryLatency is the time of one load that depends on the one before, over a
// working set visited in no order that a prefetcher knows.
type MemoryLatency struct {
	Size int64          `json:"size_bytes" yaml:"size_bytes"`
	NS   measured.Value `json:"ns" yaml:"ns"`
	// Fits names the smallest cache that inspect knows to hold it; "memory"
	// where none does.
	Fits string `json:"fits" yaml:"fits"`
	// HugeBytes is how much of it sits in huge pages; nil is unknown.
	HugeBytes *int64 `json:"huge_bytes,omitempty" yaml:"huge_bytes,omitempty"`
}

// MemoryBandwidth is bytes that the kernel's loop names, in 10^9 per second: the
// bytes read, both those read and those written by a copy, and 24 for a point of
// the triad. What a cache reads or writes besides is not counted.
type MemoryBandwidth struct {
	Kernel  string         `json:"kernel" yaml:"kernel"` // read, copy, triad
	Threads int            `json:"threads" yaml:"threads"`
	CPUs    cpuset.Set     `json:"cpus" yaml:"cpus"`
	GBs     measured.Value `json:"gbs" yaml:"gbs"`
	Node    int            `json:"node" yaml:"node"` // of the memory
	Local   bool           `json:"local" yaml:"local"`
}

// Of the bandwidth.
const (
	Read  = "read"
	Copy  = "copy"
	Triad = "triad"
)

type staircaseArm struct {
	arm
	out MemoryLatency
}

type bandwidthArm struct {
	arm
	out MemoryBandwidth
}

// Memory measures the latency of ever larger working sets, and the bandwidth of
// ever more threads.
func Memory(ctx context.Context, s Settings) (*MemoryReport, error) {
	cpus, err := s.cpus()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	rep := &MemoryReport{Report: s.newReport("memory", cpus), Latency: []MemoryLatency{}, Bandwidth: []MemoryBandwidth{},
		Skipped: []Skipped{}, Vectors: kernel.Vectors()}
	t := &s.Machine.Topology
	if floats(s.Machine) {
		rep.add(FindFloating, finding.Info, floating)
	}
	llc := lastLevel(t, cpus)
	free := spare(s.Machine)
	largest := min(max(2*llc, 64<<20), free/4) // all sizes together take twice the largest
	if largest < 2*llc {
		rep.add(FindMemory, finding.Warning, "the largest working set is %d MiB, not twice the last-level cache (%d MiB): there is no more memory to spare", largest>>20, llc>>19)
	}
	crew, err := s.newCrew()
	if err != nil {
		return nil, err
	}
	defer crew.close()
	worker, err := crew.hire(cpuset.Set{})
	if err != nil {
		return nil, err
	}
	cores, _ := s.cores(cpus)
	var stairs []*staircaseArm
	var flows []*bandwidthArm
	r := &rounds{settings: &s, report: &rep.Report, workers: len(cores), children: crew.pids, deadline: began.Add(s.Limit)}
	first := cores[0].cpus[0]
	for _, size := range staircase(largest, s.Limit) {
		a := &staircaseArm{out: MemoryLatency{Size: size, Fits: holder(t, first, size)}}
		a.name = fmt.Sprintf("latency over %d KiB", size>>10)
		a.watched, a.loose = cpuset.Of(first), true
		a.trial = func(ctx context.Context, length time.Duration) (measurement, error) {
			var r staircaseResult
			if err := alone(ctx, job{worker, "staircase", staircaseArgs{first, size, min(length, 20*time.Millisecond)}, &r}, 0); err != nil {
				return measurement{}, err
			}
			a.out.HugeBytes = r.Huge
			return measurement{value: r.NS, lost: r.Lost}, nil
		}
		stairs = append(stairs, a)
		r.arms = append(r.arms, &a.arm)
	}
	if len(t.NUMANodes) < 2 {
		rep.Skipped = append(rep.Skipped, Skipped{Mode: "remote", Why: "there is one NUMA node: no memory is another one's"})
	}
	// Over twice the cache at least, by all threads together.
	flowing := min(max(2*llc, 192<<20), free/3/int64(max(len(t.NUMANodes), 1)))
	for _, f := range s.flows(cores) {
		for _, name := range [...]string{Read, Copy, Triad} {
			a := &bandwidthArm{out: f}
			a.out.Kernel = name
			a.name = fmt.Sprintf("%s by %d on node %d", name, f.Threads, f.Node)
			a.watched = s.siblings(f.CPUs)
			args := bandwidthArgs{Kernel: name, Size: flowing, Node: -1}
			for c := range f.CPUs.All() {
				args.Seats = append(args.Seats, cpuset.Of(c))
			}
			if len(t.NUMANodes) > 1 {
				args.Node = f.Node
			}
			a.trial = func(ctx context.Context, length time.Duration) (measurement, error) {
				var results []seatResult
				if err := together(ctx, []job{{worker, "bandwidth", args, &results}}, settling, length); err != nil {
					return measurement{}, err
				}
				var m measurement
				var onCPU int64
				for _, x := range results {
					m.value += x.Units / length.Seconds() / 1e9
					onCPU += x.OnCPU
				}
				m.lost = 1 - float64(onCPU)/float64(length)/float64(len(results))
				return m, nil
			}
			flows = append(flows, a)
			r.arms = append(r.arms, &a.arm)
		}
	}
	r.window = s.windowFor(time.Until(r.deadline), len(r.arms), 10, 20*time.Millisecond, 200*time.Millisecond)
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	rep.WallS = time.Since(began).Seconds()
	for _, a := range stairs {
		if len(a.round) > 0 {
			a.out.NS = measured.Of(a.values(""))
			rep.Latency = append(rep.Latency, a.out)
		}
	}
	for _, a := range flows {
		if len(a.round) > 0 {
			a.out.GBs = measured.Of(a.values(""))
			rep.Bandwidth = append(rep.Bandwidth, a.out)
		}
	}
	return rep, nil
}

// staircase is sizes from 4 KiB on, each twice the last, or four times where time
// is short, up to the largest.
func staircase(largest int64, limit time.Duration) []int64 {
	var sizes []int64
	step := int64(2)
	if limit < shortTime {
		step = 4
	}
	for size := int64(4 << 10); size <= largest; size *= step {
		sizes = append(sizes, size)
	}
	return sizes
}

// holder names the smallest cache of a CPU that a working set fits into.
func holder(t *topology.Topology, c cpuset.CPU, size int64) string {
	name, best := "memory", int64(-1)
	for _, cache := range t.Caches {
		if cache.Type == topology.Instruction || cache.Size == nil || !cache.CPUs.Contains(c) || *cache.Size < size {
			continue
		}
		if best < 0 || *cache.Size < best {
			best, name = *cache.Size, fmt.Sprintf("L%d", cache.Level)
		}
	}
	return name
}

// flows are the threads and nodes to measure bandwidth for: 1, 2, 4 … and all
// cores of each node on its own memory; all of the first node on each other's.
func (s *Settings) flows(cores []core) []MemoryBandwidth {
	t := &s.Machine.Topology
	byNode := map[int][]cpuset.CPU{}
	var order []int
	node := func(c cpuset.CPU) int {
		for _, n := range t.NUMANodes {
			if n.CPUs.Contains(c) {
				return n.ID
			}
		}
		return 0
	}
	for _, c := range cores {
		n := node(c.cpus[0])
		if byNode[n] == nil {
			order = append(order, n)
		}
		byNode[n] = append(byNode[n], c.cpus[0])
	}
	var flows []MemoryBandwidth
	for i, n := range order {
		own := byNode[n]
		counts := []int{len(own)}
		if i == 0 {
			for k := 1; k < len(own); k *= 2 {
				counts = append(counts, k)
			}
			slices.Sort(counts)
		}
		for _, k := range counts {
			flows = append(flows, MemoryBandwidth{Threads: k, CPUs: cpuset.Of(own[:k]...), Node: n, Local: true})
		}
	}
	for _, n := range t.NUMANodes {
		if n.ID != order[0] && n.MemoryBytes != nil && *n.MemoryBytes > 0 {
			own := byNode[order[0]]
			flows = append(flows, MemoryBandwidth{Threads: len(own), CPUs: cpuset.Of(own...), Node: n.ID})
		}
	}
	return flows
}

type staircaseArgs struct {
	CPU  cpuset.CPU
	Size int64
	For  time.Duration
}

type staircaseResult struct {
	NS, Lost float64
	Huge     *int64
}

// staircase chases pointers through memory that is kept for the next trial.
func (s *station) staircase(raw []byte) (any, error) {
	a, err := decode[staircaseArgs](raw)
	if err != nil {
		return nil, err
	}
	var r staircaseResult
	var inner error
	err = affinity.Do(cpuset.Of(a.CPU), func() {
		var data []byte
		if data, inner = s.stair(a.Size); inner != nil {
			return
		}
		r = chaseFor(data, a.For)
		r.Huge = hugeBytes(data)
	})
	if err == nil {
		err = inner
	}
	return r, err
}

// stair is a filled working set of a size; each is made once.
func (s *station) stair(size int64) ([]byte, error) {
	if data, ok := s.stairs[size]; ok {
		return data, nil
	}
	data, err := anonymous(size)
	if err != nil {
		return nil, err
	}
	kernel.FillChase(data)
	if s.stairs == nil {
		s.stairs = map[int64][]byte{}
	}
	s.stairs[size] = data
	return data, nil
}

// chaseFor follows the chain for a while, after once around or some more time
// than that, so that what fits a cache is in it.
func chaseFor(data []byte, d time.Duration) staircaseResult {
	const step = 20_000
	lines := len(data) / 64
	at := uint64(now()) % uint64(max(lines, 1))
	for walked, end := 0, now()+3*int64(d); walked < lines && now() < end; walked += step {
		at = kernel.Chase(data, at, step)
	}
	account := openAccount(false)
	defer account.close()
	before := account.read(now())
	loads, t := 0, before.at
	for t < before.at+int64(d) {
		at = kernel.Chase(data, at, step)
		loads += step
		t = now()
	}
	after := account.read(t)
	wall := float64(t - before.at)
	return staircaseResult{NS: wall / float64(loads), Lost: max(0, 1-float64(after.onCPU-before.onCPU)/wall)}
}

// hugeBytes is how much of a mapping sits in huge pages (AnonHugePages of
// proc(5), /proc/PID/smaps).
func hugeBytes(data []byte) *int64 {
	smaps, err := os.ReadFile("/proc/thread-self/smaps")
	if err != nil {
		return nil
	}
	start := uint64(uintptr(unsafe.Pointer(&data[0])))
	inside := false
	for line := range strings.Lines(string(smaps)) {
		fields := strings.Fields(line)
		if lo, hi, ok := strings.Cut(fields[0], "-"); ok && len(fields) > 1 {
			a, err1 := strconv.ParseUint(lo, 16, 64)
			b, err2 := strconv.ParseUint(hi, 16, 64)
			inside = err1 == nil && err2 == nil && a <= start && start < b
		} else if inside && fields[0] == "AnonHugePages:" && len(fields) > 1 {
			if kb, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				bytes := min(kb<<10, int64(len(data)))
				return &bytes
			}
		}
	}
	return nil
}

type bandwidthArgs struct {
	Kernel string
	Seats  []cpuset.Set
	Size   int64 // bytes for all threads together
	Node   int   // of the memory; -1: there is but one
}

// bandwidth streams through memory of one node, a part of it for each thread.
func (s *station) bandwidth(raw []byte) (any, error) {
	a, err := decode[bandwidthArgs](raw)
	if err != nil {
		return nil, err
	}
	data, ok := s.flows[a.Node]
	if !ok {
		if data, err = anonymous(a.Size); err != nil {
			return nil, err
		}
		if a.Node >= 0 {
			if err := bindTo(data, a.Node); err != nil {
				return nil, err
			}
		}
		clear(data) // pages that were never written are all one page of zeros
		if s.flows == nil {
			s.flows = map[int][]byte{}
		}
		s.flows[a.Node] = data
	}
	part := len(data) / len(a.Seats) &^ 4095
	return s.pool(a.Seats, false, func(i int) (kernel.Work, error) {
		return stream(a.Kernel, data[i*part:(i+1)*part])
	})
}

// stream goes through memory in steps of some ten microseconds each.
func stream(name string, b []byte) (kernel.Work, error) {
	const step = 256 << 10
	arrays := map[string]int{Read: 1, Copy: 2, Triad: 3}[name]
	if arrays == 0 {
		return nil, fmt.Errorf("measure bandwidth of %q: it is none of read, copy, triad", name)
	}
	n := len(b) / arrays / step * step
	if n == 0 {
		return nil, fmt.Errorf("measure bandwidth: %d bytes are too few", len(b))
	}
	x, at := func(i, at int) []byte { return b[i*n+at : i*n+at+step] }, 0
	return func() float64 {
		switch name {
		case Read:
			kernel.Read(x(0, at))
		case Copy:
			kernel.Copy(x(0, at), x(1, at))
		default:
			kernel.Triad(floats64(x(0, at)), floats64(x(1, at)), floats64(x(2, at)), 3)
		}
		at = (at + step) % n
		return float64(arrays * step)
	}, nil
}

func floats64(b []byte) []float64 {
	return unsafe.Slice((*float64)(unsafe.Pointer(&b[0])), len(b)/8)
}

// bindTo lets a mapping that was not touched yet come from one node (mbind(2)).
func bindTo(data []byte, node int) error {
	const bind = 2 // MPOL_BIND
	mask := make([]uint64, node/64+1)
	mask[node/64] |= 1 << (node % 64)
	_, _, errno := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), bind,
		uintptr(unsafe.Pointer(&mask[0])), uintptr(len(mask)*64+1), 0)
	if errno != 0 {
		return fmt.Errorf("bind memory to node %d (mbind): %w", node, errno)
	}
	return nil
}
