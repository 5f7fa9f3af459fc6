//go:build linux

package experiment

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/difference"
)

// Compare tells what differs between two reports of one kind of experiment,
// given as their JSON documents: every measured value that both have, and for
// latency the pairs of CPUs, of which one in twenty may change by chance. An
// error means that they are of different kinds, or no reports.
func Compare(a, b []byte) (*difference.Report, error) {
	var x, y struct {
		Report
		latencyMatrix
		Claims []Claim `json:"claims"`
	}
	if err := json.Unmarshal(a, &x); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &y); err != nil {
		return nil, err
	}
	if x.Kind != y.Kind {
		return nil, fmt.Errorf("one experiment is %q and the other %q: they measured different things", x.Kind, y.Kind)
	}
	r := difference.New()
	r.Word("fingerprint", x.Fingerprint, y.Fingerprint)
	r.Word("verdict", string(x.Verdict), string(y.Verdict))
	r.CPUs("cpuset", &x.CPUSet, &y.CPUSet)
	var was, is any
	if err := json.Unmarshal(a, &was); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &is); err != nil {
		return nil, err
	}
	measured.CompareDocuments(r, was, is)
	if len(x.NS) > 0 || len(y.NS) > 0 {
		comparePairs(r, &x.latencyMatrix, &y.latencyMatrix)
	}
	compareClaims(r, x.Claims, y.Claims)
	return r, nil
}

func compareClaims(r *difference.Report, a, b []Claim) {
	was, is := map[string]string{}, map[string]string{}
	for _, c := range a {
		was[c.ID] = string(c.Verdict)
	}
	for _, c := range b {
		is[c.ID] = string(c.Verdict)
	}
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		r.Word("claims["+id+"]", was[id], is[id])
	}
}

// latencyMatrix is the figures of a [LatencyReport]: a row and a column for each
// of CPUs, in nanoseconds.
type latencyMatrix struct {
	CPUs          []cpuset.CPU `json:"cpus"`
	NS, Low, High [][]*float64
}

// chance is the share of pairs that may change by it: the intervals have a
// confidence of 95 %.
const chance = 0.05

func comparePairs(r *difference.Report, a, b *latencyMatrix) {
	type pair struct{ from, to cpuset.CPU }
	was := map[pair]difference.Interval{}
	a.each(func(from, to cpuset.CPU, v difference.Interval) { was[pair{from, to}] = v })
	var before, after []float64
	slower, faster := 0, 0
	b.each(func(from, to cpuset.CPU, v difference.Interval) {
		old, ok := was[pair{from, to}]
		if !ok {
			return
		}
		before, after = append(before, old.Median), append(after, v.Median)
		switch {
		case v.Low > old.High:
			slower++
		case v.High < old.Low:
			faster++
		}
	})
	if len(before) == 0 {
		r.Unknown = append(r.Unknown, "core_to_core_ns")
		return
	}
	x, y := measured.Of(before).Median, measured.Of(after).Median
	row := difference.Row{Name: "core_to_core_ns", Unit: "ns", A: x, B: y, Verdict: difference.NotSeen,
		Why: fmt.Sprintf("medians of %d pairs, of which %d are slower and %d faster beyond their intervals", len(before), slower, faster)}
	d := y - x
	row.Difference = &d
	if x > 0 {
		q := y / x
		row.Ratio = &q
	}
	if float64(slower+faster) > chance*float64(len(before)) {
		row.Verdict = difference.Changed
	}
	r.Rows = append(r.Rows, row)
}

// each visits the cells that have a figure and an interval.
func (m *latencyMatrix) each(visit func(from, to cpuset.CPU, v difference.Interval)) {
	cell := func(matrix [][]*float64, i, j int) *float64 {
		if i < len(matrix) && j < len(matrix[i]) {
			return matrix[i][j]
		}
		return nil
	}
	for i, from := range m.CPUs {
		for j, to := range m.CPUs {
			ns, low, high := cell(m.NS, i, j), cell(m.Low, i, j), cell(m.High, i, j)
			if ns != nil && low != nil && high != nil {
				visit(from, to, difference.Interval{Median: *ns, Low: *low, High: *high})
			}
		}
	}
}
