//go:build lab

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/hwloc"
	"berth/probe/topology"
)

// dumps are the archives to compare on: those of $BERTH_CORPUS/sysfs, or
// ../shared/corpus beside the repository.
func dumps(t *testing.T) []string {
	t.Helper()
	corpus := os.Getenv("BERTH_CORPUS")
	if corpus == "" {
		corpus = "../../../../shared/corpus"
	}
	found, err := filepath.Glob(filepath.Join(corpus, "sysfs", "*.tar.gz"))
	if err != nil || len(found) == 0 {
		t.Skipf("no dumps in %s; BERTH_CORPUS names a folder that holds sysfs/*.tar.gz", corpus)
	}
	for _, program := range [...]string{"lstopo-no-graphics", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not here; Debian has it in hwloc", program)
		}
	}
	return found
}

// unpack gives the folder that holds the dump's sys and proc.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	at := dir
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "sys" {
			at = filepath.Dir(path)
			return fs.SkipAll
		}
		return nil
	})
	return at
}

// lstopo exports XML. What it says on stderr is an error: it warns of what it
// must mend in a file.
func lstopo(t *testing.T, env []string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "lstopo-no-graphics", append(args, "--disallowed", "--of", "xml")...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("lstopo: %w: %s", err, errs.String())
	}
	if errs.Len() > 0 {
		return out.Bytes(), fmt.Errorf("lstopo warns: %s", errs.String())
	}
	return out.Bytes(), nil
}

// element is any element of hwloc's XML, read by itself and not by the package
// that is under test.
type element struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Inside  []element  `xml:",any"`
	Text    string     `xml:",chardata"`
}

// facts are the lines that both must agree on: of each object its type, number,
// sets and what else it says; of groups only those that the kernel names.
func facts(t *testing.T, data []byte) []string {
	t.Helper()
	var top element
	if err := xml.Unmarshal(data, &top); err != nil {
		t.Fatalf("%v in\n%.400s", err, data)
	}
	var out []string
	var visit func(element)
	visit = func(e element) {
		value := map[string]string{}
		for _, a := range e.Attrs {
			value[a.Name.Local] = a.Value
		}
		var keep []string
		switch typ := value["type"]; {
		case e.XMLName.Local == "distances2":
			text := ""
			for _, in := range e.Inside {
				text += in.XMLName.Local + " " + strings.TrimSpace(in.Text) + " "
			}
			out = append(out, "distances "+text)
		case e.XMLName.Local != "object":
		case typ == "Machine":
			keep = []string{"cpuset", "complete_cpuset", "allowed_cpuset", "nodeset", "complete_nodeset", "allowed_nodeset"}
		case strings.HasPrefix(typ, "L"):
			keep = []string{"cpuset", "complete_cpuset", "nodeset", "complete_nodeset", "cache_size", "depth", "cache_linesize", "cache_associativity", "cache_type"}
		case typ == "Group" && value["kind"] != "900" && value["kind"] != "1001":
			keep = []string{"os_index", "cpuset", "complete_cpuset", "nodeset", "subtype", "kind", "subkind"}
		case slices.Contains([]string{"Package", "Die", "Core", "PU", "NUMANode"}, typ):
			keep = []string{"os_index", "cpuset", "complete_cpuset", "nodeset", "complete_nodeset", "local_memory"}
		}
		if keep != nil {
			line := value["type"]
			for _, name := range keep {
				if value[name] != "" {
					line += " " + name + "=" + value[name]
				}
			}
			out = append(out, line)
		}
		for _, in := range e.Inside {
			visit(in)
		}
	}
	visit(top)
	slices.Sort(out)
	return out
}

func machine(t *testing.T, source probe.Source, err error) *probe.Machine {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	m, err := probe.Probe(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// own is lstopo's own XML of a dump, by its Linux backend alone.
func own(t *testing.T, dir string, env ...string) []byte {
	t.Helper()
	data, err := lstopo(t, append(env, "HWLOC_FSROOT="+dir, "HWLOC_COMPONENTS=linux,stop", "HWLOC_HIDE_ERRORS=2"))
	if data == nil {
		t.Skipf("lstopo reads no machine from the dump: %v", err)
	}
	return data
}

// reread is what lstopo makes of a file.
func reread(t *testing.T, file string, data []byte) []string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// HWLOC_XML_VERBOSE also speaks of what hwloc must mend.
	read, err := lstopo(t, []string{"HWLOC_XML_VERBOSE=1", "HWLOC_THISSYSTEM=0"}, "-i", file)
	if err != nil {
		t.Error(err)
	}
	return facts(t, read)
}

// TestWritten compares lstopo on what berth writes with lstopo on the dump. The
// dump's goes through a file too: hwloc changes the complete set of a node at
// the root when it reads one.
func TestWritten(t *testing.T) {
	var all, same int
	for _, archive := range dumps(t) {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, archive)
			compare := func(t *testing.T) (equal, shown bool) {
				temp := t.TempDir()
				want := reread(t, filepath.Join(temp, "hwloc.xml"), own(t, dir))
				source, err := probe.Sysroot(dir)
				m := machine(t, source, err)
				file := filepath.Join(temp, "berth.xml")
				var written bytes.Buffer
				left, err := hwloc.Write(&written, m.Hwloc())
				if err != nil {
					t.Fatal(err)
				}
				if len(left) > 0 {
					t.Logf("left out: %s", left)
				}
				got := reread(t, file, written.Bytes())
				report(t, got, want, "berth", "hwloc", "")
				// And back.
				source, err = probe.HwlocXML(file)
				back := machine(t, source, err)
				report(t, shape(t, back, m, true), shape(t, m, m, true), "read back", "berth", strings.Join(left, "; "))
				return slices.Equal(got, want), len(left) == 0
			}
			equal, _ := compare(t)
			all++
			if equal {
				same++
			}
			if more, ok := told[name]; ok {
				if err := os.WriteFile(filepath.Join(dir, more.file), []byte(more.text), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Run("told", func(t *testing.T) {
					if _, shown := compare(t); !shown {
						t.Errorf("%s does not make berth write all", more.file)
					}
				})
			}
		})
	}
	t.Logf("of %d dumps that lstopo reads, %d are the same in all that is compared", all, same)
}

