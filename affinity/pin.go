//go:build linux

package affinity

import (
	"context"
	"errors"
	"fmt"
	"os"
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

	// Threads are those that were seated, or in a dry run would be; while
	// following, those that ended are dropped now and then.
	Threads []Pinned
	// Failed holds what could not be seated, and why: other users' threads, and
	// seats that the kernel trimmed, as a [*Trimmed].
	Failed []error
	// Strangers counts those that had a thread's number and got their mask back.
	Strangers int

	held    map[int]*pinning
	before  probe.Masks
	seater  seater
	refused int // the process that was last said not to be ours
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
	tids  []int           // as last listed, ascending
	done  []int           // those of them that were looked at before
	given map[string]bool // masks that the undo file knows to have been given here
	seats map[string]bool // masks that threads were left with, as lists
}

// list lists the threads anew.
func (p *pinning) list() (err error) {
	p.tids, err = p.TIDs(p.tids[:0])
	return err
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
		at = &pinning{Held: h}
		if p.held == nil {
			p.held = map[int]*pinning{}
		}
		p.held[pid] = at
	}
	if err := p.settle(ctx, at); !errors.Is(err, tasks.ErrGone) {
		return err
	}
	return nil
}

// settle seats those threads of a process that have no seat, until there are
// none. Each round finds those that were born in the one before; they are done
// with once they have a seat from their makers.
//
// A thread that is being made takes its maker's mask first, then a number, and is
// to be seen last (copy_process in the kernel's kernel/fork.c): one that is on
// its way while its maker is seated shows itself only afterwards, with the mask
// of before. So a look follows in which all who are new have inherited a seat;
// three, a millisecond apart, where one was found that had not.
func (p *Pinner) settle(ctx context.Context, at *pinning) error {
	born := newest()
	if err := at.list(); err != nil {
		return err
	}
	needed, calm := 1, 0
	for first := true; ; first = false {
		from := len(p.Threads)
		unseated, changed, err := p.round(at)
		if err != nil {
			return err
		}
		at.done = append(at.done[:0], at.tids...)
		switch {
		case !unseated:
			calm++
		case !first:
			needed, calm = 3, 0
		}
		if calm < needed || changed {
			before := born
			born = newest()
			if needed > 1 {
				time.Sleep(time.Millisecond)
			}
			err = at.list()
			at.done = slices.DeleteFunc(at.done, func(tid int) bool {
				_, there := slices.BinarySearch(at.tids, tid)
				return !there // the number may come back
			})
			if born < 0 || born != before { // else no stranger can have a number
				p.sendBack(at, p.Threads[from:])
			}
		}
		if !p.DryRun {
			failed := func(t Pinned) bool { return t.Set.IsEmpty() }
			p.Threads = append(p.Threads[:from], slices.DeleteFunc(p.Threads[from:], failed)...)
		}
		if err := errors.Join(err, ctx.Err()); err != nil || calm >= needed {
			return err
		}
	}
}

