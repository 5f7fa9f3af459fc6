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
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKubectl plays a cluster whose Jobs are files of FAKE_DIR/jobs: what a
// node is called says what its pod does.
func fakeKubectl(args []string) int {
	dir := os.Getenv("FAKE_DIR")
	if record, err := os.OpenFile(filepath.Join(dir, "kubectl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		fmt.Fprintln(record, strings.Join(args, " "))
		record.Close()
	}
	args = slices.DeleteFunc(args, func(a string) bool {
		return strings.HasPrefix(a, "--context=") || strings.HasPrefix(a, "--namespace=")
	})
	switch {
	case args[0] == "get" && args[1] == "nodes":
		text, err := os.ReadFile(filepath.Join(dir, "nodes.json"))
		if err != nil {
			fmt.Fprintln(os.Stderr, "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?")
			return 1
		}
		os.Stdout.Write(text)
	case args[0] == "create":
		return fakeCreate(dir)
	case args[0] == "get" && args[1] == "pods":
		fakeWatch(dir)
	case args[0] == "get" && args[1] == "events":
		for _, job := range fakeJobs(dir) {
			if job.node == "nopod1" {
				fmt.Printf(`{"items":[{"involvedObject":{"name":%q},"message":"pods \"x\" is forbidden: exceeded quota"}]}`, job.name)
			}
		}
	case args[0] == "logs":
		return fakeLogs(dir, args[1])
	case args[0] == "exec" && slices.Contains(args, "--serve"):
		return fakeSession(args)
	case args[0] == "exec":
		if fakeNode(dir, args[2]) == "noroom1" {
			fmt.Fprintln(os.Stderr, "sh: write error: No space left on device")
			return 1
		}
		binary, _ := io.ReadAll(os.Stdin)
		os.WriteFile(filepath.Join(dir, "brought-"+args[2]), binary, 0o644)
	case args[0] == "delete":
		if _, err := os.Stat(filepath.Join(dir, "stuck")); err == nil {
			fmt.Fprintln(os.Stderr, "error: timed out waiting for the condition")
			return 1
		}
		for _, job := range fakeJobs(dir) {
			if slices.Contains(args, "--selector="+runLabel+"="+job.run) || slices.Contains(args, job.name) {
				os.Remove(filepath.Join(dir, "jobs", job.name))
			}
		}
	}
	return 0
}

type fakeJob struct {
	name, node, run string
	brings, holds   bool
}

func fakeJobs(dir string) []fakeJob {
	var out []fakeJob
	all, _ := filepath.Glob(filepath.Join(dir, "jobs", "*"))
	for _, name := range all {
		text, _ := os.ReadFile(name)
		job := fakeJob{name: filepath.Base(name), brings: bytes.Contains(text, []byte(`"emptyDir"`)), holds: bytes.Contains(text, []byte(`"command":["sleep"`))}
		_, rest, _ := strings.Cut(string(text), `"values":["`)
		job.node, _, _ = strings.Cut(rest, `"`)
		_, rest, _ = strings.Cut(string(text), `"`+runLabel+`":"`)
		job.run, _, _ = strings.Cut(rest, `"`)
		out = append(out, job)
	}
	return out
}

func fakeNode(dir, pod string) string {
	for _, job := range fakeJobs(dir) {
		if job.name+"-x" == pod {
			return job.node
		}
	}
	return ""
}

func fakeCreate(dir string) int {
	var list struct{ Items []json.RawMessage }
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.MkdirAll(filepath.Join(dir, "jobs"), 0o755)
	status := 0
	for _, item := range list.Items {
		var job struct{ Metadata struct{ Name string } }
		json.Unmarshal(item, &job)
		if bytes.Contains(item, []byte(`"values":["quota`)) {
			fmt.Fprintf(os.Stderr, "Error from server (Forbidden): error when creating \"STDIN\": jobs.batch %q is forbidden: exceeded quota\n", job.Metadata.Name)
			status = 1
			continue
		}
		os.WriteFile(filepath.Join(dir, "jobs", job.Metadata.Name), item, 0o644)
		fmt.Println("job.batch/" + job.Metadata.Name)
	}
	return status
}

// fakeWatch tells of the pods, and then hangs, as a watch does.
func fakeWatch(dir string) {
	event := func(kind string, job fakeJob, status string) {
		fmt.Printf(`{"type":%q,"object":{"kind":"Pod","metadata":{"name":"%s-x","labels":{"batch.kubernetes.io/job-name":%q}},"status":%s}}`+"\n", kind, job.name, job.name, status)
	}
	container := func(state string) string { return `{"containerStatuses":[{"state":` + state + `}]}` }
	const (
		done    = `{"terminated":{"exitCode":0,"reason":"Completed"}}`
		running = `{"running":{"startedAt":"2026-01-01T00:00:00Z"}}`
		pulling = `{"waiting":{"reason":"ContainerCreating"}}`
	)
	for _, job := range fakeJobs(dir) {
		name := strings.TrimRight(job.node, "0123456789")
		if name != "nopod" {
			event("ADDED", job, `{"phase":"Pending"}`)
			event("MODIFIED", job, container(pulling))
		}
		if job.holds && name != "evicted" && name != "full" {
			event("MODIFIED", job, container(running))
			event("MODIFIED", job, container(running))
			continue
		}
		switch name {
		case "n", "talks", "silent", "half", "unread", "format":
			event("MODIFIED", job, container(running))
			event("MODIFIED", job, container(done))
			event("MODIFIED", job, container(done)) // told again
		case "fails":
			event("MODIFIED", job, container(`{"terminated":{"exitCode":1,"reason":"Error"}}`))
		case "bare", "bareother", "noroom", "bareslow":
			if !job.brings {
				event("MODIFIED", job, container(`{"terminated":{"exitCode":128,"reason":"StartError","message":"failed to create containerd task: runc create failed: exec: \"berth\": executable file not found in $PATH"}}`))
				continue
			}
			event("MODIFIED", job, container(running))
			event("MODIFIED", job, container(running))
			for range 200 {
				if _, err := os.Stat(filepath.Join(dir, "brought-"+job.name+"-x")); err == nil {
					event("MODIFIED", job, container(done))
					break
				} else if name == "noroom" {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		case "scratch":
			program := "berth"
			if job.brings {
				program = "sh"
			}
			event("MODIFIED", job, container(`{"terminated":{"exitCode":128,"reason":"StartError","message":"runc create failed: exec: \"`+program+`\": executable file not found in $PATH"}}`))
		case "arch":
			event("MODIFIED", job, container(`{"terminated":{"exitCode":128,"reason":"StartError","message":"runc create failed: exec /berth: exec format error"}}`))
		case "pull":
			event("MODIFIED", job, container(`{"waiting":{"reason":"ErrImagePull","message":"not found"}}`))
			event("MODIFIED", job, container(`{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image"}}`))
		case "evicted":
			event("MODIFIED", job, `{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: memory."}`)
		case "removed":
			event("DELETED", job, container(running))
		case "full":
			event("MODIFIED", job, `{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/9 nodes are available: 1 Too many pods."}]}`)
		case "hang":
			event("MODIFIED", job, container(running))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "breaks")); err == nil {
		os.Remove(filepath.Join(dir, "breaks"))
		os.Exit(1)
	}
	select {}
}

// fakeSession is a berth that says what it reads.
func fakeSession(args []string) int {
	node, in := args[len(args)-1], bufio.NewReader(os.Stdin)
	if at := slices.Index(args, "-c"); at > 0 {
		size := 0
		if _, err := fmt.Sscanf(args[at+1], "head -c %d ", &size); err != nil {
			return 2
		}
		if n, err := io.CopyN(io.Discard, in, int64(size)); err != nil {
			fmt.Fprintln(os.Stderr, n, "bytes came:", err)
			return 98
		}
	}
	switch node {
	case "fails1":
		fmt.Fprintln(os.Stderr, "berth: it does not please\ncommand terminated with exit code 3")
		return 3
	case "nofile1":
		fmt.Fprintln(os.Stderr, `OCI runtime exec failed: exec failed: exec: "sh": executable file not found in $PATH: unknown`)
		return 126
	}
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			fmt.Println(node, "read", line)
		}
		if err != nil {
			fmt.Print(node, " has read all")
			return 0
		}
	}
}

func fakeLogs(dir, pod string) int {
	node := fakeNode(dir, pod)
	var out bytes.Buffer
	WriteFrames(&out, node, fakeDocument(pod))
	switch strings.TrimRight(node, "0123456789") {
	case "n", "bare", "bareslow":
		os.Stdout.Write(out.Bytes())
	case "talks":
		fmt.Printf("entrypoint: hello\n%s", out.Bytes())
	case "half":
		os.Stdout.Write(out.Bytes()[:out.Len()/2])
	case "fails":
		fmt.Println("berth: read /sys: permission denied")
	case "format":
		fmt.Println("exec /usr/bin/berth: exec format error")
	case "unread":
		fmt.Fprintln(os.Stderr, "Error from server: Get https://10.0.0.1:10250/containerLogs: dial tcp: connect: connection refused")
		return 1
	}
	return 0
}

// kubeNodes makes a cluster. A name may have words after it: what is said of
// the node.
func kubeNodes(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := fakes(t, "kubectl")
	var items []string
	for _, text := range nodes {
		name, rest, _ := strings.Cut(text, " ")
		ready, spec, arch, system := "True", "{}", runtime.GOARCH, "linux"
		switch rest {
		case "not-ready":
			ready = "False"
		case "unknown":
			ready = "Unknown"
		case "cordoned":
			spec = `{"unschedulable":true,"taints":[{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"}]}`
		case "tainted":
			spec = `{"taints":[{"key":"gpu","value":"yes","effect":"NoSchedule"}]}`
		case "prefers":
			spec = `{"taints":[{"key":"gpu","value":"yes","effect":"PreferNoSchedule"}]}`
		case "other":
			arch = "m68k"
		case "windows":
			system = "windows"
		}
		items = append(items, fmt.Sprintf(`{"metadata":{"name":%q},"spec":%s,"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":%q,"message":"kubelet stopped posting node status."}],"nodeInfo":{"architecture":%q,"operatingSystem":%q}}}`,
			name, spec, ready, arch, system))
	}
	if err := os.WriteFile(filepath.Join(dir, "nodes.json"), []byte(`{"apiVersion":"v1","kind":"List","items":[`+strings.Join(items, ",")+`]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// calls are those of kubectl so far.
func calls(t *testing.T, dir, of string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "kubectl"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, of) {
			out = append(out, line)
		}
	}
	return out
}

func TestKubernetes(t *testing.T) {
	dir := kubeNodes(t, "n1", "n2 prefers", "talks1", "silent1", "half1", "unread1", "format1", "fails1", "bare1", "bareother1 other", "scratch1", "noroom1",
		"arch1", "pull1", "evicted1", "removed1", "quota1", "down1 not-ready", "down2 unknown", "cordoned1 cordoned", "tainted1 tainted", "w1 windows")
	if err := os.WriteFile(filepath.Join(dir, "breaks"), nil, 0o644); err != nil { // the first watch does
		t.Fatal(err)
	}
	f := collect(t, &Kubernetes{Image: "some/image", Context: "lab", Namespace: "work", Limit: time.Minute})
	for name, w := range map[string]struct {
		code TroubleCode
		text string
	}{
		"n1": {}, "n2": {}, "talks1": {}, "bare1": {},
		"silent1":    {Garbage, "no answer came"},
		"half1":      {BrokeOff, "broke off"},
		"unread1":    {Unreachable, "connection refused"},
		"format1":    {Architecture, "exec format error"},
		"fails1":     {Failed, "status 1): berth: read /sys: permission denied"},
		"bareother1": {Architecture, "the node is m68k"},
		"scratch1":   {NoBerth, "no sh"},
		"noroom1":    {NoBerth, "No space left"},
		"arch1":      {Architecture, "exec format error"},
		"pull1":      {Unreachable, "ImagePullBackOff"},
		"evicted1":   {Unreachable, "Evicted"},
		"removed1":   {Unreachable, "removed"},
		"quota1":     {Unreachable, "exceeded quota"},
		"down1":      {Down, "not ready"},
		"down2":      {Down, "not ready"},
		"cordoned1":  {Down, "cordoned"},
		"tainted1":   {Down, "gpu=yes:NoSchedule"},
		"w1":         {Architecture, "windows"},
	} {
		if n := node(t, f, name); n.Trouble != w.code || !strings.Contains(n.Error, w.text) {
			t.Errorf("%s: %q %q, want %+v", name, n.Trouble, n.Error, w)
		}
	}
	if len(f.Nodes) != 22 || f.Early != "" || f.Engine != "kubernetes" {
		t.Errorf("%d nodes, early: %q", len(f.Nodes), f.Early)
	}
	if left := fakeJobs(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	for _, call := range calls(t, dir, "") {
		if !strings.HasPrefix(call, "--context=lab --namespace=work ") {
			t.Errorf("kubectl %s", call)
		}
	}
	if n := len(calls(t, dir, "exec --stdin")); n != 2 {
		t.Errorf("%d pods were sent a berth, want 2: a pod is told of more than once", n)
	}
}

// The berth that is brought is this one, whole.
func TestKubernetesBrings(t *testing.T) {
	dir := kubeNodes(t, "bare1", "n1 other")
	binary := filepath.Join(t.TempDir(), "berth")
	if err := os.WriteFile(binary, bytes.Repeat([]byte("berth"), 100000), 0o755); err != nil {
		t.Fatal(err)
	}
	f := collect(t, &Kubernetes{Image: "some/image", Bring: BringAlways, Binary: binary})
	if node(t, f, "bare1").Trouble != "" || node(t, f, "n1").Trouble != Architecture {
		t.Errorf("always: %+v", f.Nodes)
	}
	brought, _ := filepath.Glob(filepath.Join(dir, "brought-*"))
	if len(brought) != 1 {
		t.Fatalf("%v", brought)
	}
	if text, err := os.ReadFile(brought[0]); err != nil || len(text) != 500000 {
		t.Errorf("%d bytes came, %v", len(text), err)
	}
	f = collect(t, &Kubernetes{Image: "some/image", Bring: BringNever, Nodes: []string{"bare1"}})
	if n := node(t, f, "bare1"); n.Trouble != NoBerth || !strings.Contains(n.Error, "the image has no berth") {
		t.Errorf("never: %+v", n)
	}
	_, err := Collect(t.Context(), &Kubernetes{Image: "some/image", Nodes: []string{"bare1"}, Bring: BringAlways, Binary: "/nowhere/berth"}, Options{})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/berth") {
		t.Errorf("no binary: %v", err)
	}
}

// To name a node is to mean it, unless it cannot take a pod at all.
func TestKubernetesNamed(t *testing.T) {
	dir := kubeNodes(t, "n1 tainted", "n2 cordoned", "n3 not-ready", "n4")
	f := collect(t, &Kubernetes{Image: "some/image", Nodes: []string{"n1", "n2", "n3", "n9"}})
	for name, code := range map[string]TroubleCode{"n1": "", "n2": "", "n3": Down, "n9": Unreachable} {
		if n := node(t, f, name); n.Trouble != code {
			t.Errorf("%s: %+v", name, n)
		}
	}
	if len(f.Nodes) != 4 {
		t.Errorf("%+v", f.Nodes)
	}
	if n := len(calls(t, dir, "create")); n != 1 {
		t.Errorf("Jobs were made %d times", n)
	}
}

// Pods that never end cost the limit, and it is said what they waited for.
func TestKubernetesHangs(t *testing.T) {
	waits(t)
	dir := kubeNodes(t, "n1", "hang1", "full1", "nopod1")
	f := collect(t, &Kubernetes{Image: "some/image", Limit: 3 * time.Second})
	for name, w := range map[string]struct {
		code TroubleCode
		text string
	}{"n1": {}, "hang1": {TimedOut, "no answer within 3s"}, "full1": {Unreachable, "Too many pods"}, "nopod1": {Unreachable, "exceeded quota"}} {
		if n := node(t, f, name); n.Trouble != w.code || !strings.Contains(n.Error, w.text) {
			t.Errorf("%s: %q %q, want %+v", name, n.Trouble, n.Error, w)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := Collect(ctx, &Kubernetes{Image: "some/image", Limit: time.Hour}, Options{Progress: func(int, int) { cancel() }})
	if err != nil || f.Early == "" || node(t, f, "n1").Trouble != "" || node(t, f, "hang1").Trouble != NotAsked {
		t.Errorf("%v, %+v", err, f)
	}
	if left := fakeJobs(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// Jobs that cannot be removed are told of, with what was found.
func TestKubernetesStays(t *testing.T) {
	dir := kubeNodes(t, "n1")
	if err := os.WriteFile(filepath.Join(dir, "stuck"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := collect(t, &Kubernetes{Image: "some/image"})
	if node(t, f, "n1").Trouble != "" || !strings.Contains(f.Early, "kubectl delete jobs --selector="+runLabel+"=") || !strings.Contains(f.Early, "timed out") {
		t.Errorf("%q, %+v", f.Early, f.Nodes)
	}
}

func TestKubernetesIsNotThere(t *testing.T) {
	dir := kubeNodes(t)
	if f := collect(t, &Kubernetes{Image: "some/image"}); len(f.Nodes) != 0 {
		t.Errorf("%+v", f.Nodes)
	}
	kubeNodes(t, "quota1")
	if _, err := Collect(t.Context(), &Kubernetes{Image: "some/image"}, Options{}); err == nil || !strings.Contains(err.Error(), "make the Jobs: kubectl create: exit status 1") {
		t.Errorf("no Job was made: %v", err)
	}
	if _, err := Collect(t.Context(), &Kubernetes{}, Options{}); err == nil || !strings.Contains(err.Error(), "image") {
		t.Errorf("no image: %v", err)
	}
	t.Setenv("FAKE_DIR", dir)
	os.Remove(filepath.Join(dir, "nodes.json"))
	if _, err := Collect(t.Context(), &Kubernetes{Image: "some/image"}, Options{}); err == nil || !strings.Contains(err.Error(), "The connection to the server") {
		t.Errorf("no server: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Collect(t.Context(), &Kubernetes{Image: "some/image"}, Options{}); err == nil {
		t.Error("no kubectl, and no error")
	}
}

// A step's pods take what the plan takes, its berths read one input and are told
// of by name when they end.
func TestKubernetesLaunch(t *testing.T) {
	dir := kubeNodes(t, "n1", "n2", "fails1", "nofile1", "evicted1", "quota1", "down1 not-ready", "other1 other")
	binary := filepath.Join(t.TempDir(), "berth")
	if err := os.WriteFile(binary, bytes.Repeat([]byte("berth"), 1000), 0o755); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said []string
	ended := map[string]*Trouble{}
	input := NewFeed()
	memory := 100.2
	step := &Step{
		Nodes: []string{"n1", "n2", "fails1", "nofile1", "evicted1", "quota1", "down1", "other1", "none1"}, Args: []string{"fleet", "node", "--serve"}, Input: input,
		Ready: time.Minute, Limit: time.Hour, Takes: func(string) Takes { return Takes{2, &memory} },
		Line: func(text string) {
			mu.Lock()
			defer mu.Unlock()
			if said = append(said, text); len(said) == 2 {
				jobs, err := os.ReadFile(filepath.Join(dir, "jobs", fakeJobs(dir)[0].name))
				for _, want := range []string{`"limits":{"cpu":"2000m","memory":"229Mi"}`, `"requests":{"cpu":"2000m","memory":"229Mi"}`, `"activeDeadlineSeconds":3610`} {
					if !strings.Contains(string(jobs), want) {
						t.Errorf("%v: no %s in %s", err, want, jobs)
					}
				}
				input.Close()
			}
		},
		Ended: func(node string, why *Trouble) {
			mu.Lock()
			defer mu.Unlock()
			if old, ok := ended[node]; ok {
				t.Errorf("%s is told of twice: %v, %v", node, old, why)
			}
			ended[node] = why
		},
	}
	fmt.Fprintln(input, "an order")
	if err := (&Kubernetes{Image: "some/image", Binary: binary}).Launch(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	slices.Sort(said)
	if want := "n1 has read all,n1 read an order,n2 has read all,n2 read an order"; strings.Join(said, ",") != want {
		t.Errorf("%q", said)
	}
	for node, want := range map[string]TroubleCode{"n1": "", "n2": "", "fails1": Failed, "nofile1": NoBerth, "evicted1": Unreachable, "quota1": Unreachable, "down1": Down, "other1": Architecture, "none1": Unreachable} {
		why, ok := ended[node]
		if !ok || want == "" && why != nil || want != "" && (why == nil || why.Code != want) {
			t.Errorf("%s: %v %+v, want %q", node, ok, why, want)
		}
	}
	if left := fakeJobs(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// A step ends with its context, whatever its pods do.
func TestKubernetesLaunchIsEnded(t *testing.T) {
	dir := kubeNodes(t, "n1", "full1")
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	ended := map[string]*Trouble{}
	input := NewFeed()
	fmt.Fprintln(input, "an order")
	err := (&Kubernetes{Image: "some/image", Bring: BringNever}).Launch(ctx, &Step{
		Nodes: []string{"n1", "full1"}, Args: []string{"fleet", "node", "--serve"}, Input: input, Ready: time.Minute, Limit: time.Hour,
		Takes: func(string) Takes { return Takes{CPUs: 1} }, Line: func(string) { cancel() },
		Ended: func(node string, why *Trouble) {
			mu.Lock()
			defer mu.Unlock()
			ended[node] = why
		},
	})
	if err != nil || ended["n1"] == nil || ended["n1"].Code != TimedOut || ended["full1"] == nil || !strings.Contains(ended["full1"].Text, "Too many pods") {
		t.Errorf("%v, %v", err, ended)
	}
	if left := fakeJobs(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// A pod that finds no room is told of while others run.
func TestKubernetesLaunchFindsNoRoom(t *testing.T) {
	dir := kubeNodes(t, "n1", "full1")
	input := NewFeed()
	fmt.Fprintln(input, "an order")
	err := (&Kubernetes{Image: "some/image", Bring: BringNever}).Launch(t.Context(), &Step{
		Nodes: []string{"n1", "full1"}, Args: []string{"fleet", "node", "--serve"}, Input: input, Ready: 2 * time.Second, Limit: time.Hour,
		Takes: func(string) Takes { return Takes{CPUs: 1} }, Line: func(string) {},
		Ended: func(node string, why *Trouble) {
			if node == "full1" {
				if why == nil || !strings.Contains(why.Text, "Too many pods") {
					t.Errorf("%v", why)
				}
				go func() { // n1 runs until then
					eventually(t, "its Job is gone", func() bool { return len(fakeJobs(dir)) == 1 })
					input.Close()
				}()
			}
		},
	})
	if err != nil {
		t.Error(err)
	}
}

// FuzzPodState reads what a server says of a pod.
func FuzzPodState(f *testing.F) {
	f.Add([]byte(`{"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"0/1 nodes"}]}}`), false)
	f.Add([]byte(`{"status":{"containerStatuses":[{"state":{"terminated":{"exitCode":128,"reason":"StartError","message":"exec: \"sh\": not found"}}}]}}`), true)
	f.Add([]byte(`{"status":{"containerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull","message":"a\nb"}}}]}}`), true)
	f.Fuzz(func(t *testing.T, text []byte, bring bool) {
		var o podObject
		if json.Unmarshal(text, &o) != nil {
			return
		}
		s := o.state(bring)
		if s.ran && !s.ended || s.runs && s.ended || s.ended && !s.ran && s.why == nil {
			t.Errorf("%+v of %s", s, text)
		}
		if s.why != nil && strings.ContainsAny(s.why.Text, "\n\x1b") {
			t.Errorf("%q", s.why.Text)
		}
	})
}
