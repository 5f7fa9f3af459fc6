package emit

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/advisor"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/profiles"
)

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// randomPlan is a machine and a profile of any shape.
func randomPlan(rng *rand.Rand) testPlan {
	c := testPlan{name: "random", machine: fmt.Sprintf("package:%d", 1+rng.IntN(2))}
	if rng.IntN(3) > 0 {
		c.machine += fmt.Sprintf(" numa:%d", 1+rng.IntN(3))
	}
	c.machine += fmt.Sprintf(" l3:%d core:%d pu:%d", 1+rng.IntN(3), 1+rng.IntN(5), 1+rng.IntN(2))
	quota := 0.0
	if rng.IntN(4) == 0 {
		quota = rng.Float64() * 12
	}
	someAllowed, isVirtual := rng.IntN(3) == 0, rng.IntN(4) == 0
	keep := rng.Uint64() | 1
	c.change = func(m *probe.Machine) {
		if quota > 0 {
			m.Limits.QuotaCPUs = &quota
		}
		if someAllowed {
			var some []cpuset.CPU
			for cpu := range m.Topology.Online.All() {
				if keep>>(cpu%64)&1 == 1 {
					some = append(some, cpu)
				}
			}
			m.Topology.Allowed = cpuset.Of(some...)
		}
		if isVirtual {
			virtual(m)
		}
		bytes := int64(keep % (64 << 30))
		m.Host.MemoryBytes = &bytes
	}
	line := func(chance float64, format string, args ...any) {
		if rng.Float64() < chance {
			c.profile += fmt.Sprintf(format+"\n", args...)
		}
	}
	line(1, "runtime: %s", pick(rng, "native", "go", "java", "node", "python", "python", "python-free-threaded", "openmp"))
	line(1, "objective: %s", pick(rng, "throughput", "throughput", "latency", "efficiency"))
	line(0.4, "model: %s", pick(rng, "threads", "processes"))
	cpu := 0.1 + rng.Float64()*20
	c.profile += "work:\n"
	line(1, "  kind: %s", pick(rng, "integer", "float", "service"))
	if rng.IntN(4) > 0 {
		line(1, "  cpu_ms: %.3f", cpu)
		line(0.3, "  native_ms: %.3f", cpu*rng.Float64()*0.9)
		line(0.6, "  wait_ms: %.3f", cpu*rng.Float64()*20)
		line(0.4, "  blocking: false")
	}
	line(0.2, "  communicates: true")
	c.profile += "load:\n"
	line(0.3, "  tasks: %d", 1+rng.IntN(60))
	line(0.2, "  nested: true")
	if !strings.Contains(c.profile, "nested") {
		line(0.2, "  ranks_per: %s", pick(rng, "node", "llc", "core"))
	}
	line(0.2, "  arrival_per_s: %.2f", rng.Float64()*3000)
	c.profile += "limits:\n"
	line(0.3, "  memory_per_worker_mib: %.2f", 1+rng.Float64()*4000)
	line(0.2, "  downstream_concurrency: %d", 1+rng.IntN(60))
	return c
}

func forRandom(t *testing.T, try func(t *testing.T, target Target, p *advisor.Plan, s Settings)) {
	cases := uint64(250)
	if testing.Short() { // on a machine that is emulated
		cases = 25
	}
	for seed := range cases {
		c := randomPlan(rand.New(rand.NewPCG(seed, 11)))
		p := c.advise(t)
		for _, target := range Targets() {
			s := target.Emit(p)
			try(t, target, p, s)
			if t.Failed() {
				t.Fatalf("seed %d, %s: %s\n%s%+v\n%s", seed, target.Name(), c.machine, c.profile, p.Placement, s.Text)
			}
		}
	}
}

func TestLostIsSaid(t *testing.T) {
	forRandom(t, func(t *testing.T, _ Target, p *advisor.Plan, s Settings) {
		said := comments(s.Text)
		for _, lost := range s.Lost {
			if !strings.Contains(said, "Not expressed: "+lost+".") {
				t.Errorf("no comment says %q", lost)
			}
		}
		if n := strings.Count(said, "Not expressed: "); n != len(s.Lost) {
			t.Errorf("%d comments and %d words of what is lost", n, len(s.Lost))
		}
		if !strings.HasSuffix(s.Text, "\n") || regexp.MustCompile(`@[A-Z_]+@`).MatchString(s.Text) {
			t.Error("the text is not finished")
		}
		for line := range strings.Lines(s.Text) {
			if isComment(line) && len(line) > 102 && strings.Count(line, " ") > 1 && !strings.Contains(line, "GOMP_CPU_AFFINITY") && !strings.Contains(line, "cpu-set only-cpu") { // the × counts as two
				t.Errorf("a comment of %d bytes: %s", len(line), line)
			}
		}
	})
}

