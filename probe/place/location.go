package place

import (
	"errors"
	"strings"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// terms reads an expression without a prefix: terms that are combined from left
// to right, as hwloc-calc(1) combines its arguments.
func (p *parser) terms() (Places, error) {
	var places Places
	for n := 1; ; n++ {
		p.skipSpace()
		start := p.at
		if n > mostTerms {
			return nil, p.failf(start, "all, odd, even and N-M name many objects at once", "there are more than %d terms", mostTerms)
		}
		operator := p.next()
		switch operator {
		case '~', 'x', '^':
			p.at++
		default:
			operator = '+'
		}
		if p.done() || isSpace(rune(p.next())) {
			return nil, p.fail(start, "nothing follows the operator", "put a term right behind it, as in ~core:0")
		}
		if len(places) == 0 && (operator == '~' || operator == 'x') {
			return nil, p.fail(start, "there is nothing before it to take CPUs from", "begin with all, as in all ~core:0")
		}
		term, err := p.term()
		if err != nil {
			return nil, err
		}
		switch operator {
		case '~':
			places = places.without(term.Union())
		case 'x':
			places = places.Within(term.Union())
		case '^':
			had := places.Union()
			places = append(places.without(term.Union()), term.without(had)...)
		default:
			places = append(places, term...)
		}
		switch {
		case len(places) > most:
			return nil, p.tooMany(start)
		case p.done() && len(places) == 0:
			return nil, p.fail(start, "no CPU is left", "the terms have none in common, or one takes all away")
		case p.done():
			return places, nil
		}
	}
}

// mostTerms keeps what a mistaken script puts together from taking minutes.
const mostTerms = 1000

// term reads a location or a list of CPUs, up to white space or the end.
func (p *parser) term() (Places, error) {
	start := p.at
	word := p.run(func(c byte) bool { return isLetter(c) || isDigit(c) })
	end := p.done() || isSpace(rune(p.next()))
	switch {
	case word == "" || isDigit(word[0]), word == "all" && p.next() == ',':
		p.at = start
		return p.list()
	case p.next() == ':':
		p.at = start
		return p.location()
	case end && (word == "all" || word == "root" || word == "machine"):
		return Places{p.machine.Online}, nil
	}
	if _, known := typeNamed(word); known && (end || p.next() == '.') {
		return nil, p.failf(p.at, "for example "+word+":0, "+word+":0-3 or "+word+":all", "%s needs an index", word)
	}
	return nil, p.fail(start, "neither a type of object nor a list of CPUs", typeHint(word))
}

// list reads a list of CPUs or a mask: one place.
func (p *parser) list() (Places, error) {
	start := p.at
	text := p.run(func(c byte) bool { return !isSpace(rune(c)) })
	online := p.machine.Online
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0X") {
		set, err := p.machine.mask(text)
		if err != nil {
			return nil, p.fail(start, why(err), "")
		}
		return p.within(start, set, online, "online")
	}
	all, what := online, "online"
	if p.logical {
		all, what = cpuset.Range(0, cpuset.CPU(online.Len()-1)), "logical CPUs here"
	}
	set, err := cpuset.ParseIn(text, all)
	if err != nil || !set.SubsetOf(all) {
		// Which of its items is it?
		at := start
		for item := range strings.SplitSeq(text, ",") {
			one, err := cpuset.ParseIn(item, all)
			switch {
			case item == "":
				return nil, p.fail(at, "an item is empty", "give one, or leave the comma out")
			case err != nil:
				return nil, p.fail(at, why(err), listHint(item))
			case !one.SubsetOf(all):
				return p.within(at, one, all, what)
			}
			at += len(item) + len(",")
		}
	}
	if err != nil {
		return nil, p.fail(start, why(err), listHint(text))
	}
	if p.logical {
		order := p.machine.LogicalOrder()
		cpus := make([]cpuset.CPU, 0, set.Len())
		for i := range set.Intersect(all).All() {
			cpus = append(cpus, order[i])
		}
		set = cpuset.Of(cpus...)
	}
	return p.within(start, set, online, "online")
}

// within makes a place of a set, unless it is empty or reaches beyond all.
func (p *parser) within(at int, set, all cpuset.Set, what string) (Places, error) {
	if away := set.Minus(all); !away.IsEmpty() {
		verb := "is"
		if away.Len() > 1 {
			verb = "are"
		}
		return nil, p.failf(at, shorten(all.String())+" are "+what, "%s %s not there", shorten(away.String()), verb)
	}
	if set.IsEmpty() {
		return nil, p.fail(at, "it names no CPU", "")
	}
	return Places{set}, nil
}

