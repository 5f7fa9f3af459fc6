//go:build linux

package kernel

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	want := []string{"integer", "float", "memory-latency", "memory-bandwidth", "branchy", "service", "syscall"}
	if got := Names(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, name := range want {
		if Describe(name) == "" || Unit(name) == "" {
			t.Errorf("%s: described as %q in %q", name, Describe(name), Unit(name))
		}
	}
	if Describe("x") != "" || Unit("x") != "" {
		t.Errorf("x: described as %q in %q", Describe("x"), Unit("x"))
	}
}

func testConfig() Config {
	c := Config{Chase: pattern(1<<20, 1), Stream: make([]byte, 3<<20+1)[1:], Rounds: 100, Wait: time.Microsecond}
	FillChase(c.Chase)
	return c
}

func TestWork(t *testing.T) {
	want := map[string]float64{
		"integer": 20_000 * 16, "float": 20_000 * 2 * float64(best().lanes), "memory-latency": 256,
		"memory-bandwidth": 32768 * 24, "branchy": 400 * 32, "service": 1, "syscall": 512,
	}
	c := testConfig()
	for _, name := range Names() {
		work, err := New(name, c)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := work(); got != want[name] {
				t.Errorf("%s: got %v %s, want %v", name, got, Unit(name), want[name])
			}
		}
		if n := testing.AllocsPerRun(5, func() { work() }); n > 0 {
			t.Errorf("%s: allocates %v times", name, n)
		}
	}
}

func TestWorkersShareTheChase(t *testing.T) {
	c := testConfig()
	var all sync.WaitGroup
	for i := range 4 {
		c.Start = uint64(i) * 12345678901
		work, err := New("memory-latency", c)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for range 10 {
				work()
			}
		})
	}
	all.Wait()
}

func TestBandwidthGoesThroughAll(t *testing.T) {
	for _, size := range []int{320, 4096, 2_000_000} {
		memory := make([]byte, size+64)
		work, err := New("memory-bandwidth", Config{Stream: memory[3:][:size]})
		if err != nil {
			t.Fatal(err)
		}
		a, b, c, err := threeArrays(memory[3:][:size])
		if err != nil {
			t.Fatal(err)
		}
		if len(a) < (size-64)/24-8 || len(b) != len(a) || len(c) != len(a) {
			t.Fatalf("%d bytes: arrays of %d, %d and %d", size, len(a), len(b), len(c))
		}
		for i := range a {
			b[i], c[i] = float64(i), 1
		}
		for pass := range 2 {
			for done := 0.0; done < float64(24*len(a)); {
				done += work()
			}
			for i, got := range a {
				if want := float64(i) + 3; got != want {
					t.Fatalf("%d bytes, pass %d: got a[%d] = %v, want %v", size, pass, i, got, want)
				}
			}
			clear(a)
		}
	}
}

func TestServiceComputesThenWaits(t *testing.T) {
	var waited []time.Duration
	sleep := func(d time.Duration) { waited = append(waited, d) }
	for _, c := range []struct {
		config Config
		want   time.Duration
	}{
		{Config{Sleep: sleep, Rounds: 10}, time.Millisecond},
		{Config{Sleep: sleep, Compute: time.Microsecond, Wait: 7}, 7},
		{Config{Sleep: sleep}, time.Millisecond},
	} {
		work, err := New("service", c.config)
		if err != nil {
			t.Fatal(err)
		}
		waited = nil
		for range 3 {
			work()
		}
		if want := []time.Duration{c.want, c.want, c.want}; !slices.Equal(waited, want) {
			t.Errorf("%+v: waited %v, want %v", c.config.Compute, waited, want)
		}
	}
}

func TestRounds(t *testing.T) {
	if got := Rounds(0); got != 1 {
		t.Errorf("no time: got %d rounds, want one", got)
	}
	if got := Rounds(time.Second); got < 1000 {
		t.Errorf("a second: got %d rounds", got)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"intger", Config{}, `kernel "intger"`},
		{"memory-latency", Config{}, "kernel memory-latency: its memory has 0 bytes"},
		{"memory-latency", Config{Chase: make([]byte, 4096)}, "FillChase"},
		{"memory-bandwidth", Config{}, "kernel memory-bandwidth: its memory has 0 bytes"},
		{"memory-bandwidth", Config{Stream: make([]byte, 191)}, "has 191 bytes"},
		{"service", Config{Wait: -1}, "below zero"},
	} {
		_, err := New(c.name, c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// A generator that got stuck would make all branches alike.
func TestBranchesVary(t *testing.T) {
	x := uint64(1)
	seen := map[uint64]bool{}
	for range 1000 {
		x, _ = branchy(x, 1)
		seen[x] = true
	}
	if len(seen) != 1000 {
		t.Errorf("got %d states of 1000", len(seen))
	}
}
