//go:build linux

package affinity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
)

// ReceiptSchema names the JSON document that a [Receipt] marshals to.
const ReceiptSchema = "berth.receipt/v1"

// Receipt is what became of seats: for every thread what was asked for, what the
// kernel answered on reading back, and where it was seen to run.
type Receipt struct {
	Schema  string   `json:"schema" yaml:"schema"`
	Command []string `json:"command" yaml:"command"`
	WallS   float64  `json:"wall_s" yaml:"wall_s"` // seconds from the first start to the last end
	// ThrottledMS is how long quotas stopped the workers' control group, and
	// StealMS how long the host of this virtual machine ran others while the
	// seats' CPUs had work: milliseconds, summed over CPUs. Nil: not known.
	ThrottledMS *float64 `json:"throttled_ms,omitempty" yaml:"throttled_ms,omitempty"`
	StealMS     *float64 `json:"steal_ms,omitempty" yaml:"steal_ms,omitempty"`
	// Each tells that threads had seats of their own, in the order of their
	// birth; else all threads of a worker share its seat.
	Each bool `json:"each" yaml:"each"`
	Kept bool `json:"kept" yaml:"kept"` // every seat was had and kept
	// Status is that of the worker that failed first, by a shell's rule; 0 where
	// none did.
	Status  int               `json:"status" yaml:"status"`
	Verdict Verdict           `json:"verdict" yaml:"verdict"`
	Workers []WorkerReceipt   `json:"workers" yaml:"workers"`
	Broken  []Violation       `json:"violations" yaml:"violations"`
	Noise   Noise             `json:"noise" yaml:"noise"`
	Finding []finding.Finding `json:"findings" yaml:"findings"`
}

// Verdict says whether figures can be relied on.
type Verdict string

const (
	Measured     Verdict = "measured"
	Inconclusive Verdict = "inconclusive" // the findings say why
)

// Noise is what disturbed the seats' CPUs; nil is unknown.
type Noise struct {
	StealPct     *float64 `json:"steal_pct,omitempty" yaml:"steal_pct,omitempty"`           // share of the CPUs' time
	OtherBusyPct *float64 `json:"other_busy_pct,omitempty" yaml:"other_busy_pct,omitempty"` // share that other programs and interrupts took
	ThrottledMS  *float64 `json:"throttled_ms,omitempty" yaml:"throttled_ms,omitempty"`
}

// WorkerReceipt is the part of one process, those that it started included.
type WorkerReceipt struct {
	Index   int             `json:"index" yaml:"index"`
	PID     int             `json:"pid" yaml:"pid"`
	Asked   cpuset.Set      `json:"asked" yaml:"asked"`                   // CPUs; empty: any
	Mems    string          `json:"mems,omitempty" yaml:"mems,omitempty"` // the memory policy's nodes
	Exit    *Exit           `json:"exit,omitempty" yaml:"exit,omitempty"` // nil: it runs
	Threads []ThreadReceipt `json:"threads" yaml:"threads"`
}

// Exit is how a process ended: by itself with a code, or by a signal.
type Exit struct {
	Code   *int   `json:"code,omitempty" yaml:"code,omitempty"`
	Signal string `json:"signal,omitempty" yaml:"signal,omitempty"` // as SIGTERM
	Core   bool   `json:"core_dumped,omitempty" yaml:"core_dumped,omitempty"`
}

// Status is the exit status by a shell's rule: the code, or 128 + the signal.
func (e *Exit) Status() int {
	if e.Code != nil {
		return *e.Code
	}
	return 128 + int(unix.SignalNum(e.Signal))
}

