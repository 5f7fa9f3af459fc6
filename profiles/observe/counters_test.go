//go:build linux

package observe

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/profiles/observe/events"
)

func TestWatchCountsFaults(t *testing.T) {
	seen := watch(t, Options{}, 1500*time.Millisecond, start(t, "touch").Process.Pid)
	if seen.Counters == nil || seen.Counters.MinorFaults == nil {
		t.Skip("page faults cannot be counted here")
	}
	if n := *seen.Counters.MinorFaults; n < 1000 || seen.Counters.Seconds <= 0 || seen.Counters.Threads < 1 {
		t.Errorf("%d page faults of a program that only makes them: %+v", n, seen.Counters)
	}
	if !slices.ContainsFunc(seen.Evidence, func(s string) bool { return strings.Contains(s, "page faults") }) {
		t.Errorf("%q", seen.Evidence)
	}
}

func TestCountersSay(t *testing.T) {
	for name, c := range map[string]struct {
		Counters
		want []string
	}{
		"nothing": {Counters{Seconds: 1}, nil},
		"kernel": {Counters{2, events.Counts{Threads: 3, Moves: new(uint64(5)), MajorFaults: new(uint64(0)), MinorFaults: new(uint64(2_000_001))}},
			[]string{"each second, of its busiest threads (3): 2.5 moves between CPUs, 0 page faults with a disk's help, 1000000 without"}},
		"no cycles": {Counters{2, events.Counts{Threads: 1, Instructions: new(uint64(7)), Cycles: new(uint64(0))}}, nil},
		"PMU": {Counters{2, events.Counts{Threads: 1, Instructions: new(uint64(3e9)), Cycles: new(uint64(4e9)), Misses: new(uint64(3e7)), UserOnly: true}},
			[]string{"PMU: 0.75 instructions a cycle, 10.00 misses of the last-level cache in 1000 instructions (0.96 GB/s, with lines of 64 bytes), without the kernel's part"}},
	} {
		if diff := cmp.Diff(c.want, c.evidence()); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}
