package main

import (
	"strings"
	"unicode/utf8"
)

func runes(s string) int { return utf8.RuneCountInString(s) }

// wrap breaks text into lines of at most width runes, where it may break: at
// the separator, which stays at the end of a line without its last space. A
// piece that is too long alone is broken at spaces if it has any.
func wrap(text, separator string, width int) []string {
	end := strings.TrimRight(separator, " ")
	var lines []string
	line := ""
	pieces := strings.Split(text, separator)
	for i, piece := range pieces {
		need := runes(line) + runes(separator) + runes(piece)
		if i < len(pieces)-1 {
			need += runes(end)
		}
		switch {
		case i == 0:
			line = piece
		case need <= width:
			line += separator + piece
		default:
			lines = append(lines, line+end)
			line = piece
		}
	}
	lines = append(lines, line)
	if separator == " " {
		return lines
	}
	var fitting []string
	for _, line := range lines {
		if runes(line) > width {
			fitting = append(fitting, wrap(line, " ", width)...)
		} else {
			fitting = append(fitting, line)
		}
	}
	return fitting
}

// shorten cuts a list after the last item that leaves room for "…".
func shorten(list, separator string, width int) string {
	if runes(list) <= width {
		return list
	}
	short := ""
	for i, item := range strings.Split(list, separator) {
		next := item
		if i > 0 {
			next = short + separator + item
		}
		if i > 0 && runes(next)+2 > width {
			break
		}
		short = next
	}
	return short + " …"
}

// spread joins items, leaving out as many before the last as it takes to fit.
func spread(items []string, bar string, width int) string {
	all := strings.Join(items, bar)
	if len(items) < 3 || runes(all) <= width {
		return shorten(all, ",", width)
	}
	last := " … " + items[len(items)-1]
	first := items[0]
	for _, next := range items[1 : len(items)-1] {
		if runes(first)+runes(bar)+runes(next)+runes(last) > width {
			break
		}
		first += bar + next
	}
	if runes(first)+runes(last) > width {
		return strings.TrimSuffix(shorten(first, ",", max(8, width-2)), " …") + " …"
	}
	return first + last
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-runes(s)))
}