// ThreadReceipt is the part of one thread. Times are in milliseconds; nil is
// unknown.
type ThreadReceipt struct {
	PID         int        `json:"pid" yaml:"pid"` // the worker's, or that of a process it started
	TID         int        `json:"tid" yaml:"tid"`
	Name        string     `json:"name" yaml:"name"`
	Asked       cpuset.Set `json:"asked" yaml:"asked"`
	Set         cpuset.Set `json:"set" yaml:"set"`       // as last read back
	RanOn       cpuset.Set `json:"ran_on" yaml:"ran_on"` // CPUs it was seen on
	OnCPUMS     *float64   `json:"on_cpu_ms,omitempty" yaml:"on_cpu_ms,omitempty"`
	RunDelayMS  *float64   `json:"run_delay_ms,omitempty" yaml:"run_delay_ms,omitempty"` // ready, but waiting for a CPU
	Migrations  *int64     `json:"migrations,omitempty" yaml:"migrations,omitempty"`
	Voluntary   *int64     `json:"voluntary_switches,omitempty" yaml:"voluntary_switches,omitempty"`
	Involuntary *int64     `json:"involuntary_switches,omitempty" yaml:"involuntary_switches,omitempty"`
}

// Violation is a seat that was not had or not kept.
type Violation struct {
	Worker  int    `json:"worker" yaml:"worker"`
	TID     int    `json:"tid,omitempty" yaml:"tid,omitempty"` // 0: the whole process
	Code    string `json:"code" yaml:"code"`
	Message string `json:"message" yaml:"message"`
}

// Codes of violations.
const (
	SeatTrimmed  = "trimmed"   // the kernel gave fewer CPUs than asked for
	SeatMoved    = "moved"     // the mask was changed to CPUs outside the seat
	RanElsewhere = "elsewhere" // it was seen to run outside its seat
	SqueezedOut  = "squeezed"  // others ran on its CPUs while it was ready to
)

// squeezed is the share of its time that a ready thread may wait, and the share
// of the seat's CPUs that others may take, before it counts as squeezed out.
const squeezed = 0.1

// balance is the account that a receipt draws up of watched threads.
type balance struct {
	seats   map[int]cpuset.Set // by worker; empty: any
	threads []watchedSeat
	before  tasks.SystemStat
	after   tasks.SystemStat
	elapsed time.Duration
}

// watchedSeat is a thread and where it should have been.
type watchedSeat struct {
	tasks.Watched
	worker int
	asked  cpuset.Set
	early  cpuset.Set // it was seen there before it had its seat
}

func ms(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	x := float64(d.Microseconds()) / 1000
	return &x
}

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func (w *watchedSeat) receipt() ThreadReceipt {
	return ThreadReceipt{
		PID: w.PID, TID: w.TID, Name: w.Name, Asked: w.asked, Set: w.Allowed, RanOn: w.RanOn,
		OnCPUMS: ms(w.Used.OnCPU), RunDelayMS: ms(w.Used.RunDelay), Migrations: known(w.Migrations),
		Voluntary: known(w.Used.Voluntary), Involuntary: known(w.Used.Involuntary),
	}
}

// draw fills in the workers' threads, the worst first, with violations and noise.
func (b *balance) draw(r *Receipt) {
	all := cpuset.Set{}
	for _, s := range b.seats {
		all = all.Union(s)
	}
	at := map[int]*WorkerReceipt{}
	for i := range r.Workers {
		at[r.Workers[i].Index] = &r.Workers[i]
	}
	for i := range b.threads {
		w := &b.threads[i]
		at[w.worker].Threads = append(at[w.worker].Threads, w.receipt())
		b.judge(r, w)
	}
	for _, w := range at {
		slices.SortStableFunc(w.Threads, func(x, y ThreadReceipt) int { return cmp.Compare(wait(y), wait(x)) })
	}
	steal, other, whole := b.disturbed(all)
	if whole > 0 {
		if steal >= 0 {
			r.StealMS, r.Noise.StealPct = ms(steal), percent(steal, whole)
		}
		r.Noise.OtherBusyPct = percent(other, whole)
	}
	r.Noise.ThrottledMS = r.ThrottledMS
	b.shared(r)
}

func wait(t ThreadReceipt) float64 {
	if t.RunDelayMS == nil {
		return 0
	}
	return *t.RunDelayMS
}

func percent(part, whole time.Duration) *float64 {
	x := float64(int64(part)*10000/max(int64(whole), 1)) / 100
	return &x
}

