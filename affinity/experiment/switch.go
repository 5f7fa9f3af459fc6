//go:build linux

package experiment

import (
	"context"
	"fmt"
	"time"

	"berth/affinity/experiment/handover"
	"berth/affinity/measured"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/topology"
)

// SwitchReport is what [Switch] found. The six figures at the top are by pipe,
// which every program can use; HandOvers has the other means too.
type SwitchReport struct {
	Report `yaml:",inline"`
	// Pinned and the others are the time of one hand-over, half a round trip, in
	// microseconds: both threads on one CPU, one each on two, or wherever the
	// kernel puts them. Nil: could not be had.
	Pinned          *measured.Value `json:"pinned_us,omitempty" yaml:"pinned_us,omitempty"`
	CrossCPU        *measured.Value `json:"cross_cpu_us,omitempty" yaml:"cross_cpu_us,omitempty"`
	Unpinned        *measured.Value `json:"unpinned_us,omitempty" yaml:"unpinned_us,omitempty"`
	ProcessPinned   *measured.Value `json:"process_pinned_us,omitempty" yaml:"process_pinned_us,omitempty"`
	ProcessCrossCPU *measured.Value `json:"process_cross_cpu_us,omitempty" yaml:"process_cross_cpu_us,omitempty"`
	ProcessUnpinned *measured.Value `json:"process_unpinned_us,omitempty" yaml:"process_unpinned_us,omitempty"`

	HandOvers []HandOver `json:"hand_overs" yaml:"hand_overs"`
	// TimeSlice is what a switch without a wake-up costs, as at the end of a time
	// slice, by what each of the two threads works on.
	TimeSlice []SliceCost `json:"time_slice" yaml:"time_slice"`
	Skipped   []Skipped   `json:"skipped" yaml:"skipped"`
}

// HandOver is one way for one worker to let another one run.
type HandOver struct {
	Means   handover.Means `json:"means" yaml:"means"`
	Carrier Carrier        `json:"carrier" yaml:"carrier"`
	Seats   string         `json:"seats" yaml:"seats"` // pinned, cross-cpu or unpinned
	US      measured.Value `json:"us" yaml:"us"`       // microseconds
}

// SliceCost is one switch between two threads that each touch a working set
// after it.
type SliceCost struct {
	WorkingSet int64 `json:"working_set_bytes" yaml:"working_set_bytes"`
	// US is what a switch adds, in microseconds, to the time of the work: the
	// switch itself, and what has to come back into the cache.
	US measured.Value `json:"us" yaml:"us"`
}

// Places of the two sides.
const (
	seatsPinned   = "pinned"
	seatsCross    = "cross-cpu"
	seatsUnpinned = "unpinned"
)

type switchArm struct {
	arm
	out   HandOver
	seats [2]cpuset.Set
}

type sliceArm struct {
	arm
	bytes int64
}

