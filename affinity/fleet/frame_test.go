//go:build linux

package fleet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func framed(t testing.TB, node string, document []byte) []string {
	t.Helper()
	var out bytes.Buffer
	if err := WriteFrames(&out, node, document); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// Answers that share a stream come apart again, in whatever order their lines
// come, and with what else is in it.
func TestFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	var lines []string
	want := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("n%d", i)
		if i == 19 {
			name = "odd name/%"
		}
		content := make([]byte, random.IntN(4000))
		for j := range content {
			content[j] = byte(random.IntN(256))
		}
		want[name] = string(content)
		lines = append(lines, framed(t, name, content)...)
	}
	for _, line := range lines {
		if len(line) >= 1000 {
			t.Fatalf("a line has %d bytes", len(line))
		}
	}
	lines = append(lines, "Welcome", frameMark, frameMark+"n1 x 1/2 00000000 ????", frameMark+"n1 x 9/2 00000000 AAAA", "")
	random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	got := map[string]string{}
	f := newFrames(func(a Answer) {
		if a.Trouble != nil {
			t.Errorf("%s: %v", a.Node, a.Trouble)
		}
		got[a.Node] = string(a.Document)
	})
	for _, line := range lines {
		f.line(line)
	}
	f.end()
	if len(got) != len(want) {
		t.Errorf("%d answers, want %d", len(got), len(want))
	}
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s: %d bytes, want %d", name, len(got[name]), len(content))
		}
	}
}

func TestFramesWithHoles(t *testing.T) {
	content := make([]byte, 3000)
	random := rand.New(rand.NewPCG(9, 9))
	for i := range content {
		content[i] = byte(random.IntN(256))
	}
	whole := framed(t, "n1", content)
	spoilt := strings.Replace(whole[2], whole[2][len(whole[2])-20:], strings.Repeat("A", 20), 1)
	for name, lines := range map[string][]string{
		"one is missing": append([]string{whole[0]}, whole[2:]...),
		"one is spoilt":  append([]string{whole[0], whole[1], spoilt}, whole[3:]...),
		"one is cut":     append([]string{whole[0][:80]}, whole[1:]...),
	} {
		var got []Answer
		f := newFrames(func(a Answer) { got = append(got, a) })
		for _, line := range lines {
			f.line(line)
		}
		f.end()
		if len(got) != 1 || got[0].Trouble == nil || got[0].Trouble.Code != BrokeOff || !strings.Contains(got[0].Trouble.Text, fmt.Sprintf("%d of %d", len(whole)-1, len(whole))) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzFrames(f *testing.F) {
	for _, line := range framed(f, "n1", bytes.Repeat([]byte("abc"), 1000)) {
		f.Add(line)
	}
	var printed bytes.Buffer
	if err := writeOutput(&printed, "n 1/%", 2, 7, []byte("one\ntwo\x00")); err != nil {
		f.Fatal(err)
	}
	f.Add(printed.String())
	f.Add(frameMark + "n1 x 1/1 00000000 ")
	f.Add(frameMark + "n1 x 1/999999999999 00000000 AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		in := newFrames(func(a Answer) {
			if a.Node == "" {
				t.Fatal("an answer of nobody")
			}
		})
		in.output = func(o output) {
			var again bytes.Buffer
			if err := writeOutput(&again, o.node, o.stream, o.number, o.text); err != nil {
				t.Fatal(err)
			}
			back, ok := readOutput(strings.TrimPrefix(again.String(), outputMark))
			if !ok || back.node != o.node || back.number != o.number || !bytes.Equal(back.text, o.text) {
				t.Fatalf("%+v, and again %+v", o, back)
			}
		}
		for line := range strings.SplitSeq(text, "\n") {
			in.line(line)
		}
		in.end()
	})
}
