//go:build linux

package observe

import (
	"fmt"
	"math"
	"slices"
	"time"

	"berth/probe/cgroup"
	"berth/probe/finding"
	"berth/profiles"
)

// Finding codes.
const (
	FindBlind     = "waits-unseen"    // what threads wait for could not be asked
	FindIdle      = "too-little-work" // nothing can be said of the work
	FindPhases    = "phases"          // its behaviour changed
	FindNoUnit    = "no-units"        // no unit of work was seen
	FindEnded     = "ended"           // it ended while it was watched
	FindMissed    = "missed"          // some readings failed
	FindNoProfile = "no-profile"      // what was measured makes none
)

// observation draws the watch up.
func (w *Watch) observation(now time.Time) *Observation {
	length := now.Sub(w.began)
	o := &Observation{
		Schema: Schema, Processes: len(w.sampler.Processes()), MeasuredAt: w.began.UTC().Truncate(time.Second),
		DurationS: round(length.Seconds(), 3), Samples: w.samples, Evidence: []string{}, Against: []string{},
	}
	if len(w.pids) > 0 {
		o.PID = slices.Min(w.pids)
	}
	var found finding.List
	f := &facts{cpus: w.cpus.Len()}
	main := w.main()
	if main != nil {
		o.Command = main.command
		if p := main.program; p != nil {
			f.runtime, o.Runtime, o.RuntimeWhy = p.Runtime, p.Runtime, p.Why
		}
	}
	for _, p := range w.processes {
		f.blind = f.blind || p.blind
	}

	all := merged(w.windows)
	j := judge(&all, f)
	o.Class, o.Confidence = j.class, confidence(&j, w.windows, f)
	o.Evidence = append(o.Evidence, j.evidence...)
	o.Against = append(o.Against, j.against...)
	o.Shares = j.split.shares()
	o.Threads = w.threadCounts(&all)
	w.gil(o, &all, main)
	o.Phases = phases(w.windows, f)
	w.noise(o, &all, f)
	w.pressed(o, length)
	o.Evidence = append(o.Evidence, w.delays.end(w, length)...)
	var counted []string
	o.Counters, counted = w.counted.end(now)
	o.Evidence = append(o.Evidence, counted...)

	if f.blind {
		found.Add(FindBlind, finding.Warning, nil, "what its threads wait for could not be asked: that needs the right to trace it (the same user, or root; see ptrace(2) and kernel.yama.ptrace_scope)")
	}
	if o.Class == profiles.Idle {
		found.Add(FindIdle, finding.Info, nil, "too little work to judge: watch it while it is in use")
	}
	if len(o.Phases) > 0 {
		o.Confidence = round(o.Confidence*0.8, 2)
		found.Add(FindPhases, finding.Info, nil, "it went through %d phases: the class is that of all the time together; --after and --for pick one", len(o.Phases))
	}
	if !w.Alive() {
		found.Add(FindEnded, finding.Info, nil, "it ended after %.1f s", length.Seconds())
	}
	if n := w.sampler.Missed(); n > 0 {
		found.Add(FindMissed, finding.Warning, nil, "%d readings failed for want of descriptors or rights: raise `ulimit -n`, or look as its user", n)
	}
	w.work(o, &all, &j, &found)
	o.ProfileYAML = profileText(o, &j, all.native())
	if o.ProfileYAML != nil {
		p, err := profiles.Parse(o.ProfileYAML, "the observed profile")
		if err != nil {
			found.Add(FindNoProfile, finding.Warning, nil, "what was measured makes no profile: %v", err)
			o.ProfileYAML = nil
		}
		o.Profile = p
	}
	o.Findings = found.Report()
	if o.Findings == nil {
		o.Findings = []finding.Finding{}
	}
	o.OverheadPct = round(100*ratio((ownTime()-w.spent).Seconds(), length.Seconds()), 3)
	return o
}

