package advisor

import (
	"fmt"
	"math"

	"berth/probe"
	"berth/profiles"
)

// task is the workload on the machine: what every rule computes from.
type task struct {
	*room
	p   *profiles.Profile
	law *law
	// pays: SMT siblings are worth using for this kind of work and objective.
	pays bool
	pure count // of busy threads, as for work without waits

	cpu, wait float64 // ms; cpu 0 where it is not known
	// planned and interpreted are the cpu and Python parts that queues are
	// planned with: less than measured where that was under light load.
	planned, interpreted float64
	// full is the speed at the pure count, and speeds that of k threads at
	// service, up to it.
	full   float64
	speeds []float64
}

// count is a number of busy threads and what stops a larger one.
type count struct {
	n, limit int
	by       Binding
}

func newTask(r *room, p *profiles.Profile, c *probe.Calibration) *task {
	t := &task{room: r, p: p, wait: p.Work.WaitMS}
	if p.Work.CPUMS != nil {
		t.cpu = *p.Work.CPUMS
	}
	yield := r.smtYield(p, c)
	t.law = newLaw(r, p, yield)
	if t.law.static && t.cpu > 0 && t.wait > 0 {
		t.law.static = false
		t.assume("partition: static was not used: tasks that wait are taken by whoever is free.")
	}
	t.pays = yield >= yieldThatPays && p.Objective == profiles.Throughput && p.Work.Kind != profiles.MemoryBandwidth && t.cpus.Len() > len(t.cores)
	t.drawBandwidth(c)
	t.pure = t.countBusy()
	t.planForLoad()
	t.shareOut()
	return t
}

// drawBandwidth limits the law of bandwidth-bound work by what is known.
func (t *task) drawBandwidth(c *probe.Calibration) {
	if t.p.Work.Kind != profiles.MemoryBandwidth {
		return
	}
	thread := t.p.Work.ThreadBandwidthGBS
	gbs := map[int]float64{}
	if c != nil {
		for i := range t.nodes {
			if b, ok := c.MemoryBandwidthGBS[fmt.Sprint(t.nodes[i].id)]; ok && t.nodes[i].known {
				gbs[t.nodes[i].id] = b
			}
		}
	}
	switch {
	case thread == nil && len(gbs) == 0:
		t.assume("Neither the nodes' memory bandwidth nor a thread's share is known: one thread per core.")
		return
	case thread == nil:
		t.assume("work.thread_bandwidth_gbs is not known: one thread per core, though fewer may fill the memory.")
		return
	case len(gbs) < len(t.nodes):
		t.assume("The memory bandwidth of %d of %d nodes is not known: one thread per core there. `berth experiment memory --save` measures it.",
			len(t.nodes)-len(gbs), len(t.nodes))
	}
	for _, n := range t.nodes {
		if b, ok := gbs[n.id]; ok && n.known {
			t.reason("node %d: ⌈%s GB/s ÷ %s GB/s a thread⌉ = %d threads fill its memory; it has %d cores here",
				n.id, number(b), number(*thread), ceil(b / *thread), n.cores)
		}
	}
	if len(gbs) > 0 {
		t.law.drawFrom(t.room, gbs, *thread)
	}
}

// countBusy is the rule for pure work: the best count of threads that the
// objective may use.
func (t *task) countBusy() count {
	out := count{limit: t.law.cores, by: Binding{ByCores, plural(t.law.cores, "core", "cores") + " can be used"}}
	if t.pays {
		out.limit = t.law.cpus
		out.by = Binding{ByCPUs, fmt.Sprintf("%d CPUs on %d cores can be used", t.law.cpus, t.law.cores)}
	}
	if t.kinds > 1 {
		out.by = Binding{ByKinds, out.by.Detail + ", of more than one kind"}
	}
	if peak := t.law.peak(); peak > 0 {
		s := t.p.Scaling
		t.reason("USL: the peak √((1−%s)/%s) = %s, so never more than %d", number(s.Sigma), number(s.Kappa),
			number(math.Sqrt((1-s.Sigma)/s.Kappa)), peak)
		if peak < out.limit {
			out.limit = peak
			out.by = Binding{ByPeak, fmt.Sprintf("beyond %s the fitted law falls", plural(peak, "worker", "workers"))}
		}
	}
	if t.quota < float64(out.limit) {
		out.limit = max(1, floor(t.quota))
		if t.p.Objective == profiles.Throughput {
			out.limit = ceil(t.quota)
		}
		out.by = Binding{ByQuota, fmt.Sprintf("the quota is the time of %s CPUs", number(t.quota))}
	}
	out.n = t.law.best(out.limit)
	switch {
	case out.n == out.limit || out.by.Name == ByQuota && out.n >= floor(t.quota) || out.by.Name == ByPeak:
	case t.law.static && t.law.drawn == nil && t.kinds > 1:
		out.by = Binding{ByKinds, fmt.Sprintf("with equal shares a slower core would set the pace of all; %s alike", plural(out.n, "shares", "share"))}
	case t.law.drawn != nil:
		out.by = Binding{ByBandwidth, plural(out.n, "thread fills", "threads fill") + " the memory's bandwidth"}
	case t.p.Scaling != nil:
		out.by = Binding{ByPeak, fmt.Sprintf("by the fitted law more than %s add nothing", plural(out.n, "worker", "workers"))}
	}
	if t.p.Objective == profiles.Efficiency {
		if knee := t.law.knee(out.limit); knee < out.n {
			t.reason("efficiency: %d workers give 95 %% of what %d would (%s of %s)", knee, out.n,
				number(t.law.speed(knee)/t.law.first), number(t.law.speed(out.n)/t.law.first))
			out.by.Detail += fmt.Sprintf(", and more than %d add less than 5 %%", knee)
			out.n = knee
		}
	}
	return out
}

