//go:build linux

package tasks

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"berth/probe/cpuset"
)

// maxID is above any process number: PID_MAX_LIMIT is 2^22 (proc(5)).
const maxID = math.MaxInt32

// State is a thread's state as the kernel's letter.
type State byte

const (
	Running  State = 'R' // on a CPU, or waiting for one
	Sleeping State = 'S'
	Blocked  State = 'D' // in a sleep that signals do not end, mostly for a disk
	Idle     State = 'I' // a kernel thread with nothing to do
	Stopped  State = 'T'
	Traced   State = 't'
	Zombie   State = 'Z' // ended, and not yet waited for
	Dead     State = 'X'
)

func (s State) String() string { return string(rune(s)) }

// over reports whether a thread in this state will run no more.
func (s State) over() bool { return s == Zombie || s == Dead || s == 'x' }

// Policy is a scheduling policy, numbered as in sched_setscheduler(2); -1 is
// unknown.
type Policy int

var policies = [...]string{"other", "fifo", "rr", "batch", "", "idle", "deadline", "ext"}

func (p Policy) String() string {
	if p >= 0 && int(p) < len(policies) && policies[p] != "" {
		return policies[p]
	}
	if p < 0 {
		return "unknown"
	}
	return strconv.Itoa(int(p))
}

// Stat is what the file stat says of a thread. The same file of a process
// speaks of its first thread, but sums times and faults over all threads, the
// ended ones too.
type Stat struct {
	Name   string // as the thread calls itself; any bytes, at most 15 of a program's
	State  State
	Parent int  // the process that is told of the end; 0 has none
	Kernel bool // a thread of the kernel's own
	// User and System are CPU time in steps of a [Tick]. Their sum follows the
	// scheduler's exact clock, rounded down.
	User, System             time.Duration
	MinorFaults, MajorFaults int64
	Nice                     int
	Threads                  int           // of the process
	Start                    time.Duration // after the machine's start, in steps of a Tick; with its number it names a thread for good
	CPU                      cpuset.CPU    // where it last ran or, being ready, waits to run; -1 unknown
	Priority                 int           // real-time, 1 to 99; 0 has none, -1 unknown
	Policy                   Policy
}

// kernelThread is PF_KTHREAD of the kernel's include/linux/sched.h.
const kernelThread = 0x00200000

// ParseStat reads /proc/PID/stat or /proc/PID/task/TID/stat. Text that lacks
// the start of the thread, field 22, is an error; later fields may be missing,
// as in old kernels.
func ParseStat(data []byte) (Stat, error) {
	var st Stat
	name, err := st.parse(data)
	st.Name = string(name)
	return st, err
}

// parse leaves the name in place, so that a reader who knows it already need
// not copy it.
func (st *Stat) parse(data []byte) (name []byte, err error) {
	*st = Stat{CPU: -1, Priority: -1, Policy: -1}
	// A thread may put anything into its name; numbers alone follow the last ")".
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return nil, fmt.Errorf("parse stat: no name in parentheses in %.40q", data)
	}
	field, rest := cut(data[end+1:])
	if len(field) != 1 {
		return nil, fmt.Errorf("parse stat: field 3 is %.20q, not the letter of a state", field)
	}
	st.State = State(field[0])
	at := 4
	for ; ; at++ {
		if field, rest = cut(rest); len(field) == 0 {
			break
		}
		n, ok := integer(field)
		if !ok {
			return nil, fmt.Errorf("parse stat: field %d is %.20q, not a number", at, field)
		}
		switch at {
		case 4:
			st.Parent = small(n)
		case 9:
			st.Kernel = n&kernelThread != 0
		case 10:
			st.MinorFaults = n
		case 12:
			st.MajorFaults = n
		case 14:
			st.User = ticks(n)
		case 15:
			st.System = ticks(n)
		case 19:
			st.Nice = small(n)
		case 20:
			st.Threads = small(n)
		case 22:
			st.Start = ticks(n)
		case 39:
			st.CPU = -1
			if n >= 0 && n < cpuset.Limit {
				st.CPU = cpuset.CPU(n)
			}
		case 40:
			st.Priority = small(n)
		case 41:
			st.Policy = Policy(small(n))
		}
	}
	if at <= 22 {
		return nil, fmt.Errorf("parse stat: it ends after field %d, before the start time in field 22", at-1)
	}
	return data[open+1 : end], nil
}

// SchedStat is the scheduler's own account of a thread. While the thread is on
// a CPU, it may be behind by a scheduler tick.
type SchedStat struct {
	OnCPU      time.Duration // time on a CPU
	RunDelay   time.Duration // time ready but waiting for a CPU; -1 unknown
	Timeslices int64         // times it was put on a CPU; -1 unknown
}

