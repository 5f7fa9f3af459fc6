//go:build linux

package doctor

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"berth/probe/cpuset"
)

// name is a process as messages call it.
func name(p *Process) string { return fmt.Sprintf("%s (%d)", printable(p.Name), p.PID) }

// printable is a name without what would disturb a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func subject(p *Process) Subject { return Subject{PID: p.PID, Process: printable(p.Name)} }

// ofThreads is a thread's subject; that of the process where there are several.
func ofThreads(p *Process, threads []*Thread) Subject {
	s := subject(p)
	if len(threads) == 1 && threads[0].TID != p.PID {
		s.TID = threads[0].TID
	}
	return s
}

func threadWord(t *Thread) string { return fmt.Sprintf("thread %d (%s)", t.TID, printable(t.Name)) }

// figure is a number to one decimal, without a zero there.
func figure(x float64) string {
	return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64)
}

// cpus is an amount of CPU time per time; small ones are not rounded away.
func cpus(x float64) string {
	unit := " CPUs"
	if x == 1 {
		unit = " CPU"
	}
	return strconv.FormatFloat(math.Round(x*1000)/1000, 'f', -1, 64) + unit
}

// tenths is an amount of work, which is never known more closely.
func tenths(x float64) string { return cpus(math.Round(x*10) / 10) }

func percent(share float64) string { return figure(100*share) + " %" }

func gigahertz(khz int64) string { return strconv.FormatFloat(float64(khz)/1e6, 'f', 2, 64) + " GHz" }

func mebibytes(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// count puts a number before its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// whole is a budget as a number of workers.
func whole(budget float64) int { return int(math.Ceil(budget - 1e-9)) }

// quotaWord says what sets a quota.
func quotaWord(g *Group) string {
	return fmt.Sprintf("%s of %s allows the time of %s", path.Base(g.QuotaFile), g.QuotaPath, cpus(g.QuotaCPUs))
}

// quotaFix is a command that raises a group's quota.
func quotaFix(g *Group, to float64) string {
	period := g.QuotaPeriodMS * 1000
	if period <= 0 {
		period = 100_000
	}
	unit := path.Base(g.QuotaPath)
	switch path.Ext(unit) {
	case ".service", ".slice", ".scope":
		return fmt.Sprintf("systemctl set-property --runtime %s CPUQuota=%.0f%%", unit, to*100)
	}
	if path.Base(g.QuotaFile) == "cpu.max" {
		return fmt.Sprintf("echo %.0f %.0f > %s", to*period, period, quote(g.QuotaFile))
	}
	return fmt.Sprintf("echo %.0f > %s", to*period, quote(g.QuotaFile))
}

// quote makes a word safe for a shell.
func quote(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// byProcess sorts what concerns threads by their processes, which are returned
// in the order of their numbers.
func byProcess(r *report, threads []*Thread) (processes []*Process, of map[int][]*Thread) {
	of = map[int][]*Thread{}
	for _, t := range threads {
		if of[t.PID] == nil {
			processes = append(processes, r.Processes[t.PID])
		}
		of[t.PID] = append(of[t.PID], t)
	}
	slices.SortFunc(processes, func(a, b *Process) int { return cmp.Compare(a.PID, b.PID) })
	return processes, of
}

// live is the threads of chosen processes that lived to the end and fit.
func (r *report) live(fits func(*Thread) bool) []*Thread {
	var found []*Thread
	for i := range r.Threads {
		t := &r.Threads[i]
		if p := r.Processes[t.PID]; p != nil && p.Chosen && !t.Ended && fits(t) {
			found = append(found, t)
		}
	}
	return found
}

// busyCPUs is the CPUs that were in use for at least that share, programs and
// interrupts together; of them, where processes are named, those on which one
// of their threads was busy.
func (r *report) busyCPUs(from float64) cpuset.Set {
	var list []cpuset.CPU
	for c, t := range r.Spent {
		if all := whileThere(t); all > 0 && (t.Busy()+max(t.Steal, 0)).Seconds()/all >= from {
			list = append(list, c)
		}
	}
	busy := cpuset.Of(list...)
	named, on := false, []cpuset.CPU(nil)
	for _, p := range r.Processes {
		named = named || !p.Chosen
	}
	if !named {
		return busy
	}
	for _, t := range r.live(func(t *Thread) bool { return t.Busy() && t.CPU >= 0 }) {
		on = append(on, t.CPU)
	}
	return busy.Intersect(cpuset.Of(on...))
}
