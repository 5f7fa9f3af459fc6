package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/advisor"
	"berth/probe"
	"berth/profiles"
)

// sweep is one input that moves.
type sweep struct {
	field          string
	from, to, step float64
	points         int
}

const mostPoints = 100_000

func parseSweep(text string) (*sweep, error) {
	const hint = "for example --sweep work.wait_ms=0:200:10, or --sweep quota=0.5:8:0.5"
	field, values, ok := strings.Cut(text, "=")
	parts := strings.Split(values, ":")
	if !ok || len(parts) != 3 {
		return nil, usage(hint, "--sweep %s is not FIELD=FROM:TO:STEP", text)
	}
	s := &sweep{field: strings.TrimSpace(field)}
	for i, to := range [...]*float64{&s.from, &s.to, &s.step} {
		x, err := strconv.ParseFloat(strings.TrimSpace(parts[i]), 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, usage(hint, "--sweep %s: %q is not a number", text, parts[i])
		}
		*to = x
	}
	steps := (s.to - s.from) / s.step
	switch {
	case s.step == 0:
		return nil, usage(hint, "--sweep %s: a step of 0 leads nowhere", text)
	case steps < 0:
		return nil, usage(hint, "--sweep %s: a step of %s leads away from %s", text, parts[2], parts[1])
	case steps >= mostPoints:
		return nil, usage("take a larger step", "--sweep %s would be %.0f plans; %d are the most", text, steps+1, mostPoints)
	}
	s.points = int(steps+1e-9) + 1
	return s, nil
}

// at is the value of a point, without the noise of adding up.
func (s *sweep) at(i int) string {
	x := s.from + float64(i)*s.step
	if rounded := math.Round(x*1e9) / 1e9; !math.IsInf(rounded, 0) {
		x = rounded
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

// sweepPoint is one value and the plan that it leads to.
type sweepPoint struct {
	Value float64       `json:"value" yaml:"value"`
	Plan  *advisor.Plan `json:"plan" yaml:"plan"`
}

type sweepDocument struct {
	Schema string       `json:"schema" yaml:"schema"`
	Field  string       `json:"field" yaml:"field"`
	Points []sweepPoint `json:"points" yaml:"points"`
}

// runSweep plans every point and prints a row for each.
func (o *adviseOptions) runSweep(cmd *cobra.Command, out *bufio.Writer, s *sweep, m *probe.Machine, p *profiles.Profile, c usedCalibration) error {
	document := sweepDocument{Schema: "berth.sweep/v1", Field: s.field, Points: make([]sweepPoint, 0, s.points)}
	progress := newProgress(cmd.ErrOrStderr(), s.points)
	defer progress.end()
	for i := range s.points {
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		value := s.at(i)
		profile, machine := p, *m
		var err error
		if s.field == "quota" {
			if err := setQuota(&machine, value); err != nil {
				return usage("a quota is above 0", "--sweep quota=%s: it is not a number of CPUs above 0", value)
			}
		} else if profile, err = p.With("--sweep", profiles.Setting{Path: s.field, Value: value}); err != nil {
			return &usageError{err, "a numeric field of the profile, or quota"}
		}
		plan, err := advisor.Advise(&machine, profile, c.Calibration)
		if err != nil {
			return usage("give the calibration of this machine, or leave it out", "%w", err)
		}
		c.mark(plan)
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		document.Points = append(document.Points, sweepPoint{number, plan})
		progress.step()
	}
	progress.end()
	switch o.format.value {
	case "json":
		return writeJSON(out, document)
	case "yaml":
		return writeYAML(out, document)
	}
	sweepView(&page{w: out, screen: screenOf(cmd.OutOrStdout())}, s, document.Points)
	return nil
}

// sweepView is a row per point; a mark shows where the answer flips: another
// model or another resource that binds.
func sweepView(p *page, s *sweep, points []sweepPoint) {
	rows := [][]string{{s.field, "processes", "threads", "in flight", "bound by", "tasks/s", "speed-up", "busy %", ""}}
	for i, point := range points {
		plan := point.Plan
		y := &plan.Predicted
		threads := plan.Workers.Threads * max(1, plan.Workers.Inner)
		row := []string{s.at(i), strconv.Itoa(plan.Workers.Processes), strconv.Itoa(threads), "", binderInWords(plan.Binding.Name),
			figureCell(y.ThroughputPS, 1), figureCell(y.Speedup, 1), figureCell(y.Utilisation, 100), ""}
		if plan.Workers.InFlight > 0 {
			row[3] = strconv.Itoa(plan.Workers.InFlight)
		}
		var marks []string
		if i > 0 {
			if before := points[i-1].Plan; before.Workers.Model != plan.Workers.Model || before.Binding.Name != plan.Binding.Name || before.Class != plan.Class {
				marks = append(marks, "← flips")
				if before.Class != plan.Class {
					marks = append(marks, "now "+string(plan.Class))
				}
			}
		}
		if !plan.Feasible {
			marks = append(marks, "not feasible")
		}
		row[8] = strings.Join(marks, ", ")
		rows = append(rows, row)
	}
	blank := true
	for _, r := range rows[1:] {
		blank = blank && r[3] == ""
	}
	if blank {
		rows[0][3] = ""
	}
	alignRight(rows, 0, 1, 2, 3, 5, 6, 7)
	p.table(rows)
}

func figureCell(x *float64, scale float64) string {
	if x == nil {
		return ""
	}
	return decimal(*x*scale, places(*x*scale))
}

// alignRight pads the cells of columns of numbers.
func alignRight(rows [][]string, columns ...int) {
	for _, c := range columns {
		width := 0
		for _, r := range rows {
			width = max(width, runes(r[c]))
		}
		for _, r := range rows {
			if width > 0 {
				r[c] = strings.Repeat(" ", width-runes(r[c])) + r[c]
			}
		}
	}
}

// progress is a line on a terminal, gone when the work is done.
type progress struct {
	w         io.Writer // nil: not a terminal
	done, all int
	said      time.Time
}

func newProgress(w io.Writer, all int) *progress {
	p := newStatusLine(w)
	p.all = all
	if all <= 100 {
		p.w = nil
	}
	return p
}

// newStatusLine is for work that says itself what it is doing.
func newStatusLine(w io.Writer) *progress {
	p := &progress{}
	if f, ok := under(w).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = f
	}
	return p
}

// say shows a text, a few times a second at most: it costs the CPUs something
// too.
func (p *progress) say(text string) {
	if p.w == nil || time.Since(p.said) < 200*time.Millisecond {
		return
	}
	p.said = time.Now()
	fmt.Fprintf(p.w, "\r%s\x1b[K", cut(visible(text), screenOf(p.w).width-1))
}

func (p *progress) step() {
	p.done++
	if p.w != nil && (p.done*100/p.all != (p.done-1)*100/p.all) {
		fmt.Fprintf(p.w, "\r%d of %d plans", p.done, p.all)
	}
}

func (p *progress) end() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.w = nil
	}
}
