//go:build lab

package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/probe"
)

var (
	berthFlag = flag.String("berth", "", "the command to test, already built")
	tolerance = flag.Float64("tolerance", 3, "how far, in per cent, what loops get may be from the budget")
	emulated  = flag.Bool("emulated", false, "this machine is emulated, and what keeps it from running cannot be seen in it")
	scratch   string // holds what is built
	above     = flag.Float64("above", 0, "a quota of a group above this test's, in CPUs")
)

// TestMain also plays the programs that run in the groups: "stand" waits for a
// line, makes of its namespaces what its options say and becomes another
// program; "busy" computes on several threads until its input ends.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "stand":
		err = stand(os.Args[2:])
	case len(os.Args) > 2 && os.Args[1] == "busy":
		err = busy(os.Args[2])
	default:
		if scratch, err = os.MkdirTemp("", "berth-lab-"); err == nil {
			status := m.Run()
			os.RemoveAll(scratch)
			os.Exit(status)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[0]+":", err)
		os.Exit(1)
	}
}

func stand(words []string) error {
	runtime.LockOSThread()
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	for len(words) > 1 {
		option, value, _ := strings.Cut(words[0], "=")
		var err error
		switch option {
		case "apart": // in a cgroup namespace
			err = unix.Unshare(unix.CLONE_NEWCGROUP)
		case "alone": // in a mount namespace
			if err = unix.Unshare(unix.CLONE_NEWNS); err == nil {
				err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
			}
		case "anew": // mounts a hierarchy where it was: TYPE,OPTION:POINT
			what, point, _ := strings.Cut(value, ":")
			kind, controllers, _ := strings.Cut(what, ",")
			if err = unix.Unmount(point, unix.MNT_DETACH); err == nil {
				err = unix.Mount(kind, point, kind, 0, controllers)
			}
		case "empty": // lies an empty file over one
			err = unix.Mount("/dev/null", value, "", unix.MS_BIND, "")
		default:
			return syscall.Exec(words[0], words, os.Environ())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", words[0], err)
		}
		words = words[1:]
	}
	return syscall.Exec(words[0], words, os.Environ())
}

// spun is written so that the loops are not empty.
var spun int

func busy(threads string) error {
	n, err := strconv.Atoi(threads)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(n + 1) // one reads
	for range n {
		go func() {
			runtime.LockOSThread()
			for n := 0; ; n++ {
				spun = n
			}
		}()
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process is a program in the lowest group of a chain.
type process struct {
	*exec.Cmd
	stdin       io.WriteCloser
	out, errors bytes.Buffer
}

// start starts a program in the chain, with options of "stand" before it.
func (c *chain) start(words ...string) *process {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(self, append([]string{"stand"}, words...)...)}
	p.Stdout, p.Stderr = &p.out, &p.errors
	if p.stdin, err = p.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	c.enter(p.Process.Pid)
	if _, err := p.stdin.Write([]byte("\n")); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// end lets the program end, and returns what it printed.
func (p *process) end(t *testing.T) string {
	t.Helper()
	p.stdin.Close()
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %v\n%s", p.Args[2:], err, p.errors.String())
	}
	return p.out.String()
}

var build = sync.OnceValues(func() (string, error) {
	name := filepath.Join(scratch, "berth")
	cmd := exec.Command("go", "build", "-o", name, "berth/cmd/berth")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build berth: %w\n%s", err, out)
	}
	return name, nil
})

// berth is the command to test.
func berth(t *testing.T) string {
	t.Helper()
	if *berthFlag != "" {
		return *berthFlag
	}
	name, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// inspect is what berth says in the lowest group.
func (c *chain) inspect(options ...string) *probe.Machine {
	c.t.Helper()
	text := c.start(append(options, berth(c.t), "inspect", "-o", "json")...).end(c.t)
	var m probe.Machine
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		c.t.Fatalf("%v\n%s", err, text)
	}
	return &m
}

// window is how long one measurement takes: a whole number of each period.
const window = time.Second

// got is the CPU time that busy threads get in the lowest group, per second: the
// median of some windows. Those that others may have cut short are measured
// again, and where that goes on, ok is false.
func (c *chain) got(budget float64) (median float64, ok bool) {
	c.t.Helper()
	cpus := runtime.NumCPU()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	p := c.start(self, "busy", strconv.Itoa(cpus))
	time.Sleep(700 * time.Millisecond)
	var all []float64
	windows := 3
	if *emulated { // its clock jumps after a halt, to either side
		windows = 9
	}
	for range 7 * windows {
		began, used, whole := time.Now(), cpuTime(c.t, p.Process.Pid), machineTime(c.t)
		time.Sleep(window)
		used, whole = cpuTime(c.t, p.Process.Pid)-used, machineTime(c.t)-whole
		length := time.Since(began).Seconds()
		// Less than the budget is no answer where others left no room beside it:
		// they may have taken it, nor in a machine that its host may have stopped.
		// More than the budget always is one. The kernel counts the others' time in
		// steps of 10 ms.
		share, others := used.Seconds()/length, (whole-used).Seconds()/length
		full := others > max(0.8*(float64(cpus)-budget), 0.015*float64(cpus))
		if share < budget*(1-*tolerance/100) && (full || *emulated) {
			continue
		}
		if all = append(all, share); len(all) == windows {
			break
		}
	}
	p.end(c.t)
	slices.Sort(all)
	if len(all) < windows {
		return 0, false
	}
	return all[windows/2], true
}

// cpuTime is the CPU time of a process, by its clock (clock_getcpuclockid(3)).
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// machineTime is the time that all CPUs were in use, or taken by the host, from
// the first line of /proc/stat.
func machineTime(t *testing.T) time.Duration {
	t.Helper()
	f, err := os.Open("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ticks int64
	for i, field := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, iowait, guests
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}
