package place

import (
	"strings"

	"berth/probe/cpuset"
)

// omp reads a value of OMP_PLACES (OpenMP 5.1): an abstract name, with the
// number of places in parentheses if not all are wanted, or places and intervals
// of them with commas between.
//
//	cores(4)          the first four cores
//	{0,1},{2,3}       two places
//	{0:2}:4:2         four places of two CPUs each, {0,1} and every second on
//	{0:4,!2},4:3      0, 1 and 3; 4; 5; 6
//	{0:2}:4:2,!{2,3}  without the second
//
// A missing stride is 1. Numbers are Linux CPU numbers, as in GNU's libgomp. What
// that passes over because it is not there is a mistake here.
func (p *parser) omp() (Places, error) {
	p.skipSpace()
	if isLetter(p.next()) {
		return p.ompName()
	}
	o := ompParser{parser: p, online: make([]bool, int(p.machine.Online.Last())+1)}
	for c := range p.machine.Online.All() {
		o.online[c] = true
	}
	var places Places
	for {
		start := p.at
		excluded := p.take("!")
		p.skipSpace()
		place, err := o.place()
		if err != nil {
			return nil, err
		}
		p.skipSpace()
		if excluded {
			if places, err = o.exclude(start, places, place); err != nil {
				return nil, err
			}
		} else if places, err = o.interval(start, places, place); err != nil {
			return nil, err
		}
		p.skipSpace()
		switch {
		case p.done() && len(places) == 0:
			return nil, p.fail(start, "no place is left", "")
		case p.done():
			return places, nil
		case !p.take(","):
			return nil, p.fail(p.at, "the place does not end here", "places have commas between; PLACE:COUNT:STRIDE is an interval")
		}
		p.skipSpace()
	}
}

// abstract holds the names of OpenMP, and the types that they mean.
var abstract = [...]struct{ name, typ string }{
	{"threads", "pu"}, {"cores", "core"}, {"ll_caches", "llc"}, {"numa_domains", "numa"}, {"sockets", "package"},
}

func (p *parser) ompName() (Places, error) {
	at := p.at
	word := p.run(func(c byte) bool { return isLetter(c) || c == '_' })
	typ := ""
	var names []string
	for _, a := range abstract {
		if strings.EqualFold(word, a.name) {
			typ = a.typ
		}
		names = append(names, a.name)
	}
	if typ == "" {
		hint := "a name is one of " + strings.Join(names, ", ")
		if like := nearest(word, names...); like != "" {
			hint = "did you mean " + like + "?"
		}
		return nil, p.fail(at, "no name of places", hint)
	}
	level := p.machine.level(typ)
	places := Places(level.sets).Within(p.machine.Online)
	if len(places) == 0 {
		return nil, p.failf(at, "berth inspect shows what is known of it", "of this machine no %s is known", level.noun)
	}
	p.skipSpace()
	if p.take("(") {
		p.skipSpace()
		at := p.at
		n, err := p.number("how many places?")
		if err != nil {
			return nil, err
		}
		if n == 0 || n > len(places) {
			return nil, p.failf(at, "", "it is from 1 to %d, the places that there are", len(places))
		}
		places = places[:n]
		p.skipSpace()
		if !p.take(")") {
			return nil, p.fail(p.at, "the parenthesis is not closed", "")
		}
		p.skipSpace()
	}
	if !p.done() {
		return nil, p.fail(p.at, "a name of places stands alone", "as in cores or cores(4)")
	}
	return places, nil
}

type ompParser struct {
	*parser
	online []bool
	total  int // CPUs of all places so far
}

// mostCPUs bounds the sum of the sizes of all places.
const mostCPUs = 16 * cpuset.Limit

func (o *ompParser) add(at, cpus int) error {
	if o.total += cpus; o.total > mostCPUs {
		return o.failf(at, "", "the places have more than %d CPUs in all", mostCPUs)
	}
	return nil
}