// Switch measures how long it takes for one thread or process to hand over to
// another, and what a switch costs.
func Switch(ctx context.Context, s Settings) (*SwitchReport, error) {
	cpus, err := s.cpus()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	rep := &SwitchReport{Report: s.newReport("switch", cpus), HandOvers: []HandOver{}, TimeSlice: []SliceCost{}, Skipped: []Skipped{}}
	if floats(s.Machine) {
		rep.add(FindFloating, finding.Info, floating)
	}
	crew, err := s.newCrew()
	if err != nil {
		return nil, err
	}
	defer crew.close()
	var workers [2]*worker
	for i := range workers {
		if workers[i], err = crew.hire(cpuset.Set{}); err != nil {
			return nil, err
		}
	}
	cores, _ := s.cores(cpus)
	first := cpuset.Of(cores[0].cpus[0])
	places := []struct {
		name  string
		seats [2]cpuset.Set
	}{{seatsPinned, [2]cpuset.Set{first, first}}}
	if len(cores) > 1 {
		places = append(places, struct {
			name  string
			seats [2]cpuset.Set
		}{seatsCross, [2]cpuset.Set{first, cpuset.Of(cores[1].cpus[0])}})
	} else {
		rep.Skipped = append(rep.Skipped, Skipped{Mode: seatsCross, Why: fmt.Sprintf("only one core is there to measure on: CPUs %s", cpus)})
	}
	places = append(places, struct {
		name  string
		seats [2]cpuset.Set
	}{seatsUnpinned, [2]cpuset.Set{cpus, cpus}})

	r := &rounds{settings: &s, report: &rep.Report, workers: min(2, cpus.Len()), children: crew.pids, deadline: began.Add(s.Limit)}
	var arms []*switchArm
	for _, carrier := range [...]Carrier{Threads, Processes} {
		for _, means := range [...]handover.Means{handover.Futex, handover.Pipe, handover.Channel} {
			if means == handover.Channel && carrier == Processes {
				continue
			}
			for _, p := range places {
				a := &switchArm{out: HandOver{Means: means, Carrier: carrier, Seats: p.name}, seats: p.seats}
				a.name = fmt.Sprintf("%s, %s, %s", means, carrier, p.name)
				a.watched = p.seats[0].Union(p.seats[1])
				if means == handover.Channel && p.name == seatsUnpinned {
					a.seats = [2]cpuset.Set{} // goroutines with no thread of their own
				}
				// Where the other one wakes up is the kernel's choice, from trial to trial,
				// and Go's scheduler has moods of its own.
				a.loose = p.name != seatsPinned || means == handover.Channel
				a.trial = func(ctx context.Context, _ time.Duration) (measurement, error) {
					return a.hand(ctx, workers, handOvers(s.Limit))
				}
				arms = append(arms, a)
				r.arms = append(r.arms, &a.arm)
			}
		}
	}
	var sliced []*sliceArm
	for _, size := range workingSets(&s.Machine.Topology, cores[0].cpus[0]) {
		a := &sliceArm{bytes: size}
		a.name = fmt.Sprintf("time slice with %d KiB", size>>10)
		a.watched = first
		a.loose = true
		a.trial = func(ctx context.Context, _ time.Duration) (measurement, error) {
			return yielding(ctx, workers[0], yieldArgs{cores[0].cpus[0], size, yields(s.Limit, size)})
		}
		sliced = append(sliced, a)
		r.arms = append(r.arms, &a.arm)
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	rep.WallS = time.Since(began).Seconds()
	rep.fill(arms, sliced)
	return rep, nil
}

// handOvers is how many round trips one trial has: about 10 ms, less where time
// is short.
func handOvers(limit time.Duration) int {
	return min(max(int(limit/time.Second)*100, 300), 3000)
}

func yields(limit time.Duration, bytes int64) int {
	return max(int(int64(handOvers(limit))*(64<<10)/(64<<10+bytes)), 100)
}

// workingSets are nothing, and most of what the first two caches of a CPU hold.
func workingSets(t *topology.Topology, c cpuset.CPU) []int64 {
	sizes := []int64{0}
	for _, level := range [...]int{1, 2} {
		for _, cache := range t.Caches {
			if cache.Level == level && cache.CPUs.Contains(c) && cache.Type != topology.Instruction && cache.Size != nil {
				sizes = append(sizes, *cache.Size*3/4&^63)
				break
			}
		}
	}
	return sizes
}

func (rep *SwitchReport) fill(arms []*switchArm, sliced []*sliceArm) {
	for _, a := range arms {
		if len(a.round) == 0 {
			continue
		}
		a.out.US = measured.Of(a.values("")).Scaled(1e-3)
		rep.HandOvers = append(rep.HandOvers, a.out)
		if a.out.Means != handover.Pipe || !a.known() {
			continue
		}
		to := map[string]**measured.Value{
			"threads" + seatsPinned: &rep.Pinned, "threads" + seatsCross: &rep.CrossCPU, "threads" + seatsUnpinned: &rep.Unpinned,
			"processes" + seatsPinned: &rep.ProcessPinned, "processes" + seatsCross: &rep.ProcessCrossCPU, "processes" + seatsUnpinned: &rep.ProcessUnpinned,
		}[string(a.out.Carrier)+a.out.Seats]
		*to = &a.out.US
	}
	for _, a := range sliced {
		if len(a.round) > 0 {
			rep.TimeSlice = append(rep.TimeSlice, SliceCost{a.bytes, measured.Of(a.values("")).Scaled(1e-3)})
		}
	}
}

type handOverArgs struct {
	Means  handover.Means
	Seats  [2]cpuset.Set
	First  bool // half: the one that begins
	Rounds int
}

func (a *switchArm) hand(ctx context.Context, workers [2]*worker, rounds int) (measurement, error) {
	args := handOverArgs{a.out.Means, a.seats, true, rounds}
	if a.out.Carrier == Threads {
		var r handover.Result
		if err := alone(ctx, job{workers[0], "handover", args, &r}, 0); err != nil {
			return measurement{}, err
		}
		return handed(r, a.seats, false), nil
	}
	var halves [2]handover.Result
	second := args
	second.First = false
	err := together(ctx, []job{{workers[0], "half", args, &halves[0]}, {workers[1], "half", second, &halves[1]}}, 0, time.Second)
	if err != nil {
		return measurement{}, err
	}
	r := halves[0]
	r.RanOn[1], r.OnCPU[1], r.RunDelay[1] = halves[1].RanOn[0], halves[1].OnCPU[0], halves[1].RunDelay[0]
	return handed(r, a.seats, false), nil
}

// handed makes a measurement of nanoseconds; spinning sides never wait, so that
// all of their delay was others' doing.
func handed(r handover.Result, seats [2]cpuset.Set, spinning bool) measurement {
	m := measurement{value: r.OneWay}
	for i, seat := range seats {
		if !seat.IsEmpty() && !r.RanOn[i].SubsetOf(seat) {
			m.off = fmt.Sprintf("side %d of seat %s was seen on %s", i, seat, r.RanOn[i])
		}
	}
	if whole := 2 * r.OneWay * float64(r.Rounds); spinning && whole > 0 {
		m.lost = float64(max(r.RunDelay[0], r.RunDelay[1])) / whole
	}
	return m
}

func (s *station) handOver(raw []byte) (any, error) {
	a, err := decode[handOverArgs](raw)
	if err != nil {
		return nil, err
	}
	return handover.Threads(a.Means, a.Seats, a.Rounds)
}

func (s *station) half(raw []byte) (any, error) {
	a, err := decode[handOverArgs](raw)
	if err != nil {
		return nil, err
	}
	if _, err := s.ready(); err != nil {
		return nil, err
	}
	seat := a.Seats[1]
	if a.First {
		seat = a.Seats[0]
	}
	return handover.Half(a.Means, a.First, s.shared, seat, a.Rounds)
}

type yieldArgs struct {
	CPU    cpuset.CPU
	Bytes  int64
	Rounds int
}

// yielded is the time of one turn with another thread to switch to, and without.
type yielded struct{ With, Alone handover.Result }

func (s *station) yield(raw []byte) (any, error) {
	a, err := decode[yieldArgs](raw)
	if err != nil {
		return nil, err
	}
	with, without, err := handover.Yield(int(a.CPU), int(a.Bytes), a.Rounds)
	return yielded{with, without}, err
}

func yielding(ctx context.Context, w *worker, a yieldArgs) (measurement, error) {
	var y yielded
	if err := alone(ctx, job{w, "yield", a, &y}, 0); err != nil {
		return measurement{}, err
	}
	return measurement{value: y.With.OneWay - y.Alone.OneWay}, nil
}
