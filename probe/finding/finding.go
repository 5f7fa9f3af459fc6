// Package finding holds the one form in which berth reports what is odd: a
// stable code for programs, a sentence for people, and the evidence.
package finding

import (
	"fmt"
	"slices"
)

// Severity says how much a finding matters.
type Severity string

const (
	Info    Severity = "info"    // good to know; nothing is wrong
	Warning Severity = "warning" // an answer may be wrong, partial or surprising
)

// Finding is one thing that a reader of the answer should know.
type Finding struct {
	Code     string   `json:"code" yaml:"code"`         // stable, in kebab-case
	Severity Severity `json:"severity" yaml:"severity"` // see the constants
	Message  string   `json:"message" yaml:"message"`   // one sentence for a person
	Evidence []string `json:"evidence,omitempty" yaml:"evidence,omitempty"`
	// Omitted counts the evidence left out; [List.Report] turns it into words.
	Omitted int `json:"-" yaml:"-"`
}

// Codes that more than one source reports.
const (
	Unreadable    = "unreadable"    // a file exists and cannot be read
	Malformed     = "malformed"     // a file holds something that it never should
	Contradiction = "contradiction" // two sources give different answers
	Missing       = "missing"       // something that should exist does not
)

// maxEvidence bounds the evidence of one finding: a broken dump can give the
// same trouble once for each of thousands of CPUs.
const maxEvidence = 8

// List collects findings; the zero value is ready. Findings that differ only
// in their evidence become one.
type List struct{ found []Finding }

// Add reports a finding with a formatted message.
func (l *List) Add(code string, severity Severity, evidence []string, format string, args ...any) {
	l.add(Finding{Code: code, Severity: severity, Message: fmt.Sprintf(format, args...), Evidence: evidence})
}

// Append takes over the findings of another source.
func (l *List) Append(found ...Finding) {
	for _, f := range found {
		l.add(f)
	}
}

func (l *List) add(f Finding) {
	at := -1
	for i, old := range l.found {
		if old.Code == f.Code && old.Message == f.Message {
			at = i
			break
		}
	}
	if at < 0 {
		at = len(l.found)
		l.found = append(l.found, Finding{Code: f.Code, Severity: f.Severity, Message: f.Message})
	}
	to := &l.found[at]
	to.Omitted += f.Omitted
	for _, e := range f.Evidence {
		switch {
		case slices.Contains(to.Evidence, e):
		case len(to.Evidence) < maxEvidence:
			to.Evidence = append(to.Evidence, e)
		default:
			to.Omitted++
		}
	}
}

// All returns what was collected, in order, for another list to take over.
func (l *List) All() []Finding { return l.found }

// Report returns what was collected, in order, for a reader.
func (l *List) Report() []Finding {
	out := slices.Clone(l.found)
	for i := range out {
		if f := &out[i]; f.Omitted > 0 {
			f.Evidence = append(slices.Clone(f.Evidence), fmt.Sprintf("and %d more", f.Omitted))
			f.Omitted = 0
		}
	}
	return out
}
