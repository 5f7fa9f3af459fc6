//go:build linux

package affinity

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// UndoSchema names the first line of an undo file. Each further line is an
// [UndoRecord].
const UndoSchema = "berth.undo/v1"

// undoHead is the first line of an undo file.
type undoHead struct {
	Schema string    `json:"schema"`
	Boot   string    `json:"boot"` // /proc/sys/kernel/random/boot_id: numbers of processes mean nothing after it
	At     time.Time `json:"written_at"`
}

// UndoRecord is the state of some threads of one process before a change.
type UndoRecord struct {
	PID   int           `json:"pid"`
	Start time.Duration `json:"start_ns"` // of the process, after the machine's start
	At    time.Duration `json:"at_ns"`    // when it was read, on the same clock: threads born later are not meant
	Seats []UndoSeat    `json:"seats"`
}

// UndoSeat is one mask before, the one after, and the threads that have both.
type UndoSeat struct {
	Before  cpuset.Set `json:"before"`
	After   cpuset.Set `json:"after"`
	Threads TIDs       `json:"threads"`
}

// TIDs are numbers of threads, in ascending order. As text they are a list with
// ranges, "7,100-199": most threads of a process are born one after the other.
type TIDs []int

// MarshalText writes the list.
func (t TIDs) MarshalText() ([]byte, error) {
	var b []byte
	for i := 0; i < len(t); {
		end := i + 1
		for end < len(t) && t[end] == t[end-1]+1 {
			end++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(t[i]), 10)
		if end-i > 1 {
			b = strconv.AppendInt(append(b, '-'), int64(t[end-1]), 10)
		}
		i = end
	}
	return b, nil
}

// mostTIDs bounds the threads that a list can name: PID_MAX_LIMIT of the kernel's
// include/linux/threads.h.
const mostTIDs = 4 << 20

// UnmarshalText reads the list.
func (t *TIDs) UnmarshalText(text []byte) error {
	*t = nil
	for item := range strings.SplitSeq(string(text), ",") {
		first, last, isRange := strings.Cut(item, "-")
		low, err := strconv.Atoi(first)
		high := low
		if err == nil && isRange {
			high, err = strconv.Atoi(last)
		}
		if err != nil || low < 1 || high < low || high > mostTIDs || len(*t)+high-low >= mostTIDs {
			return fmt.Errorf("%q is not a list of threads", item)
		}
		for tid := low; tid <= high; tid++ {
			*t = append(*t, tid)
		}
	}
	return nil
}

// UndoLog is a file to which the state of threads is written, and synced to the
// disk, before they are changed.
type UndoLog struct {
	f    *os.File
	name string
}

// CreateUndo makes an undo file; it must not be there yet. Missing directories
// are made, for the user alone.
func CreateUndo(name string) (*UndoLog, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("write undo file: %w", err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write undo file: %w", err)
	}
	u := &UndoLog{f, name}
	err = u.write(undoHead{UndoSchema, boot, time.Now()}) // on the disk with the first record
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		f.Close()
		os.Remove(name)
		return nil, err
	}
	return u, nil
}

// Name is the file's.
func (u *UndoLog) Name() string { return u.name }

// Close closes the file, which stays.
func (u *UndoLog) Close() error { return u.f.Close() }

// Remove takes the file away again, where nothing was changed.
func (u *UndoLog) Remove() error { return errors.Join(u.f.Close(), os.Remove(u.name)) }

// Append writes a record; when it returns, the record is on the disk.
func (u *UndoLog) Append(r UndoRecord) error {
	if err := u.write(r); err != nil {
		return err
	}
	err := u.f.Sync()
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) { // a pipe or a device has no disk
		return fmt.Errorf("write undo file %s: %w; nothing more was changed", u.name, err)
	}
	return nil
}

