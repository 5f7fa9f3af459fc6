//go:build linux

package fleet

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"berth/probe/root"
)

// Files is an engine for answers that somebody has gathered already: a folder
// of NAME.json, a tar archive of such files (plain, gzip, xz, zstd), or a file
// of documents one after the other, each beginning on a line of its own. In a
// file of documents a node is named by its host name.
type Files struct {
	Path  string    // "-" is Input
	Input io.Reader // standard input
}

// Name is files.
func (*Files) Name() string { return "files" }

// Inspect reads the files, as many at a time as there are CPUs.
func (e *Files) Inspect(ctx context.Context, answer func(Answer)) error {
	c := newCrew(answer)
	defer c.wait()
	if e.Path == "-" {
		return readStream(ctx, e.Input, "standard input", c)
	}
	info, err := os.Stat(e.Path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return e.folder(ctx, c)
	}
	f, err := os.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	return readStream(ctx, f, e.Path, c)
}

func (e *Files) folder(ctx context.Context, c *crew) error {
	entries, err := os.ReadDir(e.Path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return nil
		}
		name, ok := nodeOfFile(entry.Name())
		if !ok {
			continue
		}
		c.do(func() Answer {
			text, err := readRegular(filepath.Join(e.Path, entry.Name()))
			if err != nil {
				return Answer{Node: name, Trouble: trouble(Failed, "%v", err)}
			}
			return Answer{Node: name, Document: text}
		})
	}
	return nil
}

// readRegular reads a file that is one: a FIFO in the folder would be waited for.
func readRegular(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case info.Size() > mostDocument:
		return nil, fmt.Errorf("%s is larger than %d MiB", name, mostDocument>>20)
	}
	return os.ReadFile(name)
}

const fileSuffix = ".json"

// FileName is the name of the file that holds a node's document: the node's
// own, in which all that a file system could take for something else is
// written as in a URL.
func FileName(node string) string {
	name := strings.ReplaceAll(url.PathEscape(node), ":", "%3A")
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
		name = fmt.Sprintf("%%%02X", name[0]) + name[1:]
	}
	return name + fileSuffix
}

// nodeOfFile undoes [FileName]; files of other names are no documents.
func nodeOfFile(file string) (string, bool) {
	name, ok := strings.CutSuffix(file, fileSuffix)
	if !ok || name == "" || strings.HasPrefix(name, ".") {
		return "", false
	}
	if plain, err := url.PathUnescape(name); err == nil && plain != "" {
		return plain, true
	}
	return name, true
}

// readStream reads an archive, or documents one after the other.
func readStream(ctx context.Context, in io.Reader, name string, c *crew) error {
	plain, err := root.Decompress(bufio.NewReaderSize(in, 1<<16))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer plain.Close()
	r := bufio.NewReaderSize(plain, 1<<16)
	if head, _ := r.Peek(262); len(head) == 262 && string(head[257:]) == "ustar" {
		err = readArchive(ctx, tar.NewReader(r), c)
	} else {
		err = readDocuments(ctx, r, c)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func readArchive(ctx context.Context, t *tar.Reader, c *crew) error {
	for ctx.Err() == nil {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		node, ok := nodeOfFile(path.Base(h.Name))
		switch {
		case !ok || h.Typeflag != tar.TypeReg:
			continue
		case h.Size > mostDocument:
			c.do(func() Answer {
				return Answer{Node: node, Trouble: trouble(Failed, "%s is larger than %d MiB", shown(h.Name), mostDocument>>20)}
			})
			continue
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		c.do(func() Answer { return Answer{Node: node, Document: text} })
	}
	return nil
}

// readDocuments cuts a stream before each line that begins with a brace: that
// is where documents of berth begin, and nothing within one does. So one that
// is cut short, or no document at all, spoils no other.
func readDocuments(ctx context.Context, r *bufio.Reader, c *crew) error {
	var text []byte
	line, began, skipping := 0, 1, false
	flush := func() {
		if len(bytes.TrimSpace(text)) > 0 {
			a := Answer{Place: fmt.Sprintf("line-%d", began), Document: text}
			if skipping {
				a.Document, a.Trouble = nil, trouble(Garbage, "there is no document for more than %d MiB", mostDocument>>20)
			}
			c.do(func() Answer { return a })
		}
		text, skipping = nil, false
	}
	fresh := true // at the beginning of a line
	for ctx.Err() == nil {
		part, err := r.ReadSlice('\n')
		if fresh {
			line++
			if len(part) > 0 && part[0] == '{' {
				flush()
				began = line
			}
		}
		fresh = !errors.Is(err, bufio.ErrBufferFull)
		if len(text) > mostDocument {
			skipping = true
		} else {
			text = append(text, part...)
		}
		switch {
		case err == io.EOF:
			flush()
			return nil
		case err != nil && fresh:
			flush()
			return err
		}
	}
	return nil
}

// crew takes answers in on all CPUs, and holds up who brings more than it can.
type crew struct {
	answer func(Answer)
	slots  chan struct{}
	busy   sync.WaitGroup
}

func newCrew(answer func(Answer)) *crew {
	return &crew{answer: answer, slots: make(chan struct{}, runtime.GOMAXPROCS(0)+1)}
}

func (c *crew) do(read func() Answer) {
	c.slots <- struct{}{}
	c.busy.Go(func() {
		defer func() { <-c.slots }()
		c.answer(read())
	})
}

func (c *crew) wait() { c.busy.Wait() }
