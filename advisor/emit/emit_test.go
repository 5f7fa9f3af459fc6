package emit

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"gopkg.in/yaml.v3"

	"berth/advisor"
	"berth/probe/cpuset"
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

// An override is for one service, which has the CPUs and limits of all workers.
func TestOverride(t *testing.T) {
	for _, c := range testPlans() {
		p := c.advise(t)
		s := compose{}.EmitFor(p, "web")
		said := comments(s.Text)
		for _, lost := range s.Lost {
			if !strings.Contains(said, "Not expressed: "+lost+".") {
				t.Errorf("%s: no comment says %q", c.name, lost)
			}
		}
		var file struct {
			Services map[string]struct {
				CPUSet      string `yaml:"cpuset"`
				CPUs        string `yaml:"cpus"`
				Memory      string `yaml:"mem_limit"`
				Environment map[string]string
				Deploy      struct {
					Resources struct{ Limits struct{ CPUs, Memory string } }
				}
			}
		}
		if err := yaml.Unmarshal([]byte(s.Text), &file); err != nil || len(file.Services) != 1 {
			t.Errorf("%s: %v\n%s", c.name, err, s.Text)
			continue
		}
		web := file.Services["web"]
		limits := web.Deploy.Resources.Limits
		pinned := ""
		if len(p.Placement.Seats) > 0 {
			pinned = p.Placement.CPUs.String()
		}
		if web.CPUSet != pinned || (web.CPUs != "") != (p.Quota() > 0) || (web.Memory != "") != (p.MemoryMiB != nil) {
			t.Errorf("%s: %+v of %+v", c.name, web, p.Placement)
		}
		if web.CPUs != limits.CPUs || web.Memory != limits.Memory || web.Environment["BERTH_PROCESSES"] != strconv.Itoa(p.Workers.Processes) {
			t.Errorf("%s: %+v", c.name, web)
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
	return (line == "#" || line == "//" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "// ")) && line != "# coding: utf-8"
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
			words = append(words, strings.Fields(strings.TrimLeft(line, "#/"))...)
		}
	}
	return strings.Join(words, " ")
}

// hidden tells characters that do not print; most that do are ASCII.
func hidden(r rune) bool {
	return (r < ' ' || r > '~') && r != '\n' && r != '\t' && !unicode.IsPrint(r)
}

// onNodes are a plan's seats with memory elsewhere.
func onNodes(p *advisor.Plan, mems string) []advisor.Seat {
	seats := slices.Clone(p.Placement.Seats)
	for i := range seats {
		seats[i].Mems = mems
	}
	return seats
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
	// The code of each target and plan, by a name that stands nowhere else: made
	// once, as it takes most of the time.
	const standIn = "zq7xzq7x"
	type key struct {
		target, plan int
		unbound      bool // no seat's nodes
	}
	plain, fitted := map[key][]string{}, map[key]int{} // of the latter its lines
	for i, target := range Targets() {
		for j, p := range plans {
			for _, unbound := range []bool{false, true} {
				even := *p
				even.Profile, even.Machine, even.Placement.Why = standIn, standIn, standIn
				if unbound {
					even.Placement.Seats = onNodes(p, "")
				}
				plain[key{i, j, unbound}] = code(target.Emit(&even).Text)
				if fitting, ok := target.(Fitting); ok {
					fitted[key{i, j, unbound}] = len(code(fitting.EmitFor(&even, standIn).Text))
				}
			}
		}
	}
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, name string) {
		name = name[:min(len(name), 400)] // a comment's line has 100, a label 63
		short := plainName(name)
		if !label.MatchString(short) || plainName(short) != short {
			t.Fatalf("plainName(%q) = %q", name, short)
		}
		for j, p := range plans {
			odd := *p
			odd.Profile, odd.Machine, odd.Placement.Why = name, name, name
			_, err := cpuset.Parse(name)
			if err != nil { // what is no list of nodes binds nothing
				odd.Placement.Seats = onNodes(p, name)
			}
			for i, target := range Targets() {
				text := target.Emit(&odd).Text
				want, got := plain[key{i, j, err != nil}], code(text)
				same := slices.EqualFunc(want, got, func(want, got string) bool {
					return want == got || strings.ReplaceAll(want, standIn, short) == got
				})
				if !same {
					t.Errorf("%s: %q got out of its comment (-plain +odd)\n%s", target.Name(), name, cmp.Diff(want, got))
				}
				if fitting, ok := target.(Fitting); ok { // the name is a person's too
					got := code(fitting.EmitFor(&odd, name).Text)
					if want := fitted[key{i, j, err != nil}]; len(got) != want {
						t.Errorf("%s: %q got out of its quotes: %d lines of code, not %d\n%q", target.Name(), name, len(got), want, got)
					}
					text += strings.Join(got, "\n")
				}
				if !utf8.ValidString(text) || strings.ContainsFunc(text, hidden) {
					t.Errorf("%s: %q leaves characters that do not print in\n%q", target.Name(), name, text)
				}
			}
		}
	})
}
