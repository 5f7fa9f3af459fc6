package check

import (
	"slices"
	"strconv"
	"strings"
)

// runOptions are the options of docker run and podman run that take no value
// (docker-run(1), podman-run(1)); a value follows every other, behind a space or
// an equals sign.
var runOptions = strings.Fields(`--detach --disable-content-trust --env-host --help --http-proxy --init --interactive
	--no-healthcheck --no-hostname --no-hosts --oom-kill-disable --passwd --privileged --publish-all --quiet
	--read-only --read-only-tmpfs --replace --rm --rmi --sig-proxy --tls-verify --tty --use-api-socket`)

// runShort are their one-letter forms, which may stand together.
const runShort = "ditPq"

// runs reports whether a script has a command line of a container engine's run
// or create.
func runs(engine, script string) bool {
	for _, line := range joined(script, '\\') {
		if _, _, ok := runLine(line, engine); ok {
			return true
		}
	}
	return false
}

// runLine is what follows an engine's run or create, and which engine's. A line
// that is a comment is none.
func runLine(line string, engines ...string) (engine string, arguments []string, ok bool) {
	w := words(line)
	if len(w) == 0 || strings.HasPrefix(w[0], "#") {
		return "", nil, false
	}
	for i, word := range w {
		name := word[strings.LastIndexByte(word, '/')+1:]
		if !slices.Contains(engines, name) {
			continue
		}
		rest := w[i+1:]
		if len(rest) > 0 && rest[0] == "container" {
			rest = rest[1:]
		}
		if len(rest) > 0 && (rest[0] == "run" || rest[0] == "create") {
			return name, rest[1:], true
		}
	}
	return "", nil, false
}

// readRun reads the options of docker run or podman run on the lines of an sh
// script, and the variables that it exports.
func readRun(text string) ([]fact, error) {
	var out []fact
	for n, line := range joined(text, '\\') {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			for _, word := range words(rest) {
				if name, value, ok := strings.Cut(word, "="); ok {
					if f, ok := environment(n, name, value); ok {
						out = append(out, f)
					}
				}
			}
			continue
		}
		if _, arguments, ok := runLine(line, "docker", "podman"); ok {
			out = append(out, container(n, arguments)...)
		}
	}
	return out, nil
}

// container reads the options up to the image.
func container(n int, arguments []string) []fact {
	var out []fact
	quota, period := "", 100000.0 // microseconds; the kernel's default
	for i := 0; i < len(arguments); i++ {
		word := arguments[i]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			break
		}
		name, value, joint := strings.Cut(word, "=")
		if !strings.HasPrefix(word, "--") { // -it, -m 1g, -m1g
			at := 1
			for at < len(word) && strings.IndexByte(runShort, word[at]) >= 0 {
				at++
			}
			if at == len(word) {
				continue
			}
			name = "-" + word[at:at+1]
			value = strings.TrimPrefix(word[at+1:], "=")
			joint = value != ""
		}
		if !joint && !slices.Contains(runOptions, name) {
			i++
			if i == len(arguments) {
				break
			}
			value = arguments[i]
		}
		f := fact{line: n, setting: name, found: value}
		switch name {
		case "--cpuset-cpus", "--cpuset-mems":
			f.value = set(value)
		case "--cpus":
			f.value = cpus(value)
		case "--cpu-quota":
			quota = value
			continue
		case "--cpu-period":
			period, _ = strconv.ParseFloat(value, 64)
			continue
		case "-m", "--memory":
			f.setting = "--memory"
			f.value = bytes(value, 1, 1024)
		case "-e", "--env":
			name, value, _ := strings.Cut(value, "=")
			if f, ok := environment(n, name, value); ok {
				out = append(out, f)
			}
			continue
		default:
			continue
		}
		if f.found != "" {
			out = append(out, f)
		}
	}
	if quota != "" { // the older way to say --cpus
		f := fact{line: n, setting: "--cpus", found: "--cpu-quota=" + quota}
		if q, err := strconv.ParseFloat(quota, 64); err == nil && period > 0 {
			f.value = cpus(strconv.FormatFloat(q/period, 'f', -1, 64))
		}
		out = append(out, f)
	}
	return out
}