// main is the process that worked most.
func (w *Watch) main() *process {
	var most time.Duration = -1
	var main *process
	for _, t := range w.sampler.Processes() {
		p := w.processes[t.PID]
		if p == nil {
			continue
		}
		if used := max(0, t.Used); used > most {
			most, main = used, p
		}
	}
	return main
}

func (s *split) shares() Shares {
	return Shares{
		OnCPU: s.onCPU, WaitingForCPU: s.delay, Throttled: s.throttled,
		Disk: s.waits[disk], Network: s.waits[network] + s.waits[loop], Lock: s.locks() + s.waits[interpreter],
		Sleep: s.waits[sleep], Other: s.waits[other] + s.waits[unknown],
	}.rounded()
}

// rounded keeps the sum at 1.
func (s Shares) rounded() Shares {
	sum := 0.0
	for _, x := range [...]*float64{&s.OnCPU, &s.WaitingForCPU, &s.Throttled, &s.Disk, &s.Network, &s.Lock, &s.Sleep, &s.Other} {
		*x = round(*x, 4)
		sum += *x
	}
	if sum > 0 {
		s.Other = round(max(0, s.Other+1-sum), 4)
	}
	return s
}

func (w *Watch) threadCounts(all *window) Threads {
	n := Threads{Busy: len(all.busy()), Total: len(w.sampler.Threads())}
	var runnable float64
	for i := range all.threads {
		runnable += all.threads[i].onCPU + all.threads[i].delay
	}
	n.RunnableMean = round(ratio(runnable, all.length()), 3)
	return n
}

func (w *Watch) gil(o *Observation, all *window, main *process) {
	if main == nil || main.program == nil || main.program.Runtime != profiles.Python {
		return
	}
	o.GIL.Present = true
	switch {
	case all.gilSamples > 0:
		held := round(100*ratio(float64(all.gilHeld), float64(all.gilSamples)), 1)
		o.GIL.HeldPct = &held
		o.GIL.Method = fmt.Sprintf("the interpreter's lock word was read %d times", all.gilSamples)
	case main.lockErr != nil:
		s, ok := all.shares()
		if !ok {
			return
		}
		// Whoever waits for it waits because it is held.
		held := round(100*min(1, max(s.waits[interpreter], min(1, ratio(all.onCPU(), all.length())))), 1)
		o.GIL.HeldPct = &held
		o.GIL.Method = fmt.Sprintf("at most: the larger of the time on a CPU and of the waits that have the time-out of the switch interval, as its lock word could not be read (%v)", main.lockErr)
	}
}

func (w *Watch) noise(o *Observation, all *window, f *facts) {
	if capacity := all.length() * float64(max(1, f.cpus)); capacity > 0 && f.cpus > 0 {
		if all.others >= 0 {
			x := round(100*all.others/capacity, 2)
			o.Noise.OtherBusyPct = &x
		}
		if all.steal >= 0 {
			x := round(100*all.steal/capacity, 2)
			o.Noise.StealPct = &x
		}
	}
	if len(w.groups) > 0 {
		x := round(1000*all.throttled, 1)
		o.Noise.ThrottledMS = &x
		for pid := range w.groups {
			if text := quota(pid); text != "" {
				o.Evidence = append(o.Evidence, text)
				break
			}
		}
	}
}

// pressed says for how much of the time the machine lacked something.
func (w *Watch) pressed(o *Observation, length time.Duration) {
	is, text := w.pressure(), ""
	for _, resource := range stallable {
		before, ok := w.stalls[resource]
		if now, still := is[resource]; ok && still {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%s %s", resource, percent(ratio((now-before).Seconds(), length.Seconds())))
		}
	}
	if text != "" {
		o.Evidence = append(o.Evidence, "of the time, some thread of the machine stood still for want of: "+text+" (PSI)")
	}
}

