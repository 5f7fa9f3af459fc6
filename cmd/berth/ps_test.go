//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"berth/affinity"
	"berth/probe"
	"berth/probe/cpuset"
	"berth/probe/finding"
	"berth/probe/tasks"
)

// sitter is a thread made up.
type sitter struct {
	pid, tid      int
	process, name string
	state         tasks.State
	cpu           cpuset.CPU
	allowed       string
	on, wait      float64
	memory        map[int]int64
}

// seenOn is what ps sees of threads on a machine whose CPUs programs used for
// such shares of a second, and interrupts.
func seenOn(m *probe.Machine, programs, interrupts map[cpuset.CPU]float64, sitters []sitter) (*psDocument, psShape) {
	l := &lookout{topology: &m.Topology}
	l.shape, l.llc = shapeOf(l.topology)
	o := affinity.Occupancy{Topology: l.topology, Spent: map[cpuset.CPU]tasks.CPUTimes{}}
	for c := range l.topology.Online.All() {
		user, irq := time.Duration(programs[c]*float64(time.Second)), time.Duration(interrupts[c]*float64(time.Second))
		o.Spent[c] = tasks.CPUTimes{User: user, SoftIRQ: irq, Idle: time.Second - user - irq}
	}
	now := time.Date(2026, 5, 4, 12, 34, 56, 0, time.UTC)
	d := &psDocument{Schema: psSchema, MeasuredAt: now, IntervalS: 1, Verdict: affinity.Measured, Threads: []psThread{}, Findings: []finding.Finding{}}
	at := l.seats()
	for _, s := range sitters {
		who := affinity.Occupant{CPU: s.cpu, Allowed: cpus(s.allowed), OnCPU: s.on, Waiting: s.wait, Memory: s.memory}
		w := &tasks.Watched{Migrations: -1}
		w.PID, w.TID, w.Name, w.State, w.CPU = s.pid, s.tid, s.name, s.state, s.cpu
		o.Threads = append(o.Threads, who)
		d.Threads = append(d.Threads, l.thread(w, &who, s.process, at, now))
	}
	for i, c := range o.Conflicts() {
		d.Threads[i].Conflicts = c
	}
	d.Noise = o.Noise()
	return d, l.shape
}

// unhappy is a machine with all sorts of conflicts.
func unhappy(t *testing.T) (*psDocument, psShape) {
	m := epyc(t)
	m.Topology.Offline = cpus("128-129")
	far := map[int]int64{0: 1 << 30, 1: 3 << 30}
	d, shape := seenOn(m,
		map[cpuset.CPU]float64{0: 1, 64: 0.9, 1: 1, 2: 0.7, 40: 1},
		map[cpuset.CPU]float64{2: 0.25},
		[]sitter{
			{4711, 4711, "server", "server", 'S', 3, "0-63,64-127", 0, 0, nil},
			{4711, 4712, "server", "worker-0", 'R', 0, "0", 0.5, 0.5, nil},
			{4711, 4713, "server", "worker-1", 'R', 0, "0-127", 0.5, 0.5, nil},
			{4711, 4714, "server", "worker-2", 'R', 64, "0,64", 0.9, 0, nil},
			{4711, 4715, "server", "flusher", 'S', 3, "0-127", 0.02, 0.004, nil},
			{81234, 81234, "etl", "etl", 'R', 1, "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,1", 1, 0, far},
			{90001, 90001, "packets-in-\x1b[31m", "packets-in-\x1b[31m", 'R', 2, "2", 0.7, 0, nil},
			{90002, 90002, "calm", "a\xffb", 'R', 40, "32-63", 1, 0, nil},
			{90003, 90003, "lost", "lost", 'S', 128, "128-129", 0, 0, nil},
			{90004, 90004, "?", "", 'D', -1, "", -1, -1, nil},
		})
	d.Noise.ThrottledMS = ref(12.5)
	d.Verdict = affinity.Inconclusive
	d.Findings = []finding.Finding{{Code: "memory-unreadable", Severity: finding.Warning,
		Message: "Where the memory of some processes lies is not known.", Evidence: []string{"process 90001 (packets-in)"}}}
	return d, shape
}

