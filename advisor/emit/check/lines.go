package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"berth/probe/cpuset"
)

// readUnit reads a systemd unit or drop-in (systemd.syntax(7),
// systemd.exec(5), systemd.resource-control(5)). Settings that are lists add up
// over lines, and an empty one begins anew.
func readUnit(text string) ([]fact, error) {
	var out []fact
	section := ""
	put := func(f fact, adds bool) {
		at := slices.IndexFunc(out, func(o fact) bool { return o.setting == f.setting })
		switch {
		case f.found == "":
			if at >= 0 {
				out = slices.Delete(out, at, at+1)
			}
		case at >= 0 && adds:
			f.found = out[at].found + " " + f.found
			f.value = set(f.found)
			out[at] = f
		case at >= 0:
			out[at] = f
		default:
			out = append(out, f)
		}
	}
	for n, line := range joined(text, '\\') {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			section = line
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, &Error{Line: n, Err: fmt.Errorf("%q is no setting: it has no equals sign", line)}
		}
		if section != "[Service]" && section != "[Slice]" && section != "[Scope]" {
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		f := fact{line: n, setting: name, found: value}
		switch name {
		case "CPUAffinity", "AllowedCPUs", "NUMAMask", "AllowedMemoryNodes":
			f.value = set(value)
			put(f, true)
		case "NUMAPolicy":
			f.value = value
			put(f, false)
		case "CPUQuota":
			f.value = cpus(value)
			put(f, false)
		case "MemoryMax":
			f.value = bytes(value, 1, 1024)
			if value == "infinity" {
				f.value = "none"
			}
			put(f, false)
		case "Environment":
			for _, word := range words(value) {
				if name, value, ok := strings.Cut(word, "="); ok {
					if f, ok := environment(n, name, value); ok {
						put(f, false)
					}
				}
			}
		}
	}
	return out, nil
}

// joined are the lines of a text by their number, those that end with a mark
// joined with the next.
func joined(text string, mark byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
		for n := 0; n < len(lines); n++ {
			first, line := n+1, lines[n]
			comment := strings.HasPrefix(strings.TrimSpace(line), "#")
			for !comment && strings.HasSuffix(line, string(mark)) && n+1 < len(lines) {
				n++
				line = line[:len(line)-1] + " " + lines[n]
			}
			if !yield(first, line) {
				return
			}
		}
	}
}

// words splits at spaces outside of quotes.
func words(text string) []string {
	var out []string
	var word strings.Builder
	quote, any := byte(0), false
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, any = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if any {
				out = append(out, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteByte(c)
			any = true
		}
	}
	if any {
		out = append(out, word.String())
	}
	return out
}

// readBatch reads the options of an sbatch script, up to its first command, the
// variables that it exports, and the binding of its first srun (sbatch(1)).
func readBatch(text string) ([]fact, error) {
	var out []fact
	long := map[string]string{"n": "--ntasks", "c": "--cpus-per-task", "N": "--nodes", "O": "--overcommit"}
	option := func(n int, name, value string) {
		f := fact{line: n, setting: name, found: value}
		switch name {
		case "--ntasks", "--cpus-per-task", "--nodes":
			f.value = number(value)
		case "--mem":
			f.value = bytes(value, 1<<20, 1024)
		case "--hint", "--cpu-bind", "--mem-bind":
			f.value = value
		case "--exclusive", "--overcommit":
			f.found, f.value = "set", "set"
		default:
			return
		}
		out = slices.DeleteFunc(out, func(o fact) bool { return o.setting == name })
		out = append(out, f)
	}
	options := func(n int, line string) {
		all := words(line)
		for i := 0; i < len(all); i++ {
			word := all[i]
			name, value, ok := strings.Cut(word, "=")
			switch {
			case strings.HasPrefix(word, "--"):
				if !ok && i+1 < len(all) && !strings.HasPrefix(all[i+1], "-") && name != "--exclusive" && name != "--overcommit" {
					i++
					value = all[i]
				}
				option(n, name, value)
			case len(word) >= 2 && word[0] == '-' && long[word[1:2]] != "":
				value := word[2:]
				if value == "" && i+1 < len(all) && word != "-O" {
					i++
					value = all[i]
				}
				option(n, long[word[1:2]], value)
			case word == `$@` || word == "#":
				return
			}
		}
	}
	commands, step := false, false
	for n, line := range joined(text, '\\') {
		line = strings.TrimSpace(line)
		rest, batch := strings.CutPrefix(line, "#SBATCH")
		switch {
		case batch && !commands:
			options(n, rest)
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "export "):
			commands = true
			for _, word := range words(line[len("export "):]) {
				if name, value, ok := strings.Cut(word, "="); ok {
					if f, ok := environment(n, name, value); ok {
						out = append(out, f)
					}
				}
			}
		default:
			commands = true
			if rest, ok := strings.CutPrefix(strings.TrimPrefix(line, "exec "), "srun "); ok && !step {
				step = true
				options(n, rest)
			}
		}
	}
	return out, nil
}

