//go:build lab

package races

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// writer is a command that writes a file; FILE stands for its name.
type writer struct {
	args   []string
	status int
	// printed is a part of what goes to standard output all the same.
	printed string
}

func writers(pid string, cpus string) []writer {
	return []writer{
		{[]string{"run", "-c", cpus, "--receipt=FILE", "--", "/bin/true"}, 1, ""},
		{[]string{"snapshot", "FILE.tar"}, 1, ""},
		{[]string{"snapshot", "FILE.tar.gz"}, 1, ""},
		{[]string{"snapshot", "FILE.tar.xz"}, 1, ""},
		{[]string{"snapshot", "FILE.tar.zst"}, 1, ""},
		{[]string{"pin", "--pid", pid, "-c", cpus, "--undo-file", "FILE"}, 1, ""},
		{[]string{"pin", "--pid", pid, "-c", cpus, "--receipt=FILE.receipt", "--undo-file", "/dev/shm/berth-races-undo"}, 1, ""},
		{[]string{"observe", "--pid", pid, "--for", "1s", "--save", "FILE"}, 1, "cpu"},
		{[]string{"tune", "-n", "1", "--time", "10s", "--state", "FILE", "--", "/bin/sleep", "0.01"}, 2, ""},
		{[]string{"experiment", "switch", "--quick", "--save=FILE"}, 1, "switch"},
	}
}

// A full disk, for every file that berth writes: what was there stays as it was,
// nothing half-written is left, and berth says what is the matter.
func TestFullDisk(t *testing.T) {
	if within(t, 0) {
		return
	}
	all, first, _ := two(t)
	spinning, _ := running(t, "spin")
	pid := strconv.Itoa(spinning)
	if err := unix.Mount("none", "/dev/shm", "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ran := 0
	for _, old := range []bool{false, true} {
		for _, w := range writers(pid, first.String()) {
			what := strings.Join(w.args, " ")
			if old && (strings.HasPrefix(what, "pin --pid "+pid+" -c "+first.String()+" --undo-file") || w.args[0] == "tune") {
				continue // a file that is there is refused, or added to
			}
			name := filepath.Join(dir, "file")
			args := make([]string, len(w.args))
			for i, a := range w.args {
				if args[i] = strings.ReplaceAll(a, "FILE", name); args[i] != a {
					name = strings.TrimPrefix(args[i], a[:strings.Index(a, "FILE")])
				}
			}
			const precious = "what was there before"
			if old {
				if err := os.WriteFile(name, []byte(precious), 0o600); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(what, "--save=") { // a calibration is added to
					if err := os.WriteFile(name, []byte(`{"schema":"berth.calibration/v1","smt_yield":{"integer":0.25}}`), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			before, _ := os.ReadFile(name)
			fill(t, filepath.Join(dir, "filler"))
			got := berth(t, "", args...)
			if w.args[0] == "experiment" && strings.Contains(got.stderr, "the result is inconclusive") {
				t.Logf("%s: SKIPPED, as others use the CPUs too much for a result", what)
			} else {
				got.wants(t, what, w.status, "no space left on device")
			}
			if !strings.Contains(got.stdout, w.printed) {
				t.Errorf("%s: what was found is lost: it prints %q", what, got.stdout)
			}
			if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
				t.Fatal(err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			hidden, err2 := filepath.Glob(filepath.Join(dir, ".*"))
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			after, _ := os.ReadFile(name)
			switch {
			case string(after) != string(before):
				t.Errorf("%s: what was there is now %q", what, after)
			case len(hidden) > 0, !old && len(left) > 0 && w.args[0] != "tune":
				t.Errorf("%s leaves %v %v", what, left, hidden)
			}
			for _, f := range left {
				os.Remove(f)
			}
			if w.args[0] == "pin" {
				os.Remove("/dev/shm/berth-races-undo")
				if strings.Contains(what, "--undo-file "+"FILE") {
					if m := masks(t, spinning); m[all.String()] == 0 || len(m) != 1 {
						t.Errorf("%s: without an undo file the threads were moved: %v", what, m)
					}
				}
			}
			ran++
		}
	}
	t.Logf("%d files on a full disk", ran)
}

// fill leaves no byte free.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 4096; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// Standard output on a full disk is a failure that is told of.
func TestFullOutput(t *testing.T) {
	pid, _ := running(t, "spin")
	commands := [][]string{
		{"inspect"}, {"inspect", "-o", "json"}, {"inspect", "-o", "yaml"}, {"inspect", "-e"}, {"inspect", "--caches"}, {"nproc"},
		{"advise", "web-sync-python"}, {"advise", "web-sync-python", "-o", "json"}, {"advise", "web-sync-python", "--emit", "env"},
		{"ps", "--pid", strconv.Itoa(pid)}, {"ps", "--pid", strconv.Itoa(pid), "-o", "json"},
		{"profiles", "list"}, {"profiles", "show", "web-sync-python"}, {"profiles", "new", "python"}, {"place", "all"}, {"schema", "plan"}, {"snapshot", "-"},
		{"doctor", "--for", "1s", "-o", "json"}, {"observe", "--pid", strconv.Itoa(pid), "--for", "1s"}, {"experiment", "switch", "--quick"}, {"version"},
	}
	for _, args := range commands {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		c := command("", args...)
		c.Stdout = full
		finish(t, c).wants(t, strings.Join(args, " "), 1, "no space left on device")
		full.Close()
	}
	t.Logf("%d commands whose output goes to a full disk", len(commands))
}
