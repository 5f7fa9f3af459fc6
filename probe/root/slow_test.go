package root

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWithoutOpenat2 takes the way that kernels before 5.6 and some seccomp
// filters leave.
func TestWithoutOpenat2(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sys/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sys/a/f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"in": "a/f", "out": "../../../etc/passwd", "absolute": "/etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(dir, "sys", name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tree := r.Dir.(*osDir).tree
	for name, want := range map[string]error{"/sys/in": nil, "/sys/a/f": nil, "/sys/out": ErrOutside, "/sys/absolute": ErrOutside, "/sys/none": fs.ErrNotExist} {
		fd, err := tree.openSlowly(name, unix.O_RDONLY|unix.O_CLOEXEC)
		if !errors.Is(err, want) || (want == nil) != (fd >= 0) {
			t.Errorf("%s: %d, %v; want %v", name, fd, err, want)
		}
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
