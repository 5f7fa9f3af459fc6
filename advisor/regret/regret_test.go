//go:build lab

package regret

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if name := os.Getenv("REGRET_METER"); name != "" {
		if err := meterOne(name); err != nil {
			fmt.Fprintln(os.Stderr, "meter:", err)
			os.Exit(1)
		}
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-signals; close(interrupted) }()
	os.Exit(m.Run())
}

// interrupted is closed at a signal: what runs is ended and removed then.
var interrupted = make(chan struct{})

func isInterrupted() bool {
	select {
	case <-interrupted:
		return true
	default:
		return false
	}
}

// meterOne runs a program, with the count in the first argument, until SIGTERM,
// and then prints its rate.
func meterOne(name string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	stop := make(chan struct{})
	go func() { <-signals; close(stop) }()
	l := &lab{}
	if err := json.Unmarshal([]byte(os.Getenv("REGRET_LAB")), l); err != nil {
		return fmt.Errorf("REGRET_LAB: %w", err)
	}
	warm, err := time.ParseDuration(os.Getenv("WARM"))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	i := slices.IndexFunc(programs, func(p program) bool { return p.name == name })
	if i < 0 {
		return fmt.Errorf("there is no program %s", name)
	}
	p := programs[i]
	p.quota = 0 // it is around the meter
	r, err := l.start(&p, n)
	if err != nil {
		return err
	}
	defer r.stop()
	from, err := r.begin(warm, stop)
	if err != nil {
		return err
	}
	select {
	case <-stop:
	case <-r.ended:
	}
	to, err := r.look()
	if err != nil {
		return err
	}
	rate, err := r.between(from, to)
	if err != nil {
		return err
	}
	fmt.Printf("rate %g\n", rate)
	return nil
}

// settings are those of the environment.
type settings struct {
	window, warm, limit, observe, tune time.Duration // tune 0: off
	repeats                            int
	quick                              bool
	grid                               []int
	raw                                string
}

func readSettings(t *testing.T) *settings {
	s := &settings{quick: os.Getenv("QUICK") == "1", raw: os.Getenv("RAW")}
	duration := func(name string, usual, quick time.Duration) time.Duration {
		if s.quick {
			usual = quick
		}
		text := os.Getenv(name)
		if text == "" {
			return usual
		}
		if text == "off" {
			return 0
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			t.Fatalf("%s=%s is not a duration, such as 1.5s", name, text)
		}
		return d
	}
	s.window = duration("WINDOW", 700*time.Millisecond, 700*time.Millisecond)
	s.warm = duration("WARM", 300*time.Millisecond, 200*time.Millisecond)
	s.limit = duration("LIMIT", time.Minute, time.Minute)
	s.observe = duration("OBSERVE", 10*time.Second, 2*time.Second)
	s.tune = duration("TUNE", time.Minute, 0)
	s.repeats, s.grid = 10, []int{1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, most}
	if s.quick {
		s.repeats, s.grid = 3, []int{1, 2, 4, 8, 16, most}
	}
	if text := os.Getenv("COUNTS"); text != "" {
		s.grid = nil
		for _, word := range strings.Split(text, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 || n > most {
				t.Fatalf("COUNTS=%s: %q is no count from 1 to %d", text, word, most)
			}
			s.grid = append(s.grid, n)
		}
	}
	if text := os.Getenv("REPEATS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 {
			t.Fatalf("REPEATS=%s: at least 2 are needed, to choose in one and read in the other", text)
		}
		s.repeats = n
	}
	return s
}

// look is one of the looks, as it goes into the file RAW.
type look struct {
	Program    string  `json:"program"`
	N          int     `json:"n"`
	Round      int     `json:"round"`
	Rate       float64 `json:"units_per_s,omitempty"`
	ServicePct float64 `json:"service_pct"` // of one CPU
	OthersPct  float64 `json:"others_pct"`  // of all CPUs: what had no part in it
	Error      string  `json:"error,omitempty"`
}

// result is what the lab found of one program.
type result struct {
	Program   string             `json:"program"`
	Unit      string             `json:"unit"`
	Best      int                `json:"best"`
	Rate      float64            `json:"best_units_per_s"`
	Counts    map[string]int     `json:"counts"`     // by rule
	RegretPct map[string]float64 `json:"regret_pct"` // by rule
	Class     string             `json:"class,omitempty"`
	Runtime   string             `json:"runtime,omitempty"`
	CPUMS     *float64           `json:"cpu_ms,omitempty"`
	WaitMS    *float64           `json:"wait_ms,omitempty"`
	NativeMS  *float64           `json:"native_ms,omitempty"`
	OnCPU     *float64           `json:"utilisation,omitempty"`
	Service   float64            `json:"service_pct"` // at the best count
	Others    float64            `json:"others_pct"`  // median of all looks
	Seconds   float64            `json:"seconds"`
	Looks     []look             `json:"looks"`
	Notes     []string           `json:"notes,omitempty"`
}

// The rules, in the order of the table.
const (
	advised = "advised"
	tuned   = "tuned"
	goetz   = "nproc·(1+W/C)"
)

func rulesOfThumb(nproc int) map[string]int {
	return map[string]int{"nproc": nproc, "nproc+1": nproc + 1, "2·nproc+1": 2*nproc + 1, "min(32, nproc+4)": min(32, nproc+4)}
}

