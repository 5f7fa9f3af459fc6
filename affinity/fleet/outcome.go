//go:build linux

package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"berth/advisor"
	"berth/affinity"
	"berth/probe/cpuset"
)

// RunSchema names the JSON document that an [Outcome] marshals to.
const RunSchema = "berth.fleet-run/v1"

// Outcome is what became of a plan on a fleet: for every node what was planned
// and what was observed, or why nothing is known. Nodes are in the order of
// their names; times are in seconds.
type Outcome struct {
	Schema  string   `json:"schema" yaml:"schema"`
	Engine  string   `json:"engine" yaml:"engine"`
	Profile string   `json:"profile" yaml:"profile"` // its name
	Command []string `json:"command" yaml:"command"`
	// Early says why the run was ended before all programs had.
	Early string  `json:"early,omitempty" yaml:"early,omitempty"`
	WallS float64 `json:"wall_s" yaml:"wall_s"`
	Kept  bool    `json:"kept" yaml:"kept"` // every node reported, and kept all its seats
	// Status is that of the node that failed First; 0 where none did.
	Status int           `json:"status" yaml:"status"`
	First  string        `json:"failed_first,omitempty" yaml:"failed_first,omitempty"`
	Totals OutcomeTotals `json:"totals" yaml:"totals"`
	Nodes  []NodeOutcome `json:"nodes" yaml:"nodes"`
	// Receipts are whole, where they were asked for.
	Receipts []NodeReceipt `json:"receipts,omitempty" yaml:"receipts,omitempty"`
}

// NodeReceipt is what a node sent.
type NodeReceipt struct {
	Node             string `json:"node" yaml:"node"`
	affinity.Receipt `yaml:",inline"`
}

// Receipt is that of a node; nil: it sent none, or they were not asked for.
func (o *Outcome) Receipt(node string) *affinity.Receipt {
	for i := range o.Receipts {
		if o.Receipts[i].Node == node {
			return &o.Receipts[i].Receipt
		}
	}
	return nil
}

// OutcomeTotals count nodes, and workers on all of them.
type OutcomeTotals struct {
	Nodes       int `json:"nodes" yaml:"nodes"`
	Reported    int `json:"reported" yaml:"reported"` // with a receipt
	Kept        int `json:"kept" yaml:"kept"`
	Failed      int `json:"failed" yaml:"failed"`   // ended with a status that is not 0
	Workers     int `json:"workers" yaml:"workers"` // planned
	WorkersKept int `json:"workers_kept" yaml:"workers_kept"`
}

// NodeOutcome is the part of one node.
type NodeOutcome struct {
	Name  string `json:"name" yaml:"name"`
	Shape int    `json:"shape" yaml:"shape"` // that it was planned for
	// Is is what the node was when it was to start; nil: it never said.
	Is      *Observed `json:"is,omitempty" yaml:"is,omitempty"`
	Differs []string  `json:"differs,omitempty" yaml:"differs,omitempty"` // from what the plan was made for
	ReadyS  *float64  `json:"ready_s,omitempty" yaml:"ready_s,omitempty"` // after the beginning of the run
	WallS   *float64  `json:"wall_s,omitempty" yaml:"wall_s,omitempty"`   // of its programs
	// Status is that of berth run there; nil: nothing was started, or nobody knows.
	Status  *int            `json:"status,omitempty" yaml:"status,omitempty"`
	Kept    bool            `json:"kept" yaml:"kept"`
	Workers []WorkerOutcome `json:"workers" yaml:"workers"`
	// Violations are those of its receipt, and those that the plan shows.
	Violations []affinity.Violation `json:"violations" yaml:"violations"`
	Notes      []string             `json:"notes,omitempty" yaml:"notes,omitempty"`
	// Trouble and Error say why there is no receipt.
	Trouble TroubleCode `json:"trouble,omitempty" yaml:"trouble,omitempty"`
	Error   string      `json:"error,omitempty" yaml:"error,omitempty"`
}

// WorkerOutcome is a seat as it was planned, and what was seen of it.
type WorkerOutcome struct {
	Worker  int        `json:"worker" yaml:"worker"`
	Planned cpuset.Set `json:"planned" yaml:"planned"`
	// Set is the CPUs of all its threads as last read back, and RanOn those that
	// they were seen on; empty: nothing was seen of it.
	Set   cpuset.Set     `json:"set" yaml:"set"`
	RanOn cpuset.Set     `json:"ran_on" yaml:"ran_on"`
	Exit  *affinity.Exit `json:"exit,omitempty" yaml:"exit,omitempty"`
	Kept  bool           `json:"kept" yaml:"kept"`
}

// NotStarted is the code of a violation: a worker that never ran, where others did.
const NotStarted = "not-started"

// plannedSeats are the CPUs of each worker of a plan.
func plannedSeats(plan *advisor.Plan) []cpuset.Set {
	out := make([]cpuset.Set, plan.Workers.Processes)
	for _, s := range plan.Placement.Seats {
		out[s.Worker] = out[s.Worker].Union(s.CPUs)
	}
	if len(plan.Placement.Seats) == 0 {
		for i := range out {
			out[i] = plan.Placement.CPUs
		}
	}
	return out
}

// judge holds a node's receipt against its plan. The receipt's own judgement
// stands beside it: it knows of seats that changed meanwhile.
func (o *NodeOutcome) judge(plan *advisor.Plan, report *report) {
	r := report.Receipt
	o.WallS = &r.WallS
	o.Violations = append(o.Violations, r.Broken...)
	o.Kept = r.Kept
	for i, planned := range plannedSeats(plan) {
		w := WorkerOutcome{Worker: i, Planned: planned}
		at := slices.IndexFunc(r.Workers, func(w affinity.WorkerReceipt) bool { return w.Index == i })
		if at < 0 {
			o.Workers, o.Kept = append(o.Workers, w), false
			o.Violations = append(o.Violations, affinity.Violation{Worker: i, Code: NotStarted, Message: cmp.Or(report.Error, "the receipt does not know it")})
			continue
		}
		got := &r.Workers[at]
		w.Exit = got.Exit
		for _, t := range got.Threads {
			w.Set, w.RanOn = w.Set.Union(t.Set), w.RanOn.Union(t.RanOn)
		}
		broken := slices.ContainsFunc(r.Broken, func(v affinity.Violation) bool { return v.Worker == i })
		if w.Kept = !broken && w.Set.SubsetOf(planned); !w.Kept && !broken {
			o.Violations = append(o.Violations, affinity.Violation{Worker: i, Code: affinity.SeatMoved, Message: fmt.Sprintf("worker %d was planned for %s and sits on %s", i, planned, w.Set)})
		}
		o.Kept = o.Kept && w.Kept
		o.Workers = append(o.Workers, w)
	}
}

// sum counts the nodes.
func (o *Outcome) sum() {
	t := &o.Totals
	*t = OutcomeTotals{Nodes: len(o.Nodes)}
	for i := range o.Nodes {
		n := &o.Nodes[i]
		if n.Trouble == "" {
			t.Reported++
		}
		if n.Kept {
			t.Kept++
		}
		if n.Status != nil && *n.Status != 0 {
			t.Failed++
		}
		t.Workers += len(n.Workers)
		for _, w := range n.Workers {
			if w.Kept {
				t.WorkersKept++
			}
		}
	}
	o.Kept = t.Kept == t.Nodes
}