// TestThrough reads lstopo's XML and writes it again: lstopo sees the same in
// both, whatever berth thinks of the dump. Groups that are another object are lost.
func TestThrough(t *testing.T) {
	for _, archive := range dumps(t) {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			dir, temp := unpack(t, archive), t.TempDir()
			file := filepath.Join(temp, "hwloc.xml")
			want := reread(t, file, own(t, dir))
			source, err := probe.HwlocXML(file)
			var written bytes.Buffer
			if _, err = hwloc.Write(&written, machine(t, source, err).Hwloc()); err != nil {
				t.Fatal(err)
			}
			report(t, reread(t, filepath.Join(temp, "berth.xml"), written.Bytes()), want, "berth", "hwloc", "")
		})
	}
}

// TestRead compares what berth reads of lstopo's XML with what it reads of the
// dump, for both versions of the format.
func TestRead(t *testing.T) {
	for _, archive := range dumps(t) {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, archive)
			own(t, dir)
			source, err := probe.Sysroot(dir)
			want := machine(t, source, err)
			for _, version := range [...]string{"v2", "v1"} {
				data, err := lstopo(t, []string{"HWLOC_FSROOT=" + dir, "HWLOC_COMPONENTS=linux,stop", "HWLOC_HIDE_ERRORS=2"}, "--export-xml-flags", map[string]string{"v2": "0", "v1": "v1"}[version])
				if data == nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), version+".xml")
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				source, err := probe.HwlocXML(file)
				got := machine(t, source, err)
				report(t, shape(t, got, want, version == "v2"), shape(t, want, want, version == "v2"), "hwloc "+version, "berth", unlike[name])
			}
		})
	}
}

// shape is a topology as lines, without what hwloc does not keep: a die that is
// the whole package, a book, drawer or cluster that is another object, distances
// of one node, what other CPUs' files say of those that have none, and the source.
// A machine of no known node has one in hwloc.
// Version 1 has no dies.
func shape(t *testing.T, m, berth *probe.Machine, dies bool) []string {
	t.Helper()
	var out []string
	add := func(kind string, o any) {
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, kind+" "+string(data))
	}
	top := m.Topology
	described := func(cpus cpuset.Set) cpuset.Set {
		if top.NoTopology != nil {
			cpus = cpus.Minus(*top.NoTopology)
		}
		return cpus
	}
	add("online", top.Online)
	add("offline", top.Offline)
	for _, p := range top.Packages {
		p.CPUs = described(p.CPUs)
		add("package", p)
	}
	for _, c := range top.Cores {
		c.Kind, c.Die, c.Cluster = "", nil, nil
		if len(berth.Topology.NUMANodes) == 0 {
			c.NUMANode = nil
		}
		add("core", c)
	}
	for _, d := range top.Dies {
		if dies && !slices.ContainsFunc(top.Packages, func(p topology.Package) bool { return p.CPUs.Equal(d.CPUs) }) {
			add("die", d)
		}
	}
	groups := func(kind string, list, inside []topology.Group) {
		for _, g := range list {
			same := func(cpus cpuset.Set) bool { return cpus.Equal(g.CPUs) }
			if !same(top.Online) && !slices.ContainsFunc(top.Packages, func(p topology.Package) bool { return same(p.CPUs) }) &&
				!slices.ContainsFunc(inside, func(in topology.Group) bool { return same(in.CPUs) }) {
				add(kind, g)
			}
		}
	}
	groups("book", top.Books, top.Drawers)
	groups("drawer", top.Drawers, nil)
	for _, c := range top.Caches {
		c.Source = ""
		add("cache", c)
	}
	if len(berth.Topology.NUMANodes) > 0 {
		for _, n := range top.NUMANodes {
			if len(n.Distances) == 1 {
				n.Distances = nil
			}
			add("node", n)
		}
	}
	slices.Sort(out)
	return out
}

// report says what only one of the two has: an error, unless it is known why.
func report(t *testing.T, got, want []string, who, other, why string) {
	t.Helper()
	say := t.Errorf
	if why != "" {
		say = func(format string, args ...any) { t.Helper(); t.Logf(format+" (known: "+why+")", args...) }
	}
	const most = 6 // lines of one sort
	for _, side := range [...]struct {
		who       string
		has, lack []string
	}{{who, got, want}, {other, want, got}} {
		n := 0
		for _, line := range side.has {
			if !slices.Contains(side.lack, line) {
				if n++; n <= most {
					say("only %s: %s", side.who, line)
				}
			}
		}
		if n > most {
			say("only %s: and %d more", side.who, n-most)
		}
	}
}
