package main

import (
	"errors"
	"os"
	"path/filepath"
)

// atomicFile is written beside its name and renamed when it is whole, so that a
// name never stands for half a document. A name that is no regular file, as
// /dev/stdout, is written as it is.
type atomicFile struct {
	*os.File
	name string // empty: it is what it is
}

func createAtomic(name string) (*atomicFile, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &atomicFile{File: f}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".berth-*")
	if err != nil {
		return nil, err
	}
	return &atomicFile{f, name}, nil
}

// commit gives the file its name.
func (f *atomicFile) commit() error {
	if f.name == "" {
		return f.Close()
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.File.Name(), f.name)
}

// discard removes what was not committed.
func (f *atomicFile) discard() {
	if f.name != "" {
		_ = os.Remove(f.File.Name())
	}
	_ = f.Close()
}
