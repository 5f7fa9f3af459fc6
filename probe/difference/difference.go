// Package difference holds the one form in which berth says what differs
// between two of a kind: machines, plans, calibrations, results.
package difference

import (
	"math"
	"slices"

	"berth/probe/cpuset"
)

// Verdict says how sure it is that two values differ.
type Verdict string

const (
	// Changed is a fact, or measured values whose intervals do not overlap.
	Changed Verdict = "changed"
	// NotSeen is measured values whose intervals overlap: they may be the same.
	NotSeen Verdict = "no_difference_seen"
	// Unjudged is figures without an interval, as those of a single run: they
	// differ, and nothing says whether by more than chance.
	Unjudged Verdict = "unjudged"
)

// Row is one fact of which A and B say different things. A and B are numbers,
// texts, truth values or measured values; nil: there is none.
type Row struct {
	Name string `json:"name" yaml:"name"`
	Unit string `json:"unit,omitempty" yaml:"unit,omitempty"` // of A, B and Difference
	A    any    `json:"a" yaml:"a"`
	B    any    `json:"b" yaml:"b"`
	// Ratio is B ÷ A and Difference B − A, of the medians where the values are
	// measured; nil where they have none.
	Ratio      *float64 `json:"ratio,omitempty" yaml:"ratio,omitempty"`
	Difference *float64 `json:"difference,omitempty" yaml:"difference,omitempty"`
	// Added are what B alone has, Removed what A alone has, and Moved what both
	// have in different places: of lists and of CPU sets.
	Added   []string `json:"added,omitempty" yaml:"added,omitempty"`
	Removed []string `json:"removed,omitempty" yaml:"removed,omitempty"`
	Moved   []string `json:"moved,omitempty" yaml:"moved,omitempty"`
	Verdict Verdict  `json:"verdict" yaml:"verdict"`
	Why     string   `json:"why,omitempty" yaml:"why,omitempty"` // the cause, where it is visible
}

// Report is what two of a kind say, fact by fact.
type Report struct {
	Rows    []Row    `json:"rows" yaml:"rows"`
	Same    []string `json:"same" yaml:"same"`       // names of facts on which they agree
	Unknown []string `json:"unknown" yaml:"unknown"` // names of facts that one of them alone knows
}

// New is a report without a fact.
func New() *Report { return &Report{Rows: []Row{}, Same: []string{}, Unknown: []string{}} }

// Differ reports whether anything is known to differ.
func (r *Report) Differ() bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Verdict == Changed })
}

// Find returns the row of a name; nil where there is none.
func (r *Report) Find(name string) *Row {
	for i := range r.Rows {
		if r.Rows[i].Name == name {
			return &r.Rows[i]
		}
	}
	return nil
}

// known files a fact that only one of two knows, or that they agree on, and
// reports whether there is a row left to write.
func (r *Report) known(name string, a, b, same bool) bool {
	switch {
	case !a && !b:
	case !a || !b:
		r.Unknown = append(r.Unknown, name)
	case same:
		r.Same = append(r.Same, name)
	default:
		return true
	}
	return false
}

// Word compares texts; an empty one is not known.
func (r *Report) Word(name, a, b string) {
	if r.known(name, a != "", b != "", a == b) {
		r.Rows = append(r.Rows, Row{Name: name, A: a, B: b, Verdict: Changed})
	}
}

// Name compares texts of which an empty one says that there is none.
func (r *Report) Name(name, a, b string) {
	if a == "" && b == "" || !r.known(name, true, true, a == b) {
		return
	}
	row := Row{Name: name, Verdict: Changed}
	if a != "" {
		row.A = a
	}
	if b != "" {
		row.B = b
	}
	r.Rows = append(r.Rows, row)
}

// Flag compares truth values.
func (r *Report) Flag(name string, a, b bool) {
	if r.known(name, true, true, a == b) {
		r.Rows = append(r.Rows, Row{Name: name, A: a, B: b, Verdict: Changed})
	}
}

// Count compares whole numbers.
func (r *Report) Count(name, unit string, a, b int) {
	if r.known(name, true, true, a == b) {
		r.Rows = append(r.Rows, numbers(name, unit, a, b, float64(a), float64(b), Changed))
	}
}

