package emit

import (
	"slices"
	"strings"
	"testing"

	"berth/advisor"
	"berth/probe"
)

// CPUs that are for others are lost in every text of a plan without seats.
func TestKeptOut(t *testing.T) {
	lost := func(target Target, p *advisor.Plan) bool {
		s := target.Emit(p)
		said := slices.ContainsFunc(s.Lost, func(l string) bool { return strings.HasPrefix(l, "CPUs 0,4, which are for others") })
		if written := strings.Contains(s.Text, "CPUs 0,4, which are for others"); written != said {
			t.Errorf("%s: said %v, in the text %v", target.Name(), said, written)
		}
		return said
	}
	const reserve = "runtime: go\nlimits: {reserve_cores: 1}\n"
	free := testPlan{"reserved", desktop, reserve, virtual}.advise(t)
	seated := testPlan{"reserved", desktop, "runtime: native\nlimits: {reserve_cores: 1}\n", nil}.advise(t)
	isolated := testPlan{"isolated", desktop, "runtime: go\n", func(m *probe.Machine) {
		virtual(m)
		own := m.Topology.Cores[0].CPUs
		m.Topology.Isolated = &own
	}}.advise(t)
	for _, target := range Targets() {
		if !lost(target, free) {
			t.Errorf("%s says nothing of CPUs 0,4:\n%s", target.Name(), target.Emit(free).Text)
		}
		if lost(target, seated) || lost(target, isolated) {
			t.Errorf("%s loses CPUs that nothing moves a worker to", target.Name())
		}
	}
}
