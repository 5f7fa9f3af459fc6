package advisor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"berth/probe"
	"berth/profiles"
)

// What Go 1.26 does (runtime/mgcpacer.go), worked out by hand: GOMAXPROCS, the
// Ps that only mark, and the part of one more.
func TestGoMarkers(t *testing.T) {
	for _, c := range []struct {
		procs, workers int
		part           float64
	}{
		{1, 0, 0.25}, {2, 0, 0.5}, {3, 0, 0.75}, {4, 1, 0}, {5, 1, 0}, {6, 1, 0.5}, {7, 2, 0}, {8, 2, 0}, {9, 2, 0}, {10, 3, 0}, {64, 16, 0},
	} {
		if workers, part := goMarkers(c.procs); workers != c.workers || math.Abs(part-c.part) > 1e-9 {
			t.Errorf("GOMAXPROCS=%d: %d workers and %g of one, want %d and %g", c.procs, workers, part, c.workers, c.part)
		}
	}
}

// The Go that runs the test tells in its own trace how many workers mark.
func TestGoMarkersOfThisGo(t *testing.T) {
	if os.Getenv("BERTH_TEST_COLLECT") != "" {
		runtime.GC()
		return
	}
	trace := regexp.MustCompile(`(?m)^pacer: assist ratio=.* workers=([0-9]+)\+(\S+)$`)
	for _, procs := range []int{1, 2, 3, 4, 5, 6, 7, 10} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestGoMarkersOfThisGo$")
		cmd.Env = append(os.Environ(), "BERTH_TEST_COLLECT=1", "GODEBUG=gcpacertrace=1", fmt.Sprintf("GOMAXPROCS=%d", procs))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		found := trace.FindSubmatch(out)
		if found == nil {
			t.Skipf("%s has no such trace", runtime.Version())
		}
		share, err := strconv.ParseFloat(string(found[2]), 64)
		if err != nil {
			t.Fatal(err)
		}
		workers, part := goMarkers(procs)
		if string(found[1]) != strconv.Itoa(workers) || math.Abs(share*float64(procs)-part) > 1e-4 {
			t.Errorf("GOMAXPROCS=%d: %s, and %d workers and %g of one were worked out", procs, found[0], workers, part)
		}
	}
}

func TestRuntimesOwnCounts(t *testing.T) {
	none := math.Inf(1)
	for _, c := range []struct {
		cpus        int
		quota       float64
		golang, jvm int
	}{
		{8, none, 8, 8}, {8, 0.2, 2, 1}, {8, 2, 2, 2}, {8, 2.5, 3, 3}, {2, 5, 2, 2}, {1, 0.5, 1, 1},
	} {
		if got, jvm := goMaxProcs(c.cpus, c.quota), jvmProcessors(c.cpus, c.quota); got != c.golang || jvm != c.jvm {
			t.Errorf("%d CPUs, quota %g: Go %d, JVM %d, want %d and %d", c.cpus, c.quota, got, jvm, c.golang, c.jvm)
		}
	}
}

// What HotSpot 17 itself chose for so many processors (-XX:+PrintFlagsFinal).
func TestHotSpotThreads(t *testing.T) {
	for _, c := range []struct{ processors, gc, compilers int }{
		{1, 1, 2}, {2, 2, 2}, {4, 4, 3}, {8, 8, 4}, {16, 13, 12}, {32, 23, 15}, {64, 43, 18},
	} {
		if gc, compilers := hotSpotGC(c.processors), hotSpotCompilers(c.processors); gc != c.gc || compilers != c.compilers {
			t.Errorf("%d processors: %d GC and %d compiler threads, want %d and %d", c.processors, gc, compilers, c.gc, c.compilers)
		}
	}
}

