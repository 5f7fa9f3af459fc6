//go:build linux

package experiment

import (
	"context"
	"fmt"
	"math"
	"time"

	"berth/affinity/experiment/python"
	"berth/affinity/measured"
	"berth/probe/cpuset"
)

// What the single looks at Python use.
const (
	blockFor     = 200 * time.Millisecond
	sleepers     = 200
	sumElements  = 1_000_000
	lostThreads  = 4
	lostTimes    = 200_000
	nextThreads  = 3                      // evenly knows the distribution for three
	nextFor      = 400 * time.Millisecond // in each round
	holdFor      = 300 * time.Millisecond
	blockedTasks = 20
)

// lookAtPython takes the single looks that claims ask for. What a look does not
// give stays unknown.
func (s *Settings) lookAtPython(ctx context.Context, rep *Report, cpus cpuset.Set, p python.Interpreter) (*pythonEvidence, error) {
	cores, _ := s.cores(cpus)
	began := time.Now()
	session, err := python.Start(ctx, p, python.Options{CPUs: cpus, ServerDelay: serverDelay})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	e := &pythonEvidence{interval: p.SwitchInterval, block: blockFor, waiters: sleepers, sumProcs: len(cores), sumElements: sumElements}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	r := &rounds{settings: s, report: rep, workers: len(cores), children: func() []int { return []int{session.PID()} }, deadline: began.Add(s.Limit),
		fixed: min(max(int(s.Limit/(3*time.Second)), 1), 5)}
	look := func(name string, f func(ctx context.Context) (measurement, error)) *arm {
		a := &arm{name: name, watched: s.siblings(cpus), optional: true,
			trial: func(ctx context.Context, _ time.Duration) (measurement, error) { return f(ctx) }}
		r.arms = append(r.arms, a)
		return a
	}
	held := look("how long the GIL is held", func(ctx context.Context) (measurement, error) {
		h, err := session.SwitchIntervalSeen(ctx, 0, holdFor)
		return measurement{value: ms(h.Median)}, err
	})
	stall := look("a blocked loop", func(ctx context.Context) (measurement, error) {
		b, err := session.BlockedLoop(ctx, blockFor, blockedTasks)
		return measurement{value: ms(b.Blocked), more: map[string]float64{"calm": ms(b.Awaited)}}, err
	})
	waiting := func(carrier python.Carrier) *arm {
		return look("waiting "+string(carrier), func(ctx context.Context) (measurement, error) {
			w, err := session.Waiters(ctx, sleepers, carrier)
			return measurement{value: w.Memory}, err
		})
	}
	threads, tasks := waiting(python.Threads), waiting(python.Async)
	follower := func(i, j int) string { return fmt.Sprintf("%d after %d", j, i) }
	next := look("who gets the GIL next", func(ctx context.Context) (measurement, error) {
		n, err := session.NextHolder(ctx, nextThreads, nextFor)
		m := measurement{value: float64(n.Changes), more: map[string]float64{}}
		for i, row := range n.Next {
			for j, times := range row {
				m.more[follower(i, j)] = float64(times)
			}
		}
		return m, err
	})
	next.loose = true // it is counts, summed up
	var sum *arm
	if len(cores) > 1 {
		sum = look("the sum of a list", func(ctx context.Context) (measurement, error) {
			x, err := session.PoolSum(ctx, sumElements, len(cores))
			if err != nil {
				return measurement{}, err
			}
			return measurement{value: float64(x.Alone) / float64(x.Sent), more: map[string]float64{"there": float64(x.Alone) / float64(x.Held)}}, nil
		})
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	known := func(a *arm, name string) *measured.Value {
		if a == nil || len(a.round) == 0 {
			return nil
		}
		v := measured.Of(a.values(name))
		return &v
	}
	e.held, e.stall, e.calm = known(held, ""), known(stall, ""), known(stall, "calm")
	e.threadBytes, e.taskBytes = known(threads, ""), known(tasks, "")
	e.sumSent, e.sumThere = known(sum, ""), known(sum, "there")

	if len(next.round) > 0 {
		var times [nextThreads][nextThreads]int
		for i := range times {
			for j := range times {
				for _, n := range next.values(follower(i, j)) {
					times[i][j] += int(n)
				}
			}
		}
		for _, n := range next.values("") {
			e.changes += int(n)
		}
		p := evenly(times)
		e.nextP = &p
	}

	// The rest needs no quiet: it is counts.
	if lost, err := session.LostUpdates(ctx, lostThreads, lostTimes); err == nil {
		e.lost = lost
	}
	for _, c := range [...]python.Carrier{python.Threads, python.Processes, python.Async} {
		if started, err := session.StartCost(ctx, c); err == nil {
			e.starts = append(e.starts, started...)
		}
	}
	if shared, err := session.SharedMemory(ctx); err == nil {
		e.threadSees, e.processSees = &shared.Thread, &shared.Process
	}
	return e, nil
}

// evenly is the probability that three threads follow each other as unevenly as
// these counts or more, if each of the two others were as likely: Pearson's χ²
// of three rows with one degree of freedom each.
func evenly(next [nextThreads][nextThreads]int) float64 {
	var x float64
	for i, row := range next {
		total := 0
		for _, n := range row {
			total += n
		}
		half := float64(total-row[i]) / 2
		for j, n := range row {
			if j != i && half > 0 {
				x += (float64(n) - half) * (float64(n) - half) / half
			}
		}
	}
	// The upper tail of χ² with three degrees (Abramowitz and Stegun, 26.4.4).
	return min(1, math.Erfc(math.Sqrt(x/2))+math.Sqrt(2*x/math.Pi)*math.Exp(-x/2))
}
