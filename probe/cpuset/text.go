package cpuset

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// ParseError says which part of a CPU list or mask could not be read.
type ParseError struct {
	Text string // the whole input, shortened where it is long
	Part string // the offending part
	Why  string
}

func (e *ParseError) Error() string {
	if e.Part == "" || e.Part == e.Text {
		return fmt.Sprintf("parse CPU list %q: %s", e.Text, e.Why)
	}
	return fmt.Sprintf("parse CPU list %q: at %q: %s", e.Text, e.Part, e.Why)
}

func fail(text, part, format string, args ...any) error {
	return &ParseError{shorten(text), shorten(part), fmt.Sprintf(format, args...)}
}

func shorten(s string) string {
	if len(s) > 60 {
		return s[:57] + "…"
	}
	return s
}

// Parse reads a CPU list as the kernel writes it ("0-3,8"), with strides
// ("0-10:2": every second), groups ("0-63:2/8": the first two of every eight)
// and, after "0x", a mask. Empty text is the empty set. The syntax is that of
// the kernel's Documentation/admin-guide/kernel-parameters.rst, "cpu lists",
// and of taskset(1) for the stride.
//
// "all" and "!" need to know what all is: see [ParseIn].
func Parse(text string) (Set, error) { return parse(text, nil) }

// ParseIn is [Parse] for text that may also say "all", which is universe, or
// put "!" before a list or a part of one: "!0-3" is universe without 0-3, and
// "0-7,!2" is 0-7 without 2.
func ParseIn(text string, universe Set) (Set, error) { return parse(text, &universe) }

// mostSpans bounds what is kept of a list while it is read: a few bytes with a
// stride stand for thousands of ranges, and no set has more than Limit/2.
const mostSpans = 4 * Limit

func parse(text string, universe *Set) (Set, error) {
	body := strings.Trim(text, " \t\r\n\x00") // some kernels end a list in "\n\x00"
	if body == "" {
		return Set{}, nil
	}
	if hex, ok := cutHex(body); ok {
		return parseMask(text, hex)
	}
	var spans, minus []span
	for rest, more := body, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, ",")
		part = strings.TrimSpace(part)
		if part == "" {
			return Set{}, fail(text, "", "an item between two commas is empty")
		}
		item, negated := strings.CutPrefix(part, "!")
		if negated && universe == nil {
			return Set{}, fail(text, part, "\"!\" has no meaning here: there is no set to subtract from")
		}
		into := &spans
		if negated {
			into = &minus
		}
		if item == "all" {
			if universe == nil {
				return Set{}, fail(text, part, "\"all\" has no meaning here: give the numbers")
			}
			*into = append(*into, universe.spans...)
			continue
		}
		var err error
		if *into, err = appendItem(*into, text, item); err != nil {
			return Set{}, err
		}
		if len(*into) > mostSpans {
			return Set{}, fail(text, part, "the list names CPUs again and again")
		}
	}
	set := normalise(spans)
	if minus != nil {
		if spans == nil {
			set = *universe
		}
		set = set.Minus(normalise(minus))
	}
	return set, nil
}

// appendItem adds one of "N", "A-B", "A-B:stride" and "A-B:used/group".
func appendItem(spans []span, text, item string) ([]span, error) {
	whole := item
	item, step, strided := strings.Cut(item, ":")
	first, last, ranged := strings.Cut(item, "-")
	lo, err := number(text, whole, first)
	if err != nil {
		return nil, err
	}
	hi := lo
	if ranged {
		if hi, err = number(text, whole, last); err != nil {
			return nil, err
		}
	}
	if hi < lo {
		return nil, fail(text, whole, "the range runs backwards")
	}
	if !strided {
		return append(spans, span{CPU(lo), CPU(hi)}), nil
	}
	if !ranged {
		return nil, fail(text, whole, "a stride needs a range before it, as in 0-10:2")
	}
	used, group := 1, 0
	usedText, groupText, grouped := strings.Cut(step, "/")
	if grouped {
		if used, err = number(text, whole, usedText); err != nil {
			return nil, err
		}
		if group, err = number(text, whole, groupText); err != nil {
			return nil, err
		}
	} else if group, err = number(text, whole, step); err != nil {
		return nil, err
	}
	if group == 0 || used == 0 || used > group {
		return nil, fail(text, whole, "a group is used/size with 1 ≤ used ≤ size")
	}
	if used == group {
		return append(spans, span{CPU(lo), CPU(hi)}), nil
	}
	for at := lo; at <= hi; at += group {
		spans = append(spans, span{CPU(at), CPU(min(at+used-1, hi))})
	}
	return spans, nil
}

