//go:build linux

package python

import (
	"slices"
	"strings"
	"sync"
)

// tail keeps the last part of what a program prints.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailLength; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// printed quotes the first lines of what a program printed, for an error, or of
// a traceback of Python the last, which says it all.
func printed(outputs ...*tail) string {
	for _, t := range slices.Backward(outputs) {
		lines := strings.FieldsFunc(strings.ToValidUTF8(t.String(), "?"), func(r rune) bool { return r == '\n' || r == '\r' })
		if len(lines) == 0 {
			continue
		}
		const most = 3
		telling := lines[:min(most, len(lines))]
		if strings.Contains(t.String(), "Traceback (most recent call last)") {
			telling = lines[len(lines)-1:]
		}
		text := strings.Join(telling, " / ")
		if len(text) > 400 {
			text = strings.ToValidUTF8(text[:400], "") + " …"
		}
		return "; it printed: " + text
	}
	return ""
}
