package affinity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
)

// Pinner seats the threads of running processes.
//
// A thread's number can come back: between the moment when it is listed and the
// one when its mask is set, it may end and a stranger be born with it. Every
// number is therefore looked for again after the change, and a stranger gets its
// mask back at once. What remains is the time between reading the old mask and
// setting the new one, about a microsecond: who is born in it under an old
// number gets back what the thread before it had.
type Pinner struct {
	// Seat tells where a thread belongs, in the order in which they are found,
	// by number; empty: it is left as it is. The name is empty unless Names.
	Seat  func(pid, tid int, name string) cpuset.Set
	Names bool // Seat needs the threads' names, which costs a file each
	// Undo, if any, holds the old state before it is changed.
	Undo *UndoLog
	// DryRun changes nothing.
	DryRun bool

	// Threads are those that were seated, or in a dry run would be.
	Threads []Pinned
	// Failed holds what could not be seated, and why: other users' threads, and
	// seats that the kernel trimmed, as a [*Trimmed].
	Failed []error
	// Strangers counts those that had a thread's number and got their mask back.
	Strangers int

	held map[int]*pinning
}

// Pinned is one thread and its seat.
type Pinned struct {
	PID, TID      int
	Name          string // empty unless names were asked for
	Before, Asked cpuset.Set
	Set           cpuset.Set // as read back; empty in a dry run, and for a thread that ended
}

// pinning is a process whose threads are being seated.
type pinning struct {
	*tasks.Held
	done map[int]bool
}

