//go:build linux

package affinity

import (
	"context"
	"slices"
	"testing"
	"time"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"
	"berth/probe/topology"
)

// twoNodes has two nodes of two cores with two CPUs each: core n has the CPUs
// n and n+4, and node 1 the cores 2 and 3.
func twoNodes(t *testing.T) *topology.Topology {
	t.Helper()
	source, err := probe.Synthetic("package:2 numa:1 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)")
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	return &m.Topology
}

// second is how a CPU spends one, in hundredths.
func second(programs, interrupts, steal int) tasks.CPUTimes {
	return tasks.CPUTimes{
		User: time.Duration(programs) * tasks.Tick, SoftIRQ: time.Duration(interrupts) * tasks.Tick,
		Steal: time.Duration(steal) * tasks.Tick, Idle: time.Duration(100-programs-interrupts-steal) * tasks.Tick,
	}
}

// spent is a second in which programs used the CPUs so many hundredths, of all
// eight in turn.
func spent(programs ...int) map[cpuset.CPU]tasks.CPUTimes {
	all := map[cpuset.CPU]tasks.CPUTimes{}
	for c := range cpuset.CPU(8) {
		all[c] = second(0, 0, 0)
	}
	for c, n := range programs {
		all[cpuset.CPU(c)] = second(n, 0, 0)
	}
	return all
}

func on(cpu cpuset.CPU, allowed string, onCPU, waiting float64) Occupant {
	set, err := cpuset.Parse(allowed)
	if err != nil {
		panic(err)
	}
	return Occupant{CPU: cpu, Allowed: set, OnCPU: onCPU, Waiting: waiting}
}

func with(o Occupant, change func(*Occupant)) Occupant {
	change(&o)
	return o
}

