//go:build linux

package observe

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"berth/profiles"
)

// alike is n threads that spend their time alike, over a second.
func alike(n int, onCPU, delay float64, waits map[cause]float64) (threads []part) {
	for i := range n {
		u := use{alive: 1, onCPU: onCPU, delay: delay, ready: onCPU + delay}
		for c, x := range waits {
			u.waits[c] = x
		}
		threads = append(threads, part{i, u})
	}
	return threads
}

// with adds threads that hardly work.
func with(threads []part, idle int, onCPU float64, c cause) []part {
	for range idle {
		u := use{alive: 1, onCPU: onCPU, ready: onCPU}
		u.waits[c] = 1 - onCPU
		threads = append(threads, part{len(threads), u})
	}
	return threads
}

// sliced puts them on a CPU so many times.
func sliced(threads []part, n int64) []part {
	for i := range threads {
		threads[i].slices = n
	}
	return threads
}

type waits = map[cause]float64

var judgements = []struct {
	name string
	w    window
	f    facts
	want profiles.Class
}{
	{name: "one thread computes", w: window{threads: alike(1, 1, 0, nil)}, want: profiles.CPUBound},
	{name: "beside a hundred that sleep", w: window{threads: with(alike(1, 0.97, 0, waits{disk: 0.03}), 100, 0.0001, lock)}, want: profiles.CPUBound},
	{name: "a reader of a slow peer", w: window{threads: alike(4, 0.05, 0.01, waits{network: 0.94})}, want: profiles.IOBoundBlocking},
	{name: "waits for a timer", w: window{threads: alike(1, 0.1, 0, waits{sleep: 0.9})}, want: profiles.IOBoundBlocking},
	{name: "commits to a disk", w: window{threads: alike(1, 0.2, 0, waits{disk: 0.8})}, want: profiles.IOBoundBlocking},
	{name: "a client that is hardly ever busy", w: window{threads: alike(1, 0.005, 0, waits{network: 0.995})}, want: profiles.IOBoundBlocking},
	{name: "an event loop", w: window{threads: alike(1, 0.2, 0, waits{loop: 0.8})}, want: profiles.IOBoundAsync},
	{name: "an event loop that is full", w: window{threads: alike(1, 0.9, 0, waits{loop: 0.1})}, want: profiles.CPUBound},
	{name: "half and half", w: window{threads: alike(2, 0.5, 0, waits{network: 0.5})}, want: profiles.Mixed},
	{name: "nothing ran", w: window{threads: nil}, want: profiles.Idle},
	{name: "a timer ten times a second", w: window{threads: alike(1, 0.002, 0, waits{loop: 0.1, sleep: 0.898})}, want: profiles.Idle},
	{name: "a server without clients", w: window{threads: alike(1, 0.002, 0, waits{visitors: 0.998})}, want: profiles.Idle},
	{name: "a worker that waits for visitors and its database", w: window{threads: alike(2, 0.05, 0, waits{visitors: 0.6, network: 0.35})}, want: profiles.IOBoundBlocking},
	{name: "idle, though its peer is there", w: window{threads: alike(1, 0.0002, 0, waits{network: 0.9998})}, want: profiles.Idle},

	{name: "two Pythons fight", w: window{threads: alike(2, 0.49, 0.01, waits{interpreter: 0.5}), gilSamples: 100, gilHeld: 99}, want: profiles.GILBound},
	{name: "eight fight, and read between", w: window{threads: alike(8, 0.12, 0, waits{interpreter: 0.6, network: 0.28}), gilSamples: 100, gilHeld: 95}, want: profiles.GILBound},
	{name: "its word cannot be read", w: window{threads: alike(2, 0.49, 0.01, waits{interpreter: 0.5})}, want: profiles.GILBound},
	{name: "Python outside its lock", w: window{threads: alike(2, 0.95, 0, waits{interpreter: 0.05}), gilSamples: 100, gilHeld: 10}, want: profiles.CPUBound},
	{name: "short waits for the lock", w: window{threads: alike(4, 0.1, 0, waits{interpreter: 0.05, network: 0.85}), gilSamples: 100, gilHeld: 30}, want: profiles.IOBoundBlocking},

	{name: "a mutex", w: window{threads: alike(4, 0.24, 0, waits{lock: 0.76}), peers: 100, moving: 97}, want: profiles.LockBound},
	{name: "a mutex held over a pause", w: window{threads: alike(4, 0.005, 0, waits{lock: 0.75, sleep: 0.245}), peers: 100, moving: 99}, want: profiles.LockBound},
	{name: "the same on a fast CPU", w: window{threads: sliced(alike(8, 0.0012, 0, waits{lock: 0.86, sleep: 0.135}), 50), peers: 100, moving: 99}, want: profiles.LockBound},
	{name: "the same, hardly ever", w: window{threads: sliced(alike(8, 0.0012, 0, waits{lock: 0.86, sleep: 0.135}), 2), peers: 100, moving: 99}, want: profiles.Idle},
	{name: "a pool that waits for work", w: window{threads: alike(4, 0.05, 0, waits{lock: 0.95}), peers: 100, moving: 18}, want: profiles.CPUBound},
	{name: "a pool that waits for work and for a peer", w: window{threads: alike(4, 0.05, 0, waits{lock: 0.75, network: 0.2}), peers: 100, moving: 40}, want: profiles.IOBoundBlocking},

	{name: "a mutex, while others take two fifths of the CPUs", w: window{threads: alike(3, 0.45, 0.22, waits{lock: 0.33}), peers: 100, moving: 97, others: 0.94}, f: facts{cpus: 2}, want: profiles.LockBound},
	{name: "a barrier of more threads than CPUs", w: window{threads: alike(8, 0.25, 0.45, waits{lock: 0.3}), peers: 100, moving: 97, others: 0.02}, f: facts{cpus: 2}, want: profiles.CPUBound},
	{name: "the same of two, others unknown", w: window{threads: alike(2, 0.2, 0.55, waits{lock: 0.25}), peers: 100, moving: 97, others: -1}, f: facts{cpus: 2}, want: profiles.CPUBound},
	{name: "a row lock, awaited at a latch", w: window{threads: alike(8, 0.06, 0.02, waits{latch: 0.72, lock: 0.1, disk: 0.07, network: 0.03}), peers: 100, moving: 96}, want: profiles.LockBound},
	{name: "processes that wait for work at a latch", w: window{threads: alike(4, 0.05, 0, waits{latch: 0.95}), peers: 100, moving: 22}, want: profiles.CPUBound},
	{name: "a writer whose latch has a time-out", w: window{threads: alike(1, 0.001, 0, waits{sleep: 0.999})}, want: profiles.Idle},

	{name: "a goroutine that moves", w: window{threads: sliced(alike(2, 0.5, 0.09, waits{lock: 0.41}), 20), peers: 100, moving: 97}, f: facts{runtime: profiles.Go}, want: profiles.CPUBound},
	{name: "goroutines that contend", w: window{threads: sliced(alike(2, 0.5, 0, waits{lock: 0.5}), 9000), peers: 100, moving: 97}, f: facts{runtime: profiles.Go}, want: profiles.LockBound},

	{name: "goroutines that contend, one thread in the poller", w: window{threads: sliced(alike(4, 0.45, 0, waits{lock: 0.26, sleep: 0.29}), 9000), peers: 100, moving: 97}, f: facts{runtime: profiles.Go}, want: profiles.LockBound},
	{name: "a goroutine that pauses", w: window{threads: sliced(alike(2, 0.2, 0, waits{lock: 0.3, sleep: 0.5}), 9000), peers: 100, moving: 30}, f: facts{runtime: profiles.Go}, want: profiles.IOBoundBlocking},

	{name: "a quota of a half", w: window{threads: alike(1, 0.5, 0.5, nil), throttled: 0.5}, want: profiles.Throttled},
	{name: "the same, where throttled tasks leave the queue", w: window{threads: []part{{use: use{alive: 1, onCPU: 0.5, ready: 1}}}, throttled: 0.5}, want: profiles.Throttled},
	{name: "a quota that hardly binds", w: window{threads: alike(1, 0.97, 0.03, nil), throttled: 0.03}, want: profiles.CPUBound},
	{name: "a loop of others on its CPU", w: window{threads: alike(1, 0.5, 0.5, nil), others: 0.5}, f: facts{cpus: 1}, want: profiles.Starved},
	{name: "eight on two CPUs", w: window{threads: alike(8, 0.25, 0.75, nil), others: 0.02}, f: facts{cpus: 2}, want: profiles.CPUBound},
	{name: "eight on two CPUs, others unknown", w: window{threads: alike(8, 0.25, 0.75, nil), others: -1}, f: facts{cpus: 2}, want: profiles.CPUBound},
	{name: "a server with as much delay as work", w: window{threads: alike(1, 0.03, 0.03, waits{loop: 0.94}), others: 0.9}, f: facts{cpus: 2}, want: profiles.IOBoundAsync},
}

