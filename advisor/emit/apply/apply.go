//go:build linux

// Package apply puts a plan's settings beside those that somebody has, in a file
// of its own that the tool reads with them: a drop-in. Nobody's file is changed,
// and what was written can be taken back.
//
// Find says which file it would be and what stands in it now; Change.Write
// writes it; Undo.Restore takes it back.
package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"berth/advisor"
	"berth/advisor/emit"
)

// Change is a file of settings before and after.
type Change struct {
	Path string   // absolute
	Old  []byte   // nil: there is no such file
	New  []byte   // Old, where nothing changes
	Lost []string // what the tool cannot express of the plan
	// Then is what makes the tool take the file, or its absence, in a command or
	// in words. It is for a person to run.
	Then string
	// Notes are what may keep the settings from counting.
	Notes []string
}

// Options are what else the caller says of the place.
type Options struct {
	User  bool // systemd: the units of the user
	Force bool // replace a file that this package did not write
}

// ErrNoDropIn is for a tool that reads no further file beside its own.
var ErrNoDropIn = errors.New("its format has no drop-in")

// NotOurs is a file in the way that this package did not write, or not for the
// same use.
type NotOurs struct{ Path, Why string }

func (e *NotOurs) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Why) }

// place is where the settings of a tool go.
type place struct {
	path  string
	name  string // what they are added to, for an emit.Fitting
	then  string
	notes []string
}

// finders find it from what the user calls it.
var finders = map[string]func(p *advisor.Plan, at string, o Options) (*place, error){
	"systemd": systemd, "compose": compose, "postgresql": postgresql,
	"haproxy": haproxy, "kernel": grub,
}

// Targets lists the targets of emit that can be applied, by name.
func Targets() []string {
	var out []string
	for _, t := range emit.Targets() {
		if finders[t.Name()] != nil {
			out = append(out, t.Name())
		}
	}
	return out
}

// head is the first line of each file, by which it is known again.
const head = "# Written by berth emit --apply; berth emit --undo takes it back.\n"

// Find says what applying a plan would do; it changes nothing. What at names is
// the tool's own:
//
//	systemd     a unit, as site or site.service, or the path to it
//	compose     a Compose file or its folder, and after a colon the service where it has several
//	postgresql  postgresql.conf or its folder
//	haproxy     the folder that haproxy is started with by -f
//	kernel      the folder of GRUB's defaults, as /etc/default/grub.d
func Find(p *advisor.Plan, target emit.Target, at string, o Options) (*Change, error) {
	find := finders[target.Name()]
	if find == nil {
		return nil, ErrNoDropIn
	}
	if o.User && target.Name() != "systemd" {
		return nil, fmt.Errorf("only systemd has units of the user")
	}
	if at == "" || !utf8.ValidString(at) {
		return nil, fmt.Errorf("%q names nothing", at)
	}
	where, err := find(p, at, o)
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(where.path)
	if err != nil {
		return nil, err
	}
	settings := target.Emit(p)
	if fitting, ok := target.(emit.Fitting); ok {
		settings = fitting.EmitFor(p, where.name)
	}
	if !saysAnything(settings.Text) {
		return nil, fmt.Errorf("the plan has no settings for it: %s", strings.Join(settings.Lost, "; "))
	}
	old, err := current(path)
	if err != nil {
		return nil, err
	}
	if old != nil && !bytes.HasPrefix(old, []byte(head)) && !o.Force {
		return nil, &NotOurs{path, "it is there, and berth emit --apply did not write it (--force replaces it)"}
	}
	return &Change{Path: path, Old: old, New: []byte(head + settings.Text), Lost: settings.Lost, Then: where.then, Notes: where.notes}, nil
}

// saysAnything reports whether there are more than comments.
func saysAnything(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return true
		}
	}
	return false
}

// mostBytes bounds a file of settings.
const mostBytes = 4 << 20

// read reads a file of settings.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is no file of settings", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(f, path)
}

func bounded(r io.Reader, path string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostBytes+1))
	if err == nil && len(text) > mostBytes {
		err = fmt.Errorf("read %s: it is larger than %d MiB", path, mostBytes>>20)
	}
	return text, err
}

// current is what stands at a path; nil if nothing does. A link is not followed,
// for what it leads to is somebody else's.
func current(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeSymlink != 0:
		return nil, &NotOurs{path, "it is a symbolic link, and berth writes through none"}
	case !info.Mode().IsRegular():
		return nil, &NotOurs{path, "it is no regular file"}
	}
	text, err := read(path)
	if err == nil && text == nil {
		text = []byte{}
	}
	return text, err
}

// folder refuses what is none.
func folder(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", path)
	}
	return err
}
