package root

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// openSlowly opens a directory on disk as a root by os.Root alone, which keeps
// within it in more steps than openat2(2): for systems and kernels without that.
func openSlowly(name string) (*Root, error) {
	top, err := os.OpenRoot(name)
	if err != nil {
		return nil, openError(name, err)
	}
	tree := &slowTree{Root: top}
	tree.users.Store(1)
	return &Root{Dir: &slowDir{tree: tree, path: "/"}, Name: name}, nil
}

// slowTree is the root that its open directories share; the last one closes it.
type slowTree struct {
	*os.Root
	users atomic.Int32
}

// slowDir is a directory of a slowTree by its path: resolved from the top, a
// link may climb above it.
type slowDir struct {
	tree   *slowTree
	path   string
	closed atomic.Bool
}

func (d *slowDir) Path() string { return d.path }

// join makes the path of an entry; callers give clean names.
func (d *slowDir) join(name string) string {
	return strings.TrimSuffix(d.path, "/") + "/" + strings.TrimLeft(name, "/")
}

// local makes name relative to its directory.
func local(name string) string {
	if name = strings.TrimLeft(name, "/"); name == "" {
		return "."
	}
	return name
}

// cause takes an error of os.Root's out of its path, which is not the reader's.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if err.Error() == "path escapes from parent" { // os has no exported error for it
		return ErrOutside
	}
	return err
}

func (d *slowDir) stat(name string) (os.FileInfo, error) {
	return d.tree.Stat(local(d.join(name)))
}

func (d *slowDir) Open(name string) (Dir, error) {
	info, err := d.stat(name)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", d.join(name), cause(err))
	}
	d.tree.users.Add(1)
	return &slowDir{tree: d.tree, path: d.join(name)}, nil
}

func (d *slowDir) Close() error {
	if d.closed.Swap(true) || d.tree.users.Add(-1) > 0 {
		return nil
	}
	return d.tree.Root.Close()
}

// read reads up to limit bytes.
func (d *slowDir) read(name string, limit int64) (string, error) {
	info, err := d.stat(name) // opened, a FIFO would block
	switch {
	case err != nil:
	case info.IsDir():
		err = syscall.EISDIR
	case info.Size() > MaxFile && limit > MaxFile: // 32-bit systems could not even open a very large one
		err = ErrTooLarge
	case !info.Mode().IsRegular():
		err = errors.New("not a file")
	}
	if err != nil {
		return "", pathError("open", d.join(name), cause(err))
	}
	f, err := d.tree.Open(local(d.join(name)))
	if err != nil {
		return "", pathError("open", d.join(name), cause(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return "", pathError("read", d.join(name), cause(err))
	}
	return string(data), nil
}

func (d *slowDir) ReadFile(name string) (string, error) {
	data, err := d.read(name, MaxFile+1)
	if len(data) > MaxFile {
		return "", pathError("read", d.join(name), ErrTooLarge)
	}
	return data, err
}

func (d *slowDir) ReadHead(name string, n int) (string, error) { return d.read(name, int64(n)) }

func (d *slowDir) Names() ([]string, error) {
	f, err := d.tree.Open(local(d.path))
	if err != nil {
		return nil, pathError("open", d.path, cause(err))
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, pathError("read", d.path, cause(err))
	}
	return names, nil
}

func (d *slowDir) ReadLink(name string) (string, error) {
	target, err := d.tree.Readlink(local(d.join(name)))
	if err != nil {
		return "", pathError("readlink", d.join(name), cause(err))
	}
	return filepath.ToSlash(target), nil
}