func (t *task) explainSiblings() {
	y := number(t.law.yield)
	switch {
	case t.law.cpus == t.law.cores:
	case t.pays:
		t.reason("siblings are used: a yield of %s is at least %s, so n = %d CPUs", y, number(yieldThatPays), t.law.cpus)
	case t.p.Work.Kind == profiles.MemoryBandwidth:
		t.reason("siblings are left idle: they share their core's path to memory, so n ≤ %d cores", t.law.cores)
	case t.p.Objective != profiles.Throughput:
		t.reason("siblings are left idle: the objective is %s, so n ≤ %d cores", t.p.Objective, t.law.cores)
	default:
		t.reason("siblings are left idle: a yield of %s is below %s, so n ≤ %d cores", y, number(yieldThatPays), t.law.cores)
	}
}

// lightLoad is the share of a task's on-CPU time that is left under load, where
// it was measured on workers that mostly waited: those pay for waking up.
const lightLoad = 0.7

func (t *task) planForLoad() {
	t.planned = t.cpu
	t.interpreted = math.Max(0, t.cpu-t.p.Work.NativeMS)
	if m := t.p.Measured; m != nil && m.Utilisation != nil && *m.Utilisation < 0.5 && t.cpu > 0 && t.wait > 0 {
		t.planned *= lightLoad
		t.interpreted *= lightLoad
		t.assume("cpu_ms was measured on workers that were busy %s %% of the time and paid for waking up: counts are planned with 0.7 of it, %s ms.",
			number(100**m.Utilisation), number(t.planned))
	}
}

// shareOut finds the speeds of k threads at service, and the full speed: under
// a quota below the cores, that of the quota, of which a fraction counts; else
// that of the count for pure work. They are capacities: requests that wait have
// no serial part in common.
func (t *task) shareOut() {
	l := t.law
	t.speeds = []float64{0}
	best := 0.0
	if t.quota < float64(l.cores) {
		whole := floor(t.quota)
		for k := 1; k <= whole; k++ {
			best = math.Max(best, l.shared(k))
			t.speeds = append(t.speeds, best)
		}
		if part := t.quota - float64(whole); part > slack {
			held := l.shared(whole) + part*(l.shared(whole+1)-l.shared(whole))
			best = math.Max(best, held)
			t.speeds = append(t.speeds, best)
		}
		t.full = best
		return
	}
	n := t.pure.n
	t.full = l.shared(n) * math.Min(1, t.quota/float64(n))
	for k := 1; k <= l.cpus && best < t.full; k++ {
		best = math.Max(best, math.Min(t.full, l.shared(k)))
		t.speeds = append(t.speeds, best)
	}
}

// perSecond turns a speed into tasks per second, if a task's cost is known.
func (t *task) perSecond(speed, cpu float64) *float64 {
	if cpu == 0 {
		return nil
	}
	return figure(speed * 1000 / cpu)
}

// figure is a number on its way into a plan: finite and without noise.
func figure(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	if x != 0 {
		scale := math.Pow10(7 - int(math.Ceil(math.Log10(math.Abs(x)))))
		if rounded := math.Round(x*scale) / scale; !math.IsInf(scale, 0) && scale > 0 {
			x = rounded
		}
	}
	return &x
}

// stall is how long n runnable threads stand still in each quota period, at
// worst: T·max(0, 1 − Q/n).
func (t *task) stall(n int) *float64 {
	n = min(n, t.law.cpus)
	return figure(t.periodMS * math.Max(0, 1-t.quota/float64(max(n, 1))))
}

// arrivals are tasks per ms; 0 where no rate is given.
func (t *task) arrivals() float64 {
	if t.p.Load.ArrivalPerS == nil {
		return 0
	}
	return *t.p.Load.ArrivalPerS / 1000
}
