package advisor

import (
	"math"

	"berth/probe"
	"berth/profiles"
)

// slack is what rounding may take from a count: ceilings, floors and ties
// allow for it.
const slack = 1e-9

func ceil(x float64) int  { return whole(math.Ceil(x*(1-slack) - slack)) }
func floor(x float64) int { return whole(math.Floor(x*(1+slack) + slack)) }

// whole makes an int of a count; one beyond all counts, as no quota is, stays
// beyond them.
func whole(x float64) int { return int(math.Min(x, math.MaxInt32)) }

// law is the throughput of n busy threads, in tasks of one idle core of the
// machine's fastest kind: what their cores and siblings hold, less what the
// quota, memory bandwidth, the serial part and coherence take.
type law struct {
	cores, cpus int
	yield       float64   // of each SMT sibling
	held        []float64 // capacity of the first n threads, fastest cores first, siblings last
	pace        []float64 // the slowest of the first n threads
	drawn       []float64 // what n threads draw from memory, in threads; nil: as much as they can
	wanted      []int     // with drawn: the threads that fill each node
	quota       float64
	first       float64 // the fastest core there is
	serial      float64
	scaling     *profiles.Scaling
	static      bool
}

// newLaw orders the cores by speed: a core's first thread counts with its rate,
// each sibling with the yield of it.
func newLaw(r *room, p *profiles.Profile, yield float64) *law {
	l := &law{
		cores: len(r.cores), cpus: r.cpus.Len(), yield: yield, quota: r.quota,
		serial: p.Work.SerialFraction, scaling: p.Scaling, static: p.Work.Partition == profiles.Static,
	}
	l.held = append(make([]float64, 0, l.cpus+1), 0)
	l.pace = append(make([]float64, 0, l.cpus+1), math.Inf(1))
	order := bySpeed(r.cores)
	l.first = r.cores[order[0]].rate
	for thread := 0; len(l.held) <= l.cpus; thread++ {
		for _, i := range order {
			c := &r.cores[i]
			if thread >= len(c.cpus) {
				continue
			}
			share, gain := c.rate, c.rate
			if thread > 0 {
				gain = c.rate * yield
				share = c.rate * (1 + float64(thread)*yield) / float64(thread+1)
			}
			n := len(l.held) - 1
			l.held = append(l.held, l.held[n]+gain)
			l.pace = append(l.pace, math.Min(l.pace[n], share))
		}
	}
	return l
}

// bySpeed are the places of cores, the fastest kind first.
func bySpeed(cores []core) []int {
	kinds := 0
	for _, c := range cores {
		kinds = max(kinds, c.kind)
	}
	order := make([]int, 0, len(cores))
	for kind := 0; kind <= kinds; kind++ {
		for i, c := range cores {
			if c.kind == kind {
				order = append(order, i)
			}
		}
	}
	return order
}

// drawFrom limits the law by the bandwidth of the nodes: the threads are dealt
// to them in turn, each node up to ⌈bandwidth ÷ thread's⌉ and its cores. A
// node that is not in gbs counts as never full.
func (l *law) drawFrom(r *room, gbs map[int]float64, thread float64) {
	wanted := make([]int, len(r.nodes))
	l.wanted = wanted
	total := 0
	for i, n := range r.nodes {
		wanted[i] = n.cores
		if b, ok := gbs[n.id]; ok && n.known {
			wanted[i] = max(1, min(n.cores, ceil(b/thread)))
		}
		total += wanted[i]
	}
	l.drawn = make([]float64, 1, l.cpus+1)
	placed := make([]int, len(r.nodes))
	for n := 0; n < total; {
		for i := range r.nodes {
			if placed[i] == wanted[i] {
				continue
			}
			gain := 1.0
			if b, ok := gbs[r.nodes[i].id]; ok && r.nodes[i].known {
				k := float64(placed[i])
				gain = math.Min((k+1)*thread, b)/thread - math.Min(k*thread, b)/thread
			}
			placed[i]++
			n++
			l.drawn = append(l.drawn, l.drawn[n-1]+gain)
		}
	}
}

// capacity of n threads: in idle cores of the fastest kind, under the quota. No
// more threads run at a time than there are CPUs.
func (l *law) capacity(n int) float64 {
	return l.unlimited(n) * math.Min(1, l.quota/float64(max(1, min(n, l.cpus))))
}