func TestJudge(t *testing.T) {
	for _, test := range judgements {
		test.w.to = 1
		got := judge(&test.w, &test.f)
		if got.class != test.want {
			t.Errorf("%s: %s, want %s\n%s", test.name, got.class, test.want, strings.Join(append(got.evidence, got.against...), "\n"))
		}
		s := got.split
		sum := s.onCPU + s.delay + s.throttled
		for _, x := range s.waits {
			sum += x
		}
		if got.class != profiles.Idle && math.Abs(sum-1) > 1e-9 {
			t.Errorf("%s: the shares sum to %v", test.name, sum)
		}
		if r := s.shares(); got.split != (split{}) && math.Abs(r.OnCPU+r.WaitingForCPU+r.Throttled+r.Disk+r.Network+r.Lock+r.Sleep+r.Other-1) > 1e-6 {
			t.Errorf("%s: the rounded shares do not sum to 1: %+v", test.name, r)
		}
		windows := make([]window, 20)
		for i := range windows {
			windows[i] = test.w
		}
		if c := confidence(&got, windows, &test.f); c < 0.5 || c > 1 {
			t.Errorf("%s: confidence %v from twenty windows that are alike", test.name, c)
		}
	}
}

func TestJudgeSaysWhatSpeaksAgainst(t *testing.T) {
	w := window{to: 1, threads: alike(1, 0.79, 0.15, waits{unknown: 0.06}), others: 0.4, steal: 0.05}
	got := strings.Join(judge(&w, &facts{cpus: 1}).against, "\n")
	for _, part := range []string{"waited 15 % of their time for a CPU", "steal", "not known"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing from:\n%s", part, got)
		}
	}
}

