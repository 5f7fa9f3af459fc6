//go:build linux

package fleet

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeSSH plays ssh(1): what the host is called says what happens. Those that
// begin with "real" run the command with sh, as a node would: in a session of
// its own, which only notices by its input that the connection is gone.
func fakeSSH(args []string) int {
	at := slices.Index(args, "--")
	host, remote := args[at+1], args[at+2]
	if !slices.Contains(args, "BatchMode=yes") || !slices.Contains(args, "-T") {
		fmt.Fprintln(os.Stderr, "ssh was not told to ask nothing")
		return 1
	}
	document := fakeDocument(host)
	switch kind := strings.TrimRight(host, "0123456789"); kind {
	case "good":
		os.Stdout.Write(document)
	case "motd":
		fmt.Println("Last login: never")
		os.Stdout.Write(document)
	case "twice":
		os.Stdout.Write(document)
		os.Stdout.Write(document)
	case "garbage":
		fmt.Println("\x1b[1mPlease log in at the console\x1b[0m")
	case "half":
		os.Stdout.Write(document[:len(document)/2])
	case "dies":
		os.Stdout.Write(document[:len(document)/2])
		fmt.Fprintln(os.Stderr, "client_loop: send disconnect: Broken pipe")
		return 255
	case "refused":
		fmt.Fprintln(os.Stderr, "ssh: connect to host refused port 22: Connection refused")
		return 255
	case "fails":
		fmt.Fprintln(os.Stderr, "berth: read /sys: permission denied")
		return 1
	case "old":
		fmt.Println(`{"schema":"berth.inspect/v0"}`)
	case "aged":
		fmt.Fprintln(os.Stderr, "berth: unknown flag: --serve")
		return 2
	case "other":
		fmt.Fprintln(os.Stderr, "sh: 1: berth: Exec format error")
		return 126
	case "bsd":
		fmt.Println("FreeBSD amd64")
		return statusAbsent
	case "hang":
		select {}
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	case "flood":
		line := []byte(strings.Repeat("x", 1<<20))
		for range mostDocument>>20 + 2 {
			if _, err := os.Stdout.Write(line); err != nil {
				return 255
			}
		}
	case "real-none", "real-there", "real-hang", "real-noexec":
		return realSession(kind, host, remote)
	default:
		fmt.Fprintf(os.Stderr, "nobody knows host %s\n", host)
		return 255
	}
	return 0
}

// realSession is the far side.
func realSession(kind, host, remote string) int {
	c := exec.Command("/bin/sh", "-c", remote)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	dir := os.Getenv("FAKE_DIR")
	path := "/usr/bin:/bin"
	if kind == "real-there" || kind == "real-hang" {
		path = filepath.Join(dir, "bin") + ":" + path
	}
	c.Env = []string{"FAKE_DIR=" + dir, "PATH=" + path, "TMPDIR=" + filepath.Join(dir, "tmp"), "FAKE_HOST=" + host}
	if kind == "real-noexec" {
		c.Env = append(c.Env, "TMPDIR=/nowhere")
	}
	in, err := c.StdinPipe()
	if err != nil {
		return 1
	}
	if err := c.Start(); err != nil {
		return 1
	}
	go func() {
		io.Copy(in, os.Stdin)
		in.Close()
	}()
	if err := c.Wait(); err != nil {
		return status(err)
	}
	return 0
}

// fakeBerth is the berth on such a node.
func fakeBerth(args []string) int {
	switch all := strings.Join(args, " "); {
	case strings.HasPrefix(all, "run "):
		return fakeRun(args[1:])
	case strings.HasPrefix(all, "fleet node --serve"):
		return fakeServe(args)
	case all != "inspect -o json":
		fmt.Fprintf(os.Stderr, "berth was asked for %q\n", args)
		return 2
	}
	if strings.HasPrefix(os.Getenv("FAKE_HOST"), "real-hang") {
		os.WriteFile(filepath.Join(os.Getenv("FAKE_DIR"), "pid"), []byte(strconv.Itoa(os.Getpid())), 0o644)
		time.Sleep(time.Hour)
	}
	os.Stdout.Write(fakeDocument(os.Getenv("FAKE_HOST")))
	return 0
}

