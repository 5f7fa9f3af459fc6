package main

import (
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// stream is an output that a person reads. Names of processes, groups and
// devices, and words of files, are whatever others made them: what would move
// the cursor, change the terminal or turn the direction of text round is shown
// as ?.
type stream struct {
	to   io.Writer
	mu   sync.Mutex
	rest string // the beginning of a rune or of a colour
}

// readers makes streams of the outputs: of the standard one on a terminal only,
// so that data stay what they are.
func readers(stdout, stderr io.Writer) (io.Writer, io.Writer) {
	if f, ok := stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		stdout = &stream{to: stdout}
	}
	return stdout, &stream{to: stderr}
}

// under is what a stream writes to, for what moves the cursor itself.
func under(w io.Writer) io.Writer {
	if s, ok := w.(*stream); ok {
		return s.to
	}
	return w
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	out, s.rest = appendVisible(nil, s.rest+string(p), false)
	if _, err := s.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// visible is a text as a stream shows it.
func visible(text string) string {
	if strings.IndexFunc(text, hidden) < 0 && utf8.ValidString(text) {
		return text
	}
	out, _ := appendVisible(nil, text, true)
	return string(out)
}

// hidden tells what is not shown as it is: all that has no picture, but for ends
// of lines and tabs.
func hidden(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }

// appendVisible appends a text as it is shown: printed characters, and the colours
// that berth sets. Unless this is the end, what may be the beginning of one is
// left for later.
func appendVisible(to []byte, text string, end bool) (out []byte, rest string) {
	for len(text) > 0 {
		if text[0] == '\x1b' {
			n, more := colourAt(text)
			if more && !end {
				return to, text
			}
			if n > 0 {
				to, text = append(to, text[:n]...), text[n:]
				continue
			}
		}
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1 && !end && !utf8.FullRuneInString(text):
			return to, text
		case r == utf8.RuneError && n == 1, hidden(r):
			to = append(to, '?')
		default:
			to = append(to, text[:n]...)
		}
		text = text[n:]
	}
	return to, ""
}

// colourAt is the length of the colour that a text begins with; 0: none. more
// says that it may be the beginning of one.
func colourAt(text string) (n int, more bool) {
	for _, c := range [...]string{bold, dim, yellow, green, cyan, red, plain} {
		switch {
		case strings.HasPrefix(text, c):
			return len(c), false
		case strings.HasPrefix(c, text):
			more = true
		}
	}
	return 0, more
}

// escaped writes JSON with the characters that a stream would not show by their
// numbers, which mean the same.
type escaped struct{ to io.Writer }

func (e escaped) Write(p []byte) (int, error) {
	text := string(p)
	if strings.IndexFunc(text, hidden) < 0 {
		return e.to.Write(p)
	}
	var out []byte
	for _, r := range text {
		if !hidden(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		units := utf16.AppendRune(nil, r)
		for _, u := range units {
			const digits = "0123456789abcdef"
			out = append(out, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
		}
	}
	if _, err := e.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
