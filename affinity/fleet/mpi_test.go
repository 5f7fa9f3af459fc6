//go:build linux

package fleet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeMPIRun plays mpirun: it runs what it is given for each rank as a node
// would, whose name says what is there, and prints their output in pieces. As
// the real one it starts nothing where a node is dead.
func fakeMPIRun(args []string) int {
	dir := os.Getenv("FAKE_DIR")
	if args[0] == "--version" {
		version, err := os.ReadFile(filepath.Join(dir, "version"))
		if err != nil {
			version = []byte("mpirun (Open MPI) 4.1.4\n")
		}
		os.Stdout.Write(version)
		return 0
	}
	record, err := os.OpenFile(filepath.Join(dir, "mpirun"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 1
	}
	fmt.Fprintln(record, strings.Join(args[:slices.Index(args, "-n")+2], " "))
	record.Close()
	value := func(name string) string { return args[slices.Index(args, name)+1] }
	var hosts []string
	program := args[len(args)-1:]
	if slices.Contains(args, "--hostfile") {
		text, err := os.ReadFile(value("--hostfile"))
		if err != nil {
			return 1
		}
		hosts, program = strings.Fields(string(text)), args[slices.Index(args, "sh"):]
	} else {
		hosts = []string{value("--host")}
	}
	if strconv.Itoa(len(hosts)) != value("-n") {
		fmt.Fprintln(os.Stderr, "A sequential map was requested, but not enough node entries")
		return 1
	}
	lost := false
	for _, host := range hosts {
		switch strings.TrimRight(host, "0123456789") {
		case "dead":
			rule := strings.Repeat("-", 74)
			fmt.Fprintf(os.Stderr, "ssh: connect to host %s port 22: No route to host\n%s\nORTE was unable to reliably start one or more daemons.\n%s\n", host, rule, rule)
			return 255
		case "mute":
			select {}
		case "lost":
			if len(hosts) == 1 {
				fmt.Fprintln(os.Stderr, "ssh: Could not resolve hostname")
				return 255
			}
			lost = true
		}
	}
	out := make([]bytes.Buffer, len(hosts))
	var busy sync.WaitGroup
	for i, host := range hosts {
		busy.Go(func() { fakeRank(i, host, program, &out[i]) })
	}
	busy.Wait()
	if lost {
		for i := range out {
			out[i].Truncate(out[i].Len() / 2)
		}
	}
	pieces(out)
	if lost {
		fmt.Fprintln(os.Stderr, "ORTE has lost communication with a remote daemon.")
		return 205
	}
	return 0
}

// fakeRank runs a rank's program to its end.
func fakeRank(rank int, host string, program []string, out io.Writer) {
	dir := os.Getenv("FAKE_DIR")
	session, err := os.MkdirTemp(dir, "session")
	if err != nil {
		return
	}
	defer os.RemoveAll(session)
	if names, err := os.ReadFile("nodes"); err == nil {
		os.WriteFile(filepath.Join(session, "nodes"), names, 0o600)
	}
	if binary, err := os.ReadFile("berth"); err == nil {
		os.WriteFile(filepath.Join(session, "berth"), binary, 0o600)
	}
	path := filepath.Join(dir, "bin") + ":/usr/bin:/bin"
	switch strings.TrimRight(host, "0123456789") {
	case "bare":
		path = "/usr/bin:/bin"
	case "other":
		path = filepath.Join(dir, "arm") + ":/usr/bin:/bin"
	case "noexec":
		path = filepath.Join(dir, "noexec") + ":" + path
	}
	c := exec.Command(program[0], program[1:]...)
	c.Env = []string{"FAKE_DIR=" + dir, "PATH=" + path, "FAKE_RANK=" + host, "OMPI_COMM_WORLD_RANK=" + strconv.Itoa(rank), "OMPI_MCA_orte_jobfam_session_dir=" + session}
	c.Stdout, c.Stderr, c.Stdin = out, os.Stderr, os.Stdin
	c.Run()
}

// pieces prints output as mpirun tags it, cut anywhere.
func pieces(out []bytes.Buffer) {
	fresh := true
	for n := 0; ; n++ {
		some := false
		for i := range out {
			piece := out[i].Next(7 + (n*131+i*17)%900)
			if some = some || len(piece) > 0; len(piece) == 0 {
				continue
			}
			tag := fmt.Sprintf("[1,%d]<stdout>:", i)
			text := tag + strings.ReplaceAll(string(piece), "\n", "\n"+tag)
			if fresh = strings.HasSuffix(text, "\n"+tag); fresh {
				text = strings.TrimSuffix(text, tag)
			}
			os.Stdout.WriteString(text)
		}
		if !some {
			return
		}
	}
}

// fakeRankBerth is the berth that a rank of the fake mpirun starts.
func fakeRankBerth(args []string) int {
	host := os.Getenv("FAKE_RANK")
	if strings.Join(args, " ") != "fleet node --name "+host {
		fmt.Fprintf(os.Stderr, "berth was asked for %q\n", args)
		return 2
	}
	switch strings.TrimRight(host, "0123456789") {
	case "talks":
		fmt.Println("module: loaded gcc")
	case "garbage":
		fmt.Println("Bus error")
		return 0
	case "fails":
		fmt.Fprintln(os.Stderr, "berth: read /sys: permission denied")
		return 1
	case "twice":
		WriteFrames(os.Stdout, host, fakeDocument(host))
	case "hang":
		select {}
	case "echo": // what Launch hands on
		text, _ := io.ReadAll(os.Stdin)
		fmt.Printf("berth-test/1 %s %s\n", host, text)
		return 0
	}
	WriteFrames(os.Stdout, host, fakeDocument(host))
	return 0
}

func mpiNodes(t *testing.T) string {
	t.Helper()
	t.Setenv("SLURM_JOB_ID", "")
	dir := fakes(t, "mpirun")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"arm/uname": "#!/bin/sh\necho Linux nonesuch64\n", "arm/berth.gone": "", "noexec/berth": "no program at all\n"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "berth")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mpiRuns(t *testing.T, dir string) []string {
	t.Helper()
	record, err := os.ReadFile(filepath.Join(dir, "mpirun"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(record)), "\n")
}

func TestMPI(t *testing.T) {
	dir := mpiNodes(t)
	want := map[string]struct {
		code TroubleCode
		text string
	}{
		"n1": {}, "n2": {}, "talks1": {}, "bare1": {}, "bare2": {},
		"twice1":   {"", "answered twice, the same"},
		"garbage1": {Garbage, "Bus error"},
		"fails1":   {Failed, "(exit status 1): berth: read /sys: permission denied"},
		"noexec1":  {NoBerth, ""},
	}
	var nodes []string
	for name := range want {
		nodes = append(nodes, name)
	}
	slices.Sort(nodes)
	f := collect(t, &MPI{Nodes: nodes, Limit: time.Minute, Bring: BringNever})
	if n := node(t, f, "bare1"); n.Trouble != NoBerth || !strings.Contains(n.Error, "PATH") {
		t.Errorf("never brought: %+v", n)
	}
	os.RemoveAll(filepath.Join(dir, "noexec"))
	delete(want, "noexec1")
	nodes = slices.DeleteFunc(nodes, func(n string) bool { return n == "noexec1" })
	os.Remove(filepath.Join(dir, "mpirun"))
	f = collect(t, &MPI{Nodes: nodes, Limit: time.Minute})
	if len(f.Nodes) != len(want) || f.Engine != "mpi" || f.Early != "" {
		t.Errorf("%d nodes by %s, early: %q", len(f.Nodes), f.Engine, f.Early)
	}
	for name, w := range want {
		n := node(t, f, name)
		if n.Trouble != w.code || !strings.Contains(n.Error+strings.Join(n.Notes, ";"), w.text) || w.text == "" && n.Notes != nil {
			t.Errorf("%s: %+v, want %+v", name, n, w)
		}
	}
	runs := mpiRuns(t, dir)
	if len(runs) != 2 || !strings.HasPrefix(runs[0], "--hostfile nodes --map-by seq --bind-to none -n 8") || !strings.HasSuffix(runs[1], "-n 2") {
		t.Errorf("mpirun was asked for %q", runs)
	}
}

func TestMPIOtherArchitecture(t *testing.T) {
	dir := mpiNodes(t)
	os.RemoveAll(filepath.Join(dir, "bin"))
	f := collect(t, &MPI{Nodes: []string{"other1"}})
	if n := node(t, f, "other1"); n.Trouble != "" && n.Trouble != Architecture {
		t.Errorf("%+v", n)
	}
	os.WriteFile(filepath.Join(dir, "arm", "uname"), []byte("#!/bin/sh\necho FreeBSD amd64\n"), 0o755)
	f = collect(t, &MPI{Nodes: []string{"other1"}})
	if n := node(t, f, "other1"); n.Trouble != Architecture || !strings.Contains(n.Error, "FreeBSD amd64") {
		t.Errorf("%+v", n)
	}
}

// Where mpirun starts nothing, the dead are found, and the others asked.
func TestMPIWithoutTheDead(t *testing.T) {
	waits(t)
	dir := mpiNodes(t)
	f := collect(t, &MPI{Nodes: []string{"n1", "dead1", "n2", "dead2", "bare1"}, Limit: time.Minute})
	for _, name := range []string{"dead1", "dead2"} {
		if n := node(t, f, name); n.Trouble != Unreachable || !strings.Contains(n.Error, "ssh: connect to host "+name) {
			t.Errorf("%+v", n)
		}
	}
	if f.Totals.Answered != 3 {
		t.Errorf("%+v", f.Nodes)
	}
	if runs := mpiRuns(t, dir); len(runs) != 8 { // all, each of five, the three, one with berth
		t.Errorf("mpirun was asked for %q", runs)
	}
	f = collect(t, &MPI{Nodes: []string{"dead1"}, Limit: time.Minute})
	if n := node(t, f, "dead1"); n.Trouble != Unreachable {
		t.Errorf("%+v", n)
	}
}

// A node that goes while others answer takes them all with it: they are asked again.
func TestMPINodeLost(t *testing.T) {
	mpiNodes(t)
	f := collect(t, &MPI{Nodes: []string{"n1", "lost1", "n2"}, Limit: time.Minute})
	if n := node(t, f, "lost1"); n.Trouble != BrokeOff && n.Trouble != Unreachable || f.Totals.Answered != 2 {
		t.Errorf("%+v", f.Nodes)
	}
}

func TestMPIHangs(t *testing.T) {
	waits(t)
	mpiNodes(t)
	f := collect(t, &MPI{Nodes: []string{"mute1", "n1"}, Limit: 4 * time.Second})
	if n := node(t, f, "mute1"); n.Trouble != TimedOut || f.Totals.Answered != 1 {
		t.Errorf("%+v", f.Nodes)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	f, err := Collect(ctx, &MPI{Nodes: []string{"hang1"}}, Options{})
	if err != nil || f.Early == "" || node(t, f, "hang1").Trouble != NotAsked {
		t.Errorf("%v, %+v", err, f)
	}
}

func TestMPIOfOthers(t *testing.T) {
	dir := mpiNodes(t)
	for version, text := range map[string]string{
		"HYDRA build details:\n":        `says "HYDRA build details:"`,
		"mpirun (Open MPI) 5.0.3\n":     "Open MPI 3 and 4",
		"mpirun (Open MPI) \x1b[1m4.\n": "Open MPI 3 and 4",
	} {
		os.WriteFile(filepath.Join(dir, "version"), []byte(version), 0o644)
		if _, err := Collect(context.Background(), &MPI{Nodes: []string{"n1"}}, Options{}); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", version, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Collect(context.Background(), &MPI{Nodes: []string{"n1"}}, Options{}); err == nil || !strings.Contains(err.Error(), `"mpirun"`) {
		t.Errorf("no mpirun: %v", err)
	}
}

func TestMPIInAllocation(t *testing.T) {
	dir := mpiNodes(t)
	t.Setenv("SLURM_JOB_ID", "7")
	t.Setenv("SLURM_JOB_NODELIST", "n[1-3]")
	if f := collect(t, &MPI{}); f.Totals.Answered != 3 {
		t.Errorf("%+v", f.Nodes)
	}
	if runs := mpiRuns(t, dir); len(runs) != 1 {
		t.Errorf("%q", runs)
	}
}

// stepped runs a step and returns its lines and ends.
func stepped(t *testing.T, l Launcher, nodes []string, input string) (lines []string, ended map[string]*Trouble) {
	t.Helper()
	ended = map[string]*Trouble{}
	var mu sync.Mutex
	feed := NewFeed()
	feed.Write([]byte(input))
	feed.Close()
	err := l.Launch(t.Context(), &Step{
		Nodes: nodes, Args: []string{"fleet", "node"}, Input: feed, Ready: 20 * time.Second, Limit: time.Minute,
		Line: func(text string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, text)
		},
		Ended: func(node string, why *Trouble) {
			mu.Lock()
			defer mu.Unlock()
			ended[node] = why
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines, ended
}

func TestMPILaunches(t *testing.T) {
	dir := mpiNodes(t)
	os.RemoveAll(filepath.Join(dir, "bin")) // it is brought along
	lines, ended := stepped(t, &MPI{}, []string{"echo1", "dead1", "fails1"}, "go")
	if want := []string{"berth-test/1 echo1 go"}; !slices.Equal(slices.DeleteFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "berth-") }), want) {
		t.Errorf("%q, want %q", lines, want)
	}
	if len(ended) != 3 || ended["echo1"] != nil || ended["dead1"] == nil || ended["dead1"].Code != Unreachable || ended["fails1"] == nil || ended["fails1"].Code != Failed {
		t.Errorf("%+v", ended)
	}
	// A program that has begun is not started a second time.
	os.Remove(filepath.Join(dir, "mpirun"))
	if _, ended := stepped(t, &MPI{}, []string{"echo1", "lost1"}, "go"); ended["lost1"] == nil || len(mpiRuns(t, dir)) != 1 {
		t.Errorf("%+v, %q", ended, mpiRuns(t, dir))
	}
}

func TestRanks(t *testing.T) {
	var lines, others []string
	r := &ranks{line: func(rank int, text string) { lines = append(lines, fmt.Sprint(rank, " ", text)) }, other: func(text string) { others = append(others, text) }}
	for _, text := range []string{"mpirun says", "[1,0]<stdout>:a", "[1,1]<stdout>:be[1,0]<stdout>:gin", "[1,1]<stdout>:[1,1]<stdout>:tter", "[1,1]<stdout>:", "odd[prterun-vm-1@1,12]<stderr>:x", "[1,2]<stdout>:open"} {
		r.take(text)
	}
	r.end()
	if want := []string{"0 a", "0 gin", "1 better", "12 x", "2 open"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
	if want := []string{"mpirun says", "odd"}; !slices.Equal(others, want) {
		t.Errorf("%q, want %q", others, want)
	}
}

// What ranks print comes out again, however it was cut.
func FuzzRanks(f *testing.F) {
	f.Add("one\ntwo\n", "three\n[1,0]<std\n", []byte{3, 1, 4})
	f.Fuzz(func(t *testing.T, a, b string, cuts []byte) {
		plain := strings.NewReplacer("<", "", "\r", "") // no tags, and no ends of lines but one
		texts := []string{plain.Replace(a), plain.Replace(b)}
		var stream strings.Builder
		for i := 0; texts[0] != "" || texts[1] != ""; i++ {
			n := 1
			if len(cuts) > 0 {
				n += int(cuts[i%len(cuts)]) % 50
			}
			which := i % 2
			piece := texts[which][:min(n, len(texts[which]))]
			texts[which] = texts[which][len(piece):]
			if piece == "" {
				continue
			}
			tag := fmt.Sprintf("[1,%d]<stdout>:", which)
			text := tag + strings.ReplaceAll(piece, "\n", "\n"+tag)
			stream.WriteString(strings.TrimSuffix(text, tag))
			if !strings.HasSuffix(piece, "\n") && text == tag {
				stream.WriteString(tag)
			}
		}
		got := make([]strings.Builder, 2)
		r := &ranks{line: func(rank int, text string) { got[rank].WriteString(text + "\n") }, other: func(text string) {
			if text != "" {
				t.Errorf("%q is nobody's in %q", text, stream.String())
			}
		}}
		scanLines(strings.NewReader(stream.String()), r.take)
		r.end()
		for i, text := range []string{plain.Replace(a), plain.Replace(b)} {
			var want strings.Builder
			for line := range strings.SplitSeq(text, "\n") {
				if line != "" {
					want.WriteString(line + "\n")
				}
			}
			if got[i].String() != want.String() {
				t.Errorf("rank %d: %q, want %q, by %q", i, got[i].String(), want.String(), stream.String())
			}
		}
	})
}
