//go:build linux

package tune

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/affinity"
	"berth/affinity/measured"
	"berth/probe/cgroup"
	"berth/probe/cpuset"
	"berth/probe/tasks"
)

// simulated is a program of known speed, on a clock of its own.
type simulated struct {
	speed  func(n int, cpus cpuset.Set) float64 // runs per second
	noise  float64                              // standard deviation of the logarithm
	slow   float64                              // share of the runs that take half as long again
	fails  func(n int, run int) *Failure
	random *rand.Rand
	now    time.Time
	runs   map[int]int
	cancel func(run int)
	total  int
}

func (f *simulated) run(ctx context.Context, n int, cpus cpuset.Set, most time.Duration, started func(int)) (outcome, error) {
	if started != nil {
		started(1)
	}
	f.runs[n]++
	f.total++
	if f.cancel != nil {
		f.cancel(f.total)
	}
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	if f.fails != nil {
		if why := f.fails(n, f.runs[n]); why != nil {
			f.now = f.now.Add(time.Second)
			return outcome{failed: why}, nil
		}
	}
	x := f.speed(n, cpus) * math.Exp(f.noise*f.random.NormFloat64())
	if f.random.Float64() < f.slow {
		x /= 1.5
	}
	wall := time.Duration(1e9 / x)
	if most > 0 && wall > most {
		f.now = f.now.Add(most)
		return outcome{wall: most, cut: true}, nil
	}
	f.now = f.now.Add(wall)
	return outcome{value: 1 / wall.Seconds(), wall: wall}, nil
}

func searchOf(s *Settings, f *simulated, seed uint64) *search {
	f.random = rand.New(rand.NewPCG(seed, 7))
	f.now = time.Unix(0, 0)
	f.runs = map[int]int{}
	if s.Seed == 0 {
		s.Seed = seed + 1
	}
	if s.Command == nil {
		s.Command = []string{"program", "{n}"}
	}
	if s.Limit == 0 {
		s.Limit = 3 * time.Minute
	}
	x := newSearch(s, f, cpuset.Range(0, 7), func() time.Time { return f.now })
	x.pause = func(context.Context, time.Duration) {}
	x.noise.throttle = func() (cgroup.Throttling, error) { return nil, errors.New("simulated") }
	x.noise.read = func() (tasks.SystemStat, error) { return tasks.SystemStat{}, errors.New("simulated") }
	return x
}

func law(lambda, sigma, kappa float64) func(int, cpuset.Set) float64 {
	l := Law{Lambda: lambda, Sigma: sigma, Kappa: kappa}
	return func(n int, _ cpuset.Set) float64 { return l.At(float64(n)) }
}