// newest is the number that was given out last in this PID namespace, of a
// process or thread in it or in one below; -1 where that cannot be read.
func newest() int {
	load, err := tasks.Proc("").LoadAvg()
	if err != nil {
		return -1
	}
	return load.Newest
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
	born := 0
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for idle := 0; len(p.held) > 0; idle++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if now := newest(); now < 0 || now != born || idle >= 50 {
			born, idle = now, 0
		} else {
			continue
		}
		p.forget()
		for pid, at := range p.held {
			err := p.settle(ctx, at)
			if errors.Is(err, tasks.ErrGone) {
				at.Close()
				delete(p.held, pid)
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// forget drops threads that ended, once they are the most.
func (p *Pinner) forget() {
	alive := 0
	for _, at := range p.held {
		alive += len(at.done)
	}
	if len(p.Threads) < 2*alive+1000 {
		return
	}
	p.Threads = slices.DeleteFunc(p.Threads, func(t Pinned) bool {
		at := p.held[t.PID]
		if at == nil {
			return true
		}
		_, there := slices.BinarySearch(at.done, t.TID)
		return !there
	})
}

// round seats those of the threads last listed that were not looked at before,
// and adds them to Threads, with no Set where that failed. It reports whether
// there were some that had not inherited a seat, and whether a mask was changed.
func (p *Pinner) round(at *pinning) (unseated, changed bool, err error) {
	now, err := sinceBoot()
	if err != nil {
		return false, false, err
	}
	from := len(p.Threads)
	p.Threads = slices.Grow(p.Threads, max(0, len(at.tids)-len(at.done)))
	for _, tid := range at.tids {
		if _, old := slices.BinarySearch(at.done, tid); old {
			continue
		}
		t := Pinned{PID: at.PID, TID: tid}
		if p.Names {
			if t.Name, err = at.Name(tid); err != nil {
				continue
			}
		}
		if t.Asked = p.Seat(at.PID, tid, t.Name); t.Asked.IsEmpty() {
			continue
		}
		if t.Before, err = p.before.Affinity(tid); err != nil {
			p.fails(&t, err)
			continue
		}
		p.Threads = append(p.Threads, t)
	}
	found := p.Threads[from:]
	for i := range found {
		if t := &found[i]; i == 0 || !t.Before.Equal(found[i-1].Before) {
			unseated = unseated || !at.seats[t.Before.String()]
		}
	}
	if p.DryRun {
		return false, false, nil
	}
	if err := p.remember(at, found, now); err != nil {
		p.Threads = p.Threads[:from]
		return unseated, false, err
	}
	for i := range found {
		t := &found[i]
		if t.Set = t.Before; t.Before.Equal(t.Asked) {
			continue // read a moment ago
		}
		changed = true
		if t.Set, err = p.seater.set(t.TID, t.Asked); err != nil {
			p.fails(t, err)
		}
	}
	at.seat(found)
	return unseated, changed, nil
}

// seat takes note of the masks that threads have now.
func (p *pinning) seat(found []Pinned) {
	if p.seats == nil {
		p.seats = map[string]bool{}
	}
	for i, t := range found {
		if i == 0 || !t.Set.Equal(found[i-1].Set) {
			p.seats[t.Set.String()] = true
		}
	}
}

// remember writes to the undo file what threads had. Those born after the first
// record of a process had it from others, which [Undo] knows: of them it needs
// the masks alone that nobody was given before.
func (p *Pinner) remember(at *pinning, found []Pinned, now time.Duration) error {
	if p.Undo == nil {
		return nil
	}
	if at.given != nil {
		found = slices.DeleteFunc(slices.Clone(found), func(t Pinned) bool { return at.given[t.Asked.String()] })
	}
	if len(found) == 0 {
		return nil
	}
	seats := grouped(found)
	if err := p.Undo.Append(UndoRecord{PID: at.PID, Start: at.Start, At: now, Seats: seats}); err != nil {
		return err
	}
	if at.given == nil {
		at.given = map[string]bool{}
	}
	for _, s := range seats {
		at.given[s.After.String()] = true
	}
	return nil
}

// fails takes note of what a thread could not be given. That it ended is none
// of it.
func (p *Pinner) fails(t *Pinned, err error) {
	switch {
	case errors.Is(err, unix.ESRCH):
	case errors.Is(err, unix.EPERM):
		if p.refused != t.PID { // said once
			p.refused = t.PID
			p.Failed = append(p.Failed, fmt.Errorf("process %d %s: %w", t.PID, whyRefused(t.PID), err))
		}
	default:
		p.Failed = append(p.Failed, fmt.Errorf("thread %d of process %d: %w", t.TID, t.PID, err))
	}
}

// whyRefused says why this user may not seat a process, by the rule of
// sched_setaffinity(2).
func whyRefused(pid int) string {
	me := os.Geteuid()
	is, err := tasks.Proc("").Process(pid)
	switch {
	case err == nil && (is.UID == me || is.EUID == me):
		return "is this user's, and yet may not be seated: " + filtered
	case me == 0:
		return "is another user's: this root has no CAP_SYS_NICE over it, or " + filtered
	}
	return "is another user's: its owner or root can seat it"
}

// filtered is what is left where the kernel itself would allow a seat.
const filtered = "a seccomp filter, as containers have one, or a security module denies sched_setaffinity"

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

// sendBack gives strangers their masks back that came to have the number of one
// of the threads.
func (p *Pinner) sendBack(at *pinning, found []Pinned) {
	if p.DryRun {
		return
	}
	for _, t := range found {
		if _, there := slices.BinarySearch(at.tids, t.TID); there {
			continue
		}
		now, err := probe.Affinity(t.TID)
		if err != nil || !now.Equal(t.Asked) || t.Before.Equal(t.Asked) {
			continue
		}
		if _, err := Set(t.TID, t.Before); err == nil {
			p.Strangers++
		}
	}
}

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
