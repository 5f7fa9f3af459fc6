//go:build linux

package python

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python3 is one that works, if the machine has one.
func python3(t *testing.T) Interpreter {
	t.Helper()
	p, err := Open(t.Context(), "python3")
	if err != nil {
		t.Skipf("no python3 to try: %v", err)
	}
	return p
}

// fake is a program that is no Python.
func fake(t *testing.T, folder, name, script string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// answering is a script that says it is a Python of some version.
func answering(executable, version, minor string) string {
	return `echo 'a site says hello'
echo 'berth-python {"executable": "` + executable + `", "implementation": "CPython", "version": "` + version +
		`", "major": 3, "minor": ` + minor + `, "gil": false, "switch_interval": 0.005}'`
}

func TestOpen(t *testing.T) {
	p := python3(t)
	if !filepath.IsAbs(p.Path) || p.Implementation == "" || !strings.HasPrefix(p.Version, "3.") || p.SwitchInterval <= 0 {
		t.Errorf("python3 is %+v", p)
	}
	again, err := Open(t.Context(), p.Path)
	if err != nil || again != p {
		t.Errorf("by its path it is %+v, %v; by its name %+v", again, err, p)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"missing", filepath.Join(dir, "none"), []string{"find the Python", "none"}},
		{"no name", "", []string{"find the Python"}},
		{"no program", dir, []string{"find the Python"}},
		{"crash", fake(t, dir, "crash", "echo 'Fatal Python error: no codec' >&2; exit 3"), []string{"exit status 3", "Fatal Python error: no codec"}},
		{"signal", fake(t, dir, "signal", "kill -SEGV $$"), []string{"segmentation fault"}},
		{"garbage", fake(t, dir, "garbage", "echo I am a snake"), []string{"does not answer as a Python", "I am a snake"}},
		{"torn", fake(t, dir, "torn", `echo 'berth-python {"version": "3.'`), []string{"does not answer as a Python", "invalid character"}},
		{"silent", fake(t, dir, "silent", "exit 0"), []string{"no answer was printed"}},
		{"long", fake(t, dir, "long", "echo "+long+" >&2; exit 1"), []string{"exit status 1", "…"}},
		{"old", fake(t, dir, "old", answering("", "3.6.15", "6")), []string{"3.6.15", "3.7 is the least"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(t.Context(), test.path)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if old := test.name == "old"; old != errors.Is(err, ErrTooOld) {
				t.Errorf("that it is too old: %v", !old)
			}
		})
	}
}

func TestOpenNamed(t *testing.T) {
	path := fake(t, t.TempDir(), "python3", answering("/opt/python/bin/python3.14t", "3.14.0rc1", "14"))
	got, err := Open(t.Context(), path)
	want := Interpreter{"/opt/python/bin/python3.14t", "CPython", "3.14.0rc1", true, 5 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "python3")); !errors.Is(err, exec.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing one: %v", err)
	}
}

func TestOpenHanging(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	path := fake(t, t.TempDir(), "hanging", "sleep 1000 & echo $$ $! > "+pids+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if text, _ := os.ReadFile(pids); strings.HasSuffix(string(text), "\n") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := Open(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(text)) {
		gone(t, func() []string { return living("/proc/" + pid) })
	}
}

func TestFind(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	hidden := fake(t, t.TempDir(), "python3", answering("", "3.9.0", "9"))
	newest := fake(t, two, "python3.14", answering(filepath.Join(two, "python3.14"), "3.14.0", "14"))
	free := fake(t, one, "python3.14t", answering(filepath.Join(one, "python3.14t"), "3.14.0", "14"))
	usual := fake(t, one, "python3", answering(filepath.Join(one, "python3"), "3.11.7", "11"))
	for name, to := range map[string]string{"python": usual, "python3.9": "/nowhere"} {
		if err := os.Symlink(to, filepath.Join(two, name)); err != nil {
			t.Fatal(err)
		}
	}
	fake(t, two, "python3.12", "exit 1")
	fake(t, two, "python3-config", answering("", "3.1.1", "9"))
	fake(t, two, "python3.13x", answering("", "3.1.1", "9"))
	if err := os.WriteFile(filepath.Join(two, "python3.10"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := filepath.Rel(one, filepath.Dir(hidden))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(one)
	path := []string{one, two, "/none", one + "/.", back, "", os.Getenv("PATH")}
	t.Setenv("PATH", strings.Join(path[:6], ":"))
	var got []string
	for _, p := range Find(t.Context()) {
		got = append(got, p.Path)
	}
	want := []string{usual, newest, free}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("found %v, want %v", got, want)
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("hello\n" + sign + `{"implementation": "PyPy", "version": "3.10.1", "major": 3, "minor": 10, "gil": true}` + "\n")
	f.Add(sign + "{}")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := parseIdentity(text); err == nil && (id.Version == "" || id.SwitchInterval < 0) {
			t.Errorf("%+v", id)
		}
	})
}

func TestTailKeepsTheEnd(t *testing.T) {
	var out tail
	for range 1000 {
		out.Write([]byte(strings.Repeat("x", 99) + "\n"))
	}
	out.Write([]byte("Traceback (most recent call last):\n  somewhere\nValueError: the last word\n"))
	if len(out.String()) > tailLength {
		t.Errorf("%d bytes are kept", len(out.String()))
	}
	if got, want := printed(&tail{}, &out), "; it printed: ValueError: the last word"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := printed(&tail{}, &tail{}); got != "" {
		t.Errorf("nothing printed is %q", got)
	}
}
