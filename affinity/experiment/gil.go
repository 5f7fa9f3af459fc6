//go:build linux

package experiment

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"berth/affinity"
	"berth/affinity/experiment/python"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
)

// GILOptions say which interpreters [GIL] asks.
type GILOptions struct {
	Python []string // paths or names; empty: those found on PATH
}

// GILReport is what [GIL] found of one interpreter, and in Others of further ones.
type GILReport struct {
	Report           `yaml:",inline"`
	Python           string        `json:"python,omitempty" yaml:"python,omitempty"` // path; empty: none was found
	Implementation   string        `json:"implementation,omitempty" yaml:"implementation,omitempty"`
	Version          string        `json:"version,omitempty" yaml:"version,omitempty"`
	FreeThreaded     bool          `json:"free_threaded" yaml:"free_threaded"` // runs without the GIL
	SwitchIntervalMS float64       `json:"switch_interval_ms,omitempty" yaml:"switch_interval_ms,omitempty"`
	Runs             []GILRun      `json:"runs" yaml:"runs"`
	Skipped          []SkippedWork `json:"skipped" yaml:"skipped"`
	Others           []GILReport   `json:"others,omitempty" yaml:"others,omitempty"`
}

// GILRun is one work by some workers of one carrier.
type GILRun struct {
	Work             string           `json:"work" yaml:"work"`
	Carrier          string           `json:"carrier" yaml:"carrier"`
	Workers          int              `json:"workers" yaml:"workers"`
	SwitchIntervalMS float64          `json:"switch_interval_ms,omitempty" yaml:"switch_interval_ms,omitempty"`
	PerSecond        measured.Value   `json:"throughput_per_s" yaml:"throughput_per_s"`
	Relative         measured.Value   `json:"relative_to_alone" yaml:"relative_to_alone"`
	GILHeldPct       *measured.Value  `json:"gil_held_pct,omitempty" yaml:"gil_held_pct,omitempty"`
	MemoryPerWorker  *measured.Value  `json:"memory_per_worker_bytes,omitempty" yaml:"memory_per_worker_bytes,omitempty"`
	Verdict          affinity.Verdict `json:"verdict" yaml:"verdict"`

	usual bool // with the interpreter's own switch interval
}

// SkippedWork is one that could not be had.
type SkippedWork struct {
	Work    string `json:"work" yaml:"work"`
	Carrier string `json:"carrier,omitempty" yaml:"carrier,omitempty"`
	Why     string `json:"why" yaml:"why"`
}

// thousands is how many tasks wait at once in asyncio, and many how many
// threads do.
const (
	thousands = 2000
	many      = 32
)

// serverDelay is how long the slow server takes to answer.
const serverDelay = 20 * time.Millisecond

type gilArm struct {
	arm
	out  GILRun
	base *gilArm
	ask  python.Trial
}

