//go:build linux

package fleet

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		text string
		want string // with spaces between
	}{
		{"a,b", "a b"},
		{"n[1-3]", "n1 n2 n3"},
		{"n[001-003,010]", "n001 n002 n003 n010"},
		{"n[08-11].example.org", "n08.example.org n09.example.org n10.example.org n11.example.org"},
		{"r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"},
		{" a\nb ,, c\t", "a b c"},
		{"a,a,b", "a b"},
		{"root@n1", "root@n1"},
		{"fe80::1%eth0", "fe80::1%eth0"},
		{"n[7]", "n7"},
		{"", ""},
	} {
		got, err := ParseNames(test.text)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, %v; want %q", test.text, got, err, test.want)
		}
	}
	for _, bad := range []string{
		"-oProxyCommand=x", "root@-oProxyCommand=x", "@n", "root@", "n[1-", "n]1[", "n[]", "n[3-1]", "n[a-b]", "n[1-3", "n[[1]]",
		"a;b", "a$b", "a`b", "a'b", "n[1-9999999999]", "n[1-2000000]", "r[1-2000]n[1-2000]", "ü", "a/b", strings.Repeat("a", 300), "n[0-1152921504606846975]",
	} {
		if got, err := ParseNames(bad); err == nil {
			t.Errorf("%q is taken, as %d names", bad, len(got))
		}
	}
}

func TestFold(t *testing.T) {
	for _, test := range []struct{ names, want string }{
		{"n1 n2 n3", "n[1-3]"},
		{"n3 n1", "n[1,3]"},
		{"n001 n002 n010 n130", "n[001-002,010,130]"},
		{"n9 n10 n11", "n[9-11]"},
		{"n9 n09 n10", "n9,n[09-10]"},
		{"r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"},
		{"r1n1 r1n2 r2n1", "r1n[1-2],r2n1"},
		{"n1.a n2.a n1.b", "n1.b,n[1-2].a"},
		{"10.0.0.1 10.0.0.2", "10.0.0.[1-2]"},
		{"login", "login"},
		{"b a", "a,b"},
		{"n1 n1", "n1"},
	} {
		got := FoldedParts(strings.Fields(test.names))
		want := strings.Split(test.want, ",")
		slices.Sort(want)
		all := strings.Split(strings.Join(got, ","), ",")
		slices.Sort(all)
		if !slices.Equal(all, want) {
			t.Errorf("%s: %s, want %s", test.names, strings.Join(got, ","), test.want)
		}
	}
	if got := Fold([]string{"a b", "n1", "x\ny"}); got != `n1,"a b","x\ny"` {
		t.Errorf("odd names fold to %s", got)
	}
}

// Whatever was folded unfolds to the same names.
func TestFoldAndBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	for range 2000 {
		var names []string
		for range 1 + random.IntN(30) {
			names = append(names, pick("n", "r1n", "r2n", "r03n", "node-", "")+pick("0", "1", "2", "3", "9", "10", "11", "01", "02", "09", "010", "100")+pick("", ".example.org", "-ib", "x7"))
		}
		folded := Fold(names)
		back, err := ParseNames(folded)
		if err != nil {
			t.Fatalf("%q folds to %s: %v", names, folded, err)
		}
		slices.Sort(names)
		slices.Sort(back)
		if diff := cmp.Diff(slices.Compact(names), back); diff != "" {
			t.Fatalf("%s (-names +back)\n%s", folded, diff)
		}
	}
}

func TestCompareIsAnOrder(t *testing.T) {
	names := []string{"n10", "n2", "n02", "n1", "n", "", "a1b2", "a1b10", "a01b2", "m", "n2a", "2", "10", "n2-1"}
	for _, a := range names {
		for _, b := range names {
			if Compare(a, b) != 0 && (Compare(a, b) < 0) == (Compare(b, a) < 0) || (Compare(a, b) == 0) != (a == b) {
				t.Errorf("%q and %q: %d and %d", a, b, Compare(a, b), Compare(b, a))
			}
			for _, c := range names {
				if Compare(a, b) < 0 && Compare(b, c) < 0 && Compare(a, c) >= 0 {
					t.Errorf("%q < %q < %q, but not the first below the last", a, b, c)
				}
			}
		}
	}
	if Compare("n2", "n10") >= 0 {
		t.Error("n10 stands before n2")
	}
}

func FuzzParseNames(f *testing.F) {
	for _, seed := range []string{"n[1-3]", "r[1-2]n[01-02].x,a", "root@n1", "n[1-", "[]", "n[1,2", "a,,b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		names, err := ParseNames(text)
		if err != nil || len(names) > 5000 {
			return
		}
		for _, name := range names {
			if strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \n'\"`$;&|\\/*") {
				t.Fatalf("%q gives the name %q", text, name)
			}
		}
		back, err := ParseNames(Fold(names))
		if err != nil {
			t.Fatalf("%q folds to %q: %v", names, Fold(names), err)
		}
		slices.Sort(names)
		slices.Sort(back)
		if !slices.Equal(names, back) {
			t.Fatalf("%q folds to %q, which is %q", names, Fold(names), back)
		}
	})
}
