//go:build linux

package fleet

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/probe"
	"berth/probe/cpuset"
)

// mixed is a fleet with something odd of each sort: 20 servers, and others.
func mixed(t *testing.T) answers {
	var all answers
	add := func(name string, m *probe.Machine) {
		all = append(all, Answer{Node: name, Document: text(t, m)})
	}
	for i := range 20 {
		// No two kernels leave the same number of bytes.
		add(fmt.Sprintf("n%02d", i+1), machine(t, server, named(fmt.Sprintf("n%02d", i+1)), memoryGiB(503+float64(i)/10)))
	}
	add("n21", smtOff(t))
	add("n22", machine(t, server, memoryGiB(471)))
	add("n23", machine(t, server, kernel("6.5.0-9")))
	add("n24", machine(t, server, quota(2.5)))
	add("n25", machine(t, server, func(m *probe.Machine) { m.Topology.Allowed = cpuset.Range(0, 3) }))
	for i := range 3 {
		add(fmt.Sprintf("big%d", i+1), machine(t, "package:4 numa:2 l3:1 core:8 pu:1"))
	}
	all = append(all,
		Answer{Node: "bad1", Document: []byte("Segmentation fault\n")},
		Answer{Node: "bad2", Trouble: trouble(TimedOut, "no answer within 30s")})
	return all
}

func TestShapes(t *testing.T) {
	f := collect(t, mixed(t))
	type shape struct {
		Nodes       string
		Budget      float64
		Usual       bool
		Differences string
	}
	var got []shape
	for _, s := range f.Shapes {
		var d []string
		for _, x := range s.Differences {
			d = append(d, x.Text)
		}
		got = append(got, shape{Fold(s.Nodes), s.BudgetCPUs, s.Usual, strings.Join(d, "; ")})
	}
	want := []shape{
		{"n[01-20,23]", 32, true, ""},
		{"big[1-3]", 64, true, ""},
		{"n21", 16, false, "SMT off: 16 CPUs instead of 32"},
		{"n22", 32, false, "memory of 471 GiB instead of 503 GiB"},
		{"n24", 2.5, false, "a quota of 2.5 CPUs instead of none"},
		{"n25", 4, false, "allowed CPUs 0-3 instead of 0-31"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if d := node(t, f, "n23").Differences; len(d) != 1 || d[0].Text != "kernel 6.5.0-9, older than the usual 6.8.0-45" {
		t.Errorf("n23: %+v", d)
	}
	if d := node(t, f, "n07").Differences; d != nil {
		t.Errorf("n07: %+v", d)
	}
	if got, want := f.Shapes[0].From, "n01"; got != want { // the least memory
		t.Errorf("the machine is that of %s, want %s", got, want)
	}
	if f.Totals.Nodes != 30 || f.Totals.Answered != 28 || f.Totals.CPUs != 24*32+16+3*64 {
		t.Errorf("%+v", f.Totals)
	}
	if n := node(t, f, "bad1"); n.Trouble != Garbage || !strings.Contains(n.Error, `"Segmentation fault"`) || n.Shape != 0 {
		t.Errorf("bad1: %+v", n)
	}
	if n := node(t, f, "bad2"); n.Trouble != TimedOut {
		t.Errorf("bad2: %+v", n)
	}
}

// What is found does not depend on the order of the answers, also where nodes
// answer twice.
func TestOrderDoesNotMatter(t *testing.T) {
	all := mixed(t)
	all = append(all, all[3], all[20], Answer{Node: "n05", Document: text(t, smtOff(t))}, Answer{Node: "n06", Document: []byte("what?")},
		Answer{Node: "n22", Document: text(t, machine(t, server, memoryGiB(470)))})
	want, err := json.Marshal(collect(t, all))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got, err := json.Marshal(collect(t, all))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("(-before +after)\n%s", cmp.Diff(string(want), string(got)))
		}
	}
}

func TestAnsweredTwice(t *testing.T) {
	one, other := text(t, machine(t, server)), text(t, smtOff(t))
	for name, test := range map[string]struct {
		answers answers
		budget  float64
		note    string
	}{
		"the same":          {answers{{Node: "n", Document: one}, {Node: "n", Document: one}}, 32, "it answered twice, the same"},
		"the same, at once": {answers{{Node: "n", Document: slices.Concat(one, one)}}, 32, "it answered twice, the same"},
		"not the same":      {answers{{Node: "n", Document: one}, {Node: "n", Document: other}}, 16, "smaller budget"},
		"at once":           {answers{{Node: "n", Document: slices.Concat(one, other)}}, 16, "smaller budget"},
		"half the second":   {answers{{Node: "n", Document: slices.Concat(one, other[:100])}}, 32, "not the same"},
		"trouble first":     {answers{{Node: "n", Trouble: trouble(Failed, "no")}, {Node: "n", Document: one}}, 32, "not the same"},
	} {
		f := collect(t, test.answers)
		if len(f.Nodes) != 1 || len(f.Shapes) != 1 || f.Shapes[0].BudgetCPUs != test.budget || len(f.Nodes[0].Notes) != 1 || !strings.Contains(f.Nodes[0].Notes[0], test.note) {
			t.Errorf("%s: %+v, %d shapes", name, f.Nodes, len(f.Shapes))
		}
		if f.Totals.Answered != 1 {
			t.Errorf("%s: %d answered", name, f.Totals.Answered)
		}
	}
}