// quota names the quota that binds a process.
func quota(pid int) string {
	groups, err := cgroup.Of(pid)
	if err != nil {
		return ""
	}
	text, least := "", math.Inf(1)
	for _, g := range groups {
		state, _ := g.Read(cgroup.CPU)
		if state == nil || state.QuotaCPUs == nil || *state.QuotaCPUs >= least {
			continue
		}
		for _, l := range state.Chain {
			if l.Binding && l.Resource == "cpus" {
				least = *state.QuotaCPUs
				text = fmt.Sprintf("%s of %s allows %.2f CPUs", l.Source, l.Path, least)
			}
		}
	}
	return text
}

// work tells the costs of a unit.
func (w *Watch) work(o *Observation, all *window, j *judgement, found *finding.List) {
	o.Unit = w.options.Unit.name()
	cpu := all.onCPU()
	units, ok, err := w.options.Unit.count(w.switches(all))
	if _, wakeups := w.options.Unit.(Wakeups); wakeups && !ok && err == nil && cpu > 0 {
		// It never waits: any unit will do, as long as its parts are right.
		o.Unit, units, ok = "second of CPU time", cpu, true
	}
	if err != nil {
		found.Add(FindNoUnit, finding.Warning, nil, "%v", err)
	}
	if j.split.onCPU > 0 {
		wc := j.split.waiting() / j.split.onCPU
		if o.Class != profiles.Idle {
			x := round(wc, 4)
			o.WOverC = &x
		}
		if ok && o.Class != profiles.Idle {
			n, c := round(units, 3), 1000*cpu/units
			x := c * wc
			if j.async {
				x = w.asyncWait(o, all, c, cpu)
			}
			c, x = significant(c), significant(x)
			o.Units, o.CPUMS, o.WaitMS = &n, &c, &x
		}
	}
	if !ok && err == nil {
		found.Add(FindNoUnit, finding.Info, nil, "no %s was seen, so what one costs is not known", o.Unit)
	}
}

// asyncWait is the wait of a task in an event loop, by Little's law: as many
// tasks are under way as there are connections, if each always has one.
func (w *Watch) asyncWait(o *Observation, all *window, cpuMS, cpu float64) float64 {
	inFlight := ratio(all.sockets, float64(all.samples))
	perTask := max(0, ratio(inFlight*all.length(), cpu)-1)
	if inFlight < 1 {
		o.Evidence = append(o.Evidence, "its event loop holds no connections that could be counted: wait_ms is the loop's own waiting")
		return cpuMS * ratio(max(0, all.length()-cpu), cpu)
	}
	o.Evidence = append(o.Evidence, fmt.Sprintf("wait_ms is a guess by Little's law: %.0f connections, each taken to have a task under way", inFlight))
	return cpuMS * perTask
}

// switches is how often the busy threads gave up their CPU, -1 unknown. For
// time slices in which it was not counted, those stand in which it was.
func (w *Watch) switches(all *window) int64 {
	var counted switched
	var slices int64
	for _, u := range all.busy() {
		counted.voluntary += w.switched[u.id].voluntary
		counted.slices += w.switched[u.id].slices
		slices += u.slices
	}
	switch {
	case counted.slices > 0:
		return int64(math.Round(float64(counted.voluntary) / float64(counted.slices) * float64(slices)))
	case counted.voluntary > 0: // the kernel counts no slices
		return counted.voluntary
	}
	return -1
}

// native is the share of CPU time with the GIL released: what is more than all
// locks together were held.
func (w *window) native() float64 {
	if w.gilLooks == 0 || w.onCPU() == 0 {
		return 0
	}
	held := ratio(float64(w.gilHeld), float64(w.gilLooks)) * w.length()
	share := 1 - held/w.onCPU()
	if share < leastNative {
		return 0
	}
	return share
}

// leastNative is the sampling error of the share without the GIL.
const leastNative = 0.05

func round(x float64, digits int) float64 {
	f := math.Pow(10, float64(digits))
	return math.Round(x*f) / f
}

// significant rounds to four significant digits.
func significant(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	return round(x, 3-int(math.Floor(math.Log10(math.Abs(x)))))
}
