package root

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"berth/probe/finding"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxArchive bounds what an archive may unpack to, headers included. The
// largest honest dumps known are a tenth of it.
const maxArchive = 512 << 20

// maxKept bounds the contents that are kept of it; headers are most of a dump.
const maxKept = 128 << 20

// Open opens a machine's files: a directory, or a tar archive, plain or
// compressed by gzip, xz or zstd (told apart by their first bytes). In an
// archive sys/ and proc/ may stand at the top or below one folder.
//
// What is wrong with an archive but leaves something to read, as a truncated
// end or an entry that points outside, is in [Root.Findings].
func Open(name string) (*Root, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, openError(name, err)
	}
	if info.IsDir() {
		return openDir(name)
	}
	if !info.Mode().IsRegular() {
		return nil, openError(name, errors.New("neither a directory nor a file"))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, openError(name, err)
	}
	defer f.Close()
	r, err := OpenArchive(f, name)
	if err != nil {
		return nil, openError(name, err)
	}
	return r, nil
}

// IsArchive reports whether a file begins as a tar archive or a compressed
// file does.
func IsArchive(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if head, _ := r.Peek(262); len(head) == 262 && string(head[257:]) == "ustar" {
		return true
	}
	return compression(r) != ""
}

// OpenArchive reads an archive into memory; name is for messages.
func OpenArchive(r io.Reader, name string) (*Root, error) {
	plain, err := Decompress(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	top := newDir()
	found := finding.List{}
	limited := &io.LimitedReader{R: plain, N: maxArchive}
	entries, err := unpack(tar.NewReader(limited), top, name, &found)
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("it unpacks to more than %d MiB, which no machine's files do", maxArchive>>20)
	case err == errKept:
		return nil, err
	case err != nil && entries == 0:
		return nil, fmt.Errorf("neither a directory nor a tar archive (plain, gzip, xz, zstd): %w", err)
	case err != nil:
		found.Add(finding.Malformed, finding.Warning, []string{name + ": " + err.Error()},
			"The archive %s ends early; what was read before is used.", name)
	case entries == 0:
		return nil, errors.New("the archive is empty")
	}
	return &Root{Dir: &memDir{top: below(top), path: "/"}, Name: name, Findings: found.All()}, nil
}

// below steps into the one folder that everything stands in, if so.
func below(top *node) *node {
	for top.children["sys"] == nil && top.children["proc"] == nil && len(top.children) == 1 {
		for _, only := range top.children {
			if only.children == nil {
				return top
			}
			top = only
		}
	}
	return top
}

func unpack(t *tar.Reader, top *node, name string, found *finding.List) (entries int, err error) {
	for kept := int64(0); ; entries++ {
		h, err := t.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		if outside(h.Name) {
			found.Add("outside-root", finding.Warning, []string{name + ": entry " + h.Name},
				"An entry of the archive points outside it and was left out.")
			continue
		}
		n := &node{}
		switch h.Typeflag {
		case tar.TypeDir:
			n = newDir()
		case tar.TypeSymlink:
			n.link = h.Linkname
		case tar.TypeLink: // the same file under a second name
			if old, err := top.walk(h.Linkname, false); err == nil && old.children == nil {
				n = old
			} else {
				n.problem = fmt.Errorf("hard link to %s, which is not in the archive", h.Linkname)
			}
		case tar.TypeReg:
			if h.Size > MaxFile {
				n.problem = ErrTooLarge
				break
			}
			if kept += h.Size; kept > maxKept {
				return entries, errKept
			}
			var b strings.Builder
			if _, err := io.Copy(&b, t); err != nil {
				n.problem = err
				top.put(h.Name, n)
				return entries + 1, err
			}
			n.data = b.String()
		default:
			continue // devices and FIFOs hold nothing to read
		}
		if !top.put(h.Name, n) {
			found.Add(finding.Contradiction, finding.Warning, []string{name + ": entry " + h.Name},
				"The archive names %s both as a file and as a folder; the first is used.", h.Name)
		}
	}
}

var errKept = fmt.Errorf("its files hold more than %d MiB, which no machine's do", maxKept>>20)

func outside(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// compression tells by the first bytes how a stream is compressed; "" is not.
func compression(r *bufio.Reader) string {
	magic, _ := r.Peek(6)
	for _, known := range [...]struct{ magic, name string }{
		{"\x1f\x8b", "gzip"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"},
	} {
		if bytes.HasPrefix(magic, []byte(known.magic)) {
			return known.name
		}
	}
	return ""
}

// Decompress reads a stream that may be compressed by gzip, xz or zstd; its first
// bytes tell.
func Decompress(r *bufio.Reader) (io.ReadCloser, error) {
	switch compression(r) {
	case "gzip":
		return gzip.NewReader(r)
	case "xz":
		x, err := xz.NewReader(r)
		return io.NopCloser(x), err
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}
