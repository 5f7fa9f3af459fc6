//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a user that is not this one.
const stranger = 12345

// giveAway makes a file another user's, which takes root.
func giveAway(t *testing.T, name string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another user")
	}
	if err := os.Lchown(name, stranger, stranger); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// save writes a document as the commands do.
func save(name, text string) error {
	f, err := createAtomic(name)
	if err != nil {
		return err
	}
	defer f.discard()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.commit()
}

func TestAtomicFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	for _, c := range []struct{ had, want fs.FileMode }{{0, 0o644}, {0o600, 0o600}, {0o640, 0o640}, {0o666, 0o664}} {
		os.Remove(name)
		if c.had != 0 {
			write(t, name, "old", c.had)
		}
		old := unix.Umask(0)
		err := save(name, "new")
		unix.Umask(old)
		info, err2 := os.Stat(name)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(name); string(got) != "new" || info.Mode().Perm() != c.want {
			t.Errorf("a file of mode %o becomes %q of mode %o, want %o", c.had, got, info.Mode().Perm(), c.want)
		}
	}
	os.Remove(name)
	old := unix.Umask(0o077)
	err := save(name, "new")
	unix.Umask(old)
	if info, err2 := os.Stat(name); err != nil || err2 != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the umask is not minded: %v, %v, %v", info, err, err2)
	}

	// A link is replaced, and what it leads to stays.
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	write(t, target, "precious", 0o600)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := save(link, "new"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(target); string(got) != "precious" {
		t.Errorf("the link's target is now %q", got)
	}

	// What was begun goes without a trace; and a directory that is exchanged
	// meanwhile gets nothing.
	f, err := createAtomic(name)
	if err != nil {
		t.Fatal(err)
	}
	f.discard()
	inner, elsewhere := filepath.Join(dir, "inner"), filepath.Join(dir, "elsewhere")
	if err := errors.Join(os.Mkdir(inner, 0o700), os.Mkdir(elsewhere, 0o700)); err != nil {
		t.Fatal(err)
	}
	if f, err = createAtomic(filepath.Join(inner, "x")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(inner, inner+"2"), os.Symlink(elsewhere, inner), f.commit()); err != nil {
		t.Fatal(err)
	}
	f.discard()
	if got, _ := os.ReadDir(elsewhere); len(got) > 0 {
		t.Errorf("written through a link: %v", got)
	}
	if _, err := os.Stat(inner + "2/x"); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".berth-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := createAtomic(filepath.Join(dir, "no/such/file")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// What is no file is written as it is, unless another user's link leads to it.
func TestAtomicSpecial(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	if err := save(link, "x"); err != nil {
		t.Error(err)
	}
	if err := save(dir, "x"); err == nil {
		t.Error("a directory is written to")
	}
	disk := filepath.Join(dir, "disk")
	if err := unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))); err != nil {
		t.Logf("SKIPPED: no device of a disk can be made: %v", err)
	} else if err := save(disk, "x"); err == nil || !strings.Contains(err.Error(), "is a disk") {
		t.Errorf("a disk: %v", err)
	}
	giveAway(t, link)
	if err := save(link, "x"); err == nil || !strings.Contains(err.Error(), "is a link of user 12345's") {
		t.Errorf("another user's link: %v", err)
	}
}