// inside says in one line what runs inside a plan's workers.
func inside(levels Levels) string {
	var parts []string
	for _, l := range levels {
		part := fmt.Sprintf("%s %d", l.Name, l.Count)
		if l.Per == EachThread {
			part += " a thread"
		}
		parts = append(parts, part+" "+string(l.Use))
	}
	return strings.Join(parts, ", ")
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine shape
		profile string
		want    string
		why     string // a level, and a part of its setting or its reason
	}{
		{"a rank per node", twoNode, "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}",
			"OpenMP thread 8 works, BLAS thread 8 works", "OpenMP thread|16 threads ÷ 2 processes = 8 inside each"},
		{"flat ranks", twoNode, "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: core}",
			"OpenMP thread 1 works, BLAS thread 1 works", "OpenMP thread|the 16 processes have the CPUs"},
		{"native threads", eight, "work: {kind: float}", "OpenMP thread 8 works, BLAS thread 1 a thread works", "BLAS thread|8 × 8 = 64"},
		{"native threads that wait", eight, "work: {kind: service, cpu_ms: 10, wait_ms: 90}", "OpenMP thread 89 waits, BLAS thread 1 a thread works", "OpenMP thread|89, of which 8 run"},
		{"native loops", eight, "work: {cpu_ms: 1, wait_ms: 9, blocking: false}\nload: {arrival_per_s: 2000}",
			"event loop 3 works, task in flight 25 waits, OpenMP thread 1 a thread works, BLAS thread 1 a thread works", "task in flight|BERTH_IN_FLIGHT=25"},
		{"go", eight, "runtime: go\nwork: {kind: float}", "P of Go's scheduler 8 works, goroutine 8 works, GC worker 2 competes", "GC worker|0.25 × 8 = 2: 2 workers; that leaves the program 6 of 8"},
		{"go under a quota", eight.under(2.5), "runtime: go\nwork: {kind: float}", "P of Go's scheduler 3 works, goroutine 3 works, GC worker 1 competes",
			"P of Go's scheduler|min(8 CPUs of its mask, ⌈quota of 2.5⌉, at least 2) = 3, if that quota is its own control group's: it reads none above, and under one of those would take 8"},
		{"jvm", eight, "runtime: java\nwork: {kind: float}",
			"processor that the JVM counts 8 works, platform thread 8 works, common pool thread 7 competes, GC thread 8 competes, concurrent GC thread 2 competes, JIT compiler thread 4 competes",
			"JIT compiler thread|-XX:CICompilerCount=4"},
		{"a small jvm", eight.under(0.5), "runtime: java\nwork: {kind: float}",
			"processor that the JVM counts 1 works, platform thread 1 works, common pool thread 1 competes, GC thread 1 competes, concurrent GC thread 1 competes, JIT compiler thread 2 competes",
			"JIT compiler thread|in all 2, more than the plan's 1 thread"},
		{"virtual threads", eight, "runtime: java\nwork: {cpu_ms: 1, wait_ms: 9, blocking: false}\nload: {arrival_per_s: 2000}",
			"processor that the JVM counts 3 works, carrier thread of virtual threads 3 works, virtual thread 25 waits, common pool thread 2 competes, GC thread 3 competes, concurrent GC thread 1 competes, JIT compiler thread 2 competes",
			"carrier thread of virtual threads|-Djdk.virtualThreadScheduler.parallelism=3"},
		{"node", eight, "runtime: node\nwork: {cpu_ms: 2, wait_ms: 20, blocking: false}\nload: {arrival_per_s: 900}",
			"event loop 1 works, task in flight 9 waits, libuv pool thread 4 waits, V8 helper thread 4 competes", "V8 helper thread|in all 12, more than the plan's 3 threads"},
		{"node that blocks", eight, "runtime: node\nwork: {cpu_ms: 2, wait_ms: 20}\nload: {arrival_per_s: 900}",
			"worker thread 25 waits, libuv pool thread 25 waits, V8 helper thread 4 competes", "libuv pool thread|UV_THREADPOOL_SIZE=25"},
		{"python", eight, "runtime: python\nwork: {kind: float}", "Python thread 1 works, BLAS thread 1 works", "Python thread|gunicorn --workers=8"},
		{"python threads", eight, "runtime: python\nwork: {cpu_ms: 10, native_ms: 5, wait_ms: 40}", "Python thread 15 waits, BLAS thread 1 a thread works", "Python thread|gunicorn --workers=4 --threads=15"},
		{"python loops", eight, "runtime: python\nwork: {cpu_ms: 1, wait_ms: 99, blocking: false}\nload: {arrival_per_s: 2000}",
			"event loop 1 works, task in flight 84 waits, BLAS thread 1 works", "event loop|uvicorn --workers=3"},
		{"free-threaded", eight, "runtime: python-free-threaded\nwork: {kind: float}", "Python thread 8 works, BLAS thread 1 a thread works", "Python thread|without the GIL all run Python at a time: 8"},
		{"nested python", eight, "runtime: python\nload: {nested: true, tasks: 2}", "Python thread 1 works, BLAS thread 4 works", "BLAS thread|OMP_NUM_THREADS=4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := planned(t, c.machine, c.profile)
			if got := inside(plan.Levels); got != c.want {
				t.Errorf("%+v\n got %s\nwant %s", plan.Workers, got, c.want)
			}
			name, part, _ := strings.Cut(c.why, "|")
			for _, l := range plan.Levels {
				if string(l.Name) == name && !strings.Contains(l.Setting+" "+l.Why, part) {
					t.Errorf("%s: %q is not in %s; %s", name, part, l.Setting, l.Why)
				}
			}
			if plan.Levels.Count(LevelName(name)) == 0 {
				t.Errorf("there is no %s", name)
			}
		})
	}
}

