//go:build linux

package fleet

import (
	"encoding/json"
	"fmt"
	"slices"

	"berth/advisor"
	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
)

// orderSchema and reportSchema name what the two sides of a run say to each
// other. Both are of one berth's build, and no documents for others.
const (
	orderSchema  = "berth.fleet-order/v1"
	reportSchema = "berth.fleet-report/v1"
)

// order is what every node of a run is told: one line, of which each node takes
// its own part.
type order struct {
	Schema      string      `json:"schema"`
	Parts       []orderPart `json:"parts"`
	Program     []string    `json:"program"`
	Arguments   []string    `json:"arguments,omitempty"`   // of berth run
	Environment []string    `json:"environment,omitempty"` // NAME=VALUE
	Dir         string      `json:"dir,omitempty"`
	Require     bool        `json:"require,omitempty"` // refuse where the node is not as planned
	// Hold: no program starts before a line that says go.
	Hold bool `json:"hold,omitempty"`
}

type orderPart struct {
	Nodes string          `json:"nodes"` // folded
	Plan  json.RawMessage `json:"plan"`
}

const goLine = "go\n"

// readOrder reads the line that an order is.
func readOrder(line []byte) (*order, error) {
	var head struct{ Schema string }
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, fmt.Errorf("the order cannot be read: %w", err)
	}
	if head.Schema != orderSchema {
		return nil, fmt.Errorf("the order is a %s, and this berth takes %s: both sides of a run must be of one version; --bring always sees to that", shown(head.Schema), orderSchema)
	}
	o := &order{}
	if err := json.Unmarshal(line, o); err != nil {
		return nil, fmt.Errorf("the order cannot be read: %w", err)
	}
	if len(o.Program) == 0 {
		return nil, fmt.Errorf("the order names no program")
	}
	return o, nil
}

// plan is that of one node.
func (o *order) plan(node string) (json.RawMessage, error) {
	for i := range o.Parts {
		names, err := ParseNames(o.Parts[i].Nodes)
		if err != nil {
			return nil, fmt.Errorf("the order's parts: %w", err)
		}
		if slices.Contains(names, node) {
			return o.Parts[i].Plan, nil
		}
	}
	return nil, fmt.Errorf("the order has no part for a node of the name %q", node)
}

// reportState is how far a node has come.
type reportState string

const (
	nodeReady   reportState = "ready"   // it knows its part; said again now and then, as long as it lives
	nodeRefused reportState = "refused" // nothing was started there, for its own reasons
	nodeIdle    reportState = "idle"    // nothing was started there, as the run was ended before
	nodeEnded   reportState = "ended"
)

// report is what a node says of itself.
type report struct {
	Schema  string      `json:"schema"`
	State   reportState `json:"state"`
	Is      *Observed   `json:"is,omitempty"`
	Differs []string    `json:"differs,omitempty"`
	// Status is that of berth run there.
	Status int `json:"status,omitempty"`
	// Error is what went wrong, or the last that was said there before a failure.
	Error   string            `json:"error,omitempty"`
	Receipt *affinity.Receipt `json:"receipt,omitempty"`
	Left    int               `json:"left,omitempty"`   // processes that were left and killed
	Pieces  int               `json:"pieces,omitempty"` // of output, until then
}

func readReport(text []byte) (*report, error) {
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("its report cannot be read: %w", err)
	}
	if r.Schema != reportSchema {
		return nil, fmt.Errorf("its report is a %s, not %s", shown(r.Schema), reportSchema)
	}
	return r, nil
}

// Observed is a node as it was found when it was to start.
type Observed struct {
	Hostname    string     `json:"hostname,omitempty" yaml:"hostname,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty" yaml:"fingerprint,omitempty"`
	Allowed     cpuset.Set `json:"allowed" yaml:"allowed"` // CPUs
}

// differs says in what a machine is not the one that a plan was made for.
func differs(plan *advisor.Plan, m *probe.Machine) []string {
	var out []string
	if plan.Machine != "" && m.Fingerprint != "" && plan.Machine != m.Fingerprint {
		out = append(out, fmt.Sprintf("its hardware is %s, and the plan is for %s", m.Fingerprint, plan.Machine))
	}
	if missing := plan.Placement.CPUs.Minus(m.Topology.Allowed); !missing.IsEmpty() {
		out = append(out, fmt.Sprintf("the plan sits on CPUs %s, and of these %s may not be used there (allowed are %s)", plan.Placement.CPUs, missing, m.Topology.Allowed))
	}
	if q := m.Limits.QuotaCPUs; q != nil && *q < plan.BudgetCPUs-0.005 {
		out = append(out, fmt.Sprintf("a quota leaves it the time of %g CPUs, and the plan takes %g", *q, plan.BudgetCPUs))
	}
	return out
}
