package cpuset_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"berth/probe/cpuset"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"\n", ""},
		{"0", "0"},
		{"0-3,8", "0-3,8"},
		{"8,0-3", "0-3,8"},
		{"3,2,1,0", "0-3"},
		{"0-5,3-9,20,21", "0-9,20-21"},
		{" 0 , 2 \n", "0,2"},
		{"0-1\n\x00", "0-1"},
		{"0-10:2", "0,2,4,6,8,10"},
		{"0-63:2/8", "0-1,8-9,16-17,24-25,32-33,40-41,48-49,56-57"},
		{"0-9:3/4", "0-2,4-6,8-9"},
		{"0-9:4/4", "0-9"},
		{"5-9:1", "5-9"},
		{"0x3", "0-1"},
		{"0xff,00000000", "32-39"},
		{"65535", "65535"},
	} {
		got, err := cpuset.Parse(c.text)
		if err != nil || got.String() != c.want {
			t.Errorf("Parse(%q) = %q, %v; want %q", c.text, got, err, c.want)
		}
	}
}

func TestParseIn(t *testing.T) {
	universe := cpuset.Of(0, 1, 2, 3, 8, 9)
	for _, c := range []struct{ text, want string }{
		{"all", "0-3,8-9"},
		{"!0-3", "8-9"},
		{"!0,!9", "1-3,8"},
		{"0-7,!2", "0-1,3-7"},
		{"all,!8", "0-3,9"},
		{"all,20", "0-3,8-9,20"},
		{"!all", ""},
		{"", ""},
	} {
		got, err := cpuset.ParseIn(c.text, universe)
		if err != nil || got.String() != c.want {
			t.Errorf("ParseIn(%q) = %q, %v; want %q", c.text, got, err, c.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"a", "not a CPU number"},
		{"-1", "missing"},
		{"1-", "missing"},
		{"1,,2", "empty"},
		{"1,", "empty"},
		{"4-2", "backwards"},
		{"65536", "over the limit"},
		{"0-99999999999999999999", "over the limit"},
		{"3:2", "needs a range"},
		{"0-3:0", "used/size"},
		{"0-3:0/2", "used/size"},
		{"0-3:3/2", "used/size"},
		{"0-3:1/", "missing"},
		{"all", "no meaning"},
		{"!1", "no meaning"},
		{"0-3:+2", "not a CPU number"},
		{"1 2", "not a CPU number"},
		{strings.Repeat("0-65535:2,1-65535:2,", 100_000) + "0", "again and again"}, // 2 MB that would stand for 100 GB
		{"0xg", "hexadecimal"},
		{"0x", "not a CPU number"},
		{"0x1,,1", "1 to 8 digits"},
		{"0x1,123456789", "1 to 8 digits"},
		{"0x1" + strings.Repeat("0", cpuset.Limit/4), "over the limit"},
	} {
		got, err := cpuset.Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Parse(%.40q) = %q, %v; want an error with %q", c.text, got, err, c.says)
		}
		if err != nil && len(err.Error()) > 250 {
			t.Errorf("Parse(%.20q…): the error is %d bytes long", c.text, len(err.Error()))
		}
	}
}

