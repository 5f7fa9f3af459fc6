//go:build linux

package tasks

import (
	"encoding/binary"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestParseTaskstats(t *testing.T) {
	full := make([]byte, 368)
	binary.NativeEndian.PutUint16(full, 11)
	for i, at := range []int{40, 56, 320, 336, 360} {
		binary.NativeEndian.PutUint64(full[at:], uint64(i+1))
	}
	for size, want := range map[int]Delays{
		368: {1, 2, 3, 4, 5}, 367: {1, 2, 3, 4, -1}, 328: {1, 2, 3, -1, -1}, 64: {1, 2, -1, -1, -1}, 2: unknownDelays,
	} {
		if got, err := ParseTaskstats(full[:size]); err != nil || got != want {
			t.Errorf("%d bytes: got %v, %v; want %v", size, got, err, want)
		}
	}
	if _, err := ParseTaskstats(nil); err == nil {
		t.Error("nothing passed")
	}
	if unsafe.Sizeof(uintptr(0)) == 8 {
		var s unix.Taskstats
		for i, got := range []uintptr{
			unsafe.Offsetof(s.Blkio_delay_total), unsafe.Offsetof(s.Swapin_delay_total), unsafe.Offsetof(s.Freepages_delay_total),
			unsafe.Offsetof(s.Thrashing_delay_total), unsafe.Offsetof(s.Compact_delay_total),
		} {
			if want := []uintptr{40, 56, 320, 336, 360}[i]; got != want {
				t.Errorf("field %d is at %d, not %d", i, got, want)
			}
		}
	}
}

func TestDelaysSince(t *testing.T) {
	got := Delays{5, 5, -1, 5, 1}.Since(Delays{2, 5, 1, -1, 2})
	if want := (Delays{3, 0, -1, -1, -1}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDelaysLive(t *testing.T) {
	const name = "/proc/sys/kernel/task_delayacct"
	if before, err := os.ReadFile(name); err == nil && before[0] == '0' {
		if err := os.WriteFile(name, []byte("1"), 0); err != nil {
			t.Skip("delay accounting is off and cannot be switched on:", err)
		}
		t.Cleanup(func() { os.WriteFile(name, before, 0) })
	}
	r, err := OpenDelays()
	if err != nil {
		t.Skip(err)
	}
	defer r.Close()
	d, err := r.Process(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	if d.Block < 0 || d.Block > time.Hour || d.Swap < 0 {
		t.Errorf("got %+v", d)
	}
	if _, err := r.Thread(os.Getpid()); err != nil {
		t.Error(err)
	}
	if _, err := r.Process(1 << 30); err == nil {
		t.Error("a process that is not there has delays")
	}
}

func FuzzParseTaskstats(f *testing.F) {
	f.Add([]byte{11, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		ParseTaskstats(data)
		attribute(attribute(data, unix.TASKSTATS_TYPE_AGGR_TGID), unix.TASKSTATS_TYPE_STATS)
	})
}
