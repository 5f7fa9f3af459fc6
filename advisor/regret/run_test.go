//go:build lab

package regret

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The file of a program's counts: cells of 64 bytes, a number of 8 in each.
const (
	cellCount = 256
	cellBytes = 64
)

// running is a program that was started for a look.
type running struct {
	cmd       *exec.Cmd
	dir       string
	ended     chan struct{}
	meter     meter
	fed, gave atomic.Int64 // bytes that it took and gave
	pipes     []*os.File
	group     string
}

// starter starts programs on one thread for good: the kernel ends them with it
// (prctl(2), PR_SET_PDEATHSIG).
var starter = func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
}()

// startProcess starts a command in a process group of its own.
func startProcess(cmd *exec.Cmd) (err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	done := make(chan struct{})
	starter <- func() { err = cmd.Start(); close(done) }
	<-done
	return err
}

// prepare makes the directory that a program runs in, and its environment.
func (l *lab) prepare(p *program) (dir string, environment []string, err error) {
	if dir, err = os.MkdirTemp(l.Dir, "run-"); err != nil {
		return "", nil, err
	}
	counter := filepath.Join(dir, "counter")
	if err := os.WriteFile(counter, make([]byte, cellCount*cellBytes), 0o600); err != nil {
		return dir, nil, err
	}
	return dir, append(os.Environ(), "COUNTER="+counter, "DATA="+dir, "SERVICE="+l.Service), nil
}

// start starts a program with n workers; stop must follow.
func (l *lab) start(p *program, n int) (*running, error) {
	dir, environment, err := l.prepare(p)
	r := &running{dir: dir, meter: p.meter, ended: make(chan struct{})}
	if err != nil {
		r.clean()
		return nil, err
	}
	var group []string
	if p.quota > 0 {
		if r.group, err = makeGroup(p.quota); err != nil {
			r.clean()
			return nil, err
		}
		group = within(r.group)
	}
	words := append(group, p.command(l, n)...)
	r.cmd = exec.Command(words[0], words[1:]...)
	r.cmd.Dir, r.cmd.Env = dir, environment
	said, err := os.Create(filepath.Join(dir, "errors"))
	if err != nil {
		r.clean()
		return nil, err
	}
	defer said.Close()
	r.cmd.Stderr = said
	if p.meter == stream {
		from, to, err1 := os.Pipe()
		back, into, err2 := os.Pipe()
		r.pipes = []*os.File{to, back}
		defer from.Close()
		defer into.Close()
		if err := errors.Join(err1, err2); err != nil {
			r.clean()
			return nil, err
		}
		r.cmd.Stdin, r.cmd.Stdout = from, into
	}
	if err := startProcess(r.cmd); err != nil {
		r.clean()
		return nil, err
	}
	if r.pipes != nil {
		go feed(r.pipes[0], &r.fed)
		go drain(r.pipes[1], &r.gave)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	return r, nil
}

// stop ends the program with all that it started.
func (r *running) stop() {
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.ended
	r.clean()
}

func (r *running) clean() {
	for _, f := range r.pipes {
		f.Close()
	}
	if r.group != "" {
		removeGroup(r.group)
	}
	_ = os.RemoveAll(r.dir)
}

// text is what xz and zstd compress: words, in an order that does not repeat
// within their windows.
var text = sync.OnceValue(func() []byte {
	words := strings.Fields("thread core cache page lock queue wait wake sleep run stop node place seat count share quota")
	var b bytes.Buffer
	x := uint64(88172645463325252)
	for b.Len() < 8<<20 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteString(words[x%uint64(len(words))])
		b.WriteString(strconv.FormatUint(x>>40&0xffff, 36))
		b.WriteByte(" \n"[x>>60&1])
	}
	return b.Bytes()
})

// feed writes the text over and over, until nobody reads.
func feed(to *os.File, taken *atomic.Int64) {
	data := text()
	for at := 0; ; {
		n, err := to.Write(data[at:min(at+64<<10, len(data))])
		if taken != nil {
			taken.Add(int64(n))
		}
		if err != nil {
			return
		}
		if at += n; at == len(data) {
			at = 0
		}
	}
}

func drain(from *os.File, given *atomic.Int64) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		given.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// mark is a moment and the units that were done until then.
type mark struct {
	at    time.Time
	units float64
}

