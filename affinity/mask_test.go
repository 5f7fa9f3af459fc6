//go:build linux

package affinity

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"berth/probe"
	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// The first thread cannot end, so that a test that spoils it would spoil it for
// all: the main goroutine keeps it.
func init() { runtime.LockOSThread() }

// status reads a field of a /proc/…/status: the kernel's word, not ours.
func status(t *testing.T, path, field string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no %s", path, field)
	return ""
}

// onThread runs f on a thread that ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func allowed(t *testing.T) cpuset.Set {
	t.Helper()
	set, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func one(c cpuset.CPU) cpuset.Set { return cpuset.Range(c, c) }

// nowhere is a CPU that no machine has.
var nowhere = one(cpuset.Limit - 1)

func TestSet(t *testing.T) {
	all := allowed(t)
	onThread(func() {
		for c := range all.All() {
			got, err := Set(0, one(c))
			if err != nil || !got.Equal(one(c)) {
				t.Errorf("CPU %d: %v, %v", c, got, err)
			}
			if kernel := status(t, "/proc/thread-self/status", "Cpus_allowed_list"); kernel != strconv.Itoa(int(c)) {
				t.Errorf("CPU %d: the kernel says %s", c, kernel)
			}
		}
	})
}

// The kernel trims in silence; Set does not.
func TestSetTrimmed(t *testing.T) {
	all := allowed(t)
	onThread(func() {
		var trim *Trimmed
		got, err := Set(0, one(all.First()).Union(nowhere))
		if !errors.As(err, &trim) || !got.Equal(one(all.First())) || !trim.Missing.Equal(nowhere) {
			t.Fatalf("%v, %v", got, err)
		}
		if want := "the kernel gave " + got.String() + " (CPU 65535 is not in this machine)"; !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
		got, err = Set(0, nowhere)
		if !errors.As(err, &trim) || !got.IsEmpty() || !strings.Contains(err.Error(), "no CPU is left, and nothing was changed") {
			t.Errorf("%v, %v", got, err)
		}
		if now := allowed(t); !now.Equal(one(all.First())) {
			t.Errorf("a seat that cannot be had moved the thread to %s", now)
		}
	})
	if _, err := Set(0, cpuset.Set{}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty set: %v", err)
	}
	if _, err := Set(1<<22+1, all); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a thread that is not there: %v", err)
	}
}

func TestDo(t *testing.T) {
	all := allowed(t)
	var tid int
	if err := Do(one(all.Last()), func() {
		tid = unix.Gettid()
		if got := status(t, "/proc/thread-self/status", "Cpus_allowed_list"); got != one(all.Last()).String() {
			t.Errorf("f runs on %s", got)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if after := allowed(t); !after.Equal(all) {
		t.Errorf("the caller's thread has %s after, %s before", after, all)
	}
	if text, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(tid) + "/status"); err == nil && !strings.Contains(string(text), "Cpus_allowed_list:\t"+all.String()+"\n") {
		t.Errorf("the thread went back to the pool as\n%s", text)
	}
	ran := false
	var trim *Trimmed
	if err := Do(nowhere, func() { ran = true }); !errors.As(err, &trim) || ran {
		t.Errorf("a CPU that is not there: ran %v, %v", ran, err)
	}
	func() {
		defer func() {
			if r := recover(); r != "thrown" {
				t.Errorf("the panic came back as %v", r)
			}
		}()
		_ = Do(one(all.First()), func() { panic("thrown") })
	}()
	exited := make(chan bool)
	go func() {
		defer close(exited)
		_ = Do(one(all.First()), runtime.Goexit)
		exited <- true
	}()
	if <-exited {
		t.Error("Goexit in f did not end the caller")
	}
}

// No thread of the pool keeps a mask, however f ends.
func TestDoLeavesNoTrace(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	for range 50 {
		done := make(chan error)
		for range 4 {
			go func() { done <- Do(one(all.First()), func() {}) }()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err == nil && !strings.Contains(string(text), "Cpus_allowed_list:\t"+all.String()+"\n") {
			t.Errorf("thread %s still sits elsewhere:\n%s", task.Name(), text)
		}
	}
}

func prctlName(name *byte) error {
	return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
}