// unlimited is the capacity without the quota.
func (l *law) unlimited(n int) float64 {
	k := min(n, l.cpus)
	if l.static && l.drawn == nil && k > 0 {
		return float64(k) * l.pace[k]
	}
	return l.shared(k)
}

// shared is the capacity of n threads that take work as they become free. Where
// memory's bandwidth is what they are bound by, a slow core draws as much of it
// as a fast one.
func (l *law) shared(n int) float64 {
	k := min(n, l.cpus)
	if l.drawn != nil {
		return l.drawn[min(k, len(l.drawn)-1)]
	}
	return l.held[k]
}

// speed is the throughput of n threads of pure work, in tasks of the fastest
// kind's idle core.
//
// A fitted Universal Scalability Law, n/(1 + σ(n−1) + κn(n−1)), stands for the
// capacity: it was fitted to what n workers did, on whatever they sat (Gunther,
// Guerrilla Capacity Planning, 2007). Amdahl's law, 1/(f + (1−f)/capacity), runs
// the serial part on the fastest core (AFIPS 1967).
func (l *law) speed(n int) float64 {
	if l.scaling != nil {
		return l.fitted(n) * l.first * math.Min(1, l.quota/float64(max(1, min(n, l.cpus))))
	}
	capacity := l.capacity(n)
	if f := l.serial; f > 0 && n > 0 {
		return 1 / (f/(math.Min(1, l.quota)*l.first) + (1-f)/capacity)
	}
	return capacity
}

// fitted is the fitted law's speed-up of n workers, of whom no more run than
// there are CPUs.
func (l *law) fitted(n int) float64 {
	s, k := l.scaling, float64(min(n, l.cpus))
	return k / (1 + s.Sigma*(k-1) + s.Kappa*k*(k-1))
}

// peak is the count beyond which the fitted law falls, √((1−σ)/κ): of the two
// whole numbers beside it the better. 0: there is none.
func (l *law) peak() int {
	s := l.scaling
	if s == nil || s.Kappa == 0 {
		return 0
	}
	at := math.Sqrt(math.Max(0, 1-s.Sigma) / s.Kappa)
	if at > 1e9 {
		return 0
	}
	low := max(1, int(at))
	x := func(n int) float64 {
		k := float64(n)
		return k / (1 + s.Sigma*(k-1) + s.Kappa*k*(k-1))
	}
	if x(low+1) > x(low)*(1+slack) {
		return low + 1
	}
	return low
}

// best is the count up to limit with the highest speed; ties go to fewer.
func (l *law) best(limit int) int {
	best, most := 1, l.speed(1)
	for n := 2; n <= limit; n++ {
		if x := l.speed(n); x > most*(1+slack) {
			best, most = n, x
		}
	}
	return best
}

// knee is the smallest count with 95 % of the best speed up to limit.
func (l *law) knee(limit int) int {
	enough := 0.95 * l.speed(l.best(limit)) * (1 - slack)
	for n := 1; n < limit; n++ {
		if l.speed(n) >= enough {
			return n
		}
	}
	return limit
}

// The advice has one default for each kind of work, used where neither the
// profile nor a measurement says better. Measured cases run from minus to plus.
func defaultYield(k profiles.Kind) float64 {
	switch k {
	case profiles.Integer:
		return 0.15
	case profiles.MemoryLatency:
		return 0.30
	case profiles.Service:
		return 0.25
	}
	return 0 // float, memory-bandwidth
}

// yieldThatPays is the least sibling yield for which a sibling is used.
const yieldThatPays = 0.10

// smtYield finds the extra throughput of a sibling, and says whose it is.
func (r *room) smtYield(p *profiles.Profile, c *probe.Calibration) float64 {
	if r.cpus.Len() == len(r.cores) {
		return 0
	}
	if y := p.Work.SMTYield; y != nil {
		r.reason("SMT: a sibling adds %s of a core (the profile's smt_yield)", number(*y))
		return *y
	}
	kind := p.Work.Kind
	if c != nil {
		if y, ok := c.SMTYield[string(kind)]; ok {
			r.reason("SMT: a sibling adds %s of a core for %s work (calibration)", number(y), kind)
			return y
		}
	}
	y := defaultYield(kind)
	r.assume("A sibling adds %s of a core for %s work, the default: not measured here, and real cases run from -0.1 to +0.3.", number(y), kind)
	return y
}
