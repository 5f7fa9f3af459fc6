//go:build linux

package affinity

import (
	"fmt"

	"berth/probe/cpuset"
	"berth/probe/difference"
)

// CompareReceipts tells what differs between two receipts: whether seats were
// kept, which they were, and what the threads did in all. Times and counts are
// those of one run each, of which nothing tells chance from change.
func CompareReceipts(a, b *Receipt) *difference.Report {
	r := difference.New()
	r.Flag("kept", a.Kept, b.Kept)
	r.Word("verdict", string(a.Verdict), string(b.Verdict))
	r.Count("status", "", a.Status, b.Status)
	r.Count("workers", "", len(a.Workers), len(b.Workers))
	r.Members("seats", seatsOf(a), seatsOf(b))
	r.Members("violations", violationsOf(a), violationsOf(b))
	x, y := sumUp(a), sumUp(b)
	once := func(name, unit string, a, b float64) { r.Once(name, unit, &a, &b) }
	once("threads", "", x.threads, y.threads)
	once("wall_s", "s", a.WallS, b.WallS)
	r.Once("on_cpu_ms", "ms", x.onCPU.known(), y.onCPU.known())
	r.Once("run_delay_ms", "ms", x.runDelay.known(), y.runDelay.known())
	r.Once("migrations", "", x.migrations.known(), y.migrations.known())
	r.Once("voluntary_switches", "", x.voluntary.known(), y.voluntary.known())
	r.Once("involuntary_switches", "", x.involuntary.known(), y.involuntary.known())
	r.Once("throttled_ms", "ms", a.ThrottledMS, b.ThrottledMS)
	r.Once("steal_ms", "ms", a.StealMS, b.StealMS)
	r.Once("other_busy_pct", "%", a.Noise.OtherBusyPct, b.Noise.OtherBusyPct)
	return r
}

func seatsOf(r *Receipt) []string {
	var out []string
	seat := func(who string, asked cpuset.Set, mems string) {
		if asked.IsEmpty() {
			return
		}
		text := who + " on " + asked.String()
		if mems != "" {
			text += ", memory of node " + mems
		}
		out = append(out, text)
	}
	for _, w := range r.Workers {
		if !r.Each {
			seat(fmt.Sprintf("worker %d", w.Index), w.Asked, w.Mems)
			continue
		}
		for i, t := range w.Threads {
			seat(fmt.Sprintf("worker %d thread %d", w.Index, i), t.Asked, w.Mems)
		}
	}
	return out
}

// violationsOf leaves the threads' numbers out, which are others each time.
func violationsOf(r *Receipt) []string {
	var out []string
	for _, v := range r.Broken {
		out = append(out, fmt.Sprintf("worker %d %s", v.Worker, v.Code))
	}
	return out
}

// sum is one that is known as far as its parts are.
type sum struct {
	all     float64
	unknown bool
}

func (t *sum) add(x *float64) {
	if x == nil {
		t.unknown = true
		return
	}
	t.all += *x
}

func (t *sum) count(n *int64) {
	if n == nil {
		t.unknown = true
		return
	}
	t.all += float64(*n)
}

func (t *sum) known() *float64 {
	if t.unknown {
		return nil
	}
	return &t.all
}

type totals struct {
	threads                                             float64
	onCPU, runDelay, migrations, voluntary, involuntary sum
}

func sumUp(r *Receipt) *totals {
	s := &totals{}
	for _, w := range r.Workers {
		for _, t := range w.Threads {
			s.threads++
			s.onCPU.add(t.OnCPUMS)
			s.runDelay.add(t.RunDelayMS)
			s.migrations.count(t.Migrations)
			s.voluntary.count(t.Voluntary)
			s.involuntary.count(t.Involuntary)
		}
	}
	return s
}
