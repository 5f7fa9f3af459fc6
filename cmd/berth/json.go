package main

import (
	"encoding/json"
	"io"
)

// writeJSON prints one value per line down to the objects in lists, which keep
// to a line each: a list of cores reads like a table, and is quick to write.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(escaped{&jsonLayout{w: w}})
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// jsonLayout lays compact JSON out on its way to w.
type jsonLayout struct {
	w      io.Writer
	line   []byte
	broken []bool // for each open bracket: do its members stand on lines of their own?
	opened byte   // the bracket, if it was the last thing written
	quoted bool
	escape bool
}

// deepest is how many objects and lists are laid out inside one another.
const deepest = 3

func (l *jsonLayout) Write(p []byte) (int, error) {
	for i, b := range p {
		if l.quoted {
			l.line = append(l.line, b)
			switch {
			case l.escape:
				l.escape = false
			case b == '\\':
				l.escape = true
			case b == '"':
				l.quoted = false
			}
			continue
		}
		if l.opened != 0 && b != '}' && b != ']' {
			// A list is worth lines only if it holds objects.
			if top := len(l.broken) - 1; l.opened == '[' && b != '{' {
				l.broken[top] = false
			}
			l.newLine()
		}
		switch b {
		case '{', '[':
			l.line = append(l.line, b)
			inside := len(l.broken) == 0 || l.broken[len(l.broken)-1]
			l.broken = append(l.broken, inside && len(l.broken) < deepest && (b == '[' || len(l.broken) < deepest-1))
			l.opened = b
			continue
		case '}', ']':
			was := l.broken[len(l.broken)-1]
			l.broken = l.broken[:len(l.broken)-1]
			if was && l.opened == 0 {
				l.line = append(l.line, '\n')
				l.indent()
			}
			l.line = append(l.line, b)
		case ',':
			l.line = append(l.line, b)
			l.opened = 0
			if !l.newLine() {
				l.line = append(l.line, ' ')
			}
		case ':':
			l.line = append(l.line, ':', ' ')
		case '"':
			l.quoted = true
			l.line = append(l.line, b)
		default:
			l.line = append(l.line, b)
		}
		l.opened = 0
		if len(l.line) > 32<<10 {
			if err := l.flush(); err != nil {
				return i, err
			}
		}
	}
	return len(p), l.flush()
}

// newLine starts a line if the members of the open bracket have their own.
func (l *jsonLayout) newLine() bool {
	if len(l.broken) == 0 || !l.broken[len(l.broken)-1] {
		return false
	}
	l.line = append(l.line, '\n')
	l.indent()
	return true
}

func (l *jsonLayout) indent() {
	for range l.broken {
		l.line = append(l.line, ' ', ' ')
	}
}

func (l *jsonLayout) flush() error {
	_, err := l.w.Write(l.line)
	l.line = l.line[:0]
	return err
}