func TestStateDir(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", dir)
	if got, err := stateDir(); err != nil || got != filepath.Join(dir, ".local", "state", "berth") {
		t.Errorf("%s, %v", got, err)
	}
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "not", "there"))
	if got, err := stateDir(); err != nil || got != filepath.Join(dir, "not", "there", "berth") {
		t.Errorf("%s, %v", got, err)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", open)
	var foreign *foreignError
	if _, err := stateDir(); !errors.As(err, &foreign) || !strings.Contains(err.Error(), "everybody may write to "+open) {
		t.Errorf("a directory that everybody may write to: %v", err)
	}
	if err := os.Chmod(open, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if _, err := stateDir(); err != nil {
		t.Errorf("a sticky one, as /tmp: %v", err)
	}
	// sudo -E: another user's home.
	giveAway(t, open)
	if _, err := stateDir(); !errors.As(err, &foreign) || !strings.Contains(err.Error(), "$XDG_STATE_HOME is "+open+", and "+open+" belongs to user 12345") {
		t.Errorf("another user's directory: %v", err)
	}
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", filepath.Join(open, "new"))
	if _, err := stateDir(); !errors.As(err, &foreign) || !strings.Contains(err.Error(), "$HOME is ") {
		t.Errorf("a home below it: %v", err)
	}
	var stdout, stderr bytes.Buffer
	if status := run([]string{"pin", "--pid", strconv.Itoa(os.Getppid()), "-c", "0"}, &stdout, &stderr); status != 2 || !strings.Contains(stderr.String(), "--undo-file FILE") {
		t.Errorf("pin ends with %d: %s", status, &stderr)
	}
	if made, _ := os.ReadDir(open); len(made) > 0 {
		t.Errorf("made in another user's home: %v", made)
	}
	if run([]string{"advise", "web-sync-python"}, &stdout, &stderr); !strings.Contains(stderr.String(), "no saved calibration is looked for") {
		t.Errorf("advise says %q", &stderr)
	}
}

// An undo file is done and not weighed: it must be in nobody else's hands.
func TestForeignUndo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "undo")
	refused := func(why string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if status := run([]string{"pin", "--undo", name}, &stdout, &stderr); status != 2 || !strings.Contains(stderr.String(), why) {
			t.Errorf("status %d, %s; want %q", status, &stderr, why)
		}
	}
	write(t, name, "{}\n", 0o666)
	refused("everybody may write to")
	write(t, name, "{}\n", 0o600)
	refused("is not an undo file")
	giveAway(t, name)
	refused("belongs to user 12345")
}

func TestStream(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext, größe ✓\n":           "plain\ttext, größe ✓\n",
		bold + "head" + plain:              bold + "head" + plain,
		"\x1b[2J\x1b]0;title\a":            "?[2J?]0;title?",
		"\r\x1b[K":                         "??[K",
		"\u009b2J":                         "?2J", // CSI in one character
		"\u202egpj.exe":                    "?gpj.exe",
		"\xff\xfe":                         "??",
		"cut \x1b":                         "cut ?",
		"cut \xe2\x9c":                     "cut ??",
		"\x00\x7f":                         "??",
		"\x1b[1":                           "?[1",
		"\x1b[1;5m" + yellow + "!" + plain: "?[1;5m" + yellow + "!" + plain,
	} {
		if got := visible(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
		// However it is cut into pieces, but for a last one that is not whole.
		whole := in + "\n"
		for at := range len(whole) {
			var out bytes.Buffer
			s := &stream{to: &out}
			for _, part := range [...]string{whole[:at], whole[at:]} {
				if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			if got := out.String(); got != visible(whole) {
				t.Errorf("%q cut at %d is shown as %q, want %q", whole, at, got, visible(whole))
			}
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("a\x1b[1mb\u202e\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := strings.NewReplacer(bold, "", dim, "", yellow, "", green, "", cyan, "", red, "", plain, "").Replace(visible(text))
		if strings.IndexFunc(got, hidden) >= 0 {
			t.Errorf("%q is shown as %q", text, visible(text))
		}
		var out bytes.Buffer
		if err := writeJSON(&out, text); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(out.String(), hidden); i >= 0 {
			t.Errorf("the JSON of %q holds %q", text, out.String()[i:])
		}
		var back, direct string
		plain, err := json.Marshal(text)
		if err := errors.Join(err, json.Unmarshal(out.Bytes(), &back), json.Unmarshal(plain, &direct)); err != nil || back != direct {
			t.Errorf("the JSON of %q is read as %q, %v", text, back, err)
		}
	})
}

// A process whose name would clear the screen.
func TestHostileName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	const name = "a\x1b[2J\u202eb"
	file := filepath.Join(t.TempDir(), name)
	write(t, file, string(text), 0o700)
	c := exec.Command(file, "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	pid := strconv.Itoa(c.Process.Pid)
	for _, args := range [][]string{
		{"ps", "--pid", pid}, {"ps", "--pid", pid, "-o", "json"}, {"ps", "--match", "^" + file},
		{"pin", "--pid", pid, "--rule", "*=0", "--dry-run"}, {"pin", "--pid", pid, "--rule", name + "x=0", "--dry-run"},
		{"pin", "--pid", pid, "-c", "0", "--undo-file", file + "/below"}, {"place", name}, {"run", "--", file + "x"},
		{"advise", name}, {"inspect", "--synthetic", name}, {"inspect", "--sysroot", file}, {name}, {"ps", "--" + name},
	} {
		t.Run(fmt.Sprintf("%.40q", args), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			run(args, &stdout, &stderr)
			for _, out := range []string{stdout.String(), stderr.String()} {
				if i := strings.IndexFunc(out, hidden); i >= 0 {
					t.Errorf("prints %q", out)
				}
			}
		})
	}
}