// Figure compares computed figures; nil is not known.
func (r *Report) Figure(name, unit string, a, b *float64) {
	if r.known(name, a != nil, b != nil, a != nil && b != nil && alike(*a, *b)) {
		r.Rows = append(r.Rows, numbers(name, unit, *a, *b, *a, *b, Changed))
	}
}

// Once compares figures that were measured once each; nil is not known.
func (r *Report) Once(name, unit string, a, b *float64) {
	if r.known(name, a != nil, b != nil, a != nil && b != nil && alike(*a, *b)) {
		r.Rows = append(r.Rows, numbers(name, unit, *a, *b, *a, *b, Unjudged))
	}
}

// Limit compares limits; nil says that there is none.
func (r *Report) Limit(name, unit string, a, b *float64) {
	if a == nil && b == nil {
		return
	}
	if a != nil && b != nil {
		r.Figure(name, unit, a, b)
		return
	}
	row := Row{Name: name, Unit: unit, Verdict: Changed}
	if a != nil {
		row.A = *a
	}
	if b != nil {
		row.B = *b
	}
	r.Rows = append(r.Rows, row)
}

// CPUs compares sets of CPUs; nil is not known.
func (r *Report) CPUs(name string, a, b *cpuset.Set) {
	if !r.known(name, a != nil, b != nil, a != nil && b != nil && a.Equal(*b)) {
		return
	}
	row := Row{Name: name, A: a.String(), B: b.String(), Verdict: Changed}
	if more := b.Minus(*a); !more.IsEmpty() {
		row.Added = []string{more.String()}
	}
	if less := a.Minus(*b); !less.IsEmpty() {
		row.Removed = []string{less.String()}
	}
	r.Rows = append(r.Rows, row)
}

// Members compares lists by their members, whose order does not count; the row's
// values are how many there are.
func (r *Report) Members(name string, a, b []string) {
	added, removed := without(b, a), without(a, b)
	if r.known(name, true, true, len(added)+len(removed) == 0) {
		row := numbers(name, "", len(a), len(b), float64(len(a)), float64(len(b)), Changed)
		row.Added, row.Removed = added, removed
		r.Rows = append(r.Rows, row)
	}
}

// without is the members of a that b lacks, as often as it lacks them.
func without(a, b []string) []string {
	have := map[string]int{}
	for _, s := range b {
		have[s]++
	}
	var out []string
	for _, s := range a {
		if have[s]--; have[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}

// Measured compares measured values: a and b are what the row shows, with their
// medians and the ends of their 95 % intervals. Few says that one of them was
// tried too seldom for an interval.
func (r *Report) Measured(name, unit string, a, b any, was, is Interval, few bool) {
	verdict := Changed
	switch {
	case was == is:
		r.Same = append(r.Same, name)
		return
	case few:
		verdict = Unjudged
	case was.Low <= is.High && is.Low <= was.High:
		verdict = NotSeen
	}
	r.Rows = append(r.Rows, numbers(name, unit, a, b, was.Median, is.Median, verdict))
}

// Interval is a median and the ends of the interval it lies in.
type Interval struct{ Median, Low, High float64 }

// numbers is a row of two numbers, which are shown as a and b.
func numbers(name, unit string, a, b any, was, is float64, verdict Verdict) Row {
	row := Row{Name: name, Unit: unit, A: a, B: b, Verdict: verdict}
	if d := is - was; finite(d) {
		row.Difference = tidy(d)
	}
	if q := is / was; was != 0 && is != 0 && finite(q) {
		row.Ratio = tidy(q)
	}
	return row
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// tidy takes the noise of floating point off a figure: nine digits are left.
func tidy(x float64) *float64 {
	if x != 0 {
		scale := math.Pow10(9 - int(math.Ceil(math.Log10(math.Abs(x)))))
		if y := math.Round(x*scale) / scale; finite(y) && y != 0 {
			x = y
		}
	}
	return &x
}

// alike allows for the rounding of figures that were computed on the way.
func alike(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-6*math.Max(math.Abs(a), math.Abs(b))
}
