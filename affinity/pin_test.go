//go:build linux

package affinity

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/tasks"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be a program with threads: BERTH_THREADS of
// them, named worker-N, that sleep until standard input ends. With BERTH_BIRTHS
// it goes on making that many, each living for a moment.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("BERTH_THREADS")); err == nil {
		crowd(n)
		return
	}
	os.Exit(m.Run())
}

func crowd(n int) {
	debug.SetMaxThreads(2*n + 10000)
	started := make(chan bool)
	for i := range n {
		go func() {
			runtime.LockOSThread()
			name, _ := unix.BytePtrFromString(fmt.Sprintf("worker-%d", i))
			_ = prctlName(name)
			started <- true
			select {}
		}()
		<-started
	}
	fmt.Println("ready")
	births, _ := strconv.Atoi(os.Getenv("BERTH_BIRTHS"))
	for range births {
		go func() {
			runtime.LockOSThread() // the thread ends with its goroutine
			started <- true
		}()
		<-started
	}
	if births > 0 {
		fmt.Println("born")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// program starts this test binary with so many threads and returns when they
// are there.
func program(t testing.TB, threads int, env ...string) (pid int, more *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "BERTH_THREADS="+strconv.Itoa(threads)), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	more = bufio.NewReader(out)
	if line, err := more.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the program says %q, %v", line, err)
	}
	return cmd.Process.Pid, more
}

// masks reads the kernel's word on every thread of a process.
func masks(t *testing.T, pid int) map[int]string {
	t.Helper()
	out := map[int]string{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		tid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
		out[tid], _, _ = strings.Cut(rest, "\n")
	}
	return out
}

func allOn(s cpuset.Set) func(int, int, string) cpuset.Set {
	return func(int, int, string) cpuset.Set { return s }
}

func TestPinWholeProcess(t *testing.T) {
	all := allowed(t)
	pid, _ := program(t, 10)
	p := Pinner{Seat: allOn(one(all.First()))}
	defer p.Close()
	if err := p.Process(context.Background(), pid); err != nil || len(p.Failed) > 0 {
		t.Fatal(err, p.Failed)
	}
	got := masks(t, pid)
	if len(got) < 11 || len(p.Threads) < 11 {
		t.Fatalf("%d threads there, %d seated", len(got), len(p.Threads))
	}
	for tid, mask := range got {
		if mask != one(all.First()).String() {
			t.Errorf("thread %d sits on %s", tid, mask)
		}
	}
	if r := p.Receipt(); !r.Kept || len(r.Workers) != 1 || len(r.Workers[0].Threads) < len(got) || // Go may have made one more
		!r.Workers[0].Threads[0].Set.Equal(one(all.First())) {
		t.Errorf("receipt %+v", r)
	}
}

// By name, a CPU each; what no rule names is left alone.
func TestPinByName(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	pid, _ := program(t, 6)
	next := 0
	p := Pinner{Names: true, Seat: func(_, _ int, name string) cpuset.Set {
		if !strings.HasPrefix(name, "worker-") {
			return cpuset.Set{}
		}
		next++
		if next%2 == 0 {
			return one(all.First())
		}
		return one(all.Last())
	}}
	defer p.Close()
	if err := p.Process(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for tid, mask := range masks(t, pid) {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", pid, tid))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(name), "worker-") {
			mask = "other " + mask
		}
		count[mask]++
	}
	if count[one(all.First()).String()] != 3 || count[one(all.Last()).String()] != 3 || count["other "+all.String()] == 0 || len(count) != 3 {
		t.Errorf("seats %v", count)
	}
}

// A dry run tells and changes nothing.
func TestPinDryRun(t *testing.T) {
	all := allowed(t)
	pid, _ := program(t, 3)
	p := Pinner{Seat: allOn(one(all.First())), DryRun: true}
	defer p.Close()
	if err := p.Process(context.Background(), pid); err != nil || len(p.Threads) < 4 {
		t.Fatal(err, p.Threads)
	}
	for tid, mask := range masks(t, pid) {
		if mask != all.String() {
			t.Errorf("thread %d sits on %s", tid, mask)
		}
	}
}

