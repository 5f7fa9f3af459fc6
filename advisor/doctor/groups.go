//go:build linux

package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/probe/cgroup"
	"berth/probe/tasks"
)

// mostGroups bounds how many control groups are read: each costs some files in
// every ancestor.
const mostGroups = 256

// groupReading is a control group at the start of the interval.
type groupReading struct {
	group      *Group
	cpu        cgroup.Group
	throttling cgroup.Throttling
	pressure   pressureReading
}

// controller finds the group of a controller: version 1's of its own, else
// that of version 2.
func controller(groups []cgroup.Group, name string) (found cgroup.Group, ok bool) {
	for _, g := range groups {
		switch {
		case slices.Contains(g.Controllers, name):
			return g, true
		case g.V2:
			found, ok = g, true
		}
	}
	return found, ok
}

// readGroup reads the control groups of a process.
func readGroup(pid int, now time.Time) (*groupReading, error) {
	groups, err := cgroup.Of(pid)
	if err != nil {
		return nil, err
	}
	r := &groupReading{group: &Group{Pressure: noPressure}}
	g := r.group
	if at, ok := controller(groups, "cpu"); ok {
		r.cpu, g.Path = at, at.Path
		_, inner := at.Parent()
		g.Top = !inner && at.Dir != ""
		state, _ := at.Read(cgroup.CPU | cgroup.Accounting)
		if state.QuotaCPUs != nil {
			g.QuotaCPUs = *state.QuotaCPUs
		}
		if state.QuotaPeriodMS != nil {
			g.QuotaPeriodMS = *state.QuotaPeriodMS
		}
		for _, l := range state.Chain {
			if l.Binding && l.Resource == "cpus" {
				g.QuotaPath, g.QuotaFile = l.Path, dirOf(at, l.Path)+"/"+l.Source
			}
		}
		r.throttling = at.Throttling()
	}
	if at, ok := controller(groups, "cpuset"); ok {
		state, _ := at.Read(cgroup.CPUSet)
		if state.CPUSet != nil {
			g.CPUSet, g.CPUSetPath = *state.CPUSet, at.Path
		}
		g.Unbalanced = unbalanced(at)
	}
	for _, at := range groups {
		if at.V2 && at.Dir != "" {
			r.pressure = readPressure(now, func(resource string) (tasks.Pressure, error) {
				data, err := os.ReadFile(at.Dir + "/" + resource + ".pressure")
				if err != nil {
					return tasks.Pressure{}, err
				}
				return tasks.ParsePressure(data)
			})
		}
	}
	return r, nil
}

// dirOf is the directory of a group or of an ancestor of it.
func dirOf(g cgroup.Group, path string) string {
	for up, ok := g, true; ok; up, ok = up.Parent() {
		if up.Path == path {
			return up.Dir
		}
	}
	return g.Dir
}

// unbalanced finds the file that keeps the kernel from balancing load in a group:
// an isolated partition of version 2 (cgroup-v2.rst, cpuset.cpus.partition);
// in version 1 sched_load_balance off in the group and in every group above
// that has the same CPUs (cpusets.rst, section 1.7).
func unbalanced(g cgroup.Group) string {
	off := ""
	for up, ok := g, g.Dir != ""; ok; up, ok = up.Parent() {
		if g.V2 {
			file := up.Dir + "/cpuset.cpus.partition"
			switch word, _, _ := strings.Cut(readWord(file), " "); word {
			case "isolated":
				return file
			case "root":
				return "" // balanced within
			}
			continue
		}
		file := filepath.Join(up.Dir, "cpuset.sched_load_balance")
		switch readWord(file) {
		case "0":
			if off == "" {
				off = file
			}
		case "1":
			return "" // this group's domain holds the CPUs of those below
		}
	}
	return off
}

func readWord(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// finish closes the interval of a group.
func (r *groupReading) finish(now time.Time) {
	g := r.group
	g.Throttled = map[string]Stopped{}
	for path, t := range r.cpu.Throttling() {
		was, ok := r.throttling[path]
		if d := (Stopped{t.Periods - was.Periods, time.Duration((t.MS - was.MS) * float64(time.Millisecond))}); ok && d.Periods > 0 {
			g.Throttled[path] = d
		}
	}
	g.Pressure = r.pressure.since(now)
}

// pressureReading is the stalls at the start of an interval.
type pressureReading struct {
	at   time.Time
	read func(resource string) (tasks.Pressure, error)
	cpu  tasks.Pressure
	mem  tasks.Pressure
}

func readPressure(now time.Time, read func(string) (tasks.Pressure, error)) pressureReading {
	r := pressureReading{at: now, read: read}
	r.cpu, _ = read("cpu") // what cannot be read is unknown
	r.mem, _ = read("memory")
	return r
}

// since is the shares of the time since the reading.
func (r *pressureReading) since(now time.Time) Pressure {
	if r.read == nil {
		return noPressure
	}
	share := func(was, is *tasks.Stall) float64 {
		if was == nil || is == nil || !now.After(r.at) {
			return -1
		}
		return min(max(float64(is.Total-was.Total)/float64(now.Sub(r.at)), 0), 1)
	}
	cpu, _ := r.read("cpu")
	mem, _ := r.read("memory")
	return Pressure{share(r.cpu.Some, cpu.Some), share(r.mem.Some, mem.Some), share(r.mem.Full, mem.Full)}
}

// parseSession reads /proc/PID/autogroup, as in "/autogroup-12 nice 0".
func parseSession(text string) *Session {
	fields := strings.Fields(text)
	if len(fields) != 3 || fields[1] != "nice" {
		return nil
	}
	nice, err := strconv.Atoi(fields[2])
	if err != nil {
		return nil
	}
	return &Session{fields[0], nice}
}

// parseSwap reads VmSwap of /proc/PID/status, in bytes; -1 where it is not there.
func parseSwap(status string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmSwap:"); ok {
			number, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if n, err := strconv.ParseInt(number, 10, 64); err == nil && unit == "kB" && n >= 0 && n < 1<<53 {
				return n << 10
			}
		}
	}
	return -1
}
