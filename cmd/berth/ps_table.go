//go:build linux

package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// psColumn is a column of the table of threads.
type psColumn struct {
	name        string
	number      bool // lined up on the right
	least, most int  // it may be cut to the least width, and is to the most; 0: it is never cut
	value       func(*psThread) string

	cells []string
	width int
}

// columns are those that say something of this machine.
func (v *psView) columns() []psColumn {
	all := []psColumn{
		{name: "PID", number: true, value: func(t *psThread) string { return strconv.Itoa(t.PID) }},
		{name: "TID", number: true, value: func(t *psThread) string { return strconv.Itoa(t.TID) }},
		{name: "NAME", least: 12, most: 28, value: func(t *psThread) string {
			if t.Name == t.Process {
				return printable(t.Name)
			}
			return printable(t.Process) + ofProcess + printable(t.Name)
		}},
		{name: "CPU", number: true, value: func(t *psThread) string { return orUnknown(t.CPU) }},
		{name: "CORE", number: true, value: func(t *psThread) string { return orUnknown(t.Core) }},
		{name: "LLC", number: true, value: func(t *psThread) string { return orUnknown(t.LLC) }},
		{name: "NODE", number: true, value: func(t *psThread) string { return orUnknown(t.Node) }},
		{name: "KIND", value: func(t *psThread) string { return cmp.Or(t.Kind, "?") }},
		{name: "ALLOWED", least: 7, most: 24, value: func(t *psThread) string {
			if t.Allowed == nil {
				return "?"
			}
			return cpuList(*t.Allowed)
		}},
		{name: "STATE", value: func(t *psThread) string { return t.State }},
		{name: "%CPU", number: true, value: func(t *psThread) string { return wholePercent(t.OnCPUPct) }},
		{name: "%WAIT", number: true, value: func(t *psThread) string { return wholePercent(t.WaitingPct) }},
	}
	mute := map[string]bool{"CORE": v.shape.cores == 0, "LLC": v.shape.llcs < 2, "NODE": v.shape.nodes < 2, "KIND": v.shape.kinds < 2}
	return slices.DeleteFunc(all, func(c psColumn) bool { return mute[c.name] })
}

// ofProcess stands between the name of a process and that of its thread.
const ofProcess = "/"

// dispensable are the columns that go where there is no room, the first first.
var dispensable = [...]string{"KIND", "LLC", "NODE", "STATE", "PID", "CORE", "ALLOWED", "%WAIT"}

func orUnknown[T ~int](n *T) string {
	if n == nil {
		return "?"
	}
	return strconv.Itoa(int(*n))
}

func wholePercent(x *float64) string {
	if x == nil {
		return "?"
	}
	return strconv.FormatFloat(*x, 'f', 0, 64)
}

// printable keeps what a program calls itself, which may be any bytes, from the
// terminal's controls.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// psTable lays threads and their conflicts out for a screen.
type psTable struct {
	screen
	columns []psColumn
	words   []string // each thread's conflicts
	longest int      // of the words
	below   bool     // they stand below their row, not beside it
	beside  int      // the room that they have there
	gap     int
	dropped []string
}

// leastBeside is the least room that words have beside a row; they wrap.
const leastBeside = 20

func (v *psView) table(threads []*psThread, s screen) *psTable {
	t := &psTable{screen: s, columns: v.columns(), gap: 2}
	for _, thread := range threads {
		var words []string
		for _, c := range thread.Conflicts {
			words = append(words, string(c))
		}
		t.words = append(t.words, strings.Join(words, ", "))
		t.longest = max(t.longest, runes(t.words[len(t.words)-1]))
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.cells = append(c.cells, c.name)
		for _, thread := range threads {
			c.cells = append(c.cells, c.value(thread))
		}
	}
	for t.fill(); t.over() > 0 && t.concede(); t.fill() {
	}
	return t
}

// fill makes columns as wide as what is in them, and cuts those that may be as
// far as it takes.
func (t *psTable) fill() {
	if t.beside = t.longest; t.below {
		t.beside = 0
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.width = 0
		for _, cell := range c.cells {
			c.width = max(c.width, runes(cell))
		}
		if c.most > 0 {
			c.width = min(c.width, c.most)
		}
	}
	t.beside = max(t.beside-max(t.over(), 0), min(t.beside, leastBeside))
	for _, name := range [...]string{"ALLOWED", "NAME"} {
		if i := t.column(name); i >= 0 {
			c := &t.columns[i]
			c.width = max(c.width-max(t.over(), 0), min(c.width, c.least))
		}
	}
}

func (t *psTable) column(name string) int {
	return slices.IndexFunc(t.columns, func(c psColumn) bool { return c.name == name })
}

// over is by how much a row is wider than the screen.
func (t *psTable) over() int {
	width := 2 - t.gap
	for _, c := range t.columns {
		width += c.width + t.gap
	}
	if t.beside > 0 {
		width += t.gap + t.beside
	}
	return width - t.width
}

// concede gives something up for want of room, and reports whether there was
// something.
func (t *psTable) concede() bool {
	switch {
	case t.gap > 1:
		t.gap = 1
		return true
	case t.longest > 0 && !t.below:
		t.below = true
		return true
	}
	for _, name := range dispensable {
		if i := t.column(name); i >= 0 {
			t.columns = slices.Delete(t.columns, i, i+1)
			t.dropped = append(t.dropped, name)
			return true
		}
	}
	return false
}

func (t *psTable) head() string { return "  " + t.line(0) }

// row is the lines of a thread.
func (t *psTable) row(i int) []string {
	line := t.line(i + 1)
	if t.words[i] == "" {
		return []string{"  " + line}
	}
	mark := t.paint(yellow, "! ")
	if t.below {
		lines := []string{mark + line}
		for _, words := range wrap(t.words[i], ", ", t.width-6) {
			lines = append(lines, "      "+t.paint(yellow, words))
		}
		return lines
	}
	words := wrap(t.words[i], ", ", t.beside)
	gap := strings.Repeat(" ", t.gap)
	lines := []string{mark + line + gap + t.paint(yellow, words[0])}
	for _, more := range words[1:] {
		lines = append(lines, strings.Repeat(" ", 2+runes(line))+gap+t.paint(yellow, more))
	}
	return lines
}

func (t *psTable) line(i int) string {
	var b strings.Builder
	for k, c := range t.columns {
		if k > 0 {
			b.WriteString(strings.Repeat(" ", t.gap))
		}
		cell := c.cells[i]
		if runes(cell) > c.width {
			switch c.name {
			case "ALLOWED":
				cell = shorten(cell, ",", c.width)
			case "NAME": // the thread's own says more
				if _, own, ok := strings.Cut(cell, ofProcess); ok {
					cell = own
				}
			}
		}
		if cell = cut(cell, c.width); c.number {
			b.WriteString(strings.Repeat(" ", c.width-runes(cell)) + cell)
		} else {
			b.WriteString(pad(cell, c.width))
		}
	}
	return b.String()
}
