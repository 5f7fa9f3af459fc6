package profiles

// Class says what holds a task up. The first six describe one that runs alone
// and follow from a profile; a measurement of a running program can give any.
type Class string

const (
	CPUBound             Class = "cpu-bound"
	MemoryLatencyBound   Class = "memory-latency-bound"
	MemoryBandwidthBound Class = "memory-bandwidth-bound"
	IOBoundBlocking      Class = "io-bound (blocking)"
	IOBoundAsync         Class = "io-bound (async)"
	Mixed                Class = "mixed"

	GILBound  Class = "gil-bound"  // threads wait for the lock of their Python interpreter
	LockBound Class = "lock-bound" // threads wait for each other
	Throttled Class = "throttled"  // a CPU quota stops it
	Starved   Class = "starved"    // others use its CPUs
	Idle      Class = "idle"       // too little work to judge
)

// Shares of waiting that part the classes.
const (
	mostlyWaits    = 0.6  // from here io-bound
	mostlyComputes = 0.4  // up to here bound by the CPU or by memory
	slack          = 1e-9 // for rounding
)

// ClassOf is the class of a task that waits for a share W/(W+C) of its time and
// spends the rest on a CPU with work of a kind.
func ClassOf(waits float64, blocking bool, kind Kind) Class {
	switch {
	case waits >= mostlyWaits*(1-slack) && blocking:
		return IOBoundBlocking
	case waits >= mostlyWaits*(1-slack):
		return IOBoundAsync
	case waits > mostlyComputes*(1+slack):
		return Mixed
	case kind == MemoryLatency:
		return MemoryLatencyBound
	case kind == MemoryBandwidth:
		return MemoryBandwidthBound
	}
	return CPUBound
}