// ParseSchedStat reads /proc/PID/task/TID/schedstat (sched-stats.rst, "/proc/<pid>/schedstat").
// Three zeros stand for a thread that never ran, and for every thread of a
// kernel that does not count.
func ParseSchedStat(data []byte) (SchedStat, error) {
	var n [3]int64
	rest := data
	for i := range n {
		var field []byte
		field, rest = cut(rest)
		v, ok := integer(field)
		if !ok || v < 0 {
			return SchedStat{}, fmt.Errorf("parse schedstat: %.60q does not begin with three counts", data)
		}
		n[i] = v
	}
	return SchedStat{time.Duration(n[0]), time.Duration(n[1]), n[2]}, nil
}

// Status is what the file status says of a thread, the part of it that stat
// does not.
type Status struct {
	UID, EUID              int        // real and effective; -1 unknown
	Allowed                cpuset.Set // CPUs it may run on; empty is unknown
	Mems                   string     // NUMA nodes it may take memory from, as a list; empty is unknown
	Voluntary, Involuntary int64      // switches: it gave the CPU up to wait, it was made to; -1 unknown
}

var unknownStatus = Status{UID: -1, EUID: -1, Voluntary: -1, Involuntary: -1}

// ParseStatus reads /proc/PID/status or /proc/PID/task/TID/status.
func ParseStatus(data []byte) (Status, error) {
	s := unknownStatus
	lists, err := s.parse(data)
	if err != nil {
		return unknownStatus, err
	}
	return s, s.setLists(lists)
}

// lists are the sets of a status as text.
type lists struct{ cpus, mems []byte }

// parse takes the numbers. The lists cost more to understand, and rarely change.
func (s *Status) parse(data []byte) (l lists, err error) {
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			continue
		}
		value := bytes.TrimSpace(line[colon+1:])
		switch key := line[:colon]; string(key) {
		case "Uid":
			field, rest := cut(value)
			real, ok1 := integer(field)
			field, _ = cut(rest)
			effective, ok2 := integer(field)
			if !ok1 || !ok2 {
				return l, fmt.Errorf("parse status: %.40q does not name a real and an effective user", line)
			}
			s.UID, s.EUID = small(real), small(effective)
		case "Cpus_allowed_list":
			l.cpus = value
		case "Mems_allowed_list":
			l.mems = value
		case "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches":
			n, ok := integer(value)
			if !ok || n < 0 {
				return l, fmt.Errorf("parse status: %.60q is not a count", line)
			}
			if key[0] == 'v' {
				s.Voluntary = n
			} else {
				s.Involuntary = n
			}
		}
	}
	return l, nil
}

func (s *Status) setLists(l lists) (err error) {
	if s.Allowed, err = cpuset.Parse(string(l.cpus)); err != nil {
		return fmt.Errorf("parse status: Cpus_allowed_list: %w", err)
	}
	if s.Mems = string(l.mems); s.Mems != "" {
		if _, err = cpuset.Parse(s.Mems); err != nil { // node numbers have the same syntax
			err = fmt.Errorf("parse status: Mems_allowed_list: %w", err)
			s.Mems = ""
		}
	}
	return err
}

// statusNumber is the first number on the line that begins with key, or -1.
func statusNumber(data []byte, key string) int64 {
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		if value, ok := bytes.CutPrefix(line, []byte(key)); ok {
			field, _ := cut(value)
			if n, ok := integer(field); ok {
				return n
			}
		}
	}
	return -1
}

var errNoMigrations = errors.New("parse sched: no line se.nr_migrations")

// ParseMigrations reads from /proc/PID/task/TID/sched how often the kernel has
// moved the thread to another CPU. Older kernels have the file only with
// CONFIG_SCHED_DEBUG.
func ParseMigrations(data []byte) (int64, error) {
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		value, ok := bytes.CutPrefix(line, []byte("se.nr_migrations"))
		if !ok {
			continue
		}
		colon := bytes.IndexByte(value, ':')
		n, ok := integer(bytes.TrimSpace(value[colon+1:]))
		if colon < 0 || !ok || n < 0 {
			return -1, fmt.Errorf("parse sched: %.60q is not a count", line)
		}
		return n, nil
	}
	return -1, errNoMigrations
}

// cut takes the first field off b; fields are parted by white space.
func cut(b []byte) (field, rest []byte) {
	i := 0
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	j := i
	for j < len(b) && !isSpace(b[j]) {
		j++
	}
	return b[i:j], b[j:]
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' }

func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// integer reads a decimal number. Numbers beyond 64 bits with a sign, which
// the kernel prints for some addresses, come as the largest there is.
func integer(b []byte) (int64, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if digit := int64(c - '0'); n > (math.MaxInt64-digit)/10 {
			n = math.MaxInt64
		} else {
			n = n*10 + digit
		}
	}
	if negative {
		n = -n
	}
	return n, true
}

// small makes an int of what should be one.
func small(n int64) int { return int(min(max(n, math.MinInt32), math.MaxInt32)) }

// ticks converts clock ticks; what no clock can have reached is cut.
func ticks(n int64) time.Duration {
	return time.Duration(min(max(n, 0), math.MaxInt64/int64(Tick))) * Tick
}

func sortedOnce(ids []int) []int {
	slices.Sort(ids)
	return slices.Compact(ids)
}
