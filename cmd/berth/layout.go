package main

import (
	"encoding/json"
	"io"
)

// writeJSON prints one value per line down to the objects in lists, which keep
// to a line each: a list of cores reads like a table, and is quick to write.
func writeJSON(w io.Writer, v any) error { return (&layout{w: w}).encode(v) }

// writeYAML prints the same in YAML: blocks outside, and the objects in lists
// in the flow style, which is JSON's own but for the quotes of names.
func writeYAML(w io.Writer, v any) error { return (&layout{w: w, yaml: true}).encode(v) }

// layout lays compact JSON out on its way to w.
type layout struct {
	w      io.Writer
	yaml   bool
	line   []byte
	open   []bracket
	fresh  bool // the last bracket is yet to be written, for its content decides how
	space  bool // a colon was the last thing; what follows decides about the space
	key    bool // the next string is a member's name
	quoted bool
	escape bool
}

type bracket struct {
	kind   byte
	broken bool // its members stand on lines of their own
}

// deepest is how many lists and objects are laid out inside one another.
const deepest = 3

func (l *layout) encode(v any) error {
	e := json.NewEncoder(l)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return l.flush()
}

func (l *layout) Write(p []byte) (int, error) {
	for i, b := range p {
		if l.quoted {
			l.inString(b)
			continue
		}
		switch b {
		case '{', '[':
			l.begin(b)
			l.open = append(l.open, bracket{kind: b, broken: l.breaks(b)})
			l.fresh, l.key = true, b == '{'
		case '}', ']':
			l.end(b)
		case ',':
			l.next()
		case ':':
			l.line = append(l.line, ':')
			l.space, l.key = true, false
		case '"':
			l.begin(b)
			l.quoted = true
			if !l.yaml || !l.key {
				l.line = append(l.line, b)
			}
		default:
			l.begin(b)
			l.line = append(l.line, b)
		}
		if len(l.line) > 32<<10 {
			if err := l.flush(); err != nil {
				return i, err
			}
		}
	}
	return len(p), nil
}

// breaks says whether a bracket may be laid out where it stands.
func (l *layout) breaks(b byte) bool {
	depth := len(l.open)
	if depth > 0 && !l.open[depth-1].broken {
		return false
	}
	return b == '[' && depth < deepest || b == '{' && depth < deepest-1
}

// begin writes what stands before a value or a name that starts with b.
func (l *layout) begin(b byte) {
	if l.fresh {
		l.fresh = false
		top := &l.open[len(l.open)-1]
		if top.kind == '[' && b != '{' {
			top.broken = false // a list is worth lines only if it holds objects
		}
		if !top.broken || !l.yaml {
			l.gap()
			l.line = append(l.line, top.kind)
		}
		l.space = false
		if top.broken && (!l.yaml || len(l.open) > 1) {
			l.newLine()
		}
		l.dash()
		return
	}
	if b != '{' && b != '[' {
		l.gap()
	}
}

func (l *layout) gap() {
	if l.space {
		l.line = append(l.line, ' ')
		l.space = false
	}
}

func (l *layout) end(b byte) {
	top := l.open[len(l.open)-1]
	l.open = l.open[:len(l.open)-1]
	switch {
	case l.fresh:
		l.fresh = false
		l.gap()
		l.line = append(l.line, top.kind, b)
	case !top.broken:
		l.line = append(l.line, b)
	case !l.yaml:
		l.newLine()
		l.line = append(l.line, b)
	}
	l.key = false
}

func (l *layout) next() {
	top := l.open[len(l.open)-1]
	l.key = top.kind == '{'
	if !top.broken {
		l.line = append(l.line, ',', ' ')
		return
	}
	if !l.yaml {
		l.line = append(l.line, ',')
	}
	l.newLine()
	l.dash()
}

// dash starts an item of a YAML list.
func (l *layout) dash() {
	if top := l.open[len(l.open)-1]; l.yaml && top.broken && top.kind == '[' {
		l.line = append(l.line, '-', ' ')
	}
}

func (l *layout) newLine() {
	l.line = append(l.line, '\n')
	depth := len(l.open)
	if l.yaml {
		depth-- // the outermost has no bracket to stand inside of
	}
	for range depth {
		l.line = append(l.line, ' ', ' ')
	}
}

func (l *layout) inString(b byte) {
	switch {
	case l.escape:
		l.escape = false
	case b == '\\':
		l.escape = true
	case b == '"':
		l.quoted = false
		if l.yaml && l.key {
			return
		}
	case b == 0x7f: // JSON lets it stand; YAML does not
		l.line = append(l.line, `\u007f`...)
		return
	}
	l.line = append(l.line, b)
}

func (l *layout) flush() error {
	_, err := l.w.Write(l.line)
	l.line = l.line[:0]
	return err
}
