package profiles

import (
	"embed"
	"fmt"
	"strings"
)

// Each file is NAME.yaml and opens with a comment: what the workload is, in its
// first line, and where its figures come from.
//
//go:embed shipped
var shipped embed.FS

const suffix = ".yaml"

// Shipped lists the profiles that come with berth, by name.
func Shipped() []string {
	files, err := shipped.ReadDir("shipped")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), suffix))
	}
	return names
}

// Source is the text of a shipped profile, comments and all.
func Source(name string) ([]byte, error) {
	text, err := shipped.ReadFile("shipped/" + name + suffix)
	if err != nil {
		return nil, fmt.Errorf("no profile called %q comes with berth", name)
	}
	return text, nil
}

// Summary is the first line of a shipped profile's comment.
func Summary(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(strings.TrimPrefix(line, "#"))
}
