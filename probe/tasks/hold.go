//go:build linux

package tasks

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Held is a process whose directory is held open: while that is so, nothing
// that Held gives is ever another process's, though the number may be.
type Held struct {
	PID   int
	Start time.Duration // as in [Stat]

	dir, task int
	buf       []byte
	entries   []entry
}

// Hold opens a process. [ErrGone] says that there is none of that number.
func (p Proc) Hold(pid int) (*Held, error) {
	dir, err := openAt(unix.AT_FDCWD, p.dir()+"/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, about("process", pid, err)
	}
	h := &Held{PID: pid, dir: dir, task: -1, buf: make([]byte, 32<<10)}
	data, err := readAt(dir, "stat")
	var st Stat
	if err == nil {
		st, err = ParseStat(data)
	}
	if err == nil {
		h.task, err = openAt(dir, "task", unix.O_RDONLY|unix.O_DIRECTORY)
	}
	if err != nil {
		h.Close()
		return nil, about("process", pid, err)
	}
	h.Start = st.Start
	return h, nil
}

// Close gives the directory back.
func (h *Held) Close() {
	unix.Close(h.dir)
	if h.task >= 0 {
		unix.Close(h.task)
	}
}

// TIDs appends the numbers of its threads, in ascending order. [ErrGone] says
// that the process has ended.
func (h *Held) TIDs(to []int) ([]int, error) {
	var err error
	if h.entries, err = appendEntries(h.entries[:0], h.task, h.buf); err == nil && len(h.entries) == 0 {
		err = unix.ESRCH
	}
	if err != nil {
		return to, about("threads of process", h.PID, err)
	}
	for _, e := range h.entries {
		to = append(to, e.id)
	}
	return sortedOnce(to), nil
}

// Thread reads what stat says of a thread; [ErrGone] that it is none of this
// process's, or no more.
func (h *Held) Thread(tid int) (Stat, error) {
	data, err := readAt(h.task, strconv.Itoa(tid)+"/stat")
	if err != nil {
		return Stat{}, about("thread", tid, err)
	}
	return ParseStat(data)
}

// Name is a thread's name, at most 15 bytes of it; errors are those of Thread.
func (h *Held) Name(tid int) (string, error) {
	data, err := readAt(h.task, strconv.Itoa(tid)+"/comm")
	if err != nil {
		return "", about("thread", tid, err)
	}
	return string(bytes.TrimSuffix(data, []byte("\n"))), nil
}
