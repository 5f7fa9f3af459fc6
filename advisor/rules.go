package advisor

import (
	"fmt"
	"math"

	"berth/profiles"
)

// rule is one way of counting workers: for pure work, blocking waits, an event
// loop, the GIL, a latency target or nested tasks.
type rule interface {
	// propose counts the workers that the CPUs and the demand call for.
	propose() proposal
	// predict says what any number of such workers would yield.
	predict(Workers) Prediction
	// shrink gives the best workers with at most so many tasks at once.
	shrink(w Workers, tasks int) Workers
}

// proposal is a count before memory, tasks and downstream bound it.
type proposal struct {
	workers  Workers
	by       Binding
	remedies []string // set where the target cannot be met: what would help
	missed   bool     // the target cannot be met
}

func (p *proposal) miss(remedies ...string) {
	p.missed = true
	p.remedies = append(p.remedies, remedies...)
}

// chooseRule is the order of rules: the first that fits.
func (t *task) chooseRule() rule {
	p := t.p
	switch {
	case p.Objective == profiles.Latency && p.Load.WaitTargetMS != nil && p.Load.ArrivalPerS != nil && t.cpu > 0:
		return &latencyRule{task: t}
	case p.NestedTasks():
		return &nestedRule{t}
	case p.Model == profiles.Async, p.Model == profiles.AnyModel && !p.BlockingWaits() && t.wait > 0 && t.cpu > 0:
		return &asyncRule{t}
	case t.sharesInterpreter():
		return &gilRule{t}
	case t.wait > 0 && t.cpu > 0:
		return &blockingRule{t}
	}
	return &pureRule{t}
}

// sharesInterpreter: threads of one process would queue for its GIL.
func (t *task) sharesInterpreter() bool {
	return t.p.Runtime == profiles.Python && t.p.Model != profiles.Processes && (t.cpu == 0 || t.interpreted > 0)
}

// inOneModel makes n workers of the model that the runtime or the profile calls
// for: threads of a process, or processes.
func (t *task) inOneModel(n int) Workers {
	if t.p.Model == profiles.Processes || t.p.Runtime == profiles.Python && t.p.Model == profiles.AnyModel && t.sharesInterpreter() {
		return Workers{Model: Processes, Processes: n, Threads: 1}
	}
	return Workers{Model: Threads, Processes: 1, Threads: n}
}

// resize changes a count that lies in one dimension.
func (t *task) resize(w Workers, n int) Workers {
	if w.Model == Processes {
		w.Processes = max(1, min(w.Processes, n))
	} else {
		w.Threads = max(1, min(w.Threads, n))
	}
	return w
}

// served is the throughput of a queue per ms, no more than arrives.
func (t *task) served(x float64) float64 {
	if a := t.arrivals(); a > 0 {
		return math.Min(a, x)
	}
	return x
}

// demand are the workers for a rate: Little's law with a fifth to spare,
// ⌈λ(W+C)/0.8⌉.
func (t *task) demand() int { return max(1, ceil(t.arrivals()*(t.wait+t.planned)/0.8)) }

func (t *task) servedBy(n int) Binding {
	return Binding{ByDemand, fmt.Sprintf("%s the %s tasks per second", plural(n, "worker serves", "workers serve"), number(*t.p.Load.ArrivalPerS))}
}

func (t *task) explainDemand(n int) {
	t.reason("demand: ⌈%s/s × (%s + %s) ms ÷ 0.8⌉ = %d (Little's law, a fifth to spare)",
		number(*t.p.Load.ArrivalPerS), number(t.wait), number(t.planned), n)
}

// canServe reports whether the CPUs carry the rate: λ·C ≤ target × full.
func (t *task) canServe(out *proposal) bool {
	need, have := t.arrivals()*t.planned, t.p.Target()*t.full
	if need <= have*(1+slack) {
		return true
	}
	t.reason("infeasible: %s/s × %s ms need %s CPUs, and %s × %s can be had", number(*t.p.Load.ArrivalPerS), number(t.planned),
		number(need), number(t.p.Target()), number(t.full))
	out.miss(
		fmt.Sprintf("%s CPUs of this kind (now %s)", number(need/t.p.Target()), number(t.full)),
		fmt.Sprintf("at most %s tasks per second", number(have/t.planned*1000)),
		fmt.Sprintf("at most %s ms on the CPU for a task", number(have/t.arrivals())),
	)
	return false
}

