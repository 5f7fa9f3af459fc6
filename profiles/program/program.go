//go:build linux

package program

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"berth/probe/tasks"
	"berth/profiles"
)

// Program is what runs in a process. What cannot be told is empty.
type Program struct {
	Runtime profiles.Runtime
	Why     string // what told the runtime
	// Guess: neither the program's file nor its mappings could be read, and the
	// runtime is that of programs with such a name.
	Guess   bool
	Version string // of the runtime, as go1.26.1 or 3.11; empty where it would cost more than a look
	Server  string // gunicorn, uvicorn, celery, nginx …
	// Settings are the numbers of workers and threads that it was told, from its
	// command line and from the environment that it was started with; a program
	// may have changed its mind since.
	Settings []Setting
}

// Setting is a number that a program was told, or goes by unasked.
type Setting struct {
	Name   string // of the variable or option, as GOMAXPROCS or --workers
	Value  string // as it was written; [Auto] where the program finds the number itself
	Source string // where it was found
}

// Auto is the value of a setting that the program finds by itself when it runs.
const Auto = "auto"

// mostMaps bounds how much of /proc/PID/maps is looked at: more than 65,530 lines,
// the most that the kernel allows unasked (vm.max_map_count).
const mostMaps = 16 << 20

// Of tells what runs in a process. The error wraps [tasks.ErrGone] where there
// is none of that number; what the kernel does not let this user see is no
// error.
func Of(p tasks.Proc, pid int) (*Program, error) {
	is, err := p.Process(pid)
	if err != nil {
		return nil, err
	}
	x := &Program{Server: server(is.Args, is.Name)}
	built := x.runtime(p, &is)
	x.Settings = commandSettings(x.Server, is.Args)
	environ, _ := p.ReadFile(strconv.Itoa(pid) + "/environ")
	x.Settings = append(x.Settings, environSettings(environ)...)
	if x.Runtime == profiles.Go {
		x.goProcs(p, pid, built, environ)
	}
	x.workers(p, &is)
	return x, nil
}

// path is that of a file of a process.
func path(p tasks.Proc, pid int, name string) string {
	if p == "" {
		p = "/proc"
	}
	return filepath.Join(string(p), strconv.Itoa(pid), name)
}

// runtime finds out what executes the program, and how it was built where that
// is Go.
func (x *Program) runtime(p tasks.Proc, is *tasks.Process) *goBuild {
	loaded, mapsErr := readMaps(path(p, is.PID, "maps"))
	exe := filepath.Base(strings.TrimSuffix(is.Exe, " (deleted)"))
	if is.Exe == "" && (mapsErr != nil || !loaded.any) {
		x.guess(is)
		return nil
	}
	if built := goBuildOf(path(p, is.PID, "exe")); built != nil {
		x.Runtime, x.Version, x.Why = profiles.Go, built.version, "its file was built by "+built.String()
		return built
	}
	if r, version := byName(exe); r != "" {
		x.Runtime, x.Version, x.Why = r, version, "its file is "+printable(exe)
		return nil
	}
	x.Runtime = profiles.Native
	switch {
	case mapsErr != nil:
		x.Why = fmt.Sprintf("its file %s belongs to no other runtime; what it loaded could not be read", printable(exe))
	case loaded.runtime == profiles.OpenMP && is.Threads < 2:
		x.Why = printable(loaded.library) + " is loaded, and unused: it has one thread"
	case loaded.runtime != "":
		x.Runtime, x.Version, x.Why = loaded.runtime, loaded.version, printable(loaded.library)+" is loaded"
	default:
		x.Why = fmt.Sprintf("its file %s and what it loaded belong to no other runtime", printable(exe))
	}
	return nil
}

// guess goes by the name of a program of which no more can be seen.
func (x *Program) guess(is *tasks.Process) {
	name := is.Name
	if len(is.Args) > 0 {
		name = is.Args[0]
	}
	r, version := byName(filepath.Base(name))
	switch x.Server {
	case "gunicorn", "uvicorn", "hypercorn", "celery":
		r = profiles.Python
	}
	if r == "" || len(is.Args) == 0 {
		return // as every thread of the kernel
	}
	x.Runtime, x.Version, x.Guess = r, version, true
	x.Why = fmt.Sprintf("a guess by its name, %s: its file and mappings may not be read", printable(name))
}

var pythonName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:python|pypy)(\d(?:\.\d+)?)?(t?)(?:d|m)?$`) })

// byName is the runtime whose interpreter has such a file name.
func byName(name string) (profiles.Runtime, string) {
	switch name {
	case "java":
		return profiles.Java, ""
	case "node", "nodejs":
		return profiles.Node, ""
	}
	if m := pythonName().FindStringSubmatch(name); m != nil {
		if m[2] != "" {
			return profiles.PythonFreeThreaded, m[1]
		}
		return profiles.Python, m[1]
	}
	return "", ""
}

// loaded is the runtime whose library is among a process's mappings.
type loaded struct {
	any              bool // there are mappings
	runtime          profiles.Runtime
	library, version string
}

func readMaps(name string) (loaded, error) {
	f, err := os.Open(name)
	if err != nil {
		return loaded{}, err
	}
	defer f.Close()
	return byMaps(io.LimitReader(f, mostMaps))
}

var pythonLibrary = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^libpython(\d(?:\.\d+)?)(t?)[a-z]*\.so`) })

// byMaps reads /proc/PID/maps (proc_pid_maps(5)). OpenMP's library is the last
// choice: other runtimes use it too.
func byMaps(maps io.Reader) (loaded, error) {
	var openMP, last string
	lines := bufio.NewScanner(maps)
	x := loaded{}
	for lines.Scan() {
		x.any = true
		line := lines.Text()
		i := strings.IndexByte(line, '/')
		if i < 0 || line[i:] == last {
			continue
		}
		last = line[i:]
		name := filepath.Base(strings.TrimSuffix(last, " (deleted)"))
		switch {
		case name == "libjvm.so":
			x.runtime, x.library = profiles.Java, name
			return x, nil
		case strings.HasPrefix(name, "libnode.so"):
			x.runtime, x.library = profiles.Node, name
			return x, nil
		case strings.HasPrefix(name, "libgomp.so"), strings.HasPrefix(name, "libgomp-"), strings.HasPrefix(name, "libomp.so"), strings.HasPrefix(name, "libiomp5.so"):
			openMP = name
		}
		if m := pythonLibrary().FindStringSubmatch(name); m != nil {
			x.runtime, x.library, x.version = profiles.Python, name, m[1]
			if m[2] != "" {
				x.runtime = profiles.PythonFreeThreaded
			}
			return x, nil
		}
	}
	if openMP != "" {
		x.runtime, x.library = profiles.OpenMP, openMP
	}
	return x, lines.Err()
}

func printable(s string) string { return strings.Trim(strconv.Quote(s), `"`) }