// write writes a line.
func (u *UndoLog) write(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = u.f.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write undo file %s: %w; nothing more was changed", u.name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("tell this start of the machine from others: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// sinceBoot is the clock of the start times in /proc (proc(5): after the boot,
// with the time asleep).
func sinceBoot() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// Undone says what became of an undo file's threads.
type Undone struct {
	Restored int // threads that have their old masks again
	// Same counts threads that had them already.
	Same int
	// Gone are threads that ended, and processes with all of theirs.
	GoneThreads, GoneProcesses int
	Failed                     []error // what could not be given back, and why
	Torn                       bool    // the file ends within a line, of a change that was not made
}

// ReadUndo reads an undo file. A last line that is cut short is left out: what
// it was about was not changed yet.
func ReadUndo(r io.Reader, name string) (records []UndoRecord, torn bool, err error) {
	limited := &io.LimitedReader{R: r, N: mostUndo}
	in := bufio.NewReaderSize(limited, 1<<20)
	boot, err := bootID()
	if err != nil {
		return nil, false, err
	}
	threads := 0
	for n := 1; ; n++ {
		line, readErr := in.ReadBytes('\n')
		if limited.N <= 0 {
			return nil, false, fmt.Errorf("%s is larger than %d MiB: not a file that pin wrote", name, mostUndo>>20)
		}
		if readErr != nil && readErr != io.EOF {
			return nil, false, fmt.Errorf("read undo file %s: %w", name, readErr)
		}
		if readErr == io.EOF && n > 1 {
			return records, len(bytes.TrimSpace(line)) > 0, nil
		}
		if n == 1 {
			var head undoHead
			if err := json.Unmarshal(line, &head); err != nil || head.Schema != UndoSchema {
				return nil, false, fmt.Errorf("%s is not an undo file: its first line does not say %q", name, UndoSchema)
			}
			if head.Boot != boot {
				return nil, false, fmt.Errorf("%s is of %s, before the machine was started anew: what it is about is gone, and there is nothing to undo",
					name, head.At.Format(time.DateTime))
			}
			continue
		}
		named, err := namedThreads(line)
		if threads += named; err == nil && threads > 4*mostTIDs { // a few records may hold the same ones
			return nil, false, fmt.Errorf("%s:%d: it names more threads than a kernel can have", name, n)
		}
		var rec UndoRecord
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, false, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if len(rec.Seats) == 0 {
			return nil, false, fmt.Errorf("%s:%d: a record without seats", name, n)
		}
		records = append(records, rec)
	}
}

// mostUndo bounds an undo file, in bytes: a million threads with as many masks
// take a tenth of it.
const mostUndo = 1 << 30

// namedThreads is how many threads a line's lists name, which a few bytes can
// make millions.
func namedThreads(line []byte) (n int, err error) {
	var rec struct {
		Seats []struct{ Threads string }
	}
	err = json.Unmarshal(line, &rec)
	for _, s := range rec.Seats {
		for item := range strings.SplitSeq(s.Threads, ",") {
			n++
			first, last, _ := strings.Cut(item, "-")
			low, err := strconv.Atoi(first)
			high, err2 := strconv.Atoi(last)
			if err == nil && err2 == nil && low < high {
				n += min(high, mostTIDs) - min(low, mostTIDs)
			}
		}
	}
	return n, err
}

// Undo gives threads the masks back that they had before. It may be called
// again, and after a change that was cut off at any point. It does what the
// records say with this user's rights: they must come from a file that nobody
// else could write.
//
// A thread born since has inherited its mask from one that was changed: where
// it still has such a mask, it gets the one that its siblings had before; so do
// processes that were started since by those in the file.
func Undo(records []UndoRecord) Undone {
	var out Undone
	u := undoing{out: &out, seen: map[thread]bool{}}
	byProcess := map[thread][]UndoRecord{}
	var order []thread
	for _, r := range records {
		id := thread{r.PID, r.Start}
		if byProcess[id] == nil {
			order = append(order, id)
		}
		byProcess[id] = append(byProcess[id], r)
	}
	for _, id := range order {
		u.process(id, byProcess[id])
	}
	return out
}

type undoing struct {
	out  *Undone
	seen map[thread]bool // processes that are done
}

func (u *undoing) process(id thread, records []UndoRecord) {
	h, err := tasks.Proc("").Hold(id.tid)
	if err != nil || h.Start != id.start {
		if err == nil {
			h.Close()
			err = tasks.ErrGone
		}
		if errors.Is(err, tasks.ErrGone) {
			u.out.GoneProcesses++
			return // its children are others' now, and those of its number a stranger's
		}
		u.out.Failed = append(u.out.Failed, err)
		u.children(id.tid, records)
		return
	}
	defer h.Close()
	u.seen[id] = true
	// Who is in the first record had its own mask; who came later, one that was
	// inherited from them.
	first := map[int]UndoSeat{}
	for _, s := range records[0].Seats {
		for _, tid := range s.Threads {
			first[tid] = s
		}
	}
	inherited := inheritance(records)
	done := map[int]bool{}
	// As when threads are seated, some may be on their way: see [Pinner].
	needed := 1
	for calm := 0; calm < needed; {
		tids, err := h.TIDs(nil)
		if err != nil {
			break // ended meanwhile
		}
		tids = slices.DeleteFunc(tids, func(tid int) bool { return done[tid] })
		changed, begun := false, len(done) > 0
		for _, tid := range tids {
			done[tid] = true
			seat, known := first[tid]
			if known {
				if st, err := h.Thread(tid); err != nil {
					continue
				} else if st.Start > records[0].At {
					known = false // its number came back
				}
			}
			if known {
				changed = u.restore(tid, seat.Before) || changed
			} else {
				changed = u.disinherit(tid, inherited) || changed
			}
		}
		switch {
		case !changed:
			calm++
		case begun:
			needed, calm = 3, 0
		}
		if needed > 1 {
			time.Sleep(time.Millisecond)
		}
	}
	for tid := range first {
		if !done[tid] {
			u.out.GoneThreads++
		}
	}
	u.children(id.tid, records)
}

// children undoes what processes inherited that were started since.
func (u *undoing) children(pid int, records []UndoRecord) {
	all, err := tasks.Proc("").Processes()
	if err != nil {
		return
	}
	inherited := inheritance(records)
	for _, p := range all.Descendants(pid) {
		id := thread{p.PID, p.Start}
		if u.seen[id] || p.Start+tasks.Tick < records[0].At {
			continue
		}
		u.seen[id] = true
		h, err := tasks.Proc("").Hold(p.PID)
		if err != nil {
			continue
		}
		if tids, err := h.TIDs(nil); err == nil && h.Start == p.Start {
			for _, tid := range tids {
				u.disinherit(tid, inherited)
			}
		}
		h.Close()
	}
}

// inheritance tells for each mask that was given what those who got it mostly
// had before. Who got one after the first record had inherited another.
func inheritance(records []UndoRecord) map[string]cpuset.Set {
	votes := map[string]map[string]int{}
	sets := map[string]cpuset.Set{}
	for _, s := range records[0].Seats {
		after, before := s.After.String(), s.Before.String()
		if votes[after] == nil {
			votes[after] = map[string]int{}
		}
		votes[after][before] += len(s.Threads)
		sets[before] = s.Before
	}
	out := map[string]cpuset.Set{}
	for after, all := range votes {
		best := ""
		for before, n := range all {
			if n > all[best] || n == all[best] && before < best {
				best = before
			}
		}
		out[after] = sets[best]
	}
	for _, r := range records[1:] {
		for _, s := range r.Seats {
			if _, ok := out[s.After.String()]; ok {
				continue
			}
			before, ok := out[s.Before.String()]
			if !ok {
				before = s.Before
			}
			out[s.After.String()] = before
		}
	}
	return out
}

// disinherit gives a thread what those had from whom it has its mask, and reports
// whether it did.
func (u *undoing) disinherit(tid int, inherited map[string]cpuset.Set) bool {
	now, err := probe.Affinity(tid)
	if err != nil {
		return false
	}
	before, ok := inherited[now.String()]
	return ok && u.restore(tid, before)
}

// restore gives a thread a mask, and reports whether it had another.
func (u *undoing) restore(tid int, before cpuset.Set) bool {
	now, err := probe.Affinity(tid)
	if err == nil && now.Equal(before) {
		u.out.Same++
		return false
	}
	switch _, err := Set(tid, before); {
	case err == nil:
		u.out.Restored++
		return true
	case errors.Is(err, unix.ESRCH):
		u.out.GoneThreads++
	default:
		u.out.Failed = append(u.out.Failed, fmt.Errorf("thread %d: %w", tid, err))
	}
	return false
}