func planned(t *testing.T, s shape, profile string) *Plan {
	t.Helper()
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: x\n"+profile), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return advise(t, s, p, nil)
}

// A plan's counts as another runtime's: the plan does not become one of it.
func TestInsideAnotherRuntime(t *testing.T) {
	plan := planned(t, eight.under(2.5), "runtime: go\nwork: {kind: float}")
	if n := plan.Inside(profiles.Java).Count(JVMProcessor); n != 3 {
		t.Errorf("a JVM would count %d processors", n)
	}
	if n := plan.Inside(profiles.Go).Count(JVMProcessor); n != 0 {
		t.Errorf("Go has %d processors of a JVM", n)
	}
	plan.Levels = nil // as in a document of before there were levels
	if n := plan.Inside(profiles.Go).Count(GoProcessor); n != 3 {
		t.Errorf("%d Ps", n)
	}
	plan.Levels = Levels{{Name: GoProcessor, Count: 2, Per: EachProcess}} // as somebody wrote it
	if n := plan.Inside(profiles.Go).Count(GoProcessor); n != 2 {
		t.Errorf("%d Ps, and the plan says 2", n)
	}
}

// Levels hold together with the plan, whatever the runtime they are asked for.
func TestLevelsFit(t *testing.T) {
	seen := map[LevelName]bool{}
	forRandom(t, func(t *testing.T, rng *rand.Rand, s shape, p *profiles.Profile, c *probe.Calibration) {
		plan := advise(t, s, p, c)
		w := plan.Workers
		share := max(1, ceil(plan.BudgetCPUs/float64(w.Processes)))
		for _, r := range profiles.Runtimes() {
			levels := plan.Inside(r)
			if len(levels) == 0 {
				t.Errorf("%s: no levels", r)
			}
			names := map[LevelName]bool{}
			for _, l := range levels {
				seen[l.Name] = true
				all := l.Total(w)
				switch {
				case names[l.Name]:
					t.Errorf("%s: two levels of %s", r, l.Name)
				case l.Count < 1 || l.Why == "" || l.Per != EachProcess && l.Per != EachThread:
					t.Errorf("%s: %+v", r, l)
				case l.Setting != "" && !strings.Contains(l.Setting, "="):
					t.Errorf("%s: the setting %q", r, l.Setting)
				case l.Use == Works && all > max(w.Total(), w.EventLoops):
					t.Errorf("%s: %d work and the plan has %d: %+v", r, all, w.Total(), l)
				case l.Use == Competes && all > w.Total() && !strings.Contains(l.Why, fmt.Sprintf("%d, more than the plan's %d ", all, w.Total())):
					t.Errorf("%s: %d compete with %d without a word: %+v", r, all, w.Total(), l)
				case l.Use == Waits && l.Name != TaskInFlight && l.Name != UVThread && l.Name != VirtualThread && l.Name != Goroutine && l.Count <= plan.Running():
					t.Errorf("%s: all can run: %+v", r, l)
				}
				switch l.Name {
				case GoProcessor, JVMProcessor, CarrierThread, GCThread, ConcGCThread, GoMarkWorker:
					if l.Count > share || l.Count > plan.Placement.CPUs.Len() {
						t.Errorf("%s: %+v, and each process has the time of %d CPUs", r, l, share)
					}
				case EventLoop:
					if all != w.EventLoops {
						t.Errorf("%s: %d loops of %d", r, all, w.EventLoops)
					}
				case TaskInFlight, VirtualThread:
					if all > w.InFlight+w.Processes-1 || plan.Binding.Name == ByDown && all > w.InFlight {
						t.Errorf("%s: %d in flight of %d", r, all, w.InFlight)
					}
				case PlatformThread, NodeThread:
					if all != w.Total() {
						t.Errorf("%s: %d of %d threads", r, all, w.Total())
					}
				case PythonThread:
					if all != w.Processes*w.Threads {
						t.Errorf("%s: %d of %+v", r, all, w)
					}
				}
			}
		}
		if got := inside(plan.Levels); got != inside(plan.Inside(p.Runtime)) {
			t.Errorf("the plan has %s", got)
		}
	})
	if len(seen) < 19 {
		t.Errorf("only %d levels were seen: %v", len(seen), seen)
	}
}

