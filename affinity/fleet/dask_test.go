//go:build linux

package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakePython plays the Python program of the engine: what a node is called says
// what comes of it.
func fakePython(args []string) int {
	if args[0] != "-c" || args[1] != daskEngine {
		return 1
	}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return 1
	}
	var conf struct {
		Scheduler, Bring, Binary string
		Nodes, Args, Machines    []string
		Input                    bool
		Limit                    float64
	}
	if err := json.Unmarshal(line, &conf); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.WriteFile(filepath.Join(os.Getenv("FAKE_DIR"), "conf"), line, 0o644)
	say := func(m map[string]any) {
		text, _ := json.Marshal(m)
		os.Stdout.Write(append(text, '\n'))
	}
	if conf.Scheduler == "nobody" {
		say(map[string]any{"failed": "Timed out trying to connect to nobody after 30 s"})
		return 0
	}
	nodes := conf.Nodes
	if nodes == nil {
		nodes = []string{"n1", "n2"}
	}
	say(map[string]any{"nodes": nodes})
	fmt.Println("not for us") // and what no JSON is
	for _, node := range nodes {
		lines := func(n int) {
			var out bytes.Buffer
			WriteFrames(&out, node, fakeDocument(node))
			all := strings.Split(strings.TrimSpace(out.String()), "\n")
			for _, text := range all[:len(all)/n] {
				say(map[string]any{"node": node, "line": text})
			}
		}
		switch strings.TrimRight(node, "0123456789") {
		case "n":
			lines(1)
			say(map[string]any{"node": node, "status": 0, "text": ""})
		case "talks":
			say(map[string]any{"node": node, "line": "module: loaded gcc"})
			lines(1)
			say(map[string]any{"node": node, "status": 0, "text": "module: loaded gcc"})
		case "garbage":
			say(map[string]any{"node": node, "line": "Bus error"})
			say(map[string]any{"node": node, "status": 0, "text": "Bus error"})
		case "fails":
			say(map[string]any{"node": node, "status": 1, "text": "berth: no \x1b[1m/sys"})
		case "noexec":
			say(map[string]any{"node": node, "status": 126, "text": "[Errno 13] Permission denied"})
		case "arm":
			say(map[string]any{"node": node, "status": 126, "text": "[Errno 8] Exec format error: 'berth'"})
		case "gone":
			lines(2)
			say(map[string]any{"node": node, "trouble": "unreachable", "text": "the worker has left"})
		case "silent":
			say(map[string]any{"node": node, "status": 0, "text": ""})
		case "dies":
			fmt.Fprintln(os.Stderr, "MemoryError")
			return 1
		case "hang":
			select {}
		case "echo":
			text, _ := io.ReadAll(in)
			say(map[string]any{"node": node, "line": fmt.Sprintf("berth-test/1 %s %s %v", node, text, conf.Args)})
			say(map[string]any{"node": node, "status": 0, "text": ""})
		}
	}
	return 0
}