// Process seats all threads of a process, those too that are born meanwhile. A
// process that ends is no error; one that was never there is, wrapping
// [tasks.ErrGone].
func (p *Pinner) Process(ctx context.Context, pid int) error {
	at := p.held[pid]
	if at == nil {
		h, err := tasks.Proc("").Hold(pid)
		if err != nil {
			return err
		}
		at = &pinning{h, map[int]bool{}}
		if p.held == nil {
			p.held = map[int]*pinning{}
		}
		p.held[pid] = at
	}
	// Each round finds those that were born in the one before: fewer each time,
	// for a thread born of a seated one has its seat.
	for {
		n, err := p.round(at)
		if errors.Is(err, tasks.ErrGone) {
			return nil
		}
		if err != nil || n == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Close lets go of the processes.
func (p *Pinner) Close() {
	for _, h := range p.held {
		h.Close()
	}
	p.held = nil
}

// Follow seats the threads that are born later, until all processes have ended
// or ctx is done, and returns ctx's error then.
func (p *Pinner) Follow(ctx context.Context) error {
	newest := 0
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for idle := 0; len(p.held) > 0; idle++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		// The number that was given out last tells whether anything was born, in
		// this PID namespace; another's births are looked for once a second.
		load, err := tasks.Proc("").LoadAvg()
		if err == nil && load.Newest == newest && idle < 50 {
			continue
		}
		newest, idle = load.Newest, 0
		for pid, at := range p.held {
			for {
				n, err := p.round(at)
				if errors.Is(err, tasks.ErrGone) {
					at.Close()
					delete(p.held, pid)
					break
				}
				if err != nil {
					return err
				}
				if n == 0 {
					break
				}
			}
		}
	}
	return nil
}

// round seats those threads of a process that have no seat yet, and returns how
// many it found.
func (p *Pinner) round(at *pinning) (int, error) {
	tids, err := at.TIDs(nil)
	if err != nil {
		return 0, err
	}
	now, err := sinceBoot()
	if err != nil {
		return 0, err
	}
	tids = slices.DeleteFunc(tids, func(tid int) bool { return at.done[tid] })
	if len(tids) == 0 {
		return 0, nil
	}
	found := make([]Pinned, 0, len(tids))
	for _, tid := range tids {
		at.done[tid] = true
		t := Pinned{PID: at.PID, TID: tid}
		if p.Names {
			if t.Name, err = at.Name(tid); err != nil {
				continue
			}
		}
		if t.Asked = p.Seat(at.PID, tid, t.Name); t.Asked.IsEmpty() {
			continue
		}
		if t.Before, err = probe.Affinity(tid); err != nil {
			if !errors.Is(err, unix.ESRCH) {
				p.Failed = append(p.Failed, err)
			}
			continue
		}
		found = append(found, t)
	}
	if p.DryRun {
		p.Threads = append(p.Threads, found...)
		return len(tids), nil
	}
	if p.Undo != nil && len(found) > 0 {
		if err := p.Undo.Append(UndoRecord{PID: at.PID, Start: at.Start, At: now, Seats: grouped(found)}); err != nil {
			return 0, err
		}
	}
	p.seat(found)
	return len(tids), p.sendBack(at, found)
}

// grouped puts threads with the same masks before and after together.
func grouped(found []Pinned) []UndoSeat {
	type masks struct{ before, after string }
	place := map[masks]int{}
	var out []UndoSeat
	var last masks
	n := -1
	for i, t := range found {
		if i == 0 || !t.Before.Equal(found[i-1].Before) || !t.Asked.Equal(found[i-1].Asked) {
			last = masks{t.Before.String(), t.Asked.String()}
			var ok bool
			if n, ok = place[last]; !ok {
				n = len(out)
				place[last] = n
				out = append(out, UndoSeat{Before: t.Before, After: t.Asked})
			}
		}
		out[n].Threads = append(out[n].Threads, t.TID)
	}
	return out
}

// seat changes and reads back.
func (p *Pinner) seat(found []Pinned) {
	refused := map[int]bool{} // processes that are not ours, each said once
	for i := range found {
		t := &found[i]
		got, err := Set(t.TID, t.Asked)
		t.Set = got
		switch {
		case err == nil || errors.Is(err, unix.ESRCH):
		case errors.Is(err, unix.EPERM):
			if !refused[t.PID] {
				refused[t.PID] = true
				p.Failed = append(p.Failed, fmt.Errorf("process %d is another user's: its owner or root can seat it: %w", t.PID, err))
			}
		default:
			p.Failed = append(p.Failed, fmt.Errorf("thread %d of process %d: %w", t.TID, t.PID, err))
		}
		if err == nil || !got.IsEmpty() {
			p.Threads = append(p.Threads, *t)
		}
	}
}

// sendBack gives strangers their masks back that came to have the number of one
// of the threads.
func (p *Pinner) sendBack(at *pinning, found []Pinned) error {
	tids, err := at.TIDs(nil)
	ended := errors.Is(err, tasks.ErrGone)
	if err != nil && !ended {
		return err
	}
	for _, t := range found {
		if _, there := slices.BinarySearch(tids, t.TID); there {
			continue
		}
		delete(at.done, t.TID) // its number may come back to this process
		now, err := probe.Affinity(t.TID)
		if err != nil || !now.Equal(t.Asked) || t.Before.Equal(t.Asked) {
			continue
		}
		if _, err := Set(t.TID, t.Before); err == nil {
			p.Strangers++
		}
	}
	if ended {
		return about(at.PID)
	}
	return nil
}

func about(pid int) error { return fmt.Errorf("process %d: %w", pid, tasks.ErrGone) }

// Receipt says where the processes' threads sit now, and what each has used
// since it was born.
func (p *Pinner) Receipt() *Receipt {
	r := &Receipt{Schema: ReceiptSchema, Verdict: Measured, Workers: []WorkerReceipt{}, Broken: []Violation{}, Finding: []finding.Finding{}}
	type member struct{ pid, tid int }
	asked := map[member]cpuset.Set{}
	var order []int
	for _, t := range p.Threads {
		asked[member{t.PID, t.TID}] = t.Asked
		if n := len(order); n == 0 || order[n-1] != t.PID {
			order = append(order, t.PID)
		}
	}
	slices.Sort(order)
	for i, pid := range slices.Compact(order) {
		threads, err := tasks.Proc("").Threads(pid)
		if err != nil {
			continue // ended since
		}
		w := WorkerReceipt{Index: i, PID: pid, Threads: []ThreadReceipt{}}
		for _, t := range threads {
			want := asked[member{pid, t.TID}]
			w.Asked = w.Asked.Union(want)
			seat := watchedSeat{Watched: tasks.Watched{Thread: t, Migrations: -1, Used: tasks.Counters{SchedStat: t.SchedStat, Voluntary: t.Voluntary, Involuntary: t.Involuntary}}, worker: i, asked: want}
			if t.CPU >= 0 {
				seat.RanOn = cpuset.Range(t.CPU, t.CPU)
			}
			if !want.IsEmpty() && !t.Allowed.IsEmpty() && !t.Allowed.SubsetOf(want) {
				r.Broken = append(r.Broken, seat.moved())
			}
			w.Threads = append(w.Threads, seat.receipt())
		}
		r.Workers = append(r.Workers, w)
	}
	r.Kept = len(r.Broken) == 0
	return r
}
