//go:build linux

// Package binary opens the program files of running processes, which may belong
// to anybody: who made such a file may mean harm to those who look at it.
package binary

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Most is how many bytes are read of one file in all, wherever in it: a table
// of sections or symbols can be as large as its maker likes. The symbols of
// Python with all that a debugger wants are a tenth of it.
const Most = 64 << 20

// ErrTooMuch says that [Most] bytes of a file did not tell what was asked.
var ErrTooMuch = errors.New("its tables are larger than those of any honest program")

// File is an open program file. It is read at places, by one goroutine or many.
type File struct {
	f    *os.File
	left atomic.Int64
}

// Open opens a regular file. Any other is an error and is not opened in a way
// that its device or the other end of a pipe could notice, as opening some
// starts or stops a machine.
func Open(name string) (*File, error) {
	at, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(at)
	return open(at, name)
}

// OpenIn opens a regular file below a directory as those do whose root that is:
// a link in it that begins with a slash, or climbs, does not lead out of it
// (RESOLVE_IN_ROOT of openat2(2), Linux 5.6).
func OpenIn(root, name string) (*File, error) {
	full := root + "/" + name
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	at, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err == unix.ENOSYS || err == unix.EPERM { // an old kernel, or a seccomp filter
		return Open(full)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: full, Err: err}
	}
	defer unix.Close(at)
	return open(at, full)
}

// open opens what a descriptor of O_PATH stands for, once it is known to be a
// file.
func open(at int, name string) (*File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file")}
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(at))
	if err != nil {
		var in *fs.PathError
		if errors.As(err, &in) {
			err = in.Err
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	x := &File{f: f}
	x.left.Store(Most)
	return x, nil
}

// ReadAt is as of [io.ReaderAt]; beyond [Most] bytes in all it gives
// [ErrTooMuch].
func (f *File) ReadAt(p []byte, at int64) (int, error) {
	if f.left.Add(-int64(len(p))) < 0 {
		return 0, ErrTooMuch
	}
	return f.f.ReadAt(p, at)
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

var _ io.ReaderAt = (*File)(nil)

// Symbols reads the symbols of a program, those for its debugger or those for
// its loader. Tables that are kept compressed are not unpacked: their size then
// is a word of their maker's.
func Symbols(file *elf.File, kind elf.SectionType) ([]elf.Symbol, error) {
	for i, s := range file.Sections {
		if s.Type != kind {
			continue
		}
		for _, s := range [...]int{i, int(s.Link)} {
			if s < len(file.Sections) && file.Sections[s].Flags&elf.SHF_COMPRESSED != 0 {
				return nil, fmt.Errorf("section %s is compressed, which no symbols are", file.Sections[s].Name)
			}
		}
	}
	if kind == elf.SHT_DYNSYM {
		return file.DynamicSymbols()
	}
	return file.Symbols()
}