func TestDask(t *testing.T) {
	dir := fakes(t, "python3")
	want := map[string]struct {
		code TroubleCode
		text string
	}{
		"n1": {}, "n2": {}, "talks1": {},
		"garbage1": {Garbage, "Bus error"},
		"fails1":   {Failed, "(exit status 1): berth: no \ufffd[1m/sys"},
		"noexec1":  {NoBerth, "Permission denied"},
		"arm1":     {Architecture, "Exec format error"},
		"gone1":    {BrokeOff, "pieces came"},
		"silent1":  {Garbage, "no answer came"},
	}
	var nodes []string
	for name := range want {
		nodes = append(nodes, name)
	}
	slices.Sort(nodes)
	f := collect(t, &Dask{Scheduler: "tcp://s:8786", Nodes: nodes, Bring: BringAlways, Binary: "/a/berth"})
	if len(f.Nodes) != len(want) || f.Engine != "dask" || f.Early != "" {
		t.Errorf("%d nodes by %s, early: %q", len(f.Nodes), f.Engine, f.Early)
	}
	for name, w := range want {
		if n := node(t, f, name); n.Trouble != w.code || !strings.Contains(n.Error, w.text) {
			t.Errorf("%s: %+v, want %+v", name, n, w)
		}
	}
	conf, err := os.ReadFile(filepath.Join(dir, "conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"scheduler":"tcp://s:8786"`, `"bring":"always"`, `"binary":"/a/berth"`, `"input":false`, `"limit":30,`, `"args":["fleet","node"]`} {
		if !strings.Contains(string(conf), part) {
			t.Errorf("%s lacks %s", conf, part)
		}
	}
	if f := collect(t, &Dask{Scheduler: "tcp://s:8786"}); f.Totals.Answered != 2 {
		t.Errorf("all that there are: %+v", f.Nodes)
	}
}

func TestDaskEnds(t *testing.T) {
	fakes(t, "python3")
	f := collect(t, &Dask{Scheduler: "s", Nodes: []string{"n1", "dies1", "n2"}})
	if n := node(t, f, "n2"); n.Trouble != Unreachable || !strings.Contains(n.Error, "MemoryError") || node(t, f, "n1").Trouble != "" || !strings.Contains(f.Early, "exit status 1: MemoryError") {
		t.Errorf("%q, %+v", f.Early, f.Nodes)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	f, err := Collect(ctx, &Dask{Scheduler: "s", Nodes: []string{"n1", "hang1"}}, Options{})
	if err != nil || f.Early == "" || node(t, f, "hang1").Trouble != NotAsked || node(t, f, "n1").Trouble != "" {
		t.Errorf("%v, %+v", err, f)
	}
	if _, err := Collect(context.Background(), &Dask{Scheduler: "nobody"}, Options{}); err == nil || !strings.Contains(err.Error(), "engine dask: Timed out") {
		t.Errorf("no scheduler: %v", err)
	}
	if _, err := Collect(context.Background(), &Dask{Scheduler: "s", Python: "no-python"}, Options{}); err == nil || !strings.Contains(err.Error(), "no-python") {
		t.Errorf("no Python: %v", err)
	}
}

func TestDaskLaunches(t *testing.T) {
	fakes(t, "python3")
	lines, ended := stepped(t, &Dask{Scheduler: "s"}, []string{"echo1", "gone1", "fails1"}, "go")
	if !slices.Contains(lines, "berth-test/1 echo1 go [fleet node]") {
		t.Errorf("%q", lines)
	}
	if len(ended) != 3 || ended["echo1"] != nil || ended["gone1"] == nil || ended["gone1"].Code != Unreachable || ended["fails1"] == nil || ended["fails1"].Code != Failed {
		t.Errorf("%+v", ended)
	}
	_, ended = stepped(t, &Dask{Scheduler: "s"}, []string{"dies1", "n1"}, "go")
	if len(ended) != 2 || ended["n1"] == nil || !strings.Contains(ended["n1"].Text, "MemoryError") {
		t.Errorf("%+v", ended)
	}
}

// Whatever it says, a node that was named ends once, and none but those.
func FuzzDaskMessages(f *testing.F) {
	f.Add(`{"nodes":["a","b"]}` + "\n" + `{"node":"a","line":"x"}` + "\n" + `{"node":"a","status":1,"text":"y"}`)
	f.Add(`{"node":"b","trouble":"timeout","text":"no"}` + "\n" + `{"failed":"all"}`)
	f.Fuzz(func(t *testing.T, text string) {
		ended := map[string]bool{}
		d := &daskTold{left: map[string]bool{"b": true}, daskStep: &daskStep{line: func(string, string) {}, ended: func(node string, why *Trouble) {
			if ended[node] || why != nil && why.Text == "" && why.Code == "" {
				t.Errorf("%q ended again, or for no reason: %v", node, why)
			}
			ended[node] = true
		}}}
		named := map[string]bool{"b": true}
		for line := range strings.SplitSeq(text, "\n") {
			var m daskMessage
			if json.Unmarshal([]byte(line), &m) == nil {
				for _, node := range m.Nodes {
					named[node] = true
					delete(ended, node) // named again, it begins again
				}
			}
			d.take(line)
		}
		for node := range ended {
			if !named[node] {
				t.Errorf("%q was never named", node)
			}
		}
	})
}
