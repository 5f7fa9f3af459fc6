package main

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
)

// screen is what the reader of a text view looks at.
type screen struct {
	width  int
	colour bool
}

// Without a terminal the text keeps one shape, wherever it is made.
const pipedWidth = 100

// screenOf looks at where the output goes. $COLUMNS overrides the width, as in
// other tools; NO_COLOR (no-color.org) and TERM=dumb switch colour off.
func screenOf(w io.Writer) screen {
	s := screen{width: pipedWidth}
	if f, ok := under(w).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			s.width = width
		}
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		s.width = n
	}
	s.width = max(s.width, 40) // less than that holds no CPU list
	return s
}

// The colours are the terminal's own, so that they fit its theme.
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	cyan   = "\x1b[36m"
	red    = "\x1b[31m"
	plain  = "\x1b[0m"
)

func (s screen) paint(colour, text string) string {
	if !s.colour || colour == "" || text == "" {
		return text
	}
	return colour + text + plain
}
