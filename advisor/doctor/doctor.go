//go:build linux

package doctor

import (
	"cmp"
	"fmt"
	"slices"

	"berth/probe/cpuset"
)

// Severity says how much a finding matters.
type Severity string

// The severities, the gravest last.
const (
	Info    Severity = "info"    // good to know; often meant so
	Warning Severity = "warning" // costs speed or steadiness
	Error   Severity = "error"   // costs much of it, or cannot be meant so
)

func (s Severity) rank() int { return slices.Index([]Severity{Error, Warning, Info}, s) }

// Subject is what a finding is about; all fields empty: the node.
type Subject struct {
	PID     int         `json:"pid,omitempty" yaml:"pid,omitempty"`
	Process string      `json:"process,omitempty" yaml:"process,omitempty"` // the process's name
	TID     int         `json:"tid,omitempty" yaml:"tid,omitempty"`
	CPU     *cpuset.CPU `json:"cpu,omitempty" yaml:"cpu,omitempty"`
	// Path is a control group's, as /proc/PID/cgroup has it, or a file's.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
}

// Finding is one thing that is wrong, or good to know.
type Finding struct {
	Code     string   `json:"code" yaml:"code"` // stable, in kebab-case; see [Kinds]
	Severity Severity `json:"severity" yaml:"severity"`
	Subject  Subject  `json:"subject" yaml:"subject"`
	Message  string   `json:"message" yaml:"message"`
	Evidence []string `json:"evidence" yaml:"evidence"`
	// Fix is a command to copy, or where none can do it what to do.
	Fix string `json:"fix,omitempty" yaml:"fix,omitempty"`
}

// mostEvidence bounds the evidence of one finding.
const mostEvidence = 8

// report collects findings.
type report struct {
	*Facts
	found []Finding
}

// add reports a finding with the severity that its code usually has.
func (r *report) add(code string, subject Subject, evidence []string, fix, format string, args ...any) *Finding {
	if n := len(evidence); n > mostEvidence {
		evidence = append(slices.Clone(evidence[:mostEvidence]), fmt.Sprintf("and %d more", n-mostEvidence))
	}
	if evidence == nil {
		evidence = []string{}
	}
	r.found = append(r.found, Finding{Code: code, Severity: usual(code), Subject: subject,
		Message: fmt.Sprintf(format, args...), Evidence: evidence, Fix: fix})
	return &r.found[len(r.found)-1]
}

// rules are all there are, each a function of the facts alone.
var rules = [...]func(*report){
	blindSpots,
	throttling, crowds, piles, counts, mathThreads,
	seats, isolation, unbalancedGroups, remoteMemory, remoteDevices,
	interrupts, frequency, heat, smtOff, floatingCPUs, steal,
	services, sessions, pressure, swapping,
}

// Diagnose judges facts. The gravest findings come first, and those of one
// severity in the order of [Kinds].
func Diagnose(f *Facts) []Finding {
	r := &report{Facts: f, found: []Finding{}}
	for _, rule := range rules {
		rule(r)
	}
	slices.SortStableFunc(r.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), cmp.Compare(kindIndex(a.Code), kindIndex(b.Code)),
			cmp.Compare(a.Subject.PID, b.Subject.PID), cmp.Compare(a.Subject.TID, b.Subject.TID))
	})
	return r.found
}

// Bad reports whether a finding is a warning or worse.
func Bad(found []Finding) bool {
	return slices.ContainsFunc(found, func(f Finding) bool { return f.Severity != Info })
}