func TestPsView(t *testing.T) {
	hybrid, hybridShape := seenOn(laptop(), map[cpuset.CPU]float64{0: 1, 1: 1, 8: 0.5}, nil, []sitter{
		{100, 100, "make", "make", 'S', 3, "0-15", 0, 0, nil},
		{100, 101, "make", "cc1", 'R', 0, "0-15", 1, 0, nil},
		{100, 102, "make", "cc1plus", 'R', 1, "0-15", 1, 0, nil},
		{200, 200, "indexer", "indexer", 'R', 8, "8-15", 0.5, 0, nil},
	})
	calm, calmShape := seenOn(tiny(t), nil, nil, []sitter{{1, 1, "init", "init", 'S', 0, "0", 0, 0, nil}, {7, 7, "sh", "sh", 'S', 0, "0", 0, 0, nil}})
	nobody, nobodyShape := seenOn(tiny(t), nil, nil, nil)
	bare, bareShape := seenOn(noTopology(), map[cpuset.CPU]float64{2: 1}, nil, []sitter{{7, 7, "sh", "sh", 'R', 2, "0-3", 0.5, 0.5, nil}})
	bad, badShape := unhappy(t)
	for name, v := range map[string]*psView{
		"unhappy":      {psDocument: bad, shape: badShape},
		"unhappy-idle": {psDocument: bad, shape: badShape, idle: true, clock: true},
		"hybrid":       {psDocument: hybrid, shape: hybridShape},
		"calm":         {psDocument: calm, shape: calmShape},
		"nobody":       {psDocument: nobody, shape: nobodyShape},
		"bare":         {psDocument: bare, shape: bareShape},
	} {
		for _, width := range []int{40, 80, 100, 200} {
			t.Run(fmt.Sprint(name, width), func(t *testing.T) {
				got := v.text(screen{width: width}, 0)
				if width != 40 || name == "unhappy" {
					golden(t, fmt.Sprintf("ps-%s.%d.txt", name, width), got)
				}
				for l := range strings.Lines(got) {
					if n := runes(strings.TrimSuffix(l, "\n")); n > width {
						t.Errorf("%d columns wide: %q", n, l)
					}
					if strings.Contains(l, "\x1b") || !utf8.ValidString(l) {
						t.Errorf("a name reaches the terminal: %q", l)
					}
				}
				coloured := v.text(screen{width: width, colour: true}, 0)
				for _, code := range []string{bold, dim, yellow, plain} {
					coloured = strings.ReplaceAll(coloured, code, "")
				}
				if diff := cmp.Diff(got, coloured); diff != "" {
					t.Errorf("colour changes more than colour (-plain +coloured)\n%s", diff)
				}
			})
		}
	}
}

// A picture keeps to the lines of its screen, and says what it left out.
func TestPsLines(t *testing.T) {
	var sitters []sitter
	for i := range 200 {
		sitters = append(sitters, sitter{100, 100 + i, "many", fmt.Sprint("hand", i), 'R', cpuset.CPU(i % 128), "0-127", 0.6, 0.4, nil})
	}
	programs := map[cpuset.CPU]float64{}
	for c := range cpuset.CPU(128) {
		programs[c] = 1
	}
	d, shape := seenOn(epyc(t), programs, nil, sitters)
	for _, width := range []int{60, 100, 200} {
		for _, lines := range []int{15, 24, 60} {
			got := (&psView{psDocument: d, shape: shape}).text(screen{width: width}, lines)
			if n := strings.Count(got, "\n"); n > lines {
				t.Errorf("%d lines do not fit %d of %d columns:\n%s", n, lines, width, got)
			}
			shown := strings.Count(got, "hand")
			if want := fmt.Sprintf("… and %d more threads\n", 200-shown); shown == 0 || !strings.Contains(got, want) {
				t.Errorf("%d threads are shown of 200, and %q is not said:\n%s", shown, want, got)
			}
		}
	}
}

