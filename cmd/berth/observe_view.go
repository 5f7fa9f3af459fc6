//go:build linux

package main

import (
	"fmt"
	"strings"

	"berth/profiles"
)

// hardlyWaits is the ratio of waiting to computing that two decimals show as 0.
const hardlyWaits = 0.005

// observeView says what holds a program up, and what a unit of its work costs.
func observeView(p *page, d *observeDocument) {
	who := fmt.Sprintf("%s · process %d", cut(observedName(d.Command), max(30, p.width/2)), d.PID)
	if d.Processes > 1 {
		who = fmt.Sprintf("%s · %s, from %d", cut(observedName(d.Command), max(30, p.width/2)), count(d.Processes, "process"), d.PID)
	}
	if d.Runtime != "" {
		who += " · " + string(d.Runtime)
	}
	p.wrapped(fmt.Sprintf("%s · watched for %.1f s, %s", who, d.DurationS, count(d.Samples, "sample")), " · ", "  ")
	p.wrapped(p.paint(bold, string(d.Class))+fmt.Sprintf(", confidence %s: %s", decimal(d.Confidence, 2), classMeans[d.Class]), " ", "  ")
	p.gap()
	var rows [][]string
	for _, s := range [...]struct {
		name  string
		share float64
	}{
		{"on a CPU", d.Shares.OnCPU}, {"waiting for a CPU", d.Shares.WaitingForCPU}, {"stopped by a quota", d.Shares.Throttled},
		{"disk", d.Shares.Disk}, {"network", d.Shares.Network}, {"lock, or more work", d.Shares.Lock}, {"timer", d.Shares.Sleep}, {"other", d.Shares.Other},
	} {
		if s.share >= 0.0005 {
			rows = append(rows, []string{s.name, fmt.Sprintf("%5.1f %%", 100*s.share), strings.Repeat("█", int(s.share*30+0.5))})
		}
	}
	p.table(rows)
	p.gap()
	switch {
	case d.CPUMS == nil:
	case d.WOverC != nil && *d.WOverC < hardlyWaits:
		p.line("it hardly ever waits")
	default:
		text := fmt.Sprintf("one %s: %s ms on a CPU, %s ms waiting", d.Unit, decimal(*d.CPUMS, 4), decimal(*d.WaitMS, 4))
		if d.WOverC != nil {
			text += fmt.Sprintf("; the threads wait %s times as long as they compute", decimal(*d.WOverC, 2))
		}
		p.wrapped(text, " ", "  ")
	}
	p.line(fmt.Sprintf("threads: %d, busy %d, ready or running on average %s", d.Threads.Total, d.Threads.Busy, decimal(d.Threads.RunnableMean, 2)))
	if d.GIL.HeldPct != nil {
		p.wrapped(fmt.Sprintf("the interpreter's lock was held %s %% of the time (%s)", decimal(*d.GIL.HeldPct, 1), d.GIL.Method), " ", "  ")
	}
	if len(d.Phases) > 0 {
		p.heading("Phases")
		var rows [][]string
		for _, x := range d.Phases {
			rows = append(rows, []string{fmt.Sprintf("%.1f–%.1f s", x.FromS, x.ToS), string(x.Class), fmt.Sprintf("%.0f %% on a CPU", 100*x.OnCPU)})
		}
		p.table(rows)
	}
	list(p, "What speaks for it", d.Evidence)
	list(p, "What speaks against it", d.Against)
	findingSection(p, d.Findings, true)
	p.gap()
	p.line(fmt.Sprintf("the look cost %s %% of a CPU", decimal(d.OverheadPct, 2)))
	switch {
	case d.Profile == nil:
	case d.Class == profiles.Starved, d.Class == profiles.Throttled, d.Class == profiles.GILBound, d.Class == profiles.LockBound:
		p.wrapped("the profile is of the work without that wait; --save FILE writes it, berth advise FILE plans for it", " ", "  ")
	default:
		p.line("--save FILE writes its profile, berth advise FILE plans for it")
	}
}

var classMeans = map[profiles.Class]string{
	profiles.CPUBound:             "it computes; more workers help up to the number of cores",
	profiles.MemoryLatencyBound:   "it waits for memory, a word at a time",
	profiles.MemoryBandwidthBound: "memory gives no more",
	profiles.IOBoundBlocking:      "its threads wait, each for one thing; more of them help until the CPUs are full",
	profiles.IOBoundAsync:         "an event loop waits for many; more tasks in flight help, and a loop per CPU",
	profiles.Mixed:                "it computes about as much as it waits",
	profiles.GILBound:             "its threads wait for the interpreter; more processes help, more threads do not",
	profiles.LockBound:            "its threads wait for each other; more of them do not help",
	profiles.Throttled:            "a CPU quota stops it; fewer threads or a larger quota help",
	profiles.Starved:              "others use its CPUs; seats of its own help",
	profiles.Idle:                 "it does too little to judge",
}
