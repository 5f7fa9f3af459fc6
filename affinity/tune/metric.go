//go:build linux

package tune

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"berth/affinity/measured"
)

// Metric says how good a run was. The zero value is wall time: every run does
// the same work, and the value is runs per second.
type Metric struct {
	name  string
	lines bool // lines of output per second
	// units of work per run; each: per worker of it. 0: not given
	units float64
	each  bool
	match *regexp.Regexp
	lower bool
}

// Wall is the metric of a fixed amount of work: runs per second.
func Wall() Metric { return Metric{name: "wall"} }

// Lines is lines on standard output per second.
func Lines() Metric { return Metric{name: "throughput", lines: true} }

// Units is units of work per second, where a run does as many as text says: a
// number, with an n at its end if each worker does so many.
func Units(text string) (Metric, error) {
	m := Metric{name: "throughput"}
	digits, each := strings.CutSuffix(text, "n")
	x, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(x > 0) || math.IsInf(x, 0) {
		return m, fmt.Errorf("%q is not a number of units above 0, nor one with n behind it", shorten(text))
	}
	m.units, m.each = x, each
	return m, nil
}

// Printed is a number that the command prints: the last match of an expression,
// which has one group, or none if all of it is the number. lower: less is better.
func Printed(expression string, lower bool) (Metric, error) {
	re, err := regexp.Compile("(?m)" + expression) // ^ and $ are those of a line
	if err != nil {
		return Metric{}, err
	}
	if re.NumSubexp() > 1 {
		return Metric{}, fmt.Errorf("it has %d groups, and one is to hold the number: write the others as (?:…)", re.NumSubexp())
	}
	return Metric{name: expression, match: re, lower: lower}, nil
}

// Timed: the value is that of how long a run takes.
func (m Metric) Timed() bool { return m.match == nil && !m.lines }

// String is wall, throughput or the expression.
func (m Metric) String() string {
	if m.name == "" {
		return "wall"
	}
	return m.name
}

// key tells metrics apart.
func (m *Metric) key() string {
	switch {
	case m.units > 0 && m.each:
		return fmt.Sprintf("throughput of %g units by each worker", m.units)
	case m.units > 0:
		return fmt.Sprintf("throughput of %g units", m.units)
	case m.lower:
		return m.name + " (lower is better)"
	}
	return m.String()
}

func (m *Metric) unit() string {
	switch {
	case m.match != nil:
		return ""
	case m.lines:
		return "lines/s"
	case m.units > 0:
		return "units/s"
	}
	return "runs/s"
}

// score turns a value into one of which more is better.
func (m *Metric) score(value float64) float64 {
	if m.lower {
		return 1 / value
	}
	return value
}

func (m *Metric) valueOf(xs []float64) measured.Value {
	v := measured.Of(xs)
	if m.lower && v.Runs > 0 {
		return v.Inverse()
	}
	return v
}

// work is what a run of n workers does, where its time is the value.
func (m *Metric) work(n int) float64 {
	switch {
	case m.units == 0:
		return 1
	case m.each:
		return m.units * float64(n)
	}
	return m.units
}

// value is that of a run.
func (m *Metric) value(n int, wall time.Duration, out, errs *tail) (float64, error) {
	seconds := max(wall, time.Nanosecond).Seconds()
	switch {
	case m.lines:
		if out.lines == 0 {
			return 0, fmt.Errorf("it printed no line on standard output, and lines per second are the metric")
		}
		return float64(out.lines) / seconds, nil
	case m.match == nil:
		return m.work(n) / seconds, nil
	}
	for _, t := range [...]*tail{out, errs} {
		text, ok := lastMatch(m.match, t.bytes())
		if !ok {
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		switch {
		case err != nil:
			return 0, fmt.Errorf("the metric %s matches %q, which is not a number", m.name, shorten(text))
		case !(x > 0) || math.IsInf(x, 0):
			return 0, fmt.Errorf("the metric %s gives %g; values are above 0", m.name, x)
		}
		return x, nil
	}
	return 0, fmt.Errorf("the metric %s matches nothing that it printed", m.name)
}

// lastMatch is the group of the last match, or all of it where there is none.
func lastMatch(re *regexp.Regexp, text []byte) (string, bool) {
	found := re.FindAllSubmatch(text, -1)
	if len(found) == 0 {
		return "", false
	}
	last := found[len(found)-1]
	return string(last[len(last)-1]), true
}

// keptOutput is how many bytes of each output are looked at: its end.
const keptOutput = 1 << 20

// tail keeps the end of what is written to it, and counts lines.
type tail struct {
	kept  []byte
	lines int
	open  bool // the last line has no end yet
}

func (t *tail) Write(data []byte) (int, error) {
	t.lines += bytes.Count(data, []byte{'\n'})
	if len(data) > 0 {
		t.open = data[len(data)-1] != '\n'
	}
	t.kept = append(t.kept, data...)
	if over := len(t.kept) - 2*keptOutput; over > 0 {
		t.kept = append(t.kept[:0], t.bytes()...)
	}
	return len(data), nil
}

func (t *tail) bytes() []byte { return t.kept[max(0, len(t.kept)-keptOutput):] }

// close counts a last line without an end.
func (t *tail) close() {
	if t.open {
		t.lines++
		t.open = false
	}
}

// last are the last lines for a person, in printable characters.
func (t *tail) last(n int) []string {
	text := t.bytes()
	text = text[max(0, len(text)-16<<10):]
	lines := strings.Split(strings.TrimRight(strings.ToValidUTF8(string(text), "?"), " \r\n\t"), "\n")
	lines = lines[max(0, len(lines)-n):]
	var out []string
	for _, l := range lines {
		l = strings.Map(func(r rune) rune {
			if r == '\t' || r == '\r' {
				return ' '
			}
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, l)
		if len(l) > 300 {
			l = strings.ToValidUTF8(l[:297], "") + "…"
		}
		out = append(out, l)
	}
	if len(out) == 1 && out[0] == "" {
		return nil
	}
	return out
}
