package cpuid

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/root"
	"berth/probe/topology"
)

// corpus holds dumps of real machines beside the project, with what is true
// of each. They are not the project's to hold.
const corpus = "../../../shared/corpus"

// facts is what is known to be true of one machine.
type facts struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Online    string   `json:"online"`
	Packages  []string `json:"packages"`
	Dies      []string `json:"dies"`
	Cores     []string `json:"cores"`
	Absent    []string `json:"absent"`
	Ungraded  []string `json:"ungraded"`
	Uncounted []string `json:"ungraded_caches"`
	Caches    []struct {
		Level int    `json:"level"`
		Type  string `json:"type"`
		Size  *int64 `json:"size_bytes"`
		Line  *int   `json:"line"`
		Ways  *int   `json:"ways"`
		CPUs  string `json:"cpus"`
	} `json:"caches"`
	CPU struct {
		Vendor   string `json:"vendor"`
		Brand    string `json:"brand"`
		Family   int    `json:"family"`
		Model    int    `json:"model"`
		Stepping int    `json:"stepping"`
	} `json:"cpu"`
}

func TestCorpus(t *testing.T) {
	names, _ := filepath.Glob(filepath.Join(corpus, "facts", "*.json"))
	if len(names) == 0 {
		t.Skip("the corpus of real machines is not beside the project")
	}
	texts := unpackTexts(t)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var f facts
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var d *Dump
		switch f.Kind {
		case "cpuid":
			r, err := root.Open(filepath.Join(corpus, "cpuid", f.Name+".tar.gz"))
			if err != nil {
				t.Fatal(err)
			}
			d, _, err = ReadDir(r.Dir)
			if err != nil {
				t.Errorf("%s: %v", f.Name, err)
				continue
			}
			r.Close()
		case "cpuid-instlat":
			if d, _, err = ParseText(texts[f.Name+".txt"], f.Name); err != nil {
				t.Errorf("%s: %v", f.Name, err)
				continue
			}
		default:
			continue
		}
		t.Run(f.Name, func(t *testing.T) { f.check(t, d) })
	}
}

func unpackTexts(t *testing.T) map[string][]byte {
	t.Helper()
	file, err := os.Open(filepath.Join(corpus, "cpuid-instlat.tar.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string][]byte{}
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if texts[filepath.Base(h.Name)], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func (f facts) check(t *testing.T, d *Dump) {
	topo, _ := d.Topology()
	sound(t, d, topo)
	if got := topo.Online.String(); got != f.Online {
		t.Errorf("online %s, not %s", got, f.Online)
	}
	f.compare(t, "packages", f.Packages, sets(topo.Packages, func(p topology.Package) cpuset.Set { return p.CPUs }))
	f.compare(t, "dies", f.Dies, sets(topo.Dies, func(d topology.Die) cpuset.Set { return d.CPUs }))
	f.compare(t, "cores", f.Cores, sets(topo.Cores, func(c topology.Core) cpuset.Set { return c.CPUs }))
	f.caches(t, topo)

	id := d.Identity()
	spaced := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if id.Vendor != spaced(f.CPU.Vendor) || f.CPU.Brand != "" && id.Brand != spaced(f.CPU.Brand) ||
		*id.Family != f.CPU.Family || *id.Model != f.CPU.Model || *id.Stepping != f.CPU.Stepping {
		t.Errorf("%s %q %d/%d/%d, not %+v", id.Vendor, id.Brand, *id.Family, *id.Model, *id.Stepping, f.CPU)
	}

	// Written and read again, and read as Live would read such a machine,
	// everything stays the same.
	again, frugal := &Dump{}, collector{}
	for c := range d.CPUs().All() {
		var w bytes.Buffer
		if err := d.WritePU(&w, c); err != nil {
			t.Fatal(err)
		}
		entries, found := parsePU(w.Bytes(), "pu")
		if len(found) > 0 {
			t.Errorf("CPU %d: %v", c, found)
		}
		again.add(c, entries)
		frugal.read(c, func(leaf, sub uint32) Regs {
			r, _ := d.Get(c, leaf, sub)
			return r
		})
	}
	want := draw(topo)
	if topo, _ := again.Topology(); draw(topo) != want {
		t.Errorf("written and read again:\n%s\nwas\n%s", draw(topo), want)
	}
	if topo, _ := frugal.dump.Topology(); draw(topo) != want {
		t.Errorf("read frugally:\n%s\nwas\n%s", draw(topo), want)
	}
}

func sets[T any](objects []T, of func(T) cpuset.Set) (all []string) {
	for _, o := range objects {
		all = append(all, of(o).String())
	}
	return all
}

// compare takes the sets in any order. Where the dump does not say, what only
// repeats another level is right, too.
func (f facts) compare(t *testing.T, what string, want, got []string) {
	t.Helper()
	if slices.Contains(f.Ungraded, what) {
		return
	}
	right := [][]string{want}
	if slices.Contains(f.Absent, what) {
		right = append(right, nil)
		switch what {
		case "cores":
			online, _ := cpuset.Parse(f.Online)
			var each []string
			for c := range online.All() {
				each = append(each, cpuset.Of(c).String())
			}
			right = append(right, each)
		case "packages":
			right = append(right, []string{f.Online})
		case "dies":
			right = append(right, f.Packages)
		}
	}
	if !slices.ContainsFunc(right, func(w []string) bool { return slices.Equal(sorted(w), sorted(got)) }) {
		t.Errorf("%s %v, not %v", what, got, want)
	}
}

func (f facts) caches(t *testing.T, topo topology.Topology) {
	t.Helper()
	if slices.Contains(f.Ungraded, "caches") {
		return
	}
	short := func(level int, kind string) string {
		return fmt.Sprintf("L%d%s", level, strings.TrimPrefix(kind[:1], "u"))
	}
	graded := func(level int, kind string) bool { return !slices.Contains(f.Uncounted, short(level, kind)) }
	var want, got []string
	for _, c := range f.Caches {
		if graded(c.Level, c.Type) {
			want = append(want, short(c.Level, c.Type)+" "+describe(c.Size, c.Line, c.Ways)+" "+c.CPUs)
		}
	}
	for _, c := range topo.Caches {
		if graded(c.Level, string(c.Type)) {
			got = append(got, short(c.Level, string(c.Type))+" "+describe(c.Size, c.Line, c.Ways)+" "+c.CPUs.String())
		}
	}
	if want, got = sorted(want), sorted(got); !slices.Equal(want, got) {
		t.Errorf("caches\n%v\nnot\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func describe(size *int64, line, ways *int) string {
	text := func(v any, known bool) string {
		if !known {
			return "-"
		}
		return fmt.Sprint(v)
	}
	var s int64
	var l, w int
	if size != nil {
		s = *size
	}
	if line != nil {
		l = *line
	}
	if ways != nil {
		w = *ways
	}
	return text(s, size != nil) + "/" + text(l, line != nil) + "/" + text(w, ways != nil)
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
