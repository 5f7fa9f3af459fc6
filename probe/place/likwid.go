package place

import (
	"slices"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// likwid reads a thread expression of likwid-pin(1), "CPU EXPRESSION": parts
// joined by "@", each of them one of
//
//	0,2,4-6          Linux CPU numbers
//	S0:0-3           numbers within a domain; also L:S0:0-3, and L:0-3 for all
//	S0               a whole domain
//	E:S0:4           the first 4 of a domain
//	E:S0:4:1:2       4 of a domain in chunks of 1, each 2 behind the last; with
//	                 a fifth number, beginning there
//	M:scatter        from the domains of a sort in turn; M:scatter:8 stops at 8
//	M:balanced:8     as many from each domain of a sort
//
// The domains are N, all; S, packages; D, dies; C, last-level caches; and M,
// NUMA nodes. Lists and scatter count the first hardware thread of every core
// first, then the second ones; E, balanced and whole domains go core by core.
//
// likwid renumbers its domains inside a cpuset, and takes even plain numbers
// for such then. Here they are those of all online CPUs, wherever berth runs.
// Where likwid goes round when a number is too large, or passes in silence over
// what is not there, that is a mistake here.
func (p *parser) likwid() (Places, error) {
	if p.done() {
		return nil, p.fail(p.at, "the expression is empty", "for example likwid:S0:0-3")
	}
	threads := p.machine.threads()
	var places Places
	for {
		start := p.at
		cpus, err := p.likwidPart(threads)
		if err != nil {
			return nil, err
		}
		if len(places)+len(cpus) > most {
			return nil, p.tooMany(start)
		}
		for _, c := range cpus {
			places = append(places, cpuset.Range(c, c))
		}
		switch {
		case p.done():
			return places, nil
		case !p.take("@"):
			return nil, p.fail(p.at, "the part does not end here", `"@" joins parts, and there are no spaces`)
		}
	}
}

func (p *parser) likwidPart(threads threads) ([]cpuset.CPU, error) {
	switch {
	case isDigit(p.next()):
		return p.likwidNumbers()
	case p.take("E:"):
		return p.likwidExpression(threads)
	case p.take("L:"):
		if isDigit(p.next()) {
			return p.likwidList(domain{"the machine", [][]cpuset.CPU{threads.order}, true}, threads)
		}
		d, err := p.oneDomain(threads)
		if err == nil && !p.take(":") {
			err = p.fail(p.at, "a list is missing", "as in L:"+d.name+":0-3")
		}
		if err != nil {
			return nil, err
		}
		return p.likwidList(d, threads)
	}
	at := p.at
	d, err := p.domain(threads)
	if err != nil {
		return nil, err
	}
	numbers := p.take(":")
	switch {
	case numbers && !isDigit(p.next()):
		return p.likwidMethod(d, threads)
	case !d.one:
		return nil, p.noNumber(at, d)
	case numbers:
		return p.likwidList(d, threads)
	}
	return d.parts[0], nil
}

// likwidNumbers reads Linux CPU numbers, in the order given.
func (p *parser) likwidNumbers() ([]cpuset.CPU, error) {
	online := p.machine.Online
	return p.likwidRanges(func(at, n int) (cpuset.CPU, error) {
		if n >= cpuset.Limit || !online.Contains(cpuset.CPU(n)) {
			return 0, p.failf(at, shorten(online.String())+" are online", "CPU %d is not there", n)
		}
		return cpuset.CPU(n), nil
	})
}

// likwidList reads numbers within a domain.
func (p *parser) likwidList(d domain, threads threads) ([]cpuset.CPU, error) {
	numbered := threads.first(d.parts[0])
	return p.likwidRanges(func(at, n int) (cpuset.CPU, error) {
		if n >= len(numbered) {
			return 0, p.fail(at, d.has(), "")
		}
		return numbered[n], nil
	})
}

// likwidRanges reads "0,2,4-6"; a range may run backwards.
func (p *parser) likwidRanges(cpu func(at, n int) (cpuset.CPU, error)) ([]cpuset.CPU, error) {
	const hint = "a list is made of 3, 0-3 or 3-0, with commas between"
	start := p.at
	var out []cpuset.CPU
	for {
		firstAt := p.at
		first, err := p.number(hint)
		if err != nil {
			return nil, err
		}
		last, lastAt := first, firstAt
		if p.take("-") {
			lastAt = p.at
			if last, err = p.number(hint); err != nil {
				return nil, err
			}
		}
		step := 1
		if last < first {
			step = -1
		}
		for n := first; ; n += step {
			at := firstAt
			if n != first {
				at = lastAt
			}
			c, err := cpu(at, n)
			if err != nil {
				return nil, err
			}
			if out = append(out, c); len(out) > most {
				return nil, p.tooMany(start)
			}
			if n == last {
				break
			}
		}
		if !p.take(",") {
			return out, nil
		}
	}
}

// likwidExpression reads what follows "E:". Numbers that reach past the end of
// the domain go on from its beginning, as in likwid.
func (p *parser) likwidExpression(threads threads) ([]cpuset.CPU, error) {
	const hint = "E:DOMAIN:COUNT, or E:DOMAIN:COUNT:CHUNK:STRIDE"
	d, err := p.oneDomain(threads)
	if err != nil {
		return nil, err
	}
	domain := d.parts[0]
	var numbers, places [4]int
	given := 0
	for given < len(numbers) && p.take(":") {
		places[given] = p.at
		if numbers[given], err = p.number(hint); err != nil {
			return nil, err
		}
		if numbers[given] == 0 && given < 3 {
			return nil, p.fail(places[given], "it is at least 1", hint)
		}
		given++
	}
	n, chunk, stride, offset := numbers[0], numbers[1], numbers[2], numbers[3]
	all := p.machine.Online.Len()
	switch {
	case given == 0:
		return domain, nil
	case given == 2:
		return nil, p.fail(p.at, "a stride is missing", hint)
	case given == 1:
		chunk, stride = 1, 1
	}
	switch {
	case n > all:
		return nil, p.failf(places[0], "", "the machine has only %d CPUs", all)
	case offset >= len(domain):
		return nil, p.fail(places[3], d.has(), "")
	}
	var out []cpuset.CPU
	for at := offset; ; {
		for i := at; i < min(at+chunk, len(domain)); i++ {
			if out = append(out, domain[i]); len(out) == n {
				return out, nil
			}
		}
		if at += stride; at >= len(domain) {
			at = offset
		}
	}
}

// likwidMethod reads what follows "M:" if that is no list: "scatter" and its
// like, with the number of threads.
func (p *parser) likwidMethod(d domain, threads threads) ([]cpuset.CPU, error) {
	at := p.at
	method := p.run(isLetter)
	if method != "scatter" && method != "balanced" {
		hint := "here stands a list, scatter or balanced"
		if like := nearest(method, "scatter", "balanced"); like != "" {
			hint = "did you mean " + like + "?"
		}
		return nil, p.fail(at, "neither numbers nor a way to choose them", hint)
	}
	domains := slices.DeleteFunc(d.parts, func(cpus []cpuset.CPU) bool { return len(cpus) == 0 })
	if len(domains) == 0 {
		return nil, p.fail(at, d.name+" has no CPUs", "")
	}
	var err error
	total := 0
	for _, d := range domains {
		total += len(d)
	}
	n := total
	if p.take(":") {
		numberAt := p.at
		if n, err = p.number("the number of threads"); err != nil {
			return nil, err
		}
		if n == 0 || n > total {
			return nil, p.failf(numberAt, "", "it is from 1 to %d, the hardware threads of all these domains", total)
		}
	}
	if method == "scatter" {
		return scatter(domains, n, threads), nil
	}
	var out []cpuset.CPU
	for i, d := range domains {
		share := n / len(domains)
		if i < n%len(domains) {
			share++
		}
		if share > len(d) {
			return nil, p.failf(at, "scatter takes more from the others", "an equal share is %d threads, and one of the domains has %d", share, len(d))
		}
		out = append(out, d[:share]...)
	}
	return out, nil
}

func scatter(domains [][]cpuset.CPU, n int, threads threads) []cpuset.CPU {
	numbered := make([][]cpuset.CPU, len(domains))
	for i, d := range domains {
		numbered[i] = threads.first(d)
	}
	out := make([]cpuset.CPU, 0, n)
	for round := 0; ; round++ {
		for _, d := range numbered {
			if round >= len(d) {
				continue
			}
			if out = append(out, d[round]); len(out) == n {
				return out
			}
		}
	}
}

// domain is a domain of likwid's, or all domains of a letter.
type domain struct {
	name  string
	parts [][]cpuset.CPU // core by core
	one   bool
}

func (d domain) has() string {
	return d.name + " has " + among("hardware thread", len(d.parts[0]))
}

const domainHint = "the domains are N, S0, D0, C0 and M0, with the numbers that there are"

// domain reads "N", "S0" or "S", the last for all packages. A package without
// known dies is a die, as in likwid.
func (p *parser) domain(threads threads) (domain, error) {
	at := p.at
	typ, ok := map[byte]string{'N': "machine", 'S': "package", 'D': "die", 'C': "llc", 'M': "numa"}[p.next()]
	if !ok {
		return domain{}, p.fail(at, "no domain", domainHint)
	}
	p.at++
	level := p.machine.level(typ)
	if typ == "die" && len(level.sets) == 0 {
		level = p.machine.level("package")
	}
	switch d := (domain{p.expr[at:p.at], threads.split(level.sets), false}); {
	case len(level.sets) == 0:
		return d, p.failf(at, "berth inspect shows what is known of it", "of this machine no %s is known", level.noun)
	case typ == "machine":
		d.one = true
		return d, nil
	case !isDigit(p.next()):
		return d, nil
	default:
		n, err := p.number(domainHint)
		switch d.name = p.expr[at:p.at]; {
		case err != nil:
		case n >= len(d.parts):
			err = p.fail(at, "the machine has "+among(level.noun, len(d.parts)), "")
		case len(d.parts[n]) == 0:
			err = p.fail(at, "the domain has no CPUs", "")
		default:
			d.parts, d.one = d.parts[n:n+1], true
		}
		return d, err
	}
}

func (p *parser) oneDomain(threads threads) (domain, error) {
	at := p.at
	d, err := p.domain(threads)
	if err == nil && !d.one {
		err = p.noNumber(at, d)
	}
	return d, err
}

func (p *parser) noNumber(at int, d domain) error {
	return p.failf(at, "give its number, as in "+d.name+"0", "%s is not one domain but all of its sort", d.name)
}

// threads is the hardware threads of a machine as likwid looks at them.
type threads struct {
	order  []cpuset.CPU // core by core
	number []int        // for each CPU, the how manieth of its core it is
}

func (m *machine) threads() threads {
	t := threads{order: m.LogicalOrder(), number: make([]int, int(m.Online.Last())+1)}
	for _, core := range m.level("core").sets {
		n := 0
		for c := range core.All() {
			t.number[c] = n
			n++
		}
	}
	return t
}

// split gives each set its CPUs, core by core.
func (t threads) split(sets []cpuset.Set) [][]cpuset.CPU {
	owners := topology.Owners(len(t.number), sets, func(s cpuset.Set) cpuset.Set { return s })
	out := make([][]cpuset.CPU, len(sets))
	for _, c := range t.order {
		if i := owners[c]; i >= 0 {
			out[i] = append(out[i], c)
		}
	}
	return out
}

// first puts the first threads of all cores before the second ones.
func (t threads) first(cpus []cpuset.CPU) []cpuset.CPU {
	out := slices.Clone(cpus)
	slices.SortStableFunc(out, func(a, b cpuset.CPU) int { return t.number[a] - t.number[b] })
	return out
}
