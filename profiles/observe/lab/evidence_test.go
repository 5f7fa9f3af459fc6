//go:build lab

package lab

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"berth/profiles"
)

// evidence is what the kernel and strace tell of a program. All of it is read
// here: berth has no part in it.
type evidence struct {
	cpus        float64 // used, of the processes and of children that ended
	threads     int
	busy        int     // did at least a tenth of what the busiest did
	onCPU       float64 // share of busy threads' time, weighed by what they did
	delay       float64 // the same of waiting for a CPU (field 2 of schedstat, what pidstat calls %wait)
	voluntary   float64 // switches of busy threads per second
	connections int     // TCP connections open
	calls       []call  // longest first; those that ended while strace looked
	notes       []string
}

// call is a line of strace -c -w.
type call struct {
	name          string
	seconds       float64
	count, errors int
}

// waits is W/(W+C): what busy threads waited for other things than a CPU.
func (e *evidence) waits() float64 {
	return max(0, 1-e.onCPU-e.delay) / max(0.001, 1-e.delay)
}

func (e *evidence) note(format string, args ...any) {
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
}

// most says whether strace saw the most time in one of these calls.
func (e *evidence) most(names ...string) bool {
	return len(e.calls) > 0 && slices.Contains(names, e.calls[0].name)
}

func (e *evidence) String() string {
	text := fmt.Sprintf("%.2f CPUs by stat; %d of %d threads busy, on a CPU %.0f %%, waiting for one %.0f %%, W/(W+C) %.2f; %.0f voluntary switches/s",
		e.cpus, e.busy, e.threads, 100*e.onCPU, 100*e.delay, e.waits(), e.voluntary)
	if e.connections > 0 {
		text += fmt.Sprintf("; %d TCP connections", e.connections)
	}
	for i, c := range e.calls {
		if i == 3 {
			break
		}
		text += fmt.Sprintf("; strace -c: %s %.2f s in %d", c.name, c.seconds, c.count)
		if c.errors > 0 {
			text += fmt.Sprintf(" (%d failed)", c.errors)
		}
	}
	return strings.Join(append([]string{text}, e.notes...), "; ")
}

// threadTimes are a thread's counts, in seconds.
type threadTimes struct{ cpu, delay, voluntary float64 }

type counts struct {
	at      time.Time
	cpu     float64
	threads map[string]threadTimes
}

