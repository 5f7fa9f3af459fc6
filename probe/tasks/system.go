//go:build linux

package tasks

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"berth/probe/cpuset"
)

// CPUTimes is how a CPU spent its time since the machine's start, in steps of
// a [Tick]; -1 is unknown (proc(5), /proc/stat). In a virtual machine Steal is
// the time in which the CPU wanted to run and the host gave it to others.
type CPUTimes struct {
	User, Nice, System, Idle, IOWait, IRQ, SoftIRQ, Steal time.Duration
	// Guest and GuestNice went to virtual machines that run here; they stand
	// in User and Nice too.
	Guest, GuestNice time.Duration
}

func (t *CPUTimes) fields() [10]*time.Duration {
	return [...]*time.Duration{&t.User, &t.Nice, &t.System, &t.Idle, &t.IOWait, &t.IRQ, &t.SoftIRQ, &t.Steal, &t.Guest, &t.GuestNice}
}

// Busy is the time in which the CPU worked, for programs, for the kernel or
// for devices.
func (t CPUTimes) Busy() time.Duration {
	return t.User + t.Nice + t.System + max(t.IRQ, 0) + max(t.SoftIRQ, 0)
}

// Since is the times between an earlier reading and this one. Where the
// kernel's count went back, as those of idle and iowait may, it is 0.
func (t CPUTimes) Since(earlier CPUTimes) CPUTimes {
	was := earlier.fields()
	for i, is := range t.fields() {
		if *is < 0 || *was[i] < 0 {
			*is = -1
		} else {
			*is = max(*is-*was[i], 0)
		}
	}
	return t
}

// SystemStat is what /proc/stat says.
type SystemStat struct {
	All  CPUTimes
	CPUs map[cpuset.CPU]CPUTimes // those online
	// Switches counts switches from one thread to another, Forks the threads
	// and processes that were made, Interrupts those served, all since the
	// machine's start; -1 is unknown.
	Switches, Forks, Interrupts int64
	Runnable, Blocked           int // threads that run or are ready to; that wait for input or output; -1 unknown
}

// ParseSystemStat reads /proc/stat.
func ParseSystemStat(data []byte) (SystemStat, error) {
	s := SystemStat{CPUs: map[cpuset.CPU]CPUTimes{}, Switches: -1, Forks: -1, Interrupts: -1, Runnable: -1, Blocked: -1}
	total := false
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		key, rest := cut(line)
		if number, ok := bytes.CutPrefix(key, []byte("cpu")); ok {
			times, err := parseCPUTimes(rest)
			if err != nil {
				return s, fmt.Errorf("parse /proc/stat: %s: %w", key, err)
			}
			if len(number) == 0 {
				s.All, total = times, true
				continue
			}
			n, ok := integer(number)
			if !ok || n < 0 || n >= cpuset.Limit {
				return s, fmt.Errorf("parse /proc/stat: %.20q names no CPU from 0 to %d", key, cpuset.Limit-1)
			}
			s.CPUs[cpuset.CPU(n)] = times
			continue
		}
		field, _ := cut(rest)
		n, ok := integer(field)
		if !ok || n < 0 {
			continue
		}
		switch string(key) {
		case "ctxt":
			s.Switches = n
		case "processes":
			s.Forks = n
		case "intr":
			s.Interrupts = n
		case "procs_running":
			s.Runnable = small(n)
		case "procs_blocked":
			s.Blocked = small(n)
		}
	}
	if !total {
		return s, fmt.Errorf("parse /proc/stat: no line of all CPUs, %q", "cpu ")
	}
	return s, nil
}

func parseCPUTimes(rest []byte) (CPUTimes, error) {
	var t CPUTimes
	for i, to := range t.fields() {
		var field []byte
		field, rest = cut(rest)
		if len(field) == 0 && i >= 4 { // what kernel 2.4 had
			*to = -1
			continue
		}
		n, ok := integer(field)
		if !ok {
			return t, fmt.Errorf("column %d is %.20q, not a count of clock ticks", i+1, field)
		}
		*to = ticks(n)
	}
	return t, nil
}

// SystemStat reads /proc/stat. The kernel adds up every interrupt of the
// machine for it, so that it costs more on large machines.
func (p Proc) SystemStat() (SystemStat, error) {
	return readParsed(p, "stat", ParseSystemStat)
}

func readParsed[T any](p Proc, name string, parse func([]byte) (T, error)) (T, error) {
	data, err := p.ReadFile(name)
	if err != nil {
		var none T
		return none, err
	}
	return parse(data)
}

// Interrupts is how many interrupts a CPU served since the machine's start.
type Interrupts struct {
	Device int64 // of devices: the lines with a number
	Other  int64 // the kernel's own: timers, and calls from one CPU to another
}