func (w *watchedSeat) who() string { return fmt.Sprintf("thread %d (%s)", w.TID, w.Name) }

func (w *watchedSeat) moved() Violation {
	return Violation{w.worker, w.TID, SeatMoved, fmt.Sprintf("%s was to sit on %s and sits on %s: it, or another program, changed its mask, or the cpuset did",
		w.who(), w.asked, w.Allowed)}
}

// judge reports where a thread was not on its seat.
func (b *balance) judge(r *Receipt, w *watchedSeat) {
	broken := func(code, format string, args ...any) {
		r.Broken = append(r.Broken, Violation{w.worker, w.TID, code, fmt.Sprintf(format, args...)})
	}
	if w.asked.IsEmpty() {
		return
	}
	who := w.who()
	if !w.Allowed.IsEmpty() && !w.Allowed.SubsetOf(w.asked) {
		r.Broken = append(r.Broken, w.moved())
	}
	if away := w.RanOn.Minus(w.asked).Minus(w.early); !away.IsEmpty() {
		broken(RanElsewhere, "%s ran on %s, outside its seat %s", who, away, w.asked)
	}
	ran, ready := w.Used.OnCPU, w.Used.RunDelay
	if ready < 50*time.Millisecond || float64(ready) < squeezed*float64(ran+ready) {
		return
	}
	if _, other, whole := b.disturbed(w.asked); float64(other) > squeezed*float64(whole) {
		broken(SqueezedOut, "%s was ready for %s without a CPU while others took %.0f %% of %s: keep them away, or choose other CPUs",
			who, ready.Round(rounding), 100*float64(other)/float64(whole), inWords(w.asked))
	}
}

// rounding is that of times in sentences.
const rounding = 10 * time.Millisecond

// disturbed tells of some CPUs, none meaning all, how much of their time the
// host took, how much other programs and interrupts did, and how much time that
// is of. A steal of -1 is unknown.
func (b *balance) disturbed(cpus cpuset.Set) (steal, other, whole time.Duration) {
	if b.before.CPUs == nil || b.after.CPUs == nil {
		return -1, 0, 0
	}
	counted := cpuset.Set{}
	for c, is := range b.after.CPUs {
		was, had := b.before.CPUs[c]
		if !had || !cpus.IsEmpty() && !cpus.Contains(c) {
			continue
		}
		counted = counted.Union(cpuset.Range(c, c))
		used := is.Since(was)
		other += used.Busy()
		steal += max(used.Steal, 0)
		whole += b.elapsed
	}
	// What the workers used there is not others'. A thread that may sit on more
	// CPUs than these counts with its share of them.
	for i := range b.threads {
		t := &b.threads[i]
		on := t.asked
		if on.IsEmpty() {
			on = t.RanOn
		}
		if n := on.Len(); n > 0 {
			other -= time.Duration(float64(t.Used.OnCPU) * float64(on.Intersect(counted).Len()) / float64(n))
		}
	}
	return steal, max(other, 0), whole
}

// shared reports seats that several busy threads had to share.
func (b *balance) shared(r *Receipt) {
	busy := map[string][]string{}
	late := map[string]time.Duration{}
	for i := range b.threads {
		t := &b.threads[i]
		if t.asked.IsEmpty() || float64(t.Used.OnCPU+max(t.Used.RunDelay, 0)) < 0.5*float64(b.elapsed) {
			continue
		}
		at := t.asked.String()
		busy[at] = append(busy[at], fmt.Sprintf("%s (worker %d)", t.Name, t.worker))
		late[at] += max(t.Used.RunDelay, 0)
	}
	var found finding.List
	for _, at := range slices.Sorted(maps.Keys(busy)) {
		set, err := cpuset.Parse(at)
		if n := len(busy[at]); err == nil && n > set.Len() {
			found.Add("oversubscribed", finding.Warning, []string{fmt.Sprintf("%d busy threads on %s, ready without a CPU for %s in all", n, inWords(set), late[at].Round(rounding))},
				"More threads are busy than their seats have CPUs, so they take turns.")
		}
	}
	r.Finding = append(r.Finding, found.Report()...)
}