// pureRule is for work that does not wait, or of which no more is known.
type pureRule struct{ *task }

func (t *pureRule) propose() proposal {
	out := proposal{by: t.pure.by}
	n := t.pure.n
	t.explainSiblings()
	t.explainSpeed(n)
	// A rate that fewer can serve needs no more: but the shortest time of one
	// task is the aim of latency.
	if t.arrivals() > 0 && t.cpu > 0 {
		if d := t.demand(); t.canServe(&out) && d < n && t.p.Objective != profiles.Latency {
			t.explainDemand(d)
			n, out.by = d, t.servedBy(d)
		}
	}
	out.workers = t.inOneModel(n)
	return out
}

func (t *task) explainSpeed(n int) {
	l := t.law
	switch {
	case l.static:
		t.reason("capacity: %d equal shares × %s, the slowest thread's speed = %s", min(n, l.cpus), number(l.pace[min(n, l.cpus)]), number(l.unlimited(n)))
	case l.drawn != nil:
		t.reason("capacity: %d threads draw what %s would without a common memory", n, number(l.unlimited(n)))
	case n > l.cores:
		t.reason("capacity: %s of %d cores + %s × siblings on %d of them = %s", number(l.held[l.cores]), l.cores, number(l.yield), n-l.cores, number(l.held[min(n, l.cpus)]))
	default:
		t.reason("capacity: %d cores, %s in the fastest kind's", n, number(l.held[n]))
	}
	if !math.IsInf(t.quota, 1) {
		t.reason("quota: capacity × min(1, %s/%d) = %s; %d runnable threads stall %s ms in each %s ms", number(t.quota), n, number(l.capacity(n)),
			n, number(*t.stall(n)), number(t.periodMS))
		if t.p.Objective != profiles.Latency && t.quota < float64(l.cores) && float64(floor(t.quota)) != t.quota {
			for _, k := range [...]int{floor(t.quota), ceil(t.quota)} {
				if k > 0 && k != n {
					t.reason("quota: %d would yield %s", k, number(l.speed(k)))
				}
			}
		}
	}
	if f := l.serial; f > 0 {
		t.reason("Amdahl: 1/(%s + %s/%s) = %s", number(f), number(1-f), number(l.capacity(n)), number(l.speed(n)))
	}
	if s := l.scaling; s != nil {
		t.reason("USL: capacity ÷ (1 + %s(n−1) + %s·n(n−1)) with n = %d: %s", number(s.Sigma), number(s.Kappa), n, number(l.speed(n)))
	}
}

func (t *pureRule) predict(w Workers) Prediction {
	n := w.Total()
	speed := t.law.speed(n)
	if t.p.Runtime == profiles.Python && w.Processes == 1 && w.Threads > 1 && t.sharesInterpreter() {
		speed = t.law.speed(1) // its threads take turns
	}
	out := Prediction{
		Speedup: figure(speed / t.law.first), ThroughputPS: t.perSecond(speed, t.cpu),
		Utilisation: figure(math.Min(1, speed/t.law.capacity(n))), StallMS: t.stall(n), Capacity: figure(t.law.capacity(n)),
	}
	if t.arrivals() > 0 && t.cpu > 0 {
		x := t.served(speed / t.cpu)
		out.Speedup = figure(x * t.cpu / t.law.first)
		out.ThroughputPS = figure(x * 1000)
		out.Utilisation = figure(x * t.cpu / speed)
	}
	knee := t.law.knee(t.pure.limit)
	out.Knee = &knee
	return out
}

func (t *pureRule) shrink(w Workers, n int) Workers { return t.resize(w, n) }

// latencyRule is for a target of the queueing wait: the fewest whole cores that
// meet it.
type latencyRule struct {
	*task
	waits  []float64 // ms at the quantile, by cores
	enough int       // cores; 0: no number is
}

