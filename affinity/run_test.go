//go:build linux

package affinity

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/probe/cpuset"
	"berth/probe/finding"

	"golang.org/x/sys/unix"
)

func shell(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

// spin keeps a CPU busy for about as many turns as a second takes.
const spin = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`

func do(t *testing.T, r *Run) *Receipt {
	t.Helper()
	got, err := r.Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func codes(r *Receipt) []string {
	var out []string
	for _, v := range r.Broken {
		if !slices.Contains(out, v.Code) {
			out = append(out, v.Code)
		}
	}
	return out
}

// kept reports that every seat was kept; that other programs of the machine
// squeezed a worker is none of the test's concern.
func kept(r *Receipt) bool {
	return !slices.ContainsFunc(r.Broken, func(v Violation) bool { return v.Code != SqueezedOut })
}

// Where each worker sat is asked of the worker itself.
func TestRunSeatsWorkers(t *testing.T) {
	all := allowed(t)
	var out []*strings.Builder
	r := &Run{Watch: true}
	for i, c := range []cpuset.CPU{all.First(), all.Last(), all.First()} {
		cmd := shell("grep ^Cpus_allowed_list: /proc/self/status")
		out = append(out, &strings.Builder{})
		cmd.Stdout = out[i]
		r.Workers = append(r.Workers, Worker{Command: cmd, Seat: Seat{Worker: i, CPUs: one(c)}})
	}
	got := do(t, r)
	for i, w := range r.Workers {
		if want := "Cpus_allowed_list:\t" + w.Seat.CPUs.String() + "\n"; out[i].String() != want {
			t.Errorf("worker %d says %q, want %q", i, out[i], want)
		}
	}
	if !kept(got) || got.Status != 0 || len(got.Workers) != 3 || got.Schema != ReceiptSchema {
		t.Errorf("%+v", got)
	}
	for i, w := range got.Workers {
		if w.Index != i || w.PID != r.Workers[i].Command.Process.Pid || *w.Exit.Code != 0 || len(w.Threads) == 0 || !w.Threads[0].Set.Equal(w.Asked) {
			t.Errorf("worker %d: %+v", i, w)
		}
	}
	if text, err := json.Marshal(got); err != nil || !strings.Contains(string(text), `"violations":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestRunStatus(t *testing.T) {
	for _, c := range []struct {
		script string
		status int
		signal string
	}{{"exit 0", 0, ""}, {"exit 7", 7, ""}, {"kill -TERM $$", 143, "SIGTERM"}, {"kill -SEGV $$", 139, "SIGSEGV"}} {
		got := do(t, &Run{Workers: []Worker{{Command: shell(c.script)}}})
		if exit := got.Workers[0].Exit; got.Status != c.status || exit.Status() != c.status || exit.Signal != c.signal {
			t.Errorf("%s: status %d, %+v", c.script, got.Status, exit)
		}
	}
	got, err := (&Run{Workers: []Worker{{Command: exec.Command("/nonexistent/program")}}}).Do(context.Background())
	if err == nil || len(got.Workers) != 0 {
		t.Errorf("a program that is not there: %v", err)
	}
}

// One failure stops the others, or does not.
func TestRunOnFailure(t *testing.T) {
	start := func(stop bool) *Receipt {
		return do(t, &Run{StopOnFailure: stop, Workers: []Worker{
			{Command: shell("exit 3")}, {Command: shell("sleep 0.3; exit 4")}, {Command: shell("trap '' TERM; sleep 0.2")},
		}, Grace: time.Second})
	}
	if got := start(false); got.Status != 3 || got.Workers[1].Exit.Status() != 4 || got.Workers[2].Exit.Status() != 0 {
		t.Errorf("going on: %d, %+v", got.Status, got.Workers)
	}
	if got := start(true); got.Status != 3 || got.Workers[1].Exit.Signal != "SIGTERM" {
		t.Errorf("stopping: %d, %+v", got.Status, got.Workers)
	}
}

// The end of the context ends the workers, stopped and stubborn ones too.
func TestRunCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	r := &Run{Grace: 100 * time.Millisecond, Workers: []Worker{
		{Command: shell("exec sleep 60")}, {Command: shell("trap '' TERM; while :; do sleep 0.01; done")}, {Command: shell("kill -STOP $$; exec sleep 60")},
	}}
	got, err := r.Do(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the run ends with %v", err)
	}
	for i, want := range []string{"SIGTERM", "SIGKILL", "SIGTERM"} {
		if got.Workers[i].Exit.Signal != want {
			t.Errorf("worker %d: %+v, want %s", i, got.Workers[i].Exit, want)
		}
	}
}

func TestRunPassesSignals(t *testing.T) {
	signals := make(chan os.Signal, 1)
	time.AfterFunc(200*time.Millisecond, func() { signals <- unix.SIGUSR1 })
	got := do(t, &Run{Signals: signals, Workers: []Worker{{Command: shell("trap 'exit 9' USR1; while :; do sleep 0.01; done")}}})
	if got.Status != 9 {
		t.Errorf("status %d", got.Status)
	}
}

