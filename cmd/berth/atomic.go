package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// atomicFile is written beside its name and renamed when it is whole, so that a
// name never stands for half a document. The directory is held open meanwhile:
// who puts another in its place gains nothing. A name that is no regular file,
// as /dev/stdout, is written as it is.
type atomicFile struct {
	*os.File
	dir        *os.Root // nil: the file is what it is
	name, temp string   // in it; no temp: it has its name, or is gone
}

func createAtomic(name string) (*atomicFile, error) {
	mode := fs.FileMode(0o644) // less what the user's umask takes away
	switch info, err := os.Stat(name); {
	case err == nil && !info.Mode().IsRegular():
		return openSpecial(name, info)
	case err == nil: // a secret stays one
		mode = info.Mode().Perm() &^ 0o002
	}
	at := filepath.Dir(name)
	dir, err := os.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	f := &atomicFile{dir: dir, name: filepath.Base(name), temp: ".berth-" + rand.Text()}
	if f.File, err = dir.OpenFile(f.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err != nil {
		dir.Close()
		var in *fs.PathError
		if errors.As(err, &in) {
			err = in.Err
		}
		return nil, &fs.PathError{Op: "create a file in", Path: at, Err: err}
	}
	return f, nil
}

// openSpecial opens a pipe, a terminal or a device to write to. A link leads to
// one only if it is this user's or root's; and a disk is never meant.
func openSpecial(name string, info fs.FileInfo) (*atomicFile, error) {
	if link, err := os.Lstat(name); err == nil && link.Mode()&fs.ModeSymlink != 0 && !trusted(link) {
		return nil, fmt.Errorf("%s is a link of %s's to something that is no file: it is not followed", name, ownerOf(link))
	}
	if info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice {
		return nil, fmt.Errorf("%s is a disk, which is not written over", name)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|noTerminal, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && !os.SameFile(info, now) {
		err = fmt.Errorf("%s was exchanged while it was opened", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &atomicFile{File: f}, nil
}

// commit gives the file its name.
func (f *atomicFile) commit() error {
	if f.dir == nil {
		return f.Close()
	}
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = f.dir.Rename(f.temp, f.name)
	}
	if err != nil {
		return err
	}
	f.temp = ""
	if d, err := f.dir.Open("."); err == nil {
		_ = d.Sync() // the name too is to be there after a crash, where the file system can do so
		d.Close()
	}
	return f.dir.Close()
}

// discard removes what was not committed.
func (f *atomicFile) discard() {
	if f.temp != "" {
		_ = f.dir.Remove(f.temp)
		f.temp = ""
	}
	if f.dir != nil {
		_ = f.dir.Close()
	}
	_ = f.Close()
}
