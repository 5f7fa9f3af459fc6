//go:build linux

package wait

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// peek reads the process's memory, as much as the buffer and the mapping hold.
// The memory of a program that was replaced by execve(2) reads as empty; then
// the new one's is opened.
func (r *Reader) peek(at uint64, length int) []byte {
	if at == 0 || at > math.MaxInt64 {
		return nil
	}
	length = min(length, len(r.buf))
	for range 2 {
		if r.memory < 0 {
			if r.now.Sub(r.noMemory) < fresh {
				return nil
			}
			var err error
			if r.memory, err = r.open(0, "mem", -1); err != nil {
				r.memory, r.noMemory = -1, r.now
				return nil
			}
		}
		n, err := tasks.Pread(r.memory, r.buf[:length], int64(at))
		if n > 0 {
			return r.buf[:n]
		}
		if err != nil {
			return nil
		}
		r.closeMemory()
	}
	return nil
}

func (r *Reader) closeMemory() { closeFile(&r.memory) }

// wide reports whether a call takes its times in 64 bits: all do of 64-bit
// programs, and all that are newer than Linux 5.0 do on the others.
func (r *Reader) wide(number int) bool { return r.word == 8 || number >= 403 }

// span reads a struct timespec or, with a unit of microseconds, a timeval.
func (r *Reader) span(at uint64, number int, unit time.Duration) (time.Duration, bool) {
	var seconds, rest int64
	if r.wide(number) {
		data := r.peek(at, 16)
		if len(data) < 16 {
			return 0, false
		}
		seconds, rest = int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:]))
	} else {
		data := r.peek(at, 8)
		if len(data) < 8 {
			return 0, false
		}
		seconds, rest = int64(int32(binary.NativeEndian.Uint32(data))), int64(int32(binary.NativeEndian.Uint32(data[4:])))
	}
	if seconds < 0 || rest < 0 || rest > int64(time.Second) {
		return 0, false
	}
	if seconds > math.MaxInt64/int64(time.Second)-2 {
		return math.MaxInt64, true
	}
	return time.Duration(seconds)*time.Second + time.Duration(rest)*unit, true
}

// limit notes a time limit given as a length; none where the address is null.
func (r *Reader) limit(w *Wait, at uint64, unit time.Duration) {
	if w.Timed = at != 0; w.Timed {
		w.Timeout, _ = r.span(at, w.Syscall, unit)
	}
}

// deadline notes a time limit given as a point of a clock. A process in a time
// namespace of its own (time_namespaces(7)) has another monotonic clock, which
// is not accounted for.
func (r *Reader) deadline(w *Wait, at uint64, clock int32) {
	if w.Timed = at != 0; !w.Timed {
		return
	}
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI:
	default:
		return
	}
	end, ok := r.span(at, w.Syscall, time.Nanosecond)
	if !ok {
		return
	}
	if now := tasks.Clock(clock); now > 0 {
		w.Timeout = end - now
	}
}

// milliseconds notes the time limit of poll(2) and epoll_wait(2).
func (w *Wait) milliseconds(arg uint64) {
	if n := int32(arg); n >= 0 {
		w.Timed, w.Timeout = true, time.Duration(n)*time.Millisecond
	}
}

// wordSize is the size of an unsigned long in this build.
const wordSize = strconv.IntSize / 8

// long reads an unsigned long of the process.
func (r *Reader) long(data []byte) uint64 {
	if r.word == 8 {
		return binary.NativeEndian.Uint64(data)
	}
	return uint64(binary.NativeEndian.Uint32(data))
}
