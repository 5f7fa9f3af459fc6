//go:build linux

package binary

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, []byte("text"), 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	for range Most / (1 << 20) {
		_, err = f.ReadAt(make([]byte, 1<<20), 0)
	}
	if !errors.Is(err, ErrTooMuch) {
		t.Errorf("after %d bytes: %v", Most, err)
	}
	for _, name := range []string{fifo, dir, "/dev/null"} { // a FIFO would wait for ever
		if _, err := Open(name); err == nil || !strings.Contains(err.Error(), name+": it is no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(file + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Links are those of the root that they lie in.
func TestOpenIn(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	err := errors.Join(os.MkdirAll(root+"/lib", 0o700), os.WriteFile(dir+"/out", []byte("outside"), 0o600), os.WriteFile(root+"/out", []byte("in root"), 0o600),
		os.Symlink("/out", root+"/lib/absolute"), os.Symlink("../../../../out", root+"/lib/climbs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/out", "/lib/absolute", "/lib/climbs"} {
		f, err := OpenIn(root, name)
		if err != nil {
			if unix.Access("/proc/self", 0) == nil && errors.Is(err, fs.ErrNotExist) {
				t.Skipf("no openat2: %v", err)
			}
			t.Fatal(err)
		}
		b := make([]byte, 7)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "in root" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		f.Close()
	}
}

// A table of sections as large as its maker likes, in a file without a byte of
// its own on the disk.
func TestTooManySections(t *testing.T) {
	const sections = 8 << 20
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Shentsize: 64, Shoff: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var text bytes.Buffer
	for _, v := range []any{header, elf.Section64{Size: sections, Link: 1}, elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: 0, Size: 1}} {
		if err := binary.Write(&text, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "sparse")
	if err := errors.Join(os.WriteFile(name, text.Bytes(), 0o600), os.Truncate(name, 64*(sections+1))); err != nil {
		t.Fatal(err)
	}
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := elf.NewFile(f); err == nil {
		t.Error("all of it was read")
	} else {
		t.Log(err)
	}
}

func TestCompressedSymbols(t *testing.T) {
	file := &elf.File{Sections: []*elf.Section{{}, {SectionHeader: elf.SectionHeader{Name: ".symtab", Type: elf.SHT_SYMTAB, Link: 2}},
		{SectionHeader: elf.SectionHeader{Name: ".strtab", Type: elf.SHT_STRTAB, Flags: elf.SHF_COMPRESSED}}}}
	if _, err := Symbols(file, elf.SHT_SYMTAB); err == nil || !strings.Contains(err.Error(), ".strtab is compressed") {
		t.Error(err)
	}
}
