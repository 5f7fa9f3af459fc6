package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDocuments runs the sessions of the README and of docs that print the same
// everywhere, as those of described machines do, and compares what they print
// with what is shown. With -update it writes that down.
//
// A block of YAML whose first line is "# NAME.yaml" is a file beside them, and so
// is what a session sends to one by ">".
func TestDocuments(t *testing.T) {
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLUMNS", "")
	ran := map[string]int{}
	for _, name := range append(names, "../../README.md") {
		if name, err = filepath.Abs(name); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Chdir(t.TempDir())
			d := &document{}
			is := d.rewrite(t, string(text))
			ran[filepath.Base(name)] = d.ran
			switch {
			case is == string(text):
			case *update:
				if err := os.WriteFile(name, []byte(is), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Error("it does not show what berth prints; -update writes that")
			}
		})
	}
	for _, name := range []string{"README.md", "compare.md", "hierarchies.md", "pipelines.md"} {
		if ran[name] < 2 {
			t.Errorf("only %d sessions of %s were run", ran[name], name)
		}
	}
}

// document is a page whose sessions are run.
type document struct {
	files []string
	ran   int
}

// rewrite gives the page with what its sessions print.
func (d *document) rewrite(t *testing.T, text string) string {
	t.Helper()
	blocks := strings.Split(text, "```")
	for i := 1; i < len(blocks); i += 2 {
		if body, ok := strings.CutPrefix(blocks[i], "yaml\n# "); ok {
			if name, body, ok := strings.Cut(body, "\n"); ok && strings.HasSuffix(name, ".yaml") {
				d.write(t, name, body)
			}
		}
		body, ok := strings.CutPrefix(blocks[i], "console\n")
		if !ok {
			continue
		}
		sessions := strings.Split("\n"+body, "\n$ ")
		for k, session := range sessions[1:] {
			sessions[k+1] = d.session(t, session)
		}
		blocks[i] = "console" + strings.Join(sessions, "\n$ ")
	}
	return strings.Join(blocks, "```")
}

// session gives a command and what it prints, as it was if it is not run.
func (d *document) session(t *testing.T, session string) string {
	t.Helper()
	line, shown, _ := strings.Cut(session, "\n")
	command, file, redirected := strings.Cut(line, " > ")
	args, ok := strings.CutPrefix(command, "berth ")
	if !ok || strings.ContainsAny(args, "|&;<") || !d.known(words(args)) {
		return session
	}
	var stdout, stderr bytes.Buffer
	if status := run(words(args), &stdout, &stderr); status != 0 {
		t.Errorf("%s: status %d, %s", line, status, stderr.String())
	}
	d.ran++
	if redirected {
		d.write(t, file, stdout.String())
		return session
	}
	printed := strings.Trim(stdout.String(), "\n")
	if printed == strings.Trim(shown, "\n") {
		return session
	}
	if !*update {
		t.Errorf("%s prints\n%s\nand the page shows\n%s", line, printed, strings.Trim(shown, "\n"))
	}
	return line + "\n" + printed + shown[len(strings.TrimRight(shown, "\n")):]
}

func (d *document) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Base(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.files = append(d.files, name)
}

// known reports whether a command reads a described machine or a file of the page.
func (d *document) known(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return arg == "--synthetic" || slices.Contains(d.files, arg)
	}) && !slices.Contains(args, "now")
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
