package profiles

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"berth/probe/cpuset"
)

// field is one value of a profile: where it stands, what it may be, and what it
// means. The loader, the JSON Schema and the templates all read this table.
type field struct {
	path string // work.cpu_ms
	what string // one line for people
	rule rule
	// at points to the value in a profile: *T, or **T where nil means unsaid.
	// It makes the section it lies in.
	at func(*Profile) any
	// standard is the default as YAML; empty where there is none.
	standard string
}

// rule says which scalars a field takes.
type rule struct {
	words       []string // one of these; nil: a number, bool or text, by the field's type
	from, below float64  // from ≤ number < below, unless open
	open        bool     // from < number
	upTo        bool     // number ≤ below
	unit        string
	check       func(text string) error // for text
}

func oneOf[T ~string](words ...T) rule {
	out := rule{}
	for _, w := range words {
		out.words = append(out.words, string(w))
	}
	return out
}

// The ends of ranges: a nanosecond and more than ten days, and counts that no
// machine of this world reaches but floating point still holds exactly.
const (
	shortest = 1e-6
	longest  = 1e9
	most     = 1e12
)

func sections() []string { return []string{"work", "scaling", "load", "limits", "measured"} }

func fields() []field {
	ms := func(from float64) rule { return rule{from: from, below: longest, upTo: true, unit: "milliseconds"} }
	count := func(from float64) rule { return rule{from: from, below: most, upTo: true} }
	share := func() rule { return rule{from: 0, below: 1, upTo: true} }
	mib := rule{from: 0, open: true, below: most, upTo: true, unit: "MiB"}
	scaling := func(p *Profile) *Scaling {
		if p.Scaling == nil {
			p.Scaling = &Scaling{}
		}
		return p.Scaling
	}
	measured := func(p *Profile) *Measured {
		if p.Measured == nil {
			p.Measured = &Measured{}
		}
		return p.Measured
	}
	return []field{
		{"schema", "the version of this format", oneOf(Schema), func(p *Profile) any { return &p.Schema }, ""},
		{"name", "what the workload is called", rule{check: title}, func(p *Profile) any { return &p.Name }, ""},
		{"runtime", "what executes the tasks", oneOf(Native, Go, Java, Node, Python, PythonFreeThreaded, OpenMP),
			func(p *Profile) any { return &p.Runtime }, "native"},
		{"objective", "most tasks per second, shortest time of one, or fewest cores", oneOf(Throughput, Latency, Efficiency),
			func(p *Profile) any { return &p.Objective }, "throughput"},
		{"model", "how tasks run beside each other; auto leaves the choice to berth", oneOf(AnyModel, Threads, Processes, Async),
			func(p *Profile) any { return &p.Model }, "auto"},
		{"priority", "its part, beside other profiles on one machine, where all together want more than there is",
			rule{from: 1e-6, below: 1e6, upTo: true}, func(p *Profile) any { return &p.Priority }, "1"},

		{"work.kind", "what the CPU time of a task goes into", oneOf(Integer, Float, MemoryLatency, MemoryBandwidth, Service),
			func(p *Profile) any { return &p.Work.Kind }, "integer"},
		{"work.cpu_ms", "on-CPU time of one task; left out: unknown, and all counts as work", ms(shortest),
			func(p *Profile) any { return &p.Work.CPUMS }, ""},
		{"work.native_ms", "the part of cpu_ms that runs with the GIL released (python)", ms(0),
			func(p *Profile) any { return &p.Work.NativeMS }, "0"},
		{"work.wait_ms", "waiting off the CPU: network, disk, another service", ms(0),
			func(p *Profile) any { return &p.Work.WaitMS }, "0"},
		{"work.blocking", "the waits hold their thread; false: they can be awaited", rule{},
			func(p *Profile) any { return &p.Work.Blocking }, "true"},
		{"work.serial_fraction", "share of a task that only one worker at a time can do (Amdahl); not together with scaling", share(),
			func(p *Profile) any { return &p.Work.SerialFraction }, "0"},
		{"work.smt_yield", "extra throughput for each SMT sibling used; overrides measurements and defaults",
			rule{from: -1, open: true, below: 1, upTo: true}, func(p *Profile) any { return &p.Work.SMTYield }, ""},
		{"work.thread_bandwidth_gbs", "memory bandwidth that one thread draws alone",
			rule{from: 0, open: true, below: 1e6, upTo: true, unit: "GB/s"}, func(p *Profile) any { return &p.Work.ThreadBandwidthGBS }, ""},
		{"work.communicates", "workers share data: keep them under one last-level cache", rule{},
			func(p *Profile) any { return &p.Work.Communicates }, "false"},
		{"work.partition", "static: equal shares, so the slowest worker sets the pace", oneOf(Dynamic, Static),
			func(p *Profile) any { return &p.Work.Partition }, "dynamic"},
		{"work.near", "a device, nic:eth0 or a PCI address: seats are taken from its NUMA node first", rule{check: deviceName},
			func(p *Profile) any { return &p.Work.Near }, ""},

		{"scaling.sigma", "contention, of a fitted Universal Scalability Law", share(),
			func(p *Profile) any { return &scaling(p).Sigma }, "0"},
		{"scaling.kappa", "coherence, of the same law; 0 means no peak", share(),
			func(p *Profile) any { return &scaling(p).Kappa }, "0"},

		{"load.tasks", "independent tasks there are", count(1), func(p *Profile) any { return &p.Load.Tasks }, ""},
		{"load.nested", "a task can itself use several threads", rule{}, func(p *Profile) any { return &p.Load.Nested }, "false"},
		{"load.ranks_per", "MPI with OpenMP: one rank for each of these", oneOf(PerNode, PerLLC, PerCore),
			func(p *Profile) any { return &p.Load.RanksPer }, ""},
		{"load.arrival_per_s", "tasks that arrive, on average",
			rule{from: 0, open: true, below: longest, upTo: true, unit: "per second"}, func(p *Profile) any { return &p.Load.ArrivalPerS }, ""},
		{"load.wait_target_ms", "longest queueing wait at the quantile (objective latency)", ms(0),
			func(p *Profile) any { return &p.Load.WaitTargetMS }, ""},
		{"load.quantile", "the share of tasks that must meet the target", rule{from: 0, open: true, below: 1},
			func(p *Profile) any { return &p.Load.Quantile }, "0.99"},

		{"limits.memory_per_worker_mib", "memory of each worker of its own", mib,
			func(p *Profile) any { return &p.Limits.MemoryPerWorkerMiB }, ""},
		{"limits.memory_shared_mib", "memory that all workers share", rule{from: 0, below: most, upTo: true, unit: "MiB"},
			func(p *Profile) any { return &p.Limits.MemorySharedMiB }, "0"},
		{"limits.memory_reserve_fraction", "share of the memory that stays free", rule{from: 0, below: 1},
			func(p *Profile) any { return &p.Limits.MemoryReserveFraction }, "0.10"},
		{"limits.downstream_concurrency", "tasks at once that what is waited for can take", count(1),
			func(p *Profile) any { return &p.Limits.DownstreamConcurrency }, ""},
		{"limits.target_utilisation", "share of the CPUs' best at which a pool of waiting workers is large enough; 0.90 for efficiency",
			rule{from: 0, open: true, below: 1}, func(p *Profile) any { return &p.Limits.TargetUtilisation }, "0.98"},
		{"limits.reserve_cores", "cores left empty; those of avoid_cpus count first, then the lowest",
			rule{from: 0, below: cpuset.Limit, upTo: true}, func(p *Profile) any { return &p.Limits.ReserveCores }, "0"},
		{"limits.avoid_cpus", "CPUs to keep away from, a Linux cpulist in quotes", rule{check: cpuList},
			func(p *Profile) any { return &p.Limits.AvoidCPUs }, ""},

		{"measured.seconds", "how long berth observe looked", rule{from: 0, below: longest, upTo: true, unit: "seconds"},
			func(p *Profile) any { return &measured(p).Seconds }, ""},
		{"measured.utilisation", "busy share of the workers it saw", share(), func(p *Profile) any { return &measured(p).Utilisation }, ""},
		{"measured.confidence", "how far it trusts the figures", share(), func(p *Profile) any { return &measured(p).Confidence }, ""},
	}
}

