package profiles

import (
	"strings"
	"testing"
)

func TestShipped(t *testing.T) {
	if len(Shipped()) == 0 {
		t.Fatal("no profile comes with berth")
	}
	for _, name := range Shipped() {
		text, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(text, name)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if p.Name != name {
			t.Errorf("%s%s is called %s inside", name, suffix, p.Name)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if summary := Summary(text); summary == "" || line != "# "+summary {
			t.Errorf("%s: the first line is not a comment that sums it up: %q", name, line)
		}
	}
	for _, name := range []string{"", "nosuch", "../shipped", "thumbnailer.yaml", "/etc/passwd"} {
		if _, err := Source(name); err == nil {
			t.Errorf("there is a profile %q", name)
		}
	}
}
