//go:build linux

package fleet

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	good := text(t, machine(t, server))
	odd := []string{"n1", "a b", "../up", "-rf", ".hidden", "x%2Fy", "ü", "new\nline", "c:1"}
	for _, name := range odd {
		write(FileName(name), good)
	}
	write("notes.txt", []byte("not asked for"))
	write("half.json", good[:50])
	write(".berth-123", good)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "gone.json")); err != nil {
		t.Fatal(err)
	}
	f := collect(t, &Files{Path: dir})
	var names []string
	for _, n := range f.Nodes {
		names = append(names, n.Name)
	}
	want := append(odd, "half", "pipe", "gone")
	slices.Sort(want)
	slices.Sort(names)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for name, code := range map[string]TroubleCode{"half": BrokeOff, "pipe": Failed, "gone": Failed, "n1": ""} {
		if n := node(t, f, name); n.Trouble != code {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

func TestArchive(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for _, name := range []string{"answers/n1.json", "answers/n2.json", "answers/README", "answers/bad.json"} {
		content := text(t, machine(t, server))
		if strings.Contains(name, "bad") {
			content = []byte("oops")
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	w.Close()
	z.Close()
	whole := packed.Bytes()
	f := collect(t, &Files{Path: "-", Input: bytes.NewReader(whole)})
	if len(f.Nodes) != 3 || f.Totals.Answered != 2 || node(t, f, "bad").Trouble != Garbage {
		t.Errorf("%+v", f.Nodes)
	}
	// What was read before the end of half an archive is kept.
	f, err := Collect(context.Background(), &Files{Path: "-", Input: bytes.NewReader(whole[:len(whole)*2/3])}, Options{})
	if err == nil && f.Early == "" {
		t.Error("half an archive is taken for a whole one")
	}
}

func TestStream(t *testing.T) {
	doc := func(name string) string { return string(text(t, machine(t, server, named(name)))) }
	half := doc("n3")[:200] + "\n"
	f := collect(t, &Files{Path: "-", Input: strings.NewReader("# gathered by hand\n" + doc("n1") + doc("n2") + half + doc("n4") + "\n\nthe end\n")})
	var got []string
	for _, n := range f.Nodes {
		got = append(got, n.Name+" "+string(n.Trouble))
	}
	if diff := cmp.Diff([]string{"line-1 garbage", "line-4 broke-off", "n1 ", "n2 ", "n4 "}, got); diff != "" {
		t.Error(diff)
	}
	if n := node(t, f, "n4"); len(n.Notes) != 1 || !strings.Contains(n.Notes[0], `"the end"`) {
		t.Errorf("%+v", n.Notes)
	}
	// Documents of many lines, as berth prints them, end where the next begins.
	many := strings.ReplaceAll(doc("n1"), `"topology":{`, "\n\"topology\":\n {\n")
	if f := collect(t, &Files{Path: "-", Input: strings.NewReader(many + many)}); len(f.Nodes) != 1 || len(f.Nodes[0].Notes) != 1 {
		t.Errorf("%+v", f.Nodes)
	}
	if f := collect(t, &Files{Path: "-", Input: strings.NewReader("")}); len(f.Nodes) != 0 {
		t.Errorf("%+v", f.Nodes)
	}
}

func TestFileNamesAreSafe(t *testing.T) {
	for _, name := range []string{"n1", "..", ".", "-", "a/b", "a\x00b", "%", "%2F", " ", "C:\\x"} {
		file := FileName(name)
		if strings.ContainsAny(file, "/\x00\\:") || strings.HasPrefix(file, ".") || strings.HasPrefix(file, "-") {
			t.Errorf("%q is kept as %q", name, file)
		}
		if back, ok := nodeOfFile(file); !ok || back != name {
			t.Errorf("%q comes back from %q as %q", name, file, back)
		}
	}
}
