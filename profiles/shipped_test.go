package profiles

import (
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestShipped(t *testing.T) {
	for _, name := range []string{
		"blas-matmul", "compiler-farm", "etl-python", "hpc-mpi-openmp", "key-value-store", "log-shipper",
		"ml-data-loading", "ml-inference", "monte-carlo", "oltp-database", "scraper", "stencil", "thumbnailer",
		"video-encode", "web-async-python", "web-go", "web-java", "web-node", "web-sync-python",
	} {
		if !slices.Contains(Shipped(), name) {
			t.Errorf("%s does not come with berth", name)
		}
	}
	for _, name := range Shipped() {
		text, p := shippedProfile(t, name)
		if p.Name != name {
			t.Errorf("%s%s is called %s inside", name, suffix, p.Name)
		}
		line, _, _ := strings.Cut(text, "\n")
		if summary := Summary([]byte(text)); summary == "" || line != "# "+summary {
			t.Errorf("%s: the first line is not a comment that sums it up: %q", name, line)
		}
	}
	for _, name := range []string{"", "nosuch", "../shipped", "thumbnailer.yaml", "/etc/passwd"} {
		if _, err := Source(name); err == nil {
			t.Errorf("there is a profile %q", name)
		}
	}
}

func shippedProfile(t *testing.T, name string) (string, *Profile) {
	t.Helper()
	text, err := Source(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(text, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), p
}

// The comment at the top says of every figure where it comes from, or that it
// is an example; and the fields stand in the order of the table.
func TestShippedSources(t *testing.T) {
	var order []string
	for _, f := range fields() {
		order = append(order, f.path)
	}
	for _, name := range Shipped() {
		text, _ := shippedProfile(t, name)
		comment, _, ok := strings.Cut(text, "\nschema:")
		lines := strings.Split(comment, "\n")
		if !ok || len(lines) < 3 {
			t.Errorf("%s: no comment of a summary and more above schema:", name)
		}
		for _, l := range lines {
			if !strings.HasPrefix(l, "#") {
				t.Errorf("%s: %q stands above schema: and is no comment", name, l)
			}
		}
		at := -1
		for _, l := range leaves(t, text) {
			place := slices.Index(order, l.path)
			if place < at {
				t.Errorf("%s: %s stands after %s", name, l.path, order[at])
			}
			at = max(at, place)
			field := l.path[strings.LastIndex(l.path, ".")+1:]
			if number := l.tag == "!!int" || l.tag == "!!float"; number && !strings.Contains(comment, field) {
				t.Errorf("%s: the comment does not say where %s comes from", name, l.path)
			}
		}
	}
}

type leaf struct{ path, tag string }

// leaves are the values of a profile, in the order of its lines.
func leaves(t *testing.T, text string) (out []leaf) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			out = append(out, leaf{prefix, n.Tag})
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			walk(strings.TrimPrefix(prefix+"."+n.Content[i].Value, "."), n.Content[i+1])
		}
	}
	walk("", doc.Content[0])
	return out
}

// Fields that name something of one machine stand behind #, ready to be filled in.
func TestShippedNear(t *testing.T) {
	shown := 0
	for _, name := range Shipped() {
		text, p := shippedProfile(t, name)
		if p.Work.Near != "" {
			t.Errorf("%s: near %s is not there on most machines", name, p.Work.Near)
		}
		if !strings.Contains(text, "\n  # near:") {
			continue
		}
		shown++
		filled, err := Parse([]byte(strings.Replace(text, "\n  # near:", "\n  near:", 1)), name)
		if err != nil {
			t.Errorf("near uncommented: %v", err)
		} else if filled.Work.Near == "" {
			t.Errorf("%s: near is not one of work's fields", name)
		}
	}
	if shown == 0 {
		t.Error("no profile shows how to name a device")
	}
}

// Together the shipped profiles use every word that changes a plan.
func TestShippedCover(t *testing.T) {
	used := map[string]bool{}
	for _, name := range Shipped() {
		_, p := shippedProfile(t, name)
		for _, word := range []string{string(p.Runtime), string(p.Objective), string(p.Work.Kind), string(p.Work.Partition)} {
			used[word] = true
		}
	}
	for _, f := range fields() {
		switch f.path {
		case "runtime", "objective", "work.kind", "work.partition":
		default:
			continue
		}
		for _, word := range f.rule.words {
			// Free-threaded Python is planned as native threads are.
			if !used[word] && word != string(PythonFreeThreaded) {
				t.Errorf("no shipped profile has %s: %s", f.path, word)
			}
		}
	}
}
