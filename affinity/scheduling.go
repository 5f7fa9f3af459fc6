//go:build linux

package affinity

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Scheduling is a scheduling class and its priority (sched(7)). The zero value
// asks for nothing.
type Scheduling struct {
	Class    string // other, batch, idle, fifo or rr; empty: as it is
	Priority int    // of fifo and rr, 1 to 99
	Nice     *int   // -20 to 19; nil: as it is
}

var classes = map[string]uint32{"other": unix.SCHED_NORMAL, "batch": unix.SCHED_BATCH, "idle": unix.SCHED_IDLE, "fifo": unix.SCHED_FIFO, "rr": unix.SCHED_RR}

// ParseClass reads other, batch, idle, fifo:PRIORITY or rr:PRIORITY.
func ParseClass(text string) (Scheduling, error) {
	name, number, given := strings.Cut(text, ":")
	realTime := name == "fifo" || name == "rr"
	if _, ok := classes[name]; !ok {
		return Scheduling{}, fmt.Errorf("scheduling class %q: it is one of other, batch, idle, fifo:1 to fifo:99, rr:1 to rr:99", text)
	}
	s := Scheduling{Class: name}
	if given != realTime {
		return Scheduling{}, fmt.Errorf("scheduling class %q: fifo and rr take a priority, as fifo:10, and the others none", text)
	}
	if realTime {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 99 {
			return Scheduling{}, fmt.Errorf("scheduling class %q: a priority is a number from 1 to 99", text)
		}
		s.Priority = n
	}
	return s, nil
}

// SetScheduling gives a thread a class and a nice value, and reads them back; 0
// is the calling thread.
func SetScheduling(tid int, want Scheduling) error {
	if want.Class == "" && want.Nice == nil {
		return nil
	}
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return fmt.Errorf("scheduling of thread %d: sched_getattr: %w", tid, err)
	}
	if want.Class != "" {
		attr.Policy, attr.Priority = classes[want.Class], uint32(want.Priority)
	}
	fair := attr.Policy == unix.SCHED_NORMAL || attr.Policy == unix.SCHED_BATCH
	if want.Nice != nil {
		if !fair {
			return fmt.Errorf("scheduling of thread %d: a nice value means something in the classes other and batch only", tid)
		}
		attr.Nice = int32(*want.Nice)
	}
	attr.Flags = 0
	if err := unix.SchedSetAttr(tid, attr, 0); err != nil {
		hint := ""
		if err == unix.EPERM {
			hint = ": real-time classes, and less niceness, need CAP_SYS_NICE or a higher limit (ulimit -r, ulimit -e)"
		}
		return fmt.Errorf("scheduling of thread %d: sched_setattr: %w%s", tid, err, hint)
	}
	got, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return fmt.Errorf("scheduling of thread %d: sched_getattr: %w", tid, err)
	}
	if got.Policy != attr.Policy || got.Priority != attr.Priority || fair && got.Nice != attr.Nice {
		return fmt.Errorf("scheduling of thread %d: the kernel made class %d, priority %d, nice %d of what was asked for", tid, got.Policy, got.Priority, got.Nice)
	}
	return nil
}
