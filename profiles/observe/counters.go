//go:build linux

package observe

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/profiles/observe/events"
)

// mostCounted bounds the threads whose events are counted, as each takes several
// descriptors.
const mostCounted = 64

// Counters are events of the threads that worked most in the first window, and
// of those that they started since, in Seconds.
type Counters struct {
	Seconds float64 `json:"seconds" yaml:"seconds"`
	events.Counts
}

// counters is the counting of events, from the first window's end on: who works
// is not known before.
type counters struct {
	set  *events.Set // nil: not begun, or not allowed
	from time.Time
}

func (c *counters) begin(w *Watch, first *window, now time.Time) {
	tids := map[int]int{}
	for _, t := range w.threads {
		tids[t.id] = t.TID
	}
	all := slices.Clone(first.threads)
	slices.SortFunc(all, func(a, b part) int { return cmp.Or(cmp.Compare(b.onCPU, a.onCPU), a.id-b.id) })
	var busiest []int
	for _, t := range all {
		if tid, lives := tids[t.id]; lives && len(busiest) < mostCounted {
			busiest = append(busiest, tid)
		}
	}
	if set, err := events.Open(busiest); err == nil {
		c.set, c.from = set, now
	}
}

// end says what was counted.
func (c *counters) end(now time.Time) (*Counters, []string) {
	if c.set == nil {
		return nil, nil
	}
	is := &Counters{round(now.Sub(c.from).Seconds(), 3), c.set.Read()}
	if is.Threads == 0 || is.Seconds <= 0 {
		return nil, nil
	}
	return is, is.evidence()
}

func (c *counters) close() {
	if c.set != nil {
		c.set.Close()
		c.set = nil
	}
}

func (c *Counters) evidence() []string {
	var said []string
	var rates []string
	for _, event := range []struct {
		count *uint64
		name  string
	}{{c.Moves, "moves between CPUs"}, {c.MajorFaults, "page faults with a disk's help"}, {c.MinorFaults, "without"}} {
		if event.count != nil {
			rate := significant(float64(*event.count) / c.Seconds)
			rates = append(rates, strconv.FormatFloat(rate, 'f', -1, 64)+" "+event.name)
		}
	}
	if len(rates) > 0 {
		said = append(said, fmt.Sprintf("each second, of its busiest threads (%d): %s", c.Threads, strings.Join(rates, ", ")))
	}
	if c.Instructions == nil || c.Cycles == nil || *c.Instructions == 0 || *c.Cycles == 0 {
		return said
	}
	text := fmt.Sprintf("PMU: %.2f instructions a cycle", float64(*c.Instructions)/float64(*c.Cycles))
	if c.Misses != nil {
		text += fmt.Sprintf(", %.2f misses of the last-level cache in 1000 instructions (%.2f GB/s, with lines of 64 bytes)",
			1000*float64(*c.Misses)/float64(*c.Instructions), 64*float64(*c.Misses)/c.Seconds/1e9)
	}
	if c.UserOnly {
		text += ", without the kernel's part"
	}
	return append(said, text)
}
