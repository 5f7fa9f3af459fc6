// Package place turns an expression into the CPUs that it means on a machine.
// [Parse] reads three forms.
//
// Without a prefix an expression is terms between white space: objects of the
// machine as hwloc(7) locates them, or lists of CPUs as package cpuset reads
// them.
//
//	package:1.core:0-3     the first four cores of the second package
//	llc:0 ~core:0          what shares the first last-level cache, less a core
//	0-15 xnuma:0           those of the CPUs 0-15 that are next to node 0
//
// A term adds its CPUs to what the terms before it gave; with "~" in front it
// takes them away, with "x" it leaves only them, and with "^" it adds those
// that are not there and takes away those that are. An object is TYPE:INDEX.
// The types are machine, package, die, cluster, numa, llc, l1 to l5 (l1i to
// l3i for instruction caches), core, pu, kind and, on s390x, drawer and book;
// names that hwloc and others use for them are understood. An index is N, N-M,
// N-, N:COUNT (which goes on from the start at the end), all, odd or even; a
// kind has a name in its place. Indexes are logical, from 0 in the machine's
// order, and in TYPE:INDEX.TYPE:INDEX count what lies wholly inside the object
// before. Where there are several of those, each gives what it has. NUMA nodes
// are in the order of their Linux numbers.
//
// "likwid:" precedes the thread expressions of likwid-pin(1), "omp:" a value of
// OMP_PLACES as OpenMP 5.1 and later define it.
//
// All that an expression can name is online; offline CPUs are a mistake in it.
// Whether the process may use them is another question: see [Places.Within].
package place

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/probe/cpuset"
	"berth/probe/topology"
)

// Places is what an expression means: sets of CPUs in the expression's order,
// each for one worker or thread. Worker i belongs on place i, and again from
// the first where there are more workers than places. No place is empty, and
// two may overlap if the expression says so.
//
// Each object that is named is a place: package:0.core:all has one for each
// core, package:0 a single one. A list or a mask is one place. likwid's forms
// have a place for each hardware thread, in likwid's order.
type Places []cpuset.Set

// Union is all the CPUs of the places.
func (p Places) Union() cpuset.Set { return cpuset.UnionAll(p...) }

// Within leaves of each place what is also in allowed, and drops places of
// which nothing is left.
func (p Places) Within(allowed cpuset.Set) Places {
	return p.each(func(s cpuset.Set) cpuset.Set { return s.Intersect(allowed) })
}

func (p Places) without(set cpuset.Set) Places {
	return p.each(func(s cpuset.Set) cpuset.Set { return s.Minus(set) })
}

func (p Places) each(change func(cpuset.Set) cpuset.Set) Places {
	var out Places
	for _, s := range p {
		if s = change(s); !s.IsEmpty() {
			out = append(out, s)
		}
	}
	return out
}

// Parse reads an expression for a machine of which t knows as many parts as
// the expression names: packages and cores, caches, NUMA nodes, kinds. An error
// is an [*Error].
func Parse(expr string, t *topology.Topology) (Places, error) { return parse(expr, t, false) }

// ParseLogical is [Parse], but the numbers in lists of CPUs are logical (L#):
// the n-th CPU when counting core by core. Masks stay in Linux numbers, and so
// do the forms with a prefix, which are defined by the tools they come from.
func ParseLogical(expr string, t *topology.Topology) (Places, error) { return parse(expr, t, true) }

func parse(expr string, t *topology.Topology, logical bool) (Places, error) {
	p := &parser{expr: strings.TrimRightFunc(expr, isSpace), machine: newMachine(t), logical: logical}
	p.skipSpace()
	switch {
	case p.done():
		return nil, p.fail(p.at, "the expression is empty", "for example core:0-3, or all")
	case p.take("likwid:"):
		return p.likwid()
	case p.take("omp:"):
		return p.omp()
	}
	return p.terms()
}

// Error points at the character of an expression that cannot be meant.
type Error struct {
	Expr   string
	Offset int    // of the character, in bytes; len(Expr) is the end
	Found  string // what stands there; empty at the end
	Why    string
	Want   string // what could stand there, or what to do; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("place %q: %s: %s", shorten(e.Expr), e.Where(), e.Why)
	if e.Want != "" {
		s += "; " + e.Want
	}
	return s
}

// Where is the place of the mistake in words.
func (e *Error) Where() string {
	if e.Found == "" {
		return "at its end"
	}
	return fmt.Sprintf("at %q (character %d)", shorten(e.Found), utf8.RuneCountInString(e.Expr[:e.Offset])+1)
}

// Caret is two lines: the expression, or what of it is near the mistake, and a
// caret under the character.
func (e *Error) Caret() string {
	const before, after = 50, 20
	show := func(s string) []rune {
		runes := []rune(s)
		for i, r := range runes {
			if !unicode.IsPrint(r) {
				runes[i] = ' '
			}
		}
		return runes
	}
	left, right := show(e.Expr[:e.Offset]), show(e.Expr[e.Offset:])
	if len(left) > before {
		left = append([]rune("…"), left[len(left)-before:]...)
	}
	if len(right) > after {
		right = append(right[:after:after], '…')
	}
	return string(left) + string(right) + "\n" + strings.Repeat(" ", len(left)) + "^"
}

func shorten(s string) string {
	if len(s) <= 60 {
		return s
	}
	return strings.ToValidUTF8(s[:57], "") + "…"
}

// parser is a cursor in an expression, and what the forms have in common.
type parser struct {
	expr    string
	at      int
	machine *machine
	logical bool
}

// fail says what is wrong with the word that begins at an offset.
func (p *parser) fail(at int, why, want string) error {
	rest := p.expr[at:]
	end := strings.IndexFunc(rest, func(r rune) bool { return isSpace(r) || strings.ContainsRune(".,:@(){}!", r) })
	switch {
	case end < 0:
		end = len(rest)
	case end == 0:
		_, end = utf8.DecodeRuneInString(rest)
	}
	return &Error{Expr: p.expr, Offset: at, Found: rest[:end], Why: why, Want: want}
}

func (p *parser) failf(at int, want, format string, args ...any) error {
	return p.fail(at, fmt.Sprintf(format, args...), want)
}

func (p *parser) done() bool { return p.at == len(p.expr) }

// next is the byte at the cursor, or 0 at the end.
func (p *parser) next() byte {
	if p.done() {
		return 0
	}
	return p.expr[p.at]
}

func (p *parser) take(text string) bool {
	if !strings.HasPrefix(p.expr[p.at:], text) {
		return false
	}
	p.at += len(text)
	return true
}

func (p *parser) skipSpace() {
	for !p.done() && isSpace(rune(p.expr[p.at])) {
		p.at++
	}
}

// run takes the bytes at the cursor that are as wanted.
func (p *parser) run(wanted func(byte) bool) string {
	start := p.at
	for !p.done() && wanted(p.expr[p.at]) {
		p.at++
	}
	return p.expr[start:p.at]
}

// number reads a number of at most [cpuset.Limit].
func (p *parser) number(want string) (int, error) {
	start := p.at
	digits := p.run(isDigit)
	if digits == "" {
		return 0, p.fail(start, "a number is missing", want)
	}
	n := 0
	for _, d := range []byte(digits) {
		if n = n*10 + int(d-'0'); n > cpuset.Limit {
			return 0, p.failf(start, want, "the number is over %d, the most that berth knows", cpuset.Limit)
		}
	}
	return n, nil
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// most bounds the places of an expression.
const most = cpuset.Limit

func (p *parser) tooMany(at int) error {
	return p.failf(at, "", "that makes more than %d places", most)
}
