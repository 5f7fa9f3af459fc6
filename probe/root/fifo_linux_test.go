package root_test

import (
	"path/filepath"
	"testing"

	"berth/probe/root"

	"golang.org/x/sys/unix"
)

func TestFIFODoesNotBlock(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "online"), 0o644); err != nil {
		t.Skip(err)
	}
	for _, open := range []func(string) (*root.Root, error){root.Open, root.OpenSlowly} {
		r, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if data, err := r.ReadFile("online"); err == nil && len(data) > 0 {
			t.Errorf("a FIFO holds %q", data)
		}
	}
}