// tree is a process and, on request, its descendants.
func tree(pid int, children bool) []int {
	pids := []int{pid}
	if !children {
		return pids
	}
	parents := map[int]int{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		if f := statFields(path); f != nil {
			child, _ := strconv.Atoi(strings.Split(path, "/")[2])
			parents[child], _ = strconv.Atoi(f[1])
		}
	}
	for i := 0; i < len(pids); i++ {
		for child, parent := range parents {
			if parent == pids[i] {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// statFields are the fields of a stat file from the third on (proc(5)); nil
// when it is gone.
func statFields(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return nil
	}
	return fields
}

func ticks(fields ...string) float64 {
	sum := 0.0
	for _, f := range fields {
		n, _ := strconv.ParseFloat(f, 64)
		sum += n
	}
	return sum / 100 // USER_HZ
}

func count(pid int, children bool) counts {
	c := counts{at: time.Now(), threads: map[string]threadTimes{}}
	for _, pid := range tree(pid, children) {
		f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if f == nil {
			continue
		}
		c.cpu += ticks(f[11:13]...)
		if children {
			c.cpu += ticks(f[13:15]...)
		}
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, path := range paths {
			f := statFields(path + "/stat")
			if f == nil {
				continue
			}
			t := threadTimes{cpu: ticks(f[11:13]...)}
			if text, err := os.ReadFile(path + "/schedstat"); err == nil {
				if f := strings.Fields(string(text)); len(f) > 1 && f[0] != "0" { // exact, where a tick hides what short turns take
					t.cpu, _ = strconv.ParseFloat(f[0], 64)
					t.delay, _ = strconv.ParseFloat(f[1], 64)
					t.cpu /= 1e9
					t.delay /= 1e9
				}
			}
			if text, err := os.ReadFile(path + "/status"); err == nil {
				_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
				line, _, _ := strings.Cut(rest, "\n")
				t.voluntary, _ = strconv.ParseFloat(strings.TrimSpace(line), 64)
			}
			c.threads[path] = t
		}
	}
	return c
}

// collect watches a program for two seconds, and for another second and a half
// with strace where what it waits for matters.
func (b *bench) collect(pid int, s *subject) *evidence {
	b.Helper()
	before := count(pid, s.children)
	time.Sleep(2 * time.Second)
	after := count(pid, s.children)
	seconds := after.at.Sub(before.at).Seconds()
	e := &evidence{cpus: (after.cpu - before.cpu) / seconds, threads: len(after.threads)}
	most, seen := 0.0, 0.0
	for path, t := range after.threads {
		most = max(most, t.cpu-before.threads[path].cpu)
	}
	// Where none did as much as a tick of the clock, their switches tell who works.
	work := func(path string) float64 { return after.threads[path].cpu - before.threads[path].cpu }
	if most == 0 {
		work = func(path string) float64 { return after.threads[path].voluntary - before.threads[path].voluntary }
		for path := range after.threads {
			most = max(most, work(path))
		}
	}
	weights := 0.0
	for path, t := range after.threads {
		was := before.threads[path]
		cpu := t.cpu - was.cpu
		seen += cpu
		if did := work(path); did < most/10 || did == 0 {
			continue
		}
		e.busy++
		e.onCPU += cpu * min(1, cpu/seconds)
		e.delay += cpu * min(1, (t.delay-was.delay)/seconds)
		e.voluntary += (t.voluntary - was.voluntary) / seconds
		weights += cpu
	}
	if weights > 0 {
		e.onCPU /= weights
		e.delay /= weights
	}
	if e.cpus*seconds > 2*seen && e.cpus > 0.1 {
		e.note("most of it by processes that ended, one at a time")
		e.onCPU, e.delay, e.busy = e.cpus, 0, 1
	}
	e.connections = connections(tree(pid, s.children))
	switch s.class {
	case profiles.CPUBound, profiles.Throttled, profiles.Starved:
	default:
		e.calls = b.strace(pid, s.children)
	}
	return e
}

// strace tells in which system calls threads spent their time.
func (b *bench) strace(pid int, children bool) []call {
	if _, err := exec.LookPath("strace"); err != nil {
		b.Log("strace is not installed: what the threads wait for is not shown")
		return nil
	}
	table := filepath.Join(b.dir, "strace")
	args := []string{"-f", "-c", "-w", "-o", table}
	for _, pid := range tree(pid, children) {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.Command("strace", args...)
	b.check(cmd.Start())
	time.Sleep(1500 * time.Millisecond)
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	text, _ := os.ReadFile(table)
	var calls []call
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[len(f)-1] == "total" {
			continue
		}
		seconds, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			continue
		}
		c := call{name: f[len(f)-1], seconds: seconds}
		c.count, _ = strconv.Atoi(f[3])
		if len(f) > 5 {
			c.errors, _ = strconv.Atoi(f[4])
		}
		calls = append(calls, c)
	}
	// Each call is stopped by strace too: what the quickest kind takes on average,
	// unless all of them wait.
	stop := 50e-6
	for _, c := range calls {
		if c.count >= 100 {
			stop = min(stop, c.seconds/float64(c.count))
		}
	}
	for i := range calls {
		c := &calls[i]
		c.seconds = max(0, c.seconds-stop*float64(c.count))
	}
	slices.SortFunc(calls, func(a, b call) int { return cmp.Compare(b.seconds, a.seconds) })
	return calls
}

// connections counts the established TCP connections of processes.
func connections(pids []int) int {
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "01" {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	n := 0
	for _, pid := range pids {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && inodes[to] {
				n++
			}
		}
	}
	return n
}

var (
	eventCalls = []string{"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"}
	lockCalls  = []string{"futex", "semop", "semtimedop"}
)

// supports says why the evidence does not fit a class, or nil. A runtime that
// parks its threads waits for everything in the same calls.
func (e *evidence) supports(class profiles.Class, parks bool) error {
	fits := true
	switch class {
	case profiles.CPUBound:
		fits = e.cpus >= 0.5 && e.waits() <= 0.4
	case profiles.Mixed:
		fits = e.waits() > 0.4 && e.waits() < 0.6
	case profiles.IOBoundBlocking:
		fits = e.waits() >= 0.6 && e.cpus >= 0.005 && e.connections <= 3*max(1, e.busy)
	case profiles.IOBoundAsync:
		fits = e.waits() >= 0.6 && e.cpus >= 0.005 && e.connections >= 20 && (parks || e.calls == nil || e.most(eventCalls...))
	case profiles.GILBound:
		timedOut := slices.ContainsFunc(e.calls, func(c call) bool { return c.name == "futex" && c.errors > 0 })
		fits = e.busy >= 2 && e.cpus <= 1.15 && e.cpus >= 0.7 && e.onCPU <= 1.15/float64(e.busy)+0.1 && (e.calls == nil || e.most(lockCalls...) && timedOut)
	case profiles.LockBound:
		fits = parks || e.calls == nil || e.most(lockCalls...)
	case profiles.Idle:
		fits = e.cpus <= 0.02
	}
	if !fits {
		return fmt.Errorf("the evidence does not fit %s: %s", class, e)
	}
	return nil
}
