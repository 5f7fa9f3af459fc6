//go:build linux

package apply

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/advisor"
	"berth/advisor/emit"
	"berth/advisor/emit/check"
	"berth/probe"
	"berth/profiles"
)

func plan(t testing.TB, machine, profile string) *advisor.Plan {
	t.Helper()
	source, err := probe.Synthetic(machine)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profiles.Parse([]byte("schema: "+profiles.Schema+"\nname: site\n"+profile), "test")
	if err != nil {
		t.Fatal(err)
	}
	out, err := advisor.Advise(m, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	machine   = "numa:1(memory=8GiB) core:4 pu:1"
	processes = "runtime: python\nmodel: processes\nlimits: {memory_per_worker_mib: 256}\n"
)

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func target(t *testing.T, name string) emit.Target {
	t.Helper()
	out, ok := emit.Find(name)
	if !ok {
		t.Fatalf("there is no target %s", name)
	}
	return out
}

// settings are what a tool has already, and what the user calls it, with the
// file that is expected.
var settings = []struct {
	target, file, text, at, want string
}{
	{"systemd", "site.service", "[Service]\nExecStart=/bin/true\nCPUAffinity=7\n", "site", "site.service.d/50-berth.conf"},
	{"compose", "compose.yaml", "services:\n  web: {image: site}\n  db: {image: postgres}\n", "compose.yaml:web", "compose.override.yaml"},
	{"compose", "docker-compose.yml", "services:\n  web: {image: site}\n", "", "compose.override.yaml"},
	{"haproxy", "haproxy.cfg", "global\n", "", "50-berth.cfg"},
	{"postgresql", "postgresql.conf", "port = 1\ninclude_dir = 'conf.d' # more\n", "postgresql.conf", "conf.d/50-berth.conf"},
	{"postgresql", "postgresql.conf", "Include_Dir other\n", "", "other/50-berth.conf"},
	{"kernel", "kdump.cfg", "", "", "50-berth.cfg"},
}

// A plan goes to where the tool reads it, agrees with the plan there, and is
// taken back without a trace.
func TestApplyAndUndo(t *testing.T) {
	for _, c := range settings {
		for _, profile := range []string{processes, "runtime: java\nlimits: {memory_per_worker_mib: 256}\n", "runtime: openmp\nwork: {kind: float}\n"} {
			dir, state := t.TempDir(), t.TempDir()
			put(t, filepath.Join(dir, c.file), c.text)
			p := plan(t, machine, profile)
			at := dir
			if c.at != "" {
				at = filepath.Join(dir, c.at)
			}
			find := func() *Change {
				t.Helper()
				change, err := Find(p, target(t, c.target), at, Options{})
				if err != nil {
					t.Fatalf("%s %s: %v", c.target, c.at, err)
				}
				return change
			}
			change := find()
			if want := filepath.Join(dir, c.want); change.Path != want || change.Old != nil || change.Then == "" {
				t.Errorf("%s %s: %+v, want %s", c.target, c.at, change, want)
			}
			before := tree(t, dir)
			undo := filepath.Join(state, "deep", "undo.json")
			if err := change.Write(undo); err != nil {
				t.Fatalf("%s: %v", c.target, err)
			}
			text, err := os.ReadFile(change.Path)
			if err != nil || string(text) != string(change.New) {
				t.Errorf("%s: wrote %q, %v", c.target, text, err)
			}
			if slices.Contains(check.Formats(), c.target) {
				if r, err := check.Check(p, change.Path, text, ""); err != nil || r.Format != c.target || !r.Agrees() {
					t.Errorf("%s does not agree with its own plan: %+v, %v\n%s", c.target, r, err, text)
				}
			}
			again := find()
			if !same(again.Old, again.New) {
				t.Errorf("%s: a second time it is another text", c.target)
			}
			u, err := undoOf(undo)
			if err != nil {
				t.Fatal(err)
			}
			for turn, want := range []bool{true, false, false} {
				if did, err := u.Restore(false); err != nil || did != want {
					t.Errorf("%s: undo %d: %v, %v", c.target, turn, did, err)
				}
				if now := tree(t, dir); now != before {
					t.Errorf("%s: undone it is\n%s\nand was\n%s", c.target, now, before)
				}
			}
		}
	}
}

// tree is every file and folder, with what is in it.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out.WriteString(path + "\n")
			return err
		}
		text, err := os.ReadFile(path)
		out.WriteString(path + " " + string(text) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Each plan over the one before: undo goes back step by step, and not out of turn.
func TestUndoInTurn(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	unit := put(t, filepath.Join(dir, "site.service"), "")
	var undos []*Undo
	for i, m := range []string{"core:2 pu:1", "core:3 pu:1"} {
		change, err := Find(plan(t, m, processes), target(t, "systemd"), unit, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if (change.Old == nil) != (i == 0) {
			t.Errorf("step %d has %q before", i, change.Old)
		}
		name := filepath.Join(state, m)
		if err := change.Write(name); err != nil {
			t.Fatal(err)
		}
		if err := change.Write(name + " again"); !errors.Is(err, ErrChanged) {
			t.Errorf("written over what it was not shown for: %v", err)
		}
		if _, err := os.Stat(name + " again"); err == nil {
			t.Error("an undo file of nothing")
		}
		u, err := undoOf(name)
		if err != nil {
			t.Fatal(err)
		}
		undos = append(undos, u)
	}
	drop := filepath.Join(dir, "site.service.d", "50-berth.conf")
	if err := os.Chmod(drop, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := undos[0].Restore(false); !errors.Is(err, ErrChanged) {
		t.Errorf("the first undo, out of turn: %v", err)
	}
	if did, err := undos[1].Restore(false); err != nil || !did {
		t.Errorf("the second: %v, %v", did, err)
	}
	if info, err := os.Stat(drop); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode did not stay: %v, %v", info, err)
	}
	if did, err := undos[0].Restore(false); err != nil || !did {
		t.Errorf("the first: %v, %v", did, err)
	}
	if _, err := os.Stat(filepath.Dir(drop)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

// What somebody did since stays, unless forced; a folder with files of others too.
func TestChangedSince(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(drop string) error
	}{
		{"edited", func(drop string) error { return os.WriteFile(drop, []byte("[Service]\n"), 0o644) }},
		{"emptied", func(drop string) error { return os.Truncate(drop, 0) }},
	} {
		dir := t.TempDir()
		change, err := Find(plan(t, machine, processes), target(t, "systemd"), put(t, filepath.Join(dir, "site.service"), ""), Options{})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "undo")
		if err := change.Write(name); err != nil {
			t.Fatal(err)
		}
		other := put(t, filepath.Join(filepath.Dir(change.Path), "60-own.conf"), "")
		if err := c.change(change.Path); err != nil {
			t.Fatal(err)
		}
		u, err := undoOf(name)
		if err != nil {
			t.Fatal(err)
		}
		if did, err := u.Restore(false); did || !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, %v", c.name, did, err)
		}
		if did, err := u.Restore(true); !did || err != nil {
			t.Errorf("%s, forced: %v, %v", c.name, did, err)
		}
		if _, err := os.Stat(other); err != nil {
			t.Errorf("somebody's own file went: %v", err)
		}
	}
}

// Cut off after any step of Write, undo finds the old and leaves nothing.
func TestCutOff(t *testing.T) {
	for _, step := range []string{"undo file", "folder"} {
		dir := t.TempDir()
		change, err := Find(plan(t, machine, processes), target(t, "systemd"), put(t, filepath.Join(dir, "site.service"), ""), Options{})
		if err != nil {
			t.Fatal(err)
		}
		before := tree(t, dir)
		made, err := missing(filepath.Dir(change.Path))
		if err != nil || len(made) != 1 {
			t.Fatalf("missing: %v, %v", made, err)
		}
		u := &Undo{Schema: UndoSchema, Path: change.Path, New: hash(change.New), Made: made}
		name := filepath.Join(t.TempDir(), "undo")
		if err := u.save(name); err != nil {
			t.Fatal(err)
		}
		if step == "folder" {
			if err := makeAll(made); err != nil {
				t.Fatal(err)
			}
		}
		u, err = undoOf(name)
		if err != nil {
			t.Fatal(err)
		}
		if did, err := u.Restore(false); did || err != nil || tree(t, dir) != before {
			t.Errorf("cut off after the %s: %v, %v\n%s", step, did, err, tree(t, dir))
		}
	}
}

// Where the file cannot be written, nothing is left of the attempt.
func TestWriteFails(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	change, err := Find(plan(t, machine, processes), target(t, "systemd"), put(t, filepath.Join(dir, "site.service"), ""), Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	for _, path := range []string{"/proc/50-berth.conf", "/proc/berth.d/50-berth.conf"} { // not even root may
		change.Path = path
		if err := change.Write(filepath.Join(state, "undo")); err == nil {
			t.Fatalf("%s was written", path)
		}
	}
	change.Path = filepath.Join(dir, "d", "50-berth.conf")
	if err := change.Write("/dev/full"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an undo file that is there: %v", err)
	}
	if err := change.Write(filepath.Join(dir, "site.service", "undo")); err == nil {
		t.Error("an undo file below a file")
	}
	for at, was := range map[string]string{dir: before, state: state + "\n"} {
		if now := tree(t, at); now != was {
			t.Errorf("left:\n%s\nand before\n%s", now, was)
		}
	}
}

func TestRefused(t *testing.T) {
	p := plan(t, machine, processes)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	put(t, in("site.service"), "")
	put(t, in("linked/compose.yaml"), "services: {web: {}}\n")
	if err := os.Symlink("elsewhere", in("linked/compose.override.yaml")); err != nil {
		t.Fatal(err)
	}
	put(t, in("theirs/compose.yaml"), "services: {web: {}}\n")
	put(t, in("theirs/compose.override.yml"), "services: {web: {cpuset: '0'}}\n")
	put(t, in("other/compose.yaml"), "services: {web: {}, db: {}}\n")
	put(t, in("other/compose.override.yaml"), head+"services: {db: {cpuset: '0'}}\n")
	put(t, in("two/compose.yaml"), "services: {web: {}, db: {}}\n")
	put(t, in("two/docker-compose.yaml"), "services: {web: {}}\n")
	put(t, in("broken/compose.yaml"), "services: [\n")
	put(t, in("none/compose.yaml"), "name: x\n")
	put(t, in("pg/postgresql.conf"), "#include_dir = 'conf.d'\ninclude_dirs = 'x'\nlisten = 'include_dir = a'\n")
	if err := os.MkdirAll(in("folder.service.d/50-berth.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		target, at, want string
		o                Options
	}{
		{"nginx", "/etc/nginx", "its format has no drop-in", Options{}},
		{"systemd", "", "names nothing", Options{}},
		{"systemd", "a\xff", "names nothing", Options{}},
		{"systemd", in("site.socket"), "site.socket is no service", Options{}},
		{"systemd", in("si te"), "is not the name of a service", Options{}},
		{"systemd", in("a@b@c.service"), "is not the name of a service", Options{}},
		{"systemd", in("..") + "/..", "is not the name of a service", Options{}},
		{"systemd", in("nowhere/site"), "no such file", Options{}},
		{"systemd", in("site"), "the user's units are elsewhere", Options{User: true}},
		{"systemd", in("folder"), "it is no regular file", Options{Force: true}},
		{"compose", in("linked"), "it is a symbolic link", Options{Force: true}},
		{"compose", in("theirs"), "berth emit --apply did not write it", Options{}},
		{"compose", in("other") + ":web", "it is about service db", Options{}},
		{"compose", in("two"), "has the services db, web: name one, as ", Options{}},
		{"compose", in("two") + ":x", "has no service x; it has db, web", Options{}},
		{"compose", in("two/docker-compose.yaml"), "by itself: " + in("two/compose.yaml") + " is", Options{}},
		{"compose", in("broken"), "broken/compose.yaml: yaml: ", Options{}},
		{"compose", in("none"), "has no services", Options{}},
		{"compose", in("pg"), "has none of compose.yaml", Options{}},
		{"compose", in("nowhere"), "no such file", Options{}},
		{"compose", in("two"), "only systemd has units of the user", Options{User: true}},
		{"haproxy", in("site.service"), "is no folder; give the one that haproxy is started with by -f", Options{}},
		{"postgresql", in("pg"), "add the line include_dir = 'conf.d'", Options{}},
		{"postgresql", in("nowhere"), "no such file", Options{}},
		{"postgresql", "/dev/null", "it is no file of settings", Options{}},
		{"kernel", in("nowhere"), "no such file", Options{}},
	} {
		change, err := Find(p, target(t, c.target), c.at, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %+v, %v, want %s", c.target, c.at, change, err, c.want)
		}
	}
	if change, err := Find(p, target(t, "compose"), in("theirs"), Options{Force: true}); err != nil || filepath.Base(change.Path) != "compose.override.yml" {
		t.Errorf("forced: %+v, %v", change, err)
	}
	// A plan that pins nothing has nothing for the kernel.
	free := *p
	free.Placement.Pin, free.Placement.Seats = advisor.NoPin, nil
	if _, err := Find(&free, target(t, "kernel"), dir, Options{}); err == nil || !strings.Contains(err.Error(), "the plan has no settings for it: isolated CPUs") {
		t.Errorf("the kernel, without pins: %v", err)
	}
}

// What PostgreSQL reads after the plan's settings is told.
func TestLaterCounts(t *testing.T) {
	dir := t.TempDir()
	conf := put(t, filepath.Join(dir, "postgresql.conf"), "max_connections = 5\n\ninclude_dir 'it''s'\nport = 1\nmax_connections = 200\n")
	put(t, filepath.Join(dir, "it's", "10-first.conf"), "max_worker_processes = 77\n")
	put(t, filepath.Join(dir, "it's", "60-last.conf"), "max_worker_processes = 99\n")
	change, err := Find(plan(t, machine, processes), target(t, "postgresql"), conf, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{conf + ":5 says max_connections = 200", filepath.Join(dir, "it's", "60-last.conf") + ":1 says max_worker_processes = 99"}
	if len(change.Notes) != 2 || !strings.HasPrefix(change.Notes[0], want[0]) || !strings.HasPrefix(change.Notes[1], want[1]) {
		t.Errorf("notes %q, want %q", change.Notes, want)
	}
	if want := filepath.Join(dir, "it's", "50-berth.conf"); change.Path != want {
		t.Errorf("path %s, want %s", change.Path, want)
	}
}

// Units go to where systemd looks for those of the administrator and the user,
// and one that nobody has is told.
func TestUnits(t *testing.T) {
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	change, err := Find(plan(t, machine, processes), target(t, "systemd"), `odd\x2dname@3`, Options{User: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(config, "systemd/user", `odd\x2dname@3.service.d`, "50-berth.conf"); change.Path != want {
		t.Errorf("path %s, want %s", change.Path, want)
	}
	if want := `systemctl --user daemon-reload && systemctl --user restart 'odd\x2dname@3.service'`; change.Then != want {
		t.Errorf("then %s, want %s", change.Then, want)
	}
	if len(change.Notes) != 1 || !strings.Contains(change.Notes[0], "there is no unit") {
		t.Errorf("notes %q", change.Notes)
	}
	put(t, filepath.Join(config, "systemd/user", `odd\x2dname@.service`), "")
	if change, err = Find(plan(t, machine, processes), target(t, "systemd"), `odd\x2dname@3.service`, Options{User: true}); err != nil || change.Notes != nil {
		t.Errorf("with its template: %+v, %v", change, err)
	}
}

func undoOf(name string) (*Undo, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadUndo(f, name)
}

func TestReadUndo(t *testing.T) {
	dir := t.TempDir()
	whole, err := json.Marshal(&Undo{Schema: UndoSchema, Path: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{string(whole[:20]), "or was cut off before anything was changed"},
		{"{}", `it does not say "` + UndoSchema},
		{strings.Replace(string(whole), "/x", "x", 1), `path "x" is not absolute`},
		{"", "is not an undo file"},
	} {
		if u, err := undoOf(put(t, filepath.Join(dir, "undo"), c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %+v, %v, want %s", c.text, u, err, c.want)
		}
	}
	if _, err := undoOf(put(t, filepath.Join(dir, "undo"), string(whole))); err != nil {
		t.Error(err)
	}
}