func TestParseMask(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"0", ""},
		{"00000000,00000000", ""},
		{"ff,00000000", "32-39"},
		{"f", "0-3"},
		{"00000000,0000000f\n", "0-3"},
		{"1,1", "0,32"},
		{"0x8000000000000001", "0,63"},
		{"8000,00000000,00000001", "0,79"},
		{"FF", "0-7"},
		{"ff\n\n", "0-7"},
		{"ff\n\x00", "0-7"},
	} {
		got, err := cpuset.ParseMask(c.text)
		if err != nil || got.String() != c.want {
			t.Errorf("ParseMask(%q) = %q, %v; want %q", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "x", "1,", ",1", "1-2", "0x"} {
		if got, err := cpuset.ParseMask(text); err == nil {
			t.Errorf("ParseMask(%q) = %q; want an error", text, got)
		}
	}
}

func TestMasks(t *testing.T) {
	for _, c := range []struct{ list, mask, kernel string }{
		{"", "0x0", "0"},
		{"0-3", "0xf", "f"},
		{"0,32", "0x100000001", "1,00000001"},
		{"63", "0x8000000000000000", "80000000,00000000"},
		{"64", "0x10000000000000000", "1,00000000,00000000"},
	} {
		s, err := cpuset.Parse(c.list)
		if err != nil {
			t.Fatal(err)
		}
		if s.Mask() != c.mask || s.KernelMask() != c.kernel {
			t.Errorf("%q: Mask %s, KernelMask %s; want %s, %s", c.list, s.Mask(), s.KernelMask(), c.mask, c.kernel)
		}
	}
}

// model is a set as a plain map, to compare the algebra with.
type model map[cpuset.CPU]bool

func random(r *rand.Rand, limit int) (cpuset.Set, model) {
	m := model{}
	for range r.IntN(limit) {
		lo := r.IntN(limit)
		for c := lo; c < min(limit, lo+1+r.IntN(4)); c++ {
			m[cpuset.CPU(c)] = true
		}
	}
	var list []cpuset.CPU
	for c := range m {
		list = append(list, c)
	}
	return cpuset.Of(list...), m
}

func TestAlgebra(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		limit := 1 + r.IntN(80)
		a, ma := random(r, limit)
		b, mb := random(r, limit)
		union, both, minus := a.Union(b), a.Intersect(b), a.Minus(b)
		subset, overlap, n := true, false, 0
		for c := range cpuset.CPU(limit + 2) {
			if ma[c] {
				n++
			}
			if union.Contains(c) != (ma[c] || mb[c]) || both.Contains(c) != (ma[c] && mb[c]) || minus.Contains(c) != (ma[c] && !mb[c]) {
				t.Fatalf("CPU %d of %q and %q: union %q, intersection %q, difference %q", c, a, b, union, both, minus)
			}
			subset = subset && (!ma[c] || mb[c])
			overlap = overlap || ma[c] && mb[c]
		}
		if a.SubsetOf(b) != subset || a.Overlaps(b) != overlap || a.Len() != n || a.Equal(b) != (subset && len(ma) == len(mb)) {
			t.Fatalf("%q and %q: subset %v, overlap %v, len %d", a, b, a.SubsetOf(b), a.Overlaps(b), a.Len())
		}
		if got := slices.Collect(a.All()); !slices.IsSorted(got) || len(got) != n {
			t.Fatalf("All of %q gives %v", a, got)
		}
		again, err := cpuset.Parse(a.String())
		if err != nil || !again.Equal(a) {
			t.Fatalf("%q read again is %q, %v", a, again, err)
		}
		masked, err := cpuset.ParseMask(a.KernelMask())
		if err != nil || !masked.Equal(a) {
			t.Fatalf("%q by its mask %s is %q, %v", a, a.KernelMask(), masked, err)
		}
		if all := cpuset.UnionAll(a, b, both); !all.Equal(union) {
			t.Fatalf("UnionAll of %q and %q is %q", a, b, all)
		}
	}
}

func TestOrder(t *testing.T) {
	sets := []cpuset.Set{cpuset.Of(4), cpuset.Of(0, 8), cpuset.Of(0), cpuset.Range(0, 3), {}}
	slices.SortFunc(sets, cpuset.Set.Compare)
	if got := fmt.Sprint(sets); got != "[ 0 0,8 0-3 4]" {
		t.Errorf("sorted: %s", got)
	}
	if e := (cpuset.Set{}); e.First() != -1 || e.Last() != -1 || !e.IsEmpty() {
		t.Errorf("empty set: first %d, last %d", e.First(), e.Last())
	}
}

func TestJSON(t *testing.T) {
	in := struct{ A, B cpuset.Set }{A: cpuset.Range(0, 3)}
	data, err := json.Marshal(in)
	if err != nil || string(data) != `{"A":"0-3","B":""}` {
		t.Fatalf("%s, %v", data, err)
	}
	out := in
	out.A = cpuset.Set{}
	if err := json.Unmarshal(data, &out); err != nil || !out.A.Equal(in.A) {
		t.Errorf("read again: %v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"A":"x"}`), &out); err == nil {
		t.Error("a bad list was accepted")
	}
	if err := json.Unmarshal([]byte(`{"A":"0-65535:2"}`), &out); err == nil || !strings.Contains(err.Error(), "no strides") {
		t.Errorf("a stride in a document: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"0-3,8", "0-10:2", "0-63:2/8", "all,!3", "0xff,00000000", "65535", "1-", "!"} {
		f.Add(s)
	}
	universe := cpuset.Range(0, 99)
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (cpuset.Set, error){
			cpuset.Parse, cpuset.ParseMask, func(s string) (cpuset.Set, error) { return cpuset.ParseIn(s, universe) },
		} {
			s, err := parse(text)
			if err != nil {
				continue
			}
			if s.First() < -1 || s.Last() >= cpuset.Limit {
				t.Fatalf("%q holds CPUs %d to %d", text, s.First(), s.Last())
			}
			again, err := cpuset.Parse(s.String())
			if err != nil || !again.Equal(s) {
				t.Fatalf("%q: %q read again is %q, %v", text, s, again, err)
			}
		}
	})
}

func ExampleParse() {
	s, err := cpuset.Parse("0-10:2,15")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s, s.Len(), s.Mask())
	// Output: 0,2,4,6,8,10,15 7 0x8555
}
