//go:build linux

package python

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Interpreter is a Python that was found and answered.
type Interpreter struct {
	Path           string // of the program itself, as sys.executable has it
	Implementation string // as "CPython"
	Version        string // as "3.11.7"
	// FreeThreaded tells that it runs without the GIL, and not only that it was
	// built so that it could.
	FreeThreaded bool
	// SwitchInterval is for how long a thread has the GIL when others want it
	// (sys.getswitchinterval); 0 is unknown.
	SwitchInterval time.Duration
}

// ErrTooOld says that an interpreter is a Python, but of before 3.7.
var ErrTooOld = errors.New("too old a Python")

// patience is how long an interpreter may take to tell its version.
const patience = 20 * time.Second

// sign tells the answer from what a site's own start-up files may print.
const sign = "berth-python "

// ask is written so that Python 2 understands it.
const ask = `import sys, json, platform
print("` + sign + `" + json.dumps({
    "executable": sys.executable or "",
    "implementation": platform.python_implementation(),
    "version": platform.python_version(),
    "major": sys.version_info[0],
    "minor": sys.version_info[1],
    "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
    "switch_interval": getattr(sys, "getswitchinterval", lambda: 0)(),
}))`

type identity struct {
	Executable     string  `json:"executable"`
	Implementation string  `json:"implementation"`
	Version        string  `json:"version"`
	Major          int     `json:"major"`
	Minor          int     `json:"minor"`
	GIL            bool    `json:"gil"`
	SwitchInterval float64 `json:"switch_interval"` // seconds
}

// Open asks one interpreter what it is: a path, or a name to look for on PATH.
// The error quotes what it printed if it is no Python, or wraps [ErrTooOld],
// [exec.ErrNotFound] or ctx's.
func Open(ctx context.Context, path string) (Interpreter, error) {
	name := path
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return Interpreter{}, fmt.Errorf("find the Python %q: %w", name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %v", patience))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-E", "-s"}, append(lock(), "-c", ask)...)...)
	cmd.Dir = "/" // whose files nobody takes for modules
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second // for a child of it that keeps the pipes open
	stderr := &tail{}
	cmd.Stderr = stderr
	stdout := &tail{}
	cmd.Stdout = stdout
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return Interpreter{}, fmt.Errorf("ask %s for its version: %w%s", path, context.Cause(ctx), printed(stdout, stderr))
	case err != nil:
		return Interpreter{}, fmt.Errorf("ask %s for its version: %w%s", path, err, printed(stdout, stderr))
	}
	id, err := parseIdentity(stdout.String())
	if err != nil {
		return Interpreter{}, fmt.Errorf("%s does not answer as a Python would: %w%s", path, err, printed(stdout, stderr))
	}
	if id.Major < 3 || id.Major == 3 && id.Minor < 7 {
		return Interpreter{}, fmt.Errorf("%s is %s %s, and 3.7 is the least: %w", path, id.Implementation, id.Version, ErrTooOld)
	}
	if filepath.IsAbs(id.Executable) {
		path = id.Executable
	}
	return Interpreter{path, id.Implementation, id.Version, !id.GIL, seconds(id.SwitchInterval)}, nil
}

// lock passes on PYTHON_GIL, which goes under with the other variables that
// could change how Python works.
func lock() []string {
	if v := os.Getenv("PYTHON_GIL"); v != "" {
		return []string{"-X", "gil=" + v}
	}
	return nil
}

func parseIdentity(output string) (id identity, err error) {
	for line := range strings.Lines(output) {
		if text, ok := strings.CutPrefix(line, sign); ok {
			if err := json.Unmarshal([]byte(text), &id); err != nil {
				return id, err
			}
			if id.Implementation == "" || id.Version == "" || id.SwitchInterval < 0 {
				return id, errors.New("the answer lacks a part")
			}
			return id, nil
		}
	}
	return id, errors.New("no answer was printed")
}

// Find looks for interpreters on PATH: python3, then python3.N and the
// free-threaded python3.Nt, the newest first, and python. Each real one comes
// once, however many names it has. Those that do not answer, or are older than
// 3.7, are left out; [Open] says why.
func Find(ctx context.Context) []Interpreter {
	names := candidates(filepath.SplitList(os.Getenv("PATH")))
	answers := make([]*Interpreter, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() {
			if p, err := Open(ctx, name); err == nil {
				answers[i] = &p
			}
		})
	}
	wait.Wait()
	var found []Interpreter
	seen := map[string]bool{}
	for _, p := range answers {
		if p == nil {
			continue
		}
		real, err := filepath.EvalSymlinks(p.Path)
		if err != nil {
			real = p.Path
		}
		if !seen[real] {
			seen[real] = true
			found = append(found, *p)
		}
	}
	return found
}

var pythonName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^python(?:3(?:\.(\d+)(t?))?)?$`) })

// candidates are the programs in some folders that are called like a Python, in
// the order of preference. Two that are links to the same file are both kept:
// it may be a dispatcher, which goes by the name it is called by.
func candidates(folders []string) []string {
	type candidate struct {
		path string
		rank int
	}
	var all []candidate
	seen := map[string]bool{}
	for _, folder := range folders {
		real, err := filepath.EvalSymlinks(folder)
		if err != nil || !filepath.IsAbs(folder) || seen[real] {
			continue
		}
		seen[real] = true
		entries, _ := os.ReadDir(folder) // one that cannot be read has nothing to offer
		for _, e := range entries {
			m := pythonName().FindStringSubmatch(e.Name())
			if m == nil {
				continue
			}
			path := filepath.Join(folder, e.Name())
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
				continue
			}
			c := candidate{path, 1} // python
			if e.Name() == "python3" {
				c.rank = -1 << 30
			} else if m[1] != "" {
				minor, _ := strconv.Atoi(m[1]) // a number by its form
				c.rank = -2 * minor
				if m[2] != "" {
					c.rank++
				}
			}
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return a.rank - b.rank })
	paths := make([]string, len(all))
	for i, c := range all {
		paths[i] = c.path
	}
	return paths
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
