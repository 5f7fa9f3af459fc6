// Package emit writes a plan as the settings of other tools: shells, service
// managers, schedulers, servers and languages. What a tool's settings cannot
// express is said in a comment of theirs.
package emit

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/advisor"
)

// Target is a tool that takes settings. Each has a file of its own here.
type Target interface {
	Name() string
	About() string // what the settings are, in one line
	Emit(*advisor.Plan) Settings
}

// Fitting is a target whose settings can be added to those of something that
// somebody has, by its name: a unit of systemd, a service of Compose.
type Fitting interface {
	Target
	EmitFor(p *advisor.Plan, name string) Settings
}

// DropIn is what a file of settings is called, without its suffix, among others
// in a folder that a tool reads all of, in the order of their names.
const DropIn = "50-berth"

// Settings is a text for a tool, ready to use.
type Settings struct {
	Text string
	// Lost is what the tool cannot express; the text's comments say it too.
	Lost []string
}

// Targets lists all there are.
func Targets() []Target {
	return []Target{
		env{}, blas{}, taskset{}, numactl{}, hwlocBind{}, likwidPin{},
		systemd{}, docker, podman, compose{}, kubernetes{}, nomad{},
		slurm{}, srun{}, mpirun{}, dask{}, spark{},
		gunicorn{}, uvicorn{}, nginx{}, haproxy{}, postgresql{}, pgbouncer{},
		multiprocessing{}, threadpool{}, asyncio{}, java{}, node{}, golang{},
		makeJobs, ninjaJobs, parallel{},
		irqbalance{}, irq{}, kernel{}, cpusets{},
	}
}

// Find is the target of a name.
func Find(name string) (Target, bool) {
	for _, t := range Targets() {
		if t.Name() == name {
			return t, true
		}
	}
	return nil, false
}

// sheet is a text with comments.
type sheet struct {
	text strings.Builder
	lost []string
	mark string // that a comment begins with; empty: #
}

func (s *sheet) line(format string, args ...any) {
	fmt.Fprintf(&s.text, format+"\n", args...)
}

func (s *sheet) lines(text string) { s.text.WriteString(text) }

// comment writes a sentence, folded. Whatever it quotes stays within: line ends
// are spaces, and characters that formats forbid, or that editors do not show
// for what they are, are replaced. So is a backslash at the end of a line, which
// in make, systemd and C would continue it.
func (s *sheet) comment(format string, args ...any) {
	mark := cmp.Or(s.mark, "#")
	line := []byte(mark)
	write := func() {
		if cut, ok := bytes.CutSuffix(line, []byte{'\\'}); ok {
			line = utf8.AppendRune(cut, utf8.RuneError)
		}
		s.text.Write(line)
		s.text.WriteByte('\n')
		line = append(line[:0], mark...)
	}
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return utf8.RuneError
		}
		return r
	}, fmt.Sprintf(format, args...))
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 100 && len(line) > len(mark) {
			write()
		}
		line = append(append(line, ' '), word...)
	}
	write()
}

// cannot says what of the plan is lost.
func (s *sheet) cannot(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	s.lost = append(s.lost, what)
	s.comment("Not expressed: %s.", what)
}

func (s *sheet) settings() Settings { return Settings{s.text.String(), s.lost} }

// title says what was planned, and where it holds.
func (s *sheet) title(p *advisor.Plan) {
	s.comment("%s: %s, by berth advise.", p.Profile, advisor.Describe(p.Workers))
	if p.Placement.Pin == advisor.NoPin {
		s.comment("%s.", sentence(p.Placement.Why))
	} else if p.Machine != "" {
		s.comment("The CPU numbers are those of machine %s.", p.Machine)
	}
	if out := p.Placement.KeptOut; out != nil && p.Placement.Pin == advisor.NoPin {
		s.cannot("CPUs %s, which are for others: without seats nothing here keeps the workers off them", out)
	}
	if !p.Feasible {
		s.comment("The target cannot be met here; this is the best there is.")
	}
}

func sentence(s string) string {
	_, first := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:first]) + s[first:]
}

// plainName makes a name that schedulers and file systems take: letters, digits
// and single dashes, at most 63, in lower case (a DNS label, RFC 1123).
func plainName(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	out := strings.TrimRight(b.String()[:min(b.Len(), 63)], "-")
	if out == "" {
		return "workload"
	}
	return out
}
