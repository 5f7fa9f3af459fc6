package emit

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"berth/advisor"
)

var update = flag.Bool("update", false, "write the golden files anew")

// One file for each target, with a section for each plan.
func TestGolden(t *testing.T) {
	for _, target := range Targets() {
		var got txtar.Archive
		for i, c := range testPlans() {
			settings := target.Emit(c.advise(t))
			text := settings.Text
			if again := target.Emit(c.advise(t)); again.Text != text {
				t.Errorf("%s, %s: a second time it is another text", target.Name(), c.name)
			}
			name := c.name
			if !regexp.MustCompile(`^[a-z-]+$`).MatchString(name) {
				name = "odd-name"
			}
			got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
			if i == 0 && txtar.NeedsQuote(got.Files[0].Data) {
				t.Errorf("%s: the text reads like an archive", target.Name())
			}
		}
		path := filepath.Join("testdata", "golden", target.Name()+".txtar")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, txtar.Format(&got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; -update writes it", err)
		}
		if diff := cmp.Diff(string(want), string(txtar.Format(&got))); diff != "" {
			t.Errorf("%s (-want +got); -update accepts it\n%s", path, diff)
		}
	}
}

func TestTargets(t *testing.T) {
	var names []string
	for _, target := range Targets() {
		name := target.Name()
		if found, ok := Find(name); !ok || found != target {
			t.Errorf("Find(%q) = %v, %v", name, found, ok)
		}
		if slices.Contains(names, name) {
			t.Errorf("two targets are named %s", name)
		}
		if about := target.About(); about == "" || strings.Contains(about, "\n") {
			t.Errorf("%s is about %q", name, about)
		}
		names = append(names, name)
	}
	if _, ok := Find("Systemd"); ok {
		t.Error("a name is found that there is not")
	}
}

func TestPlainName(t *testing.T) {
	long := strings.Repeat("a", 62)
	for _, c := range []struct{ name, want string }{
		{"thumbnailer", "thumbnailer"},
		{"Image Resize_v2.1", "image-resize-v2-1"},
		{"--x--", "x"},
		{"", "workload"},
		{"…", "workload"},
		{"10", "10"},
		{long + "bc", long + "b"},
		{long + " c", long},
		{"größe", "gr-e"},
	} {
		if got := plainName(c.name); got != c.want {
			t.Errorf("plainName(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}

// isComment tells comments from lines that tools read, such as #!/bin/sh,
// #SBATCH and Python's declaration of the encoding.
func isComment(line string) bool {
	return (line == "#" || strings.HasPrefix(line, "# ")) && line != "# coding: utf-8"
}

// code is what is left of a text without its comments.
func code(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), isComment)
}

// comments are the comments of a text as one line.
func comments(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); isComment(line) {
			words = append(words, strings.Fields(line[1:])...)
		}
	}
	return strings.Join(words, " ")
}

// Free text, as a profile's name, stays within comments. So each target's code
// is that of a plan with a plain name.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"thumbnailer", "", "a\nb", "a\r\nimport os", "a\u2028b\u0085c\vd\fe", `\`, "x\\\n", "'; rm -rf ~ #", "$(id)`id`", `"""`, "%n%%", "#SBATCH --wrap=id",
		"transcoding: utf-7", "vim: set fenc=utf-16:", "123", "null", "yes", "0x1f", "{a}: b", "\x00\x1b[2J", "\xff\xfe", "\u202eexe", "-x", strings.Repeat("w", 300), "@SEATS@",
	} {
		f.Add(name)
	}
	var plans []*advisor.Plan
	for _, c := range testPlans() {
		switch c.name {
		case "processes-per-core", "python-threads": // with seats and without
			plans = append(plans, c.advise(f))
		}
	}
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, name string) {
		plain := plainName(name)
		if !label.MatchString(plain) || plainName(plain) != plain {
			t.Fatalf("plainName(%q) = %q", name, plain)
		}
		for _, p := range plans {
			odd, even := *p, *p
			odd.Profile, odd.Machine, odd.Placement.Why = name, name, name
			even.Profile, even.Machine, even.Placement.Why = plain, plain, plain
			for _, target := range Targets() {
				text := target.Emit(&odd).Text
				if want, got := code(target.Emit(&even).Text), code(text); !slices.Equal(want, got) {
					t.Errorf("%s: %q got out of its comment (-plain +odd)\n%s", target.Name(), name, cmp.Diff(want, got))
				}
				if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
					t.Errorf("%s: %q leaves characters that do not print in\n%q", target.Name(), name, text)
				}
			}
		}
	})
}
