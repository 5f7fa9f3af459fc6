package main

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"sync"
)

// lineOutput keeps the lines of several workers whole and tells them apart.
type lineOutput struct {
	mu  sync.Mutex
	all []*lineWriter
}

func (o *lineOutput) lines(to io.Writer, worker int) io.Writer {
	w := &lineWriter{o: o, to: to, prefix: strconv.Itoa(worker) + ": "}
	o.all = append(o.all, w)
	return w
}

// end writes what had no line end.
func (o *lineOutput) end() {
	for _, w := range o.all {
		if len(w.rest) > 0 {
			_, _ = w.Write([]byte("\n"))
		}
	}
}

type lineWriter struct {
	o      *lineOutput
	to     io.Writer
	prefix string
	rest   []byte
}

// longestLine is how much of a line without end is held back.
const longestLine = 1 << 20

func (w *lineWriter) Write(data []byte) (int, error) {
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	w.rest = append(w.rest, data...)
	out := bufio.NewWriter(w.to)
	for {
		end := slices.Index(w.rest, '\n')
		if end < 0 && len(w.rest) < longestLine {
			break
		}
		if end < 0 {
			end = len(w.rest) - 1
		}
		out.WriteString(w.prefix)
		out.Write(w.rest[:end+1])
		w.rest = append(w.rest[:0], w.rest[end+1:]...)
	}
	return len(data), out.Flush()
}