func (t *latencyRule) propose() proposal {
	load := &t.p.Load
	limit := len(t.cores)
	by := Binding{ByCores, plural(limit, "core", "cores") + " can be used"}
	if t.kinds > 1 {
		by.Name = ByKinds
	}
	if whole := floor(t.quota); whole < limit {
		limit = whole
		by = Binding{ByQuota, fmt.Sprintf("the quota is the time of %s CPUs, %d whole ones", number(t.quota), limit)}
	}
	offered := t.arrivals() * t.cpu
	target := *load.WaitTargetMS
	queue := waiting{offered: offered, service: t.cpu}
	t.waits = append(make([]float64, 0, limit+1), math.Inf(1))
	c := 0
	for k := 1; k <= limit && c == 0; k++ {
		speed := t.law.shared(k)
		wait := queue.add(speed, load.Quantile)
		t.waits = append(t.waits, wait)
		if wait <= target*(1+slack) && offered <= 0.8*speed*(1+slack) {
			c = k
		}
	}
	out := proposal{by: by}
	if t.enough = c; c > 0 {
		t.reason("M/M/%d: %s/s × %s ms = %s CPUs of work; the %s-quantile of the wait is %s ms, at most %s; utilisation %s, at most 0.8",
			c, number(*load.ArrivalPerS), number(t.cpu), number(offered), number(load.Quantile), number(t.waits[c]), number(target), number(offered/t.law.shared(c)))
		if c > 1 {
			t.reason("M/M/%d would wait %s at utilisation %s", c-1, inWords(t.waits[c-1]), number(offered/t.law.shared(c-1)))
		}
		out.by = Binding{ByTarget, fmt.Sprintf("%s the wait within %s ms", plural(c, "core keeps", "cores keep"), number(target))}
	} else {
		c = max(1, limit)
		t.explainMiss(&out, queue, limit)
	}
	n := t.workersOf(c)
	if n > c {
		t.explainDemand(n)
		t.reason("%d workers: %d wait while %d compute", n, n-c, c)
	}
	out.workers = t.inOneModel(n)
	return out
}

// workersOf are the workers of c cores: as many, or more where tasks also wait
// and hold their worker meanwhile.
func (t *latencyRule) workersOf(c int) int {
	if t.wait > 0 && t.p.BlockingWaits() {
		return max(c, t.demand())
	}
	return c
}

func inWords(ms float64) string {
	if math.IsInf(ms, 1) {
		return "without end"
	}
	return number(ms) + " ms"
}

// explainMiss says what would meet the target: more cores, a lower rate, or
// more patience.
func (t *latencyRule) explainMiss(out *proposal, queue waiting, limit int) {
	load := &t.p.Load
	target := *load.WaitTargetMS
	offered := queue.offered
	t.reason("M/M/%d: %s/s × %s ms = %s CPUs of work; the %s-quantile of the wait is %s, and at most %s ms are asked for at a utilisation of at most 0.8",
		limit, number(*load.ArrivalPerS), number(t.cpu), number(offered), number(load.Quantile), inWords(t.waits[len(t.waits)-1]), number(target))
	var remedies []string
	for k := limit + 1; k <= 16*max(limit, 4); k++ {
		speed := t.law.unlimited(min(limit, len(t.cores))) + float64(k-limit) // further ones of the fastest kind
		if wait := queue.add(speed, load.Quantile); wait <= target && offered <= 0.8*speed {
			remedies = append(remedies, fmt.Sprintf("%d cores of the fastest kind (now %d)", k, limit))
			break
		}
	}
	if limit > 0 {
		if rate := t.mostArrivals(limit); rate > 0 {
			remedies = append(remedies, fmt.Sprintf("at most %s tasks per second", number(rate*1000)))
		}
		speed := t.law.shared(limit)
		if wait := t.waits[limit]; offered <= 0.8*speed && !math.IsInf(wait, 1) {
			remedies = append(remedies, fmt.Sprintf("a wait of %s ms at the quantile %s", number(wait), number(load.Quantile)))
		}
	}
	if len(remedies) == 0 {
		remedies = append(remedies, "a machine of another size: no number of cores near this one meets the target")
	}
	out.miss(remedies...)
}