// why is what package cpuset has against a list, without the list.
func why(err error) string {
	var e *cpuset.ParseError
	if errors.As(err, &e) {
		return e.Why
	}
	return err.Error()
}

func listHint(item string) string {
	if strings.ContainsAny(item, "~^") {
		return "terms stand apart: put a space before ~, x or ^"
	}
	return "a list is made of 3, 0-3, 0-6:2, all or !3, with commas between"
}

// mask reads a mask as Linux or as hwloc writes it: hwloc has "0x" before each
// word of 32 bits, leaves out words that are zero, and begins with 0xf...f if
// all higher bits are set (hwloc(7), "Hex"). Of an unending mask what is online
// counts.
func (m *machine) mask(text string) (cpuset.Set, error) {
	words := strings.Split(text[2:], ",")
	fill := words[0] == "f...f"
	if fill {
		if words = words[1:]; len(words) == 0 {
			return m.Online, nil
		}
	}
	for i, w := range words {
		w = strings.TrimPrefix(w, "0x")
		if w == "" && (i > 0 || fill) && i < len(words)-1 {
			w = "0"
		}
		words[i] = w
	}
	set, err := cpuset.ParseMask(strings.Join(words, ","))
	if from := 32 * len(words); err == nil && fill && from < cpuset.Limit {
		set = set.Union(cpuset.Range(cpuset.CPU(from), cpuset.Limit-1).Intersect(m.Online))
	}
	return set, err
}

// step is one TYPE:INDEX of a location.
type step struct {
	typ    string
	which  selection
	kind   topology.Kind // for the type kind, in place of an index
	at     int           // where the type stands
	parent string        // the location before it
}

