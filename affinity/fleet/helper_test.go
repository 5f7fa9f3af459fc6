//go:build linux

package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"berth/advisor"
	"berth/affinity"
	"berth/probe"
)

// waits leaves out of -short a test that mostly waits for time limits.
func waits(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it waits for time limits, and -short is given")
	}
}

// TestMain lets the test's own program play those that the engines start, by
// the name it is called by.
func TestMain(m *testing.M) {
	if os.Getenv("FAKE_RANK") != "" {
		os.Exit(fakeRankBerth(os.Args[1:]))
	}
	switch filepath.Base(os.Args[0]) {
	case "python3":
		os.Exit(fakePython(os.Args[1:]))
	case "mpirun":
		os.Exit(fakeMPIRun(os.Args[1:]))
	case "ssh":
		os.Exit(fakeSSH(os.Args[1:]))
	case "berth":
		os.Exit(fakeBerth(os.Args[1:]))
	case "salloc":
		os.Exit(fakeSalloc(os.Args[1:]))
	case "srun":
		os.Exit(fakeSrun(os.Args[1:]))
	case "sinfo", "scontrol":
		os.Exit(fakeSlurm())
	case "kubectl":
		os.Exit(fakeKubectl(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// programs makes a folder in which the test's program has these names.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// machine makes one from a description, and changes it.
func machine(t testing.TB, description string, change ...func(*probe.Machine)) *probe.Machine {
	t.Helper()
	source, err := probe.Synthetic(description)
	if err != nil {
		t.Fatal(err)
	}
	m, err := probe.Probe(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	memory := int64(512 << 30)
	m.Host = probe.Host{OS: "linux", Kernel: "6.8.0-45", Arch: "x86_64", MemoryBytes: &memory}
	for _, c := range change {
		c(m)
	}
	return m
}

const server = "package:2 numa:1 l3:2 core:4 pu:2"

// smtOff is the server with one thread of each core.
func smtOff(t testing.TB) *probe.Machine {
	on := machine(t, server)
	return machine(t, "package:2 numa:1 l3:2 core:4 pu:1", func(m *probe.Machine) {
		m.Fingerprint = on.Fingerprint
		m.Topology.SMT.Control = "off"
	})
}

func named(name string) func(*probe.Machine) {
	return func(m *probe.Machine) { m.Host.Hostname = name }
}

func memoryGiB(gib float64) func(*probe.Machine) {
	return func(m *probe.Machine) {
		bytes := int64(gib * (1 << 30))
		m.Host.MemoryBytes = &bytes
	}
}

func kernel(release string) func(*probe.Machine) {
	return func(m *probe.Machine) { m.Host.Kernel = release }
}

func quota(cpus float64) func(*probe.Machine) {
	return func(m *probe.Machine) {
		period := 100.0
		m.Limits.QuotaCPUs, m.Limits.QuotaPeriodMS = &cpus, &period
	}
}

func text(t testing.TB, m *probe.Machine) []byte {
	t.Helper()
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// answers is an engine that has them already.
type answers []Answer

func (answers) Name() string { return "files" }

func (a answers) Inspect(_ context.Context, answer func(Answer)) error {
	for _, one := range a {
		answer(one)
	}
	return nil
}

func collect(t *testing.T, e Engine) *Fleet {
	t.Helper()
	f, err := Collect(context.Background(), e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func node(t *testing.T, f *Fleet, name string) *Node {
	t.Helper()
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	t.Fatalf("there is no node %q among %d", name, len(f.Nodes))
	return nil
}

// fakeRun plays `berth run` under an agent: the program's words say what happens,
// and the receipt goes where it is wanted.
func fakeRun(args []string) int {
	at := slices.Index(args, "--")
	if !slices.Contains(args[:at], "--plan=-") || !slices.Contains(args[:at], "--receipt=/dev/fd/3") {
		fmt.Fprintf(os.Stderr, "berth run was given %q\n", args)
		return 2
	}
	plan, err := advisor.Read(os.Stdin, "plan")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	receipt := &affinity.Receipt{Schema: affinity.ReceiptSchema, Kept: true, Command: args[at+1:]}
	for i, cpus := range plannedSeats(plan) {
		receipt.Workers = append(receipt.Workers, affinity.WorkerReceipt{Index: i, Asked: cpus, Threads: []affinity.ThreadReceipt{{Set: cpus, RanOn: cpus}}})
	}
	status := 0
	switch words := args[at+1:]; words[0] {
	case "say":
		fmt.Println(strings.Join(words[1:], " "), os.Getenv("SAID"))
		fmt.Fprintln(os.Stderr, "to the other")
	case "fail":
		status = 3
	case "wait":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		fmt.Println("waits")
		<-ended
		fmt.Println("ends")
		status = 143
	case "leave":
		exec.Command("sleep", "3599.0501").Start()
	case "none":
		fmt.Fprintln(os.Stderr, "berth: there is no program none")
		return 127
	case "die":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	to := os.NewFile(3, "receipt")
	receipt.Status = status
	json.NewEncoder(to).Encode(receipt)
	return status
}

// fakeServe plays the berth on a node that serves a run.
func fakeServe(args []string) int {
	name := os.Getenv("SLURMD_NODENAME")
	if i := slices.Index(args, "--name"); i >= 0 {
		name = args[i+1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	m, err := probe.Read(bytes.NewReader(fakeDocument(name)), "machine")
	if err != nil {
		panic(err)
	}
	a := &Agent{Name: name, Input: os.Stdin, Output: os.Stdout, Berth: []string{"/proc/self/exe", "run"},
		Machine: func(context.Context) (*probe.Machine, error) { return m, nil }}
	if err := a.Serve(ctx); err != nil {
		return 1
	}
	return 0
}

// document is what fakes answer: that of FAKE_DIR, with a host name.
func fakeDocument(hostname string) []byte {
	all, err := os.ReadFile(filepath.Join(os.Getenv("FAKE_DIR"), "machine.json"))
	if err != nil {
		panic(err)
	}
	return bytes.ReplaceAll(all, []byte("HOSTNAME"), []byte(hostname))
}

// fakes sets up the folder that fakes read from, and PATH.
func fakes(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "machine.json"), text(t, machine(t, server, named("HOSTNAME"))), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAKE_DIR", dir)
	t.Setenv("PATH", programs(t, names...)+":"+os.Getenv("PATH"))
	return dir
}
