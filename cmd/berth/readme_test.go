package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestREADME runs the README's transcripts of described machines, which are the
// same everywhere, and compares what they print with what it shows.
func TestREADME(t *testing.T) {
	t.Setenv("COLUMNS", "")
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for i, block := range strings.Split(string(text), "```") {
		body, ok := strings.CutPrefix(block, "console\n")
		if i%2 == 0 || !ok {
			continue
		}
		for _, session := range strings.Split("\n"+body, "\n$ ")[1:] {
			line, want, _ := strings.Cut(session, "\n")
			args, ok := strings.CutPrefix(line, "berth ")
			if !ok || !strings.Contains(args, "--synthetic") {
				continue
			}
			var stdout, stderr bytes.Buffer
			if status := run(words(args), &stdout, &stderr); status != 0 {
				t.Errorf("%s: status %d, %s", line, status, stderr.String())
			}
			if got := stdout.String(); strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("%s prints\n%s\nthe README shows\n%s", line, got, want)
			}
			ran++
		}
	}
	if ran < 3 {
		t.Errorf("only %d transcripts were found", ran)
	}
}

// words splits as a shell does, for words in single quotes or none.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}
