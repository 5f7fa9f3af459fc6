//go:build linux

package experiment

import (
	"maps"
	"strconv"
	"time"

	"berth/affinity"
	"berth/probe"
)

// Calibrate puts what a report found into a calibration, key by key; what it
// did not find stays. It returns the keys that it wrote: none for a report that
// is inconclusive.
func (rep *ModesReport) Calibrate(c *probe.Calibration) []string {
	if rep.Verdict != affinity.Measured || len(rep.Derived.SMTYield) == 0 {
		return nil
	}
	yield := map[string]float64{}
	maps.Copy(yield, c.SMTYield)
	for k, v := range rep.Derived.SMTYield {
		yield[k] = v.Median
	}
	c.SMTYield = yield
	return rep.wrote(c, "smt_yield")
}

// Calibrate is as that of [ModesReport]; the matrix is kept where all CPUs were
// measured, for it has no other way to say which they are.
func (rep *LatencyReport) Calibrate(c *probe.Calibration) []string {
	if rep.Verdict != affinity.Measured || rep.Pairs < rep.Of || rep.Pairs == 0 {
		return nil
	}
	for i, cpu := range rep.CPUs {
		if int(cpu) != i { // rows are CPU numbers to a reader
			return nil
		}
	}
	c.CoreToCoreNS = rep.NS
	return rep.wrote(c, "core_to_core_ns")
}

// Calibrate is as that of [ModesReport]. The advisor wants the hand-over between
// two threads on one CPU.
func (rep *SwitchReport) Calibrate(c *probe.Calibration) []string {
	if rep.Verdict != affinity.Measured || rep.Pinned == nil {
		return nil
	}
	us := rep.Pinned.Median
	c.SwitchUS = &us
	return rep.wrote(c, "switch_us")
}

// Calibrate is as that of [ModesReport]: the triad of all threads of a node on
// its own memory.
func (rep *MemoryReport) Calibrate(c *probe.Calibration) []string {
	if rep.Verdict != affinity.Measured {
		return nil
	}
	gbs := map[string]float64{}
	most := map[string]int{}
	for _, b := range rep.Bandwidth {
		node := strconv.Itoa(b.Node)
		if b.Kernel == Triad && b.Local && b.Threads > most[node] {
			gbs[node], most[node] = b.GBs.Median, b.Threads
		}
	}
	if len(gbs) == 0 {
		return nil
	}
	merged := map[string]float64{}
	maps.Copy(merged, c.MemoryBandwidthGBS)
	maps.Copy(merged, gbs)
	c.MemoryBandwidthGBS = merged
	return rep.wrote(c, "memory_bandwidth_gbs")
}

func (r *Report) wrote(c *probe.Calibration, key string) []string {
	c.Schema, c.Fingerprint = probe.CalibrationSchema, r.Fingerprint
	at := map[string]time.Time{}
	maps.Copy(at, c.MeasuredAt)
	at[key] = r.MeasuredAt
	c.MeasuredAt = at
	return []string{key}
}
