//go:build linux

package tasks_test

import (
	"errors"
	"testing"

	"berth/probe/tasks"
)

func TestHold(t *testing.T) {
	h := newHelper(t)
	tid := h.thread(t, "a (name)")
	held, err := live.Hold(h.pid)
	if err != nil {
		t.Fatal(err)
	}
	process, err := live.Process(h.pid)
	if err != nil || held.Start != process.Start {
		t.Errorf("started at %v, want %v, %v", held.Start, process.Start, err)
	}
	before := tidsOf(t, h.pid)
	got, err := held.TIDs(nil)
	after := tidsOf(t, h.pid) // Go may have made a thread meanwhile
	if err != nil || lacks(got, before) || lacks(after, got) {
		t.Errorf("threads %v, %v; %v before and %v after", got, err, before, after)
	}
	if st, err := held.Thread(tid); err != nil || st.Name != "a (name)" || st.Start < held.Start {
		t.Errorf("%+v, %v", st, err)
	}
	if name, err := held.Name(tid); err != nil || name != "a (name)" {
		t.Errorf("name %q, %v", name, err)
	}
	if _, err := held.Thread(1); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("a thread of another process: %v", err)
	}
	h.stop()
	if got, err := held.TIDs(nil); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("after the end: %v, %v", got, err)
	}
	if _, err := held.Thread(tid); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := live.Hold(h.pid); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("after the end: %v", err)
	}
	open := openFiles(t)
	held.Close()
	if after := openFiles(t); after != open-2 {
		t.Errorf("%d files open after Close, %d before", after, open)
	}
}

func TestHoldInTree(t *testing.T) {
	r, _ := fixture(t)
	r.write("8/stat", "nonsense")
	for _, pid := range []int{8, 7} {
		if h, err := tasks.Proc(r.dir).Hold(pid); err == nil {
			t.Errorf("%d: %+v", pid, h)
		}
	}
}
