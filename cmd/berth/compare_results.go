//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"berth/advisor"
	"berth/advisor/doctor"
	"berth/affinity"
	"berth/affinity/experiment"
	"berth/affinity/fleet"
	"berth/affinity/tune"
	"berth/probe"
	"berth/probe/difference"
	"berth/profiles/observe"
)

// What follows compares two results of one kind, entitles both, and adds what
// has to be said of them.

func comparePlans(c *comparison, a, b *operand) (*difference.Report, error) {
	x, err := readPlanOf(a)
	if err != nil {
		return nil, err
	}
	y, err := readPlanOf(b)
	if err != nil {
		return nil, err
	}
	c.A.Title, c.B.Title = x.Profile+": "+planHeadline(x), y.Profile+": "+planHeadline(y)
	report := advisor.Compare(advisor.Case{Plan: x}, advisor.Case{Plan: y})
	c.Answer, c.Because = planAnswer(x, y, report), mainCause(report)
	return report, nil
}

func readPlanOf(of *operand) (*advisor.Plan, error) {
	plan, err := advisor.Read(bytes.NewReader(of.text), of.name)
	if err != nil {
		return nil, &usageError{err, operandHint}
	}
	return plan, nil
}

func compareCalibrations(c *comparison, a, b *operand) (*difference.Report, error) {
	x, y := &probe.Calibration{}, &probe.Calibration{}
	if err := decodeBoth(a, b, x, y); err != nil {
		return nil, err
	}
	c.Notes = append(c.Notes, "A calibration keeps medians alone, so that chance cannot be told from change: compare the JSON of the experiments for that.")
	c.A.Title, c.B.Title = measuredOn(x.Fingerprint), measuredOn(y.Fingerprint)
	return probe.CompareCalibrations(x, y), nil
}

func compareExperiments(c *comparison, a, b *operand) (*difference.Report, error) {
	x, y := &experiment.Report{}, &experiment.Report{}
	if err := decodeBoth(a, b, x, y); err != nil {
		return nil, err
	}
	c.A.Title, c.B.Title = x.Kind+", "+measuredOn(x.Fingerprint)+dated(x.MeasuredAt), y.Kind+", "+measuredOn(y.Fingerprint)+dated(y.MeasuredAt)
	c.doubt(x.Verdict, y.Verdict)
	report, err := experiment.Compare(a.text, b.text)
	if err != nil {
		return nil, usage("compare two experiments of one kind", "%w", err)
	}
	return report, nil
}

func compareObservations(c *comparison, a, b *operand) (*difference.Report, error) {
	x, y := &observeDocument{}, &observeDocument{}
	if err := decodeBoth(a, b, x, y); err != nil {
		return nil, err
	}
	title := func(d *observeDocument) string {
		return fmt.Sprintf("%s, watched for %.3g s%s", printable(d.Command), d.DurationS, dated(d.MeasuredAt))
	}
	c.A.Title, c.B.Title = title(x), title(y)
	c.doubt(x.Verdict, y.Verdict)
	c.Notes = append(c.Notes, onceEach)
	return observe.Compare(&x.Observation, &y.Observation), nil
}

// onceEach is said of what no interval goes with.
const onceEach = "Times and counts are of one run each, so that chance cannot be told from change."

func compareSearches(c *comparison, a, b *operand) (*difference.Report, error) {
	x, y := &tune.Report{}, &tune.Report{}
	if err := decodeBoth(a, b, x, y); err != nil {
		return nil, err
	}
	c.A.Title, c.B.Title = measuredOn(x.Fingerprint)+dated(x.MeasuredAt), measuredOn(y.Fingerprint)+dated(y.MeasuredAt)
	c.doubt(x.Verdict, y.Verdict)
	report, err := tune.Compare(x, y)
	if err != nil {
		return nil, usage("compare two searches by one metric", "%w", err)
	}
	return report, nil
}

func compareReceipts(c *comparison, a, b *operand) (*difference.Report, error) {
	x, y := &affinity.Receipt{}, &affinity.Receipt{}
	if err := decodeBoth(a, b, x, y); err != nil {
		return nil, err
	}
	c.A.Title, c.B.Title = commandTitle(x.Command), commandTitle(y.Command)
	c.Notes = append(c.Notes, onceEach)
	return affinity.CompareReceipts(x, y), nil
}

func compareDiagnoses(c *comparison, a, b *operand) (*difference.Report, error) {
	x, y := &doctorDocument{}, &doctorDocument{}
	if err := decodeBoth(a, b, x, y); err != nil {
		return nil, err
	}
	title := func(d *doctorDocument) string {
		return count(d.LookedAt.Processes, "process") + " looked at" + dated(d.MeasuredAt)
	}
	c.A.Title, c.B.Title = title(x), title(y)
	c.doubt(x.Verdict, y.Verdict)
	return doctor.Compare(x.Findings, y.Findings), nil
}

func compareFleets(c *comparison, a, b *operand) (*difference.Report, error) {
	x, err := fleet.Read(bytes.NewReader(a.text), a.name)
	if err != nil {
		return nil, &usageError{err, operandHint}
	}
	y, err := fleet.Read(bytes.NewReader(b.text), b.name)
	if err != nil {
		return nil, &usageError{err, operandHint}
	}
	title := func(f *fleet.Fleet) string {
		return fmt.Sprintf("%d of %s answered, by %s", f.Totals.Answered, count(f.Totals.Nodes, "node"), f.Engine)
	}
	c.A.Title, c.B.Title = title(x), title(y)
	for _, of := range [...]struct{ name, early string }{{"A", x.Early}, {"B", y.Early}} {
		if of.early != "" {
			c.Notes = append(c.Notes, of.name+" is not whole: "+of.early)
		}
	}
	return fleet.CompareFleets(x, y), nil
}

// decodeBoth decodes two documents of one kind.
func decodeBoth(a, b *operand, x, y any) error {
	for _, of := range [...]struct {
		o    *operand
		into any
	}{{a, x}, {b, y}} {
		if err := probe.ReadDocument(bytes.NewReader(of.o.text), of.o.name, of.o.kind.schema, of.into); err != nil {
			return &usageError{err, operandHint}
		}
	}
	return nil
}

func machineTitle(m *probe.Machine) string {
	title := headline(m, (&machineFlags{}).title(m))
	if m.Host.Hostname != "" {
		title = m.Host.Hostname + ": " + title
	}
	return title
}

// measuredOn names a machine by the beginning of its fingerprint.
func measuredOn(fingerprint string) string {
	if fingerprint == "" {
		return "on a machine that it does not name"
	}
	return "on machine " + fingerprint[:min(8, len(fingerprint))]
}

func dated(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", " + t.UTC().Format("2006-01-02 15:04 UTC")
}

func commandTitle(command []string) string {
	if len(command) == 0 {
		return "processes that were running"
	}
	return strings.Join(command, " ")
}

// doubt says that a result is not to be relied on.
func (c *comparison) doubt(a, b affinity.Verdict) {
	for _, of := range [...]struct {
		name    string
		verdict affinity.Verdict
	}{{"A", a}, {"B", b}} {
		if of.verdict != affinity.Measured {
			c.Notes = append(c.Notes, fmt.Sprintf("%s is %s: its figures, and what they say beside the other's, are not to be relied on.", of.name, of.verdict))
		}
	}
}
