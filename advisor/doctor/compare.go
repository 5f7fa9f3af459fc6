//go:build linux

package doctor

import (
	"cmp"

	"berth/probe/difference"
)

// Compare tells which findings of b are new and which of a are gone. Findings
// are the same whose code and severity, and name or path of the subject, are:
// processes have other numbers after a restart.
func Compare(a, b []Finding) *difference.Report {
	r := difference.New()
	for _, severity := range [...]Severity{Error, Warning, Info} {
		r.Members(string(severity), ofSeverity(a, severity), ofSeverity(b, severity))
	}
	return r
}

func ofSeverity(all []Finding, severity Severity) []string {
	var out []string
	for _, f := range all {
		if f.Severity != severity {
			continue
		}
		text := f.Code
		if about := cmp.Or(f.Subject.Process, f.Subject.Path); about != "" {
			text += " of " + about
		}
		out = append(out, text)
	}
	return out
}
