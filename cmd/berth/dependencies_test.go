package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependencies holds docs/dependencies.md against go.mod: the first table is
// of what it requires directly, the second of the rest.
func TestDependencies(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(mod)) {
		if m := regexp.MustCompile(`^(?:require )?\s*(\S+\.\S+/\S+) v\S+(.*)`).FindStringSubmatch(line); m != nil {
			want[m[1]] = "direct"
			if strings.Contains(m[2], "// indirect") {
				want[m[1]] = "indirect"
			}
		}
	}
	page, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct, indirect, ok := strings.Cut(string(page), "\nWhat comes with them:\n")
	if !ok || len(want) < 10 {
		t.Fatalf("the page has no second table, or go.mod was not understood: %v", want)
	}
	got := map[string]string{}
	for kind, part := range map[string]string{"direct": direct, "indirect": indirect} {
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(part, -1) {
			got[m[1]] = kind
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is %s in go.mod, and %q in docs/dependencies.md", name, want[name], got[name])
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("docs/dependencies.md has %s, which go.mod does not require", name)
		}
	}
}
