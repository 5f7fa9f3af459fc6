package profiles

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// FuzzParse holds Parse to its word: it never panics, refuses with Mistakes
// only, and what it accepts keeps the rules of the table and survives a round
// trip through YAML and JSON.
func FuzzParse(f *testing.F) {
	for _, row := range fieldMistakes {
		f.Add([]byte(row.text))
	}
	for _, r := range Runtimes() {
		f.Add([]byte(Template(r)))
	}
	for _, name := range Shipped() {
		text, err := Source(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("\ufeff" + head + "limits: {memory_reserve_fraction: 0, avoid_cpus: 0x3}\r\nload: {quantile: 1e-300}\r\n"))
	f.Add([]byte(head + "work: &w {near: '<<:é', cpu_ms: &n 1e-6, wait_ms: *n, smt_yield: -0.0}\nscaling: {}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text, "f.yaml")
		if err != nil {
			var found Mistakes
			if p != nil || !errors.As(err, &found) || len(found) == 0 || len(found) > 2*enough {
				t.Fatalf("%v, %T %v", p, err, err)
			}
			for _, m := range found {
				if m.File != "f.yaml" || m.Problem == "" || m.Line < 0 || m.Column < 0 || strings.Contains(m.Error(), "\n") {
					t.Errorf("%+v", m)
				}
			}
			return
		}
		keepsRules(t, p)
		for how, write := range map[string]func(any) ([]byte, error){"YAML": yaml.Marshal, "JSON": json.Marshal} {
			again, err := write(p)
			if err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			back, err := Parse(again, "again.yaml")
			if err != nil {
				t.Fatalf("as %s: %v\n%s", how, err, again)
			}
			if diff := cmp.Diff(p, back); diff != "" {
				t.Fatalf("as %s: %s\n%s", how, diff, again)
			}
		}
	})
}

// keepsRules checks every value that the profile has against the table.
func keepsRules(t *testing.T, p *Profile) {
	t.Helper()
	scaling, measured := p.Scaling != nil, p.Measured != nil
	p = p.clone() // field.at makes sections
	number := func(f *field, x float64) {
		if math.IsNaN(x) || math.IsInf(x, 0) || !f.rule.holds(x) {
			t.Errorf("%s: %v is not %s", f.path, x, f.allowed())
		}
	}
	for _, f := range fields() {
		if strings.HasPrefix(f.path, "scaling.") && !scaling || strings.HasPrefix(f.path, "measured.") && !measured {
			continue
		}
		text := ""
		switch at := f.at(p).(type) {
		case *float64:
			if *at != 0 || f.standard != "" { // the number 0 stands for none where there is no default
				number(&f, *at)
			}
		case **float64:
			if *at != nil {
				number(&f, **at)
			}
		case *int64:
			number(&f, float64(*at))
		case **int64:
			if *at != nil {
				number(&f, float64(**at))
			}
		case *string:
			text = *at
		case *Runtime:
			text = string(*at)
		case *Objective:
			text = string(*at)
		case *Model:
			text = string(*at)
		case *Kind:
			text = string(*at)
		case *Partition:
			text = string(*at)
		case *RanksPer:
			text = string(*at)
		}
		if text == "" {
			continue
		}
		if f.rule.words != nil && !slices.Contains(f.rule.words, text) {
			t.Errorf("%s: %q is not %s", f.path, text, f.allowed())
		}
		if f.rule.check != nil {
			if err := f.rule.check(text); err != nil {
				t.Errorf("%s: %q: %v", f.path, text, err)
			}
		}
	}
}

// FuzzWith sets any field of a profile to any value: what is accepted keeps the
// rules, and the profile that it came from stays as it was.
func FuzzWith(f *testing.F) {
	for _, c := range [][2]string{{"work.wait_ms", "50"}, {"work", "{}"}, {"scaling.sigma", "0.1"}, {"load.nested", "true"}, {"name", "'a\nb'"}, {"work.blocking", "no"},
		{"limits.avoid_cpus", "0-3"}, {"measured.utilisation", "2"}, {"", ""}, {"work.cpu_ms", "a: b\n---\n"}, {"runtime", "pyhton"}} {
		f.Add(c[0], c[1])
	}
	base, err := Parse([]byte(head+"work: {cpu_ms: 4, wait_ms: 4}\nscaling: {sigma: 0.1, kappa: 0.01}\n"), "base")
	if err != nil {
		f.Fatal(err)
	}
	before := base.clone()
	f.Fuzz(func(t *testing.T, path, value string) {
		p, err := base.With("--set", Setting{path, value})
		if diff := cmp.Diff(before, base); diff != "" {
			t.Fatalf("%s=%s changed the profile itself\n%s", path, value, diff)
		}
		if err != nil {
			var found Mistakes
			if p != nil || !errors.As(err, &found) || len(found) == 0 {
				t.Fatalf("%v, %T %v", p, err, err)
			}
			return
		}
		keepsRules(t, p)
	})
}