// mostArrivals is the highest rate per ms that c cores serve within the target.
func (t *latencyRule) mostArrivals(c int) float64 {
	load := &t.p.Load
	low, high := 0.0, 0.8*t.law.shared(c)/t.cpu
	for range 60 {
		rate := (low + high) / 2
		queue := waiting{offered: rate * t.cpu, service: t.cpu}
		wait := math.Inf(1)
		for k := 1; k <= c; k++ {
			wait = queue.add(t.law.shared(k), load.Quantile)
		}
		if wait <= *load.WaitTargetMS {
			low = rate
		} else {
			high = rate
		}
	}
	return low
}

func (t *latencyRule) predict(w Workers) Prediction {
	n := min(w.Total(), len(t.cores))
	if q := floor(t.quota); q < n {
		n = max(1, q)
	}
	if t.enough > 0 && w.Total() >= t.workersOf(t.enough) {
		n = t.enough // the others wait, or hold a worker that waits
	}
	load := &t.p.Load
	queue := waiting{offered: t.arrivals() * t.cpu, service: t.cpu}
	wait, speed := 0.0, 0.0
	for k := 1; k <= n; k++ {
		speed = t.law.shared(k)
		if k == n {
			speed *= math.Min(1, t.quota/float64(n))
		}
		wait = queue.add(speed, load.Quantile)
	}
	x := math.Min(t.arrivals(), speed/t.cpu)
	return Prediction{
		Speedup: figure(speed / t.law.first), ThroughputPS: figure(x * 1000), Utilisation: figure(x * t.cpu / speed),
		WaitMS: figure(wait), StallMS: t.stall(n), Capacity: figure(speed),
	}
}

func (t *latencyRule) shrink(w Workers, n int) Workers { return t.resize(w, n) }

// blockingRule is for workers that wait and hold their thread meanwhile: a
// closed queue in which they think for the wait and are served by the CPUs.
type blockingRule struct{ *task }

func (t *blockingRule) throughput(n int) float64 {
	return closed(n, t.wait, t.planned, t.speeds) / t.planned
}

func (t *blockingRule) propose() proposal {
	t.explainSiblings()
	target := t.p.Target()
	start := int(target * t.full * (1 + t.wait/t.planned))
	n, ok := saturation(start, mostThreads, func(n int) bool {
		return closed(n, t.wait, t.planned, t.speeds) >= target*t.full*(1-slack)
	})
	out := proposal{by: Binding{ByCPU, fmt.Sprintf("%s %s %% of what the CPUs can do, at least %s %%", plural(n, "worker uses", "workers use"),
		number(100*closed(n, t.wait, t.planned, t.speeds)/t.full), number(100*target))}}
	if !ok {
		out.by = outOfThreads()
	}
	t.reason("closed queue: workers wait %s ms, then need %s ms of CPUs whose full speed is %s; %d are the fewest that use %s of it",
		number(t.wait), number(t.planned), number(t.full), n, number(target))
	goetz := t.full * (1 + t.wait/t.planned)
	if g := int(math.Round(goetz)); g >= 1 && g <= mostThreads {
		t.reason("Goetz's formula, %s × (1 + %s/%s) = %s, assumes that no two workers ever want the same CPU: in truth %s %% of full speed",
			number(t.full), number(t.wait), number(t.planned), number(goetz), number(100*closed(g, t.wait, t.planned, t.speeds)/t.full))
	}
	if t.arrivals() > 0 {
		if d := t.demand(); t.canServe(&out) && d <= n {
			t.explainDemand(d)
			n, out.by = d, t.servedBy(d)
		}
	}
	out.workers = t.inOneModel(n)
	return out
}

// mostThreads is PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h).
const mostThreads = 4 << 20

func outOfThreads() Binding {
	return Binding{ByMemory, fmt.Sprintf("the kernel has no more than %d numbers for threads (PID_MAX_LIMIT), and they do not fill the CPUs", mostThreads)}
}

