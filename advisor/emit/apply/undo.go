//go:build linux

package apply

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// UndoSchema names the one document that an undo file holds.
const UndoSchema = "berth.emit-undo/v1"

// Undo is what a file of settings was before a change.
type Undo struct {
	Schema string    `json:"schema"`
	At     time.Time `json:"written_at"`
	Path   string    `json:"path"`
	Old    []byte    `json:"old"`            // null: there was no such file
	New    string    `json:"new_sha256"`     // of what was written
	Made   []string  `json:"made,omitempty"` // folders that were not there, the outermost first
	Then   string    `json:"then"`           // as of [Change]
}

// ErrChanged is a file that is not as it was left or shown.
var ErrChanged = errors.New("it was changed since")

// Write writes the file, if it still is as Find saw it. What it was is on the
// disk before, in an undo file that must not be there yet. The new file takes its
// name when it is whole; an error leaves all as it was, and being cut off leaves
// the one or the other.
func (c *Change) Write(undo string) error {
	now, err := current(c.Path)
	if err != nil {
		return err
	}
	if !same(now, c.Old) {
		return fmt.Errorf("write %s: %w", c.Path, ErrChanged)
	}
	made, err := missing(filepath.Dir(c.Path))
	if err != nil {
		return err
	}
	u := &Undo{Schema: UndoSchema, At: time.Now(), Path: c.Path, Old: c.Old, New: hash(c.New), Made: made, Then: c.Then}
	if err := u.save(undo); err != nil {
		return fmt.Errorf("write undo file: %w", err)
	}
	err = makeAll(made)
	if err == nil {
		err = replace(c.Path, c.New)
	}
	if err != nil {
		if _, failed := u.Restore(false); failed != nil {
			return fmt.Errorf("%w; and %w, with the undo file %s", err, failed, undo)
		}
		return errors.Join(err, os.Remove(undo))
	}
	return nil
}

func (u *Undo) save(name string) error {
	text, err := json.MarshalIndent(u, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// ReadUndo reads an undo file, which errors call name.
func ReadUndo(r io.Reader, name string) (*Undo, error) {
	text, err := bounded(r, name)
	if err != nil {
		return nil, err
	}
	var u Undo
	if err := json.Unmarshal(text, &u); err != nil {
		return nil, fmt.Errorf("%s is not an undo file, or was cut off before anything was changed: %w", name, err)
	}
	if u.Schema != UndoSchema {
		return nil, fmt.Errorf("%s is not an undo file of berth emit: it does not say %q", name, UndoSchema)
	}
	if !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("%s: path %q is not absolute", name, u.Path)
	}
	return &u, nil
}

// Restore makes the file what it was before the change, and says whether it was
// not already. A file that somebody has changed since is [ErrChanged], unless
// forced. It may be called again, and after a change that was cut off.
func (u *Undo) Restore(force bool) (restored bool, err error) {
	now, err := current(u.Path)
	if err != nil {
		return false, err
	}
	switch {
	case same(now, u.Old):
		unmake(u.Made)
		return false, nil
	case (now == nil || hash(now) != u.New) && !force:
		return false, fmt.Errorf("restore %s: %w", u.Path, ErrChanged)
	case u.Old == nil:
		if err = os.Remove(u.Path); err == nil {
			err = syncDir(filepath.Dir(u.Path))
		}
	default:
		err = replace(u.Path, u.Old)
	}
	if err != nil {
		return false, err
	}
	unmake(u.Made)
	return true, nil
}

// same tells an empty file from none.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// missing are the folders on the way to one that are not there.
func missing(dir string) ([]string, error) {
	var out []string
	for {
		err := folder(dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return out, err
		}
		out = append([]string{dir}, out...)
		dir = filepath.Dir(dir)
	}
}

func makeAll(dirs []string) error {
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// unmake removes folders, as far as nobody uses them.
func unmake(dirs []string) {
	for i := len(dirs) - 1; i >= 0; i-- {
		if os.Remove(dirs[i]) != nil {
			return
		}
	}
}

// replace gives a path new content by a file beside it that takes its name when
// it is whole. It has the mode and owner of the one that it replaces; a new one
// is for all to read, as tools run under users of their own.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".berth-*") // a name that no tool reads
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if info, statErr := os.Lstat(path); statErr == nil {
		mode = info.Mode().Perm()
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
			err = f.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir puts the names in a folder on the disk; some file systems need not.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}
