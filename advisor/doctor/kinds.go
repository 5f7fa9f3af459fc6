//go:build linux

package doctor

import "slices"

// Kind is a kind of finding.
type Kind struct {
	Code     string   `json:"code" yaml:"code"`
	Severity Severity `json:"severity" yaml:"severity"` // as it usually is
	Meaning  string   `json:"meaning" yaml:"meaning"`   // one sentence
}

// Codes of findings.
const (
	Throttled        = "throttled"
	Oversubscribed   = "oversubscribed"
	PinnedPile       = "pinned-pile"
	GoProcs          = "go-procs"
	JVMThreads       = "jvm-threads"
	ServerWorkers    = "server-workers"
	MathThreads      = "math-threads"
	SharedCore       = "shared-core"
	OfflineCPU       = "offline-cpu"
	OutsideCPUSet    = "outside-cpuset"
	IsolatedWide     = "isolated-wide-mask"
	IsolatedPinned   = "isolated-pinned"
	NoBalancing      = "no-balancing"
	RemoteMemory     = "remote-memory"
	RemoteDevice     = "remote-device"
	IRQHeavy         = "irq-heavy"
	SlowGovernor     = "slow-governor"
	PowerPreference  = "power-preference"
	FrequencyCapped  = "frequency-capped"
	TurboOff         = "turbo-off"
	ThermalThrottled = "thermal-throttled"
	SMTOff           = "smt-off"
	FloatingVCPU     = "floating-vcpu"
	Steal            = "steal"
	ServiceNiced     = "service-niced"
	ServicePolicy    = "service-policy"
	CrowdedSession   = "crowded-session"
	NiceIneffective  = "nice-ineffective"
	CPUPressure      = "cpu-pressure"
	MemoryPressure   = "memory-pressure"
	Swapping         = "swapping"
	NotJudged        = "not-judged"
	Partial          = "partial"
)

var kinds = [...]Kind{
	{Throttled, Warning, "A CPU quota stopped a control group for part of the interval."},
	{Oversubscribed, Warning, "More threads had work than there is CPU time for, and waited for each other."},
	{PinnedPile, Warning, "Several busy threads are pinned to one CPU."},
	{GoProcs, Warning, "A Go program runs more threads at once (GOMAXPROCS) than its CPU budget."},
	{JVMThreads, Warning, "A JVM was told of more processors, or given more collector threads, than its CPU budget."},
	{ServerWorkers, Warning, "A server has more workers than its CPU budget can serve."},
	{MathThreads, Warning, "OpenMP or BLAS threads, times the processes that have them, exceed the CPU budget."},
	{SharedCore, Warning, "Busy threads share a core while a core that they may use is idle."},
	{OfflineCPU, Error, "A thread is bound to CPUs that are offline."},
	{OutsideCPUSet, Warning, "A busy thread may run on CPUs that the cpuset of its control group leaves out."},
	{IsolatedWide, Warning, "A busy thread may run on several isolated CPUs, where nothing spreads threads."},
	{IsolatedPinned, Info, "A busy thread is pinned to an isolated CPU; right if that CPU was set aside for it."},
	{NoBalancing, Warning, "Unpinned busy threads are in a cpuset in which the kernel balances no load."},
	{RemoteMemory, Warning, "Most memory of a busy process lies on another NUMA node than its threads."},
	{RemoteDevice, Warning, "A busy process uses a device that is attached to another NUMA node."},
	{IRQHeavy, Warning, "Interrupts take much of the time of a CPU on which a busy thread is."},
	{SlowGovernor, Warning, "A frequency governor holds busy CPUs at a low frequency."},
	{PowerPreference, Warning, "Busy CPUs are told to prefer saving power to speed."},
	{FrequencyCapped, Warning, "Busy CPUs may not reach the frequency that they are made for."},
	{TurboOff, Info, "Turbo frequencies are switched off."},
	{ThermalThrottled, Warning, "Heat slowed CPUs down in the interval."},
	{SMTOff, Info, "SMT is switched off though the cores have it."},
	{FloatingVCPU, Info, "The CPUs of this virtual machine may move on its host, so that pinning promises nothing physical."},
	{Steal, Warning, "The host of this virtual machine gave CPU time to others that busy CPUs wanted."},
	{ServiceNiced, Warning, "A service yields to other programs by its nice value."},
	{ServicePolicy, Warning, "A service runs under a scheduling policy meant for background work."},
	{CrowdedSession, Warning, "A service shares the CPU time of its session with other busy programs (autogroup)."},
	{NiceIneffective, Info, "Nice values of busy threads do not act against those of other sessions (autogroup)."},
	{CPUPressure, Warning, "Threads with work waited for a CPU for much of the interval."},
	{MemoryPressure, Warning, "Threads stood still for want of memory."},
	{Swapping, Warning, "A busy process is read back from swap or disk as it runs."},
	{NotJudged, Info, "A process that was named could not be judged."},
	{Partial, Info, "Something could not be read, so that findings may be missing."},
}

// Kinds are all kinds of findings.
func Kinds() []Kind { return slices.Clone(kinds[:]) }

func kindIndex(code string) int {
	return slices.IndexFunc(kinds[:], func(k Kind) bool { return k.Code == code })
}

// usual is the severity of a kind; of one that is missing here too.
func usual(code string) Severity {
	if i := kindIndex(code); i >= 0 {
		return kinds[i].Severity
	}
	return Warning
}
