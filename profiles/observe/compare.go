//go:build linux

package observe

import "berth/probe/difference"

// Compare tells what differs between two observations. All figures are of one
// look each, of which nothing tells chance from change; costs of work are
// compared where both are of one unit.
func Compare(a, b *Observation) *difference.Report {
	r := difference.New()
	r.Word("class", string(a.Class), string(b.Class))
	r.Word("command", a.Command, b.Command)
	r.Word("runtime", string(a.Runtime), string(b.Runtime))
	once := func(name, unit string, a, b float64) { r.Once(name, unit, &a, &b) }
	once("confidence", "", a.Confidence, b.Confidence)
	for _, share := range [...]struct {
		name string
		a, b float64
	}{
		{"on_cpu", a.Shares.OnCPU, b.Shares.OnCPU}, {"waiting_for_cpu", a.Shares.WaitingForCPU, b.Shares.WaitingForCPU},
		{"throttled", a.Shares.Throttled, b.Shares.Throttled}, {"disk", a.Shares.Disk, b.Shares.Disk}, {"network", a.Shares.Network, b.Shares.Network},
		{"lock", a.Shares.Lock, b.Shares.Lock}, {"sleep", a.Shares.Sleep, b.Shares.Sleep}, {"other", a.Shares.Other, b.Shares.Other},
	} {
		once("shares."+share.name, "%", 100*share.a, 100*share.b)
	}
	r.Word("unit", a.Unit, b.Unit)
	if a.Unit == b.Unit {
		r.Once("cpu_ms", "ms", a.CPUMS, b.CPUMS)
		r.Once("wait_ms", "ms", a.WaitMS, b.WaitMS)
		r.Once("units_per_s", "1/s", perSecond(a), perSecond(b))
	}
	r.Once("w_over_c", "", a.WOverC, b.WOverC)
	once("threads.total", "", float64(a.Threads.Total), float64(b.Threads.Total))
	once("threads.busy", "", float64(a.Threads.Busy), float64(b.Threads.Busy))
	once("threads.runnable_mean", "", a.Threads.RunnableMean, b.Threads.RunnableMean)
	r.Once("gil.held_pct", "%", a.GIL.HeldPct, b.GIL.HeldPct)
	return r
}

func perSecond(o *Observation) *float64 {
	if o.Units == nil || o.DurationS <= 0 {
		return nil
	}
	return new(*o.Units / o.DurationS)
}