// title takes what fits in a line of a table.
func title(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("it is blank")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("it holds a line break or another character that does not print")
	}
	return nil
}

func cpuList(text string) error {
	_, err := cpuset.Parse(text)
	var list *cpuset.ParseError
	if errors.As(err, &list) { // the caller prints the whole list
		if list.Part == "" || list.Part == list.Text {
			return errors.New(list.Why)
		}
		return fmt.Errorf("at %q: %s", list.Part, list.Why)
	}
	return err
}

// deviceName takes KIND:NAME and PCI addresses, DOMAIN:BUS:DEVICE.FUNCTION with
// or without the domain.
func deviceName(text string) error {
	kind, name, ok := strings.Cut(text, ":")
	if ok && kind != "" && name != "" && !strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) {
		return nil
	}
	return fmt.Errorf("it is neither KIND:NAME nor a PCI address")
}

// allowed says in words what a field takes.
func (f *field) allowed() string {
	r := &f.rule
	number := "a number"
	switch f.at(&Profile{}).(type) {
	case *bool, **bool:
		return "true or false"
	case *int64, **int64:
		number = "a whole number"
	case *float64, **float64:
	default:
		switch {
		case len(r.words) == 1:
			return r.words[0]
		case r.words != nil:
			return "one of " + strings.Join(r.words, ", ")
		case f.path == "limits.avoid_cpus":
			return `a CPU list such as "0-3,8"`
		case f.path == "work.near":
			return "KIND:NAME such as nic:eth0, or a PCI address such as 0000:81:00.0"
		}
		return "text"
	}
	if r.unit != "" {
		number += " (" + r.unit + ")"
	}
	return number + " " + r.interval()
}

func (r *rule) interval() string {
	from, to := plain(r.from), plain(r.below)
	switch {
	case r.open && r.upTo:
		return "above " + from + ", up to " + to
	case r.open:
		return "above " + from + ", below " + to
	case r.upTo:
		return "from " + from + " to " + to
	}
	return "from " + from + ", below " + to
}

func (r *rule) holds(x float64) bool {
	low := x > r.from || !r.open && x == r.from
	high := x < r.below || r.upTo && x == r.below
	return low && high // NaN is in no interval
}

func plain(x float64) string {
	if x != 0 && (x >= 1e7 || x <= 1e-4) {
		exponent := strings.NewReplacer("e+0", "e", "e+", "e", "e-0", "e-") // 1e9, not 1e+09
		return exponent.Replace(strconv.FormatFloat(x, 'g', -1, 64))
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}
