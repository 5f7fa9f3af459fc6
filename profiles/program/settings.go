//go:build linux

package program

import (
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// variables are those of the environment that say how many workers or threads
// there shall be.
var variables = []string{
	"GOMAXPROCS", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
	"VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS",
	"UV_THREADPOOL_SIZE", "WEB_CONCURRENCY", "PYTHON_CPU_COUNT", "PYTHON_GIL", "MAKEFLAGS",
}

// optionVariables hold options of a program.
var optionVariables = map[string]string{
	"JAVA_TOOL_OPTIONS": "java", "JDK_JAVA_OPTIONS": "java", "_JAVA_OPTIONS": "java",
	"GUNICORN_CMD_ARGS": "gunicorn", "NODE_OPTIONS": "node", "XZ_DEFAULTS": "xz", "XZ_OPT": "xz",
}

// environSettings reads /proc/PID/environ: NAME=VALUE, each ended by a zero byte
// (proc(5)). Of a name, the first counts, as for getenv(3).
func environSettings(environ []byte) []Setting {
	var found []Setting
	seen := map[string]bool{}
	for part := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, ok := strings.Cut(string(part), "=")
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		if slices.Contains(variables, name) && value != "" {
			found = append(found, Setting{name, value, "environment"})
		}
		if program := optionVariables[name]; program != "" {
			for _, s := range options(program, strings.Fields(value)) {
				s.Source = "environment, " + name
				found = append(found, s)
			}
		}
	}
	return found
}

// variable is the value of one variable; empty where there is none.
func variable(environ []byte, name string) string {
	for part := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(part), name+"="); ok {
			return value
		}
	}
	return ""
}

// option is a way to write a number on a command line.
// The first name is what the setting is called.
type option struct {
	names []string // with dashes; one of two letters takes its value attached, too
}

var commandOptions = map[string][]option{
	"gunicorn":  {{names: []string{"--workers", "-w"}}, {names: []string{"--threads"}}, {names: []string{"--worker-connections"}}},
	"uvicorn":   {{names: []string{"--workers"}}, {names: []string{"--limit-concurrency"}}},
	"hypercorn": {{names: []string{"--workers", "-w"}}},
	"celery":    {{names: []string{"--concurrency", "-c"}}},
	"uwsgi":     {{names: []string{"--processes", "-p", "--workers"}}, {names: []string{"--threads"}}},
	"memcached": {{names: []string{"--threads", "-t"}}},
	"envoy":     {{names: []string{"--concurrency"}}},
	"puma":      {{names: []string{"--workers", "-w"}}, {names: []string{"--threads", "-t"}}},
	"make":      {{names: []string{"--jobs", "-j"}}},
	"gmake":     {{names: []string{"--jobs", "-j"}}},
	"ninja":     {{names: []string{"-j"}}},
	"xz":        {{names: []string{"--threads", "-T"}}},
	"zstd":      {{names: []string{"--threads", "-T"}}},
	"pigz":      {{names: []string{"--processes", "-p"}}},
	"pbzip2":    {{names: []string{"-p"}}},
	"parallel":  {{names: []string{"--jobs", "-j", "-P"}}},
	"xargs":     {{names: []string{"--max-procs", "-P"}}},
	"node":      {{names: []string{"--v8-pool-size"}}},
	"java": {{names: []string{"-XX:ActiveProcessorCount"}}, {names: []string{"-XX:ParallelGCThreads"}}, {names: []string{"-XX:ConcGCThreads"}}, {names: []string{"-XX:CICompilerCount"}},
		{names: []string{"-Djdk.virtualThreadScheduler.parallelism"}}, {names: []string{"-Djava.util.concurrent.ForkJoinPool.common.parallelism"}}},
}

// aliases are other names of those programs.
var aliases = map[string]string{"unxz": "xz", "xzcat": "xz", "zstdmt": "zstd", "unpigz": "pigz", "nodejs": "node", "gunicorn3": "gunicorn"}

// commandSettings reads a command line.
func commandSettings(server string, args []string) []Setting {
	if len(args) == 0 {
		return nil
	}
	program, rest := server, args[1:]
	if commandOptions[program] == nil {
		program = filepath.Base(args[0])
	}
	if other := aliases[program]; other != "" {
		program = other
	}
	if len(rest) == 0 {
		// A title that repeats its options, as that of celery.
		rest = strings.FieldsFunc(args[0], func(r rune) bool { return r == ' ' || r == '(' || r == ')' })
	}
	found := options(program, rest)
	if pythonName().MatchString(filepath.Base(args[0])) {
		found = append(found, pythonSettings(args[1:])...)
	}
	for i := range found {
		found[i].Source = "command line"
	}
	return found
}

// pythonSettings finds the -X options of CPython before the script
// (https://docs.python.org/3/using/cmdline.html).
func pythonSettings(args []string) []Setting {
	var found []Setting
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "-") || a == "-c" || a == "-m" {
			break
		}
		if a == "-W" {
			i++ // its value
			continue
		}
		x, ok := strings.CutPrefix(a, "-X")
		if ok && x == "" && i+1 < len(args) {
			i++
			x = args[i]
		}
		name, value, _ := strings.Cut(x, "=")
		if ok && value != "" && (name == "cpu_count" || name == "gil") {
			found = append(found, Setting{Name: "-X " + name, Value: value})
		}
	}
	return found
}

// options finds the numbers among a program's arguments.
func options(program string, args []string) []Setting {
	var found []Setting
	for _, o := range commandOptions[program] {
		for i, a := range args {
			if a == "--" {
				break
			}
			for _, name := range o.names {
				value, ok := "", false
				switch rest, has := strings.CutPrefix(a, name); {
				case !has:
				case rest == "" && i+1 < len(args):
					value, ok = args[i+1], true
				case strings.HasPrefix(rest, "="):
					value, ok = rest[1:], true
				case len(name) == 2 && rest != "":
					value, ok = rest, true
				}
				if _, err := strconv.Atoi(value); ok && err == nil {
					found = append(found, Setting{Name: o.names[0], Value: value})
				}
			}
		}
	}
	return found
}
