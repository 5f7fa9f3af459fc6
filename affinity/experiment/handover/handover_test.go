//go:build linux

package handover

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
)

// TestMain lets the test binary be the other process: BERTH_HALF holds the
// trials that it takes part in, which it answers line by line.
func TestMain(m *testing.M) {
	if text := os.Getenv("BERTH_HALF"); text != "" {
		os.Exit(other(text))
	}
	os.Exit(m.Run())
}

type trial struct {
	Means  Means
	First  bool
	Seat   cpuset.Set
	Rounds int
	Times  int
}

func other(text string) int {
	var t trial
	err := json.Unmarshal([]byte(text), &t)
	var sh *Shared
	if err == nil {
		sh, err = OpenShared(3)
	}
	fmt.Println("ready")
	for range t.Times {
		if err != nil {
			break
		}
		var r Result
		if r, err = Half(t.Means, t.First, sh, t.Seat, t.Rounds); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// start runs the other process; its answers come from out.
func start(t *testing.T, sh *Shared, job trial) (cmd *exec.Cmd, out *bufio.Scanner) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "BERTH_HALF="+string(text))
	cmd.ExtraFiles = sh.Files()
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	out = bufio.NewScanner(pipe)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("the other process says %q, %v", out.Text(), out.Err())
	}
	return cmd, out
}

func shared(t *testing.T) *Shared {
	t.Helper()
	sh, err := NewShared()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sh.Close(); err != nil {
			t.Error(err)
		}
	})
	return sh
}

func allowed(t testing.TB) cpuset.Set {
	t.Helper()
	set, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

type seating struct {
	name  string
	seats [2]cpuset.Set
}

// seatings are one CPU, two where there are two, and none.
func seatings(t testing.TB) []seating {
	all := allowed(t)
	one, last := cpuset.Of(all.First()), cpuset.Of(all.Last())
	s := []seating{{"one CPU", [2]cpuset.Set{one, one}}, {"unpinned", [2]cpuset.Set{}}}
	if all.Len() > 1 {
		s = append(s, seating{"two CPUs", [2]cpuset.Set{one, last}}, seating{"one pinned", [2]cpuset.Set{last, {}}})
	}
	return s
}

// twoCPUs are the first and the last.
func twoCPUs(t *testing.T) (a, b int) {
	t.Helper()
	all := allowed(t)
	if all.Len() < 2 {
		t.Skip("this process may use one CPU only")
	}
	return int(all.First()), int(all.Last())
}

// unchanged fails the test if a call leaves anything behind.
func unchanged(t *testing.T, call func()) {
	t.Helper()
	mask := func() map[string]bool {
		files, err := filepath.Glob("/proc/self/task/*/status")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]bool{}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
				line, _, _ := strings.Cut(rest, "\n")
				m[line] = true
			}
		}
		return m
	}
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	procs, routines, masks, fds := runtime.GOMAXPROCS(0), runtime.NumGoroutine(), mask(), descriptors()
	call()
	after := debug.SetGCPercent(percent)
	if after != percent || runtime.GOMAXPROCS(0) != procs {
		t.Errorf("GC percent is %d, was %d; GOMAXPROCS is %d, was %d", after, percent, runtime.GOMAXPROCS(0), procs)
	}
	for m := range mask() {
		if !masks[m] {
			t.Errorf("a thread sits on %s now", m)
		}
	}
	if n := descriptors(); n > fds {
		t.Errorf("%d descriptors are open, were %d", n, fds)
	}
	for range 100 { // a goroutine that is done may not have ended yet
		if runtime.NumGoroutine() <= routines {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("there are %d goroutines, were %d", runtime.NumGoroutine(), routines)
}

func check(t *testing.T, r Result, rounds int, seats ...cpuset.Set) {
	t.Helper()
	if r.Rounds != rounds || !(r.OneWay > 0) || r.Elapsed <= 0 {
		t.Errorf("%+v", r)
	}
	for i, seat := range seats {
		if seat.IsEmpty() {
			seat = allowed(t)
		}
		if r.RanOn[i].IsEmpty() || !r.RanOn[i].SubsetOf(seat) {
			t.Errorf("side %d of seat %s was seen on %q", i, seat, r.RanOn[i])
		}
	}
}

func sum(s ...Switches) (n int64) {
	for _, s := range s {
		n += s.Voluntary + s.Involuntary
	}
	return n
}

func TestThreads(t *testing.T) {
	const rounds = 500
	for _, m := range []Means{Futex, Pipe, Channel} {
		for _, s := range seatings(t) {
			t.Run(fmt.Sprintf("%s, %s", m, s.name), func(t *testing.T) {
				unchanged(t, func() {
					r, err := Threads(m, s.seats, rounds)
					if err != nil {
						t.Fatal(err)
					}
					check(t, r, rounds, s.seats[0], s.seats[1])
					for i, seat := range s.seats {
						plain := m == Channel && seat.IsEmpty()
						if known := r.OnCPU[i] > 0 && r.Switches[i].Voluntary >= 0; known == plain {
							t.Errorf("side %d: %v on CPU, %+v", i, r.OnCPU[i], r.Switches[i])
						}
					}
					// On one CPU each turn takes a switch, whoever asks for it.
					if n := sum(r.Switches[:]...); s.name == "one CPU" && n < 2*rounds-2 {
						t.Errorf("%d switches in %d round trips on one CPU", n, rounds)
					}
				})
			})
		}
	}
}

func TestPingPong(t *testing.T) {
	a, b := twoCPUs(t)
	for _, rounds := range []int{1, 4096, 10_000} {
		unchanged(t, func() {
			r, err := PingPong(a, b, rounds)
			if err != nil {
				t.Fatal(err)
			}
			check(t, r, rounds, cpuset.Of(cpuset.CPU(a)), cpuset.Of(cpuset.CPU(b)))
		})
	}
}

func TestYield(t *testing.T) {
	cpu := allowed(t).First()
	for _, size := range []int{0, 32 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			unchanged(t, func() {
				rounds := 200
				with, alone, err := Yield(int(cpu), size, rounds)
				if err != nil {
					t.Fatal(err)
				}
				check(t, alone, rounds, cpuset.Of(cpu))
				check(t, with, with.Rounds, cpuset.Of(cpu), cpuset.Of(cpu))
				if with.Rounds < rounds || sum(with.Switches[:]...) < 1 || !alone.RanOn[1].IsEmpty() {
					t.Errorf("with %+v, alone %+v", with, alone)
				}
			})
		})
	}
}

