package profiles

import (
	"strings"
	"testing"
)

// Every template plans as it stands, and shows every field there is: those
// behind # are the loader's own.
func TestTemplates(t *testing.T) {
	table := loader{}
	for _, r := range Runtimes() {
		text := Template(r)
		p, err := Parse([]byte(text), string(r))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		if p.Runtime != r {
			t.Errorf("%s: runtime %s", r, p.Runtime)
		}
		if p.Work.CPUMS == nil && r != OpenMP {
			t.Errorf("%s: no cpu_ms to fill in", r)
		}
		shown := map[string]bool{}
		section := ""
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			bare := strings.TrimLeft(line, " ")
			indent := len(line) - len(bare)
			commented := strings.HasPrefix(bare, "# ")
			name, value, ok := strings.Cut(strings.TrimPrefix(bare, "# "), ":")
			if !ok || strings.HasSuffix(line, "]") || strings.Contains(name, " ") || name == "Here" {
				continue // what a field means
			}
			if indent == 0 && value == "" && table.field(name) == nil {
				section = name
				continue
			}
			path := name
			if indent > 0 {
				path = section + "." + name
			}
			f := table.field(path)
			if f == nil {
				t.Errorf("%s: %q is no field", r, path)
				continue
			}
			if shown[path] {
				t.Errorf("%s: %s is there twice", r, path)
			}
			shown[path] = true
			if !commented {
				continue
			}
			// Alone, as other fields may contradict it.
			bare = strings.TrimPrefix(bare, "# ")
			uncommented := head + bare + "\n"
			if indent > 0 {
				uncommented = head + section + ":\n  " + bare + "\n"
			}
			_, err := Parse([]byte(uncommented), path)
			if f.standard != "" && err != nil || f.standard == "" && (err == nil || !strings.Contains(err.Error(), path+": it has no value")) {
				t.Errorf("%s, uncommented: %v", line, err)
			}
		}
		for _, f := range fields() {
			if !shown[f.path] && !strings.HasPrefix(f.path, "measured.") { // observe writes those
				t.Errorf("%s: %s is not there", r, f.path)
			}
		}
	}
}

// A commented section can be uncommented as a whole, headline and fields.
func TestTemplateSections(t *testing.T) {
	text := Template(Native)
	for _, section := range []string{"load", "limits", "scaling"} {
		_, after, ok := strings.Cut(text, "\n# "+section+":\n")
		if !ok {
			t.Errorf("no section %s", section)
			continue
		}
		body, _, _ := strings.Cut(after, "\n\n")
		uncommented := head + section + ":\n"
		for line := range strings.Lines(body) {
			bare := strings.TrimPrefix(line, "  # ")
			name, value, _ := strings.Cut(bare, ":")
			if l := (&loader{}); l.field(section+"."+name) != nil && strings.TrimSpace(value) != "" {
				uncommented += "  " + bare
			}
		}
		if _, err := Parse([]byte(uncommented), section); err != nil {
			t.Errorf("%v\n%s", err, uncommented)
		}
	}
}
