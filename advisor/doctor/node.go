//go:build linux

package doctor

import (
	"fmt"
	"slices"
	"strings"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

const (
	// cpuBusy is the share of the time from which a CPU's frequency matters.
	cpuBusy = 0.5
	// cappedBelow: a limit within five per cent of the top is rounding, or one
	// step of the table.
	cappedBelow = 0.95
	// Steal that is told: below two per cent is the host's own upkeep; from ten
	// per cent the machine does not have the CPUs that it shows.
	stealFrom, stealMuch = 0.02, 0.10
)

// whileThere is all the time that a CPU accounted for, in seconds.
func whileThere(t tasks.CPUTimes) float64 {
	return (t.Busy() + max(t.Idle, 0) + max(t.IOWait, 0) + max(t.Steal, 0)).Seconds()
}

// interrupts: CPUs of busy threads that serve many interrupts.
func interrupts(r *report) {
	on := map[cpuset.CPU][]*Thread{}
	var order []cpuset.CPU
	var workers cpuset.Set
	for _, t := range r.with(affinity.IRQHeavy, func(*Thread, []affinity.Conflict) bool { return true }) {
		if on[t.CPU] == nil {
			order = append(order, t.CPU)
		}
		on[t.CPU] = append(on[t.CPU], t)
	}
	for _, t := range r.live((*Thread).isBusy) {
		if t.CPU >= 0 {
			workers = workers.Union(cpuset.Of(t.CPU))
		}
	}
	slices.Sort(order)
	for _, c := range order {
		spent := r.Spent[c]
		all := whileThere(spent)
		share := func(d float64) string { return percent(d / all) }
		evidence := []string{fmt.Sprintf("of CPU %d's time: hard interrupts %s, soft %s", c, share(max(spent.IRQ, 0).Seconds()), share(max(spent.SoftIRQ, 0).Seconds()))}
		fix := ""
		others := r.Machine.Topology.Online.Minus(workers)
		for _, one := range busiest(r.Interrupts, c) {
			line := fmt.Sprintf("interrupt %s (%s): %.0f/s here", one.Label, printable(one.Name), float64(one.Count[c])/r.Interval.Seconds())
			if one.Affinity != "" {
				line += ", smp_affinity_list " + one.Affinity
			}
			evidence = append(evidence, line)
			if fix == "" && one.numbered() && !others.IsEmpty() {
				fix = fmt.Sprintf("echo %s > /proc/irq/%s/smp_affinity_list", others, one.Label)
			}
		}
		for _, one := range busiest(r.SoftIRQs, c) {
			evidence = append(evidence, fmt.Sprintf("soft interrupt %s: %.0f/s here", one.Label, float64(one.Count[c])/r.Interval.Seconds()))
		}
		processes, of := byProcess(r, on[c])
		for _, p := range processes {
			if fix := &fix; *fix == "" {
				if room := r.roomBeyond(p, cpuset.Set{}).Minus(cpuset.Of(c)); !room.IsEmpty() {
					*fix = fmt.Sprintf("taskset -acp %s %d", room, p.PID)
				}
			}
			s := ofThreads(p, of[p.PID])
			s.CPU = &c
			r.add(IRQHeavy, s, evidence, fix, "Interrupts took %s of CPU %d, on which %s is busy.", share((max(spent.IRQ, 0) + max(spent.SoftIRQ, 0)).Seconds()), c, name(p))
		}
	}
}

func (t *Thread) isBusy() bool { return t.Busy() }

// ownScale: drivers that choose the frequency themselves as it is needed. Their
// "powersave" is the usual governor, and holds nothing down (intel_pstate.rst,
// amd-pstate.rst: the active mode).
func (p *FrequencyPolicy) ownScale() bool {
	return p.Driver == "intel_pstate" || p.Driver == "amd-pstate-epp" || p.Driver == "amd_pstate_epp"
}

// frequency: what keeps busy CPUs slow.
func frequency(r *report) {
	busy := r.busyCPUs(cpuBusy)
	type key struct{ code, what string }
	hits := map[key][]*FrequencyPolicy{}
	var order []key
	for i := range r.Settings.Policies {
		p := &r.Settings.Policies[i]
		if !p.CPUs.Overlaps(busy) {
			continue
		}
		note := func(code, what string) {
			k := key{code, what}
			if hits[k] == nil {
				order = append(order, k)
			}
			hits[k] = append(hits[k], p)
		}
		capped := p.TopKHz > 0 && p.MaxKHz > 0 && float64(p.MaxKHz) < cappedBelow*float64(p.TopKHz)
		switch {
		case p.Governor == "powersave" && !p.ownScale() && p.Driver != "":
			note(SlowGovernor, fmt.Sprintf("The governor powersave of %s holds CPUs at their lowest frequency", p.Driver))
		case p.Governor == "userspace" && p.TopKHz > 0 && p.CurrentKHz > 0 && float64(p.CurrentKHz) < cappedBelow*float64(p.TopKHz):
			note(SlowGovernor, "The governor userspace holds CPUs at the frequency that somebody set")
		}
		if p.Preference == "power" && p.ownScale() && p.Governor != "performance" {
			note(PowerPreference, "The preference \"power\" keeps the frequency low")
		}
		if capped {
			note(FrequencyCapped, fmt.Sprintf("A limit of %s keeps CPUs below the %s that they are made for", gigahertz(p.MaxKHz), gigahertz(p.TopKHz)))
		}
	}
	for _, k := range order {
		var on cpuset.Set
		var evidence []string
		for _, p := range hits[k] {
			on = on.Union(p.CPUs)
			line := fmt.Sprintf("%s: driver %s, governor %s", p.Path, p.Driver, p.Governor)
			if p.Preference != "" {
				line += ", preference " + p.Preference
			}
			if p.MaxKHz > 0 {
				line += ", limit " + gigahertz(p.MaxKHz)
			}
			if p.CurrentKHz > 0 {
				line += ", now " + gigahertz(p.CurrentKHz)
			}
			evidence = append(evidence, line)
		}
		file, value := "scaling_governor", "performance"
		switch k.code {
		case PowerPreference:
			file, value = "energy_performance_preference", "balance_performance"
		case FrequencyCapped:
			file, value = "scaling_max_freq", fmt.Sprint(hits[k][0].TopKHz)
		}
		s := Subject{Path: hits[k][0].Path + "/" + file}
		var files []string
		for _, p := range hits[k] {
			files = append(files, p.Path+"/"+file)
		}
		if len(files) > 4 {
			files = []string{cpuDir + "/cpufreq/policy*/" + file}
		}
		r.add(k.code, s, evidence, fmt.Sprintf("echo %s | tee %s", value, strings.Join(files, " ")), "%s, and CPUs %s are busy.", k.what, on.Intersect(busy))
	}
	if s := r.Settings; s.TurboFile != "" {
		value := "1"
		if strings.HasSuffix(s.TurboFile, "no_turbo") {
			value = "0"
		}
		r.add(TurboOff, Subject{Path: s.TurboFile}, nil, fmt.Sprintf("echo %s > %s", value, s.TurboFile), "Turbo is switched off: no CPU goes beyond its base frequency.")
	}
}

// heat: CPUs that grew too hot in the interval.
func heat(r *report) {
	if len(r.Heat) == 0 {
		return
	}
	var on []cpuset.CPU
	var evidence []string
	for _, h := range r.Heat {
		on = append(on, h.CPU)
		evidence = append(evidence, fmt.Sprintf("%s grew by %d", h.File, h.Count))
	}
	r.add(ThermalThrottled, Subject{}, evidence, "", "Heat slowed CPUs %s down: look after fans, air and the power limit.", cpuset.Of(on...))
}

func smtOff(r *report) {
	smt := r.Machine.Topology.SMT
	if smt == nil || smt.Control != "off" && smt.Control != "forceoff" {
		return
	}
	file := cpuDir + "/smt/control"
	fix := "echo on > " + file
	if smt.Control == "forceoff" {
		fix = "leave out nosmt=force and mitigations=…,nosmt on the kernel's command line, and boot"
	}
	r.add(SMTOff, Subject{Path: file}, []string{file + " is " + smt.Control}, fix, "SMT is switched off: each core runs one thread.")
}

func floatingCPUs(r *report) {
	for _, f := range r.Machine.Findings {
		if f.Code == probe.VCPUUnverified {
			r.add(FloatingVCPU, Subject{}, f.Evidence, "", "This is a virtual machine of which nobody promised that its CPUs stay where they are: pinning here promises nothing physical.")
		}
	}
}

// steal looks at the CPUs that wanted to run: an idle one loses nothing.
func steal(r *report) {
	var stolen, all float64
	var evidence []string
	for c := range r.busyCPUs(cpuBusy).All() {
		t := r.Spent[c]
		if t.Steal < 0 {
			continue
		}
		stolen += t.Steal.Seconds()
		all += whileThere(t)
		evidence = append(evidence, fmt.Sprintf("CPU %d: %s of its time", c, percent(t.Steal.Seconds()/whileThere(t))))
	}
	if all <= 0 || stolen/all < stealFrom {
		return
	}
	f := r.add(Steal, Subject{}, evidence, "", "The host gave %s of the time of the busy CPUs to others: ask for dedicated CPUs, or for a host with room.", percent(stolen/all))
	if stolen/all >= stealMuch {
		f.Severity = Error
	}
}