func TestHalf(t *testing.T) {
	const rounds, times = 500, 3
	for _, m := range []Means{Futex, Pipe} {
		for i, s := range seatings(t) {
			t.Run(fmt.Sprintf("%s, %s", m, s.name), func(t *testing.T) {
				sh := shared(t)
				first := i%2 == 0
				mine, theirs := s.seats[0], s.seats[1]
				_, out := start(t, sh, trial{m, !first, theirs, rounds, times})
				unchanged(t, func() {
					for range times {
						r, err := Half(m, first, sh, mine, rounds)
						if err != nil {
							t.Fatal(err)
						}
						check(t, r, rounds, mine)
						var o Result
						if !out.Scan() {
							t.Fatal(out.Err())
						}
						if err := json.Unmarshal(out.Bytes(), &o); err != nil {
							t.Fatalf("%s: %v", out.Text(), err)
						}
						check(t, o, rounds, theirs)
						if n := sum(r.Switches[0], o.Switches[0]); s.name == "one CPU" && n < 2*rounds-2 {
							t.Errorf("%d switches in %d round trips on one CPU", n, rounds)
						}
					}
				})
			})
		}
	}
}

func TestPartnerKilled(t *testing.T) {
	for _, m := range []Means{Futex, Pipe} {
		t.Run(string(m), func(t *testing.T) {
			sh := shared(t)
			cmd, _ := start(t, sh, trial{m, false, cpuset.Set{}, maxRounds, 1})
			unchanged(t, func() {
				time.AfterFunc(100*time.Millisecond, func() { _ = cmd.Process.Kill() })
				_, err := Half(m, true, sh, cpuset.Set{}, maxRounds)
				if err == nil || !strings.Contains(err.Error(), "ended") && !strings.Contains(err.Error(), "stopped") { // before Linux 5.3
					t.Error(err)
				}
			})
			if _, err := Half(m, true, sh, cpuset.Set{}, 1); err == nil {
				t.Error("the Shared serves on")
			}
		})
	}
}

// hurry shortens the patience; the trials of a test that does so have no other
// beside them.
func hurry(t *testing.T) {
	before := patience
	patience = 400 * time.Millisecond
	t.Cleanup(func() { patience = before })
}

func TestPartnerStopped(t *testing.T) {
	hurry(t)
	for _, m := range []Means{Futex, Pipe} {
		sh := shared(t)
		cmd, out := start(t, sh, trial{m, true, cpuset.Set{}, maxRounds, 1})
		time.AfterFunc(50*time.Millisecond, func() { _ = cmd.Process.Signal(unix.SIGSTOP) })
		_, err := Half(m, false, sh, cpuset.Set{}, maxRounds)
		if err == nil || !strings.Contains(err.Error(), "stopped") {
			t.Error(err)
		}
		if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if out.Scan(); !strings.Contains(out.Text(), "no turn") {
			t.Errorf("%s: the other process says %q", m, out.Text())
		}
	}
}