// place reads "{…}" or a single number.
func (o *ompParser) place() (cpuset.Set, error) {
	if isDigit(o.next()) {
		c, err := o.cpu()
		return cpuset.Range(c, c), err
	}
	start := o.at
	if !o.take("{") {
		return cpuset.Set{}, o.fail(start, "a place is missing", "a place is {0,1}, {0:4} or a CPU's number")
	}
	var with, without []cpuset.CPU
	var exclusions []int // where they stand
	for {
		o.skipSpace()
		at := o.at
		excluded := o.take("!")
		o.skipSpace()
		c, err := o.cpu()
		if err != nil {
			return cpuset.Set{}, err
		}
		o.skipSpace()
		if excluded {
			without, exclusions = append(without, c), append(exclusions, at)
		} else {
			n, stride, countAt, err := o.lengths()
			if err == nil {
				err = o.add(at, n)
			}
			if err != nil {
				return cpuset.Set{}, err
			}
			for i := range n {
				cpu := int(c) + i*stride
				if !o.there(cpu) {
					return cpuset.Set{}, o.away(countAt, cpu)
				}
				with = append(with, cpuset.CPU(cpu))
			}
		}
		o.skipSpace()
		if o.take("}") {
			break
		}
		if !o.take(",") {
			return cpuset.Set{}, o.fail(o.at, "the place is not closed", `numbers have commas between, and "}" ends them`)
		}
	}
	all := cpuset.Of(with...)
	for i, c := range without {
		if !all.Contains(c) {
			return all, o.failf(exclusions[i], "", "CPU %d is not in the place", c)
		}
	}
	set := all.Minus(cpuset.Of(without...))
	if set.IsEmpty() {
		return set, o.fail(start, "the place has no CPU", "")
	}
	return set, nil
}

func (o *ompParser) cpu() (cpuset.CPU, error) {
	at := o.at
	n, err := o.number("CPUs have Linux numbers")
	if err == nil && !o.there(n) {
		err = o.away(at, n)
	}
	return cpuset.CPU(min(n, cpuset.Limit-1)), err
}

func (o *ompParser) there(cpu int) bool { return 0 <= cpu && cpu < len(o.online) && o.online[cpu] }

func (o *ompParser) away(at, cpu int) error {
	return o.failf(at, shorten(o.machine.Online.String())+" are online", "CPU %d is not there", cpu)
}

// lengths reads ":COUNT:STRIDE", of which both or the stride may be missing, and
// says where the count stands.
func (o *ompParser) lengths() (count, stride, at int, err error) {
	count, stride, at = 1, 1, o.at
	if !o.take(":") {
		return
	}
	o.skipSpace()
	at = o.at
	if count, err = o.number("how many?"); err == nil && count == 0 {
		err = o.fail(at, "it is at least 1", "")
	}
	if o.skipSpace(); err != nil || !o.take(":") {
		return
	}
	o.skipSpace()
	backwards := o.take("-")
	if stride, err = o.number("how far apart?"); backwards {
		stride = -stride
	}
	return
}

// interval reads what may follow a place, and adds the places it makes.
func (o *ompParser) interval(start int, places Places, place cpuset.Set) (Places, error) {
	n, stride, at, err := o.lengths()
	if err != nil {
		return nil, err
	}
	if n == 1 {
		at = start
	}
	if len(places)+n > most {
		return nil, o.tooMany(at)
	}
	places = append(places, place)
	cpus := make([]cpuset.CPU, 0, place.Len())
	for i := 1; i < n; i++ {
		if stride == 0 {
			places = append(places, place)
			continue
		}
		if err := o.add(at, place.Len()); err != nil {
			return nil, err
		}
		cpus = cpus[:0]
		for c := range place.All() {
			cpu := int(c) + i*stride
			if !o.there(cpu) {
				return nil, o.away(at, cpu)
			}
			cpus = append(cpus, cpuset.CPU(cpu))
		}
		places = append(places, cpuset.Of(cpus...))
	}
	return places, nil
}

// exclude takes away the first place that is equal to one after "!".
func (o *ompParser) exclude(at int, places Places, place cpuset.Set) (Places, error) {
	if o.next() == ':' {
		return nil, o.fail(o.at, "an excluded place has no count", "exclude them one by one")
	}
	for i, had := range places {
		if had.Equal(place) {
			return append(places[:i:i], places[i+1:]...), nil
		}
	}
	return nil, o.fail(at, "that place is not among those before it", "")
}