// TestConfidence: it falls towards the limits between classes, with windows that
// disagree, and with waits that are not known.
func TestConfidence(t *testing.T) {
	level := func(f facts, onCPU ...float64) float64 {
		var windows []window
		for i, x := range onCPU {
			windows = append(windows, window{from: float64(i), to: float64(i + 1), threads: alike(1, x, 0, waits{network: 1 - x})})
		}
		all := merged(windows)
		j := judge(&all, &f)
		return confidence(&j, windows, &f)
	}
	sure := level(facts{}, 0.1, 0.12, 0.09, 0.11, 0.1)
	if sure < 0.95 {
		t.Errorf("far from any limit: %v", sure)
	}
	if near := level(facts{}, 0.39, 0.36, 0.41, 0.35, 0.4); near >= sure || near < 0.4 {
		t.Errorf("near a limit: %v", near)
	}
	if wild := level(facts{}, 0.05, 0.9, 0.1, 0.3, 0.2); wild >= sure {
		t.Errorf("windows that disagree: %v", wild)
	}
	if blind := level(facts{blind: true}, 0.1, 0.12, 0.09, 0.11, 0.1); blind >= sure {
		t.Errorf("without the right to see what it waits for: %v", blind)
	}
}

func TestPhases(t *testing.T) {
	compute := window{threads: alike(1, 1, 0, nil)}
	read := window{threads: alike(1, 0.05, 0, waits{network: 0.95})}
	near := window{threads: alike(1, 0.45, 0, waits{network: 0.55})}
	nearer := window{threads: alike(1, 0.39, 0, waits{network: 0.61})}
	sequence := func(text string) []window {
		var all []window
		for i, c := range text {
			w := map[rune]window{'c': compute, 'r': read, 'n': near, 'm': nearer}[c]
			w.from, w.to = float64(i)/2, float64(i+1)/2
			all = append(all, w)
		}
		return all
	}
	tests := []struct{ windows, want string }{
		{"cccccc", ""},
		{"ccccrrrr", "c0-2 r2-4"},
		{"ccccrrrrcccc", "c0-2 r2-4 c4-6"},
		{"cccrccc", ""},
		{"rcccc", ""},
		{"nmnmnnmm", ""}, // wavering around a limit
		{"", ""},
		{"c", ""},
	}
	for _, test := range tests {
		got := ""
		for _, p := range phases(sequence(test.windows), &facts{}) {
			name := "r"
			if p.Class == profiles.CPUBound {
				name = "c"
			}
			got += " " + name + trim(p.FromS) + "-" + trim(p.ToS)
		}
		if strings.TrimSpace(got) != test.want {
			t.Errorf("%s: %q, want %q", test.windows, strings.TrimSpace(got), test.want)
		}
	}
}

func trim(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// A thread that nobody looked at waits as the others do; without others, it is
// not known for what.
func TestSharesOfUnseen(t *testing.T) {
	unseen := part{9, use{alive: 1, onCPU: 0.1}}
	for _, test := range []struct {
		threads          []part
		network, unknown float64
	}{
		{append(alike(1, 0.1, 0, waits{network: 0.9}), unseen), 0.9, 0},
		{append(alike(1, 0.1, 0, waits{network: 0.45, unknown: 0.45}), unseen), 0.45, 0.45},
		{[]part{unseen}, 0, 0.9},
	} {
		w := window{to: 1, threads: test.threads}
		s, ok := w.shares()
		if !ok || math.Abs(s.waits[network]-test.network) > 1e-9 || math.Abs(s.waits[unknown]-test.unknown) > 1e-9 || math.Abs(s.onCPU-0.1) > 1e-9 {
			t.Errorf("%+v: %+v", test, s)
		}
	}
}
