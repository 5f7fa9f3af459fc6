//go:build linux

package experiment

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// Schema names the JSON document that every report marshals to.
const Schema = "berth.experiment/v1"

// Settings hold for every experiment.
type Settings struct {
	// Machine is as [probe.Probe] gives it for the live system.
	Machine *probe.Machine
	// CPUs to measure on; empty: all that are allowed.
	CPUs cpuset.Set
	// Limit is the time after which no further round begins.
	Limit time.Duration
	// Width is how far the ends of the 95 % interval may be from the median,
	// as a share of it, for the repeating to end before the limit; 0: 0.03.
	Width float64
	// Window is the time over which the workers of one trial are counted; 0:
	// what the experiment holds for fit.
	Window time.Duration
	// Seed decides the order of the trials; 0: another each time.
	Seed uint64
	// Progress, if any, is told now and then how much of the limit is gone, and
	// what is being done.
	Progress func(share float64, doing string)
	// Worker is the command of the worker processes; empty: this program.
	Worker []string
}

func (s *Settings) width() float64 { return cmp.Or(s.Width, 0.03) }

// cpus are those that may be measured on.
func (s *Settings) cpus() (cpuset.Set, error) {
	allowed := s.Machine.Topology.Allowed
	if s.CPUs.IsEmpty() {
		return allowed, nil
	}
	if out := s.CPUs.Minus(allowed); !out.IsEmpty() {
		return cpuset.Set{}, &NotAllowed{Asked: s.CPUs, Out: out, Allowed: allowed}
	}
	return s.CPUs, nil
}

// NotAllowed is the error of an experiment on CPUs that this process may not use.
type NotAllowed struct{ Asked, Out, Allowed cpuset.Set }

func (e *NotAllowed) Error() string {
	return fmt.Sprintf("measure on CPUs %s: this process may not use %s, only %s", e.Asked, e.Out, e.Allowed)
}

// core is one of the machine's cores with the CPUs that may be measured on.
type core struct {
	cpus []cpuset.CPU
	kind string
}

// cores are those of the set, one for each core that has a CPU in it: the
// fastest kind alone where there are several, since a mean of different cores
// describes none; other names the kinds that were left out.
func (s *Settings) cores(set cpuset.Set) (cores []core, other []string) {
	t := &s.Machine.Topology
	place := map[cpuset.CPU]int{}
	for i, c := range t.LogicalOrder() {
		place[c] = i
	}
	seen := cpuset.Set{}
	for i := range t.Cores {
		in := t.Cores[i].CPUs.Intersect(set)
		if in.IsEmpty() {
			continue
		}
		seen = seen.Union(in)
		cores = append(cores, core{slices.Collect(in.All()), t.Cores[i].Kind})
	}
	for c := range set.Minus(seen).All() { // CPUs of which no core is known
		cores = append(cores, core{cpus: []cpuset.CPU{c}})
	}
	slices.SortStableFunc(cores, func(a, b core) int { return place[a.cpus[0]] - place[b.cpus[0]] })
	for _, k := range t.CoreKinds {
		of := func(c core) bool { return c.kind == k.Name }
		if !slices.ContainsFunc(cores, of) {
			continue
		}
		for _, c := range cores {
			if !of(c) && !slices.Contains(other, c.kind) {
				other = append(other, c.kind)
			}
		}
		cores = slices.DeleteFunc(cores, func(c core) bool { return !of(c) })
		break
	}
	return cores, other
}

// shortTime is the limit below which less is compared.
const shortTime = 20 * time.Second

// lastLevel is the size of the largest last-level cache that the CPUs share, in
// bytes; 0 is unknown.
func lastLevel(t *topology.Topology, cpus cpuset.Set) int64 {
	var size int64
	for _, c := range t.LastLevel() {
		if c.Size != nil && c.CPUs.Overlaps(cpus) {
			size = max(size, *c.Size)
		}
	}
	return size
}

// Report is what every experiment's answer begins with.
type Report struct {
	Schema      string           `json:"schema" yaml:"schema"`
	Kind        string           `json:"kind" yaml:"kind"`
	Fingerprint string           `json:"machine_fingerprint,omitempty" yaml:"machine_fingerprint,omitempty"`
	MeasuredAt  time.Time        `json:"measured_at" yaml:"measured_at"`
	Verdict     affinity.Verdict `json:"verdict" yaml:"verdict"`
	// CPUSet is the CPUs that were measured on.
	CPUSet cpuset.Set `json:"cpuset" yaml:"cpuset"`
	WallS  float64    `json:"wall_s" yaml:"wall_s"` // seconds
	// Trials were made, and of them Disturbed did not count.
	Trials    int               `json:"trials" yaml:"trials"`
	Disturbed int               `json:"disturbed" yaml:"disturbed"`
	Noise     affinity.Noise    `json:"noise" yaml:"noise"` // while the trials ran
	Findings  []finding.Finding `json:"findings" yaml:"findings"`
}

// Finding codes.
const (
	FindNoisy       = "noisy"         // something else used the CPUs
	FindFew         = "few-trials"    // the time was up before there were enough
	FindShort       = "left-out"      // of what is measured by default, for want of time
	FindInterrupted = "interrupted"   // ended early, by the user
	FindWide        = "wide-interval" // the time was up before the width was reached
	FindQuota       = "quota-bound"   // what was measured is the quota
	FindFloating    = "vcpus-float"   // pinning promises nothing physical here
	FindKinds       = "one-kind"      // only cores of one kind were used
	FindClock       = "clock-moved"   // the clock was not steady
	FindMemory      = "less-memory"   // a working set is smaller than it should be
)

// newReport begins the report of one kind, with what is known beforehand.
func (s *Settings) newReport(kind string, cpus cpuset.Set) Report {
	return Report{Schema: Schema, Kind: kind, Fingerprint: s.Machine.Fingerprint, MeasuredAt: time.Now().UTC().Truncate(time.Second),
		Verdict: affinity.Measured, CPUSet: cpus, Findings: []finding.Finding{}}
}

// add notes a finding.
func (r *Report) add(code string, severity finding.Severity, format string, args ...any) {
	r.addWith(nil, code, severity, format, args...)
}

func (r *Report) addWith(evidence []string, code string, severity finding.Severity, format string, args ...any) {
	var l finding.List
	l.Append(r.Findings...)
	l.Add(code, severity, evidence, format, args...)
	r.Findings = l.Report()
}

// quotaBelow returns the CPU quota if it is less than n CPUs' time.
func (s *Settings) quotaBelow(n int) (float64, bool) {
	q := s.Machine.Limits.QuotaCPUs
	if q == nil || *q >= float64(n) {
		return 0, false
	}
	return *q, true
}

// floating is what to say where CPUs float.
const floating = "a virtual machine whose CPUs may move on the host: seats here promise nothing physical"

// floats reports whether the CPUs are those of a virtual machine whose host
// gave no promise of where they run.
func floats(m *probe.Machine) bool {
	return slices.ContainsFunc(m.Findings, func(f finding.Finding) bool { return f.Code == probe.VCPUUnverified })
}
