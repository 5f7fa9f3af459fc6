//go:build linux

package main

import (
	"strings"
	"testing"
)

// FuzzLogFlag: what --per-log takes is parted at the first colon, with nothing
// lost, and what it refuses has a word on how to write it.
func FuzzLogFlag(f *testing.F) {
	for _, text := range []string{"access.log:' 200 '", "x", "", ":x", "log:", "log:(", "log:a:b", "/var/log/a b.log:^done$", "log:\\", "log:(?i)x{1001}", "l\x00g:\xff", "log:\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLogLines(text)
		if err != nil {
			isUsage(t, err)
			return
		}
		if l.Path == "" || strings.Contains(l.Path, ":") || l.Path+":"+l.Line.String() != text {
			t.Fatalf("%q: lines of %q that fit %q", text, l.Path, l.Line)
		}
	})
}
