// Package finding holds the one form in which berth reports what is odd: a
// stable code for programs, a sentence for people, and the evidence.
package finding

import "fmt"

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
}

// Codes that more than one source reports.
const (
	Unreadable    = "unreadable"    // a file exists and cannot be read
	Malformed     = "malformed"     // a file holds something that it never should
	Contradiction = "contradiction" // two sources give different answers
	Missing       = "missing"       // something that should exist does not
)

// List collects findings; the zero value is ready.
type List struct{ found []Finding }

// Add appends a finding with a formatted message.
func (l *List) Add(code string, severity Severity, evidence []string, format string, args ...any) {
	l.found = append(l.found, Finding{code, severity, fmt.Sprintf(format, args...), evidence})
}

// Append takes over the findings of another source.
func (l *List) Append(found ...Finding) { l.found = append(l.found, found...) }

// All returns what was collected, in order.
func (l *List) All() []Finding { return l.found }
