package place_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"berth/probe/cpuset"
	"berth/probe/place"
	"berth/probe/synthetic"
	"berth/probe/topology"
)

// question is what another tool was asked on a synthetic machine, and what it
// answered: the CPUs of each place, or "error".
type question struct{ machine, expr, answer string }

// corpus reads a file of testdata; its lines are comments, "machine DESCRIPTION"
// and "EXPRESSION => ANSWER".
func corpus(t *testing.T, name string) []question {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var all []question
	machine := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if description, ok := strings.CutPrefix(line, "machine "); ok && !strings.Contains(line, " => ") {
			machine = description
			continue
		}
		expr, answer, ok := strings.Cut(line, " => ")
		if !ok {
			t.Fatalf("%s: %q has no =>", name, line)
		}
		all = append(all, question{machine, expr, answer})
	}
	return all
}

func shape(t testing.TB, description string) *topology.Topology {
	t.Helper()
	shape, err := synthetic.Parse(description)
	if err != nil {
		t.Fatal(err)
	}
	return shape
}

// answer is berth's, in the form of the corpus.
func answer(places place.Places, err error, union bool) string {
	if err != nil {
		return "error"
	}
	if union {
		return places.Union().String()
	}
	return list(places)
}

func list(places []cpuset.Set) string {
	return strings.Trim(fmt.Sprint(places), "[]")
}

// TestPeers compares with what hwloc-calc, likwid-pin and libgomp answered when
// the corpus was recorded.
func TestPeers(t *testing.T) {
	for _, peer := range []struct{ file, prefix string }{{"hwloc.txt", ""}, {"likwid.txt", "likwid:"}, {"omp.txt", "omp:"}} {
		asked, agreed := 0, 0
		for _, q := range corpus(t, peer.file) {
			places, err := place.Parse(peer.prefix+q.expr, shape(t, q.machine))
			asked++
			if got := answer(places, err, peer.prefix == ""); got != q.answer {
				t.Errorf("%s on %s: %s (%v), and the peer says %s", peer.prefix+q.expr, q.machine, got, err, q.answer)
				continue
			}
			agreed++
		}
		if asked < 60 || agreed < asked {
			t.Errorf("%s: %d of %d agree", peer.file, agreed, asked)
		}
	}
}