func number(text, part, digits string) (int, error) {
	if digits == "" {
		return 0, fail(text, part, "a number is missing")
	}
	n := 0
	for _, r := range digits {
		if r < '0' || r > '9' {
			return 0, fail(text, part, "%q is not a CPU number", shorten(digits))
		}
		if n = n*10 + int(r-'0'); n > Limit {
			return 0, fail(text, part, "%s is over the limit of %d CPUs", shorten(digits), Limit)
		}
	}
	if n == Limit {
		return 0, fail(text, part, "%s is over the limit of %d CPUs", shorten(digits), Limit)
	}
	return n, nil
}

func cutHex(s string) (string, bool) {
	if len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		return s[2:], true
	}
	return "", false
}

// ParseMask reads a mask as the kernel writes it: hexadecimal words of 32 bits
// parted by commas, highest first ("ff,00000000"), the first word of any
// length up to eight digits; or one number of any length, with or without
// "0x". The format is that of the kernel's lib/bitmap-str.c.
func ParseMask(text string) (Set, error) {
	body := strings.Trim(text, " \t\r\n\x00")
	if hex, ok := cutHex(body); ok {
		body = hex
	}
	return parseMask(text, body)
}

func parseMask(text, body string) (Set, error) {
	if body == "" {
		return Set{}, fail(text, "", "the mask is empty")
	}
	// Words after a comma are 32 bits whatever their digits.
	var digits strings.Builder
	for i, word := range strings.Split(body, ",") {
		if i > 0 || strings.Contains(body, ",") {
			if word == "" || len(word) > 8 {
				return Set{}, fail(text, word, "a word of a mask has 1 to 8 digits")
			}
			if i > 0 {
				digits.WriteString("00000000"[len(word):])
			}
		}
		digits.WriteString(word)
	}
	hex := strings.TrimLeft(digits.String(), "0")
	if len(hex)*4 > Limit+3 {
		return Set{}, fail(text, "", "the mask is over the limit of %d CPUs", Limit)
	}
	var spans []span
	for i := len(hex) - 1; i >= 0; i-- {
		base := CPU(len(hex)-1-i) * 4
		v, err := strconv.ParseUint(hex[i:i+1], 16, 8)
		if err != nil {
			return Set{}, fail(text, hex[i:i+1], "not a hexadecimal digit")
		}
		for b := uint8(v); b != 0; b &= b - 1 {
			c := base + CPU(bits.TrailingZeros8(b))
			if c >= Limit {
				return Set{}, fail(text, "", "the mask is over the limit of %d CPUs", Limit)
			}
			if n := len(spans); n > 0 && spans[n-1].hi == c-1 {
				spans[n-1].hi = c
			} else {
				spans = append(spans, span{c, c})
			}
		}
	}
	return Set{spans}, nil
}

// String is the canonical list, as the kernel prints it: "0-3,8".
func (s Set) String() string {
	b := make([]byte, 0, 8*len(s.spans))
	return string(s.appendList(b))
}

func (s Set) appendList(b []byte) []byte {
	for i, r := range s.spans {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.lo), 10)
		if r.hi > r.lo {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(r.hi), 10)
		}
	}
	return b
}

// Mask is the set as one hexadecimal number, "0xff"; the empty set is "0x0".
func (s Set) Mask() string {
	if s.IsEmpty() {
		return "0x0"
	}
	nibbles := make([]byte, int(s.Last())/4+1)
	for c := range s.All() {
		nibbles[len(nibbles)-1-int(c)/4] |= 1 << (c % 4)
	}
	for i, n := range nibbles {
		nibbles[i] = "0123456789abcdef"[n]
	}
	return "0x" + string(nibbles)
}

// KernelMask is the set as the kernel prints a mask: words of 32 bits, highest
// first, "ff,00000000".
func (s Set) KernelMask() string {
	hex := s.Mask()[2:]
	var b strings.Builder
	for i := range len(hex) {
		if left := len(hex) - i; i > 0 && left%8 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(hex[i])
	}
	return b.String()
}

// MarshalText writes the canonical list.
func (s Set) MarshalText() ([]byte, error) { return s.appendList(nil), nil }

// UnmarshalText reads what [Parse] reads, but for strides and groups: documents
// are not written with them, and may hold many sets from unknown hands.
func (s *Set) UnmarshalText(text []byte) error {
	if i := bytes.IndexByte(text, ':'); i >= 0 {
		return fail(string(text), string(text[i:]), "a document's list has no strides: write the numbers")
	}
	set, err := Parse(string(text))
	if err == nil {
		*s = set
	}
	return err
}

// MarshalJSON writes the canonical list as a JSON string.
func (s Set) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 2+8*len(s.spans)), '"')
	return append(s.appendList(b), '"'), nil
}
