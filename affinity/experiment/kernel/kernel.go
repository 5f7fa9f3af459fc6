//go:build linux

package kernel

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Config says on what a kernel works.
type Config struct {
	// Chase is what memory-latency reads: filled by FillChase, larger than the
	// caches under test. Workers may share it.
	Chase []byte

	// Start is the line at which a worker of memory-latency starts, taken modulo
	// the lines. A worker finds what another read just before in the cache that
	// they share: see FillChase for starts that are far apart.
	Start uint64

	// Stream is the worker's own memory for memory-bandwidth. New writes all of
	// it, so that each page exists, near the CPU that New ran on.
	Stream []byte

	// Compute and Wait are what a request of service does; zero means 200 µs and
	// 1 ms.
	Compute, Wait time.Duration

	// Rounds is the work of a request, instead of Compute; zero lets New measure
	// it. Workers that are to do the same amount get one result of Rounds.
	Rounds int

	// Sleep waits for service; nil means time.Sleep.
	Sleep func(time.Duration)
}

// Work does one piece of work and returns how many units it was. A piece takes
// some 20 to 100 µs on a CPU of today, a request of service as long as asked.
// A Work is for one goroutine at a time.
type Work func() (units float64)

type kernel struct {
	name, about, unit string
	work              func(Config) (Work, error)
}

var kernels = [...]kernel{
	{"integer", "four chains of integer multiplications and adds", "operations", newInteger},
	{"float", "fused multiply-adds on full vectors", "operations", newFloat},
	{"memory-latency", "loads that each wait for the one before", "accesses", newLatency},
	{"memory-bandwidth", "a triad a = b + s·c over arrays", "bytes", newBandwidth},
	{"branchy", "branches that no predictor can guess", "operations", newBranchy},
	{"service", "requests that compute, then wait", "requests", newService},
	{"syscall", "system calls that do next to nothing", "calls", newSyscall},
}

// Names lists the kernels.
func Names() []string {
	names := make([]string, len(kernels))
	for i, k := range kernels {
		names[i] = k.name
	}
	return names
}

// Describe tells in a short phrase what a kernel does; "" if there is none of
// this name.
func Describe(name string) string {
	k, _ := find(name)
	return k.about
}

// Unit is the plural of what a kernel counts; "" if there is none of this name.
//
// The operations of float are floating-point ones, two for each lane of a fused
// multiply-add; those of branchy are branches. The bytes of memory-bandwidth
// are 24 for each point, see Triad.
func Unit(name string) string {
	k, _ := find(name)
	return k.unit
}

// New prepares a kernel's work. It fails if there is no kernel of this name or
// its memory in c is too small or not filled.
func New(name string, c Config) (Work, error) {
	k, ok := find(name)
	if !ok {
		return nil, fmt.Errorf("kernel %q: there is none of this name; choose one of %s",
			name, strings.Join(Names(), ", "))
	}
	work, err := k.work(c)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	return work, nil
}

func find(name string) (kernel, bool) {
	for _, k := range kernels {
		if k.name == name {
			return k, true
		}
	}
	return kernel{}, false
}

func newInteger(Config) (Work, error) {
	const rounds = 20_000
	x := newChains()
	return func() float64 {
		integer(x, rounds)
		return rounds * integerOperations
	}, nil
}

func newFloat(Config) (Work, error) {
	const rounds = 20_000
	v := best()
	acc := newAccumulators()
	return func() float64 {
		v.fma(acc, fmaFactor, fmaAddend, rounds)
		return float64(rounds * v.lanes * 2)
	}, nil
}

func newLatency(c Config) (Work, error) {
	const accesses = 256
	if err := checkChase(c.Chase); err != nil {
		return nil, err
	}
	line := c.Start & (chaseLines(len(c.Chase)) - 1)
	return func() float64 {
		line = Chase(c.Chase, line, accesses)
		return accesses
	}, nil
}

func newBandwidth(c Config) (Work, error) {
	const step = 256 << 10 / 8 // points
	a, x, y, err := threeArrays(c.Stream)
	if err != nil {
		return nil, err
	}
	v := best()
	at := 0
	return func() float64 {
		end := min(at+step, len(a))
		v.triadAll(a[at:end], x[at:end], y[at:end], 3)
		points := end - at
		if at = end; at == len(a) {
			at = 0
		}
		return float64(points * 24)
	}, nil
}

func newBranchy(Config) (Work, error) {
	const rounds = 400
	// A seed of its own: a sibling with the same one would train the shared
	// predictor for it.
	x := rand.Uint64() | 1
	sum := new(uint64)
	return func() float64 {
		var s uint64
		x, s = branchy(x, rounds)
		*sum += s
		return rounds * branchesPerRound
	}, nil
}

func newService(c Config) (Work, error) {
	if c.Compute < 0 || c.Wait < 0 || c.Rounds < 0 {
		return nil, fmt.Errorf("compute %v, wait %v and %d rounds: give none below zero", c.Compute, c.Wait, c.Rounds)
	}
	if c.Compute == 0 {
		c.Compute = 200 * time.Microsecond
	}
	if c.Wait == 0 {
		c.Wait = time.Millisecond
	}
	if c.Rounds == 0 {
		c.Rounds = Rounds(c.Compute)
	}
	if c.Sleep == nil {
		c.Sleep = time.Sleep
	}
	x := newChains()
	return func() float64 {
		integer(x, c.Rounds)
		c.Sleep(c.Wait)
		return 1
	}, nil
}

func newSyscall(Config) (Work, error) {
	const calls = 512
	return func() float64 {
		for range calls {
			cheapCall()
		}
		return calls
	}, nil
}