func (t *blockingRule) predict(w Workers) Prediction {
	n := w.Total()
	return t.queuePrediction(t.throughput(n), n)
}

// queuePrediction turns a throughput per ms of n workers into what they yield.
func (t *task) queuePrediction(x float64, n int) Prediction {
	x = t.served(x)
	return Prediction{
		Speedup: figure(x * (t.wait + t.planned/t.law.first)), ThroughputPS: figure(x * 1000),
		Utilisation: figure(x * t.planned / t.full), StallMS: t.stall(n), Capacity: figure(t.speeds[min(n, len(t.speeds)-1)]),
	}
}

func (t *blockingRule) shrink(w Workers, n int) Workers { return t.resize(w, n) }

// nestedRule is for tasks that use several threads each, and for MPI ranks.
type nestedRule struct{ *task }

// limit is N of the advice: one thread per core, within the quota.
func (t *nestedRule) limit() int { return min(len(t.cores), max(1, floor(t.quota))) }

// threads are those of all workers together: N, or fewer where a fitted law,
// the memory's bandwidth or slow cores make fewer faster.
func (t *nestedRule) threads() int { return t.law.best(t.limit()) }

// ranks is how many workers the machine's objects call for; 0 where the tasks
// decide.
func (t *nestedRule) ranks() int {
	switch t.p.Load.RanksPer {
	case profiles.PerNode:
		return len(t.nodes)
	case profiles.PerLLC:
		return len(t.groups)
	case profiles.PerCore:
		return len(t.cores)
	}
	return 0
}

func (t *nestedRule) propose() proposal {
	n := t.threads()
	out := proposal{by: Binding{ByCores, plural(n, "core", "cores") + " can be used"}}
	switch {
	case n < t.limit():
		out.by = t.pure.by
	case n < len(t.cores):
		out.by = Binding{ByQuota, fmt.Sprintf("the quota is the time of %s CPUs, %d whole ones", number(t.quota), n)}
	case t.kinds > 1:
		out.by.Name = ByKinds
	}
	workers := n
	tasks := t.p.Load.Tasks
	switch ranks := t.ranks(); {
	case ranks > 0:
		workers = min(ranks, n)
		t.reason("a rank per %s: %d, with ⌊%d ÷ %d⌋ threads each", t.p.Load.RanksPer, workers, n, workers)
	case tasks == nil:
		t.assume("load.tasks is not known: taken as at least four for each of the %d cores, so that every core has its own.", n)
	case *tasks >= 4*int64(n):
		t.reason("%d tasks are at least 4 × %d: a worker per core with one thread keeps them busiest", *tasks, n)
	case *tasks < int64(n):
		workers = int(*tasks)
		out.by = Binding{ByTasks, "there " + plural(workers, "is", "are") + " tasks"}
		t.reason("%d tasks for %d cores: ⌊%d ÷ %d⌋ = %d threads inside each", workers, n, n, workers, n/workers)
	default:
		t.reason("%d tasks for %d cores: fewer than 4 for each, but none has cores to spare", *tasks, n)
	}
	out.workers = t.split(workers)
	return out
}

// split gives the threads to so many workers.
func (t *nestedRule) split(workers int) Workers {
	return Workers{Model: Processes, Processes: workers, Threads: 1, Inner: max(1, t.threads()/workers)}
}

func (t *nestedRule) predict(w Workers) Prediction {
	out := (&pureRule{t.task}).predict(w)
	knee := t.law.knee(t.limit())
	out.Knee = &knee
	return out
}

// shrink takes the most workers that leave the fewest threads over, as many as
// there are tasks if those bind.
func (t *nestedRule) shrink(w Workers, n int) Workers {
	if tasks := t.p.Load.Tasks; tasks != nil && *tasks == int64(n) {
		return t.split(n)
	}
	best := t.split(max(1, min(w.Processes, n)))
	for fewer := best.Processes - 1; fewer > 0; fewer-- {
		if now := t.split(fewer); now.Total() > best.Total() {
			best = now
		}
	}
	return best
}