// location reads TYPE:INDEX, and more of them after dots: a place for each
// object.
func (p *parser) location() (Places, error) {
	start := p.at
	var steps []step
	for {
		s := step{at: p.at, parent: p.expr[start:max(start, p.at-1)]}
		word := p.run(func(c byte) bool { return isLetter(c) || isDigit(c) })
		var ok bool
		s.typ, ok = typeNamed(word)
		switch {
		case word == "":
			return nil, p.fail(s.at, "a type of object is missing", "it is one of "+typeList)
		case !ok:
			return nil, p.fail(s.at, "no such type of object", typeHint(word))
		case !p.take(":"):
			return nil, p.failf(p.at, "for example "+word+":0, "+word+":0-3 or "+word+":all", "%s needs an index", word)
		}
		var err error
		if s.typ == "kind" {
			s.which.firstAt = p.at
			s.kind, err = p.kind()
		} else {
			s.which, err = p.selection()
		}
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
		if p.done() || isSpace(rune(p.next())) {
			break
		}
		if !p.take(".") {
			return nil, p.fail(p.at, "the index does not end here", indexHint(p.next()))
		}
	}
	found := Places{p.machine.Online}
	for _, s := range steps {
		var err error
		if s.typ == "kind" {
			found, err = p.ofKind(s, found)
		} else {
			found, err = p.objects(s, found)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func indexHint(c byte) string {
	switch c {
	case ',':
		return "write a term for each: core:0 core:4"
	case '~', '^':
		return "terms stand apart: put a space before ~, x or ^"
	case '#':
		return "indexes are logical, and plain numbers"
	}
	return "behind an index comes a dot, a space or the end"
}

// selection is an index: which of some objects are meant.
type selection struct {
	first, count    int // count < 0: all from the first
	step            int
	wraps           bool
	firstAt, lastAt int // where the numbers stand
}

const indexForms = "an index is N, N-M, N-, N:COUNT, all, odd or even"

func (p *parser) selection() (selection, error) {
	s := selection{count: -1, step: 1, firstAt: p.at, lastAt: p.at}
	if word := p.run(isLetter); word != "" {
		switch strings.ToLower(word) {
		case "all":
		case "odd":
			s.first, s.step = 1, 2
		case "even":
			s.step = 2
		default:
			hint := indexForms
			if like := nearest(word, "all", "odd", "even"); like != "" {
				hint = "did you mean " + like + "?"
			} else if p.next() == '#' {
				hint = indexHint('#')
			}
			return s, p.fail(s.firstAt, "no index", hint)
		}
		return s, nil
	}
	var err error
	if s.first, err = p.number(indexForms); err != nil {
		return s, err
	}
	switch {
	case p.take("-"):
		if s.lastAt = p.at; !isDigit(p.next()) {
			return s, nil
		}
		last, err := p.number(indexForms)
		if err == nil && last < s.first {
			err = p.fail(s.firstAt, "the range runs backwards", "")
		}
		s.count = last - s.first + 1
		return s, err
	case p.take(":"):
		s.wraps, s.lastAt = true, p.at
		if s.count, err = p.number("how many objects? " + indexForms); err == nil && s.count == 0 {
			err = p.fail(s.lastAt, "no object at all", "the number after the colon is how many")
		}
		return s, err
	}
	s.count = 1
	return s, nil
}

// of takes what is selected out of objects.
func (s selection) of(objects []cpuset.Set) []cpuset.Set {
	n := len(objects)
	if s.first >= n {
		return nil
	}
	if s.wraps {
		var out []cpuset.Set
		for i := range min(s.count, n) {
			out = append(out, objects[(s.first+i)%n])
		}
		return out
	}
	end := n
	if s.count >= 0 {
		end = min(n, s.first+s.count)
	}
	if s.step == 1 {
		return objects[s.first:end:end]
	}
	var out []cpuset.Set
	for i := s.first; i < end; i += s.step {
		out = append(out, objects[i])
	}
	return out
}

// objects takes the objects of a step out of each parent. An index is wrong if
// it is so for all of them.
func (p *parser) objects(s step, parents Places) (Places, error) {
	level := p.machine.level(s.typ)
	if len(level.sets) == 0 {
		return nil, p.failf(s.at, "berth inspect shows what is known of it", "of this machine no %s is known", level.noun)
	}
	widest := 0
	var found Places
	for _, set := range parents {
		here := p.machine.inside(level, set)
		widest = max(widest, len(here))
		for _, o := range s.which.of(here) {
			if !o.IsEmpty() {
				found = append(found, o)
			}
		}
	}
	has := s.who() + " has " + among(level.noun, widest)
	if len(parents) > 1 {
		has = "the most that any of " + shorten(s.parent) + " has is " + among(level.noun, widest)
	}
	switch i := s.which; {
	case widest == 0:
		return nil, p.failf(s.at, "the outer object comes first, as in package:0.core:0", "no %s lies inside %s", level.noun, shorten(s.parent))
	case i.first >= widest:
		return nil, p.fail(i.firstAt, has, "")
	case i.wraps && i.count > widest, !i.wraps && i.first+i.count > widest:
		return nil, p.fail(i.lastAt, has, "")
	case len(found) == 0:
		return nil, p.failf(s.at, "", "the %s has no CPUs", level.noun)
	}
	return found, nil
}

func (s step) who() string {
	if s.parent == "" {
		return "the machine"
	}
	return shorten(s.parent)
}

// kind reads the name of a kind of cores.
func (p *parser) kind() (topology.Kind, error) {
	rest := p.expr[p.at:]
	var found topology.Kind
	var names []string
	for _, k := range p.machine.CoreKinds {
		names = append(names, k.Name)
		// A name may have spaces and dots in it: the longest that fits is meant.
		if len(k.Name) > len(found.Name) && len(rest) >= len(k.Name) && strings.EqualFold(rest[:len(k.Name)], k.Name) {
			if after := rest[len(k.Name):]; after == "" || after[0] == '.' || isSpace(rune(after[0])) {
				found = k
			}
		}
	}
	if found.Name != "" {
		p.at += len(found.Name)
		return found, nil
	}
	at := p.at
	word := p.run(func(c byte) bool { return c != '.' && !isSpace(rune(c)) })
	hint := "the kinds are " + strings.Join(names, ", ")
	if like := nearest(word, names...); like != "" {
		hint = "did you mean " + like + "?"
	}
	switch {
	case len(names) == 0:
		return found, p.fail(at, "as far as is known all cores of this machine are alike, and have no kinds", "")
	case word == "":
		return found, p.fail(at, "the name of a kind is missing", hint)
	}
	return found, p.fail(at, "no cores here are of that kind", hint)
}

// ofKind cuts the cores of a kind out of each parent: they may be anywhere, so
// that none need hold them all.
func (p *parser) ofKind(s step, parents Places) (Places, error) {
	found := parents.Within(s.kind.CPUs.Intersect(p.machine.Online))
	if len(found) == 0 {
		return nil, p.failf(s.which.firstAt, "", "%s has no %s cores", s.who(), s.kind.Name)
	}
	return found, nil
}
