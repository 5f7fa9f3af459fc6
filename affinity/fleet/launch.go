//go:build linux

package fleet

import (
	"context"
	"io"
	"sync"
	"time"
)

// Launcher is an engine that can run programs on its nodes.
type Launcher interface {
	Engine
	// Launch starts a berth on each node of a step, all at once, and returns
	// when none of them is left. It ends them soon after ctx does, and leaves
	// nothing on the nodes. An error means that the engine itself failed; what
	// was handed on before holds.
	Launch(ctx context.Context, step *Step) error
}

// Step is a berth on each of some nodes. What these berths say to each other is
// none of an engine's business: it hands Input to each, and the lines that
// they write on standard output to Line.
type Step struct {
	Nodes []string // each passes [CheckName]
	// Args are what berth is started with: `fleet node`, and what belongs to it. An
	// engine whose nodes do not know by what name they go adds --name NODE.
	Args []string
	// Input is for the standard input of every one. Its end asks them to end
	// their programs and to report, so an engine hands it on and then waits.
	Input *Feed
	Ready time.Duration // that a node may take until it has said something
	Limit time.Duration // of the whole, for an engine that books time
	// Takes is what the program takes on a node, for an engine that books that.
	Takes func(node string) Takes
	// Line takes in one line of a berth's, without its end. Those of a node come
	// in their order, and those of different nodes at once.
	Line func(text string)
	// Ended is told that a node's berth is no more, and why if it did not end
	// well. What is said of a node that has reported changes nothing.
	Ended func(node string, why *Trouble)
}

// Takes is what a program takes on a node: of a plan that pins, all CPUs that
// its workers sit on.
type Takes struct {
	CPUs      float64
	MemoryMiB *float64 // nil: nobody knows
}

// Feed is a text that grows and that many read, each from its beginning.
type Feed struct {
	mu     sync.Mutex
	grew   *sync.Cond
	text   []byte
	closed bool
}

// NewFeed is an empty one.
func NewFeed() *Feed {
	f := &Feed{}
	f.grew = sync.NewCond(&f.mu)
	return f
}

// Write adds to it; after its end that is in vain.
func (f *Feed) Write(text []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, io.ErrClosedPipe
	}
	f.text = append(f.text, text...)
	f.grew.Broadcast()
	return len(text), nil
}

// Close ends it, for those too that wait for more.
func (f *Feed) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.grew.Broadcast()
	return nil
}

// Reader reads it from its beginning, and waits for more until it ends.
func (f *Feed) Reader() io.Reader { return &feedReader{feed: f} }

type feedReader struct {
	feed *Feed
	at   int
}

func (r *feedReader) Read(to []byte) (int, error) {
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	for r.at == len(f.text) {
		if f.closed {
			return 0, io.EOF
		}
		f.grew.Wait()
	}
	n := copy(to, f.text[r.at:])
	r.at += n
	return n, nil
}