// Memories that differ a little from node to node are one shape, however many.
func TestMemoriesChain(t *testing.T) {
	var all answers
	for i, gib := range []float64{500, 510, 520, 530, 480, 400} { // steps of 2 %, one of 4, one of 20
		all = append(all, Answer{Node: fmt.Sprintf("n%d", i), Document: text(t, machine(t, server, memoryGiB(gib)))})
	}
	var got []string
	for _, s := range collect(t, all).Shapes {
		got = append(got, Fold(s.Nodes))
	}
	if diff := cmp.Diff([]string{"n[0-3]", "n4", "n5"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBands(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 10000 {
		a := 1 + random.Int64N(1<<uint(1+random.IntN(50)))
		b := a + random.Int64N(a/64+1)
		if band(a) > band(b) {
			t.Fatalf("%d has band %d, and %d has %d", a, band(a), b, band(b))
		}
		if a > 1<<10 && band(a) == band(b) && !alikeMemory(a, b) {
			t.Fatalf("%d and %d are in one band, and not alike", a, b)
		}
	}
}

func TestDocuments(t *testing.T) {
	good := string(text(t, machine(t, server)))
	for name, test := range map[string]struct {
		answer string
		code   TroubleCode
		want   string // of the trouble, or of the note
	}{
		"whole":             {good, "", ""},
		"empty":             {"", Garbage, "its answer is empty"},
		"blank":             {" \n\n", Garbage, "its answer is empty"},
		"text":              {"bash: berth: command not found\n", Garbage, `"bash: berth: command not found"`},
		"bytes":             {"\x00\x01\xff\n", Garbage, "no document"},
		"half":              {good[:len(good)/2], BrokeOff, "broke off after"},
		"brace":             {"{", BrokeOff, "after 1 bytes"},
		"greeting":          {"Welcome to n1\n\n" + good, "", `2 lines before its answer, the first "Welcome to n1"`},
		"farewell":          {good + "logout\n", "", `1 line after its answer, the first "logout"`},
		"older":             {`{"schema":"berth.inspect/v0"}`, OtherSchema, "older than this one"},
		"newer":             {`{"schema":"berth.inspect/v2","topology":"elsewhere"}`, OtherSchema, "newer than this one"},
		"another":           {`{"schema":"berth.plan/v1"}`, Garbage, `"berth.plan/v1"`},
		"no schema":         {`{}`, Garbage, "no schema"},
		"not JSON":          {`{"a":nope}`, Garbage, "not a document that can be read"},
		"a wrong type":      {`{"schema":"berth.inspect/v1","topology":7}`, Garbage, "not a document that can be read"},
		"no CPU":            {`{"schema":"berth.inspect/v1","topology":{}}`, Garbage, "may use no CPU"},
		"a list":            {"[1,2]\n", Garbage, "no document"},
		"a terminal's code": {"\x1b[31mred\x1b[0m\n", Garbage, "red"},
	} {
		d, bad := readDocument([]byte(test.answer))
		switch {
		case test.code == "" && bad != nil:
			t.Errorf("%s: %v", name, bad)
		case test.code == "":
			if got := strings.Join(d.notes, "; "); got != test.want {
				t.Errorf("%s: the notes are %q, want %q", name, got, test.want)
			}
		case bad == nil || bad.Code != test.code || !strings.Contains(bad.Text, test.want):
			t.Errorf("%s: %+v, want %s: …%s…", name, bad, test.code, test.want)
		case strings.ContainsAny(bad.Text, "\x00\x1b\n"):
			t.Errorf("%s: %q would reach a terminal", name, bad.Text)
		}
	}
}

func TestSameHost(t *testing.T) {
	doc := text(t, machine(t, server, named("h")))
	f := collect(t, answers{{Node: "a", Document: doc}, {Node: "b", Document: doc}})
	if len(f.Findings) != 1 || f.Findings[0].Code != "same-host" || f.Findings[0].Evidence[0] != "h: a,b" {
		t.Errorf("%+v", f.Findings)
	}
}

func TestReadBack(t *testing.T) {
	f := collect(t, mixed(t))
	out, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Read(strings.NewReader(string(out)), "fleet.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, back); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{`{"schema":"berth.fleet/v1","shapes":[{"id":1,"nodes":["a"]}]}`, `{"schema":"berth.fleet/v1","shapes":[{"id":2}]}`, `{"schema":"berth.plan/v1"}`} {
		if _, err := Read(strings.NewReader(bad), "x"); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
