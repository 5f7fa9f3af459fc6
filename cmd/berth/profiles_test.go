//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"berth/profiles"
)

// TestProfileSchema keeps the file that `berth schema profile` prints equal to
// what the loader's table says.
func TestProfileSchema(t *testing.T) {
	path := filepath.Join("schema", "profile"+schemaSuffix)
	got := profiles.JSONSchema()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got); -update accepts it\n%s", path, diff)
	}
}

func TestLoadProfile(t *testing.T) {
	t.Chdir(t.TempDir())
	const good = "schema: berth.profile/v1\nname: mine\n"
	for name, text := range map[string]string{
		"mine.yaml": good, "plain": good, "thumbnailer.yml": good,
		"one.yaml": good + "work: {cpu_ms: 0}\n",
		"two.yaml": good + "work: {cpu_ms: 0}\nloda: {}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("folder", 0o755); err != nil {
		t.Fatal(err)
	}
	load := func(arg, stdin string) (*profiles.Profile, error) {
		cmd := &cobra.Command{}
		cmd.SetIn(strings.NewReader(stdin))
		return loadProfile(cmd, arg)
	}
	for arg, name := range map[string]string{
		"mine.yaml": "mine", "plain": "mine", "./plain": "mine", "thumbnailer.yml": "mine", "thumbnailer": "thumbnailer", "-": "stdin's",
	} {
		p, err := load(arg, "schema: berth.profile/v1\nname: stdin's\n")
		if err != nil || p.Name != name {
			t.Errorf("%s: %v, %v", arg, p, err)
		}
	}
	for _, row := range []struct{ arg, stdin, says, hint string }{
		{"one.yaml", "", "one.yaml:3:16: work.cpu_ms: 0 is out of range; it takes a number (milliseconds) from 1e-6 to 1e9", profileHint},
		{"two.yaml", "", "2 mistakes in two.yaml:\n" +
			"  two.yaml:3:16: work.cpu_ms: 0 is out of range; it takes a number (milliseconds) from 1e-6 to 1e9\n" +
			"  two.yaml:4:1: loda: there is no such field; did you mean load?", profileHint},
		{"-", "", "stdin:1:1: it is empty; a profile begins with schema: berth.profile/v1", profileHint},
		{"none.yaml", "", "read profile: open none.yaml: no such file or directory", "give a file, - for standard input, or a name"},
		{"thumbnailer/", "", "no such file or directory", "give a file"},
		{"folder", "", `there is no profile "folder"`, "`berth profiles list` shows"},
		{"thumbnialer", "", `there is no profile "thumbnialer"`, "did you mean thumbnailer?"},
		{"", "", `there is no profile ""`, "`berth profiles list` shows"},
	} {
		p, err := load(row.arg, row.stdin)
		var mistake *usageError
		if p != nil || !errors.As(err, &mistake) || !strings.Contains(err.Error(), row.says) || !strings.HasPrefix(mistake.hint, row.hint) {
			t.Errorf("%q: %v, %+v", row.arg, p, err)
		}
	}
}

// The table is aligned and has a line for each profile.
func TestListProfiles(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := run([]string{"profiles", "list"}, &stdout, &stderr); status != 0 {
		t.Fatal(stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(lines) != 1+len(profiles.Shipped()) {
		t.Errorf("%d lines", len(lines))
	}
	column := strings.Index(lines[0], "SUMMARY")
	for i, name := range profiles.Shipped() {
		text, err := profiles.Source(name)
		if err != nil {
			t.Fatal(err)
		}
		if line := lines[i+1]; !strings.HasPrefix(line, name+" ") || line[column:] != profiles.Summary(text) {
			t.Errorf("%q", line)
		}
	}
}