// ParseInterrupts adds up the columns of /proc/interrupts, one for each CPU
// online.
func ParseInterrupts(data []byte) (map[cpuset.CPU]Interrupts, error) {
	header, data := cutLine(data)
	var cpus []cpuset.CPU
	for {
		var field []byte
		if field, header = cut(header); len(field) == 0 {
			break
		}
		number, ok := bytes.CutPrefix(field, []byte("CPU"))
		n, isNumber := integer(number)
		if !ok || !isNumber || n < 0 || n >= cpuset.Limit {
			return nil, fmt.Errorf("parse /proc/interrupts: %.20q heads a column and names no CPU", field)
		}
		cpus = append(cpus, cpuset.CPU(n))
	}
	if len(cpus) == 0 {
		return nil, fmt.Errorf("parse /proc/interrupts: no CPU heads a column")
	}
	sums, row := make([]Interrupts, len(cpus)), make([]int64, len(cpus))
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		label, rest := cut(line)
		label, ok := bytes.CutSuffix(label, []byte(":"))
		if !ok {
			continue
		}
		n := 0
		for ; n < len(row); n++ {
			var field []byte
			field, rest = cut(rest)
			if row[n], ok = integer(field); !ok || row[n] < 0 {
				break
			}
		}
		if n < len(row) {
			continue // a count of the whole machine, such as ERR
		}
		_, device := integer(label)
		for i, n := range row {
			to := &sums[i].Other
			if device {
				to = &sums[i].Device
			}
			*to += min(n, math.MaxInt64-*to)
		}
	}
	all := make(map[cpuset.CPU]Interrupts, len(cpus))
	for i, c := range cpus {
		all[c] = sums[i]
	}
	return all, nil
}

// Interrupts reads /proc/interrupts.
func (p Proc) Interrupts() (map[cpuset.CPU]Interrupts, error) {
	return readParsed(p, "interrupts", ParseInterrupts)
}

// Stall is how much of the time work stood still for want of a resource.
type Stall struct {
	Avg10, Avg60, Avg300 float64       // per cent, over the last 10, 60 and 300 seconds
	Total                time.Duration // since the machine's start, or the control group's
}

// Pressure is the stalls over one resource: Some while at least one thread
// waited, Full while all that had work did; nil where the kernel does not say.
type Pressure struct{ Some, Full *Stall }

// ParsePressure reads a file of pressure stall information: /proc/pressure/cpu,
// a control group's cpu.pressure, and their like (psi.rst).
func ParsePressure(data []byte) (Pressure, error) {
	var p Pressure
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		kind, rest := cut(line)
		to := &p.Some
		switch string(kind) {
		case "some":
		case "full":
			to = &p.Full
		default:
			continue
		}
		s := &Stall{}
		for {
			var field []byte
			if field, rest = cut(rest); len(field) == 0 {
				break
			}
			key, value, _ := bytes.Cut(field, []byte("="))
			var err error
			switch string(key) {
			case "avg10":
				s.Avg10, err = decimal(value)
			case "avg60":
				s.Avg60, err = decimal(value)
			case "avg300":
				s.Avg300, err = decimal(value)
			case "total":
				n, ok := integer(value)
				if !ok || n < 0 {
					err = fmt.Errorf("%.20q is not a number of microseconds", value)
				}
				s.Total = time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
			}
			if err != nil {
				return Pressure{}, fmt.Errorf("parse pressure: %s of %s: %w", key, kind, err)
			}
		}
		*to = s
	}
	if p.Some == nil && p.Full == nil {
		return p, fmt.Errorf("parse pressure: neither \"some\" nor \"full\" begins a line")
	}
	return p, nil
}

// Pressure reads the machine's stalls over a resource: cpu, io, memory or, in
// newer kernels, irq. Many kernels have it off (psi=1 turns it on); then it is
// an error.
func (p Proc) Pressure(resource string) (Pressure, error) {
	return readParsed(p, "pressure/"+resource, ParsePressure)
}

// LoadAvg is what /proc/loadavg says.
type LoadAvg struct {
	One, Five, Fifteen float64 // threads that ran, were ready to or waited for a disk, averaged over so many minutes
	Runnable, Threads  int     // now: that run or are ready to; that there are
	Newest             int     // the number of the process or thread made last
}

// ParseLoadAvg reads /proc/loadavg.
func ParseLoadAvg(data []byte) (LoadAvg, error) {
	var l LoadAvg
	rest := data
	var field []byte
	for _, to := range []*float64{&l.One, &l.Five, &l.Fifteen} {
		field, rest = cut(rest)
		var err error
		if *to, err = decimal(field); err != nil {
			return LoadAvg{}, fmt.Errorf("parse /proc/loadavg: %w", err)
		}
	}
	field, rest = cut(rest)
	runnable, threads, _ := bytes.Cut(field, []byte("/"))
	n, ok1 := integer(runnable)
	m, ok2 := integer(threads)
	field, _ = cut(rest)
	newest, ok3 := integer(field)
	if !ok1 || !ok2 || !ok3 || n < 0 || m < 0 || newest < 0 {
		return LoadAvg{}, fmt.Errorf("parse /proc/loadavg: %.80q does not end in running/all threads and a process", data)
	}
	l.Runnable, l.Threads, l.Newest = small(n), small(m), small(newest)
	return l, nil
}

// LoadAvg reads /proc/loadavg.
func (p Proc) LoadAvg() (LoadAvg, error) { return readParsed(p, "loadavg", ParseLoadAvg) }

// decimal reads a plain non-negative number with a point.
func decimal(b []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(f >= 0 && f <= math.MaxFloat64) {
		return 0, fmt.Errorf("%.20q is not a number", b)
	}
	return f, nil
}
