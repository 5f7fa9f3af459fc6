//go:build linux

// Package fleet looks at many machines through an engine that reaches them,
// and plans a workload for all of them.
//
// [Collect] asks an [Engine] for the machine of every node and groups the
// answers into shapes: nodes for which one plan is right. Per shape it holds
// one machine, per node a name and what differs. [Advise] plans a workload for
// such a fleet, and a [Job] runs it there, each node by its own part.
package fleet

import (
	"context"
	"fmt"
	"io"

	"berth/probe"
	"berth/probe/finding"
)

// Schema names the JSON document that a [Fleet] marshals to.
const Schema = "berth.fleet/v1"

// Engine reaches nodes.
type Engine interface {
	Name() string
	// Inspect asks every node for its machine and hands on what comes of it, as
	// it comes and from several goroutines at once; it says so too of each node
	// that gave no answer. It ends soon after ctx does, and leaves nothing on
	// the nodes. An error means that the engine itself failed; what was handed
	// on before holds.
	Inspect(ctx context.Context, answer func(Answer)) error
}

// Declarer is an engine that has been told what its nodes are.
type Declarer interface {
	// Declared is by the name of the node.
	Declared(ctx context.Context) (map[string]Declared, error)
}

// Answer is what came of asking one node.
type Answer struct {
	Node     string   // empty: the one that the document names
	Place    string   // where it was found; the name of a node that nothing else names
	Document []byte   // a berth.inspect/v1 document, and what may stand around it
	Trouble  *Trouble // why there is none
}

// Fleet is what is known of many machines. Nodes are in the order of their
// names, shapes begin with the largest.
type Fleet struct {
	Schema string `json:"schema" yaml:"schema"`
	Engine string `json:"engine" yaml:"engine"`
	// Early says why nodes are missing that were never waited for.
	Early    string            `json:"early,omitempty" yaml:"early,omitempty"`
	Nodes    []Node            `json:"nodes" yaml:"nodes"`
	Shapes   []Shape           `json:"shapes" yaml:"shapes"`
	Totals   Totals            `json:"totals" yaml:"totals"`
	Findings []finding.Finding `json:"findings" yaml:"findings"`
}

// Node is one machine of a fleet, or what is known of why it is not.
type Node struct {
	Name        string `json:"name" yaml:"name"`
	Fingerprint string `json:"fingerprint,omitempty" yaml:"fingerprint,omitempty"`
	// Shape is its shape's ID; 0 where the node gave no answer.
	Shape int `json:"shape,omitempty" yaml:"shape,omitempty"`
	// Differences are from what is usual among nodes of its hardware.
	Differences []Difference `json:"differences,omitempty" yaml:"differences,omitempty"`
	// Notes are on an answer that was used all the same.
	Notes []string `json:"notes,omitempty" yaml:"notes,omitempty"`
	// Inspect is its whole answer, where it was asked for.
	Inspect *probe.Machine `json:"inspect,omitempty" yaml:"inspect,omitempty"`
	// Trouble and Error say why there is no answer.
	Trouble TroubleCode `json:"trouble,omitempty" yaml:"trouble,omitempty"`
	Error   string      `json:"error,omitempty" yaml:"error,omitempty"`
}

// Shape is a set of nodes for which one plan is right: of the same hardware,
// with the same CPUs under the same numbers, the same CPUs and time allowed, and
// about the same memory.
type Shape struct {
	ID          int      `json:"id" yaml:"id"` // from 1
	Fingerprint string   `json:"fingerprint" yaml:"fingerprint"`
	Nodes       []string `json:"nodes" yaml:"nodes"`
	BudgetCPUs  float64  `json:"budget_cpus" yaml:"budget_cpus"` // of each node
	// MemoryBytes is the least that a node of it may use; nil where it is not known.
	MemoryBytes *int64 `json:"memory_bytes,omitempty" yaml:"memory_bytes,omitempty"`
	// Usual: most nodes of this hardware have this shape.
	Usual bool `json:"usual" yaml:"usual"`
	// Differences are from the usual shape of this hardware.
	Differences []Difference `json:"differences,omitempty" yaml:"differences,omitempty"`
	// Inspect is the machine of the node with the least memory, From.
	Inspect *probe.Machine `json:"inspect" yaml:"inspect"`
	From    string         `json:"from" yaml:"from"`
}

// Totals are sums over the nodes that answered.
type Totals struct {
	Nodes       int     `json:"nodes" yaml:"nodes"`
	Answered    int     `json:"answered" yaml:"answered"`
	Packages    int     `json:"packages" yaml:"packages"`
	Cores       int     `json:"cores" yaml:"cores"`
	CPUs        int     `json:"cpus" yaml:"cpus"` // online
	BudgetCPUs  float64 `json:"budget_cpus" yaml:"budget_cpus"`
	MemoryBytes int64   `json:"memory_bytes" yaml:"memory_bytes"` // of those that told it
}

// Difference is one thing in which a node or a shape is not as usual.
type Difference struct {
	Code  string `json:"code" yaml:"code"` // memory, smt, kernel …
	Has   string `json:"has" yaml:"has"`
	Usual string `json:"usual" yaml:"usual"`
	// Text is a sentence's worth of it for a person.
	Text string `json:"text" yaml:"text"`
}

// Trouble is why a node gave no answer that can be used.
type Trouble struct {
	Code TroubleCode
	Text string
}

func (t *Trouble) Error() string { return t.Text }

func trouble(code TroubleCode, format string, args ...any) *Trouble {
	return &Trouble{code, fmt.Sprintf(format, args...)}
}

// TroubleCode is a kind of trouble.
type TroubleCode string

const (
	TimedOut     TroubleCode = "timeout"      // no answer within the limit
	Unreachable  TroubleCode = "unreachable"  // the engine cannot get there
	Down         TroubleCode = "down"         // the engine says that the node takes no work
	NoBerth      TroubleCode = "no-berth"     // berth is not there
	Architecture TroubleCode = "architecture" // berth is there, or was brought, for another one
	OtherSchema  TroubleCode = "schema"       // berth there is older or newer
	Garbage      TroubleCode = "garbage"      // an answer, but no document
	BrokeOff     TroubleCode = "broke-off"    // the beginning of a document
	Failed       TroubleCode = "failed"       // berth ran there and failed
	NotAsked     TroubleCode = "not-asked"    // the look ended before
	Refused      TroubleCode = "refused"      // it is not as planned, or was not to start: nothing was
	Lost         TroubleCode = "lost"         // it was to run programs, and what became of them is not known
)

// Read reads a fleet that was written as JSON, which errors call name.
func Read(r io.Reader, name string) (*Fleet, error) {
	f := &Fleet{}
	if err := probe.ReadDocument(r, name, Schema, f); err != nil {
		return nil, err
	}
	for i := range f.Shapes {
		s := &f.Shapes[i]
		switch {
		case s.ID != i+1:
			return nil, fmt.Errorf("%s: shapes[%d] has the id %d; they count from 1", name, i, s.ID)
		case s.Inspect == nil:
			return nil, fmt.Errorf("%s: shapes[%d] has no machine (inspect)", name, i)
		case len(s.Nodes) == 0:
			return nil, fmt.Errorf("%s: shapes[%d] has no node", name, i)
		}
		if err := s.Inspect.Check(fmt.Sprintf("%s: shapes[%d].inspect", name, i)); err != nil {
			return nil, err
		}
	}
	return f, nil
}
