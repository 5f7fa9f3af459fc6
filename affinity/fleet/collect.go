//go:build linux

package fleet

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"hash/fnv"
	"io"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync"

	"berth/probe"
)

// Options shape a look at a fleet.
type Options struct {
	// Full keeps each node's whole machine, which takes memory for each.
	Full bool
	// Save, if any, is handed each document as it comes, one at a time.
	Save func(node string, document []byte) error
	// Progress, if any, is told after each answer how many there were.
	Progress func(answered, troubled int)
}

// Collect asks all nodes of an engine and groups what they answer. What comes
// out does not depend on the order in which the answers came. When ctx ends
// early, or the engine fails midway, what is known until then is returned, and
// Early says so; the error is for a look that gave nothing at all, and for an
// answer that could not be saved.
func Collect(ctx context.Context, e Engine, o Options) (*Fleet, error) {
	declared := map[string]Declared{}
	if d, ok := e.(Declarer); ok {
		var err error
		if declared, err = d.Declared(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := newGroups(o)
	// An engine may have a thousand answers in hand; only so many are unpacked at a time.
	turn := make(chan struct{}, runtime.GOMAXPROCS(0))
	err := e.Inspect(ctx, func(a Answer) {
		turn <- struct{}{}
		defer func() { <-turn }()
		if err := g.answer(a); err != nil {
			cancel(err)
		}
	})
	if g.failed != nil {
		return nil, g.failed
	}
	early := ""
	switch {
	case ctx.Err() != nil:
		early = "the look was ended before all nodes had answered"
	case err != nil && len(g.nodes) == 0:
		return nil, err
	case err != nil:
		early = err.Error()
	}
	f, err := g.fleet(declared)
	if err != nil {
		return nil, err
	}
	f.Engine, f.Early = e.Name(), early
	return f, nil
}

// groups is a fleet in the making. Its size grows with the number of nodes by a
// name and a few numbers each, and by a machine for each cell.
type groups struct {
	Options
	mu       sync.Mutex
	nodes    map[string]*record
	cells    map[cellKey]*cell
	traits   map[traits]*traits
	answered int
	failed   error
}

// record is what is held of a node.
type record struct {
	name     string
	traits   *traits // nil: no answer
	memory   memories
	sum      uint64 // of the document
	budget   float64
	machine  *probe.Machine // with Full
	hostname string
	notes    []string
	trouble  *Trouble
}

// cell holds the nodes whose machines have one plan, but for memory, of which
// it holds a narrow band. Cells whose bands touch become one shape.
type cell struct {
	least memories
	name  string
	sum   uint64
	// packed is the document of the node with the least memory, compressed:
	// where nodes are containers there can be a cell for each.
	packed []byte
}

type cellKey struct {
	fingerprint, layout, allowed string
	quota                        float64
	band                         int
}

func newGroups(o Options) *groups {
	return &groups{Options: o, nodes: map[string]*record{}, cells: map[cellKey]*cell{}, traits: map[traits]*traits{}}
}

// answer takes one in. The error is that of saving it.
func (g *groups) answer(a Answer) error {
	r := &record{name: a.Node, trouble: a.Trouble}
	var d *document
	if a.Trouble == nil {
		if d, r.trouble = readDocument(a.Document); d != nil {
			var x traits
			x, r.memory = traitsOf(d.machine)
			r.traits = &x
			r.notes, r.budget, r.hostname, r.sum = d.notes, d.machine.Limits.EffectiveCPUs, d.machine.Host.Hostname, sum(d.text)
			r.name = cmp.Or(r.name, r.hostname)
			if g.Full {
				r.machine = d.machine
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r.name = cmp.Or(r.name, a.Place, "unnamed")
	if r.traits != nil {
		if same := g.traits[*r.traits]; same != nil {
			r.traits = same
		} else {
			// Strings of a document hold all of it in memory.
			x := r.traits.clone()
			r.traits = &x
			g.traits[x] = &x
		}
		g.offer(r, d.text)
		if g.Save != nil && g.failed == nil {
			g.failed = g.Save(r.name, d.text)
		}
	}
	r.name, r.hostname = strings.Clone(r.name), strings.Clone(r.hostname)
	g.put(r)
	if d != nil && d.again != nil {
		again := &record{name: r.name}
		if second, _ := readDocument(d.again); second != nil && sum(second.text) == r.sum {
			again = r
		} else if second != nil {
			var x traits
			x, again.memory = traitsOf(second.machine)
			x = x.clone()
			again.traits, again.budget, again.sum = &x, second.machine.Limits.EffectiveCPUs, sum(second.text)
			g.offer(again, second.text)
		} else {
			again.trouble = trouble(Garbage, "")
		}
		g.put(again)
	}
	if g.Progress != nil {
		g.Progress(g.answered, len(g.nodes)-g.answered)
	}
	return g.failed
}

func (x traits) clone() traits {
	for _, s := range []*string{&x.fingerprint, &x.allowed, &x.isolated, &x.offline, &x.smt, &x.kernel, &x.microcode, &x.hypervisor, &x.container} {
		*s = strings.Clone(*s)
	}
	return x
}

// put holds a node's record beside or in place of one that it has already:
// between two answers that differ the one with the smaller budget is kept, so
// that a plan is on the safe side whichever is true.
func (g *groups) put(r *record) {
	old := g.nodes[r.name]
	if old == nil {
		g.nodes[r.name] = r
		if r.traits != nil {
			g.answered++
		}
		return
	}
	keep := old
	switch {
	case r.traits == nil: // trouble beside an answer
	case old.traits == nil:
		keep = r
		g.answered++
	case cmp.Or(cmp.Compare(r.budget, old.budget), cmp.Compare(r.memory.usable, old.memory.usable), cmp.Compare(r.sum, old.sum)) < 0:
		keep = r
	}
	note := "it answered twice, the same"
	if old.sum != r.sum {
		note = "it answered twice, and not the same; the answer with the smaller budget is used"
	}
	if keep.traits != nil && !slices.Contains(keep.notes, note) {
		keep.notes = append(keep.notes, note)
	}
	if keep != old {
		keep.notes = append(keep.notes, old.notes...)
	}
	slices.Sort(keep.notes)
	keep.notes = slices.Compact(keep.notes)
	g.nodes[r.name] = keep
}

// key is the cell of a record.
func (r *record) key() cellKey {
	k := cellKey{r.traits.fingerprint, r.traits.layout, r.traits.allowed, r.traits.quota, -1}
	if n := r.memory.usable; n > 0 {
		k.band = band(n)
	}
	return k
}

// band numbers bands of memory, each a 128th of its power of two: less than
// half as wide as what shapes tell apart.
func band(bytes int64) int {
	shift := max(0, bits.Len64(uint64(bytes))-8)
	return shift<<8 | int(bytes>>shift)
}

// offer lets a document stand for its cell if its memory is the least.
func (g *groups) offer(r *record, text []byte) {
	k := r.key()
	c := g.cells[k]
	if c != nil && cmp.Or(cmp.Compare(c.least.usable, r.memory.usable), Compare(c.name, r.name), cmp.Compare(c.sum, r.sum)) <= 0 {
		return
	}
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestSpeed) // the level is a valid one
	w.Write(text)
	w.Close()
	g.cells[k] = &cell{r.memory, strings.Clone(r.name), r.sum, bytes.Clone(packed.Bytes())}
}

// machine unpacks the one that stands for the cell.
func (c *cell) machine() (*probe.Machine, error) {
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(c.packed)))
	if err != nil {
		return nil, err
	}
	d, bad := readDocument(text)
	if bad != nil {
		return nil, bad
	}
	return d.machine, nil
}

func sum(text []byte) uint64 {
	h := fnv.New64a()
	h.Write(text)
	return h.Sum64()
}
