//go:build linux

package fleet

import (
	"fmt"

	"berth/probe/difference"
)

// CompareFleets tells which nodes came, went, fell silent or are of another
// shape now. Shapes are told apart by hardware and budget, as their numbers
// depend on how many nodes each has; memory is left to [probe.Compare].
func CompareFleets(a, b *Fleet) *difference.Report {
	r := difference.New()
	r.Members("nodes", namesOf(a), namesOf(b))
	r.Members("silent", silent(a), silent(b))
	r.Members("shapes", shapeNames(a), shapeNames(b))
	r.Count("packages", "", a.Totals.Packages, b.Totals.Packages)
	r.Count("cores", "cores", a.Totals.Cores, b.Totals.Cores)
	r.Count("cpus", "", a.Totals.CPUs, b.Totals.CPUs)
	r.Figure("budget_cpus", "cpus", &a.Totals.BudgetCPUs, &b.Totals.BudgetCPUs)
	memory := func(f *Fleet) *float64 {
		if f.Totals.MemoryBytes == 0 {
			return nil
		}
		return new(float64(f.Totals.MemoryBytes))
	}
	r.Figure("memory_bytes", "bytes", memory(a), memory(b))

	was := map[string]string{}
	for _, n := range a.Nodes {
		was[n.Name] = a.shapeName(&n)
	}
	row := difference.Row{Name: "reshaped", A: a.Totals.Answered, B: b.Totals.Answered, Verdict: difference.Changed}
	for _, n := range b.Nodes {
		if old, is := was[n.Name], b.shapeName(&n); old != "" && is != "" && old != is {
			row.Moved = append(row.Moved, fmt.Sprintf("%s from %s to %s", n.Name, old, is))
		}
	}
	if row.Moved != nil {
		r.Rows = append(r.Rows, row)
	}
	return r
}

func namesOf(f *Fleet) (names []string) {
	for _, n := range f.Nodes {
		names = append(names, n.Name)
	}
	return names
}

func silent(f *Fleet) (said []string) {
	for _, n := range f.Nodes {
		if n.Trouble != "" {
			said = append(said, n.Name+": "+string(n.Trouble))
		}
	}
	return said
}

func shapeNames(f *Fleet) (names []string) {
	for i := range f.Shapes {
		names = append(names, f.Shapes[i].name())
	}
	return names
}

// shapeName is empty for a node that gave no answer.
func (f *Fleet) shapeName(n *Node) string {
	if n.Shape < 1 || n.Shape > len(f.Shapes) {
		return ""
	}
	return f.Shapes[n.Shape-1].name()
}

func (s *Shape) name() string {
	return fmt.Sprintf("%.8s with the time of %.4g CPUs", s.Fingerprint, s.BudgetCPUs)
}
