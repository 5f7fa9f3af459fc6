//go:build linux

package gil

import (
	"debug/elf"
	"encoding/binary"
	"time"
)

// layout is how a program writes its numbers.
type layout struct {
	order binary.ByteOrder
	word  int // bytes of unsigned long and of a pointer
}

func layoutOf(file *elf.File) layout {
	if file.Class == elf.ELFCLASS32 {
		return layout{file.ByteOrder, 4}
	}
	return layout{file.ByteOrder, 8}
}

// size of the fields that are read: interval, last_holder, locked with its
// padding, switch_number.
func (l layout) size() int { return 4 * l.word }

// mostSize is the largest size.
const mostSize = 4 * 8

func (l layout) number(b []byte) uint64 {
	if l.word == 8 {
		return l.order.Uint64(b)
	}
	return uint64(l.order.Uint32(b))
}

const (
	// longest is the longest switch interval that is believed; 5 ms is the
	// default.
	longest = 10 * time.Second
	// highest is above every address of a program on the systems that Linux
	// runs on: 57 bits on those that have most.
	highest = 1 << 57
)

// parse reads the fields; false: these bytes are no such lock.
func (l layout) parse(b []byte) (State, bool) {
	w := l.word
	interval, holder, switches := l.number(b), l.number(b[w:]), l.number(b[3*w:])
	locked := l.order.Uint32(b[2*w:])
	padding := w == 8 && l.order.Uint32(b[2*w+4:]) != 0
	s := State{Held: locked == 1, Holder: holder, Switches: switches, Interval: time.Duration(interval) * time.Microsecond}
	return s, interval > 0 && interval <= uint64(longest/time.Microsecond) && locked <= 1 && !padding && holder < highest && holder%uint64(w) == 0
}

// search finds the places that look like the lock of an interpreter that has
// run: those with the default interval, if there are any; else, as smaller
// numbers are common, those before what else the lock consists of.
func search(memory []byte, l layout) []int {
	const usual = 5 * time.Millisecond
	var exact, others []int
	for at := 0; at+l.size() <= len(memory); at += l.word {
		s, ok := l.parse(memory[at:])
		// Nobody has a lock, or had it, that was never switched to.
		if !ok || s.Holder < 1<<16 || s.Switches == 0 || s.Switches >= 1<<47 {
			continue
		}
		rest := memory[at+l.size():]
		if s.Interval == usual {
			exact = append(exact, at)
		} else if n := l.condition(rest); n > 0 && l.condition(rest[n:]) > 0 {
			others = append(others, at)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return others
}

// condition reports the length of a condition variable and a mutex of the GNU C
// library, of which two pairs follow in the lock; 0: there is none. Of the first,
// __wrefs has bit 1 set, as it goes by the monotonic clock from 3.8 on, and bits 0
// and 2 never; of the second, __lock is 0, 1 or 2
// (sysdeps/nptl/bits/thread-shared-types.h, nptl/pthread_cond_wait.c).
func (l layout) condition(b []byte) int {
	const wrefs, size = 36, 48
	length := size + map[int]int{4: 24, 8: 40}[l.word]
	if len(b) < length || l.order.Uint32(b[wrefs:])&7 != 2 || l.order.Uint32(b[size:]) > 2 {
		return 0
	}
	return length
}

// offsets are what struct _Py_DebugOffsets tells, with which _PyRuntime begins
// from 3.13 on (Include/internal/pycore_runtime.h of 3.13,
// pycore_debug_offsets.h later).
type offsets struct {
	freeThreaded bool
	head         uint64 // of the list of interpreters, in _PyRuntime
	next         uint64 // of an interpreter, in the one before
	lock         uint64 // of the pointer to its lock, in an interpreter
}

// debugOffsets reads them; false: there are none, or in another order. Where the
// ones of the lock stand differs between versions; they are known by the
// distances between them, which are those of the fields of the lock.
func debugOffsets(runtime []byte, l layout) (offsets, bool) {
	const (
		cookie    = "xdebugpy"
		threaded  = 2 // free_threaded
		head      = 5 // runtime_state.interpreters_head
		structure = 6 // interpreter_state.size
		next      = 8 // interpreter_state.next
		most      = 32
	)
	if len(runtime) < 8*most || string(runtime[:len(cookie)]) != cookie {
		return offsets{}, false
	}
	at := func(i int) uint64 { return l.order.Uint64(runtime[8*i:]) }
	o := offsets{freeThreaded: at(threaded) == 1, head: at(head), next: at(next)}
	if o.freeThreaded {
		return o, true
	}
	// ceval_gil, gil_runtime_state, _enabled, _locked, _holder
	for i := next + 1; i+4 < most; i++ {
		lock, w := at(i+1), uint64(l.word)
		if lock > 0 && at(i+2) == 0 && at(i+3) == lock+2*w && at(i+4) == lock+w && max(lock, at(i), o.next) < at(structure) {
			o.lock = at(i)
			return o, o.head < uint64(len(runtime))
		}
	}
	return offsets{}, false
}