// GIL measures what one interpreter after another makes of threads, processes
// and tasks. No interpreter is no error: the report says so.
func GIL(ctx context.Context, s Settings, o GILOptions) (*GILReport, error) {
	cpus, err := s.cpus()
	if err != nil {
		return nil, err
	}
	var found []python.Interpreter
	for _, path := range o.Python {
		p, err := python.Open(ctx, path)
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	if len(o.Python) == 0 {
		found = python.Find(ctx)
	}
	if len(found) == 0 {
		rep := &GILReport{Report: s.newReport("gil", cpus), Runs: []GILRun{}}
		rep.Skipped = []SkippedWork{{Work: "all", Why: noPython}}
		return rep, nil
	}
	// Better one interpreter known than several unknown; those that were named are
	// all measured.
	var left []python.Interpreter
	if fit := max(int(s.Limit/shortTime), 1); len(o.Python) == 0 && fit < len(found) {
		found, left = found[:fit], found[fit:]
	}
	var first *GILReport
	deadline := time.Now().Add(s.Limit)
	for i, p := range found {
		if ctx.Err() != nil {
			break
		}
		part := s
		part.Limit = time.Until(deadline) / time.Duration(len(found)-i)
		rep, err := part.gil(ctx, cpus, p, part.Limit < shortTime)
		switch {
		case err != nil:
			return nil, err
		case first == nil:
			first = rep
		default:
			first.Others = append(first.Others, *rep)
		}
	}
	if first == nil {
		return nil, ctx.Err()
	}
	for _, p := range left {
		first.add(FindShort, finding.Info, "%s (%s %s) was left out for want of time: give it more, or name it with --python", p.Path, p.Implementation, p.Version)
	}
	return first, nil
}

const noPython = "no python3 was found on PATH; name one with --python"

// gil measures one interpreter; a short one leaves out what is not of the first
// interest.
func (s *Settings) gil(ctx context.Context, cpus cpuset.Set, p python.Interpreter, short bool) (*GILReport, error) {
	began := time.Now()
	rep := &GILReport{Report: s.newReport("gil", cpus), Python: p.Path, Implementation: p.Implementation, Version: p.Version,
		FreeThreaded: p.FreeThreaded, SwitchIntervalMS: float64(p.SwitchInterval) / 1e6, Runs: []GILRun{}, Skipped: []SkippedWork{}}
	cores, _ := s.cores(cpus)
	limit, quota := s.quotaBelow(len(cores))
	if quota {
		rep.add(FindQuota, finding.Warning, "a CPU quota gives this process the time of %.4g CPUs, fewer than the %d cores: what several processes get here is that quota", limit, len(cores))
	}
	session, err := python.Start(ctx, p, python.Options{CPUs: cpus, ServerDelay: serverDelay})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	arms := gilArms(max(len(cores), 2), p, short)
	r := &rounds{settings: s, report: &rep.Report, workers: len(cores), children: func() []int { return []int{session.PID()} }, deadline: began.Add(s.Limit)}
	for _, a := range arms {
		a.watched = s.siblings(cpus)
		// A start of processes, of thousands of threads or of connections takes
		// its time, which is not the window's.
		a.optional, a.loose = a.ask.Workers > 1, true
		a.trial = func(ctx context.Context, length time.Duration) (measurement, error) {
			ask := a.ask
			ask.Window = length
			got, err := session.Trial(ctx, ask)
			if err != nil {
				return measurement{}, err
			}
			return a.add(got, min(len(cores), a.ask.Workers), quota), nil
		}
		r.arms = append(r.arms, &a.arm)
	}
	r.window = s.windowFor(s.Limit/2, len(arms), 9, 60*time.Millisecond, 300*time.Millisecond)
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	rep.WallS = time.Since(began).Seconds()
	for _, a := range arms {
		if a.err != nil {
			rep.Skipped = append(rep.Skipped, SkippedWork{a.out.Work, a.out.Carrier, a.err.Error()})
			continue
		}
		if len(a.round) == 0 || len(a.base.round) == 0 {
			continue
		}
		out := a.out
		out.PerSecond = measured.Of(a.values(""))
		out.Relative = measured.Of(a.over(&a.base.arm))
		if held := a.values("held"); len(held) > 0 {
			v := measured.Of(held)
			out.GILHeldPct = &v
		}
		if bytes := a.values("memory"); len(bytes) > 0 {
			v := measured.Of(bytes)
			out.MemoryPerWorker = &v
		}
		out.Verdict = affinity.Measured
		if !a.known() || !a.base.known() || rep.Verdict == affinity.Inconclusive && a.noisy > len(a.round) {
			out.Verdict = affinity.Inconclusive
		}
		rep.Runs = append(rep.Runs, out)
	}
	return rep, nil
}

// gilArms are the works and workers to compare on n cores.
func gilArms(n int, p python.Interpreter, short bool) []*gilArm {
	var arms []*gilArm
	var base *gilArm
	add := func(work python.Work, carrier python.Carrier, workers int, interval time.Duration) {
		a := &gilArm{ask: python.Trial{Work: work, Carrier: carrier, Workers: workers, SwitchInterval: interval}}
		a.out = GILRun{Work: string(work), Carrier: string(carrier), Workers: workers,
			SwitchIntervalMS: float64(cmp.Or(interval, p.SwitchInterval)) / 1e6, usual: interval == 0}
		a.name = fmt.Sprintf("%s by %d %s", work, workers, carrier)
		if interval > 0 {
			a.name += fmt.Sprintf(", switch interval %v", interval)
		}
		if workers == 1 {
			base = a
		}
		a.base = base
		arms = append(arms, a)
	}
	add(python.CPU, python.Threads, 1, 0)
	add(python.CPU, python.Threads, n, 0)
	add(python.CPU, python.Processes, n, 0)
	if !short && !p.FreeThreaded {
		add(python.CPU, python.Threads, n, 100*time.Microsecond)
		add(python.CPU, python.Threads, n, 50*time.Millisecond)
	}
	add(python.Native, python.Threads, 1, 0)
	add(python.Native, python.Threads, n, 0)
	if !short {
		add(python.Native, python.Processes, n, 0)
	}
	add(python.BlockingIO, python.Threads, 1, 0)
	add(python.BlockingIO, python.Threads, many, 0)
	if !short {
		add(python.BlockingIO, python.Processes, 2*n, 0)
	}
	add(python.AsyncIO, python.Async, 1, 0)
	add(python.AsyncIO, python.Async, many, 0)
	add(python.AsyncIO, python.Async, thousands, 0)
	return arms
}

// add makes a measurement of what Python's workers did.
func (a *gilArm) add(got python.Reading, cores int, quota bool) measurement {
	m := measurement{value: got.PerSecond, more: map[string]float64{}}
	if got.GILHeldPct != nil {
		m.more["held"] = *got.GILHeldPct
	}
	if got.MemoryPerWorker > 0 {
		m.more["memory"] = got.MemoryPerWorker
	}
	// Only work that never waits tells what it lost; a few hundredths are the
	// interpreter's own.
	if a.ask.Work == python.CPU && (a.ask.Workers == 1 || a.ask.Carrier == python.Processes) && !quota && got.Window > 0 {
		m.lost = max(0, 1-float64(got.OnCPU)/float64(got.Window)/float64(cores)-0.03)
	}
	return m
}
