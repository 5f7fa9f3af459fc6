package profiles

import (
	"fmt"
	"reflect"
	"strings"
)

// Part is what two profiles say differently: a field by its path, as
// work.cpu_ms, or scaling or measured, whose fields mean nothing alone. Empty
// values are those that a profile does not give.
type Part struct{ Path, A, B string }

// Differences are the parts in which two profiles differ, in the order of the
// format; the names that they have are none.
func Differences(a, b *Profile) []Part {
	a, b = a.clone(), b.clone() // looking at a field makes its section
	var out []Part
	for _, s := range wholes() {
		if x, y := s.text(a), s.text(b); x != y {
			out = append(out, Part{s.path, x, y})
		}
	}
	for _, f := range fields() {
		if f.path == "schema" || f.path == "name" || whole(f.path) {
			continue
		}
		if x, y := said(f.at(a)), said(f.at(b)); x != y {
			out = append(out, Part{f.path, x, y})
		}
	}
	return out
}

// Taking is the profile with one part as another has it. It is not checked: the
// parts of two profiles that are each right may contradict each other.
func (p *Profile) Taking(path string, from *Profile) *Profile {
	out, from := p.clone(), from.clone()
	for _, s := range wholes() {
		if s.path == path {
			s.take(out, from)
		}
	}
	for _, f := range fields() {
		if f.path == path && !whole(path) {
			reflect.ValueOf(f.at(out)).Elem().Set(reflect.ValueOf(f.at(from)).Elem())
		}
	}
	return out
}

// section is one that counts as a whole.
type section struct {
	path string
	text func(*Profile) string
	take func(to, from *Profile)
}

func wholes() []section {
	return []section{
		{"scaling", func(p *Profile) string {
			if p.Scaling == nil {
				return ""
			}
			return fmt.Sprintf("sigma %v, kappa %v", p.Scaling.Sigma, p.Scaling.Kappa)
		}, func(to, from *Profile) { to.Scaling = from.Scaling }},
		{"measured", func(p *Profile) string {
			if p.Measured == nil {
				return ""
			}
			text := fmt.Sprintf("for %v s, confidence %v", p.Measured.Seconds, p.Measured.Confidence)
			if u := p.Measured.Utilisation; u != nil {
				text += fmt.Sprintf(", utilisation %v", *u)
			}
			return text
		}, func(to, from *Profile) { to.Measured = from.Measured }},
	}
}

func whole(path string) bool {
	return strings.HasPrefix(path, "scaling.") || strings.HasPrefix(path, "measured.")
}

// said is the value that a field's pointer leads to, as text; empty where the
// profile does not say.
func said(at any) string {
	v := reflect.ValueOf(at).Elem()
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	return fmt.Sprint(v.Interface())
}
