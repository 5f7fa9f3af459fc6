//go:build linux

package observe

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"berth/profiles"
)

func TestLogLines(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	write := func(text string, flags int) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("done before\n", 0)
	l := &LogLines{Path: name, Line: regexp.MustCompile("^done.*[a-z0-9]$")}
	if err := l.begin(nil); err != nil {
		t.Fatal(err)
	}
	if n, ok, err := l.count(-1); n != 0 || ok || err != nil {
		t.Errorf("nothing was added: %v, %v, %v", n, ok, err)
	}
	write("done 1\nfailed\ndone 2\ndone, without an end", os.O_APPEND)
	if n, ok, err := l.count(-1); n != 3 || !ok || err != nil {
		t.Errorf("three were added: %v, %v, %v", n, ok, err)
	}
	write("done 3\n", os.O_TRUNC) // rotated in place
	if n, ok, err := l.count(-1); n != 1 || !ok || err != nil {
		t.Errorf("one in a log begun anew: %v, %v, %v", n, ok, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := l.count(-1); ok || err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a log that is gone: %v, %v", ok, err)
	}
	for _, bad := range []string{name, t.TempDir()} {
		if err := (&LogLines{Path: bad}).begin(nil); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestProfileText(t *testing.T) {
	cpu, wait := 1.5, 20.25
	o := &Observation{Class: "io-bound (blocking)", Command: "./Server\n: x # --flag \x1b[1m\xff é", Unit: "wakeup of a busy thread", Runtime: "python", RuntimeWhy: "exe",
		CPUMS: &cpu, WaitMS: &wait, DurationS: 10, Confidence: 0.9, Shares: Shares{OnCPU: 0.07}}
	text := string(profileText(o, &judgement{waits: 0.9}, 0.5))
	if _, err := profiles.Parse([]byte(text), "it"); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for _, part := range []string{"name: server", "runtime: python", "cpu_ms: 1.5", "native_ms: 0.75", "wait_ms: 20.25", "blocking: true", "utilisation: 0.07", "confidence: 0.9"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing from:\n%s", part, text)
		}
	}
	o.Class = "idle"
	if profileText(o, &judgement{}, 0) != nil {
		t.Error("an idle program has no profile")
	}
}

// FuzzLogLines counts in what is added to a file, whatever was there and
// whatever an expression fits.
func FuzzLogLines(f *testing.F) {
	for _, c := range [][3]string{{"a\nb", "c\nd\r\n", "."}, {"", "\n\n", "^$"}, {"x\n", "done\ndone", "done$"}, {"", "\xff\n", "\\xff"}, {"", "", "a|"}} {
		f.Add(c[0], c[1], c[2])
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, before, added, expression string) {
		line, err := regexp.Compile(expression)
		if err != nil || len(before)+len(added) > 32<<10 { // longer lines count as several
			return
		}
		file, err := os.CreateTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		defer file.Close()
		if _, err := file.WriteString(before); err != nil {
			t.Fatal(err)
		}
		l := &LogLines{Path: file.Name(), Line: line}
		if err := l.begin(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(added); err != nil {
			t.Fatal(err)
		}
		want := 0
		for text := range strings.Lines(added) {
			if line.MatchString(strings.TrimRight(text, "\r\n")) {
				want++
			}
		}
		if n, ok, err := l.count(-1); err != nil || n != float64(want) || ok != (want > 0) {
			t.Fatalf("%q has %v lines that fit %q, %v, %v; want %d", added, n, expression, ok, err, want)
		}
	})
}
