package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnywhere is what berth does without a look at the system that it runs on:
// the same bytes on every architecture and every system.
func TestAnywhere(t *testing.T) {
	t.Setenv("COLUMNS", "")
	const machine = "package:2 numa:2(memory=16GiB) l3:2(size=32MiB) l2:4(size=1MiB) core:1 pu:2"
	dir := t.TempDir()
	// file makes a file of what a command prints.
	file := func(name string, args ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(printed(t, args...)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	document := file("machine.json", "inspect", "--synthetic", machine, "-o", "json")
	xml := file("machine.xml", "inspect", "--synthetic", machine, "-o", "hwloc-xml")
	plan := file("plan.json", "advise", "web-sync-python", "--machine", document, "-o", "json")

	var all strings.Builder
	for _, args := range [][]string{
		{"inspect", "--synthetic", machine},
		{"inspect", "--synthetic", machine, "-o", "json"},
		{"inspect", "--synthetic", machine, "-e"},
		{"inspect", "--hwloc-xml", xml, "--caches"},
		{"nproc", "--cores", "--synthetic", machine},
		{"advise", "web-sync-python", "--machine", document, "-o", "json"},
		{"advise", "web-sync-python", "--machine", document, "--sweep", "work.wait_ms=0:40:10"},
		{"emit", "--plan", plan, "gunicorn", "systemd"},
		{"place", "package:1.core:0-1", "--synthetic", machine},
		{"profiles", "list"},
		{"profiles", "new", "go"},
		{"schema"},
	} {
		all.WriteString("$ berth " + strings.ReplaceAll(strings.Join(args, " "), dir+string(filepath.Separator), "") + "\n" + printed(t, args...) + "\n")
	}
	golden(t, "anywhere.txt", strings.ReplaceAll(all.String(), dir+string(filepath.Separator), ""))
}

// printed is what berth prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(args, &stdout, &stderr); status != 0 {
		t.Fatalf("berth %s: status %d, %s", strings.Join(args, " "), status, stderr.String())
	}
	return stdout.String()
}