func TestPsJSON(t *testing.T) {
	namesAll(t, "ps", reflect.TypeFor[psDocument]())
	d, _ := unhappy(t)
	text := jsonOf(t, d)
	golden(t, "ps-unhappy.json", text)
	schema := compiledSchemas(t)[psSchema]
	valid := func(text string) error {
		var doc any
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(doc)
	}
	if err := valid(text); err != nil {
		t.Errorf("%#v", err)
	}
	for _, change := range [][2]string{
		{`"schema": "berth.ps/v1"`, `"schema": "berth.ps/v2"`},
		{`"allowed": "0"`, `"allowed": ""`},
		{`"state": "R"`, `"state": "running"`},
		{`"cpu": 0`, `"cpu": "0"`},
		{`"conflicts": []`, `"conflicts": null`},
		{`"on_cpu_pct": 50`, `"on_cpu_pct": 500`},
		{`"verdict": "inconclusive"`, `"verdict": "maybe"`},
	} {
		bad := strings.Replace(text, change[0], change[1], 1)
		if bad == text {
			t.Errorf("%q is not in the output", change[0])
		} else if valid(bad) == nil {
			t.Errorf("%s passes", change[1])
		}
	}
}

// What a thread did in an interval, from what the kernel said at its ends.
func TestOccupant(t *testing.T) {
	m := described(t, "", "core:4 pu:1")
	began := time.Unix(1000, 0)
	now := began.Add(2 * time.Second)
	stat := func(on, delay, slices int) tasks.SchedStat {
		return tasks.SchedStat{OnCPU: time.Duration(on) * time.Millisecond, RunDelay: time.Duration(delay) * time.Millisecond, Timeslices: int64(slices)}
	}
	// A reading is what was used since the watch began, and the kernel's own count.
	at := func(when time.Time, state tasks.State, used, account tasks.SchedStat) reading {
		return reading{at: when, state: state, used: tasks.Counters{SchedStat: used}, account: account}
	}
	coarse := tasks.SchedStat{OnCPU: 500 * time.Millisecond, RunDelay: -1, Timeslices: -1}
	for name, c := range map[string]struct {
		was           *reading
		used, account tasks.SchedStat
		cpu           cpuset.CPU
		on, waiting   float64
	}{
		"half and a quarter":          {ref(at(began, 'R', stat(500, 100, 1), stat(800, 900, 5))), stat(1500, 600, 9), stat(1800, 1400, 13), 0, 0.5, 0.25},
		"never on a CPU, yet ready":   {ref(at(began, 'R', stat(0, 0, 0), stat(7, 7, 7))), stat(0, 0, 0), stat(7, 7, 7), 0, 0, 1},
		"the same where no tick is":   {ref(at(began, 'R', stat(0, 0, 0), stat(7, 7, 7))), stat(0, 0, 0), stat(7, 7, 7), 3, -1, -1},
		"it slept":                    {ref(at(began, 'S', stat(0, 0, 0), stat(7, 7, 7))), stat(0, 0, 0), stat(7, 7, 7), 0, 0, 0},
		"a wait of earlier times too": {ref(at(began, 'R', stat(0, 0, 0), stat(1, 1, 1))), stat(500, 9000, 1), stat(501, 9001, 2), 0, 0.25, 0.75},
		"followed a second ago":       {ref(at(began.Add(time.Second), 'R', stat(0, 0, 0), stat(1, 1, 1))), stat(500, 500, 9), stat(501, 501, 10), 0, 0.5, 0.5},
		"born meanwhile":              {nil, stat(500, 1000, 2), stat(500, 1000, 2), 0, 0.25, 0.5},
		"waiting is not counted":      {ref(at(began, 'R', tasks.SchedStat{OnCPU: 0, RunDelay: -1, Timeslices: -1}, coarse)), coarse, coarse, 0, 0.25, -1},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lookout{topology: &m.Topology, began: began, was: map[threadID]reading{}}
			l.topology.NohzFull = ref(cpus("3"))
			w := &tasks.Watched{Used: tasks.Counters{SchedStat: c.used}}
			w.TID, w.State, w.CPU, w.SchedStat, w.Allowed = -1, 'R', c.cpu, c.account, cpus("0-3,9")
			if c.was != nil {
				l.was[identity(w)] = *c.was
			}
			got := l.occupant(w, now)
			if got.OnCPU != c.on || got.Waiting != c.waiting || !got.Allowed.Equal(w.Allowed) {
				t.Errorf("on %v, waiting %v, allowed %s; want %v, %v", got.OnCPU, got.Waiting, got.Allowed, c.on, c.waiting)
			}
		})
	}
}