// sshNodes prepares far sides.
func sshNodes(t *testing.T) (dir string) {
	dir = fakes(t, "ssh")
	for _, name := range []string{"tmp", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "berth")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSSH(t *testing.T) {
	dir := sshNodes(t)
	want := map[string]struct {
		code TroubleCode
		text string // of the error, or of the note
	}{
		"good1": {}, "good2": {}, "good3": {},
		"motd":        {"", "Last login"},
		"twice":       {"", "answered twice"},
		"garbage":     {Garbage, "Please log in"},
		"half":        {BrokeOff, "broke off"},
		"dies":        {BrokeOff, "broke off"},
		"refused":     {Unreachable, "Connection refused"},
		"fails":       {Failed, "permission denied"},
		"old":         {OtherSchema, "older"},
		"other":       {Architecture, "Exec format error"},
		"bsd":         {Architecture, "FreeBSD amd64"},
		"flood":       {Garbage, "larger than"},
		"real-none":   {},
		"real-there":  {},
		"real-noexec": {NoBerth, "cannot be brought along"},
	}
	var nodes []string
	for name := range want {
		nodes = append(nodes, name)
	}
	f := collect(t, &SSH{Nodes: nodes, FanOut: 4, Limit: time.Minute, Bring: BringAbsent})
	if len(f.Nodes) != len(want) || f.Engine != "ssh" || f.Early != "" {
		t.Errorf("%d nodes by %s, early: %q", len(f.Nodes), f.Engine, f.Early)
	}
	for name, w := range want {
		n := node(t, f, name)
		if n.Trouble != w.code || !strings.Contains(n.Error+strings.Join(n.Notes, ";"), w.text) || w.text == "" && n.Notes != nil {
			t.Errorf("%s: %+v, want %+v", name, n, w)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("%v is left on the node", left)
	}
}

func TestSSHBring(t *testing.T) {
	sshNodes(t)
	f := collect(t, &SSH{Nodes: []string{"real-none"}, Bring: BringNever})
	if n := node(t, f, "real-none"); n.Trouble != NoBerth || !strings.Contains(n.Error, "PATH") {
		t.Errorf("never: %+v", n)
	}
	f = collect(t, &SSH{Nodes: []string{"real-there"}, Bring: BringAlways})
	if n := node(t, f, "real-there"); n.Trouble != "" {
		t.Errorf("always: %+v", n)
	}
	f = collect(t, &SSH{Nodes: []string{"real-none"}, Binary: "/nowhere/berth"})
	if n := node(t, f, "real-none"); n.Trouble != NoBerth || !strings.Contains(n.Error, "/nowhere/berth") {
		t.Errorf("no binary: %+v", n)
	}
}

// A node that hangs costs its own time, and what ran there is ended.
func TestSSHHangs(t *testing.T) {
	waits(t)
	dir := sshNodes(t)
	f := collect(t, &SSH{Nodes: []string{"hang", "deaf", "real-hang"}, Limit: 2 * time.Second})
	for _, name := range []string{"hang", "deaf", "real-hang"} {
		if n := node(t, f, name); n.Trouble != TimedOut || !strings.Contains(n.Error, "2s") {
			t.Errorf("%s: %+v", name, n)
		}
	}
	gone(t, filepath.Join(dir, "pid"))
}

// The same where the binary was brought: its folder goes with it.
func TestSSHHangsWithBinary(t *testing.T) {
	waits(t)
	dir := sshNodes(t)
	collect(t, &SSH{Nodes: []string{"real-hang"}, Limit: 5 * time.Second, Bring: BringAlways})
	gone(t, filepath.Join(dir, "pid"))
	eventually(t, "the folder is removed", func() bool {
		left, err := os.ReadDir(filepath.Join(dir, "tmp"))
		return err == nil && len(left) == 0
	})
}

func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Skip("the machine was too slow for the far side to begin")
	}
	pid, _ := strconv.Atoi(string(text))
	eventually(t, "the far side has ended", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 600 {
		if holds() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("never: %s", what)
}

// An end midway keeps what is known and labels the rest.
func TestSSHEndedEarly(t *testing.T) {
	sshNodes(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var once sync.Once
	f, err := Collect(ctx, &SSH{Nodes: []string{"good1", "hang1", "hang2", "good2"}, FanOut: 1}, Options{
		Progress: func(answered, _ int) {
			if answered == 1 {
				once.Do(func() { time.AfterFunc(200*time.Millisecond, cancel) })
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.Early == "" || node(t, f, "good1").Trouble != "" || node(t, f, "hang1").Trouble != NotAsked || node(t, f, "good2").Trouble != NotAsked {
		t.Errorf("early: %q, %+v", f.Early, f.Nodes)
	}
}

func TestRunsOn(t *testing.T) {
	for says, want := range map[string]bool{"FreeBSD amd64": false, "Linux nobody-knows": true, "": true, "garbage": true} {
		if got := runsOn(says); got != want {
			t.Errorf("%q: %v", says, got)
		}
	}
	if runsOn("Linux s390x") && runsOn("Linux riscv64") {
		t.Error("it runs on everything")
	}
}

// The scripts pass through every login shell: in single quotes, on one line.
func TestScriptsAreQuoted(t *testing.T) {
	inspects, serves := &session{inspects: true}, &session{args: []string{"fleet", "node", "--name", "user@n-1.x"}}
	for _, s := range []string{script(inspects.script("berth")), bringing(123, inspects.script(brought)), script(serves.script("berth")), bringing(123, serves.script(brought))} {
		if strings.Count(s, "'") != 2 || strings.ContainsAny(s, "\\\n") || !strings.HasPrefix(s, "sh -c '") || !strings.HasSuffix(s, "'") {
			t.Errorf("%s", s)
		}
	}
}