// readGunicorn reads the assignments of a configuration file that are literals;
// what is computed is unclear.
func readGunicorn(text string) ([]fact, error) {
	var out []fact
	assignment := regexp.MustCompile(`^([A-Za-z_]+)\s*=\s*(.*)$`)
	literal := regexp.MustCompile(`^["']([^"']*)["']`)
	lines := strings.Split(text, "\n")
	for i := range lines {
		m := assignment.FindStringSubmatch(strings.TrimRight(lines[i], "\r"))
		if m == nil {
			continue
		}
		name, value := m[1], m[2]
		f := fact{line: i + 1, setting: name}
		for j := i; name == "SEATS" && !strings.Contains(value, "]") && j+1 < len(lines); {
			j++
			value += " " + strings.TrimSpace(lines[j])
		}
		if !strings.ContainsAny(value, `"'`) {
			value, _, _ = strings.Cut(value, "#")
		}
		f.found = strings.TrimSpace(value)
		switch name {
		case "workers", "threads":
			f.value = number(value)
		case "worker_class":
			if m := literal.FindStringSubmatch(value); m != nil {
				f.found = strings.TrimSpace(m[0])
				f.value = strings.NewReplacer("uvicorn_worker.", "uvicorn.workers.").Replace(m[1]) // moved by version 0.30
			}
		case "SEATS":
			f.value = seats(value)
		case "raw_env":
			for _, m := range regexp.MustCompile(`["']([A-Z_]+)=([^"']*)["']`).FindAllStringSubmatch(value, -1) {
				if f, ok := environment(i+1, m[1], m[2]); ok {
					out = append(out, f)
				}
			}
			continue
		default:
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

// seats is a list of Python's sets in one form.
func seats(text string) string {
	var all []string
	for _, m := range regexp.MustCompile(`\{([0-9, ]*)\}`).FindAllStringSubmatch(text, -1) {
		s := set(m[1])
		if s == "" {
			return ""
		}
		all = append(all, s)
	}
	if all == nil {
		return ""
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// readNginx reads the core settings of an nginx.conf, whatever block they stand
// in (nginx.org, "Core functionality").
func readNginx(text string) ([]fact, error) {
	var out []fact
	var words []string
	line, first, depth := 1, 0, 0
	end := func() {
		if len(words) > 1 {
			f := fact{line: first, setting: words[0], found: strings.Join(words[1:], " ")}
			switch words[0] {
			case "worker_processes", "worker_connections":
				f.value = number(f.found)
				out = append(out, f)
			case "worker_cpu_affinity":
				f.value = masks(words[1:])
				out = append(out, f)
			}
		}
		words = nil
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			line++
		case c == ' ' || c == '\t' || c == '\r':
		case c == '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == ';':
			end()
		case c == '{':
			words, depth = nil, depth+1
		case c == '}':
			if words, depth = nil, depth-1; depth < 0 {
				return nil, &Error{Line: line, Err: fmt.Errorf("a block ends that did not begin")}
			}
		default:
			if words == nil {
				first = line
			}
			from := i
			if c == '"' || c == '\'' {
				for i++; i < len(text) && text[i] != c; i++ {
					if text[i] == '\\' {
						i++
					}
				}
				i = min(i, len(text)-1)
				words = append(words, unquoted(text[from:i+1]))
				line += strings.Count(text[from:i+1], "\n")
				continue
			}
			for i+1 < len(text) && !strings.ContainsRune(" \t\r\n;{}", rune(text[i+1])) {
				i++
			}
			words = append(words, text[from:i+1])
		}
	}
	if depth > 0 {
		return nil, &Error{Line: line, Err: fmt.Errorf("a block does not end")}
	}
	return out, nil
}

// masks are those of worker_cpu_affinity as lists. "auto" with a mask gives each
// worker a CPU of it, and so do masks of a digit each; in which order is the same.
func masks(words []string) string {
	auto := words[0] == "auto"
	if auto {
		words = words[1:]
	}
	var all []string
	for _, w := range words {
		var cpus []cpuset.CPU
		if strings.Trim(w, "01") != "" || len(w) > cpuset.Limit {
			return ""
		}
		for i := range len(w) {
			if w[len(w)-1-i] == '1' {
				cpus = append(cpus, cpuset.CPU(i))
			}
		}
		if auto {
			for _, c := range cpus {
				all = append(all, cpuset.Range(c, c).String())
			}
			continue
		}
		all = append(all, cpuset.Of(cpus...).String())
	}
	slices.Sort(all)
	if all == nil {
		return "auto"
	}
	return strings.Join(all, " ")
}