var ruleOrder = []string{advised, tuned, "nproc", "nproc+1", "2·nproc+1", "min(32, nproc+4)", goetz}

func TestRegret(t *testing.T) {
	s := readSettings(t)
	l := newLab(t)
	var all []*result
	for i := range programs {
		p := &programs[i]
		if s.quick && !p.quick {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			if isInterrupted() {
				t.Skip("interrupted")
			}
			need(t, p.needs...)
			if p.with == postgres {
				l.startPostgres(t)
			}
			r := l.measure(t, p, s)
			all = append(all, r)
			if s.raw != "" {
				writeRaw(t, s.raw, all)
			}
			t.Log("\n" + r.text())
		})
	}
	if len(all) > 0 {
		t.Log("\n" + table(all))
	}
}

// measure finds the regrets for one program.
func (l *lab) measure(t *testing.T, p *program, s *settings) *result {
	begun := time.Now()
	nproc := runtime.NumCPU()
	r := &result{Program: p.name, Unit: p.unit, Counts: rulesOfThumb(nproc), RegretPct: map[string]float64{}}
	a, err := l.advise(p, s.observe)
	if err != nil {
		t.Errorf("advice: %v", err)
	}
	r.take(a)
	if a.plan != nil {
		r.Counts[advised] = a.n
	}
	if n, ok := a.goetz(nproc); ok {
		r.Counts[goetz] = n
	}
	if s.tune > 0 {
		if n, err := l.tune(p, s.tune, s.warm, s.window); err != nil {
			t.Errorf("tune: %v", err)
		} else {
			r.Counts[tuned] = n
		}
	}
	counts := slices.Sorted(slices.Values(append(slices.Clone(s.grid), slices.Collect(maps.Values(r.Counts))...)))
	seen := l.sweep(t, p, s, slices.Compact(counts), r)
	if len(seen) == 0 {
		t.Fatal("the program ran with no count")
	}
	r.Best = seen.best(func(xs []float64) []float64 { return xs })
	r.Rate = median(seen[r.Best])
	for rule, n := range r.Counts {
		if x := 100 * seen.regret(n); !math.IsNaN(x) {
			r.RegretPct[rule] = x
		}
	}
	var service, others []float64
	for _, k := range r.Looks {
		if k.Error != "" {
			continue
		}
		others = append(others, k.OthersPct)
		if k.N == r.Best {
			service = append(service, k.ServicePct)
		}
	}
	r.Service, r.Others = mean(service), median(others)
	r.Seconds = time.Since(begun).Seconds()
	return r
}

// sweep looks at all counts in turns, in an order of chance, until each is
// settled or the time is up and it was seen a few times.
func (l *lab) sweep(t *testing.T, p *program, s *settings, counts []int, r *result) looks {
	seen, open, begun := looks{}, counts, time.Now()
	for round := 0; len(open) > 0; round++ {
		rand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		failed := map[int]bool{}
		for _, n := range open {
			if isInterrupted() {
				t.Fatal("interrupted")
			}
			k := l.lookAt(p, s, n)
			k.Round = round
			r.Looks = append(r.Looks, k)
			if k.Error != "" {
				t.Errorf("%d workers: %s", n, k.Error)
				failed[n] = true
				continue
			}
			seen[n] = append(seen[n], k.Rate)
		}
		open = slices.DeleteFunc(open, func(n int) bool {
			late := time.Since(begun) >= s.limit && len(seen[n]) >= few
			return failed[n] || late || seen.settled(n, s.repeats)
		})
	}
	return seen
}

// lookAt runs the program with n workers for one look.
func (l *lab) lookAt(p *program, s *settings, n int) look {
	k := look{Program: p.name, N: n}
	err := func() error {
		r, err := l.start(p, n)
		if err != nil {
			return err
		}
		defer r.stop()
		from, err := r.begin(s.warm, interrupted)
		if err != nil {
			return err
		}
		before, window := l.cpuOf(r.cmd.Process.Pid, p.with), s.window
		if p.long {
			window *= 2
		}
		pause(window, r.ended)
		to, err := r.look()
		if err != nil {
			return err
		}
		k.ServicePct, k.OthersPct = before.until(l.cpuOf(r.cmd.Process.Pid, p.with), runtime.NumCPU())
		k.Rate, err = r.between(from, to)
		return err
	}()
	if err != nil {
		k.Error = err.Error()
	}
	return k
}

// take keeps what was observed.
func (r *result) take(a advice) {
	if a.seen == nil {
		return
	}
	r.Class, r.Runtime, r.CPUMS, r.WaitMS = a.seen.Class, a.seen.Runtime, a.seen.CPUMS, a.seen.WaitMS
	if p := a.seen.Profile; p != nil {
		r.NativeMS, r.OnCPU = p.Work.NativeMS, p.Measured.Utilisation
	}
	r.Notes = a.seen.Evidence
	if a.plan != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("advised %d: %s", a.n, a.plan.Binding.Detail))
	}
}

func writeRaw(t *testing.T, name string, all []*result) {
	text, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = os.WriteFile(name, append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Errorf("RAW: %v", err)
	}
}
