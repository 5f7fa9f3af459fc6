// Package root gives the sources one way to read a machine's files: from the
// live system, from a directory that holds a copy of /sys and /proc, or from a
// tar archive of one.
//
// Nothing outside the root is ever opened: a symbolic link that leads out is
// an error, not a way. No file is read past [MaxFile] bytes.
package root

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"berth/probe/finding"
)

// MaxFile is the most that is read of one file. The largest file that berth
// needs, /proc/cpuinfo of a machine with thousands of CPUs, stays below it.
const MaxFile = 16 << 20

// ErrTooLarge says that a file is longer than [MaxFile].
var ErrTooLarge = errors.New("larger than any such file can be")

// ErrOutside says that a path or a link leads out of the root.
var ErrOutside = errors.New("leads outside the root and is not followed")

// A Dir is an open directory of a root. Names may have several parts, parted
// by slashes; they are relative to the directory and "/" at the front is taken
// off. Errors are *fs.PathError with the path from the root's top; a file that
// is not there gives fs.ErrNotExist.
type Dir interface {
	// Path is the directory's path as a reader of the live system would
	// write it: "/sys/devices/system/cpu".
	Path() string
	// Open opens a directory below this one.
	Open(name string) (Dir, error)
	// ReadFile returns a file's content, up to [MaxFile] bytes.
	ReadFile(name string) (string, error)
	// ReadHead returns the first n bytes of a file, or all if it is shorter.
	// Some kernel files cost more the more of them is read.
	ReadHead(name string, n int) (string, error)
	// Names lists the directory's entries in no particular order.
	Names() ([]string, error)
	// ReadLink returns the text of a symbolic link.
	ReadLink(name string) (string, error)
	// Close gives the handle back. Directories opened from this one stay open.
	Close() error
}

// A Root is the top directory of a tree, with where it came from.
type Root struct {
	Dir
	// Live says that the files are this system's own, and so that what the
	// kernel tells a process about itself belongs to the same machine.
	Live bool
	// Name is how the user would know it: "/", or the path given.
	Name string
	// Findings holds what was odd about the root itself.
	Findings []finding.Finding
}

// IsMissing reports whether err says that a file is not there: that it does
// not exist, or that a part of its path is no directory.
func IsMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// OpenError wraps an error of opening a root with what to do about it.
func openError(name string, err error) error {
	return fmt.Errorf("open machine %s: %w", name, err)
}