func counts(t *testing.T, text string) Counts {
	t.Helper()
	c, err := ParseCounts(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Over many seeds and shapes, what is found is close to the true best, and the
// true best is not dropped for something worse.
func TestFindsTheBest(t *testing.T) {
	shapes := map[string]func(int, cpuset.Set) float64{
		"peak at 10":  law(0.5, 0.02, 0.0098),
		"linear":      law(0.3, 0, 0),
		"serial":      law(0.5, 0.2, 0),
		"one is best": law(2, 0.9, 0.3),
		"wall at 8":   func(n int, _ cpuset.Set) float64 { return 0.4 * float64(min(n, 8)) },
		"falls after": func(n int, _ cpuset.Set) float64 {
			return 0.4 * float64(min(n, 8)) * math.Pow(0.98, float64(max(0, n-8)))
		},
	}
	c := counts(t, "1..64")
	for name, speed := range shapes {
		for _, noise := range []float64{0.005, 0.03} {
			var regrets []float64
			for seed := range uint64(25) {
				f := &simulated{speed: speed, noise: noise, slow: 0.05}
				r, err := searchOf(&Settings{Counts: c}, f, seed).run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				most := 0.0
				for _, n := range c.All() {
					most = max(most, speed(n, cpuset.Set{}))
				}
				regrets = append(regrets, 1-speed(r.Best.N, cpuset.Set{})/most)
			}
			slices.Sort(regrets)
			if median, worst := regrets[len(regrets)/2], regrets[len(regrets)-1]; median > 0.02 || worst > 0.06 {
				t.Errorf("%s, noise %g: regret %.3f in the median and %.3f at worst", name, noise, median, worst)
			}
		}
	}
}

// However the noise falls, an arm that is the best by a margin stays.
func TestKeepsTheBest(t *testing.T) {
	for seed := range uint64(200) {
		speed := func(n int, _ cpuset.Set) float64 { return []float64{0, 1, 0.97, 1.1, 0.98}[n] }
		f := &simulated{speed: speed, noise: 0.02, slow: 0.1}
		r, err := searchOf(&Settings{Counts: counts(t, "1-4")}, f, seed).run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Points {
			if p.N == 3 && p.Dropped || r.Best.N != 3 {
				t.Fatalf("seed %d: best %d of %+v", seed, r.Best.N, r.Points)
			}
		}
		if r.Stopped != Settled || r.Verdict != affinity.Measured {
			t.Errorf("seed %d: %s, %s", seed, r.Stopped, r.Verdict)
		}
	}
}

func TestDoesNotMeasureAll(t *testing.T) {
	f := &simulated{speed: law(0.5, 0.02, 0.0098), noise: 0.005}
	r, err := searchOf(&Settings{Counts: counts(t, "1..64"), Limit: time.Hour}, f, 1).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Points) > 20 || r.Runs > 130 {
		t.Errorf("%d points and %d runs", len(r.Points), r.Runs)
	}
	if r.Best.N < 9 || r.Best.N > 11 || r.Stopped != Settled {
		t.Errorf("best %+v, stopped %s", r.Best, r.Stopped)
	}
	if r.USL == nil || math.Abs(r.USL.Lambda-0.5) > 0.02 || math.Abs(r.USL.Sigma-0.02) > 0.02 || math.Abs(r.USL.Kappa-0.0098) > 0.002 || r.USL.R2 < 0.99 {
		t.Errorf("law %+v", r.USL)
	}
}

func TestKneeAndTies(t *testing.T) {
	f := &simulated{speed: func(n int, _ cpuset.Set) float64 { return 0.4 * float64(min(n, 20)) }, noise: 0.003}
	r, err := searchOf(&Settings{Counts: counts(t, "1..64"), Limit: time.Hour}, f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Knee.N != 19 && r.Knee.N != 20 { // 19 is at 95 %
		t.Errorf("knee %+v", r.Knee)
	}
	if len(r.Tied) == 0 || r.Fewest != nil && r.Fewest.N < 20 || r.Best.N < 20 {
		t.Errorf("best %+v, tied %+v, measured.Fewest %+v", r.Best, r.Tied, r.Fewest)
	}
}

func TestGrows(t *testing.T) {
	f := &simulated{speed: func(n int, _ cpuset.Set) float64 { return 0.1 * float64(min(n, 150)) }, noise: 0.003}
	r, err := searchOf(&Settings{Limit: time.Hour}, f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Best.N < 142 {
		t.Errorf("best %+v", r.Best)
	}
	if last := r.Points[len(r.Points)-1].N; last < 256 {
		t.Errorf("tried up to %d", last)
	}
}

func TestPlacements(t *testing.T) {
	one, all := Placement{Name: "one"}, Placement{Name: "all"}
	for c := range cpuset.CPU(8) {
		one.Places = append(one.Places, single(c))
		all.Places = append(all.Places, single(c))
	}
	wide := Placement{Name: "wide", Places: []cpuset.Set{cpuset.Range(0, 7)}}
	f := &simulated{noise: 0.003, speed: func(n int, cpus cpuset.Set) float64 {
		if cpus.IsEmpty() {
			return 0.3 * float64(n)
		}
		return 0.4 * float64(n)
	}}
	r, err := searchOf(&Settings{Counts: counts(t, "1,2,4,8"), Placements: []Placement{None(), one, all, wide}, Advised: &Choice{N: 3, Placement: "advised", CPUs: cpuset.Range(4, 6)}},
		f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Best.N != 8 || r.Best.Placement != "none" {
		t.Errorf("best %+v", r.Best)
	}
	for _, p := range r.Points {
		if p.N == 8 && (len(p.Also) != 3 || !p.CPUs.Equal(cpuset.Range(0, 7))) || p.N == 2 && p.Placement == "one" && !slices.Equal(p.Also, []string{"all"}) {
			t.Errorf("point %+v", p)
		}
	}
	if r.Advised == nil || r.Advised.N != 3 || r.Advised.Placement != "advised" || r.Advised.RegretPct == nil || math.Abs(*r.Advised.RegretPct-50) > 3 {
		t.Errorf("advised %+v", r.Advised)
	}
	same := 0
	for _, f := range r.Findings {
		if f.Code == FindSame {
			same++
		}
	}
	if same != 2 { // one and all, none and wide
		t.Errorf("findings %+v", r.Findings)
	}
}

func TestObserved(t *testing.T) {
	f := &simulated{speed: law(1, 0.1, 0.01), noise: 0.003}
	asked := 0
	s := &Settings{Counts: counts(t, "2,4,8"), Observe: func(_ context.Context, pid int) (*Choice, error) {
		asked = pid
		return &Choice{N: 5, Placement: NameNone}, nil
	}}
	r, err := searchOf(s, f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if asked != 1 || f.runs[1] != 1 || r.Advised == nil || r.Advised.N != 5 || r.Advised.RegretPct == nil {
		t.Errorf("advised %+v after process %d, %v", r.Advised, asked, f.runs)
	}
}

func TestAdviceBeyondCounts(t *testing.T) {
	for _, n := range []int{1, 9} {
		f := &simulated{speed: law(1, 0.1, 0.01), noise: 0.003}
		r, err := searchOf(&Settings{Counts: counts(t, "2..8"), Advised: &Choice{N: n, Placement: NameNone}}, f, 3).run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := (&Advice{N: n, Placement: NameNone, Outside: true}); r.Advised == nil || *r.Advised != *want {
			t.Errorf("advised %+v, want %+v", r.Advised, want)
		}
		if f.runs[n] > 0 {
			t.Errorf("%d workers ran, and 2..8 were to choose from", n)
		}
	}
}

func TestFailures(t *testing.T) {
	broken := &Failure{Status: 3, Why: "it ended with status 3", Output: []string{"no"}}
	f := &simulated{speed: law(1, 0.1, 0.01), noise: 0.003, fails: func(n, run int) *Failure {
		if n == 3 || n == 2 && run == 2 {
			return broken
		}
		return nil
	}}
	r, err := searchOf(&Settings{Counts: counts(t, "1-4")}, f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Points {
		if (p.Failed != nil) != (p.N == 3) {
			t.Errorf("%+v", p)
		}
	}
	codes := map[string]int{}
	for _, f := range r.Findings {
		codes[f.Code]++
	}
	if codes[FindFailed] != 1 || codes[FindFlaky] != 1 {
		t.Errorf("findings %+v", r.Findings)
	}

	f = &simulated{fails: func(int, int) *Failure { return broken }}
	_, err = searchOf(&Settings{Counts: counts(t, "1-4")}, f, 3).run(t.Context())
	var all *Failed
	if !errors.As(err, &all) || all.Points != 4 || !strings.Contains(err.Error(), "at all of 4 counts failed: it ended with status 3") {
		t.Errorf("%v", err)
	}
	f = &simulated{fails: func(int, int) *Failure { return &Failure{Why: "the metric x matches nothing that it printed"} }}
	_, err = searchOf(&Settings{Counts: counts(t, "1-4")}, f, 3).run(t.Context())
	if !errors.As(err, &all) || f.total != 1 {
		t.Errorf("%v after %d runs", err, f.total)
	}
}

func TestTimeUp(t *testing.T) {
	f := &simulated{speed: law(0.1, 0.1, 0.01), noise: 0.003}
	r, err := searchOf(&Settings{Counts: counts(t, "1-4"), Limit: 20 * time.Second}, f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Stopped != OutOfTime || r.Verdict != affinity.Inconclusive || r.Best == nil {
		t.Errorf("%+v", r)
	}
}

// What was advised is told from the law where the time did not suffice.
func TestInterpolates(t *testing.T) {
	f := &simulated{speed: law(0.4, 0.02, 0.0098)}
	x := searchOf(&Settings{Counts: counts(t, "1-16")}, f, 3)
	if _, err := x.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.add(5, NameNone, cpuset.Set{})
	x.advised = x.at(5, x.allowed)
	x.advised.values, x.advised.scores, x.advised.walls, x.advised.known = nil, nil, nil, measured.Value{}
	r, err := x.report(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := 100 * (1 - f.speed(5, cpuset.Set{})/f.speed(r.Best.N, cpuset.Set{}))
	if a := r.Advised; a == nil || !a.Interpolated || a.RegretPct == nil || math.Abs(*a.RegretPct-want) > 0.1 {
		t.Errorf("%+v, want %.2f", a, want)
	}
}

func TestNoise(t *testing.T) {
	var busy, steal, idle time.Duration
	w := newNoise(cpuset.Range(0, 1))
	w.throttle = func() (cgroup.Throttling, error) { return nil, nil }
	w.read = func() (tasks.SystemStat, error) {
		one := tasks.CPUTimes{User: busy, Steal: steal, Idle: idle}
		return tasks.SystemStat{CPUs: map[cpuset.CPU]tasks.CPUTimes{0: one, 1: one, 2: {User: 100 * busy}}}, nil
	}
	w.begin()
	busy, idle = busy+time.Second, idle+9*time.Second
	w.endGap()
	w.begin()
	busy, steal = busy+9*time.Second, steal+time.Second
	w.end()
	n := w.report()
	if n.OtherBusyPct == nil || math.Abs(*n.OtherBusyPct-10) > 0.01 || n.StealPct == nil || math.Abs(*n.StealPct-10) > 0.01 || !w.others() || !w.stolen() {
		t.Errorf("%+v", n)
	}
	if quiet := newNoise(cpuset.Range(0, 1)); quiet.others() || quiet.stolen() || quiet.report().OtherBusyPct != nil {
		t.Error("nothing known is noise")
	}
}

// A run that can no longer come near the best is stopped, and no value.
func TestCuts(t *testing.T) {
	f := &simulated{speed: law(0.02, 0, 0), noise: 0.003}
	r, err := searchOf(&Settings{Counts: counts(t, "1,2,4,8,16,32,64")}, f, 3).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Best.N != 64 {
		t.Errorf("best %+v", r.Best)
	}
	if p := r.Points[0]; p.N != 1 || p.CutS == nil || *p.CutS > 20 || p.Value != nil || !p.Dropped {
		t.Errorf("%+v", p)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &simulated{speed: law(1, 0.1, 0.01), noise: 0.003, cancel: func(run int) {
		if run == 12 {
			cancel()
		}
	}}
	r, err := searchOf(&Settings{Counts: counts(t, "1-4")}, f, 3).run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if r.Stopped != Interrupted || r.Runs != 10 {
		t.Errorf("%s after %d", r.Stopped, r.Runs)
	}
}

func TestResumes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	settings := func() *Settings {
		return &Settings{Counts: counts(t, "1..64"), State: file, Limit: 15 * time.Second}
	}
	first, err := searchOf(settings(), &simulated{speed: law(0.5, 0.02, 0.0098), noise: 0.005}, 1).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := settings()
	s.Limit = time.Hour
	f := &simulated{speed: law(0.5, 0.02, 0.0098), noise: 0.005}
	second, err := searchOf(s, f, 2).run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.Stopped != OutOfTime || second.Stopped != Settled || second.Runs <= f.total {
		t.Errorf("%s after %d runs, then %s after %d with %d new", first.Stopped, first.Runs, second.Stopped, second.Runs, f.total-1)
	}
	s = settings()
	s.Command = []string{"another"}
	_, err = searchOf(s, f, 2).run(t.Context())
	var bad *StateError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), `it is of another command: ["program" "{n}"], not ["another"]`) {
		t.Errorf("%v", err)
	}
}

// A state that can no longer be written costs its copy of the runs, and not the
// runs. A link is no state.
func TestStateLost(t *testing.T) {
	x := searchOf(&Settings{Counts: counts(t, "1-4"), Limit: time.Hour}, &simulated{speed: law(0.5, 0.02, 0.0098), noise: 0.005}, 1)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	x.state = &stateFile{full}
	r, err := x.run(t.Context())
	if err != nil || r.Best == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	lost := 0
	for _, f := range r.Findings {
		if f.Code == FindState {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("findings %+v", r.Findings)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openState(link, stateHead{}); err == nil || !strings.Contains(err.Error(), "is a link, which is not followed") {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a file was made through the link")
	}
}
