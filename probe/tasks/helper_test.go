//go:build linux

package tasks_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/probe/cpuset"

	"golang.org/x/sys/unix"
)

// helperEnv makes the test's program play another part.
const helperEnv = "BERTH_TASKS_HELPER"

func init() {
	if os.Getenv(helperEnv) != "" {
		// A goroutine that ends locked to its thread ends the thread, unless
		// it is the process's first: that one is taken here.
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "commands":
		obey(os.Stdin, os.Stdout)
	case "few-descriptors":
		finish(fewDescriptors())
	case "hidepid":
		finish(hidepid())
	}
}

func finish(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// hand is a thread of the helper that does what it is told.
type hand struct {
	tid   int
	tasks chan func() error
	done  chan error
}

func newHand(name string) *hand {
	h := &hand{tasks: make(chan func() error), done: make(chan error)}
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		h.tid = unix.Gettid()
		os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", h.tid), []byte(name), 0)
		close(ready)
		for task := range h.tasks {
			h.done <- task()
		}
	}()
	<-ready
	return h
}

func (h *hand) do(task func() error) error {
	h.tasks <- task
	return <-h.done
}

// burn uses CPU time of the calling thread.
func burn(d time.Duration) {
	used := func() time.Duration {
		var ts unix.Timespec
		unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
		return time.Duration(ts.Nano())
	}
	for end := used() + d; used() < end; {
		for range 1000 {
			runtime.KeepAlive(d)
		}
	}
}

// obey reads a command a line and answers each with a line.
func obey(in io.Reader, out io.Writer) {
	runtime.GOMAXPROCS(max(8, runtime.NumCPU())) // a burning hand must not keep the others waiting
	hands := map[string]*hand{}
	var children []*helper
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		who, what, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(what)
		answer := "done"
		var err error
		switch verb {
		case "thread": // NAME: a new thread; answers with its number
			name, unquoteErr := strconv.Unquote(rest)
			h := newHand(name)
			hands[name], err = h, unquoteErr
			answer = strconv.Itoa(h.tid)
		case "burn": // NAME MILLISECONDS of CPU time
			err = hands[who].do(func() error { burn(time.Duration(n) * time.Millisecond); return nil })
		case "pin": // NAME CPU
			err = hands[who].do(func() error {
				m := cpuset.Of(cpuset.CPU(n)).Unix()
				return unix.SchedSetaffinityDynamic(0, m)
			})
		case "end": // NAME: the thread ends
			close(hands[who].tasks)
		case "storm": // x COUNT: that many threads, all at once, that end as soon as all are there
			var all sync.WaitGroup
			all.Add(n)
			for range n {
				go func() {
					runtime.LockOSThread()
					all.Done()
					all.Wait()
				}()
			}
			all.Wait()
		case "child": // a new process; answers with its number
			var c *helper
			if c, err = startHelper(); err == nil {
				children = append(children, c)
				answer = strconv.Itoa(c.pid)
			}
		case "orphan": // the last child ends
			children[len(children)-1].stop()
		case "exec": // NAME: that thread turns the process into one that sleeps
			path, pathErr := exec.LookPath("sleep")
			if err = pathErr; err == nil {
				err = hands[who].do(func() error { return unix.Exec(path, []string{"sleep", "60"}, nil) })
			}
		}
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Fprintln(out, answer)
	}
	for _, c := range children {
		c.stop()
	}
}

// helper is a process under a test's command.
type helper struct {
	pid     int
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Scanner
	stopped bool
}

func helperCommand(part string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+part)
	cmd.Stderr = os.Stderr
	return cmd
}

func startHelper() (*helper, error) {
	h := &helper{cmd: helperCommand("commands")}
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.answers = bufio.NewScanner(out)
	h.pid = h.cmd.Process.Pid
	return h, nil
}

func newHelper(t testing.TB) *helper {
	t.Helper()
	h, err := startHelper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		h.stop()
	})
	return h
}

// stop ends the process and waits for it.
func (h *helper) stop() {
	if !h.stopped {
		h.stopped = true
		h.in.Close()
		h.cmd.Wait()
	}
}

// do gives a command and returns the answer.
func (h *helper) do(t testing.TB, format string, args ...any) string {
	t.Helper()
	fmt.Fprintf(h.in, format+"\n", args...)
	if !h.answers.Scan() {
		t.Fatalf("the helper ended at %q: %v", fmt.Sprintf(format, args...), h.answers.Err())
	}
	if strings.HasPrefix(h.answers.Text(), "error") {
		t.Fatalf("%s: %s", fmt.Sprintf(format, args...), h.answers.Text())
	}
	return h.answers.Text()
}

// thread makes a thread of that name and returns its number.
func (h *helper) thread(t testing.TB, name string) int {
	t.Helper()
	tid, err := strconv.Atoi(h.do(t, "thread %s", strconv.Quote(name)))
	if err != nil {
		t.Fatal(err)
	}
	return tid
}

// await tries until it holds: what another process does cannot be ordered
// otherwise.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 4000 {
		if holds() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

// tree writes files below a directory; tests change it as the kernel would.
type tree struct {
	t   testing.TB
	dir string
}

func (r tree) write(name, content string) {
	r.t.Helper()
	path := r.dir + "/" + name
	if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r tree) remove(name string) {
	r.t.Helper()
	if err := os.RemoveAll(r.dir + "/" + name); err != nil {
		r.t.Fatal(err)
	}
}

// task is one thread of a tree.
type task struct {
	pid, tid, parent int
	name, state      string
	onCPU, delay     int // ns
	slices, ticks    int
	start, cpu       int
	allowed          string
	switches, moves  int
}

func (k task) write(r tree) {
	stat := func(id int) string {
		return fmt.Sprintf("%d (%s) %s %d 0 0 0 0 0 10 0 1 0 %d 0 0 0 20 0 1 0 %d 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 %d 0 0 0\n",
			id, k.name, k.state, k.parent, k.ticks, k.start, k.cpu)
	}
	status := fmt.Sprintf("Name:\t%s\nTgid:\t%d\nUid:\t7\t8\t7\t7\nCpus_allowed_list:\t%s\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t1\n",
		k.name, k.pid, k.allowed, k.switches)
	dir := fmt.Sprintf("%d/task/%d/", k.pid, k.tid)
	r.write(dir+"stat", stat(k.tid))
	r.write(dir+"status", status)
	r.write(dir+"schedstat", fmt.Sprintf("%d %d %d\n", k.onCPU, k.delay, k.slices))
	r.write(dir+"sched", fmt.Sprintf("se.nr_migrations : %d\n", k.moves))
	if k.pid == k.tid {
		r.write(fmt.Sprintf("%d/stat", k.pid), stat(k.pid))
		r.write(fmt.Sprintf("%d/status", k.pid), status)
		r.write(fmt.Sprintf("%d/cmdline", k.pid), k.name+"\x00-x\x00")
	}
}
