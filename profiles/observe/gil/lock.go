//go:build linux

package gil

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// State is the lock at one moment.
type State struct {
	Held     bool
	Holder   uint64 // address of the thread state that has it or had it last; 0 nobody yet
	Switches uint64 // how often the holder changed
	Interval time.Duration
}

// Errors of Open.
var (
	ErrNotPython    = errors.New("no CPython interpreter is loaded")
	ErrNoSymbol     = errors.New("the interpreter has no symbol _PyRuntime: it is older than 3.7, or was stripped of it")
	ErrFreeThreaded = errors.New("this build of CPython runs without the lock")
	ErrSeveral      = errors.New("the program has several interpreters, each with a lock of its own")
	ErrNotFound     = errors.New("the interpreter's lock was not found in its memory")
)

// Lock is the lock of one process. It is not for concurrent use.
type Lock struct {
	pid    int
	memory int // descriptor of /proc/PID/mem, which stays with this program where the number or the program changes
	layout layout
	at     uint64
	buffer [mostSize]byte
	last   uint64 // switches
}

// mostSymbol bounds the size of _PyRuntime: it has less than a megabyte.
const mostSymbol = 16 << 20

// Open finds the lock of a process. Its memory is read through /proc/PID/mem,
// which takes the right to trace it (ptrace(2)). An error wraps
// [fs.ErrPermission] where that is lacking, or one of this package's.
func Open(p tasks.Proc, pid int) (*Lock, error) {
	s, err := interpreter(p, pid)
	if err != nil {
		return nil, explain(pid, err)
	}
	name := path(p, pid, "mem")
	memory, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, explain(pid, &fs.PathError{Op: "open", Path: name, Err: err})
	}
	l := &Lock{pid: pid, memory: memory, layout: s.layout}
	if l.at, err = l.locate(s); err != nil {
		l.Close()
		return nil, explain(pid, err)
	}
	return l, nil
}

// path is that of a file of a process.
func path(p tasks.Proc, pid int, name string) string {
	if p == "" {
		p = "/proc"
	}
	return filepath.Join(string(p), strconv.Itoa(pid), name)
}

func explain(pid int, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("process %d: %w: to read its memory takes the right to trace it: be root, or its user where kernel.yama.ptrace_scope is 0", pid, err)
	}
	return fmt.Errorf("process %d: %w", pid, err)
}

// locate finds the address of the lock.
func (l *Lock) locate(s symbol) (uint64, error) {
	if s.size < uint64(l.layout.size()) || s.size > mostSymbol {
		return 0, fmt.Errorf("%w: _PyRuntime of %s has %d bytes", ErrNotFound, s.path, s.size)
	}
	runtime := make([]byte, s.size)
	if err := l.read(s.at, runtime); err != nil {
		return 0, err
	}
	if s.freeThreaded {
		return 0, ErrFreeThreaded
	}
	if o, ok := debugOffsets(runtime, l.layout); ok {
		return l.follow(runtime, o)
	}
	places := search(runtime, l.layout)
	if len(places) > 1 {
		places = l.withHolder(runtime, places)
	}
	if len(places) != 1 {
		return 0, fmt.Errorf("%w: %d places in _PyRuntime of %s look like it, and one was expected", ErrNotFound, len(places), s.path)
	}
	return s.at + uint64(places[0]), nil
}

// withHolder keeps the places whose holder is an address of the process.
func (l *Lock) withHolder(runtime []byte, places []int) []int {
	var kept []int
	for _, at := range places {
		if s, _ := l.layout.parse(runtime[at:]); l.read(s.Holder, l.buffer[:l.layout.word]) == nil {
			kept = append(kept, at)
		}
	}
	return kept
}

// mostInterpreters ends the walk along a list that changes meanwhile.
const mostInterpreters = 1000

// follow goes along the list of interpreters to the one lock that they have.
func (l *Lock) follow(runtime []byte, o offsets) (uint64, error) {
	if o.freeThreaded {
		return 0, ErrFreeThreaded
	}
	w := uint64(l.layout.word)
	if o.head+w > uint64(len(runtime)) {
		return 0, fmt.Errorf("%w: its list of interpreters is said to begin beyond _PyRuntime, at %d", ErrNotFound, o.head)
	}
	var lock uint64
	at := l.layout.number(runtime[o.head:])
	for n := 0; at != 0 && n < mostInterpreters; n++ {
		its, err := l.pointer(at + o.lock)
		if err != nil {
			return 0, err
		}
		if its != 0 && lock != 0 && its != lock {
			return 0, ErrSeveral
		}
		lock = max(lock, its)
		if at, err = l.pointer(at + o.next); err != nil {
			return 0, err
		}
	}
	if lock == 0 {
		return 0, fmt.Errorf("%w: no interpreter has one; it starts or ends", ErrNotFound)
	}
	b := l.buffer[:l.layout.size()]
	if err := l.read(lock, b); err != nil {
		return 0, err
	}
	if _, ok := l.layout.parse(b); !ok {
		return 0, fmt.Errorf("%w: what _PyRuntime points to is none", ErrNotFound)
	}
	return lock, nil
}

func (l *Lock) pointer(at uint64) (uint64, error) {
	b := l.buffer[:l.layout.word]
	err := l.read(at, b)
	return l.layout.number(b), err
}

// Read reads the lock: 32 bytes, or 16 of a 32-bit program. An error means that
// the process has ended, or became another program.
func (l *Lock) Read() (State, error) {
	b := l.buffer[:l.layout.size()]
	if err := l.read(l.at, b); err != nil {
		return State{}, fmt.Errorf("process %d: %w", l.pid, err)
	}
	s, ok := l.layout.parse(b)
	if !ok || s.Switches < l.last {
		return State{}, fmt.Errorf("process %d: what was taken for the interpreter's lock is none any more: %w", l.pid, ErrNotFound)
	}
	l.last = s.Switches
	return s, nil
}

// Close ends the reading.
func (l *Lock) Close() { unix.Close(l.memory) }

func (l *Lock) read(at uint64, into []byte) error {
	if at > 1<<63-1 {
		return fmt.Errorf("%w: %#x is no address of a program", ErrNotFound, at)
	}
	switch n, err := tasks.Pread(l.memory, into, int64(at)); {
	case err != nil:
		return fmt.Errorf("read its memory at %#x: %w", at, err)
	case n == 0:
		// The kernel lets go of the memory when a program ends.
		return errors.New("read its memory: it has ended, or became another program")
	case n < len(into):
		return fmt.Errorf("read its memory at %#x: %d bytes of %d are there", at, n, len(into))
	}
	return nil
}
