package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stateDir is the place of berth's undo files and calibrations, below the user's
// state directory (XDG Base Directory Specification).
//
// $HOME may be another user's, as after sudo -E. What root wrote there that user
// could exchange, and what root read there that user has written; so the error
// is a [*foreignError] unless every part of the path that is there belongs to
// this user or to root, and nobody else may put things in it. Groups may: many
// systems give each user one.
func stateDir() (string, error) {
	dir, from := os.Getenv("XDG_STATE_HOME"), "XDG_STATE_HOME"
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a place for state: XDG_STATE_HOME is not set, and %w", err)
		}
		if dir, err = filepath.Abs(filepath.Join(home, ".local", "state")); err != nil {
			return "", fmt.Errorf("find a place for state: %w", err)
		}
		from = "HOME"
	}
	dir = filepath.Join(dir, "berth")
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("find a place for state: %w", err)
		case err == nil && !trusted(info):
			return "", &foreignError{fmt.Errorf("find a place for state: $%s is %s, and %s belongs to %s", from, os.Getenv(from), at, ownerOf(info))}
		case err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
			return "", &foreignError{fmt.Errorf("find a place for state: $%s is %s, and everybody may write to %s", from, os.Getenv(from), at)}
		}
		if at == filepath.Dir(at) {
			return dir, nil
		}
	}
}

// foreignError is that of a place or a file which is in another user's hands.
type foreignError struct{ err error }

func (e *foreignError) Error() string { return e.err.Error() }
func (e *foreignError) Unwrap() error { return e.err }

// openTrusted opens a file whose word is done rather than weighed: it must be
// this user's or root's, and not everybody's to write.
func openTrusted(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !trusted(info):
		err = &foreignError{fmt.Errorf("%s belongs to %s, who could have written anything into it", name, ownerOf(info))}
	case info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0:
		err = &foreignError{fmt.Errorf("everybody may write to %s, and could have written anything into it", name)}
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// undoName is that of an undo file, which no other has.
func undoName(prefix, suffix string) string {
	return fmt.Sprintf("%s-%s-%d.%s", prefix, time.Now().Format("20060102T150405"), os.Getpid(), suffix)
}

// removeOwn removes an undo file that is done with, if berth chose its place.
func removeOwn(file string) {
	dir, err := stateDir()
	if name, absErr := filepath.Abs(file); err == nil && absErr == nil && filepath.Dir(name) == dir {
		_ = os.Remove(name)
	}
}