func TestRejectedSplits(t *testing.T) {
	for _, c := range []struct {
		machine shape
		profile string
		want    []string // option, and a part of why
	}{
		{twoNode, "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}",
			[]string{"a rank per last-level cache: 4 processes × 4|no other difference", "flat, a rank per core: 16 processes × 1|16 ranks send messages",
				"one rank with all the threads: 1 process × 16|sit on several nodes",
				"the libraries' default without seats, a thread per CPU in each: 2 processes × 32|64 threads on 32 CPUs, 2 for each"}},
		{twoNode, "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: core}",
			[]string{"a rank per NUMA node: 2 processes × 8|", "a rank per last-level cache: 4 processes × 4|4 ranks send messages instead of 16"}},
		// 1/(0.1 + 0.9/8) = 4.706, twice; and 16 of one thread have no such part.
		{twoNode, "runtime: openmp\nwork: {kind: float, serial_fraction: 0.1}\nload: {ranks_per: node}",
			[]string{"flat, a rank per core|16 × 1 = 16 against the plan's 2 × 4.706 = 9.412"}},
		// X(8) = 8/(1 + 0.05·7 + 0.001·56) = 5.69
		{twoNode, "runtime: openmp\nwork: {kind: float}\nscaling: {sigma: 0.05, kappa: 0.001}\nload: {ranks_per: node}",
			[]string{"flat, a rank per core|if the law was fitted to the threads of one rank, 16 × 1 = 16 against the plan's 2 × 5.69 = 11.38"}},
		// 128 GiB less a tenth hold 16 × 9000 MiB and not more.
		{twoNode, "runtime: openmp\nwork: {kind: float}\nload: {ranks_per: node}\nlimits: {memory_per_worker_mib: 9000}",
			[]string{"flat, a rank per core|144000 MiB of memory where the plan needs 18000, and there are 117965"}},
		{eight, "runtime: python\nwork: {kind: float}", []string{"the libraries' default without seats|64 threads on 8 CPUs, 8 for each"}},
		{eight.under(2), "runtime: python\nwork: {kind: float}", []string{"the libraries' default without seats|under the quota of 2 CPUs all stand still for up to 75 ms in each 100 ms"}},
	} {
		plan := planned(t, c.machine, c.profile)
		for _, want := range c.want {
			option, why, _ := strings.Cut(want, "|")
			found := false
			for _, r := range plan.Rejected {
				found = found || strings.Contains(r.Option, option) && strings.Contains(r.Why, why)
			}
			if !found {
				t.Errorf("%q of %q is not among %+v", want, c.profile, plan.Rejected)
			}
		}
	}
	// Go and the JVM have no such libraries below them.
	for _, r := range planned(t, eight, "runtime: java\nmodel: processes").Rejected {
		if strings.Contains(r.Option, "libraries") {
			t.Errorf("%+v", r)
		}
	}
}

func TestReadLevels(t *testing.T) {
	const head = `{"schema": "berth.plan/v1", "workers": {"processes": 1, "threads_per_process": 2}, "levels": [{"name": "event loop", "count": `
	for count, want := range map[string]string{"2": "", "0": "levels[0]: 0 of event loop", "-1": "levels[0]: -1", "9999999": "no kernel holds more"} {
		_, err := Read(strings.NewReader(head+count+`}]}`), "plan.json")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("count %s: %v", count, err)
		}
	}
}
