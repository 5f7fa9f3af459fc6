package main

import (
	"bufio"
	"io"
	"strings"
)

// page is a text being printed; errors of writing wait in the buffer.
type page struct {
	screen
	w   *bufio.Writer
	any bool
}

func (p *page) line(s string) {
	p.any = true
	io.WriteString(p.w, strings.TrimRight(visible(s), " "))
	p.w.WriteByte('\n')
}

func (p *page) gap() {
	if p.any {
		p.w.WriteByte('\n')
	}
}

func (p *page) heading(s string) {
	p.gap()
	p.line(p.paint(bold, s))
}

// wrapped prints text with all lines but the first indented.
func (p *page) wrapped(text, separator, indent string) {
	lines := wrap(text, separator, p.width-runes(indent))
	for i, line := range lines {
		if i > 0 {
			line = indent + line
		}
		p.line(line)
	}
}

// table prints rows in columns, two spaces in; the last column wraps.
func (p *page) table(rows [][]string) {
	var widths []int // of what is in the column; 0 drops it
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runes(cell))
		}
	}
	for _, row := range rows {
		line := "  "
		for i, cell := range row {
			if i < len(row)-1 {
				if widths[i] > 0 {
					line += pad(cell, widths[i]) + "  "
				}
				continue
			}
			indent := runes(line)
			lines := wrap(cell, ", ", max(p.width-indent, 20))
			p.line(line + lines[0])
			for _, more := range lines[1:] {
				p.line(strings.Repeat(" ", indent) + more)
			}
		}
	}
}
