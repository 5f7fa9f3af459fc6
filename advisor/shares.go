package advisor

import "berth/probe/cpuset"

// Each is the number of threads of each process, those within a nested task
// included.
func (w Workers) Each() int { return w.Threads * max(1, w.Inner) }

// Running is how many threads of one process can run at a time: no more than it
// has, than the CPUs of its seat, and than its part of the budget, rounded up.
func (p *Plan) Running() int {
	n := min(p.Workers.Each(), max(1, ceil(p.BudgetCPUs/float64(p.Workers.Processes))))
	if seat := p.widestSeat(); seat > 0 {
		n = min(n, seat)
	}
	return n
}

// widestSeat is the most CPUs that any of the processes is seated on; 0 where
// they have no seats.
func (p *Plan) widestSeat() int {
	seats := make([][]cpuset.Set, p.Workers.Processes)
	for _, s := range p.Placement.Seats {
		seats[s.Worker] = append(seats[s.Worker], s.CPUs)
	}
	widest := 0
	for _, mine := range seats {
		widest = max(widest, cpuset.UnionAll(mine...).Len())
	}
	return widest
}

// mask is how many CPUs a process may use, as its runtime counts them: those of
// its seat, or all that the plan may use.
func (p *Plan) mask() int {
	if seat := p.widestSeat(); seat > 0 {
		return seat
	}
	return p.Placement.CPUs.Len()
}

// Quota is the CPU time that the plan is limited to, in CPUs; 0 where nothing but
// the number of CPUs limits it.
func (p *Plan) Quota() float64 {
	if p.BudgetCPUs < float64(p.Placement.CPUs.Len()) {
		return p.BudgetCPUs
	}
	return 0
}

// AtOnce is how many tasks are in hand at a time, in all workers together: the
// jobs of a build tool, and the connections of a pool in front of a server that
// has a process for each. Whoever comes beyond them waits.
func (p *Plan) AtOnce() int {
	if p.Workers.InFlight > 0 {
		return p.Workers.InFlight
	}
	return p.Workers.Processes * p.Workers.Threads
}

// InFlightEach is the part of the tasks in flight that each of so many processes
// has: rounded up, but not where that would be more than what they wait for
// takes. 0: the plan has no tasks in flight.
func (p *Plan) InFlightEach(processes int) int {
	n := p.Workers.InFlight
	if n > 0 && p.Binding.Name == ByDown {
		return max(1, n/processes)
	}
	return (n + processes - 1) / processes
}

// ConnectionsEach is how many connections the tasks in flight of each of so many
// processes need in a server that passes requests on: one to the client and one
// to the server behind.
func (p *Plan) ConnectionsEach(processes int) int { return 2 * p.InFlightEach(processes) }