// look reads how far the program is. Of a log of transactions only whether there
// are any is known at once.
func (r *running) look() (mark, error) {
	select {
	case <-r.ended:
		return mark{}, fmt.Errorf("%s ended by itself: %s", r.cmd.Path, r.tail())
	default:
	}
	m := mark{at: time.Now()}
	switch r.meter {
	case stream:
		if r.gave.Load() > 0 { // until then it fills its buffers
			m.units = float64(r.fed.Load()) / (1 << 20)
		}
	case log:
		name, err := r.log()
		if err != nil {
			return m, err
		}
		if s, err := os.Stat(name); err == nil {
			m.units = float64(s.Size())
		}
	default:
		all, err := os.ReadFile(filepath.Join(r.dir, "counter"))
		if err != nil {
			return m, err
		}
		for ; len(all) >= cellBytes; all = all[cellBytes:] {
			m.units += float64(binary.NativeEndian.Uint64(all))
		}
	}
	return m, nil
}

// between are the units per second from one look to a later one.
func (r *running) between(a, b mark) (float64, error) {
	if r.meter != log {
		if b.units == a.units {
			return 0, fmt.Errorf("nothing was done in %s", b.at.Sub(a.at))
		}
		return (b.units - a.units) / b.at.Sub(a.at).Seconds(), nil
	}
	name, err := r.log()
	if err != nil {
		return 0, err
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// A line is client, transaction, µs that it took, script, and the second and
	// µs at which it ended (pgbench(1), per-transaction logging). The last ones
	// are not written out yet.
	from, n, first, last := float64(a.at.UnixMicro())/1e6, 0, 0.0, 0.0
	to := float64(b.at.UnixMicro()) / 1e6
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 6 {
			break
		}
		second, err1 := strconv.ParseFloat(words[4], 64)
		us, err2 := strconv.ParseFloat(words[5], 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		at := second + us/1e6
		if at < from || at > to {
			continue
		}
		if n++; n == 1 {
			first = at
		}
		last = at
	}
	if last <= first {
		return 0, fmt.Errorf("%d transactions were logged in %s", n, b.at.Sub(a.at))
	}
	return float64(n-1) / (last - first), nil
}

func (r *running) log() (string, error) {
	names, err := filepath.Glob(filepath.Join(r.dir, transactions+".*"))
	if err != nil || len(names) == 0 {
		return "", err
	}
	return names[0], nil
}

func (r *running) tail() string {
	all, _ := os.ReadFile(filepath.Join(r.dir, "errors"))
	s := strings.TrimSpace(string(all))
	if len(s) > 500 {
		s = "…" + s[len(s)-500:]
	}
	return s
}

// patience is how long a program may take for its first unit.
const patience = 30 * time.Second

// begin waits for the first unit and then lets the program warm up.
func (r *running) begin(warm time.Duration, stop <-chan struct{}) (mark, error) {
	for end := time.Now().Add(patience); ; {
		m, err := r.look()
		if err != nil {
			return m, err
		}
		if m.units > 0 {
			break
		}
		if time.Now().After(end) {
			return m, fmt.Errorf("nothing was done within %s: %s", patience, r.tail())
		}
		if pause(10*time.Millisecond, stop) {
			return m, errors.New("stopped before the first unit was done")
		}
	}
	if pause(warm, stop) {
		return mark{}, errors.New("stopped within the warm-up")
	}
	return r.look()
}

// pause waits, and reports whether it was stopped.
func pause(d time.Duration, stop <-chan struct{}) bool {
	select {
	case <-time.After(d):
		return false
	case <-stop:
		return true
	}
}

// Control groups with a quota, by the kernel's own files.

const period = 100_000 // µs

func makeGroup(cpus float64) (string, error) {
	name := fmt.Sprintf("regret-%d-%d", os.Getpid(), time.Now().UnixNano())
	quota := strconv.Itoa(int(cpus * period))
	for _, root := range []struct {
		dir, file, text string
	}{
		{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", quota},
		{"/sys/fs/cgroup", "cpu.max", quota + " " + strconv.Itoa(period)},
	} {
		dir := filepath.Join(root.dir, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, root.file), []byte(root.text), 0)
		if err == nil {
			return dir, nil
		}
		removeGroup(dir)
	}
	return "", fmt.Errorf("no control group with a quota of %g CPUs can be made: %w", cpus, fs.ErrPermission)
}

// within is the beginning of a command that runs in a group.
func within(group string) []string {
	return []string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group}
}

func removeGroup(dir string) {
	for range 100 {
		if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond) // ended processes leave a little later
	}
}