// spin starts a process that is busy on one CPU, under a name of its own.
func spin(t *testing.T, cpu cpuset.CPU, name string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "while :; do :; done", name)
	l, err := affinity.NewLauncher()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Start(cmd, affinity.Seat{CPUs: cpuset.Of(cpu)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func lastCPU(t *testing.T) cpuset.CPU {
	t.Helper()
	allowed, err := probe.Affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	return allowed.Last()
}

// ps runs the command in this process.
func ps(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	if status := run(append([]string{"ps"}, args...), &out, &errors); status != want {
		t.Fatalf("ps %s: status %d, want %d: %s", strings.Join(args, " "), status, want, errors.String())
	}
	return out.String(), errors.String()
}

func TestPsQueued(t *testing.T) {
	cpu := lastCPU(t)
	first, second := spin(t, cpu, "ps-test"), spin(t, cpu, "ps-test")
	text, _ := ps(t, 0, "--pid", fmt.Sprintf("%d,%d", first, second), "-o", "json")
	var d psDocument
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Threads) != 2 || d.Threads[0].PID != min(first, second) {
		t.Fatalf("want the two processes:\n%s", text)
	}
	for _, th := range d.Threads {
		if th.CPU == nil || *th.CPU != cpu || th.Allowed == nil || !th.Allowed.Equal(cpuset.Of(cpu)) || !th.Busy || th.Name != "sh" || th.TID != th.PID {
			t.Errorf("%+v", th)
		}
		if len(th.Conflicts) == 0 || th.Conflicts[0] != affinity.Queued {
			t.Errorf("two busy threads on CPU %d: %v", cpu, th.Conflicts)
		}
	}
	// One of them alone still has to queue.
	text, _ = ps(t, 0, "--pid", strconv.Itoa(first))
	if !strings.Contains(text, "1 of 1 thread busy") || !strings.Contains(text, "\n! queued  ") {
		t.Errorf("want the conflict and what it means:\n%s", text)
	}
}

func TestPsNobody(t *testing.T) {
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	gone := strconv.Itoa(child.Process.Pid)
	out, err := ps(t, 1, "--pid", gone)
	if out != "" || !strings.Contains(err, "berth: read process "+gone+": not there") {
		t.Errorf("%q, %q", out, err)
	}
	// The others are shown all the same.
	out, err = ps(t, 1, "--interval", "10ms", "--idle", "--pid", gone+","+strconv.Itoa(os.Getpid()))
	if !strings.Contains(out, " "+strconv.Itoa(os.Getpid())+"  ") || !strings.Contains(err, "read process "+gone) {
		t.Errorf("%s\n%s", out, err)
	}
	// The number of a thread is not that of a process.
	tid := make(chan int)
	end := make(chan struct{})
	number := os.Getpid()
	for number == os.Getpid() { // the first may get the process's own
		go func() {
			runtime.LockOSThread()
			tid <- unix.Gettid()
			<-end
		}()
		number = <-tid
	}
	want := fmt.Sprintf("--pid %d is a thread of process %d", number, os.Getpid())
	if _, err = ps(t, 2, "--pid", strconv.Itoa(number)); !strings.Contains(err, want) {
		t.Error(err)
	}
	close(end)
}

// A process that starts while ps watches comes into view, and a signal ends it
// well.
func TestPsWatch(t *testing.T) {
	marker := fmt.Sprintf("ps-watch-%d", os.Getpid())
	watch := exec.Command("berth", "ps", "--watch", "--interval", "20ms", "--match", "^sh .*"+marker, "-o", "json")
	watch.Stderr = os.Stderr
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Process.Kill() }()
	seen := json.NewDecoder(out)
	next := func() *psDocument {
		d := &psDocument{}
		if err := seen.Decode(d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := next(); len(d.Threads) != 0 {
		t.Fatalf("nobody is called %s: %+v", marker, d.Threads)
	}
	pid := spin(t, lastCPU(t), marker)
	for len(next().Threads) == 0 { // the test's own time limit ends this
	}
	if d := next(); len(d.Threads) != 1 || d.Threads[0].PID != pid {
		t.Errorf("%+v, want process %d", d.Threads, pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for len(next().Threads) > 0 {
	}
	if err := watch.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	if err := watch.Wait(); err != nil {
		t.Errorf("after ^C: %v", err)
	}
}

// Named by number, the last process's end is the watch's.
func TestPsWatchEnds(t *testing.T) {
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	watch := exec.Command("berth", "ps", "-w", "-i", "20ms", "--pid", strconv.Itoa(child.Process.Pid))
	var blocks bytes.Buffer
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for strings.Count(blocks.String(), "1 thread busy") < 2 {
		n, err := out.Read(buf)
		blocks.Write(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	_ = child.Wait()
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	if err := watch.Wait(); err != nil {
		t.Error(err)
	}
	if text := blocks.String(); !strings.Contains(text, "\n\n") || strings.Contains(text, "\x1b") {
		t.Errorf("blocks with an empty line between, and no drawing:\n%q", text)
	}
}

// terminal makes a pseudo-terminal of a size (pts(4)).
func terminal(t *testing.T, columns, lines uint16) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminal to be had: ", err)
	}
	t.Cleanup(func() { ours.Close() })
	n, err := unix.IoctlGetUint32(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		t.Cleanup(func() { theirs.Close() })
		err = unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns})
	}
	if err != nil {
		t.Skip("no pseudo-terminal to be had: ", err)
	}
	return ours, theirs
}

func TestPsTerminal(t *testing.T) {
	for _, last := range []string{"q", "\x03"} {
		ours, theirs := terminal(t, 80, 24)
		before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		watch := exec.Command("berth", "ps", "--watch", "--interval", "20ms", "--idle")
		watch.Env = append(os.Environ(), "TERM=xterm", "COLUMNS=", "NO_COLOR=1")
		watch.Stdin, watch.Stdout, watch.Stderr = theirs, theirs, theirs
		watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := watch.Start(); err != nil {
			t.Fatal(err)
		}
		var drawn bytes.Buffer
		buf := make([]byte, 4096)
		until := func(what string, from int) {
			t.Helper()
			for !strings.Contains(drawn.String()[from:], what) {
				n, err := ours.Read(buf)
				drawn.Write(buf[:n])
				if err != nil {
					t.Fatalf("%v: %q has not come in %q", err, what, drawn.String())
				}
			}
		}
		send := func(keys string) int {
			t.Helper()
			at := drawn.Len()
			if _, err := ours.WriteString(keys); err != nil {
				t.Fatal(err)
			}
			return at
		}
		until("threads busy", 0)
		picture := drawn.String()
		if !strings.HasPrefix(picture, enterStage) {
			t.Errorf("%q does not begin with %q", picture, enterStage)
		}
		// ^Z gives the terminal back, and going on draws anew.
		at := send("\x1a")
		until(leaveStage, at)
		var status unix.WaitStatus
		if _, err := unix.Wait4(watch.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("after ^Z: %v, %#x", err, status)
		}
		if now, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS); err != nil || now.Lflag != before.Lflag {
			t.Errorf("after ^Z the terminal is %+v, %v; it was %+v", now, err, before)
		}
		at = drawn.Len()
		if err := watch.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		until(enterStage, at)
		until("threads busy", at)
		at = send("x" + last) // other keys do nothing
		until(leaveStage, at)
		if err := watch.Wait(); err != nil {
			t.Errorf("after %q: %v", last, err)
		}
		if now, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS); err != nil || now.Lflag != before.Lflag {
			t.Errorf("after %q the terminal is %+v, %v; it was %+v", last, now, err, before)
		}
		for _, frame := range strings.Split(drawn.String(), beginDrawing)[1:] {
			frame, _, _ = strings.Cut(frame, endDrawing)
			if n := strings.Count(frame, "\n") + 1; n > 24 {
				t.Errorf("%d lines do not fit the terminal: %q", n, frame)
			}
		}
	}
}
