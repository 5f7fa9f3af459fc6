//go:build linux

package experiment

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"berth/affinity/experiment/handover"
)

// workerEnv marks a process that is a worker; its value is the protocol's.
const workerEnv = "BERTH_EXPERIMENT_WORKER"

// Worker turns a process that an experiment started into a worker, and ends it
// with its work; in any other it does nothing. A program that runs experiments
// calls it first in main.
func Worker() {
	if os.Getenv(workerEnv) == "" {
		return
	}
	os.Exit(work())
}

// An order is one line to a worker: what to do. The answer is one line when it
// is prepared, unless the task needs no common start, and one with the result.
type order struct {
	Task string          `json:"task"`
	Args json.RawMessage `json:"args"`
}

// window is the common start: all work from now on, and count what they do
// between two times of CLOCK_MONOTONIC, in nanoseconds.
type window struct {
	From, To int64
}

type answer struct {
	Ready  bool            `json:"ready,omitempty"`
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// station is what a task has of its worker.
type station struct {
	in     *bufio.Scanner
	out    *json.Encoder
	shared *handover.Shared // with the other workers
	chase  *mapping
	stream *mapping
	// The memory experiment's: working sets by size, and what its threads stream
	// through, by node.
	stairs map[int64][]byte
	flows  map[int][]byte
}

// tasks are what workers can do. A task that others join calls ready when it is
// prepared, and gets the window.
var workerTasks = map[string]func(s *station, args []byte) (any, error){
	"kernel":    (*station).kernel,
	"pingpong":  (*station).pingPong,
	"handover":  (*station).handOver,
	"half":      (*station).half,
	"yield":     (*station).yield,
	"staircase": (*station).staircase,
	"bandwidth": (*station).bandwidth,
}

// work obeys orders until there are no more; those of a dead parent end too.
func work() int {
	// The terminal's signals are the parent's to answer.
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGHUP)
	debug.SetGCPercent(-1) // no collector within a window; a trial makes little garbage
	s := &station{in: bufio.NewScanner(os.Stdin), out: json.NewEncoder(os.Stdout)}
	s.in.Buffer(nil, 1<<20)
	var err error
	if s.shared, err = openShared(); err != nil {
		s.out.Encode(answer{Error: err.Error()})
		return 1
	}
	for {
		var o order
		if !s.read(&o) {
			return 0
		}
		result, err := s.obey(o)
		a := answer{}
		if err != nil {
			a.Error = err.Error()
		} else if a.Result, err = json.Marshal(result); err != nil {
			a.Error = err.Error()
		}
		if s.out.Encode(a) != nil {
			return 1
		}
		runtime.GC() // while nobody is timed
	}
}

func (s *station) obey(o order) (any, error) {
	task, ok := workerTasks[o.Task]
	if !ok {
		return nil, fmt.Errorf("do %q: no such task", o.Task)
	}
	return task(s, o.Args)
}

func (s *station) read(v any) bool {
	return s.in.Scan() && json.Unmarshal(s.in.Bytes(), v) == nil
}

func decode[T any](raw []byte) (T, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	if err != nil {
		err = fmt.Errorf("read an order: %w", err)
	}
	return v, err
}

// ready tells that all is prepared, and waits for the window.
func (s *station) ready() (window, error) {
	var w window
	if err := s.out.Encode(answer{Ready: true}); err != nil {
		return w, err
	}
	if !s.read(&w) || w.To <= w.From {
		return w, fmt.Errorf("wait for the start: nothing more was said")
	}
	return w, nil
}

// now is CLOCK_MONOTONIC in nanoseconds, the same in all processes.
func now() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}