func TestConflicts(t *testing.T) {
	under := func(group string) func(*Occupant) {
		return func(o *Occupant) { o.CPUSet, _ = cpuset.Parse(group) }
	}
	memory := func(mebibytes ...int64) func(*Occupant) {
		return func(o *Occupant) {
			o.Memory = map[int]int64{}
			for node, n := range mebibytes {
				o.Memory[node] = n << 20
			}
		}
	}
	all := "0-7"
	full := spent(100, 100, 100, 100, 100, 100, 100, 100)
	for name, c := range map[string]struct {
		spent   map[cpuset.CPU]tasks.CPUTimes
		change  func(*topology.Topology)
		threads []Occupant
		want    [][]Conflict
	}{
		"alone": {
			spent:   spent(100),
			threads: []Occupant{on(0, all, 1, 0), on(0, all, 0, 0)},
			want:    [][]Conflict{{}, {}},
		},
		"pinned on one CPU": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0", 0.5, 0.5), on(0, "0", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}, {Queued}},
		},
		"one of them could move": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0", 0.5, 0.5), on(0, "0-1", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}, {Queued, SharesCore}},
		},
		"the idle core is not theirs": {
			spent:   spent(100, 100, 100, 0),
			threads: []Occupant{on(0, "0-2", 0.5, 0.5), on(0, "0-3", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}, {Queued, SharesCore}},
		},
		"only the sibling of their own CPU is idle": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0,4", 0.5, 0.5), on(0, "0,4", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}, {Queued}},
		},
		"a core half idle": {
			spent:   spent(100, 0, 100, 100, 0, 9),
			threads: []Occupant{on(0, "0-1", 0.5, 0.5), on(0, "0-1", 0.5, 0.5)},
			want:    [][]Conflict{{Queued, SharesCore}, {Queued, SharesCore}},
		},
		"a core whose sibling works": {
			spent:   spent(100, 0, 100, 100, 0, 10),
			threads: []Occupant{on(0, "0-1", 0.5, 0.5), on(0, "0-1", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}, {Queued}},
		},
		"the host holds the other core": {
			spent: func() map[cpuset.CPU]tasks.CPUTimes {
				s := spent(100, 0, 100, 100)
				s[1] = second(0, 0, 50)
				return s
			}(),
			threads: []Occupant{on(0, "0-1", 0.5, 0.5), on(0, "0-1", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}, {Queued}},
		},
		"seen on one CPU by chance": {
			spent:   full,
			threads: []Occupant{on(0, all, 0.99, 0.01), on(0, all, 0.98, 0.02)},
			want:    [][]Conflict{{}, {}},
		},
		"the nicer one waits": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0", 0.98, 0.02), on(0, "0", 0.02, 0.98)},
			want:    [][]Conflict{{Queued}, {Queued}},
		},
		"waiting is not counted": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0", 0.5, -1), on(0, "0", 0.5, -1)},
			want:    [][]Conflict{{Queued}, {Queued}},
		},
		"not busy": {
			spent:   spent(90),
			threads: []Occupant{on(0, "0", 0.49, 0), on(0, "0", 0.3, 0.19)},
			want:    [][]Conflict{{}, {}},
		},
		"the other one is not shown": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}},
		},
		"stopped by a quota": {
			spent:   spent(25),
			threads: []Occupant{on(0, all, 0.25, 0.75)},
			want:    [][]Conflict{{}},
		},
		"siblings, with a core to spare": {
			spent:   spent(100, 0, 0, 0, 100),
			threads: []Occupant{on(0, all, 1, 0), on(4, all, 1, 0)},
			want:    [][]Conflict{{SharesSibling, SharesCore}, {SharesSibling, SharesCore}},
		},
		"siblings of a full machine": {
			spent:   full,
			threads: []Occupant{on(0, all, 1, 0), on(4, all, 1, 0)},
			want:    [][]Conflict{{SharesSibling}, {SharesSibling}},
		},
		"siblings and a queue": {
			spent:   spent(100, 0, 0, 0, 100),
			threads: []Occupant{on(0, "0,4", 0.5, 0.5), on(0, "0,4", 0.5, 0.5), on(4, "0,4", 1, 0)},
			want:    [][]Conflict{{Queued, SharesSibling}, {Queued, SharesSibling}, {SharesSibling}},
		},
		"a sibling that is not shown": {
			spent:   spent(100, 0, 0, 0, 80),
			threads: []Occupant{on(0, "0", 1, 0)},
			want:    [][]Conflict{{SharesSibling}},
		},
		"back and forth between siblings": {
			spent:   spent(50, 0, 0, 0, 50),
			threads: []Occupant{on(0, "0,4", 1, 0)},
			want:    [][]Conflict{{}},
		},
		"its turns with another are not beside it": {
			spent:   spent(100),
			threads: []Occupant{on(0, "0", 0.5, 0.5)},
			want:    [][]Conflict{{Queued}},
		},
		"outside the cpuset": {
			spent: spent(),
			threads: []Occupant{
				with(on(0, "0-3", 0, 0), under("0-1")), with(on(0, "0-1", 0, 0), under("0-3")), on(0, "0-3", 0, 0),
				with(on(0, "0-3", 0, 0), func(o *Occupant) { under("0-1")(o); o.Kernel = true }),
				with(on(0, "0-1,9", 0, 0), under("0-1")), with(on(0, "", 0, 0), under("0-1")),
			},
			want: [][]Conflict{{OutsideCPUSet}, {}, {}, {}, {}, {}},
		},
		"offline": {
			change:  func(t *topology.Topology) { t.Online, _ = cpuset.Parse("0-2,4-7") },
			spent:   spent(),
			threads: []Occupant{on(3, "3", 0, 0), on(3, "0-3", 0, 0), on(3, "0-3", 1, 0), on(9, "9-10", 0, 0), on(9, "", 0, 0)},
			want:    [][]Conflict{{OfflineCPU}, {}, {OfflineCPU}, {OfflineCPU}, {}},
		},
		"memory": {
			spent: spent(100, 100, 100, 100),
			threads: []Occupant{
				with(on(0, all, 1, 0), memory(49, 51)), with(on(1, all, 1, 0), memory(50, 50)), with(on(2, all, 1, 0), memory(51, 49)),
				with(on(2, all, 0.4, 0), memory(51, 49)), with(on(3, all, 1, 0), memory(0, 0)),
				with(on(0, all, 1, 0), memory(4, 15)), with(on(0, all, 1, 0), memory(4, 16)),
			},
			want: [][]Conflict{{RemoteMemory}, {}, {RemoteMemory}, {}, {}, {}, {RemoteMemory}},
		},
		"interrupts": {
			spent: map[cpuset.CPU]tasks.CPUTimes{
				0: second(80, 20, 0), 1: second(81, 19, 0), 2: second(0, 20, 0),
				4: second(0, 90, 0), 5: second(0, 0, 0), 6: second(0, 0, 0),
			},
			threads: []Occupant{on(0, all, 0.8, 0), on(1, all, 0.81, 0), on(2, all, 0.1, 0)},
			want:    [][]Conflict{{IRQHeavy}, {}, {}},
		},
		"nothing is known": {
			threads: []Occupant{on(-1, "", -1, -1), on(-1, "", 1, 1), on(0, "", 1, 0), on(0, "", 1, 0), on(4, all, 1, 0)},
			want:    [][]Conflict{{}, {}, {SharesSibling}, {SharesSibling}, {SharesSibling}},
		},
		"cores are not known": {
			change: func(t *topology.Topology) {
				*t = topology.Topology{Online: t.Online}
			},
			spent:   spent(100, 0, 0, 0, 100),
			threads: []Occupant{on(0, "0-1", 0.5, 0.5), on(0, "0-1", 0.5, 0.5), on(4, all, 1, 0)},
			want:    [][]Conflict{{Queued}, {Queued}, {}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := Occupancy{Topology: twoNodes(t), Spent: c.spent, Threads: c.threads}
			if c.change != nil {
				c.change(o.Topology)
			}
			got := o.Conflicts()
			if len(got) != len(c.want) {
				t.Fatalf("%d answers on %d threads", len(got), len(c.threads))
			}
			for i, want := range c.want {
				if got[i] == nil || !slices.Equal(got[i], want) {
					t.Errorf("thread %d: %v, want %v", i, got[i], want)
				}
			}
		})
	}
}

func TestOccupancyNoise(t *testing.T) {
	o := Occupancy{Topology: twoNodes(t), Threads: []Occupant{on(0, "0", 0.6, 0), on(1, "1", 0.1, 0.9), on(2, "2", 0, 0)}}
	o.Spent = map[cpuset.CPU]tasks.CPUTimes{0: second(70, 10, 0), 1: second(10, 0, 50), 2: second(100, 0, 0)}
	n := o.Noise()
	if n.StealPct == nil || *n.StealPct != 25 || n.OtherBusyPct == nil || *n.OtherBusyPct != 10 || n.ThrottledMS != nil {
		t.Errorf("%+v", n)
	}
	unknown := o.Spent[0]
	unknown.Steal = -1
	o.Spent[0] = unknown
	if n := o.Noise(); n.StealPct != nil || n.OtherBusyPct == nil {
		t.Errorf("the time stolen from one CPU is not known: %+v", n)
	}
	delete(o.Spent, 1)
	if n := o.Noise(); n != (Noise{}) {
		t.Errorf("one CPU is not known: %+v", n)
	}
	o.Threads = o.Threads[2:]
	if n := o.Noise(); n != (Noise{}) {
		t.Errorf("no thread ran: %+v", n)
	}
}
