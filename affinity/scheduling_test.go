//go:build linux

package affinity

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestScheduling(t *testing.T) {
	for _, text := range []string{"batch", "idle", "other"} {
		onThread(func() {
			s, err := ParseClass(text)
			if err != nil {
				t.Fatal(err)
			}
			before, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Fatal(err)
			}
			nice := before.Nice // of the test itself
			if text != "idle" {
				nice = min(19, nice+7)
				s.Nice = new(int(nice))
			}
			if err := SetScheduling(0, s); err != nil {
				t.Error(err)
			}
			got, err := unix.SchedGetAttr(0, 0)
			if err != nil || got.Policy != classes[text] || got.Nice != nice {
				t.Errorf("%s: %+v, %v", text, got, err)
			}
			if err := SetScheduling(0, Scheduling{Class: "idle", Nice: new(3)}); err == nil || !strings.Contains(err.Error(), "other and batch only") {
				t.Errorf("nice in the class idle: %v", err)
			}
		})
	}
	onThread(func() {
		s, err := ParseClass("fifo:3")
		if err != nil {
			t.Fatal(err)
		}
		err = SetScheduling(0, s)
		got, _ := unix.SchedGetAttr(0, 0)
		if err == nil && (got.Policy != unix.SCHED_FIFO || got.Priority != 3) || err != nil && !strings.Contains(err.Error(), "CAP_SYS_NICE") {
			t.Errorf("%+v, %v", got, err)
		}
	})
	for text, want := range map[string]string{"": "is one of other", "fifo": "take a priority", "batch:3": "take a priority", "rr:0": "from 1 to 99", "rr:100": "from 1 to 99", "deadline": "is one of"} {
		if _, err := ParseClass(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseClass(f *testing.F) {
	for _, text := range []string{"other", "batch", "idle", "fifo:1", "rr:99", "rr:100", "fifo:+7", "fifo", "idle:1", "rr:", ":"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseClass(text)
		if err != nil {
			return
		}
		if _, known := classes[s.Class]; !known || s.Nice != nil || (s.Priority > 0) != (s.Class == "fifo" || s.Class == "rr") || s.Priority < 0 || s.Priority > 99 {
			t.Fatalf("%q is %+v", text, s)
		}
	})
}
