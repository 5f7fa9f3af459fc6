//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"berth/probe"
)

// report is what the command kubernetes says of a document.
type report struct {
	Error, Name, QoS                                      string
	Exclusive                                             bool
	CPU, Memory                                           string
	Env                                                   map[string]string
	Nodes                                                 []string
	CPUPolicy, TopologyPolicy, MemoryPolicy, ReservedCPUs string
}

// kubernetes reads documents by Kubernetes's own types.
func kubernetes(t *testing.T) func(documents ...string) []report {
	t.Helper()
	need(t, "go")
	if out, err := command(t, "kubernetes", "go", "mod", "download").CombinedOutput(); err != nil {
		t.Skipf("Kubernetes's types cannot be had: %v\n%s", err, out)
	}
	program := filepath.Join(t.TempDir(), "kubernetes")
	output(t, command(t, "kubernetes", "go", "build", "-o", program, "."))
	return func(documents ...string) []report {
		in, err := json.Marshal(documents)
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(t, ".", program)
		cmd.Stdin = strings.NewReader(string(in))
		var out []report
		if err := json.Unmarshal([]byte(output(t, cmd)), &out); err != nil || len(out) != len(documents) {
			t.Fatalf("%d reports of %d documents: %v", len(out), len(documents), err)
		}
		return out
	}
}

// kubeletOf is the configuration of the kubelet in a text's comments, or "".
func kubeletOf(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if body, ok := strings.CutPrefix(line, "#   "); ok {
			out.WriteString(body)
		}
	}
	return out.String()
}

func TestKubernetesDecodes(t *testing.T) {
	read := kubernetes(t)
	kubelets := 0
	for _, f := range golden(t, "kubernetes") {
		text := string(f.Data)
		r := read(text)[0]
		if r.Error != "" || r.CPU == "" || r.Env["BERTH_PROCESSES"] == "" {
			t.Errorf("%s: %+v", f.Name, r)
		}
		if promised := !strings.Contains(text, "not Guaranteed") && kubeletOf(text) != ""; promised && !r.Exclusive {
			t.Errorf("%s: CPUs of its own are promised: %+v", f.Name, r)
		}
		if k := kubeletOf(text); k != "" {
			kubelets++
			if r := read(k)[0]; r.Error != "" || r.CPUPolicy != "static" || r.ReservedCPUs == "" {
				t.Errorf("%s: kubelet %+v", f.Name, r)
			}
		}
	}
	if kubelets == 0 {
		t.Error("no plan needs a kubelet")
	}
}

// A fleet's documents name each node once, in one of them.
func TestKubernetesFleetDecodes(t *testing.T) {
	read := kubernetes(t)
	all, err := txtar.ParseFile(filepath.Join("..", "testdata", "golden", "fleet-kubernetes.txtar"))
	if err != nil || len(all.Files) == 0 {
		t.Fatalf("%d fleets: %v", len(all.Files), err)
	}
	for _, f := range all.Files {
		names, nodes := map[string]bool{}, 0
		for _, text := range strings.Split(string(f.Data), "---\n")[1:] {
			r := read(text)[0]
			if r.Error != "" || r.CPU == "" || len(r.Nodes) == 0 || names[r.Name] {
				t.Errorf("%s: %+v", f.Name, r)
			}
			names[r.Name] = true
			for _, node := range r.Nodes {
				if nodes++; names["node "+node] {
					t.Errorf("%s: %s is there twice", f.Name, node)
				}
				names["node "+node] = true
			}
		}
		if nodes < 2 {
			t.Errorf("%s: %d nodes", f.Name, nodes)
		}
	}
}

func TestKubernetesRejects(t *testing.T) {
	read := kubernetes(t)
	text := emitted(t, "kubernetes", planFor(t, pair, ""))
	for _, c := range [][2]string{
		{`replicas: 1`, "replica: 1"}, {`replicas: 1`, "Replicas: 1"}, {`replicas: 1`, "replicas: 1\n  replicas: 2"}, {`cpu: "2"`, `cpu: "2 cores"`},
		{`app: "[a-z-]*"`, "app: 123"}, {`value: "2"`, "value: 2"}, {`name: "video`, `name: "-video`}, {`limits: \{cpu: "2"`, `limits: {cpu: "1"`},
	} {
		if r := read(replaced(t, text, c[0], c[1]))[0]; r.Error == "" {
			t.Errorf("%s is taken: %+v", c[1], r)
		}
	}
	if r := read(replaced(t, kubeletOf(text), "cpuManagerPolicy:", "cpuPolicy:"))[0]; r.Error == "" {
		t.Errorf("the kubelet takes %+v", r)
	}
}

func TestKubernetesGivesWhatWasPlanned(t *testing.T) {
	read := kubernetes(t)
	memory := func(m *probe.Machine) { b := int64(8 << 30); m.Host.MemoryBytes = &b }
	quota := func(m *probe.Machine) { q := 1.2345; m.Limits.QuotaCPUs = &q }
	const needs = "limits: {memory_per_worker_mib: 100.5}\n"
	for _, c := range []struct {
		what, text string
		want       report
	}{
		{"guaranteed", emitted(t, "kubernetes", planFor(t, pair, "model: processes\n"+needs, memory)), report{QoS: "Guaranteed", Exclusive: true, CPU: "2", Memory: "201Mi"}},
		{"without memory", emitted(t, "kubernetes", planFor(t, pair, "model: processes\n")), report{QoS: "Burstable", CPU: "2", Memory: "0"}},
		{"a quota", emitted(t, "kubernetes", planFor(t, pair, "runtime: go\n"+needs, memory, quota)), report{QoS: "Guaranteed", CPU: "1235m", Memory: "201Mi"}},
		{"a waiting worker", emitted(t, "kubernetes", planFor(t, pair, "load: {tasks: 1}\n"+needs, memory, quota)), report{QoS: "Guaranteed", Exclusive: true, CPU: "1", Memory: "101Mi"}},
	} {
		r := read(c.text)[0]
		got := report{QoS: r.QoS, Exclusive: r.Exclusive, CPU: r.CPU, Memory: r.Memory, Error: r.Error}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v\nwant %+v\n%s", c.what, got, c.want, c.text)
		}
	}
	one, two := read(kubeletOf(emitted(t, "kubernetes", planFor(t, pair, ""))))[0], read(kubeletOf(emitted(t, "kubernetes", planFor(t, "package:2 numa:1 core:2 pu:1", ""))))[0]
	if one.TopologyPolicy != "single-numa-node" || one.MemoryPolicy != "Static" || two.TopologyPolicy != "best-effort" || two.MemoryPolicy != "" {
		t.Errorf("one node %+v, two nodes %+v", one, two)
	}
}
