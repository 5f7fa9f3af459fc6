package root_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/probe/finding"
	"berth/probe/root"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// files is one small machine in the form of [root.FromFiles].
var files = map[string]string{
	"sys/devices/system/cpu/online":          "0-1\n",
	"sys/devices/system/cpu/cpu0/node0/list": "far",
	"sys/class/cpu":                          "-> ../devices/system/cpu",
	"sys/devices/up":                         "-> ../class/cpu/online",
	"sys/outside":                            "-> ../../etc/passwd",
	"sys/absolute":                           "-> /etc/passwd",
	"sys/loop":                               "-> loop",
	"sys/gone":                               "-> nothing",
	"proc/long":                              strings.Repeat("x", 10000),
	"proc/empty":                             "",
}

// onDisk writes the machine to a folder.
func onDisk(t *testing.T) string {
	dir := t.TempDir()
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archive packs the machine, below prefix.
func archive(t *testing.T, prefix string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		h := &tar.Header{Name: prefix + name, Mode: 0o644, Size: int64(len(content))}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, name string, data []byte) string {
	full := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(full, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return full
}

// roots opens the machine in each form that there is.
func roots(t *testing.T) map[string]*root.Root {
	plain := archive(t, "")
	compressed := func(wrap func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := wrap(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	out := map[string]*root.Root{"memory": root.FromFiles(files)}
	for name, path := range map[string]string{
		"folder": onDisk(t),
		"tar":    write(t, "m.tar", plain),
		"below":  write(t, "b.tar", archive(t, "./machine-7/")),
		"gzip":   write(t, "m.gz", compressed(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })),
		"xz":     write(t, "m.xz", compressed(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })),
		"zstd":   write(t, "m.zst", compressed(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })),
	} {
		r, err := root.Open(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(r.Findings) > 0 {
			t.Errorf("%s: %v", name, r.Findings)
		}
		out[name] = r
	}
	slow, err := root.OpenSlowly(onDisk(t)) // where there is no openat2(2)
	if err != nil {
		t.Fatal(err)
	}
	out["folder, slowly"] = slow
	return out
}

func TestEveryForm(t *testing.T) {
	for form, r := range roots(t) {
		t.Run(form, func(t *testing.T) {
			defer r.Close()
			cpu, err := r.Open("/sys/devices/system/cpu")
			if err != nil {
				t.Fatal(err)
			}
			defer cpu.Close()
			if cpu.Path() != "/sys/devices/system/cpu" {
				t.Errorf("Path: %s", cpu.Path())
			}
			for _, c := range []struct {
				dir  root.Dir
				name string
				want string
			}{
				{cpu, "online", "0-1\n"},
				{cpu, "cpu0/node0/list", "far"},
				{r, "sys/class/cpu/online", "0-1\n"}, // through a link
				{r, "/sys/devices/up", "0-1\n"},      // through two
				{r, "proc/long", files["proc/long"]},
				{r, "proc/empty", ""},
			} {
				if got, err := c.dir.ReadFile(c.name); err != nil || got != c.want {
					t.Errorf("ReadFile(%s) = %.20q, %v", c.name, got, err)
				}
			}
			if got, err := r.ReadHead("proc/long", 7); err != nil || got != "xxxxxxx" {
				t.Errorf("ReadHead: %q, %v", got, err)
			}
			// A directory reached by a link that climbs above its handle.
			class, err := r.Open("sys/class")
			if err != nil {
				t.Fatal(err)
			}
			defer class.Close()
			if got, err := class.ReadFile("cpu/online"); err != nil || got != "0-1\n" {
				t.Errorf("ReadFile through a handle: %q, %v", got, err)
			}
			if names, err := cpu.Names(); err != nil || !slices.Equal(slices.Sorted(slices.Values(names)), []string{"cpu0", "online"}) {
				t.Errorf("Names: %v, %v", names, err)
			}
			if target, err := class.ReadLink("cpu"); err != nil || target != "../devices/system/cpu" {
				t.Errorf("ReadLink: %q, %v", target, err)
			}
			if target, err := r.ReadLink("sys/class/cpu"); err != nil || target != "../devices/system/cpu" {
				t.Errorf("ReadLink from the top: %q, %v", target, err)
			}
			for _, name := range []string{"sys/outside", "sys/absolute"} {
				if got, err := r.ReadFile(name); !errors.Is(err, root.ErrOutside) {
					t.Errorf("ReadFile(%s) = %q, %v; want ErrOutside", name, got, err)
				}
			}
			for _, name := range []string{"sys/gone", "proc/none", "none/none", "proc/long/below"} {
				if _, err := r.ReadFile(name); !root.IsMissing(err) {
					t.Errorf("ReadFile(%s): %v; want that it is missing", name, err)
				}
			}
			for _, name := range []string{"sys/loop", "sys"} {
				_, err := r.ReadFile(name)
				var pe *fs.PathError
				if err == nil || root.IsMissing(err) || !errors.As(err, &pe) || pe.Path != "/"+name {
					t.Errorf("ReadFile(%s): %v; want an error that names it", name, err)
				}
			}
			if _, err := r.Open("proc/long"); err == nil {
				t.Error("a file was opened as a directory")
			}
			for range 2 { // closing again is nothing
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			if got, err := cpu.ReadFile("online"); err != nil || got != "0-1\n" {
				t.Errorf("a directory of a root that was closed: %q, %v", got, err)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(2 << 30); err != nil { // sparse
		t.Skip("no room for a sparse file:", err)
	}
	f.Close()
	for _, open := range []func(string) (*root.Root, error){root.Open, root.OpenSlowly} {
		r, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.ReadFile("huge"); !errors.Is(err, root.ErrTooLarge) {
			t.Errorf("2 GiB: %v", err)
		}
	}
}

func TestBadArchives(t *testing.T) {
	plain := archive(t, "")
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	tw := tar.NewWriter(z)
	_ = tw.WriteHeader(&tar.Header{Name: "sys/devices/system/cpu/online", Size: 4 << 30})
	zeros := make([]byte, 1<<20)
	for range 600 {
		_, _ = tw.Write(zeros)
	}
	z.Close()
	for _, c := range []struct {
		name string
		data []byte
		says string
	}{
		{"empty", nil, "empty"},
		{"noise", []byte(strings.Repeat("not a tar archive. ", 99)), "neither a directory nor a tar archive"},
		{"cut gzip", []byte("\x1f\x8b\x08"), "EOF"},
		{"bomb", bomb.Bytes(), "more than 512 MiB"},
	} {
		r, err := root.Open(write(t, "x", c.data))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want an error with %q", c.name, r, err, c.says)
		}
	}
	if _, err := root.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := root.Open("/dev/null"); err == nil {
		t.Error("a device was opened")
	}

	// Cut short: what came before is there, and a finding says so.
	inLong := bytes.Index(plain, []byte("xxxxxxxx")) + 5000
	r, err := root.Open(write(t, "cut", plain[:inLong]))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 1 || r.Findings[0].Code != finding.Malformed {
		t.Errorf("a cut archive gives %v", r.Findings)
	}
}

// FuzzOpenArchive takes any bytes for an archive; the seeds are whole ones.
func FuzzOpenArchive(f *testing.F) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, h := range []*tar.Header{
		{Name: "sys/", Typeflag: tar.TypeDir}, {Name: "sys/a", Size: 2}, {Name: "sys/l", Typeflag: tar.TypeSymlink, Linkname: "../sys/a"},
		{Name: "sys/h", Typeflag: tar.TypeLink, Linkname: "sys/a"}, {Name: "../out", Size: 1}, {Name: "sys/a/b", Size: 1},
	} {
		_ = w.WriteHeader(h)
		_, _ = w.Write([]byte("0\n")[:h.Size])
	}
	w.Close()
	f.Add(plain.Bytes())
	var z bytes.Buffer
	gz := gzip.NewWriter(&z)
	_, _ = gz.Write(plain.Bytes())
	gz.Close()
	f.Add(z.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := root.OpenArchive(bytes.NewReader(data), "fuzz")
		if err != nil {
			return
		}
		for _, name := range []string{"sys/a", "sys/l", "sys/h", "sys/a/b", "proc", "sys/../.."} {
			_, _ = r.ReadFile(name)
			if d, err := r.Open(name); err == nil {
				_, _ = d.Names()
			}
		}
	})
}

func TestArchivePointsOutside(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"../escape", "sys/../../escape", "sys/online"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Size: 2})
		_, _ = w.Write([]byte("0\n"))
	}
	w.Close()
	r, err := root.Open(write(t, "m.tar", b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 1 || r.Findings[0].Code != "outside-root" || len(r.Findings[0].Evidence) != 2 {
		t.Errorf("findings: %v", r.Findings)
	}
	if got, err := r.ReadFile("sys/online"); err != nil || got != "0\n" {
		t.Errorf("the rest: %q, %v", got, err)
	}
}

func TestReader(t *testing.T) {
	var found finding.List
	r := root.Reader{Dir: root.FromFiles(map[string]string{
		"n": "42\n", "bad": "4x2", "list": "0-3\n\x00", "mask": "f\n\n", "null": " (null)\n", "badlist": "0-", "out": "-> /etc/passwd", "empty": "",
	}).Dir, Found: &found}
	if n, ok := r.Int("n"); !ok || n != 42 {
		t.Errorf("Int: %d, %v", n, ok)
	}
	if s, ok := r.CPUs("list"); !ok || s.String() != "0-3" {
		t.Errorf("CPUs: %q, %v", s, ok)
	}
	if s, ok := r.CPUMask("mask"); !ok || s.String() != "0-3" {
		t.Errorf("CPUMask: %q, %v", s, ok)
	}
	for _, name := range []string{"null", "absent"} {
		if s, ok := r.CPUs(name); ok {
			t.Errorf("CPUs(%s) = %q", name, s)
		}
	}
	if all := found.All(); len(all) != 0 {
		t.Fatalf("findings about good files: %v", all)
	}
	r.Int("bad")
	r.Int("empty")
	r.CPUs("badlist")
	r.CPUs("out")
	all := found.All()
	if len(all) != 2 || all[0].Code != finding.Malformed || len(all[0].Evidence) != 3 || all[1].Code != "outside-root" ||
		!strings.Contains(all[0].Evidence[0], "/bad") || !strings.Contains(all[1].Evidence[0], "/out") {
		t.Errorf("findings: %v", all)
	}
}
