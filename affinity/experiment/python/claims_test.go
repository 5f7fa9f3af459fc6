//go:build linux

package python

import (
	"slices"
	"testing"
	"time"
)

func TestSwitchIntervalSeen(t *testing.T) {
	t.Parallel()
	s := start(t, python3(t), Options{})
	h, err := s.SwitchIntervalSeen(t.Context(), 2*time.Millisecond, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if h.Interval != 2*time.Millisecond || len(h.Held) == 0 || h.NearPct < 0 || h.NearPct > 100 || !slices.Contains(h.Held, h.Median) {
		t.Errorf("%+v", h)
	}
	if h, err = s.SwitchIntervalSeen(t.Context(), 0, 50*time.Millisecond); err != nil || h.Interval != s.python.SwitchInterval {
		t.Errorf("its own interval: %v, %v", h.Interval, err)
	}
}

func TestNextHolder(t *testing.T) {
	t.Parallel()
	s := start(t, python3(t), Options{})
	got, err := s.NextHolder(t.Context(), 3, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for i, row := range got.Next {
		if len(row) != 3 || row[i] != 0 {
			t.Errorf("after %d: %v", i, row)
		}
		for _, n := range row {
			sum += n
		}
	}
	if len(got.Next) != 3 || sum != got.Changes || sum == 0 {
		t.Errorf("%+v", got)
	}
	if _, err := s.NextHolder(t.Context(), 1, time.Second); err == nil {
		t.Error("one thread competes")
	}
}

func TestCompeting(t *testing.T) {
	turns, err := competing([][2]int64{{10, 0}, {20, 1}, {30, 0}, {40, 2}, {60, 1}, {50, 0}}, 3)
	want := []holder{{40, 2}, {50, 0}, {60, 1}}
	if err != nil || !slices.Equal(turns, want) {
		t.Errorf("%v, %v; want %v", turns, err, want)
	}
	if turns, err := competing([][2]int64{{10, 0}, {20, 1}}, 3); err != nil || len(turns) != 0 {
		t.Errorf("without the third: %v, %v", turns, err)
	}
	for _, thread := range []int64{-1, 2} {
		if _, err := competing([][2]int64{{1, thread}}, 2); err == nil {
			t.Errorf("thread %d of 2", thread)
		}
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	p := python3(t)
	s := start(t, p, Options{})
	ctx := t.Context()

	ways, err := s.LostUpdates(ctx, 3, 2000)
	if err != nil || len(ways) != 3 {
		t.Fatalf("lost updates: %v, %v", ways, err)
	}
	for _, w := range ways {
		if w.How == "" || w.Expected < 1 || w.Expected > 6000 || w.Got < 1 || w.Got > w.Expected {
			t.Errorf("lost updates: %+v", w)
		}
	}
	if w, err := s.LostUpdates(ctx, 1, 2000); err != nil || w[0].Got != 2000 {
		t.Errorf("one thread alone: %+v, %v", w, err)
	}

	const block = 60 * time.Millisecond
	if st, err := s.BlockedLoop(ctx, block, 5); err != nil || st.Stalled != 5 || st.Blocked < block {
		t.Errorf("a loop that is blocked by a call that certainly lasts: %+v, %v", st, err)
	}

	for _, carrier := range []Carrier{Threads, Async} {
		// A limit on processes may leave fewer.
		if w, err := s.Waiters(ctx, 100, carrier); err != nil || w.Had < 1 || w.Had > 100 {
			t.Errorf("waiting %s: %+v, %v", carrier, w, err)
		}
	}

	for carrier, methods := range map[Carrier][]string{Threads: {"thread"}, Processes: {"fork", "spawn"}, Async: {"task"}} {
		costs, err := s.StartCost(ctx, carrier)
		var got []string
		for _, c := range costs {
			got = append(got, c.Method)
			if c.Runs < 1 || c.Took <= 0 {
				t.Errorf("to start a %s: %+v", c.Method, c)
			}
		}
		if err != nil || !slices.Equal(got, methods) {
			t.Errorf("to start %s: %v, %v", carrier, got, err)
		}
	}

	if got, err := s.SharedMemory(ctx); err != nil || got != (Sharing{Thread: true}) {
		t.Errorf("shared memory: %+v, %v", got, err)
	}
	// The program compares the sums.
	for _, elements := range []int{1, 10_001} {
		if got, err := s.PoolSum(ctx, elements, 3); err != nil || got.Alone <= 0 || got.Sent <= 0 || got.Held <= 0 {
			t.Errorf("pool sum: %+v, %v", got, err)
		}
	}
	if got, err := s.PoolCompute(ctx, 2, 20*time.Millisecond); err != nil || got.Alone <= 0 || got.Processes <= 0 || got.Threads <= 0 {
		t.Errorf("pool compute: %+v, %v", got, err)
	}
}