// A seat that cannot be had in full is told of, and with Strict ends the run.
func TestRunTrimmed(t *testing.T) {
	wide := allowed(t).Union(nowhere)
	got := do(t, &Run{Workers: []Worker{{Command: shell("exit 0"), Seat: Seat{CPUs: wide}}}})
	if got.Kept || !slices.Equal(codes(got), []string{SeatTrimmed}) {
		t.Errorf("%+v", got.Broken)
	}
	got, err := (&Run{Strict: true, Workers: []Worker{{Command: shell("exec sleep 60"), Seat: Seat{CPUs: wide}}}}).Do(context.Background())
	if err == nil || got.Kept || got.Workers[0].Exit.Signal != "SIGKILL" {
		t.Errorf("strict: %v, %+v", err, got)
	}
	if _, err := (&Run{Workers: []Worker{{Command: shell("exit 0"), Seat: Seat{CPUs: nowhere}}}}).Do(context.Background()); err == nil {
		t.Error("a seat of which nothing can be had is no error")
	}
}

// Another program moves a worker off its seat.
func TestRunMoved(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	cmd := shell("taskset -cp " + one(all.Last()).String() + " $$ >/dev/null; " + spin)
	got := do(t, &Run{Watch: true, Workers: []Worker{{Command: cmd, Seat: Seat{CPUs: one(all.First())}}}})
	if got.Kept || !slices.Contains(codes(got), SeatMoved) {
		t.Errorf("%+v", got.Broken)
	}
	want := "was to sit on " + one(all.First()).String() + " and sits on " + one(all.Last()).String()
	if !slices.ContainsFunc(got.Broken, func(v Violation) bool { return strings.Contains(v.Message, want) }) {
		t.Errorf("nothing %s: %+v", want, got.Broken)
	}
}

// Four busy workers on one CPU: the receipt shows that they took turns. That
// they are squeezed by each other is no violation: it is what was asked for.
func TestRunOversubscribed(t *testing.T) {
	c := one(allowed(t).First())
	r := &Run{Watch: true}
	for i := range 4 {
		r.Workers = append(r.Workers, Worker{Command: shell(spin), Seat: Seat{Worker: i, CPUs: c}})
	}
	got := do(t, r)
	i := slices.IndexFunc(got.Finding, func(f finding.Finding) bool { return f.Code == "oversubscribed" })
	if i < 0 || !strings.Contains(got.Finding[i].Evidence[0], "4 busy threads on CPU "+c.String()) {
		t.Errorf("findings %+v", got.Finding)
	}
	for _, w := range got.Workers {
		if t0 := w.Threads[0]; t0.RunDelayMS == nil || *t0.RunDelayMS < *t0.OnCPUMS {
			t.Errorf("worker %d ran for %v ms and waited for %v", w.Index, *t0.OnCPUMS, *t0.RunDelayMS)
		}
	}
}

// A program beside it takes a worker's CPU.
func TestRunSqueezed(t *testing.T) {
	c := one(allowed(t).First())
	beside := exec.Command("taskset", "-c", c.String(), "sh", "-c", "while :; do :; done")
	if err := beside.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = beside.Process.Kill()
		_ = beside.Wait()
	}()
	got := do(t, &Run{Watch: true, Workers: []Worker{{Command: shell(spin + ";" + spin), Seat: Seat{CPUs: c}}}})
	if got.Kept || !slices.Contains(codes(got), SqueezedOut) {
		t.Errorf("%+v", got)
	}
}

// Threads get seats of their own in the order of their birth.
func TestRunEach(t *testing.T) {
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("needs two CPUs")
	}
	cmd := exec.Command("python3", "-c", `
import threading, time
def show():
    time.sleep(0.5)
    for line in open("/proc/thread-self/status"):
        if line.startswith("Cpus_allowed_list"): print(n.index(threading.current_thread()), line.split()[1], flush=True)
n = [threading.Thread(target=show) for _ in range(3)]
for t in n: t.start(); time.sleep(0.05)
for t in n: t.join()
`)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	var out strings.Builder
	cmd.Stdout = &out
	first, last := one(all.First()), one(all.Last())
	w := Worker{Command: cmd, Seat: Seat{CPUs: first.Union(last)}}
	for i, s := range []cpuset.Set{first, last, first, last} {
		w.Threads = append(w.Threads, Seat{Thread: &i, CPUs: s})
	}
	got := do(t, &Run{Watch: true, Workers: []Worker{w}})
	if !got.Each || !kept(got) {
		t.Errorf("each %v, kept %v: %+v", got.Each, got.Kept, got.Broken)
	}
	for i, s := range []cpuset.Set{last, first, last} { // after the first thread, Python's own
		if want := strconv.Itoa(i) + " " + s.String() + "\n"; !strings.Contains(out.String(), want) {
			t.Errorf("the threads say %q, want %q among it", out.String(), want)
		}
	}
}