// seated are the CPUs and nodes of each process, by the seats and not by places.
func seated(p *advisor.Plan) (cpus []cpuset.Set, mems []string) {
	cpus, mems = make([]cpuset.Set, p.Workers.Processes), make([]string, p.Workers.Processes)
	for _, s := range p.Placement.Seats {
		cpus[s.Worker] = cpus[s.Worker].Union(s.CPUs)
		for id := range strings.SplitSeq(s.Mems, ",") {
			if !slices.Contains(strings.Split(mems[s.Worker], ","), id) {
				mems[s.Worker] = strings.TrimPrefix(mems[s.Worker]+","+id, ",")
			}
		}
	}
	return cpus, mems
}

// find lists what a pattern's group matches in the code.
func find(pattern, text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(strings.Join(code(text), "\n"), -1) {
		out = append(out, m[1])
	}
	return out
}

func parseAll(t *testing.T, lists []string) []cpuset.Set {
	t.Helper()
	var out []cpuset.Set
	for _, list := range lists {
		parse := cpuset.Parse
		if strings.HasPrefix(list, "0x") {
			parse = cpuset.ParseMask
		}
		set, err := parse(strings.ReplaceAll(list, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, set)
	}
	return out
}

func strs(sets []cpuset.Set) string { return fmt.Sprint(sets) }

// Every target that can hold seats holds those of the plan, and none that the
// plan does not have.
func TestSeatsAreThere(t *testing.T) {
	seen := map[string]int{}
	forRandom(t, func(t *testing.T, target Target, p *advisor.Plan, s Settings) {
		want, mems := seated(p)
		var got []cpuset.Set
		var gotMems []string
		loops := want // in Python, where each is a process
		if n := p.Workers.EventLoops; n > p.Workers.Processes && p.Placement.Pin != advisor.NoPin {
			loops = nil
			for i := range n {
				seat := p.Placement.Seats[min(i, len(p.Placement.Seats)-1)]
				loops = append(loops, seat.CPUs)
			}
		}
		sets := func() []cpuset.Set {
			_, seats, _ := strings.Cut(s.Text, "SEATS = [")
			seats, _, _ = strings.Cut(seats, "]")
			return parseAll(t, find(`\{([0-9, ]+)\}`, seats))
		}
		switch target.Name() {
		case "env":
			if !readsOpenMP(p) {
				want = nil
				if p.Placement.Pin != advisor.NoPin && !slices.ContainsFunc(s.Lost, func(l string) bool { return strings.Contains(l, "CPUs "+p.Placement.CPUs.String()+":") }) {
					t.Error("the seats are lost without a word")
				}
			}
			for _, list := range find(`OMP_PLACES='([{}0-9,]+)'`, s.Text) {
				threads := parseAll(t, find(`\{([0-9,]+)\}`, list))
				got = append(got, cpuset.UnionAll(threads...))
				var named []cpuset.Set
				for _, seat := range p.Placement.Seats {
					if seat.Thread != nil && seat.Worker == len(got)-1 {
						named = append(named, seat.CPUs)
					}
				}
				if named != nil && strs(named) != strs(threads) {
					t.Errorf("threads of worker %d on %s, planned %s", len(got)-1, threads, named)
				}
			}
		case "taskset":
			got = parseAll(t, find(`taskset -c (\S+)`, s.Text))
		case "numactl":
			got = parseAll(t, find(`--physcpubind=(\S+)`, s.Text))
			if gotMems = find(`--membind=(\S+)`, s.Text); strings.Join(gotMems, " ") != strings.TrimSpace(strings.Join(mems, " ")) {
				t.Errorf("memory on %s, planned %s", gotMems, mems)
			}
		case "systemd":
			want = []cpuset.Set{p.Placement.CPUs}
			got = parseAll(t, find(`CPUAffinity=(\S+)`, s.Text))
		case "kubernetes":
			want = nil
			if p.Placement.Pin != advisor.NoPin && !strings.Contains(comments(s.Text), "the seats "+p.Placement.CPUs.String()+" hold") {
				t.Error("the seats are not named")
			}
		case "slurm", "srun":
			if list := find(`--cpu-bind=(?:map|mask)_cpu:(\S+)`, s.Text); list != nil {
				got = parseAll(t, strings.Split(list[0], ","))
			}
		case "gunicorn", "multiprocessing", "asyncio":
			want, got = loops, sets()
		case "threadpool":
			got = sets()
			if p.Workers.Processes > 1 {
				want = nil
			} else if len(p.Placement.Seats) > 1 {
				want = nil
				for _, seat := range p.Placement.Seats {
					want = append(want, seat.CPUs)
				}
			}
		default:
			want, got = seatsOf(t, target.Name(), p, s, want, mems, loops)
		}
		if p.Placement.Pin == advisor.NoPin {
			want = nil
		}
		if strs(got) != strs(want) {
			t.Errorf("seats %s, planned %s", got, want)
		}
		if want != nil {
			seen[target.Name()]++
		}
	})
	for _, target := range Targets() {
		if name := target.Name(); seen[name] == 0 && !slices.Contains(unseated, name) {
			t.Errorf("%s: no plan had seats", name)
		}
	}
}

// No more is asked of a node than the plan has, and the tasks in flight of all
// processes are those of the plan.
func TestCounts(t *testing.T) {
	number := func(text, pattern string) int {
		if found := find(pattern, text); found != nil {
			n, err := strconv.Atoi(found[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		return 0
	}
	forRandom(t, func(t *testing.T, target Target, p *advisor.Plan, s Settings) {
		w := p.Workers
		switch target.Name() {
		case "env", "taskset":
			if n := number(s.Text, `BERTH_PROCESSES=(\d+)`); n != w.Processes {
				t.Errorf("%d processes of %d", n, w.Processes)
			}
			if n := number(s.Text, `BERTH_THREADS=(\d+)`); n*w.Processes != w.Total() {
				t.Errorf("%d threads in each of %d processes, %d in all", n, w.Processes, w.Total())
			}
			each := number(s.Text, `BERTH_IN_FLIGHT=(\d+)`)
			if all := each * w.Processes; w.InFlight > 0 && (all > w.InFlight+w.Processes-1 || each < 1) || p.Binding.Name == advisor.ByDown && all > w.InFlight {
				t.Errorf("%d in flight in each of %d processes, planned %d", each, w.Processes, w.InFlight)
			}
			if n := number(s.Text, `OMP_NUM_THREADS=(\d+)`); readsOpenMP(p) && n != w.Each() || !readsOpenMP(p) && n != 0 && n != max(1, w.Inner) {
				t.Errorf("OpenMP starts %d threads", n)
			}
			for _, pattern := range []string{`GOMAXPROCS=(\d+)`, `ActiveProcessorCount=(\d+)`} {
				if n := number(s.Text, pattern); n > p.Placement.CPUs.Len() || n > p.Workers.Each() || n == 0 && (p.Runtime == profiles.Go) == strings.HasPrefix(pattern, "GO") && (p.Runtime == profiles.Go || p.Runtime == profiles.Java) {
					t.Errorf("%s: %d", pattern, n)
				}
			}
		case "slurm", "srun":
			tasks, each := number(s.Text, `--ntasks=(\d+)`), number(s.Text, `--cpus-per-task=(\d+)`)
			if strings.Contains(s.Text, "--overcommit") {
				if each > p.Placement.CPUs.Len() {
					t.Errorf("%d CPUs for all tasks", each)
				}
			} else if tasks*each > p.Placement.CPUs.Len() {
				t.Errorf("%d tasks with %d CPUs each", tasks, each)
			}
			if tasks != w.Processes || each < 1 {
				t.Errorf("%d tasks, planned %d", tasks, w.Processes)
			}
		case "gunicorn":
			if n := number(s.Text, `workers = (\d+)`); n != max(w.Processes, w.EventLoops) {
				t.Errorf("%d workers", n)
			}
		case "threadpool":
			if n := number(s.Text, `THREADS = (\d+)`); n != w.Threads {
				t.Errorf("%d threads, planned %d", n, w.Threads)
			}
		case "asyncio":
			if n := number(s.Text, `IN_FLIGHT = (\d+)`); n != w.InFlight && w.InFlight > 0 {
				t.Errorf("%d tasks in flight, planned %d", n, w.InFlight)
			}
		}
	})
}

// The text of a large machine grows with its seats, not with their square.
func TestLargeMachine(t *testing.T) {
	for _, profile := range []string{"model: processes\n", "runtime: openmp\n", "runtime: go\n"} {
		small := testPlan{"large", "package:2 numa:2 l3:4 core:8 pu:2", profile, nil}.advise(t)
		large := testPlan{"large", "package:4 numa:4 l3:16 core:8 pu:2", profile, nil}.advise(t)
		times := len(large.Placement.CPUs.String()) / len(small.Placement.CPUs.String())
		times = max(times, large.Workers.Total()/small.Workers.Total())
		for _, target := range Targets() {
			if a, b := len(target.Emit(small).Text), len(target.Emit(large).Text); b > 2*times*a {
				t.Errorf("%s, %s: %d times the machine, %d bytes instead of %d", target.Name(), profile, times, b, a)
			}
		}
	}
}

func BenchmarkLargeMachine(b *testing.B) {
	p := testPlan{"large", "package:4 numa:4 l3:16 core:8 pu:2", "model: processes\n", nil}.advise(b)
	for _, target := range Targets() {
		b.Run(target.Name(), func(b *testing.B) {
			for b.Loop() {
				target.Emit(p)
			}
		})
	}
}