// Threads that are born and end while they are seated are no error, and who
// lives in the end has its seat.
func TestPinWhileThreadsAreBorn(t *testing.T) {
	all := allowed(t)
	pid, more := program(t, 2, "BERTH_BIRTHS=10000")
	p := Pinner{Seat: allOn(one(all.First()))}
	defer p.Close()
	for range 20 {
		if err := p.Process(context.Background(), pid); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := more.ReadString('\n'); err != nil || line != "born\n" {
		t.Fatalf("the program says %q, %v", line, err)
	}
	if err := p.Process(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	if len(p.Failed) > 0 {
		t.Errorf("failed: %v", p.Failed[0])
	}
	for tid, mask := range masks(t, pid) {
		if mask != one(all.First()).String() {
			t.Errorf("thread %d sits on %s", tid, mask)
		}
	}
}

func TestPinNobody(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	p := Pinner{Seat: allOn(allowed(t))}
	if err := p.Process(context.Background(), cmd.Process.Pid); !errors.Is(err, tasks.ErrGone) {
		t.Errorf("a process that has ended: %v", err)
	}
}

// A seat that the kernel trims is had as far as it goes, and told of.
func TestPinTrimmed(t *testing.T) {
	all := allowed(t)
	pid, _ := program(t, 1)
	p := Pinner{Seat: allOn(one(all.First()).Union(nowhere))}
	defer p.Close()
	if err := p.Process(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	var trim *Trimmed
	if len(p.Failed) == 0 || !errors.As(p.Failed[0], &trim) || !trim.Missing.Equal(nowhere) {
		t.Errorf("failed: %v", p.Failed)
	}
	for tid, mask := range masks(t, pid) {
		if mask != one(all.First()).String() {
			t.Errorf("thread %d sits on %s", tid, mask)
		}
	}
}

func undone(t *testing.T, name string) Undone {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, _, err := ReadUndo(f, name)
	if err != nil {
		t.Fatal(err)
	}
	return Undo(records)
}

// Threads born after the change inherit it; the undo finds them too, and
// changes nothing the second time.
func TestUndo(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	pid, more := program(t, 4, "BERTH_BIRTHS=50")
	name := filepath.Join(t.TempDir(), "state", "undo.jsonl")
	u, err := CreateUndo(name)
	if err != nil {
		t.Fatal(err)
	}
	p := Pinner{Seat: allOn(one(all.Last())), Undo: u}
	if err := p.Process(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := more.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if got := undone(t, name); got.Restored == 0 || len(got.Failed) > 0 {
		t.Errorf("%+v", got)
	}
	for tid, mask := range masks(t, pid) {
		if mask != all.String() {
			t.Errorf("thread %d still sits on %s", tid, mask)
		}
	}
	if got := undone(t, name); got.Restored != 0 || got.Same == 0 {
		t.Errorf("the second time %+v", got)
	}
	if _, err := CreateUndo(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("an undo file that is there: %v", err)
	}
}

// However many threads are born under a seat, the undo file does not grow, and
// still undoes them; a seat that nobody had before is remembered.
func TestUndoOfNewborns(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	pid, more := program(t, 2, "BERTH_BIRTHS=2000")
	name := filepath.Join(t.TempDir(), "undo")
	u, err := CreateUndo(name)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	lines := func() int {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
	seat := one(all.Last())
	p := Pinner{Undo: u, Seat: func(int, int, string) cpuset.Set { return seat }}
	defer p.Close()
	for range 10 {
		if err := p.Process(context.Background(), pid); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := more.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if got := lines(); got != 2 {
		t.Errorf("the file has %d lines, want its head and one record", got)
	}
	p.held[pid].done = nil // as if all were born now
	seat = one(all.First())
	if err := p.Process(context.Background(), pid); err != nil {
		t.Fatal(err)
	}
	if got := lines(); got != 3 {
		t.Errorf("with a seat that was not given before the file has %d lines", got)
	}
	if got := undone(t, name); len(got.Failed) > 0 {
		t.Errorf("%+v", got)
	}
	for tid, mask := range masks(t, pid) {
		if mask != all.String() {
			t.Errorf("thread %d still sits on %s", tid, mask)
		}
	}
}

func TestReadUndo(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	head := `{"schema":"berth.undo/v1","boot":"` + boot + `","written_at":"2026-01-02T03:04:05Z"}` + "\n"
	record := `{"pid":7,"start_ns":10,"at_ns":20,"seats":[{"before":"0-1","after":"0","threads":"3,7-9"}]}` + "\n"
	got, torn, err := ReadUndo(strings.NewReader(head+record+record[:20]), "x")
	if err != nil || !torn || len(got) != 1 || !slices.Equal(got[0].Seats[0].Threads, []int{3, 7, 8, 9}) {
		t.Errorf("%+v, %v, %v", got, torn, err)
	}
	for text, want := range map[string]string{
		"":                                      "not an undo file",
		"{}\n":                                  "not an undo file",
		record:                                  "not an undo file",
		head + "{\n":                            "x:2: ",
		head + `{"pid":"a"}` + "\n":             "x:2: ",
		strings.Replace(head, boot, "other", 1): "before the machine was started anew",
		head + strings.Replace(record, "7-9", "9-7", 1):       "is not a list of threads",
		head + strings.Replace(record, "7-9", "1-9999999", 1): "is not a list of threads",
		head + strings.Replace(record, "3,7-9", "", 1):        "is not a list of threads",
		// Some kilobytes that would stand for billions of threads.
		head + `{"pid":7,"seats":[` + strings.Repeat(`{"before":"0","after":"1","threads":"1-4194304"},`, 100) + `{}]}` + "\n": "more threads than a kernel can have",
		head + `{"pid":7,"seats":[]}` + "\n": "a record without seats",
	} {
		if _, _, err := ReadUndo(strings.NewReader(text), "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// What is not there any more is told of.
	if got := Undo([]UndoRecord{{PID: 1 << 22, Start: 1, Seats: []UndoSeat{{Before: one(0), After: one(1), Threads: TIDs{1 << 22}}}}}); got.GoneProcesses != 1 || got.Restored != 0 {
		t.Errorf("%+v", got)
	}
}

// The number of a process that is gone has come to another, whose children sit
// where those of the first did: they are left alone.
func TestUndoLeavesStrangers(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("it needs two CPUs")
	}
	given := one(all.First())
	var pid int
	if err := Do(given, func() { pid, _ = program(t, 1) }); err != nil {
		t.Fatal(err)
	}
	record := UndoRecord{PID: os.Getpid(), Start: 1, At: 1, Seats: []UndoSeat{{Before: all, After: given, Threads: TIDs{os.Getpid()}}}}
	if got := Undo([]UndoRecord{record}); got.GoneProcesses != 1 || got.Restored != 0 {
		t.Errorf("%+v", got)
	}
	if got, err := probe.Affinity(pid); err != nil || !got.Equal(given) {
		t.Errorf("the stranger's child sits on %s, %v", got, err)
	}
}

func TestTIDs(t *testing.T) {
	for _, ids := range []TIDs{{7}, {7, 8}, {1, 3, 4, 5, 9}, {4 << 20}} {
		text, err := ids.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back TIDs
		if err := back.UnmarshalText(text); err != nil || !slices.Equal(ids, back) {
			t.Errorf("%v is written %s and read %v, %v", ids, text, back, err)
		}
	}
}

func FuzzReadUndo(f *testing.F) {
	f.Add("{\"schema\":\"berth.undo/v1\"}\n{}\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := ReadUndo(strings.NewReader(text), "x"); err != nil && !strings.Contains(err.Error(), "x") {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}
