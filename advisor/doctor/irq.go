//go:build linux

package doctor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"berth/probe/cpuset"
)

// Interrupt is one line of /proc/interrupts or /proc/softirqs: how often it was
// served, by CPU.
type Interrupt struct {
	Label string // the number, or a name such as LOC or NET_RX
	Name  string // what follows the counts: the controller and who asked for it
	// Affinity is its smp_affinity_list, for those of a device.
	Affinity string
	Count    map[cpuset.CPU]int64
}

// numbered reports whether the interrupt is a device's, which can be moved.
func (i *Interrupt) numbered() bool {
	_, err := strconv.ParseUint(i.Label, 10, 32)
	return err == nil
}

// parseInterrupts reads /proc/interrupts or /proc/softirqs (proc(5)): a heading of
// CPUs, and a line for each interrupt with a count for each CPU. Lines with fewer
// counts, such as ERR, are of the whole machine and left out.
func parseInterrupts(text string) ([]Interrupt, error) {
	head, rest, _ := strings.Cut(text, "\n")
	var cpus []cpuset.CPU
	for _, word := range strings.Fields(head) {
		number, ok := strings.CutPrefix(word, "CPU")
		n, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || n >= cpuset.Limit {
			return nil, fmt.Errorf("parse interrupts: %.20q heads a column and names no CPU", word)
		}
		cpus = append(cpus, cpuset.CPU(n))
	}
	if len(cpus) == 0 {
		return nil, fmt.Errorf("parse interrupts: no CPU heads a column")
	}
	var all []Interrupt
	for line := range strings.Lines(rest) {
		label, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < len(cpus) {
			continue
		}
		one := Interrupt{Label: label, Count: make(map[cpuset.CPU]int64, 1)}
		for i, c := range cpus {
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil || n < 0 {
				ok = false
				break
			}
			if n > 0 {
				one.Count[c] += min(n, math.MaxInt64-one.Count[c])
			}
		}
		if ok {
			one.Name = strings.Join(fields[len(cpus):], " ")
			all = append(all, one)
		}
	}
	return all, nil
}

// interruptsSince is those served between two readings.
func interruptsSince(now, earlier []Interrupt) []Interrupt {
	was := map[string]*Interrupt{}
	for i := range earlier {
		was[earlier[i].Label] = &earlier[i]
	}
	var served []Interrupt
	for _, one := range now {
		before := was[one.Label]
		count := map[cpuset.CPU]int64{}
		for c, n := range one.Count {
			if before != nil {
				n -= before.Count[c]
			}
			if n > 0 {
				count[c] = n
			}
		}
		if one.Count = count; len(count) > 0 {
			served = append(served, one)
		}
	}
	return served
}

// busiest is the interrupts that a CPU served most of, at most three.
func busiest(served []Interrupt, c cpuset.CPU) []Interrupt {
	here := slices.DeleteFunc(slices.Clone(served), func(i Interrupt) bool { return i.Count[c] == 0 })
	slices.SortStableFunc(here, func(a, b Interrupt) int { return int(min(max(b.Count[c]-a.Count[c], -1), 1)) })
	return here[:min(3, len(here))]
}