func TestPartnerAbsent(t *testing.T) {
	hurry(t)
	sh := shared(t)
	unchanged(t, func() {
		_, err := Half(Pipe, true, sh, cpuset.Set{}, 1)
		if err == nil || !strings.Contains(err.Error(), "never started") {
			t.Error(err)
		}
	})
}

// A side without a seat must not leave the other one waiting.
func TestPartnerWithoutSeat(t *testing.T) {
	none := cpuset.Of(cpuset.Limit - 1)
	for _, m := range []Means{Futex, Pipe, Channel} {
		for i := range 2 {
			unchanged(t, func() {
				seats := [2]cpuset.Set{}
				seats[i] = none
				_, err := Threads(m, seats, 1000)
				if trimmed := new(affinity.Trimmed); !errors.As(err, &trimmed) {
					t.Errorf("%s, side %d: %v", m, i, err)
				}
			})
		}
	}
	sh := shared(t)
	_, out := start(t, sh, trial{Futex, true, none, 1000, 1})
	if _, err := Half(Futex, false, sh, cpuset.Set{}, 1000); !errors.Is(err, errGivenUp) && !errors.Is(err, errEnded) {
		t.Error(err)
	}
	if out.Scan(); !strings.Contains(out.Text(), "not in this machine") {
		t.Errorf("the other process says %q", out.Text())
	}
}

// Nothing may be stopped for ever when the world is to stop during a trial.
func TestStopTheWorld(t *testing.T) {
	over := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer collector.Wait()
	defer close(over)
	for _, s := range seatings(t) {
		for _, m := range []Means{Futex, Pipe, Channel} {
			if _, err := Threads(m, s.seats, 100); err != nil {
				t.Error(err)
			}
		}
	}
	if _, _, err := Yield(int(allowed(t).First()), 0, 100); err != nil {
		t.Error(err)
	}
	if all := allowed(t); all.Len() > 1 {
		if _, err := PingPong(int(all.First()), int(all.Last()), 5000); err != nil {
			t.Error(err)
		}
	}
}

func TestConcurrentCalls(t *testing.T) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Threads(Futex, [2]cpuset.Set{}, 200); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// One P must do: the loops hold on to theirs.
func TestOneProc(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, m := range []Means{Futex, Pipe, Channel} {
		for _, s := range seatings(t) {
			unchanged(t, func() {
				if _, err := Threads(m, s.seats, 200); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestBadInput(t *testing.T) {
	seat := cpuset.Of(allowed(t).First())
	on := int(seat.First())
	threads := func(m Means, rounds int) error { _, err := Threads(m, [2]cpuset.Set{seat, seat}, rounds); return err }
	bounce := func(a, b, rounds int) error { _, err := PingPong(a, b, rounds); return err }
	yields := func(cpu, size, rounds int) error { _, _, err := Yield(cpu, size, rounds); return err }
	halves := func(m Means, rounds int) error { _, err := Half(m, true, shared(t), seat, rounds); return err }
	for _, c := range []struct {
		err  error
		want string
	}{
		{threads("smoke", 1), `by "smoke": the means are futex, pipe and channel`},
		{threads(Pipe, 0), "0 rounds"},
		{threads(Pipe, maxRounds+1), "rounds: there can be"},
		{bounce(on, on, 1), "takes two CPUs"},
		{bounce(on, -1, 1), "no CPU -1"},
		{bounce(on, cpuset.Limit-1, 1), "not in this machine"},
		{bounce(on, cpuset.Limit, 1), "no CPU 65536"},
		{bounce(on, on+1, -1), "-1 rounds"},
		{yields(-1, 0, 1), "no such CPU"},
		{yields(cpuset.Limit-1, 0, 1), "not in this machine"},
		{yields(on, -1, 1), "working set of -1 bytes"},
		{yields(on, maxWorkingSet+1, 1), "working set of"},
		{yields(on, 0, 0), "0 rounds"},
		{halves(Channel, 1), "does not reach other processes"},
		{halves("", 1), `by ""`},
		{halves(Futex, 0), "0 rounds"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v, want %q", c.err, c.want)
		}
	}
}

func TestOpenShared(t *testing.T) {
	if _, err := OpenShared(1 << 20); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := OpenShared(int(f.Fd())); err == nil || !strings.Contains(err.Error(), "not that of a handover.Shared") {
		t.Error(err)
	}
	sh := shared(t)
	if n := len(sh.Files()); n != Files {
		t.Errorf("%d files", n)
	}
	if err := sh.Close(); err != nil {
		t.Error(err)
	}
	if err := sh.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}
