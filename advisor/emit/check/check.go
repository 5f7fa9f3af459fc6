// Package check tells whether a settings file that somebody has agrees with a
// plan, setting by setting. What the file should say is what package emit writes
// for the plan, read by the same reader; so no setting is judged that emit would
// not write or that a plan has no say in.
package check

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"berth/advisor"
	"berth/advisor/emit"
)

// Verdict is how a file's setting stands to the plan.
type Verdict string

const (
	Agrees    Verdict = "agrees"
	Differs   Verdict = "differs"
	NotSaid   Verdict = "not_said"  // the plan has it, the file not
	Unplanned Verdict = "unplanned" // the file limits or places what the plan leaves free
	Unclear   Verdict = "unclear"   // the file computes it, or says it in words that are not understood here
)

// Finding is one setting of a file.
type Finding struct {
	Line    int     `json:"line,omitempty" yaml:"line,omitempty"` // from 1; 0: the file does not say it
	Setting string  `json:"setting" yaml:"setting"`               // as the file's format names it
	Found   string  `json:"found,omitempty" yaml:"found,omitempty"`
	Planned string  `json:"planned,omitempty" yaml:"planned,omitempty"`
	Verdict Verdict `json:"verdict" yaml:"verdict"`
}

// Report is what a file says, in the order of its lines; what it does not say
// comes last.
type Report struct {
	Format   string    `json:"format" yaml:"format"` // the name of a target of emit
	Findings []Finding `json:"findings" yaml:"findings"`
	// Lost is what the format cannot carry of the plan, however it is written.
	Lost []string `json:"lost,omitempty" yaml:"lost,omitempty"`
}

// Agrees reports whether nothing in the file differs from the plan, goes beyond
// it, or is missing.
func (r *Report) Agrees() bool {
	return r.apart() == 0
}

// Error is a file that cannot be read as what it is taken for.
type Error struct {
	Name string
	Line int // from 1; 0: no line in particular
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Name, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// fact is a setting that a file makes. The value is in one form for all ways to
// write it, or empty if it is not understood.
type fact struct {
	line    int
	setting string
	found   string // as it stands there
	value   string
}

// readers read the settings of a format that plans have a say in.
var readers = map[string]func(text string) ([]fact, error){
	"systemd": readUnit, "docker": readRun, "podman": readRun, "compose": readCompose,
	"kubernetes": readPod, "slurm": readBatch, "gunicorn": readGunicorn,
	"nginx": readNginx, "haproxy": readHAProxy, "postgresql": readPostgres,
}

// Formats lists the formats that can be checked, by the names of emit's targets.
func Formats() []string {
	var out []string
	for _, t := range emit.Targets() {
		if readers[t.Name()] != nil {
			out = append(out, t.Name())
		}
	}
	return out
}

// Detect is the format of a file, by its name and what stands in it.
func Detect(name string, text []byte) (string, error) {
	base, s := filepath.Base(name), "\n"+string(text)
	has := func(what string) bool { return strings.Contains(s, "\n"+what) }
	switch {
	case has("#SBATCH"):
		return "slurm", nil
	case has("[Service]"), has("[Slice]"), slices.Contains([]string{".service", ".slice", ".scope"}, filepath.Ext(base)):
		return "systemd", nil
	case has("apiVersion:"):
		return "kubernetes", nil
	case has("services:"):
		return "compose", nil
	case has("global\n"), has("global "), strings.HasPrefix(base, "haproxy"):
		return "haproxy", nil
	case has("max_connections"), has("shared_buffers"), strings.HasPrefix(base, "postgresql"):
		return "postgresql", nil
	case filepath.Ext(base) == ".py", has("workers ="), has("worker_class ="):
		return "gunicorn", nil
	case has("worker_processes"), has("events"), strings.HasPrefix(base, "nginx"):
		return "nginx", nil
	case runs("docker", s):
		return "docker", nil
	case runs("podman", s):
		return "podman", nil
	}
	return "", &Error{name, 0, fmt.Errorf("it is not known as one of %s; name its format", strings.Join(Formats(), ", "))}
}

// Check holds a file, called name in errors, against a plan. An empty format is
// detected.
func Check(p *advisor.Plan, name string, text []byte, format string) (*Report, error) {
	if format == "" {
		var err error
		if format, err = Detect(name, text); err != nil {
			return nil, err
		}
	}
	read := readers[format]
	target, ok := emit.Find(format)
	if read == nil || !ok {
		return nil, &Error{name, 0, fmt.Errorf("files for %s cannot be checked; those of %s can", format, strings.Join(Formats(), ", "))}
	}
	found, err := read(string(text))
	if err != nil {
		if at, ok := err.(*Error); ok {
			at.Name = name
			return nil, at
		}
		return nil, &Error{name, 0, err}
	}
	against := func(settings emit.Settings) (*Report, error) {
		planned, err := read(settings.Text)
		if err != nil {
			return nil, fmt.Errorf("read the plan's own settings: %w", err)
		}
		return &Report{Format: format, Findings: compare(found, planned), Lost: settings.Lost}, nil
	}
	report, err := against(target.Emit(p))
	if fitting, ok := target.(emit.Fitting); ok && err == nil && !report.Agrees() {
		var fitted *Report // the file may have its one service for all workers
		if fitted, err = against(fitting.EmitFor(p, "service")); err == nil && fitted.apart() < report.apart() {
			report = fitted
		}
	}
	return report, err
}

// apart is how many settings do not agree.
func (r *Report) apart() int {
	n := 0
	for _, f := range r.Findings {
		if f.Verdict != Agrees {
			n++
		}
	}
	return n
}

// compare matches facts by their setting. A setting that a format has several
// times, as one for each service, agrees if the plan has it so anywhere.
func compare(found, planned []fact) []Finding {
	out := []Finding{}
	said := map[string]bool{}
	for _, f := range found {
		said[f.setting] = true
		finding := Finding{Line: f.line, Setting: f.setting, Found: f.found, Verdict: Unplanned}
		var values []string
		for _, p := range planned {
			if p.setting != f.setting {
				continue
			}
			if p.value == f.value && f.value != "" {
				finding.Planned, finding.Verdict = p.found, Agrees
				break
			}
			finding.Verdict = Differs
			if !slices.Contains(values, p.found) {
				values = append(values, p.found)
			}
		}
		if finding.Verdict == Differs {
			finding.Planned = strings.Join(values, " or ")
		}
		if f.value == "" {
			finding.Verdict = Unclear
		}
		if finding.Verdict == Unplanned && isFree(f) {
			continue
		}
		out = append(out, finding)
	}
	missing := map[string]int{}
	for _, p := range planned {
		if said[p.setting] {
			continue
		}
		at, ok := missing[p.setting]
		switch {
		case !ok:
			missing[p.setting] = len(out)
			out = append(out, Finding{Setting: p.setting, Planned: p.found, Verdict: NotSaid})
		case !slices.Contains(strings.Split(out[at].Planned, " or "), p.found):
			out[at].Planned += " or " + p.found
		}
	}
	return out
}

// isFree tells settings that say what a plan without them says: no limit.
func isFree(f fact) bool { return f.value == "none" }
