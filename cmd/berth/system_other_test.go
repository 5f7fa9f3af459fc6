//go:build !linux

package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestLinuxOnly(t *testing.T) {
	for _, args := range [][]string{
		{"run", "-c", "0", "--", "true"}, {"pin", "--pid", "1"}, {"ps"}, {"observe", "--pid", "1"}, {"tune"}, {"doctor"}, {"compare", "a.json", "b.json"}, {"experiment", "modes"},
		{"inspect"}, {"nproc"}, {"advise", "web-sync-python"}, {"place", "core:0"}, {"snapshot", "-"}, {"emit", "--profile", "web-sync-python", "systemd"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(args, &stdout, &stderr); status != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "Linux only") {
			t.Errorf("berth %s: status %d, %q, %q", strings.Join(args, " "), status, stdout.String(), stderr.String())
		}
	}
}
